//! Both ends of the sidecar, each part of them alone: requests read and answers written, calls packed
//! for their script and its answer taken apart.

#[path = "harness/cases.rs"]
mod cases;
#[path = "harness/sample.rs"]
mod sample;

use std::{hint::black_box, sync::Arc};

use cases::Cases;
use quotad::{
    engine::{
        ports::{Cost, ReserveCall, SettleCall},
        reserve::Reserved,
        settle::Settled,
    },
    http::bench as http,
    quota::{
        clock::Millis,
        counter::{Head, KeyCounter, WindowCounter},
        fingerprint::Fingerprint,
        id::{AccountId, KeyId, ReservationId},
        limit::GroupField,
        packed::Packer,
        policy::Admission,
        reservation::{Flags, Record, State, WindowRefs},
        tariff::{Groups, PriceTag},
        verdict::LimitState,
    },
    redis::bench as scripts,
};
use redis::Value;

const RESERVE: &[u8] = br#"{"account":"acme","key":"key-1","id":"r-0123456789abcdef","platform":"openai","model":"gpt-4o","estimate":{"prompt_tokens":1200,"max_tokens":800}}"#;
const SETTLE: &[u8] = br#"{"account":"acme","id":"r-0123456789abcdef","model":"gpt-4o","usage":{"prompt_tokens":1180,"completion_tokens":310,"prompt_tokens_details":{"cached_tokens":1024}},"duration_ms":1830,"stream":true}"#;
const NOW: Millis = Millis(1_795_168_800_000);
const DEADLINE: Millis = Millis(NOW.0 + 300_000);
const WINDOW_START_S: u32 = 1_795_132_800;

fn main() {
    let (account, id) =
        (AccountId::new("acme").expect("an id"), ReservationId::new("r-0123456789abcdef").expect("an id"));
    let key = sample::key();
    let admission = sample::admission(&sample::policy(account.clone()), NOW);
    let tag = PriceTag::new(1, Groups::own("default")).pack();
    let (reserved, settled) = (reserved(&account, &id), settled(&account, &id));
    let mut cases = Cases::default();
    requests(&mut cases);
    answers(&mut cases, &reserved, &settled);
    calls(&mut cases, &account, &id, &key, &admission, &tag);
    replies(&mut cases, &admission, &tag);
    cases.run();
}

fn requests(cases: &mut Cases<'_>) {
    assert!(http::reads_reserve(RESERVE) && http::reads_settle(SETTLE) && http::finds("/v1/reserve"));
    cases.add("body of a reserve read", || http::reads_reserve(black_box(RESERVE)));
    cases.add("body of a settle read", || http::reads_settle(black_box(SETTLE)));
    cases.add("route of a reserve found", || http::finds(black_box("/v1/reserve")));
}

fn answers<'a>(cases: &mut Cases<'a>, reserved: &'a Reserved, settled: &'a Settled) {
    assert_eq!(http::write_limits(&reserved.limits, NOW), 2);
    cases.add("answer of a reserve written", || http::write_reserved(black_box(reserved), false, NOW));
    cases.add("answer of a reserve written, verbose", || http::write_reserved(black_box(reserved), true, NOW));
    cases.add("answer of a settle written", || http::write_settled(black_box(settled)));
    cases.add("RateLimit fields written", || http::write_limits(black_box(&reserved.limits), NOW));
}

fn calls<'a>(
    cases: &mut Cases<'a>,
    account: &'a AccountId,
    id: &'a ReservationId,
    key: &'a KeyId,
    admission: &'a Admission,
    tag: &'a [u8],
) {
    let fingerprint = Fingerprint::of("bench", &[Some("1")]);
    cases.add("arguments of a reserve packed", move || {
        let call = ReserveCall {
            account,
            id,
            version: 1,
            admission,
            key: Some(key),
            amount: sample::AMOUNT,
            min_amount: sample::AMOUNT,
            tokens: sample::TOKENS,
            prompt_cost: sample::COST,
            ttl_ms: sample::TTL_MS,
            check_only: false,
            charge_on_expiry: false,
            fingerprint,
            price_tag: tag,
        };
        scripts::pack_reserve(black_box(&call)).expect("few limits")
    });
    cases.add("arguments of a settle packed", move || {
        let call = SettleCall {
            account,
            id,
            cost: Cost::Units(sample::COST),
            tokens: Some(sample::TOKENS),
            last: true,
            clamped: false,
            fingerprint,
            price_tag: Some(tag),
            log: b"{}",
        };
        scripts::pack_settle(black_box(&call)).expect("a short tag")
    });
}

