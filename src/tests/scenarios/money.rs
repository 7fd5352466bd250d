//! Money that moves outside of a reservation's life, and balances below zero.

use serde_json::json;

use crate::harness::{Setup, Sidecar, USD};

/// A transfer's own credit was refused as a conflict with it, and the reward was lost.
#[test]
fn no_credit_of_an_operator_has_the_name_of_one_that_follows_from_a_code_or_a_transfer() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({}));
    for op_id in ["redeem:x", "referral:t-1"] {
        let body = json!({"op_id": op_id, "amount": 1});
        let refused = quotad.admin.post("/admin/v1/accounts/a/credit", &body).problem(400, "invalid_request");
        assert_eq!(refused["field"], "op_id");
    }
    assert_eq!(quotad.money("a"), [0, 0, 0]);
}

#[test]
fn a_cost_above_the_hold_is_charged_and_reserves_wait_until_it_is_covered() {
    let quotad = Sidecar::start();
    quotad.play(
        r#"
        account o initial_balance=1000 => 201
        reserve r amount=900 => 200 available=100
        settle r amount=1500 => 200 charged=1500 returned=0 overdraft=500 balance=-500 available=-500
        settle r amount=1500 => 200 replayed charged=1500 overdraft=500
        reserve s amount=1 => 402 insufficient_balance requested=1 available=-500
        reserve s amount=0 => 402 insufficient_balance requested=0 available=-500
        charge s amount=1 => 402 insufficient_balance
        charge s amount=1 force=true => 200 charged=1 overdraft=501 balance=-501
        credit c1 amount=501 => 200 balance=0 available=0
        reserve t amount=1 => 402 insufficient_balance requested=1 available=0
        reserve zero amount=0 => 200 held=0
        credit c2 amount=1 => 200 balance=1 available=1
        reserve t amount=1 => 200 held=1 available=0
        # A settle above the hold is reported, not refused, also when other money pays for it.
        credit c3 amount=100 => 200 available=100
        settle t amount=41 => 200 charged=41 returned=0 overdraft=0 balance=60 available=60
        release zero => 200 returned=0
        balance => 200 balance=60 held=0 used=1542 requests=3
    "#,
    );
    quotad.assert_reconciled();
}

#[test]
fn a_credit_limit_lets_available_go_below_the_balance() {
    let quotad = Sidecar::start();
    quotad.play(
        r#"
        account l initial_balance=100 credit_limit=50 => 201 credit_limit=50
        reserve r amount=150 => 200 held=150 balance=100 available=0
        reserve s amount=1 => 402 insufficient_balance available=0
        settle r amount=150 => 200 overdraft=50 balance=-50 available=0
        account l credit_limit=80 => 200
        reserve s amount=30 => 200 available=0
        account l credit_limit=0 => 200
        reserve t amount=0 => 402 insufficient_balance available=-80
        release s => 200 available=-50
        balance => 200 balance=-50 held=0 available=-50 credit_limit=0
    "#,
    );
}

#[test]
fn debits_stop_at_what_is_not_held_unless_forced() {
    let quotad = Sidecar::start();
    quotad.play(
        r#"
        account d initial_balance=1000 credit_limit=500 => 201
        reserve r amount=300 => 200 available=1200
        debit d1 amount=701 => 402 insufficient_balance
        debit d1 amount=700 note="correction" => 200 amount=700 balance=300
        debit d2 amount=1 => 402 insufficient_balance
        debit d2 amount=1 force=true => 200 amount=1 balance=299
        debit d2 amount=1 => 409 conflict field=force
        settle r amount=300 => 200 balance=-1 overdraft=1
        credit c amount=2 kind=redeem note="code" => 200 balance=1
        credit c0 amount=0 => 200 balance=1
        credit c1 amount=1 kind=gift => 400 invalid_request field=kind
        credit c1 amount=-1 => 400 invalid_request field=amount
        debit d3 => 400 invalid_request field=amount
        balance => 200 balance=1 held=0 used=300 requests=1
    "#,
    );
    let unknown = quotad.admin.post("/admin/v1/accounts/nobody/credit", &json!({"op_id": "c", "amount": 1}));
    unknown.problem(404, "account_not_found");
    quotad.assert_reconciled();
}

