//! Credit, debit, initial balance, close; and reset.

use quotad::{
    engine::ports::{AdjustCall, Counters, Reply, ResetCall, Status},
    quota::{
        amount::COUNTER_MAX,
        entry::Kind,
        limit::{Metric, Period},
    },
};

use crate::bench::{Ask, Bench, ask, code, field, gauge, group, op, op_numbers, print};

async fn adjust(bench: &Bench, kind: Kind, name: &str, amount: i64, force: bool) -> Reply {
    let call = AdjustCall {
        account: &bench.account,
        kind,
        op_id: &op(name),
        amount,
        force,
        fingerprint: print(&format!("{amount}")),
        log: br#"{"note":"n"}"#,
    };
    bench.redis.adjust(&call).await.unwrap()
}

#[tokio::test]
async fn a_credit_adds_once_for_each_operation_and_kind() {
    let bench = Bench::new(0).await;
    let reply = adjust(&bench, Kind::Credit, "o1", 500, false).await;
    assert_eq!((reply.status, op_numbers(&reply)), (Status::Done, Some((500, 500))));
    let before = bench.server.dump();
    let again = adjust(&bench, Kind::Credit, "o1", 500, false).await;
    assert_eq!((again.status, op_numbers(&again)), (Status::Replayed, Some((500, 500))));
    assert_eq!(adjust(&bench, Kind::Credit, "o1", 501, false).await.status, Status::Conflict);
    assert_eq!(bench.server.dump(), before);
    assert_eq!(adjust(&bench, Kind::Initial, "o1", 7, false).await.status, Status::Done, "another kind");
    assert_eq!(bench.money().await, [507, 0, 0, 0]);
    assert_eq!(adjust(&bench, Kind::Credit, "o2", COUNTER_MAX, false).await.status, Status::OutOfRange);
    let entry = bench.entries().await.remove(0);
    assert_eq!((entry.kind, entry.balance, entry.used, entry.op_id.as_str()), (Kind::Credit, 500, 0, "o1"));
    assert_eq!((entry.record, entry.windows.len(), entry.log), (None, 0, br#"{"note":"n"}"#.to_vec()));
}

#[tokio::test]
async fn a_debit_takes_what_is_not_held_unless_forced() {
    let bench = Bench::new(100).await;
    bench.reserve(&ask("r1", 60)).await;
    assert_eq!(adjust(&bench, Kind::Debit, "o1", 41, false).await.status, Status::InsufficientBalance);
    assert_eq!(adjust(&bench, Kind::Debit, "o1", 40, false).await.status, Status::Done, "a denial is not remembered");
    let reply = adjust(&bench, Kind::Debit, "o2", 100, true).await;
    assert_eq!((reply.status, op_numbers(&reply)), (Status::Done, Some((100, -40))));
    assert_eq!(bench.ledger().await, [(Kind::Debit, -40), (Kind::Debit, -100)]);
    assert_eq!(adjust(&bench, Kind::Debit, "o3", 1 << 53, true).await.status, Status::OutOfRange);
}

#[tokio::test]
async fn a_close_takes_everything_once_nothing_is_held() {
    let bench = Bench::new(100).await;
    bench.reserve(&ask("r1", 60)).await;
    assert_eq!(adjust(&bench, Kind::Close, "v2", 0, false).await.status, Status::Idle);
    bench.settle("r1", 30).await;
    let reply = adjust(&bench, Kind::Close, "v2", 0, false).await;
    assert_eq!((reply.status, op_numbers(&reply)), (Status::Done, Some((70, 0))));
    assert_eq!(adjust(&bench, Kind::Close, "v2", 0, false).await.status, Status::Replayed);
    assert_eq!(bench.money().await, [0, 0, 30, 1]);
    assert_eq!(bench.ledger().await, [(Kind::Settle, -30), (Kind::Close, -70)]);
}

#[tokio::test]
async fn a_close_of_debt_forgives_it() {
    let bench = Bench::new(-5).await;
    assert_eq!(adjust(&bench, Kind::Close, "v2", 0, false).await.status, Status::Done);
    assert_eq!(bench.ledger().await, [(Kind::Close, 5)]);
    assert_eq!(adjust(&bench, Kind::Close, "v3", 0, false).await.status, Status::Done);
    assert_eq!(bench.money().await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn a_reset_clears_one_counter_and_leaves_the_others() {
    let bench = Bench::new(1_000).await;
    let (day, week) = (code(Metric::Cost, Period::Day), code(Metric::Cost, Period::Week));
    let gauges = [gauge(Metric::Cost, Period::Day, 1_000, None), gauge(Metric::Cost, Period::Week, 500, None)];
    let limited = |name: &str| Ask { groups: vec![group(&gauges)], ..ask(name, 100) };
    bench.reserve(&limited("r1")).await;
    bench.settle("r1", 80).await;
    bench.reserve(&limited("r2")).await;
    let call = ResetCall { account: &bench.account, op_id: &op("o1"), field: &field(), codes: &[week], log: b"" };
    let reply = bench.redis.reset(&call).await.unwrap();
    assert_eq!((reply.status, reply.windows[0][0].code), (Status::Done, week), "the call's codes first");
    let [day, week] = [bench.gauge(&field(), day).await.unwrap(), bench.gauge(&field(), week).await.unwrap()];
    assert_eq!((day.start_s, day.used, day.held), (1_000, 80, 100));
    assert_eq!((week.start_s, week.used, week.held), (500, 0, 100));
    let entry = bench.entries().await.remove(1);
    assert_eq!((entry.kind, entry.balance, entry.used), (Kind::Reset, 0, 0));
    assert_eq!((entry.windows.len(), entry.windows[0].code, entry.windows[0].used), (1, week.code, -80));

    // What is used after it stays used when the call is repeated.
    bench.settle("r2", 30).await;
    assert_eq!(bench.redis.reset(&call).await.unwrap().status, Status::Replayed);
    assert_eq!(bench.gauge(&field(), week.code).await.unwrap().used, 30);
    let unknown = ResetCall { op_id: &op("o2"), codes: &[code(Metric::Tokens, Period::Day)], ..call };
    assert_eq!(bench.redis.reset(&unknown).await.unwrap().status, Status::Done);
    assert_eq!(bench.gauge(&field(), week.code).await.unwrap().used, 30);
}
