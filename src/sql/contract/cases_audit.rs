use super::{
    Place,
    made::{account, by, credit, mark_of, open_generation, post, posted, ready, settle, window},
};
use crate::{
    engine::ports::{AccountPatch, LedgerStore, Ledgered, PolicyStore, Position, Posting},
    quota::{
        entry::{Entry, Kind},
        tally::Tally,
    },
    sql::Store,
};

const END: Position = Position { generation: u32::MAX, seq: u64::MAX >> 1 };

fn charge(id: &str, cost: i64, start_s: u32) -> Entry {
    Entry { windows: vec![window(start_s, cost)], ..settle("a", id, cost, Some("k")) }
}

async fn ledger(store: &Store, upto: Position) -> Tally {
    store.audit(&account("a"), Ledgered::default(), upto).await.unwrap().unwrap().ledger.tally
}

pub async fn the_sums_are_what_the_ledger_adds_up_to(place: &Place) {
    let (store, _) = ready(place).await;
    assert_eq!(store.audit(&account("b"), Ledgered::default(), END).await.unwrap(), None);
    assert_eq!(ledger(&store, END).await, Tally::default());
    // More than one page, two generations, a duplicate, another account and windows that roll.
    let many: Vec<Entry> = (0..1_200).map(|n| charge(&format!("r{n}"), 1, 86_400)).collect();
    post(&store, many).await;
    let mark = mark_of(&store, 1).await.unwrap();
    open_generation(&store, 1, Some(&mark), 4).await.unwrap().unwrap();
    let mut again = charge("r7", 1, 86_400);
    again.record.as_mut().unwrap().charged = 2;
    store.put_account(&by(), &account("b"), &AccountPatch::default()).await.unwrap();
    let more = vec![charge("s1", 5, 172_800), again, settle("b", "x", 9, None), credit("a", Kind::Credit, "c", 3)];
    assert_eq!(post(&store, more).await.duplicates.len(), 1);
    let audit = store.audit(&account("a"), Ledgered::default(), END).await.unwrap().unwrap();
    assert_eq!(audit.stored, Tally::of(&posted(&store, "a").await.counters));
    assert_eq!(audit.ledger.tally, audit.stored, "rejected rows count");
    assert_eq!((audit.ledger.tally.balance, audit.ledger.tally.requests), (-1_203, 1_202));
    assert_eq!(audit.ledger.at, Position { generation: 4, seq: 4 });

    // In two parts: what is known need not be read again, and the rest comes as it is.
    let half = Position { generation: 1, seq: 1_100 };
    let first = store.audit(&account("a"), Ledgered::default(), half).await.unwrap().unwrap();
    assert_eq!((first.ledger.tally.balance, first.ledger.at, first.tail.len()), (-1_100, half, 103));
    let rest = store.audit(&account("a"), first.ledger, END).await.unwrap().unwrap();
    assert_eq!(rest.ledger, audit.ledger);
    assert_eq!(rest.tail, []);
}

pub async fn sums_are_set_to_what_the_ledger_adds_up_to(place: &Place) {
    let (store, _) = ready(place).await;
    post(&store, vec![charge("r1", 30, 86_400), charge("r2", 12, 86_400)]).await;
    let right = ledger(&store, END).await;
    let nothing = store.mend_sums(&account("a"), Ledgered::default()).await.unwrap();
    assert_eq!(nothing, Some([right.clone(), right.clone()]));
    let mut session = store.write().await.unwrap();
    for sql in [
        "UPDATE accounts SET balance = 1000, used = 1, requests = 0 WHERE account = 'a'",
        "UPDATE key_usage SET used = 7 WHERE account = 'a'",
        "INSERT INTO key_usage (account, key_id, used, requests) VALUES ('a', 'ghost', 1, 1)",
        "UPDATE windows SET start_s = 5 WHERE account = 'a'",
    ] {
        assert_eq!(session.execute(sql.into(), &[]).await.unwrap(), 1, "{sql}");
    }
    session.commit().await.unwrap();
    let [before, after] = store.mend_sums(&account("a"), Ledgered::default()).await.unwrap().unwrap();
    assert_eq!((before.balance, before.keys.len()), (1_000, 2));
    assert_eq!(after, right);
    assert_eq!(Tally::of(&posted(&store, "a").await.counters), right);
    post(&store, vec![charge("r3", 1, 86_400)]).await;
    assert_eq!(Tally::of(&posted(&store, "a").await.counters), ledger(&store, END).await);
    assert_eq!(store.mend_sums(&account("nobody"), Ledgered::default()).await.unwrap(), None);
}

pub async fn sums_are_mended_beside_a_poster(place: &Place) {
    let (store, _) = ready(place).await;
    let mending = async {
        for _ in 0..20 {
            let mut session = store.write().await.unwrap();
            let wrong = "UPDATE accounts SET balance = balance + 1000 WHERE account = 'a'";
            session.execute(wrong.into(), &[]).await.unwrap();
            session.commit().await.unwrap();
            let [before, after] = store.mend_sums(&account("a"), Ledgered::default()).await.unwrap().unwrap();
            assert_eq!(before.balance - after.balance, 1_000);
        }
    };
    let posting = async {
        for n in 0..60 {
            post(&store, vec![charge(&format!("r{n}"), 1, 86_400)]).await;
        }
    };
    tokio::join!(mending, posting);
    let audit = store.audit(&account("a"), Ledgered::default(), END).await.unwrap().unwrap();
    assert_eq!((audit.stored.balance, audit.stored.used), (-60, 60));
    assert_eq!(audit.stored, audit.ledger.tally);
    assert_eq!(store.opened(1).await.unwrap().unwrap().mark.at.seq, 60);
}
