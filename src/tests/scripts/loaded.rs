//! Loaded accounts: which there are, what they hold, mending and unloading them.

use quotad::{
    engine::ports::{Counters, MendCall, Position, Reply, Status, Stream, Unavailable},
    quota::{
        clock::Millis,
        counter::{AccountCounters, Head, KeyCounter, WindowCounter},
        id::AccountId,
        limit::{Metric, Period},
    },
};

use crate::bench::{Ask, Bench, ask, code, field, gauge, group, id, key};

const DAY: u32 = 1_795_132_800;

async fn posted(bench: &Bench) -> Position {
    bench.redis.meta(bench.shard).await.unwrap().unwrap().top
}

async fn unload(bench: &Bench, posted: Position, posted_at: i64) -> Reply {
    bench.redis.unload(&bench.account, posted, Millis(posted_at)).await.unwrap()
}

#[tokio::test]
async fn an_idle_account_goes_when_the_ledger_has_it_all() {
    let bench = Bench::new(1_000).await;
    ask("c1", 10).charge(&bench, false, false).await;
    let before_last = posted(&bench).await;
    let first_at = bench.entries().await[0].at;
    bench.advance(5).await;
    ask("c2", 10).charge(&bench, false, false).await;
    let last = posted(&bench).await;
    let older = Position { generation: last.generation - 1, ..last };
    let before = bench.server.dump();
    for posted in [before_last, older] {
        assert_eq!(unload(&bench, posted, first_at.0).await.status, Status::Idle, "{posted:?}");
    }
    assert_eq!(bench.server.dump(), before);
    let reply = unload(&bench, last, 0).await;
    assert_eq!((reply.status, reply.head.unwrap().balance), (Status::Done, 980));
    assert_eq!(bench.redis.read_account(&bench.account).await.unwrap(), None);
    assert_eq!(unload(&bench, last, 0).await.status, Status::Absent);
}

#[tokio::test]
async fn an_account_that_was_last_written_before_a_posted_entry_goes() {
    let bench = Bench::new(1_000).await;
    ask("c1", 10).charge(&bench, false, false).await;
    let first = posted(&bench).await;
    let written = bench.head().await.now;
    ask("c2", 10).charge(&bench, false, false).await;
    let before = Position { seq: 0, ..first };
    assert_eq!(unload(&bench, before, written.0).await.status, Status::Idle, "it may be that very entry");
    let written = bench.head().await.now;
    assert_eq!(unload(&bench, before, written.0 + 1).await.status, Status::Done);
}

#[tokio::test]
async fn an_account_that_holds_anything_stays() {
    let counters = |head: i64, key_held: i64, window: i64| AccountCounters {
        head: Head { version: 1, held: head, ..Head::default() },
        keys: vec![
            (key("a"), KeyCounter { used: 7, held: 0, requests: 1 }),
            (key("k"), KeyCounter { used: 0, held: key_held, requests: 0 }),
        ],
        groups: vec![(
            field(),
            [(Metric::Cost, Period::Day, 0), (Metric::Concurrency, Period::None, window)]
                .into_iter()
                .map(|(metric, period, held)| WindowCounter { code: code(metric, period), start_s: 0, used: 5, held })
                .collect(),
        )],
    };
    for (head, key_held, window, status) in
        [(1, 0, 0, Status::Idle), (0, 1, 0, Status::Idle), (0, 0, 1, Status::Idle), (0, 0, 0, Status::Done)]
    {
        let bench = Bench::new(0).await;
        assert_eq!(unload(&bench, posted(&bench).await, 0).await.status, Status::Done);
        bench.load(&counters(head, key_held, window)).await;
        assert_eq!(unload(&bench, posted(&bench).await, 0).await.status, status, "{head} {key_held} {window}");
    }
}

/// The loader began while the account was here and read SQL before it was charged; then the account was
/// posted and unloaded. Installing what the loader read would give the charge back.
#[tokio::test]
async fn an_unload_ends_a_load_that_read_what_is_spent_since() {
    let bench = Bench::new(1_000).await;
    let nonce = bench.redis.begin_load(&bench.account).await.unwrap();
    let read = bench.counters().await;
    ask("c1", 10).charge(&bench, false, false).await;
    assert_eq!(unload(&bench, posted(&bench).await, 0).await.status, Status::Done);
    assert_eq!(bench.redis.hydrate(&bench.account, nonce, &read).await.unwrap().status, Status::Idle);
    assert_eq!(bench.redis.read_account(&bench.account).await.unwrap(), None);
}

