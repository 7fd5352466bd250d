//! A bad configuration refuses to start, with a sentence and an exit code.

use serde_json::json;

use crate::harness::{Setup, Sidecar};

#[test]
fn mistakes_in_the_configuration_are_named() {
    let setup = Setup::default();
    let file = setup.folder().join("quotad.toml");
    let refused = |setup: &Setup, arguments: &[&str], words: &[&str]| {
        let (code, said) = setup.run("serve", arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
    };
    let public = ["--gateway-listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"];
    refused(&setup, &public, &["gateway_token"]);
    refused(&setup, &["--gateway-listen", "[::]:0", "--admin-listen", "127.0.0.1:0"], &["gateway_token"]);
    refused(&setup, &["--no-such-flag"], &["no-such-flag"]);
    refused(&setup.clone().set("no_such_setting", "1"), &[], &["QUOTAD_NO_SUCH_SETTING"]);
    for (content, words) in [
        ("colour = 'red'", ["colour", "quotad.toml"]),
        ("max_in_flight = 'soon'", ["max_in_flight", "soon"]),
        ("gateway_listen = 'here'", ["gateway_listen", "here"]),
        ("timezone = 'Mars/Olympus'", ["timezone", "Mars/Olympus"]),
        ("max_amount = -1", ["max_amount", "-1"]),
        ("redis_url = 'http://127.0.0.1'", ["redis_url", "http"]),
        ("gateway_threads = 65", ["gateway_threads", "65"]),
        ("this is no TOML", ["quotad.toml", "TOML"]),
    ] {
        std::fs::write(&file, content).unwrap();
        refused(&setup, &["--config", file.to_str().unwrap()], &words);
    }
    refused(&setup, &["--config", "/no/such/file.toml"], &["/no/such/file.toml"]);
    let (code, said) = setup.run("check-config", &[]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn one_data_directory_belongs_to_one_quotad() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1}));
    let (code, said) =
        quotad.setup().run("serve", &["--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(4), "{said}");
    assert_eq!(quotad.money("a"), [1, 0, 1], "the first one is not disturbed");
}

#[test]
fn what_is_fixed_at_the_first_start_stays() {
    let mut quotad = Setup::default().set("shards", "4").start();
    quotad.account("a", json!({"initial_balance": 1}));
    assert_eq!(quotad.terminate().code(), Some(0));
    let ports = ["--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    for (setting, value) in [("shards", "8"), ("units_per_usd", "1000000")] {
        let (code, said) = quotad.setup().clone().set(setting, value).run("serve", &ports);
        assert!(matches!(code, Some(2 | 3)), "{setting}: {code:?} {said}");
        assert!(said.contains(setting), "{said}");
    }
    quotad.start_again();
    assert_eq!(quotad.money("a"), [1, 0, 1]);
}

#[test]
fn a_redis_that_must_not_be_used_is_refused() {
    let redis = crate::harness::redis::Redis::start();
    let setup = Setup::default().set("redis_url", redis.url());
    let set = |policy: &str| {
        let done = std::process::Command::new("redis-cli")
            .arg("-s")
            .arg(redis.socket())
            .args(["CONFIG", "SET", "maxmemory-policy", policy])
            .output()
            .expect("redis-cli is installed");
        assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "OK");
    };
    set("allkeys-lru");
    let (code, said) = setup.run("serve", &["--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(3), "eviction would destroy balances silently: {said}");
    assert!(said.contains("noeviction"), "{said}");
    set("noeviction");
    let quotad = setup.start();
    quotad.account("a", json!({"initial_balance": 1}));
}
