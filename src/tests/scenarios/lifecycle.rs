//! The life of a reservation: every verb once, again, with other content, and in the wrong order.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Sidecar, eventually};

#[test]
fn a_repeated_call_is_answered_as_the_first_time() {
    let quotad = Sidecar::start();
    quotad.play(
        r#"
        account replay initial_balance=1000 => 201
        reserve r amount=400 tokens=7 => 200 id="r" outcome=granted held=400 trusted=false balance=1000 available=600 !limits
        credit c amount=50 => 200 amount=50 balance=1050 available=650 outcome=credited
        # Amounts of the first answer, balance and available of today.
        reserve r amount=400 tokens=7 => 200 replayed id="r" outcome=granted held=400 balance=1050 available=650
        settle r amount=150 => 200 id="r" outcome=settled charged=150 returned=250 overdraft=0 late=false unreserved=false balance=900 available=900
        debit d amount=100 => 200 amount=100 balance=800 available=800 outcome=debited
        settle r amount=150 => 200 replayed outcome=settled charged=150 returned=250 overdraft=0 late=false balance=800 available=800
        reserve r amount=400 tokens=7 => 409 already_settled
        credit c amount=50 => 200 replayed amount=50 balance=800
        debit d amount=100 => 200 replayed amount=100 balance=800

        reserve q amount=300 => 200 held=300 available=500
        release q => 200 outcome=released returned=300 balance=800 available=800
        release q => 200 replayed outcome=released returned=300 balance=800 available=800
        reserve q amount=300 => 409 already_released

        charge p amount=200 => 200 outcome=settled charged=200 returned=0 overdraft=0 late=false unreserved=false balance=600 available=600
        charge p amount=200 => 200 replayed charged=200 returned=0 balance=600
        refund f of=p amount=120 reason="because" => 200 refunded=120 balance=720 available=720
        refund f of=p amount=120 => 200 replayed refunded=120 balance=720

        reserve x amount=100 => 200 held=100
        extend x amount=250 => 200 held=250 balance=720 available=470
        # The same new total again asks for nothing more.
        extend x amount=250 => 200 held=250 balance=720 available=470
        release x => 200 returned=250 available=720
        balance => 200 balance=720 held=0 available=720 used=230 requests=2
    "#,
    );
    quotad.assert_reconciled();
}

#[test]
fn the_same_id_with_other_content_is_a_conflict_that_names_the_field() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 10_000}));
    quotad.key("a", "k", json!({}));
    quotad.play(
        r#"
        account a => 200
        reserve r amount=400 key=k platform=openai model=gpt-4o tokens=7 ttl_ms=600000 => 200 held=400
        reserve r amount=401 key=k platform=openai model=gpt-4o tokens=7 ttl_ms=600000 => 409 conflict field=amount
        reserve r amount=400       platform=openai model=gpt-4o tokens=7 ttl_ms=600000 => 409 conflict field=key
        reserve r amount=400 key=k platform=gemini model=gpt-4o tokens=7 ttl_ms=600000 => 409 conflict field=platform
        reserve r amount=400 key=k platform=openai model=gpt-5 tokens=7 ttl_ms=600000 => 409 conflict field=model
        reserve r amount=400 key=k platform=openai model=gpt-4o tokens=8 ttl_ms=600000 => 409 conflict field=tokens
        reserve r amount=400 key=k platform=openai model=gpt-4o tokens=7 ttl_ms=600001 => 409 conflict field=ttl_ms
        reserve r amount=400 key=k platform=openai model=gpt-4o tokens=7 ttl_ms=600000 on_expiry=charge => 409 conflict field=on_expiry
        reserve r amount=400 key=k platform=openai model=gpt-4o tokens=7 ttl_ms=600000 mode=check_only => 409 conflict field=mode
        # What only the log or the answer is about is not content.
        reserve r amount=400 key=k platform=openai model=gpt-4o tokens=7 ttl_ms=600000 verbose=true => 200 replayed held=400
        # A number and its text are the same amount.
        reserve r amount="400" key=k platform=openai model=gpt-4o tokens=7 ttl_ms=600000 => 200 replayed held=400

        settle r amount=100 => 200 charged=100
        settle r amount=101 => 409 conflict field=amount
        settle r amount=100 outcome=client_abort => 409 conflict field=outcome
        settle r amount=100 duration_ms=5 => 200 replayed charged=100

        charge c amount=50 platform=openai => 200 charged=50
        charge c amount=51 platform=openai => 409 conflict field=amount
        charge c amount=50 platform=gemini => 409 conflict field=platform
        reserve c amount=50 => 409 already_settled
        settle c amount=50 => 409 already_settled
        charge r amount=100 => 409 already_settled

        refund f of=r amount=40 => 200 refunded=40
        refund f of=r amount=41 => 409 conflict field=amount
        refund f of=c amount=40 => 409 conflict field=of

        credit x amount=5 => 200 balance=9895
        credit x amount=6 => 409 conflict field=amount
        credit x amount=5 kind=grant => 409 conflict field=kind
        # A debit may carry the id of a credit: ids are unique within their verb.
        debit x amount=5 => 200 balance=9890
        debit x amount=6 => 409 conflict field=amount
        balance => 200 balance=9890 held=0 used=110 requests=2
    "#,
    );
    quotad.assert_reconciled();
}