/// What the scripts answer: counters and record as they are stored.
fn replies(cases: &mut Cases<'_>, admission: &Admission, tag: &[u8]) {
    let codes: Vec<_> =
        admission.groups.iter().flat_map(|group| &group.gauges).map(|gauge| gauge.limit.code()).collect();
    let counter = |code| WindowCounter { code, start_s: WINDOW_START_S, used: 5_000_000, held: sample::AMOUNT };
    let windows: Vec<_> = codes.iter().copied().map(counter).collect();
    let counters = codes.iter().map(|code| (*code, WINDOW_START_S)).collect();
    let refs = WindowRefs { field: GroupField::new("openai", "*", None), counters };
    let head = Head { version: 1, balance: 1 << 40, held: sample::AMOUNT, used: 5_000_000, requests: 41, now: NOW };
    let key = KeyCounter { used: 5_000_000, held: sample::AMOUNT, requests: 41 };
    let record = Record { windows: [refs].into_iter().collect(), ..record(tag) };
    // As `lua/lib/answer.lua` packs it.
    let answer = |windows: &[WindowCounter]| {
        let (record, windows) = (record.pack(), WindowCounter::pack_all(windows));
        let mut packer = Packer::default();
        packer.uint::<1>(1).uint::<6>(NOW.0.unsigned_abs()).text(&head.pack()).text(&key.pack());
        packer.uint::<2>(record.len() as u64).raw(&record).text(&[]);
        if !windows.is_empty() {
            packer.uint::<2>(windows.len() as u64).raw(&windows);
        }
        Value::BulkString(packer.finish())
    };
    let (reserve, settle) = (answer(&windows), answer(&[]));
    let unpacked = scripts::unpack(reserve.clone()).expect("an answer");
    assert_eq!((unpacked.head, unpacked.windows.len()), (Some(head), 1));
    // The room owns what it takes apart, so each time contains a copy.
    cases.add("answer to a reserve unpacked", move || scripts::unpack(black_box(&reserve).clone()));
    cases.add("answer to a settle unpacked", move || scripts::unpack(black_box(&settle).clone()));
}

fn record(tag: &[u8]) -> Record {
    Record {
        state: State::Held,
        flags: Flags::default(),
        fingerprint: Fingerprint::of("bench", &[Some("1")]),
        created: NOW,
        expires: DEADLINE,
        held: sample::AMOUNT,
        tokens: sample::TOKENS,
        prompt_cost: sample::COST,
        charged: 0,
        refunded: 0,
        overdraft: 0,
        parts: 0,
        key: Some(sample::key()),
        price_tag: tag.to_vec(),
        windows: Default::default(),
    }
}

fn reserved(account: &AccountId, id: &ReservationId) -> Reserved {
    let state = |limit| LimitState {
        limit: Arc::new(limit),
        key: None,
        used: 5_000_000,
        held: sample::AMOUNT,
        resets_at: Some(DEADLINE),
    };
    Reserved {
        account: account.clone(),
        id: id.clone(),
        held: sample::AMOUNT,
        trusted: false,
        expires_at: DEADLINE,
        balance: Some(10_000_000_000),
        available: Some(9_998_900_000),
        group: None,
        limits: sample::limits().into_iter().map(state).collect(),
    }
}

fn settled(account: &AccountId, id: &ReservationId) -> Settled {
    Settled {
        account: account.clone(),
        id: id.clone(),
        charged: Some(sample::COST),
        returned: Some(sample::AMOUNT - sample::COST),
        overdraft: 0,
        late: false,
        unreserved: false,
        clamped: false,
        last: true,
        balance: Some(9_999_523_000),
        available: Some(9_999_523_000),
    }
}
