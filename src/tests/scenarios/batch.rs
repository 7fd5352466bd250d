//! Many calls in one request.

use serde_json::{Value, json};

use crate::harness::Sidecar;

#[test]
fn each_operation_is_answered_in_its_place() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    quotad.account("b", json!({"initial_balance": 10}));
    let ops = json!({"ops": [
        {"op": "reserve", "account": "a", "id": "r", "amount": 400},
        {"op": "reserve", "account": "b", "id": "r", "amount": 11},
        {"op": "settle", "account": "a", "id": "r", "amount": 100},
        {"op": "settle", "account": "a", "id": "r", "amount": 100},
        {"op": "release", "account": "a", "id": "never"},
        {"op": "charge", "account": "a", "id": "c", "amount": 50},
        {"op": "refund", "account": "a", "op_id": "f", "of": "c", "amount": 20},
        {"op": "reserve", "account": "nobody", "id": "r", "amount": 1},
        {"op": "reserve", "account": "a", "id": "bad", "amount": 1.5},
        {"op": "reserve", "account": "a", "id": "bad", "amount": 1, "amout": 1},
        {"op": "transfer", "account": "a"},
        {"op": "extend", "account": "b", "id": "r", "amount": 1},
    ]});
    let answer = quotad.gateway.post("/v1/batch", &ops).expect(200);
    let results = results(&answer);
    let statuses: Vec<i64> = results.iter().map(|result| result["status"].as_i64().unwrap()).collect();
    assert_eq!(statuses, [200, 402, 200, 200, 200, 200, 200, 404, 400, 400, 400, 404], "{answer}");
    assert_eq!(results[0]["body"]["held"], 400);
    assert_eq!(results[1]["body"]["code"], "insufficient_balance");
    assert_eq!(results[2]["body"]["charged"], 100);
    assert_eq!(results[3]["body"]["replayed"], true);
    assert_eq!(results[6]["body"]["refunded"], 20);
    assert_eq!(results[8]["body"]["field"], "amount");
    assert_eq!(results[9]["body"]["field"], "amout");
    assert_eq!(quotad.money("a"), [870, 0, 870]);
    // The whole batch again: nothing moves.
    let again = quotad.gateway.post("/v1/batch", &ops).expect(200);
    let statuses: Vec<i64> = self::results(&again).iter().map(|result| result["status"].as_i64().unwrap()).collect();
    assert_eq!(statuses, [409, 402, 200, 200, 200, 200, 200, 404, 400, 400, 400, 404], "{again}");
    assert_eq!(quotad.money("a"), [870, 0, 870]);
    quotad.assert_reconciled();
}

fn results(answer: &Value) -> Vec<Value> {
    let list = answer.as_object().and_then(|object| object.values().find_map(Value::as_array));
    list.or(answer.as_array()).unwrap_or_else(|| panic!("no list in {answer}")).clone()
}

#[test]
fn a_batch_has_bounds() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let op = |id: usize| json!({"op": "charge", "account": "a", "id": format!("c-{id}"), "amount": 1});
    let batch = |count: usize| json!({"ops": (0..count).map(op).collect::<Vec<_>>()});
    quotad.gateway.post("/v1/batch", &batch(257)).problem(400, "invalid_request");
    quotad.gateway.post("/v1/batch", &batch(0)).problem(400, "invalid_request");
    quotad.gateway.post("/v1/batch", &json!({"ops": {}})).problem(400, "invalid_request");
    let unknown = quotad.gateway.post("/v1/batch", &json!({"ops": [op(1)], "atomic": true}));
    assert_eq!(unknown.problem(400, "invalid_request")["field"], "atomic");
    assert_eq!(quotad.money("a")[0], 1000, "nothing of a refused batch is done");
    let answer = quotad.gateway.post("/v1/batch", &batch(256)).expect(200);
    assert!(results(&answer).iter().all(|result| result["status"] == 200), "{answer}");
    assert_eq!(quotad.money("a")[0], 744);
    // Over 64 KiB, under 1 MiB.
    let note = "n".repeat(3000);
    let ops: Vec<Value> = (0..100)
        .map(|n| json!({"op": "settle", "account": "a", "id": format!("s-{n}"), "amount": 1, "meta": {"note": note}}))
        .collect();
    let answer = quotad.gateway.post("/v1/batch", &json!({"ops": ops})).expect(200);
    assert!(results(&answer).iter().all(|result| result["body"]["unreserved"] == true));
    let huge = format!("{{\"ops\":[{}1]}}", "1,".repeat(600_000));
    quotad.gateway.post_text("/v1/batch", &huge).problem(413, "payload_too_large");
    assert_eq!(quotad.money("a")[0], 644);
}
