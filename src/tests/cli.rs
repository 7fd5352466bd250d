//! The program as its user meets it: what it prints, and how it exits.

mod harness;
#[path = "cli/verbs.rs"]
mod verbs;

use std::{
    path::Path,
    process::{Command, Output},
};

use quotad::embedded::lock::DataLock;

fn quotad(data: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quotad"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("QUOTAD_")) {
        command.env_remove(name);
    }
    command.args(arguments).env("QUOTAD_DATA", data).envs(env.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Any free port, so that a test that fails cannot get into the way of a running server.
const FREE: [&str; 4] = ["--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

fn serve(more: &[&'static str]) -> Vec<&'static str> {
    [&["serve"], FREE.as_slice(), more].concat()
}

#[test]
fn version_and_usage() {
    let data = tempfile::tempdir().unwrap();
    let (code, out, _) = said(&quotad(data.path(), &["version"], &[]));
    assert_eq!((code, out.as_str()), (Some(0), concat!("quotad ", env!("CARGO_PKG_VERSION"), "\n")));
    let (code, out, _) = said(&quotad(data.path(), &["--help"], &[]));
    assert!(code == Some(0) && out.contains("Exit codes: 0 done; 2 wrong usage"), "{out}");
    let (code, _, err) = said(&quotad(data.path(), &["serv"], &[]));
    assert!(code == Some(2) && err.contains("serve"), "{err}");
}

#[test]
fn check_config_shows_values_sources_and_no_secrets() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("q.toml");
    std::fs::write(&file, "shards = 8\ntimezone = 'Europe/Berlin'\n").unwrap();
    let arguments = ["check-config", "--config", file.to_str().unwrap(), "--admin-token", "s3cret"];
    let (code, out, err) = said(&quotad(data.path(), &arguments, &[("QUOTAD_TIMEZONE", "Asia/Tokyo")]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let line = |key: &str| out.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {out}"));
    assert!(line("shards = 8").ends_with(&format!("# file {}", file.display())));
    assert!(line("timezone = \"Asia/Tokyo\"").ends_with("# environment QUOTAD_TIMEZONE"));
    assert!(line("admin_token = \"[redacted]\"").ends_with("# flag --admin-token"));
    assert!(!out.contains("s3cret"));
}

#[test]
fn a_wrong_configuration_is_2_before_anything_is_touched() {
    let data = tempfile::tempdir().unwrap();
    let untouched = data.path().join("none");
    for (env, sentence) in [
        (("QUOTAD_SHARDS", "many"), "quotad: `shards` must be a whole number"),
        (("QUOTAD_SHARD", "4"), "unknown setting `QUOTAD_SHARD`; did you mean `QUOTAD_SHARDS`?"),
        (("QUOTAD_CONFIG", "/nowhere/q.toml"), "the configuration file /nowhere/q.toml cannot be read"),
    ] {
        let (code, _, err) = said(&quotad(&untouched, &serve(&[]), &[env]));
        assert!(code == Some(2) && err.contains(sentence), "{code:?} {err}");
    }
    let open = ["serve", "--gateway-listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"];
    let (code, _, err) = said(&quotad(&untouched, &open, &[]));
    assert!(code == Some(2) && err.contains("`gateway_token` is not set"), "{code:?} {err}");
    assert!(!untouched.exists());
}

#[test]
fn a_missing_redis_server_is_3_and_names_the_install_command() {
    let data = tempfile::tempdir().unwrap();
    let env = [("QUOTAD_REDIS_SERVER", "/nowhere/redis-server")];
    let (code, _, err) = said(&quotad(data.path(), &serve(&[]), &env));
    assert!(code == Some(3) && err.contains("apt-get install redis-server"), "{code:?} {err}");
}

#[test]
fn a_data_directory_in_use_is_4() {
    let data = tempfile::tempdir().unwrap();
    let _lock = DataLock::take(data.path()).unwrap();
    let (code, _, err) = said(&quotad(data.path(), &serve(&[]), &[]));
    let sentence = format!("quotad (process {}) already runs on the data directory", std::process::id());
    assert!(code == Some(4) && err.contains(&sentence), "{code:?} {err}");
}

#[test]
fn reconcile_says_what_kept_it_from_asking() {
    let data = tempfile::tempdir().unwrap();
    // Taken from the system and given back: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let url = format!("http://{free}");
    let ask = |more: &[&str]| said(&quotad(data.path(), &[&["reconcile"], more].concat(), &[]));
    let (code, _, err) = ask(&["--url", &url, "--admin-token", "t"]);
    assert!(code == Some(3) && err.contains(&free), "{code:?} {err}");
    let (code, _, err) = ask(&["--admin-listen", &free, "--admin-token", "t"]);
    assert!(code == Some(3) && err.contains(&free), "{code:?} {err}");
    let (code, _, err) = ask(&["--url", &url]);
    assert!(code == Some(2) && err.contains("admin.token cannot be used"), "{code:?} {err}");
    assert!(!data.path().join("admin.token").exists(), "only a server makes one");
    for wrong in ["https://localhost:1", "http://localhost:1/x", "localhost", "http://me@localhost:1"] {
        let (code, _, err) = ask(&["--url", wrong, "--admin-token", "t"]);
        assert!(code == Some(2) && err.contains("http://host:port"), "{wrong}: {code:?} {err}");
    }
    let (code, _, err) = ask(&["--admin-listen", "127.0.0.1:0", "--admin-token", "t"]);
    assert!(code == Some(2) && err.contains("--url"), "{code:?} {err}");
    let token = data.path().join("token");
    std::fs::write(&token, "t\n").unwrap();
    let (code, _, err) = ask(&["--url", &url, "--token-file", token.to_str().unwrap()]);
    assert!(code == Some(3), "{code:?} {err}");
}

/// Without a server: on the database of the data directory.
#[test]
fn a_price_list_is_compared_before_it_is_stored() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("ratios.json");
    std::fs::write(&file, r#"{"ModelRatio":{"gpt-4o":1.5,"mine":2},"CompletionRatio":{"mine":3}}"#).unwrap();
    let file = file.to_str().unwrap();
    let import =
        |more: &[&str]| said(&quotad(data.path(), &[&["tariff", "import", file, "--merge"], more].concat(), &[]));
    let (code, out, err) = import(&["--dry-run"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let line = |start: &str| -> Vec<String> {
        let line = out.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {out}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(line("change "), ["change", "model", "price", "before", "after"]);
    assert_eq!(line("added "), ["added", "mine", "cache_write_1h", "-", "8"]);
    assert!(out.contains("against version 0: 1 added, 0 removed, 1 changed,"), "{out}");
    assert!(out.ends_with("nothing was stored (--dry-run)\n"), "{out}");
    let (code, json, _) = import(&["--json"]);
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &told["base"], &told["version"]), (Some(0), &0.into(), &1.into()));
    let models = told["diff"]["models"].as_array().unwrap();
    let gpt = models.iter().find(|model| model["model"] == "gpt-4o").unwrap();
    let input = gpt["prices"].as_array().unwrap().iter().find(|price| price["price"] == "input").unwrap();
    assert_eq!((&input["before"], &input["after"]), (&250_000_000.into(), &300_000_000.into()));
    let (_, out, _) = import(&[]);
    assert!(out.contains("0 added, 0 removed, 0 changed") && out.ends_with("stored as version 2\n"), "{out}");
    std::fs::write(data.path().join("bad.json"), "{}").unwrap();
    let bad = data.path().join("bad.json");
    let (code, _, err) = said(&quotad(data.path(), &["tariff", "import", bad.to_str().unwrap()], &[]));
    assert!(code == Some(2) && err.contains("bad.json is not imported: is no price list"), "{code:?} {err}");
}