#[tokio::test]
async fn the_loaded_accounts_of_a_shard_are_listed_in_pages() {
    let bench = Bench::new(0).await;
    let names = (0..).map(|n| AccountId::new(format!("many:{n}")).unwrap());
    let mine: Vec<AccountId> = names.filter(|name| bench.redis.shard_of(name) == bench.shard).take(1_200).collect();
    for account in &mine {
        let nonce = bench.redis.begin_load(account).await.unwrap();
        let head = Head { now: Millis(7), ..Head::default() };
        let counters = AccountCounters { head, ..AccountCounters::default() };
        bench.redis.hydrate(account, nonce, &counters).await.unwrap();
    }
    let (mut found, mut cursor, mut pages) = (std::collections::BTreeMap::new(), 0, 0);
    loop {
        let (next, page) = bench.redis.loaded(bench.shard, cursor).await.unwrap();
        assert!(page.len() < 1_000, "a page is bounded");
        found.extend(page);
        pages += 1;
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert!(pages > 1);
    assert_eq!(found.len(), 1_201, "these and the bench's own");
    assert!(mine.iter().all(|account| found[account] == Millis(7)));
    bench.redis.stop(bench.shard);
    assert!(matches!(bench.redis.loaded(bench.shard, 0).await, Err(Unavailable::Recovering)));
}

#[tokio::test]
async fn the_live_holds_of_an_account_are_those_of_no_other() {
    let mut bench = Bench::new(1_000_000).await;
    let mut names = (0..).map(|n| AccountId::new(format!("acc{n}")).unwrap());
    let other = names.find(|name| bench.redis.shard_of(name) == bench.shard).unwrap();
    for n in 0..700 {
        bench.reserve(&ask(&format!("r{n}"), n)).await;
    }
    bench.settle("r3", 1).await;
    bench.release("r4").await;
    bench.partial("r5", 2).await;
    let own = std::mem::replace(&mut bench.account, other);
    bench
        .load(&AccountCounters { head: Head { version: 1, balance: 10, ..Head::default() }, ..Default::default() })
        .await;
    bench.reserve(&ask("r1", 9)).await;
    let holds = bench.redis.listed(&bench.account).await.unwrap().holds;
    assert_eq!(holds.iter().map(|(id, record)| (id.as_str(), record.held)).collect::<Vec<_>>(), [("r1", 9)]);
    bench.account = own;
    let holds = bench.redis.listed(&bench.account).await.unwrap().holds;
    assert_eq!(holds.len(), 698);
    assert_eq!(holds.iter().map(|(_, record)| record.rest()).sum::<i64>(), bench.head().await.held);
    assert!(holds.iter().any(|(name, record)| *name == id("r5") && record.rest() == 3));
    bench.fence().await;
    assert!(matches!(bench.redis.listed(&bench.account).await, Err(Unavailable::Recovering)));
}

#[tokio::test]
async fn fields_are_mended_together_and_only_from_what_was_seen() {
    let bench = Bench::new(1_000).await;
    let cost = gauge(Metric::Cost, Period::Day, DAY, None);
    let charged = Ask { key: Some(key("k")), groups: vec![group(&[cost])], ..ask("c1", 10) };
    charged.charge(&bench, false, false).await;
    let counters = bench.counters().await;
    let head = counters.head;
    let mended = Head { balance: 995, used: 5, ..head };
    let window = WindowCounter::pack_all(&counters.groups[0].1);
    let name = field().as_str().as_bytes().to_vec();
    let key_field = b"k\x1fk".to_vec();
    let new_key = (b"k\x1fnew".to_vec(), Vec::new(), KeyCounter { used: 1, held: 0, requests: 1 }.pack());
    let mut fields = vec![
        (b"h".to_vec(), head.pack(), mended.pack()),
        (name, window, Vec::new()),
        new_key,
        (key_field, KeyCounter::default().pack(), KeyCounter::default().pack()),
    ];
    let before = bench.server.dump();
    let call = MendCall { account: &bench.account, fields: &fields };
    assert_eq!(bench.redis.mend(&call).await.unwrap().status, Status::Idle, "the last is not what was seen");
    assert_eq!(bench.server.dump(), before);
    fields.pop();
    let call = MendCall { account: &bench.account, fields: &fields };
    let reply = bench.redis.mend(&call).await.unwrap();
    assert_eq!((reply.status, reply.head), (Status::Done, Some(mended)));
    let after = bench.counters().await;
    assert_eq!((after.head, after.keys.len(), after.groups.len()), (mended, 2, 0));
    assert_eq!(bench.entries().await.len(), 1, "no entry of its own");
    assert_eq!(bench.redis.mend(&call).await.unwrap().status, Status::Idle, "a repetition sees that it is done");
    let headless = [(b"h".to_vec(), mended.pack(), Vec::new())];
    let call = MendCall { account: &bench.account, fields: &headless };
    assert!(matches!(bench.redis.mend(&call).await, Err(Unavailable::Corrupt(_))), "a head is never removed");
}
