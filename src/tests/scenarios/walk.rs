//! The walk of a new operator, exactly as README has it: its block is run by bash against a new server.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar};

/// The block between the two comments, without its indent, for the ports of this test.
fn walk(quotad: &Sidecar) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let (_, rest) = readme.split_once("<!-- walk -->\n").expect("the walk begins");
    let (block, _) = rest.split_once("<!-- /walk -->").expect("the walk ends");
    let lines: Vec<&str> = block.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let block = lines.join("\n");
    let [gateway, admin] = [&quotad.gateway, &quotad.admin].map(|http| http.address.to_string());
    block.replace("localhost:8787", &gateway).replace("localhost:8788", &admin)
}

/// What each command of the walk said, in order: the lines that are JSON.
fn run(quotad: &Sidecar) -> Vec<Value> {
    let folder = quotad.setup().folder();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    std::os::unix::fs::symlink(source, folder.join("src")).expect("the source tree beside the data");
    let token = quotad.admin.token.clone().expect("a token");
    std::fs::write(quotad.data().join("admin.token"), token).expect("the token's file");
    let binary = Path::new(env!("CARGO_BIN_EXE_quotad")).parent().expect("its folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-o", "pipefail", "-c", &walk(quotad)]).current_dir(folder).env_clear();
    bash.env("PATH", path).stdin(Stdio::null());
    let output = bash.output().expect("bash can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines = said.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_new_operator_walks_by_copy_and_paste() {
    let quotad = Setup::default().start();
    let before = jiff::Timestamp::now();
    let said = run(&quotad);
    let [_, _, _, system, github, ann, bob, reserved, settled, denied, redeemed, moved, balance, quotas, referrals] =
        &said[..]
    else {
        panic!("{} answers: {said:#?}", said.len())
    };
    assert_eq!(system["openai"], json!({"daily": 1, "weekly": null, "monthly": 20}));
    assert_eq!(github["openai"]["daily"], 0.015);
    assert_eq!((&ann["balance"], &ann["bonus"]), (&json!(200_000_000), &json!(0)));
    assert_eq!((&bob["balance"], &bob["bonus"]), (&json!(250_000_000), &json!(50_000_000)));
    assert!(bob["secret"].as_str().is_some_and(|secret| secret.starts_with("sk-")), "{bob}");
    assert_eq!((&reserved["outcome"], &reserved["held"]), (&json!("granted"), &json!(1_100_000)));
    assert_eq!((&settled["outcome"], &settled["charged"]), (&json!("settled"), &json!(477_000)));

    assert_eq!((&denied["status"], &denied["code"]), (&json!(429), &json!("limit_exceeded")));
    let [limit] = &denied["violated"].as_array().expect("a list")[..] else { panic!("{denied}") };
    let numbers = ["platform", "period", "cap", "used", "held"].map(|field| limit[field].clone());
    assert_eq!(numbers, [json!("openai"), json!("day"), json!(1_500_000), json!(477_000), json!(0)]);
    let resets_at: jiff::Timestamp = limit["resets_at"].as_str().expect("an instant").parse().expect("RFC 3339");
    // Two answers are right when midnight passed meanwhile.
    let midnights = [before, jiff::Timestamp::now()].map(|now| {
        let there = now.in_tz("Europe/Berlin").expect("a zone");
        there.tomorrow().and_then(|next| next.start_of_day()).expect("a day").timestamp()
    });
    assert!(midnights.contains(&resets_at), "{resets_at}, not {midnights:?}");

    assert_eq!((&redeemed["outcome"], &redeemed["amount"]), (&json!("redeemed"), &json!(500_000_000)));
    assert_eq!(
        (&moved["outcome"], &moved["pending"], &moved["balance"]),
        (&json!("transferred"), &json!(0), &json!(300_000_000))
    );
    assert_eq!((&balance["balance"], &balance["held"]), (&json!(750_000_000 - 477_000), &json!(0)));
    let quota = &quotas["quotas"][0];
    assert_eq!((&quota["platform"], &quota["daily_usage_usd"]), (&json!("openai"), &json!(0.00477)));
    assert_eq!((&quota["daily_limit_usd"], &quota["monthly_limit_usd"]), (&json!(0.015), &json!(20)));
    assert_eq!((&referrals["pending"], &referrals["history_usd"]), (&json!(0), &json!(1)));
    assert_eq!(referrals["invitees"][0]["account"], "bob");
    quotad.assert_reconciled();
}
