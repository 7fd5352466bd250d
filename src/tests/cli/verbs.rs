//! The verbs that ask a running quotad.

use serde_json::{Value, json};

use super::{quotad, said};
use crate::harness::{Setup, Sidecar, USD, sidecar::ADMIN_TOKEN};

/// Exit code, standard output and standard error of one command.
fn command(server: &Sidecar, typed: &[&str]) -> (i32, String, String) {
    let url = format!("http://{}", server.admin.address);
    let nowhere = tempfile::tempdir().unwrap();
    let (code, out, err) =
        said(&quotad(nowhere.path(), &[typed, &["--url", &url]].concat(), &[("QUOTAD_ADMIN_TOKEN", ADMIN_TOKEN)]));
    assert!(std::fs::read_dir(nowhere.path()).unwrap().next().is_none(), "it leaves nothing behind");
    (code.expect("an exit code"), out, err)
}

/// What it prints when it succeeds.
#[track_caller]
fn ok(server: &Sidecar, typed: &[&str]) -> String {
    let (code, out, err) = command(server, typed);
    assert_eq!((code, err.as_str()), (0, ""), "{typed:?}: {out}");
    out
}

/// The answer as it came.
#[track_caller]
fn raw(server: &Sidecar, typed: &[&str]) -> Value {
    let out = ok(server, &[typed, &["--json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{typed:?}: {error} in {out}"))
}

/// Exit code and sentence when it does not.
#[track_caller]
fn refused(server: &Sidecar, typed: &[&str], expected: i32, sentence: &str) {
    let (code, out, err) = command(server, typed);
    assert_eq!((code, out.as_str()), (expected, ""), "{typed:?}: {err}");
    assert!(err.starts_with("quotad: ") && err.contains(sentence), "{typed:?}: {err}");
}

/// The value in a record's line.
fn field<'o>(out: &'o str, name: &str) -> &'o str {
    let line = out.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("{name} in {out}"))[name.len()..].trim()
}

#[test]
fn an_account_from_its_making_to_its_end() {
    let server = Sidecar::start();
    let limits = r#"limits=[{"platform":"openai","metric":"cost","period":"day","cap":1000}]"#;
    let put = ["account", "put", "acme", "initial_balance=50 USD", "timezone=Europe/Berlin", "name=ACME Inc.", limits];
    let out = ok(&server, &put);
    assert_eq!((field(&out, "balance"), field(&out, "timezone")), ("5000000000", "Europe/Berlin"));
    assert!(out.contains("\nlimits\n CAP  METRIC"), "{out}");
    ok(&server, &["account", "put", "beta", "status=disabled"]);
    let list = ok(&server, &["account", "list"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..3], ["ACCOUNT", "STATUS", "GROUP"]);
    assert_eq!((lines[1][0], lines[1][1], lines[2][0], lines[2][1]), ("acme", "enabled", "beta", "disabled"));
    assert!(ok(&server, &["account", "list", "--limit", "1000"]).lines().count() == 3);
    let page = ok(&server, &["account", "list", "--limit", "1"]);
    assert!(page.ends_with("more with --cursor acme\n"), "{page}");
    assert!(ok(&server, &["account", "list", "--limit", "1", "--cursor", "acme"]).contains("beta"));
    assert_eq!(raw(&server, &["account", "list"])["accounts"].as_array().unwrap().len(), 2);

    ok(&server, &["account", "credit", "acme", "1.5 USD", "--op-id", "inv-1", "--kind", "grant", "--note", "hello"]);
    let again = raw(&server, &["account", "credit", "acme", "1.5 USD", "--op-id", "inv-1", "--kind", "grant"]);
    assert_eq!((&again["replayed"], &again["balance"]), (&json!(true), &json!(51 * USD + USD / 2)));
    refused(&server, &["account", "credit", "acme", "2 USD", "--op-id", "inv-1"], 1, "(conflict)");
    let first = raw(&server, &["account", "debit", "acme", "100"]);
    let second = raw(&server, &["account", "debit", "acme", "100"]);
    assert!(first["op_id"] != second["op_id"], "without an id each is a new one");
    refused(&server, &["account", "debit", "acme", "1000 USD"], 1, "(insufficient_balance)");
    server.gateway.post("/v1/charge", &json!({"account": "acme", "id": "c", "platform": "openai", "amount": 7}));
    for replayed in [false, true] {
        let reset = raw(&server, &["account", "reset", "acme", "openai", "day", "--op-id", "r-1"]);
        assert_eq!((&reset["cleared"], reset["replayed"] == true), (&json!(7), replayed), "{reset}");
    }
    assert_eq!(raw(&server, &["account", "show", "acme"]), server.admin.get("/admin/v1/accounts/acme").json());
    assert_eq!(ok(&server, &["account", "delete", "beta"]), "deleted beta\n");
    refused(&server, &["account", "show", "beta"], 1, "there is no account `beta` (account_not_found)");
}