#[test]
fn refunds_never_exceed_the_charge() {
    let quotad = Sidecar::start();
    let limits = json!([
        {"platform": "openai", "metric": "cost", "period": "day", "cap": 1000},
        {"platform": "openai", "metric": "requests", "period": "day", "cap": 10},
    ]);
    quotad.account("f", json!({"initial_balance": 1000, "limits": limits}));
    quotad.key("f", "k", json!({"allowance": 500}));
    quotad.play(
        r#"
        account f => 200
        reserve r amount=400 key=k platform=openai => 200
        settle r amount=300 => 200 charged=300 balance=700
        refund f1 of=r amount=301 => 409 refund_exceeds_charge
        refund f1 of=r amount=100 => 200 refunded=100 balance=800 available=800
        refund f2 of=r amount=201 => 409 refund_exceeds_charge
        refund f2 of=r amount=200 => 200 refunded=200 balance=1000
        refund f3 of=r amount=1 => 409 refund_exceeds_charge
        refund f3 of=r amount=0 => 200 refunded=0 balance=1000
        # A repeated refund is a replay even when nothing is left to refund.
        refund f1 of=r amount=100 => 200 replayed refunded=100
        reservation r => 200 state=settled charged=300 refunded=300
        balance => 200 balance=1000 used=0 requests=1
    "#,
    );
    let sheet = quotad.balance("f");
    assert_eq!((&sheet["limits"][0]["used"], &sheet["limits"][1]["used"]), (&json!(0), &json!(1)), "{sheet}");
    assert_eq!((&sheet["keys"][0]["used"], &sheet["keys"][0]["left"]), (&json!(0), &json!(500)), "{sheet}");
    quotad.assert_reconciled();
}

#[test]
fn amounts_above_the_maximum_are_refused_before_and_clamped_after_the_work() {
    let quotad = Setup::default().set("max_amount", "10 USD").set("default_hold", "0.02 USD").start();
    quotad.account("m", json!({"initial_balance": 100 * USD}));
    let [ten, more] = [10 * USD, 10 * USD + 1];
    for (verb, body) in [
        ("/v1/reserve", json!({"account": "m", "id": "r", "amount": more})),
        ("/v1/charge", json!({"account": "m", "id": "r", "amount": more})),
        ("/v1/extend", json!({"account": "m", "id": "r", "amount": more})),
        ("/v1/refund", json!({"account": "m", "op_id": "f", "of": "r", "amount": more})),
    ] {
        let problem = quotad.gateway.post(verb, &body).problem(400, "invalid_request");
        assert_eq!(problem["field"], "amount", "{verb}");
    }
    let debit = quotad.admin.post("/admin/v1/accounts/m/debit", &json!({"op_id": "d", "amount": more}));
    assert_eq!(debit.problem(400, "invalid_request")["field"], "amount");
    let credit = quotad.admin.post("/admin/v1/accounts/m/credit", &json!({"op_id": "c", "amount": 50 * USD}));
    assert_eq!(credit.expect(200)["balance"], 150 * USD);
    quotad.reserve(json!({"account": "m", "id": "r", "amount": ten})).expect(200);
    let settled = quotad.settle(json!({"account": "m", "id": "r", "amount": 5000 * USD})).expect(200);
    assert_eq!((&settled["charged"], &settled["clamped"]), (&json!(ten), &json!(true)), "{settled}");
    assert_eq!(quotad.money("m"), [140 * USD, 0, 140 * USD]);
    let unreserved = quotad.settle(json!({"account": "m", "id": "u", "amount": 5000 * USD})).expect(200);
    assert_eq!((&unreserved["charged"], &unreserved["clamped"]), (&json!(ten), &json!(true)), "{unreserved}");
    // With neither amount nor estimate the setting decides.
    let held = quotad.reserve(json!({"account": "m", "id": "h"})).expect(200)["held"].clone();
    assert_eq!(held, 2_000_000);
    quotad.assert_reconciled();
}

#[test]
fn balances_stay_within_their_range() {
    let quotad = Sidecar::start();
    let most: i64 = 1 << 52;
    quotad.account("w", json!({"initial_balance": most - 1}));
    let credit = |op_id: &str, amount: i64| {
        quotad.admin.post("/admin/v1/accounts/w/credit", &json!({"op_id": op_id, "amount": amount}))
    };
    credit("c1", 2).problem(400, "invalid_request");
    assert_eq!(credit("c2", 1).expect(200)["balance"], most);
    credit("c3", 1).problem(400, "invalid_request");
    assert_eq!(quotad.money("w"), [most, 0, most]);
    quotad.reserve(json!({"account": "w", "id": "r", "amount": 10_000 * USD})).expect(200);
    quotad.settle(json!({"account": "w", "id": "r", "amount": 1})).expect(200);
    assert_eq!(quotad.money("w"), [most - 1, 0, most - 1]);
    quotad.assert_reconciled();
}
