use super::{
    Place,
    made::{account, batch, credit, digest, mark_of, open_generation, post, ready, settle, window},
};
use crate::{
    engine::ports::{Batch, Cause, NO_DIGEST, Opened, Opening, Position, Posting},
    quota::{
        clock::Millis,
        entry::{Entry, Kind},
    },
};

fn at(generation: u32, seq: u64) -> Position {
    Position { generation, seq }
}

pub async fn a_generation_goes_on_with_the_digest(place: &Place) {
    let (store, first) = ready(place).await;
    assert_eq!(first.digest, NO_DIGEST);
    assert_eq!(store.digest_at(1, at(1, 0)).await.unwrap(), Some(NO_DIGEST));
    post(&store, vec![credit("a", Kind::Credit, "1", 1), credit("a", Kind::Credit, "2", 1)]).await;
    let mark = mark_of(&store, 1).await.unwrap();
    let second = open_generation(&store, 1, Some(&mark), 2).await.unwrap().unwrap();
    assert_eq!((second.at, second.digest, second.fence), (at(2, 0), digest(at(1, 2)), mark.fence + 1));
    assert_eq!(store.digest_at(1, at(2, 0)).await.unwrap(), Some(digest(at(1, 2))));
    let third = open_generation(&store, 1, Some(&second), 5).await.unwrap().unwrap();
    assert_eq!((third.at, third.digest), (at(5, 0), digest(at(1, 2))), "also through one without entries");
    assert_eq!(store.digest_at(1, at(5, 0)).await.unwrap(), Some(digest(at(1, 2))));
    assert_eq!(store.digest_at(1, at(3, 0)).await.unwrap(), None, "there was no such generation");
    assert_eq!(store.digest_at(2, at(1, 0)).await.unwrap(), None);
}

pub async fn the_audit_of_a_generation_is_kept(place: &Place) {
    let (store, _) = ready(place).await;
    post(&store, vec![credit("a", Kind::Credit, "1", 1)]).await;
    let mark = mark_of(&store, 1).await.unwrap();
    let opening = Opening {
        generation: 3,
        run_id: "0123456789abcdef".into(),
        cause: Cause::Diverged,
        redone: 7,
        merged: 2,
        seen: Some(at(1, 9)),
        kept_until: Some(Millis(1_795_168_800_000)),
    };
    store.open_generation(1, Some(&mark), &opening).await.unwrap().unwrap();
    let mut session = store.read().await.unwrap();
    let sql = "SELECT cause, run_id, seen, redone, merged, kept_until, last_seq FROM generations ORDER BY generation";
    let rows = session.fetch(sql.into(), &[]).await.unwrap();
    assert_eq!((rows[0].text(0).unwrap(), rows[0].text(1).unwrap()), ("first", "r1"));
    assert_eq!((rows[0].opt_text(2).unwrap(), rows[0].opt_int(5).unwrap(), rows[0].int(6).unwrap()), (None, None, 1));
    let texts: Vec<&str> = (0..3).map(|column| rows[1].text(column).unwrap()).collect();
    assert_eq!(texts, ["diverged", "0123456789abcdef", "1-9"]);
    let numbers: Vec<i64> = (3..6).map(|column| rows[1].int(column).unwrap()).collect();
    assert_eq!(numbers, [7, 2, 1_795_168_800_000]);
}

pub async fn every_open_shard_is_listed(place: &Place) {
    let store = place.store().await;
    assert!(store.all_opened().await.unwrap().is_empty());
    assert_eq!(store.opened(7).await.unwrap(), None);
    let mut expected = Vec::new();
    for shard in [2, 7, 40] {
        let mark = open_generation(&store, shard, None, 1).await.unwrap().unwrap();
        expected.push(Opened { shard, mark, run_id: "r1".into() });
    }
    let mark = open_generation(&store, 7, Some(&expected[1].mark), 4).await.unwrap().unwrap();
    expected[1] = Opened { shard: 7, mark, run_id: "r4".into() };
    assert_eq!(store.all_opened().await.unwrap(), expected);
    assert_eq!(store.opened(7).await.unwrap(), Some(expected[1].clone()));
}

