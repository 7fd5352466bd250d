//! Whatever is sent, the answer is a sentence that names the mistake, and nothing changes.

use serde_json::{Value, json};

use crate::harness::{Setup, Sidecar, USD};

/// Sends a reserve with one raw value and expects a refusal that names the field.
#[track_caller]
fn refused(quotad: &Sidecar, body: &str, field: Option<&str>) {
    let problem = quotad.gateway.post_text("/v1/reserve", body).problem(400, "invalid_request");
    if let Some(field) = field {
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
}

/// JSON that is no amount.
const NO_AMOUNTS: [&str; 27] = [
    "-1",
    "1.0",
    "1.5",
    "1e3",
    "1E3",
    "0.1",
    "-0",
    "9007199254740992",
    "9007199254740993",
    "1e400",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "\"-1\"",
    "\"1.0\"",
    "\"+1\"",
    "\" 1\"",
    "\"1 \"",
    "\"1e3\"",
    "\"0x10\"",
    "\"\"",
    "\"one\"",
    "\"9007199254740992\"",
    "\"٣\"",
    "true",
    "null",
    "[1]",
    "{}",
];

/// Fields of a reserve with values that cannot stand.
const BAD_FIELDS: [(&str, &str); 19] = [
    ("tokens", "-1"),
    ("tokens", "1.5"),
    ("tokens", "\"x\""),
    ("ttl_ms", "999"),
    ("ttl_ms", "86400001"),
    ("ttl_ms", "1e4"),
    ("min_amount", "-1"),
    ("estimate", "{}"),
    ("estimate", "1"),
    ("mode", "\"\""),
    ("on_expiry", "\"explode\""),
    ("verbose", "1"),
    ("client_ip", "\"nowhere\""),
    ("platform", "\"\""),
    ("model", "\"a\\tb\""),
    ("model", "\"é\""),
    ("account", "\"\""),
    ("key", "1"),
    ("id", "null"),
];

#[test]
fn amounts_are_whole_units_and_nothing_else() {
    // As large as a single amount may be: what counters hold.
    let quotad = Setup::default().set("max_amount", "4503599627370496").start();
    quotad.account("a", json!({"initial_balance": 1000}));
    for bad in NO_AMOUNTS {
        for verb in ["reserve", "charge", "settle", "extend"] {
            let body = format!(r#"{{"account":"a","id":"bad","amount":{bad}}}"#);
            let answer = quotad.gateway.post_text(&format!("/v1/{verb}"), &body);
            assert_eq!(answer.clone().problem(400, "invalid_request")["field"], "amount", "{verb} {bad}: {answer}");
        }
        let body = format!(r#"{{"op_id":"bad","amount":{bad}}}"#);
        quotad.admin.call("POST", "/admin/v1/accounts/a/credit", &[], body.as_bytes()).problem(400, "invalid_request");
    }
    assert_eq!(quotad.money("a"), [1000, 0, 1000], "nothing changed");
    let reserve = |amount: &str, id: &str| {
        quotad.gateway.post_text("/v1/reserve", &format!(r#"{{"account":"a","id":"{id}","amount":{amount}}}"#))
    };
    assert_eq!(reserve("0", "zero").expect(200)["held"], 0);
    assert_eq!(reserve("1", "one").expect(200)["held"], 1);
    assert_eq!(reserve("\"2\"", "two").expect(200)["held"], 2);
    let most = reserve("4503599627370496", "most").problem(402, "insufficient_balance");
    assert_eq!((&most["requested"], &most["available"]), (&json!(1_i64 << 52), &json!(997)));
    reserve("\"4503599627370496\"", "most").problem(402, "insufficient_balance");
    // 2^53 - 1 is an amount, here above the maximum; 2^53 is none.
    for above in ["4503599627370497", "9007199254740991", "\"9007199254740991\""] {
        assert_eq!(reserve(above, "above").problem(400, "invalid_request")["field"], "amount");
    }
    let cap = |cap: &str| {
        let body = format!(r#"{{"limits":[{{"metric":"cost","period":"day","cap":{cap}}}]}}"#);
        quotad.admin.call("PUT", "/admin/v1/accounts/capped", &[], body.as_bytes())
    };
    cap("9007199254740992").problem(400, "invalid_request");
    assert_eq!(cap("9007199254740991").expect(201)["limits"][0]["cap"], 9_007_199_254_740_991_i64);
    assert_eq!(quotad.money("a"), [1000, 3, 997]);
}

#[test]
fn a_field_that_cannot_stand_is_named() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    for (field, bad) in BAD_FIELDS {
        let mut fields = vec![("account", "\"a\""), ("amount", "1")];
        fields.retain(|(name, _)| *name != field);
        fields.push((field, bad));
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let problem =
            quotad.gateway.post_text("/v1/reserve", &format!("{{{}}}", body.join(","))).problem(400, "invalid_request");
        assert!(problem["field"].as_str().is_some_and(|named| named.starts_with(field)), "{field}={bad}: {problem}");
    }
    assert_eq!(quotad.money("a"), [1000, 0, 1000]);
}

#[test]
fn ids_have_an_alphabet_and_a_length() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let long = "x".repeat(128);
    let longer = "x".repeat(129);
    for good in [long.as_str(), "a", "A.b_c:d@e-f0", "..", "-", "@"] {
        let answer = quotad.reserve(json!({"account": "a", "id": good, "amount": 1}));
        assert_eq!(answer.expect(200)["id"], good);
    }
    for bad in [longer.as_str(), "", "{0}", "a{b}c", "}", "a b", "a/b", "é", "\u{0}", "a\n", "a\u{1f}b", "😀", "%41"]
    {
        for (verb, field, body) in [
            ("/v1/reserve", "id", json!({"account": "a", "id": bad, "amount": 1})),
            ("/v1/reserve", "account", json!({"account": bad, "id": "x", "amount": 1})),
            ("/v1/reserve", "key", json!({"account": "a", "key": bad, "id": "x", "amount": 1})),
            ("/v1/refund", "op_id", json!({"account": "a", "op_id": bad, "of": "x", "amount": 1})),
            ("/v1/refund", "of", json!({"account": "a", "op_id": "x", "of": bad, "amount": 1})),
        ] {
            let problem = quotad.gateway.post(verb, &body).problem(400, "invalid_request");
            assert_eq!(problem["field"], field, "{bad:?} as {field}");
        }
    }
    // An account whose name is as long as can be, with braces' neighbours, is stored and found.
    quotad.account(&long, json!({"initial_balance": 5}));
    quotad.key(
        &long,
        &long,
        json!({"limits": [{"platform": long, "model": long, "metric": "cost", "period": "day", "cap": 5}]}),
    );
    let body = json!({"account": long, "key": long, "id": long, "platform": long, "model": long, "amount": 5});
    quotad.reserve(body.clone()).expect(200);
    quotad.settle(json!({"account": long, "id": long, "amount": 5})).expect(200);
    quotad.gateway.post("/v1/refund", &json!({"account": long, "op_id": long, "of": long, "amount": 5})).expect(200);
    assert_eq!(quotad.money(&long), [5, 0, 5]);
    // Names of platforms and models are any printable ASCII.
    let odd = json!({"account": "a", "id": "odd", "platform": "~{} !\"#", "model": "org/model:1 {x}", "amount": 1});
    quotad.reserve(odd).expect(200);
    quotad.assert_reconciled();
}

#[test]
fn broken_json_is_refused_with_the_field_where_there_is_one() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let before = quotad.balance("a");
    for body in [
        "",
        " ",
        "{",
        "}",
        "[]",
        "null",
        "1",
        "\"a\"",
        "{]",
        "{\"account\"}",
        "{\"account\":\"a\",}",
        "{'account':'a'}",
        "{\"account\":\"a\"} {}",
        "{\"account\":\"a\"}x",
        "\u{feff}{\"account\":\"a\"}",
        "{\"account\":\"a\u{0}\"}",
        "{\"account\":\"\\ud800\"}",
        "NaN",
        "{\"account\":\"a\",\"amount\":NaN}",
        "{\"account\":\"a\",\"amount\":01}",
    ] {
        refused(&quotad, body, None);
    }
    let raw = quotad.gateway.call("POST", "/v1/reserve", &[], b"{\"account\":\"a\xff\",\"amount\":1}");
    raw.problem(400, "invalid_request");
    refused(&quotad, r#"{"account":"a","amount":1,"colour":"red"}"#, Some("colour"));
    refused(&quotad, r#"{"account":"a","Amount":1}"#, Some("Amount"));
    refused(&quotad, r#"{"account":"a","amount":1,"amount":2}"#, Some("amount"));
    refused(&quotad, r#"{"account":"a","amount":1,"account":"a"}"#, Some("account"));
    refused(&quotad, r#"{"account":"a","amount":1,"estimate":{"prompt_tokens":1},"model":"gpt-4o"}"#, None);
    refused(&quotad, r#"{"account":"a","estimate":{"prompt_tokens":1},"tokens":5,"model":"gpt-4o"}"#, None);
    let nested = r#"{"account":"a","estimate":{"prompt_tokens":1,"prompt":2},"model":"gpt-4o"}"#;
    let problem = quotad.gateway.post_text("/v1/reserve", nested).problem(400, "invalid_request");
    assert!(problem["field"].as_str().unwrap().contains("prompt"), "{problem}");
    let deep = format!(r#"{{"account":"a","id":"d","amount":1,"meta":{}{}}}"#, "{\"x\":".repeat(20_000), "1");
    quotad.gateway.post_text("/v1/settle", &deep).problem(413, "payload_too_large");
    let deep = format!(r#"{{"account":"a","id":"d","amount":1,"meta":{}1{}}}"#, "[".repeat(1500), "]".repeat(1500));
    assert_eq!(quotad.gateway.post_text("/v1/settle", &deep).problem(400, "invalid_request")["field"], "meta");
    let deep = format!(r#"{{"account":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    refused(&quotad, &deep, None);
    let big = json!({"account": "a", "id": "d", "amount": 1, "meta": {"note": "n".repeat(4100)}});
    assert_eq!(quotad.settle(big).problem(400, "invalid_request")["field"], "meta");
    let twice =
        r#"{"account":"a","id":"d","amount":1,"usage":{"prompt_tokens":1,"completion_tokens":1},"model":"gpt-4o"}"#;
    quotad.gateway.post_text("/v1/settle", twice).problem(400, "invalid_request");
    for path in ["settle", "release", "extend", "charge", "refund"] {
        quotad.gateway.post_text(&format!("/v1/{path}"), "{\"x\":1}").problem(400, "invalid_request");
    }
    for (path, body) in [
        ("/admin/v1/accounts/new", json!({"statuss": "enabled"})),
        ("/admin/v1/accounts/new", json!({"initial_balance": 1.5})),
        ("/admin/v1/accounts/new", json!({"credit_limit": -1})),
        ("/admin/v1/accounts/a/keys/k", json!({"colour": "red"})),
    ] {
        let problem = quotad.admin.put(path, &body).problem(400, "invalid_request");
        let field = body.as_object().unwrap().keys().next().unwrap();
        assert_eq!(problem["field"], field.as_str(), "{body}");
    }
    quotad.admin.get("/admin/v1/accounts/new").problem(404, "account_not_found");
    assert_eq!(quotad.balance("a"), before, "nothing changed");
}

#[test]
fn bodies_have_a_size() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000 * USD}));
    let padded = |size: usize| {
        let body = json!({"account": "a", "id": "p", "amount": 1}).to_string();
        format!("{body}{}", " ".repeat(size - body.len()))
    };
    quotad.gateway.post_text("/v1/reserve", &padded(65_536)).expect(200);
    quotad.gateway.post_text("/v1/reserve", &padded(65_537)).problem(413, "payload_too_large");
    quotad.gateway.post_text("/v1/reserve", &padded(1 << 20)).problem(413, "payload_too_large");
    quotad.gateway.post_text("/v1/reserve", &padded(20 << 20)).problem(413, "payload_too_large");
    quotad.admin.put("/admin/v1/accounts/b", &Value::String("x".repeat(2 << 20))).problem(413, "payload_too_large");
    // Announced but never sent: refused by its announcement.
    let head = "POST /v1/reserve HTTP/1.1\r\nHost: q\r\nConnection: close\r\nContent-Length: 999999999\r\n\r\n";
    let answers = quotad.gateway.raw(head.as_bytes());
    assert_eq!(answers[0].clone().problem(413, "payload_too_large")["status"], 413);
    // In chunks, without any announcement.
    let mut chunked = b"POST /v1/reserve HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..9 {
        chunked.extend_from_slice(b"2000\r\n");
        chunked.extend_from_slice(&[b' '; 0x2000]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(quotad.gateway.raw(&chunked)[0].clone().problem(413, "payload_too_large")["status"], 413);
    assert_eq!(quotad.money("a"), [1000 * USD, 1, 1000 * USD - 1]);
}
