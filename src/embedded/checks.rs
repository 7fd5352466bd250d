//! What a Redis must be like before money is counted in it. Asked at start and every few seconds
//! after it, of the private one too.

use super::binary::Version;
use crate::engine::ports::ServerFacts;

/// Sentences about a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Reasons not to use it.
    pub refusals: Vec<String>,
    /// Worth a warning.
    pub warnings: Vec<String>,
}

/// Judges what a server says of itself.
#[must_use]
pub fn check(facts: &ServerFacts) -> Findings {
    let mut findings = Findings::default();
    let kind = if facts.valkey { "Valkey" } else { "Redis" };
    match Version::parse(facts.valkey, &facts.version) {
        Some(version) if version.is_enough() => {}
        Some(_) => findings.refusals.push(format!(
            "{kind} {} is too old: Redis 7.0 or Valkey 7.2 is needed, which know script flags",
            facts.version
        )),
        None => findings.warnings.push(format!("{kind} names its version `{}`, which cannot be read", facts.version)),
    }
    if !facts.master {
        findings.refusals.push(format!("this {kind} is a replica: redis_url must name the master"));
    }
    if facts.maxmemory_policy != "noeviction" {
        findings.refusals.push(format!(
            "this {kind} has maxmemory-policy {}, which may throw balances away: run `CONFIG SET maxmemory-policy \
             noeviction`, and write it into its configuration",
            facts.maxmemory_policy
        ));
    }
    if !facts.append_only {
        findings.warnings.push(format!(
            "this {kind} has no append-only file: when it restarts, what was not yet written back to SQL is lost; \
             set `appendonly yes`"
        ));
    } else if !facts.aof_last_write_ok {
        findings.refusals.push(format!(
            "the last write to this {kind}'s append-only file failed: see its log; often the disk is full"
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> ServerFacts {
        ServerFacts {
            run_id: "r".into(),
            version: "7.0.15".into(),
            valkey: false,
            master: true,
            loading: false,
            maxmemory_policy: "noeviction".into(),
            append_only: true,
            aof_last_write_ok: true,
        }
    }

    #[test]
    fn a_good_server_passes_and_each_fault_is_a_sentence() {
        assert_eq!(check(&good()), Findings::default());
        assert_eq!(check(&ServerFacts { valkey: true, version: "8.0.1".into(), ..good() }), Findings::default());
        for (facts, refusal) in [
            (ServerFacts { version: "6.2.14".into(), ..good() }, "Redis 6.2.14 is too old"),
            (ServerFacts { master: false, ..good() }, "is a replica"),
            (ServerFacts { maxmemory_policy: "allkeys-lru".into(), ..good() }, "maxmemory-policy allkeys-lru"),
            (ServerFacts { aof_last_write_ok: false, ..good() }, "append-only file failed"),
        ] {
            let findings = check(&facts);
            assert!(findings.refusals.len() == 1 && findings.refusals[0].contains(refusal), "{findings:?}");
        }
        let findings = check(&ServerFacts { append_only: false, ..good() });
        assert!(findings.refusals.is_empty() && findings.warnings[0].contains("appendonly yes"), "{findings:?}");
    }
}