pub async fn rows_come_oldest_first_across_generations(place: &Place) {
    let (store, _) = ready(place).await;
    let entries: Vec<Entry> = (1..=3).map(|n| settle("a", &format!("r{n}"), n, None)).collect();
    post(&store, entries.clone()).await;
    for generation in [2, 4] {
        let mark = mark_of(&store, 1).await.unwrap();
        open_generation(&store, 1, Some(&mark), generation).await.unwrap().unwrap();
        post(&store, vec![settle("a", &format!("g{generation}"), 1, None)]).await;
    }
    let places = |after, most| {
        let store = store.clone();
        async move {
            let rows = store.rows_after(1, after, most).await.unwrap();
            rows.iter().map(|row| (row.at.generation, row.at.seq)).collect::<Vec<_>>()
        }
    };
    let all = [(1, 1), (1, 2), (1, 3), (2, 1), (4, 1)];
    assert_eq!(places(at(0, 0), 10).await, all);
    assert_eq!(places(at(1, 0), 10).await, all);
    assert_eq!(places(at(1, 1), 3).await, all[1..4]);
    assert_eq!(places(at(1, 3), 10).await, all[3..]);
    assert_eq!(places(at(3, 0), 10).await, all[4..], "from where no generation is");
    assert!(places(at(4, 1), 10).await.is_empty());
    assert!(store.rows_after(2, at(0, 0), 10).await.unwrap().is_empty(), "another shard");
    let row = store.rows_after(1, at(1, 1), 1).await.unwrap().remove(0);
    assert_eq!((row.payload, row.digest), (entries[1].pack(), digest(at(1, 2))));
}

pub async fn operations_are_known_in_bulk(place: &Place) {
    let (store, _) = ready(place).await;
    let part = |number: u16| {
        let mut entry = settle("a", "r1", 1, None);
        entry.kind = Kind::Partial;
        entry.record.as_mut().unwrap().parts = number;
        entry
    };
    let many: Vec<Entry> = (0..700).map(|n| settle("a", &format!("m-{n}"), 1, None)).collect();
    post(&store, many.iter().step_by(2).cloned().collect()).await;
    post(&store, vec![settle("a", "r1", 30, None), part(1), credit("a", Kind::Credit, "c1", 5)]).await;
    assert!(store.known(&[]).await.unwrap().is_empty());
    let asked = [
        settle("a", "r1", 99, None),
        part(1),
        part(2),
        credit("a", Kind::Debit, "c1", 5),
        credit("a", Kind::Credit, "c1", 7),
        settle("b", "r1", 30, None),
        settle("a", "r1", 1, None),
    ];
    assert_eq!(store.known(&asked).await.unwrap(), [true, true, false, false, true, false, true]);
    let known = store.known(&many).await.unwrap();
    assert!(known.iter().enumerate().all(|(place, known)| *known == place.is_multiple_of(2)));
}

pub async fn what_was_not_taken_back_is_found(place: &Place) {
    let (store, _) = ready(place).await;
    post(&store, vec![settle("a", "r1", 30, None), settle("a", "r2", 40, None), settle("a", "free", 0, None)]).await;
    assert!(store.uncompensated(10).await.unwrap().is_empty());
    let nothing = credit("a", Kind::Debit, "z", 0);
    let mut only_windows = credit("a", Kind::Reset, "w", 0);
    only_windows.windows = vec![window(86_400, -5)];
    let mut late = settle("a", "r1", 31, None);
    late.at = Millis(late.at.0 + 5);
    let again = vec![late, settle("a", "r2", 41, None), nothing.clone(), only_windows.clone()];
    post(&store, vec![nothing, only_windows]).await;
    let applied = post(&store, again.clone()).await;
    assert_eq!(applied.duplicates.len(), 4);
    let found = store.uncompensated(10).await.unwrap();
    let places: Vec<_> = found.iter().map(|(shard, row)| (*shard, row.at)).collect();
    assert_eq!(
        places,
        [(1, at(1, 7)), (1, at(1, 9)), (1, at(1, 6))],
        "oldest first; what changed nothing is not there"
    );
    assert_eq!(Entry::unpack(&found[0].1.payload).unwrap(), again[1]);
    assert_eq!(store.uncompensated(1).await.unwrap().len(), 1);
    post(&store, vec![credit("a", Kind::Credit, "dup:1-1-7", 41), settle("a", "dup:1-1-6", 1, None)]).await;
    let left: Vec<_> = store.uncompensated(10).await.unwrap().iter().map(|(_, row)| row.at.seq).collect();
    assert_eq!(left, [9, 6], "a settle of that name is no compensation");
    post(&store, vec![credit("a", Kind::Debit, "dup:1-1-6", -1), credit("a", Kind::Credit, "dup:1-1-9", 0)]).await;
    assert!(store.uncompensated(10).await.unwrap().is_empty());
}

/// Batches of a shard, one after the other, before any of them is posted.
pub fn chain(shard: u16, mut from: crate::engine::ports::Mark, of: &str, batches: usize, size: usize) -> Vec<Batch> {
    let mut made = Vec::new();
    for number in 0..batches {
        let entry = |n: usize| settle(of, &format!("s{shard}-{number}-{n}"), 1, Some("k"));
        made.push(batch(shard, from, (0..size).map(entry).collect()));
        from = made[number].to;
    }
    made
}

/// An account for each shard, as there is one shard for each account.
pub fn account_of(shard: u16) -> String {
    account(&format!("acc-{shard}")).as_str().to_owned()
}
