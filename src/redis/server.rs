//! What `INFO` says of a server.

use crate::engine::ports::ServerFacts;

/// The append-only file, as far as a rewrite of it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aof {
    pub(crate) enabled: bool,
    /// A rewrite runs or is about to.
    pub(crate) rewriting: bool,
    pub(crate) last_rewrite_ok: bool,
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn is(info: &str, name: &str, value: &str) -> bool {
    field(info, name) == Some(value)
}

/// `None` when something needed is not named.
pub(crate) fn facts(info: &str) -> Option<ServerFacts> {
    let valkey_version = field(info, "valkey_version");
    Some(ServerFacts {
        run_id: field(info, "run_id")?.to_owned(),
        version: valkey_version.or_else(|| field(info, "redis_version"))?.to_owned(),
        valkey: valkey_version.is_some(),
        master: field(info, "role")? == "master",
        loading: field(info, "loading")? != "0",
        maxmemory_policy: field(info, "maxmemory_policy")?.to_owned(),
        append_only: field(info, "aof_enabled")? == "1",
        aof_last_write_ok: field(info, "aof_last_write_status")? == "ok",
    })
}

pub(crate) fn aof(info: &str) -> Aof {
    Aof {
        enabled: is(info, "aof_enabled", "1"),
        rewriting: is(info, "aof_rewrite_in_progress", "1") || is(info, "aof_rewrite_scheduled", "1"),
        last_rewrite_ok: is(info, "aof_last_bgrewrite_status", "ok"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_of_redis_and_valkey() {
        let redis = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nrole:master\r\nloading:0\r\n\
                     maxmemory_policy:noeviction\r\naof_enabled:1\r\naof_last_write_status:ok\r\n";
        let facts_of_redis = facts(redis).unwrap();
        assert_eq!((facts_of_redis.version.as_str(), facts_of_redis.valkey), ("7.0.15", false));
        assert!(facts_of_redis.master && !facts_of_redis.loading && facts_of_redis.append_only);
        let valkey = redis.replace("run_id", "valkey_version:8.1.0\r\nrun_id").replace("role:master", "role:slave");
        let facts_of_valkey = facts(&valkey).unwrap();
        assert_eq!((facts_of_valkey.version.as_str(), facts_of_valkey.valkey), ("8.1.0", true));
        assert!(!facts_of_valkey.master);
        assert_eq!(facts("redis_version:7.0.15"), None);
        let rewriting = aof("aof_enabled:1\r\naof_rewrite_scheduled:1\r\naof_last_bgrewrite_status:err\r\n");
        assert_eq!(rewriting, Aof { enabled: true, rewriting: true, last_rewrite_ok: false });
    }
}