#[test]
fn keys_show_their_secret_once() {
    let server = Sidecar::start();
    server.account("a", json!({"initial_balance": 100}));
    let made = ok(&server, &["key", "put", "a", "ci", "allowance=5 USD", r#"models=["gpt-4o"]"#]);
    let secret = field(&made, "secret");
    assert!(secret.starts_with("sk-") && field(&made, "allowance") == "500000000", "{made}");
    server
        .gateway
        .post("/v1/reserve", &json!({"api_key": secret, "id": "r", "model": "gpt-4o", "amount": 5}))
        .expect(200);
    let list = ok(&server, &["key", "list", "a"]);
    assert!(list.starts_with("KEY") && list.contains("gpt-4o") && !list.contains(secret), "{list}");
    assert!(!ok(&server, &["key", "show", "a", "ci"]).contains("secret"));
    ok(&server, &["key", "put", "a", "ci", "allowance=null"]);
    assert_eq!(raw(&server, &["key", "show", "a", "ci"])["allowance"], Value::Null);
    assert_eq!(ok(&server, &["key", "delete", "a", "ci"]), "deleted ci of a\n");
    refused(&server, &["key", "show", "a", "ci"], 1, "(key_not_found)");
}

#[test]
fn codes_from_their_making_to_their_end() {
    let server = Sidecar::start();
    server.account("a", json!({}));
    let create = ["code", "create", "--name", "Spring sale", "--amount", "2 USD", "--count", "3", "--op-id", "b-1"];
    let made = ok(&server, &create);
    let codes: Vec<&str> = made.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert!(codes.len() == 3 && codes.iter().all(|code| code.len() == 32), "{made}");
    let again = ok(&server, &create);
    assert!(again.lines().skip(1).all(|line| line.starts_with("- ")), "shown once: {again}");
    let redeemed = ok(&server, &["code", "redeem", "a", codes[0]]);
    assert_eq!((field(&redeemed, "balance"), field(&redeemed, "amount")), ("200000000", "200000000"));
    assert_eq!(field(&ok(&server, &["code", "redeem", "a", codes[0]]), "replayed"), "true");
    let list = ok(&server, &["code", "list", "--status", "enabled"]);
    assert!(list.lines().count() == 3 && !codes.iter().any(|code| list.contains(code)), "{list}");
    let found = raw(&server, &["code", "list", "--search", codes[1]]);
    let id = found["codes"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(field(&ok(&server, &["code", "disable", &id]), "status"), "disabled");
    refused(&server, &["code", "redeem", "a", codes[1]], 1, "(code_disabled)");
    assert_eq!(field(&ok(&server, &["code", "enable", &id]), "status"), "enabled");
    assert_eq!(raw(&server, &["code", "edit", &id, "name=autumn", "amount=1 USD"])["amount"], USD);
    assert_eq!(field(&ok(&server, &["code", "show", &id]), "name"), "autumn");
    assert_eq!(ok(&server, &["code", "delete", &id]), format!("deleted {id}\n"));
    assert_eq!(field(&ok(&server, &["code", "purge", "--status", "disabled"]), "purged"), "0");
    assert_eq!(field(&ok(&server, &["code", "purge"]), "purged"), "1");
    refused(&server, &["code", "create", "--name", "x", "--amount", "free"], 2, "amount must");
    refused(&server, &["code", "create", "--name", "x", "--amount", "1", "--count", "101"], 2, "count must");
    refused(&server, &["code", "list", "--status", "gone"], 2, "status must be one of");
}

#[test]
fn what_new_accounts_begin_with_and_whom_they_bring() {
    let server = Sidecar::start();
    let begin = r#"{"default":200000000,"groups":{},"sources":{}}"#;
    assert_eq!(field(&ok(&server, &["settings", "set", "initial_balance", begin]), "source"), "database");
    ok(&server, &["settings", "set", "inviter_reward", "2 USD"]);
    assert_eq!(raw(&server, &["settings", "get", "inviter_reward"])["value"], json!(2 * USD));
    refused(&server, &["settings", "set", "max_amount", "-5"], 2, "max_amount");
    let version = raw(&server, &["settings", "get", "inviter_reward"])["version"].to_string();
    ok(&server, &["settings", "set", "inviter_reward", "3 USD", "--version", &version]);
    refused(&server, &["settings", "set", "inviter_reward", "4 USD", "--version", &version], 1, "conflict");
    ok(&server, &["settings", "set", "inviter_reward", "2 USD"]);
    assert_eq!(raw(&server, &["settings", "reset", "max_amount"])["source"], json!("default"));
    assert!(ok(&server, &["settings", "list"]).contains("inviter_reward"));

    let quotas = r#"{"openai":{"daily":1,"weekly":null,"monthly":20}}"#;
    ok(&server, &["defaults", "set", "system", quotas]);
    refused(&server, &["defaults", "set", "system", "{"], 2, "the defaults are no JSON");
    refused(&server, &["defaults", "set", "nowhere", "{}"], 1, "not_found");
    assert_eq!(raw(&server, &["defaults", "show", "system"])["openai"]["monthly"], json!(20));

    ok(&server, &["provision", "ann", "--source", "email"]);
    let bob = raw(&server, &["provision", "bob", "--source", "github", "--inviter", "ann", "--key", "main"]);
    assert!(bob["secret"].as_str().unwrap().starts_with("sk-"));
    assert_eq!(bob["balance"], json!(2 * USD));
    let again = raw(&server, &["provision", "bob", "--source", "github", "--inviter", "ann", "--key", "main"]);
    assert_eq!((&again["replayed"], &again["secret"]), (&json!(true), &Value::Null));
    refused(&server, &["provision", "bob", "--source", "email"], 1, "conflict");
    let cat = ["provision", "cat", "--source", "email", "--key", "k", "--key-field", "allowance=5 USD"];
    ok(&server, &[&cat[..], &["--key-field", r#"models=["m"]"#]].concat());
    let key = raw(&server, &["key", "show", "cat", "k"]);
    assert_eq!((&key["allowance"], &key["models"]), (&json!(5 * USD), &json!(["m"])));

    ok(&server, &["quota", "set", "bob", "openai=2,-,0", "gemini=0.5,1,2"]);
    let quota = raw(&server, &["quota", "show", "bob", "openai"]);
    assert_eq!((&quota["daily_limit_usd"], &quota["monthly_limit_usd"]), (&json!(2), &json!(0)));
    refused(&server, &["quota", "set", "bob", "openai.daily=2"], 2, "PLATFORM=DAILY,WEEKLY,MONTHLY");
    ok(&server, &["quota", "reset", "bob", "gemini", "daily", "--op-id", "q-1"]);
    let (code, _, err) = command(&server, &["quota", "set", "bob"]);
    assert!(code == 2 && err.contains("PLATFORM=DAILY"), "all quotas of an account go only when that is said: {err}");
    assert_eq!(raw(&server, &["quota", "show", "bob"])["quotas"].as_array().unwrap().len(), 2);
    assert_eq!(raw(&server, &["quota", "set", "bob", "--none"])["quotas"], json!([]));

    assert_eq!(field(&ok(&server, &["referral", "show", "ann"]), "pending"), "200000000");
    let moved = raw(&server, &["referral", "transfer", "ann", "2 USD"]);
    assert_eq!((&moved["pending"], &moved["balance"]), (&json!(0), &json!(4 * USD)));
    refused(&server, &["referral", "transfer", "ann", "2 USD"], 1, "pending");
}

#[test]
fn changes_are_listed_with_who_made_them() {
    let server = Sidecar::start();
    ok(&server, &["account", "put", "acme", "--actor", "ada"]);
    ok(&server, &["account", "put", "acme", "name=x"]);
    let list = ok(&server, &["audit", "list", "--subject", "account/acme"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].starts_with("AT") && lines.len() == 3, "{list}");
    assert!(lines[1].contains(" admin ") && lines[2].contains(" ada "), "newest first: {list}");
    let all = raw(&server, &["audit", "list", "--limit", "1"]);
    assert_eq!(all["changes"].as_array().unwrap().len(), 1);
    refused(&server, &["account", "put", "acme", "--actor", "a b"], 2, "X-Quota-Actor");
}

#[test]
fn lists_longer_than_a_page_come_whole() {
    let server = Setup::default().start();
    for batch in 0..6 {
        let body = json!({"op_id": format!("b-{batch}"), "name": "many", "amount": 1, "count": 100});
        server.admin.post("/admin/v1/codes", &body).expect(201);
    }
    let list = ok(&server, &["code", "list"]);
    assert_eq!(list.lines().count(), 601);
    assert_eq!(list.lines().filter(|line| line.starts_with("ID")).count(), 1);
    let pages = ok(&server, &["code", "list", "--json"]);
    let pages: Vec<Value> =
        serde_json::Deserializer::from_str(&pages).into_iter().collect::<Result<_, _>>().expect("JSON, page by page");
    assert_eq!(pages.iter().map(|page| page["codes"].as_array().unwrap().len()).sum::<usize>(), 600);
    // One page, however long, says how to go on.
    let page = ok(&server, &["code", "list", "--limit", "550"]);
    assert!(page.lines().last().unwrap().starts_with("more with --cursor "), "{page}");
}

#[test]
fn prices_of_an_older_version_hold_again() {
    let server = Sidecar::start();
    let list = json!({"gpt-x": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}}).to_string();
    server.admin.call("POST", "/admin/v1/tariffs?source=x.json", &[], list.as_bytes()).expect(201);
    let versions = ok(&server, &["tariff", "versions"]);
    let lines: Vec<&str> = versions.lines().collect();
    assert!(lines[0].starts_with("VERSION") && lines[1].contains("x.json"), "{versions}");
    let newest = raw(&server, &["tariff", "versions", "--limit", "1"])["tariffs"][0]["version"].clone();
    assert_eq!(newest, 1);
    let models = ok(&server, &["tariff", "models", "1", "--model", "gpt-x"]);
    assert!(models.starts_with("MODEL") && models.contains("gpt-x") && models.lines().count() == 2, "{models}");
    assert!(ok(&server, &["tariff", "models", "--limit", "1"]).contains("gpt-x"), "the version in force");
    assert_eq!(field(&ok(&server, &["tariff", "activate", "0"]), "version"), "2");
    refused(&server, &["tariff", "activate", "99"], 1, "");
    refused(&server, &["tariff", "activate", "x"], 2, "version");
}

/// A laptop with another configuration once credited two hundred times what was typed.
#[test]
fn dollars_are_what_the_server_takes_for_dollars() {
    let server = Setup::default().set("units_per_usd", "500000").start();
    ok(&server, &["account", "put", "acme", "initial_balance=50 USD"]);
    assert_eq!(server.money("acme")[0], 50 * 500_000);
    ok(&server, &["account", "credit", "acme", "1.5 USD"]);
    assert_eq!(server.money("acme")[0], 51 * 500_000 + 250_000);
    ok(&server, &["account", "debit", "acme", "7"]);
    assert_eq!(server.money("acme")[0], 51 * 500_000 + 250_000 - 7);
}

#[test]
fn a_reservation_is_shown_with_what_became_of_it() {
    let server = Sidecar::start();
    server.account("a", json!({"initial_balance": 100}));
    server.reserve(json!({"account": "a", "id": "r-1", "amount": 40})).expect(200);
    server.settle(json!({"account": "a", "id": "r-1", "amount": 30})).expect(200);
    let shown = ok(&server, &["reservation", "show", "a", "r-1"]);
    assert_eq!((field(&shown, "state"), field(&shown, "charged")), ("settled", "30"), "{shown}");
    refused(&server, &["reservation", "show", "a", "r-2"], 1, "reservation_not_found");
}

#[test]
fn what_goes_wrong_is_told_by_code_and_sentence() {
    let server = Sidecar::start();
    refused(&server, &["account", "put", "acme", "groop=vip"], 2, "groop is not a field of this request");
    refused(&server, &["account", "put", "acme", "group"], 2, "must be FIELD=VALUE");
    refused(&server, &["account", "put", "a b"], 2, "account must be 1 to 128 characters");
    refused(&server, &["account", "show", "../codes"], 2, "account must be 1 to 128 characters");
    refused(&server, &["account", "show", "nobody", "--admin-token", "wrong"], 2, "does not know the admin token");
    let (code, _, err) = command(&server, &["account", "shw", "acme"]);
    assert!(code == 2 && err.contains("show"), "{err}");
    let url = format!("http://{}", server.admin.address);
    drop(server);
    let data = tempfile::tempdir().unwrap();
    let ask = ["code", "list", "--url", &url, "--admin-token", "t"];
    let (code, _, err) = said(&quotad(data.path(), &ask, &[]));
    assert!(code == Some(3) && err.contains(&url[7..]), "{code:?} {err}");
    let (code, _, err) = said(&quotad(data.path(), &["code", "list", "--url", &url], &[]));
    assert!(code == Some(2) && err.contains("admin.token cannot be used"), "{code:?} {err}");
}
