//! Bad input of every kind, and that the complaint names the field.

use super::{
    admin::{AccountPut, Credit, KeyPut},
    gateway::{self, Op, Reserve, Settle},
    read::{self, Bad, Object},
    scalar::{Count, TtlMs, Units},
};

/// What a reader says: the path of the bad field, or `ok`.
fn path<T: Object>(text: &str) -> String {
    match read::body::<T>(text.as_bytes()) {
        Ok(_) => "ok".into(),
        Err(bad) => bad.path,
    }
}

fn detail<T: Object + std::fmt::Debug>(bytes: &[u8]) -> String {
    let bad = read::body::<T>(bytes).unwrap_err();
    assert_eq!(bad.path, "", "{bad:?}");
    bad.detail
}

#[test]
fn amounts_are_whole_numbers_or_decimal_strings() {
    for (text, units) in [
        ("0", 0),
        ("120000", 120_000),
        ("\"120000\"", 120_000),
        ("9007199254740991", (1 << 53) - 1),
        ("\"9007199254740991\"", (1 << 53) - 1),
        ("\"\\u0031\"", 1),
    ] {
        let ask: Reserve = read::body(format!(r#"{{"account":"a","amount":{text}}}"#).as_bytes()).unwrap();
        assert_eq!(ask.amount, Some(Units(units)), "{text}");
    }
    for text in [
        "1.0",
        "1e3",
        "1E3",
        "0.5",
        "-1",
        "-0",
        "9007199254740992",
        "99999999999999999999999999",
        "1e999",
        "true",
        "false",
        "null",
        "\"\"",
        "\"1.0\"",
        "\"-1\"",
        "\"+1\"",
        "\" 1\"",
        "\"1e3\"",
        "\"0x1\"",
        "[1]",
        "{}",
        "\"9007199254740992\"",
    ] {
        assert_eq!(path::<Reserve>(&format!(r#"{{"account":"a","amount":{text}}}"#)), "amount", "{text}");
        assert_eq!(path::<Settle>(&format!(r#"{{"account":"a","id":"r","amount":{text}}}"#)), "amount", "{text}");
        assert_eq!(path::<Credit>(&format!(r#"{{"op_id":"o","amount":{text}}}"#)), "amount", "{text}");
    }
}

#[test]
fn counts_and_durations_have_bounds() {
    let ask: Reserve = read::body(br#"{"account":"a","tokens":1000000000,"ttl_ms":86400000}"#).unwrap();
    assert_eq!((ask.tokens, ask.ttl_ms), (Some(Count(1_000_000_000)), Some(TtlMs(86_400_000))));
    for bad in ["1000000001", "-1", "1.5", "\"5\"", "null"] {
        assert_eq!(path::<Reserve>(&format!(r#"{{"account":"a","tokens":{bad}}}"#)), "tokens", "{bad}");
    }
    for bad in ["999", "86400001", "0", "1e4", "\"5000\""] {
        assert_eq!(path::<Reserve>(&format!(r#"{{"account":"a","ttl_ms":{bad}}}"#)), "ttl_ms", "{bad}");
    }
}

#[test]
fn nested_fields_are_named_by_their_path() {
    let with = |estimate: &str| path::<Reserve>(&format!(r#"{{"account":"a","estimate":{estimate}}}"#));
    assert_eq!(with(r#"{"prompt_tokens":1,"max_tokens":2}"#), "ok");
    assert_eq!(with(r#"{"prompt_tokens":-1}"#), "estimate.prompt_tokens");
    assert_eq!(with(r#"{"max_tokens":1}"#), "estimate.prompt_tokens");
    assert_eq!(with(r#"{"prompt_tokens":1,"max":2}"#), "estimate.max");
    assert_eq!(with(r#"{"prompt_tokens":1,"prompt_tokens":1}"#), "estimate.prompt_tokens");
    for text in ["[]", "5", "\"x\"", "null"] {
        assert_eq!(with(text), "estimate", "{text}");
    }
    let limits = r#"{"limits":[{"period":"day","cap":1},{"period":"day","metric":"tokens","cap":1.5}]}"#;
    assert_eq!(path::<AccountPut>(limits), "limits[1].cap");
}

#[test]
fn what_is_no_json_object_is_refused_as_a_whole() {
    assert!(detail::<Reserve>(b"").contains("empty"));
    assert!(detail::<Reserve>(b"\xff{}").contains("UTF-8"));
    assert!(detail::<Reserve>(b"{\"account\":\"\xff\"}").contains("UTF-8"));
    for text in ["[]", "5", "null", "true", "\"x\""] {
        assert_eq!(detail::<Reserve>(text.as_bytes()), "must be a JSON object", "{text}");
    }
    for text in [
        "{",
        "{\"account\"",
        "{\"account\":\"a\"",
        "{\"account\":\"a\",}",
        "{account:\"a\"}",
        "{'account':'a'}",
        "{\"account\":\"a\"}{}",
        "{\"account\":\"a\"} x",
        "{\"amount\":01}",
        "{\"amount\":NaN}",
        "{\"amount\":+1}",
        "{\"account\":\"a\nb\"}",
        "{\"account\":\"\\x\"}",
        "\u{feff}{}",
    ] {
        assert!(detail::<Reserve>(text.as_bytes()).starts_with("malformed JSON"), "{text}");
    }
    assert_eq!(path::<Reserve>(" \n{\"account\":\"a\"}\n "), "ok");
}

#[test]
fn depth_is_no_weapon() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(20_000), close.repeat(20_000));
    assert!(detail::<Reserve>("[".repeat(60_000).as_bytes()).contains("object"));
    assert_eq!(path::<Reserve>(&format!(r#"{{"account":{}}}"#, deep("[", "]"))), "account");
    assert_eq!(path::<Reserve>(&format!(r#"{{"x":{}1{}}}"#, "{\"x\":".repeat(9_000), "}".repeat(9_000))), "x");
    let meta = format!(r#"{{"account":"a","id":"r","meta":{{"m":{}1{}}}}}"#, "[".repeat(500), "]".repeat(500));
    assert_eq!(path::<Settle>(&meta), "meta");
}

#[test]
fn unknown_and_repeated_fields_are_refused() {
    assert_eq!(path::<Reserve>(r#"{"account":"a","amuont":5}"#), "amuont");
    assert_eq!(path::<Reserve>(r#"{"account":"a","op":"reserve"}"#), "op");
    assert_eq!(path::<Reserve>(r#"{"account":"a","amount":5,"amount":5}"#), "amount");
    assert_eq!(path::<Reserve>("{\"account\":\"a\",\"amount\":5,\"am\\u006funt\":5}"), "amount");
    assert_eq!(path::<Reserve>("{\"account\":\"a\",\"x\\u0000y\":5}"), "x?y");
    let long = format!(r#"{{"{}":1}}"#, "x".repeat(5000));
    assert_eq!(path::<Reserve>(&long).len(), 64);
}

#[test]
fn names_and_ids_are_checked_where_they_stand() {
    let ask = |field: &str, value: &str| path::<Reserve>(&format!(r#"{{"account":"a","{field}":{value}}}"#));
    for field in ["key", "id"] {
        for bad in ["\"\"", "\"a b\"", "\"{x}\"", "\"a/b\"", "\"\\u00e9\"", "5", "null", "\"\\ud800\""] {
            assert_eq!(ask(field, bad), field, "{bad}");
        }
        assert_eq!(ask(field, "\"A-z.0_:@\""), "ok");
    }
    assert_eq!(ask("id", &format!("\"{}\"", "a".repeat(129))), "id");
    assert_eq!(ask("model", "\"gpt 4/o {x}\""), "ok");
    assert_eq!(ask("model", "\"a\\tb\""), "model");
    for (field, bad) in [
        ("client_ip", "\"10.0.0\""),
        ("client_ip", "\"10.0.0.0/8\""),
        ("mode", "\"Strict\""),
        ("mode", "1"),
        ("on_expiry", "\"keep\""),
        ("verbose", "1"),
        ("verbose", "\"true\""),
        ("api_key", "\"\""),
    ] {
        assert_eq!(ask(field, bad), field, "{bad}");
    }
}

#[test]
fn meta_is_an_object_that_every_database_can_keep() {
    let with = |meta: &str| path::<Settle>(&format!(r#"{{"account":"a","id":"r","meta":{meta}}}"#));
    for good in ["{}", r#"{"a":[1,2.5,-3,null,true,"x"],"b":{"a":1}}"#] {
        assert_eq!(with(good), "ok", "{good}");
    }
    for bad in [
        "[]",
        "null",
        "\"x\"",
        r#"{"a":1,"a":2}"#,
        r#"{"a":"\u0000"}"#,
        r#"{"\u0000":1}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":1e999}"#,
    ] {
        assert_eq!(with(bad), "meta", "{bad}");
    }
    let sized = |bytes: usize| format!(r#"{{"m":"{}"}}"#, "x".repeat(bytes - 8));
    assert_eq!((with(&sized(4096)).as_str(), with(&sized(4097)).as_str()), ("ok", "meta"));
}

#[test]
fn limits_are_checked_as_a_whole() {
    let with = |limits: &str| path::<AccountPut>(&format!(r#"{{"limits":{limits}}}"#));
    for good in [
        "[]",
        r#"[{"period":"day","cap":null}]"#,
        r#"[{"metric":"concurrency","cap":3},{"metric":"tokens","period":"rolling:18000","cap":0}]"#,
    ] {
        assert_eq!(with(good), "ok", "{good}");
    }
    for (bad, field) in [
        (r#"[{"period":"day"}]"#, "limits[0].cap"),
        (r#"[{"cap":1}]"#, "limits[0].period"),
        (r#"[{"metric":"concurrency","period":"day","cap":1}]"#, "limits[0].period"),
        (r#"[{"period":"year","cap":1}]"#, "limits[0].period"),
        (r#"[{"period":"day","cap":1,"metric":"usd"}]"#, "limits[0].metric"),
        (
            r#"[{"period":"day","cap":1},{"platform":"*","model":"*","metric":"cost","period":"day","cap":2}]"#,
            "limits[1]",
        ),
        ("{}", "limits"),
        ("[5]", "limits[0]"),
    ] {
        assert_eq!(with(bad), field, "{bad}");
    }
    let rolling = |count: usize| {
        let limits: Vec<_> = (1..=count).map(|n| format!(r#"{{"period":"rolling:{n}","cap":1}}"#)).collect();
        format!("[{}]", limits.join(","))
    };
    assert_eq!((with(&rolling(16)).as_str(), with(&rolling(17)).as_str()), ("ok", "limits[16]"));
}

#[test]
fn admin_values_are_checked() {
    for (bad, field) in [
        (r#"{"timezone":"Mars/Base"}"#, "timezone"),
        (r#"{"status":"on"}"#, "status"),
        (r#"{"credit_limit":4503599627370497}"#, "credit_limit"),
        (r#"{"credit_limit":null}"#, "credit_limit"),
        (r#"{"trust_threshold":"on"}"#, "trust_threshold"),
        (r#"{"name":"a\u0007"}"#, "name"),
        (r#"{"balance":5}"#, "balance"),
    ] {
        assert_eq!(path::<AccountPut>(bad), field, "{bad}");
    }
    let good = r#"{"timezone":"Europe/Berlin","status":"active","trust_threshold":"default","name":null}"#;
    assert_eq!(path::<AccountPut>(good), "ok");
    for (bad, field) in [
        (r#"{"expires_at":"tomorrow"}"#, "expires_at"),
        (r#"{"expires_at":"2026-11-20T10:00:00"}"#, "expires_at"),
        (r#"{"expires_at":"1969-12-31T23:59:59Z"}"#, "expires_at"),
        (r#"{"expires_at":5}"#, "expires_at"),
        (r#"{"networks":["10.0.0.0/33"]}"#, "networks[0]"),
        (r#"{"networks":"10.0.0.0/8"}"#, "networks"),
        (r#"{"models":["a","\u0007"]}"#, "models[1]"),
        (r#"{"secret_sha256":"abc"}"#, "secret_sha256"),
        (r#"{"allowance":1.5}"#, "allowance"),
        (r#"{"group":""}"#, "group"),
    ] {
        assert_eq!(path::<KeyPut>(bad), field, "{bad}");
    }
    assert_eq!(path::<KeyPut>(&format!(r#"{{"secret_sha256":"{}"}}"#, "aF".repeat(32))), "ok");
    assert_eq!(path::<KeyPut>(&format!(r#"{{"secret_sha256":"{}g"}}"#, "a".repeat(63))), "secret_sha256");
}

#[test]
fn a_batch_is_read_one_operation_at_a_time() {
    let ops = gateway::batch(r#"{"ops":[{"op":"reserve"},5]}"#).unwrap();
    assert_eq!(ops, [r#"{"op":"reserve"}"#, "5"]);
    let refused = |text: &str| gateway::batch(text).unwrap_err().path;
    for text in ["{}", r#"{"ops":[]}"#, r#"{"ops":5}"#, r#"{"ops":[1],"ops":[1]}"#] {
        assert_eq!(refused(text), "ops", "{text}");
    }
    assert_eq!(refused(r#"{"ops":[1],"x":1}"#), "x");
    let many = |count: usize| format!(r#"{{"ops":[{}]}}"#, vec!["1"; count].join(","));
    assert_eq!(gateway::batch(&many(256)).unwrap().len(), 256);
    assert_eq!(refused(&many(257)), "ops");

    let settle = gateway::op(r#"{"id":"\u0072","op":"settle"}"#).unwrap();
    assert_eq!((settle.0, settle.1.as_deref()), (Op::Settle, Some("r")));
    assert_eq!(gateway::op(r#"{"op_id":"f","of":"r","op":"refund"}"#).unwrap().1.as_deref(), Some("r"));
    for bad in [r#"{}"#, r#"{"op":5}"#, r#"{"op":"balance"}"#, r#"{"op":"settle","op":"settle"}"#] {
        assert_eq!(gateway::op(bad).unwrap_err().path, "op", "{bad}");
    }
    let tagged = Reserve::read(r#"{"op":"reserve","account":"a"}"#, Some("op"));
    assert!(tagged.is_ok());
    let other = Reserve::read(r#"{"op":"reserve","account":"a","x":1}"#, Some("op"));
    assert_eq!(other.unwrap_err(), Bad::unknown("x"));
}