#[test]
fn calls_that_overtake_each_other_charge_once() {
    let quotad = Sidecar::start();
    quotad.play(
        r#"
        account order initial_balance=1000 => 201
        # Release before its reserve.
        release r1 => 200 outcome=released returned=0 balance=1000
        release r1 => 200 replayed returned=0
        reserve r1 amount=100 => 409 already_released
        settle r1 amount=100 => 409 already_released
        # Settle without a reserve: the money was spent anyway.
        settle r2 amount=100 platform=openai => 200 charged=100 returned=0 unreserved=true late=false balance=900
        settle r2 amount=100 platform=openai => 200 replayed charged=100 unreserved=true balance=900
        settle r2 amount=101 platform=openai => 409 conflict field=amount
        reserve r2 amount=100 => 409 already_settled
        release r2 => 409 already_settled
        refund f2 of=r2 amount=100 => 200 refunded=100 balance=1000
        # Settle after release, release after settle.
        reserve r3 amount=100 => 200 held=100
        release r3 => 200 returned=100
        settle r3 amount=100 => 409 already_released
        extend r3 amount=200 => 409 already_released
        reserve r4 amount=100 => 200 held=100
        settle r4 amount=60 => 200 charged=60
        release r4 => 409 already_settled
        extend r4 amount=200 => 409 already_settled
        # Nothing to refund or extend.
        refund f5 of=never amount=1 => 404 reservation_not_found
        extend never amount=1 => 404 reservation_not_found
        reserve r5 amount=100 => 200 held=100
        refund f5 of=r5 amount=1 => 409 refund_exceeds_charge
        charge r5 amount=100 => 409 conflict
        release r5 => 200 returned=100
        refund f5 of=r5 amount=1 => 409 refund_exceeds_charge
        balance => 200 balance=940 held=0 available=940 used=60 requests=2
        reservation r2 => 200 state=settled charged=100 refunded=100 unreserved=true held=0
        reservation r3 => 200 state=released charged=0 held=0
        reservation r4 => 200 state=settled charged=60 held=0 reserved=100
    "#,
    );
    quotad.assert_reconciled();
}

#[test]
fn a_hold_ends_by_itself_and_a_late_settle_still_charges_once() {
    let quotad = Sidecar::start();
    let begun = Instant::now();
    quotad.play(
        r#"
        account late initial_balance=1000 => 201
        reserve back amount=400 ttl_ms=1000 => 200 available=600
        reserve take amount=300 ttl_ms=1000 on_expiry=charge => 200 available=300
        reserve take2 amount=200 ttl_ms=1000 on_expiry=charge => 200 available=100
    "#,
    );
    quotad.wait_state("late", "back", "expired");
    assert!(begun.elapsed() >= Duration::from_secs(1), "no hold ends before its deadline");
    quotad.play(
        r#"
        account late => 200
        wait take expired
        wait take2 expired
        balance => 200 balance=500 held=0 available=500 used=500 requests=2
        reservation back => 200 charged=0 held=0
        reservation take => 200 charged=300 held=0
        reserve back amount=400 ttl_ms=1000 => 409 already_released
        reserve take amount=300 ttl_ms=1000 on_expiry=charge => 409 already_settled
        extend back amount=500 => 409 already_released
        extend take amount=500 => 409 already_settled
        release back => 200 replayed returned=0
        # Given back at the deadline: the late settle charges what it cost.
        settle back amount=450 => 200 charged=450 returned=0 late=true unreserved=false overdraft=0 balance=50
        settle back amount=450 => 200 replayed charged=450 late=true balance=50
        settle back amount=1 => 409 conflict field=amount
        # Charged at the deadline: the late settle replaces what was charged.
        settle take amount=120 => 200 charged=120 late=true balance=230
        settle take amount=120 => 200 replayed charged=120 late=true balance=230
        settle take2 amount=250 => 200 charged=250 late=true balance=180
        reservation take => 200 state=settled charged=120 late=true
        balance => 200 balance=180 held=0 available=180 used=820 requests=3
    "#,
    );
    quotad.assert_reconciled();
}

