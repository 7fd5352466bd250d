use super::*;
use layers::Source;

fn sources(file: &str, env: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Sources {
    Sources {
        file: (!file.is_empty()).then(|| (PathBuf::from("q.toml"), file.to_owned())),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
    }
}

/// The problems of a configuration, joined by newlines.
fn refused(file: &str, env: &[(&str, &str)], flags: &[(&'static str, &str)]) -> String {
    match load(&sources(file, env, flags)) {
        Ok(loaded) => panic!("accepted: {:?}", loaded.config),
        Err(problems) => problems.join("\n"),
    }
}

#[test]
fn every_default_reads_and_stands() {
    let loaded = load(&Sources::default()).unwrap();
    let config = loaded.config;
    assert_eq!(config.http.gateway_listen.to_string(), "127.0.0.1:8787");
    assert_eq!(config.engine.deployment.values.max_amount, 1_000_000_000_000);
    assert_eq!((config.engine.deployment.values.trust_threshold, config.engine.trust_sidecars), (None, 4));
    assert_eq!(config.constants, Constants { shards: 64, units_per_usd: 100_000_000 });
    assert_eq!(config.sql.url.expose(), "sqlite://./data/quotad.db");
    assert!(matches!(config.redis.choice, RedisChoice::Embedded(embedded) if embedded.dir.ends_with("data/redis")));
    assert!(loaded.warnings.is_empty());
}

#[test]
fn file_yields_to_environment_and_environment_to_flags() {
    let file = "time_budget_ms = 1\nadmin_listen = '127.0.0.1:1'\ngateway_listen = '127.0.0.1:2'\nlog_ip = true";
    let env = [("QUOTAD_ADMIN_LISTEN", "127.0.0.1:3"), ("QUOTAD_GATEWAY_LISTEN", "127.0.0.1:4"), ("HOME", "x")];
    let loaded = load(&sources(file, &env, &[("gateway_listen", "127.0.0.1:5")])).unwrap();
    assert_eq!(loaded.config.redis.time_budget, Duration::from_millis(1));
    assert!(loaded.config.engine.log_ip);
    assert_eq!(loaded.config.http.admin_listen.port(), 3);
    assert_eq!(loaded.config.http.gateway_listen.port(), 5);
    assert_eq!(loaded.layers.value("admin_listen").source, Source::Environment("QUOTAD_ADMIN_LISTEN".into()));
    assert_eq!(loaded.layers.value("gateway_listen").source, Source::Flag("--gateway-listen".into()));
    assert_eq!(loaded.layers.value("shards").source, Source::Default);
}

#[test]
fn an_empty_variable_is_not_set() {
    let loaded = load(&sources("redis_url = 'redis://h'", &[("QUOTAD_REDIS_URL", "")], &[])).unwrap();
    assert!(matches!(loaded.config.redis.choice, RedisChoice::Url(url) if url.expose() == "redis://h"));
}

#[test]
fn unknown_names_are_refused_by_name() {
    let said = refused("gatway_listen = 'x'\n[redis]\nlanes = 2", &[("QUOTAD_SHARD", "4")], &[]);
    assert!(said.contains("q.toml has the unknown setting `gatway_listen`; did you mean `gateway_listen`?"), "{said}");
    assert!(said.contains("q.toml has the unknown setting `redis`"), "{said}");
    assert!(
        said.contains("environment has the unknown setting `QUOTAD_SHARD`; did you mean `QUOTAD_SHARDS`?"),
        "{said}"
    );
    assert!(refused("config = 'other.toml'", &[], &[]).contains("unknown setting `config`"));
    assert!(refused("", &[("QUOTAD_Data", "x")], &[]).contains("`QUOTAD_Data`"));
}

#[test]
fn bad_values_are_refused_with_their_source() {
    for (key, value, sentence) in [
        ("shards", "0", "`shards` must be a whole number from 1 to 4096, and is `0` (environment QUOTAD_SHARDS)"),
        ("shards", "sixty", "must be a whole number from 1 to 4096"),
        ("gateway_listen", "localhost", "must be an address and a port"),
        ("max_amount", "1.5", "must be a whole number of units"),
        ("max_amount", "-1", "must be a whole number of units"),
        ("trust_threshold", "ten", "`trust_threshold` must be absent, a whole number of units"),
        ("trust_sidecars", "0", "`trust_sidecars` must be a whole number from 1 to 10000"),
        ("timezone", "Mars/Base", "must be an IANA time zone"),
        ("abort_ok", "all", "must be nothing, prompt or estimate"),
        ("appendfsync", "no", "must be everysec or always"),
        ("log_format", "xml", "must be text or json"),
        ("log_level", "loud=very", "`log_level` must be"),
        ("demo", "yes", "must be true or false"),
        ("redis_url", "http://h", "`redis_url` must be absent or begin with redis:// or unix://"),
        ("database_url", "oracle://u:pw@h/db", "and is `oracle://[redacted]@h/db`"),
        ("database_connections", "1", "from 2 to 1000"),
        ("gateway_token", "a b", "`gateway_token` must be printable ASCII without spaces"),
        ("default_hold", "20000 USD", "`default_hold` (2000000000000 units) is above `max_amount`"),
        ("admin_listen", "127.0.0.1:8787", "are both 127.0.0.1:8787"),
    ] {
        let name = settings::find(key).unwrap().env();
        let said = refused("", &[(&name, value)], &[]);
        assert!(said.contains(sentence), "{key} = {value}: {said}");
        assert!(!said.contains("a b") && !said.contains("pw"), "a secret was printed: {said}");
    }
    assert!(refused("data = ''", &[], &[]).contains("`data` must be a directory"));
    let odd = load(&sources("", &[], &[("data", "a?b%")])).unwrap();
    assert_eq!(odd.config.sql.url.expose(), "sqlite://a%3fb%25/quotad.db");
    let said = refused("shards = 1.5\nunits_per_usd = [1]", &[], &[]);
    assert_eq!(said.lines().count(), 2, "all problems at once: {said}");
    assert!(refused("shards = ", &[], &[]).contains("q.toml is no TOML"));
    let long = "s".repeat(SOCKET_PATH_MAX + 1);
    assert!(refused("", &[], &[("gateway_socket", &long)]).contains("a socket path can have"));
}

#[test]
fn an_open_gateway_needs_a_token_or_consent() {
    let open = ("gateway_listen", "0.0.0.0:8787");
    let said = refused("", &[], &[open]);
    assert!(said.contains("`gateway_listen` is 0.0.0.0:8787, which others can reach"), "{said}");
    assert!(load(&sources("", &[], &[open, ("gateway_token", "t0ken")])).unwrap().warnings.is_empty());
    assert_eq!(load(&sources("", &[], &[open, ("insecure", "true")])).unwrap().warnings.len(), 1);
    assert_eq!(load(&sources("", &[], &[("admin_listen", "0.0.0.0:1")])).unwrap().warnings.len(), 1);
    assert!(load(&sources("trust_threshold = '10 USD'", &[], &[])).unwrap().warnings.is_empty());
    assert!(load(&sources("", &[], &[("gateway_listen", "[::1]:8787")])).is_ok());
    let same = [("gateway_token", "t"), ("admin_token", "t")];
    assert!(refused("", &[], &same).contains("are the same"));
}

#[test]
fn the_report_names_sources_hides_secrets_and_reads_back() {
    let env = [("QUOTAD_ADMIN_TOKEN", "s3cret-admin"), ("QUOTAD_REDIS_URL", "redis://:s3cret-redis@h:6379")];
    let loaded = load(&sources("shards = 8", &env, &[("gateway_token", "s3cret-gateway")])).unwrap();
    let printed = report(&loaded.layers);
    assert!(!printed.contains("s3cret") && !format!("{loaded:?}").contains("s3cret-"), "{printed}");
    let line = |key: &str| printed.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("shards").starts_with("shards = 8 ") && line("shards").ends_with("# file q.toml"));
    assert!(line("admin_token").ends_with("# environment QUOTAD_ADMIN_TOKEN"));
    assert!(line("gateway_token").ends_with("# flag --gateway-token"));
    assert!(line("# database_url is not set").ends_with("# default"));
    let plain = report(&load(&sources("max_amount = '5 USD'", &[], &[])).unwrap().layers);
    assert_eq!(load(&sources(&plain, &[], &[])).unwrap().config.engine.deployment.values.max_amount, 500_000_000);
}
