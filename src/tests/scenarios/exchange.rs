//! What surrounds a call: request ids, health, metrics, the description of the interface, and
//! connections.

use std::{io::Write, os::unix::net::UnixStream};

use serde_json::json;

use crate::harness::{Setup, Sidecar, http::read_answer};

#[test]
fn every_answer_carries_a_request_id() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 100}));
    let body = json!({"account": "a", "id": "r", "amount": 1}).to_string();
    let with = |id: &str| quotad.gateway.call("POST", "/v1/reserve", &[("X-Request-Id", id)], body.as_bytes());
    assert_eq!(with("caller-1").header("x-request-id"), Some("caller-1"));
    // One that could not be printed or is absurdly long is replaced.
    for odd in ["x".repeat(5000), "\u{1}".to_owned(), String::new()] {
        let answer = with(&odd);
        assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty() && id.len() < 1000), "{answer}");
    }
    let mut seen = std::collections::HashSet::new();
    for (method, path, body) in [
        ("POST", "/v1/reserve", body.as_str()),
        ("POST", "/v1/reserve", "{"),
        ("GET", "/v1/reserve", ""),
        ("GET", "/nowhere", ""),
        ("GET", "/healthz", ""),
    ] {
        let answer = quotad.gateway.call(method, path, &[], body.as_bytes());
        let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{method} {path}: {answer}"));
        assert!(seen.insert(id.to_owned()), "a new one for each call: {id}");
    }
}

#[test]
fn paths_and_methods_that_do_not_exist_are_told_apart() {
    let quotad = Sidecar::start();
    for verb in ["reserve", "settle", "release", "extend", "charge", "refund", "batch"] {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let answer = quotad.gateway.call(method, &format!("/v1/{verb}"), &[], b"");
            assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{method} {verb}: {answer}");
            answer.problem(405, "method_not_allowed");
        }
    }
    let balance = quotad.gateway.post("/v1/accounts/a/balance", &json!({}));
    assert!(balance.header("allow").is_some_and(|allow| allow.contains("GET")), "{balance}");
    balance.problem(405, "method_not_allowed");
    for path in ["/", "/v1", "/v1/", "/v1/reserve/", "/v1/reserve/x", "/v2/reserve", "/v1/accounts/a", "/V1/reserve"] {
        quotad.gateway.get(path).problem(404, "not_found");
    }
    for path in ["/admin", "/admin/v1", "/admin/v1/nothing", "/admin/v1/accounts/a/keys/k/x"] {
        quotad.admin.get(path).problem(404, "not_found");
    }
    quotad.admin.call("PATCH", "/admin/v1/accounts/a", &[], b"{}").problem(405, "method_not_allowed");
    quotad.gateway.get("/v1/accounts/a%2Fb/balance").problem(400, "invalid_request");
}

#[test]
fn health_metrics_and_the_description_are_served() {
    let quotad = Sidecar::start();
    quotad.account("secret-account", json!({"initial_balance": 100}));
    quotad.reserve(json!({"account": "secret-account", "id": "r", "amount": 1})).expect(200);
    quotad
        .reserve(json!({"account": "secret-account", "id": "s", "amount": 1000}))
        .problem(402, "insufficient_balance");
    for http in [&quotad.gateway, &quotad.admin] {
        assert_eq!(http.get("/healthz").status, 200);
        let ready = http.get("/readyz").expect(200);
        assert_eq!((&ready["ready"], &ready["redis"], &ready["sql"]), (&json!(true), &json!("ok"), &json!("ok")));
    }
    let metrics = String::from_utf8(quotad.admin.get("/metrics").body).expect("text");
    assert!(metrics.lines().any(|line| line.starts_with("quotad_")), "{metrics}");
    assert!(!metrics.contains("secret-account"), "metric labels are closed sets, never ids");
    let described = quotad.admin.get("/openapi.json").expect(200);
    assert!(
        described["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{}",
        described["openapi"]
    );
    let paths = described["paths"].as_object().expect("paths");
    for path in ["reserve", "settle", "release", "extend", "charge", "refund", "batch", "authz"] {
        assert!(paths.contains_key(&format!("/v1/{path}")), "{path} is described");
    }
    for path in ["/v1/accounts/{account}/balance", "/admin/v1/accounts/{account}", "/admin/v1/reconcile"] {
        assert!(paths.contains_key(path), "{path} is described: {:?}", paths.keys().collect::<Vec<_>>());
    }
    // Every reference leads somewhere.
    let text = described.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(described.pointer(reference).is_some(), "{reference} is described");
    }
    let (code, printed) = Setup::default().run("openapi", &[]);
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("the command prints the same");
    assert_eq!((code, &printed["paths"]), (Some(0), &described["paths"]));
}

#[test]
fn requests_sent_ahead_are_answered_in_order_on_one_connection() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let mut bytes = Vec::new();
    for number in 0..20 {
        let body = json!({"account": "a", "id": format!("r-{number}"), "amount": 10}).to_string();
        let close = if number == 19 { "Connection: close\r\n" } else { "" };
        let length = body.len();
        write!(bytes, "POST /v1/reserve HTTP/1.1\r\nHost: q\r\nContent-Length: {length}\r\n{close}\r\n{body}").unwrap();
    }
    let answers = quotad.gateway.raw(&bytes);
    let ids: Vec<String> = answers.iter().map(|answer| answer.json()["id"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(ids, (0..20).map(|number| format!("r-{number}")).collect::<Vec<_>>());
    assert_eq!(quotad.money("a"), [1000, 200, 800]);
    // A refusal, too, leaves the connection usable.
    let mut stream = quotad.gateway.connect().unwrap();
    for (body, status) in [("{", 400), (r#"{"account":"a","amount":1}"#, 200), (r#"{"account":"x","amount":1}"#, 404)] {
        write!(stream, "POST /v1/reserve HTTP/1.1\r\nHost: q\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        assert_eq!(read_answer(&mut stream).unwrap().status, status, "{body}");
    }
    // A body may come in chunks.
    let chunked = "POST /v1/reserve HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\n\r\n\
        10\r\n{\"account\":\"a\",\"\r\na\r\namount\":1}\r\n0\r\n\r\n";
    stream.write_all(chunked.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status, 200);
}

#[test]
fn a_unix_socket_serves_the_gateway_protocol() {
    let setup = Setup::default();
    let socket = setup.folder().join("gateway.sock");
    let mut quotad = setup.set("gateway_socket", socket.display().to_string()).start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let ask = |id: &str| {
        let mut stream = UnixStream::connect(&socket).expect("the socket");
        let body = json!({"account": "a", "id": id, "amount": 10}).to_string();
        let length = body.len();
        write!(stream, "POST /v1/reserve HTTP/1.1\r\nHost: q\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        read_answer(&mut stream).expect("an answer").expect(200)
    };
    assert_eq!(ask("r1")["held"], 10);
    // What a crash leaves of the socket does not keep the next one from listening.
    quotad.kill();
    quotad.start_again();
    assert_eq!(ask("r2")["available"], 980);
}