#[test]
fn a_stream_settles_in_parts() {
    let quotad = Sidecar::start();
    let limits = json!([
        {"platform": "openai", "metric": "cost", "period": "day", "cap": 900},
        {"platform": "openai", "metric": "tokens", "period": "day", "cap": 100},
        {"platform": "openai", "metric": "requests", "period": "day", "cap": 10},
        {"platform": "openai", "metric": "concurrency", "cap": 1},
    ]);
    quotad.account("s", json!({"initial_balance": 1000, "limits": limits}));
    let counted = |expected: [[i64; 2]; 4]| {
        let sheet = quotad.balance("s");
        for (limit, [used, held]) in sheet["limits"].as_array().unwrap().iter().zip(expected) {
            assert_eq!((&limit["used"], &limit["held"]), (&json!(used), &json!(held)), "{limit}");
        }
    };
    quotad.play(
        r#"
        account s => 200
        reserve r platform=openai amount=500 tokens=40 => 200 held=500 available=500
        settle r amount=100 final=false => 200 outcome=held charged=100 balance=900 available=500
        settle r amount=100 final=false => 200 replayed charged=100 balance=900 available=500
        settle r amount=99 final=false => 409 conflict field=amount
        settle r amount=300 final=false => 200 charged=300 balance=700 available=500
        balance => 200 balance=700 held=200 available=500 used=300 requests=0
        reservation r => 200 state=held charged=300 held=200 reserved=500 parts=2
        reserve second platform=openai amount=1 => 429 limit_exceeded
    "#,
    );
    counted([[300, 200], [0, 40], [0, 1], [0, 1]]);
    quotad.play(
        r#"
        account s => 200
        # More than was held: charged in full, nothing is left of the hold.
        settle r amount=600 final=false => 200 charged=600 balance=400 available=400
        balance => 200 balance=400 held=0
        # The hold grows again over what is charged already.
        extend r amount=700 => 200 held=700 balance=400 available=300
        extend r amount=1101 => 402 insufficient_balance
        extend r amount=901 => 429 limit_exceeded
        balance => 200 balance=400 held=100
        settle r amount=650 => 200 outcome=settled charged=650 returned=50 balance=350 available=350
        settle r amount=650 => 200 replayed charged=650
        balance => 200 balance=350 held=0 used=650 requests=1
    "#,
    );
    counted([[650, 0], [40, 0], [1, 0], [0, 0]]);
    quotad.play(
        r#"
        account s => 200
        # What was charged in parts stays charged when the rest is released.
        reserve q platform=openai amount=200 tokens=10 => 200 available=150
        settle q amount=80 final=false => 200 charged=80 balance=270 available=150
        release q => 200 returned=120 balance=270 available=270
        settle q amount=90 => 409 already_released
        balance => 200 balance=270 held=0 used=730
    "#,
    );
    counted([[730, 0], [40, 0], [1, 0], [0, 0]]);
    quotad.assert_reconciled();
}

#[test]
fn extend_asks_like_a_reserve_and_a_denial_leaves_the_hold() {
    let quotad = Sidecar::start();
    quotad.account("e", json!({"initial_balance": 1000, "limits": [{"metric": "cost", "period": "day", "cap": 800}]}));
    quotad.key("e", "k", json!({"allowance": 600}));
    quotad.play(
        r#"
        account e => 200
        reserve r amount=100 key=k ttl_ms=60000 => 200 held=100
        extend r amount=600 => 200 held=600 balance=1000 available=400
        extend r amount=601 => 402 key_exhausted
        extend r amount=599 => 409 conflict field=amount
        extend r ttl_ms=999 => 400 invalid_request field=ttl_ms
        balance => 200 held=600 available=400
        reserve q amount=100 => 200 held=100 available=300
        extend q amount=201 => 429 limit_exceeded
        extend q amount=200 => 200 held=200 available=200
        release r => 200 returned=600
        release q => 200 returned=200
        reserve short amount=1 ttl_ms=1000 => 200
        extend short ttl_ms=600000 => 200 held=1
    "#,
    );
    let extended = quotad.reservation("e", "short");
    let parse = |field: &str| extended[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let life = parse("expires_at").as_millisecond() - parse("created_at").as_millisecond();
    assert!((600_000..660_000).contains(&life), "the new deadline counts from now: {extended}");
    // A key that is disabled meanwhile stops the stream.
    quotad.play(
        r#"
        account e => 200
        reserve s amount=10 key=k => 200 held=10
        key k status=disabled => 200
        extend s amount=20 => 403 key_disabled
        settle s amount=15 => 200 charged=15
        key k status=enabled allowance=15 => 200
        reserve t amount=1 key=k => 402 key_exhausted
        release short => 200 returned=1
        balance => 200 balance=985 held=0
    "#,
    );
}

#[test]
fn best_effort_takes_what_is_left_and_check_only_takes_nothing() {
    let quotad = Sidecar::start();
    let limits = json!([{"platform": "openai", "metric": "cost", "period": "day", "cap": 700}]);
    quotad.account("b", json!({"initial_balance": 1000, "limits": limits}));
    quotad.key("b", "k", json!({"allowance": 300}));
    quotad.play(
        r#"
        account b => 200
        reserve c mode=check_only amount=1000 => 200 outcome=granted held=0 balance=1000 available=1000
        reserve c mode=check_only amount=1001 => 402 insufficient_balance
        reserve c mode=check_only amount=701 platform=openai => 429 limit_exceeded
        balance => 200 balance=1000 held=0
        # Nothing was held under that id: it is free.
        reserve c amount=50 => 200 held=50
        release c => 200 returned=50

        reserve k1 mode=best_effort amount=5000 min_amount=100 key=k => 200 held=300 available=700
        reserve k1 mode=best_effort amount=5000 min_amount=100 key=k => 200 replayed held=300
        reserve k2 mode=best_effort amount=5000 min_amount=1 key=k => 402 key_exhausted
        reserve l1 mode=best_effort amount=650 min_amount=650 platform=openai => 200 held=650 available=50
        reserve l2 mode=best_effort amount=600 min_amount=10 platform=openai => 200 held=50 available=0
        reserve l3 mode=best_effort amount=600 min_amount=1 => 402 insufficient_balance
        release k1 => 200 returned=300
        reserve l4 mode=best_effort amount=600 min_amount=1 platform=openai => 429 limit_exceeded
        release l1 => 200 returned=650
        release l2 => 200 returned=50
        reserve bad mode=best_effort amount=5 min_amount=6 => 400 invalid_request field=min_amount
        reserve bad mode=sometimes amount=5 => 400 invalid_request field=mode
        balance => 200 balance=1000 held=0 available=1000
    "#,
    );
}

#[test]
fn an_id_may_be_left_to_the_server_or_come_in_a_header() {
    let quotad = Sidecar::start();
    quotad.account("h", json!({"initial_balance": 1000}));
    let made = quotad.reserve(json!({"account": "h", "amount": 10})).expect(200);
    let other = quotad.reserve(json!({"account": "h", "amount": 10})).expect(200);
    assert_ne!(made["id"], other["id"]);
    quotad.settle(json!({"account": "h", "id": made["id"], "amount": 4})).expect(200);
    quotad.settle(json!({"account": "h", "id": other["id"], "amount": 4})).expect(200);
    let call = |path: &str, id: &str, body: serde_json::Value| {
        quotad.gateway.call("POST", path, &[("Idempotency-Key", id)], body.to_string().as_bytes())
    };
    let ask = json!({"account": "h", "amount": 100});
    assert_eq!(call("/v1/reserve", "by-header", ask.clone()).expect(200)["id"], "by-header");
    let again = call("/v1/reserve", "by-header", ask);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.expect(200)["replayed"], true);
    call("/v1/settle", "by-header", json!({"account": "h", "amount": 60})).expect(200);
    call("/v1/refund", "op-1", json!({"account": "h", "of": "by-header", "amount": 10})).expect(200);
    call("/v1/refund", "op-1", json!({"account": "h", "of": "by-header", "amount": 10})).expect(200);
    assert_eq!(quotad.money("h"), [942, 0, 942]);
    // Header and field that contradict each other are one mistake, not two calls.
    let both = call("/v1/reserve", "one", json!({"account": "h", "id": "two", "amount": 1}));
    both.problem(400, "invalid_request");
    let bad = call("/v1/reserve", "not an id", json!({"account": "h", "amount": 1}));
    bad.problem(400, "invalid_request");
    // Ids belong to their account.
    quotad.account("i", json!({"initial_balance": 10}));
    quotad.reserve(json!({"account": "i", "id": "by-header", "amount": 10})).expect(200);
    eventually("holds are counted", Duration::from_secs(1), || quotad.money("i") == [10, 10, 0]);
}
