use std::sync::Arc;

use super::{
    Place,
    cases_recovery::{account_of, chain},
    made::{account, batch, by, credit, mark_of, open_generation, posted, settle, sums},
};
use crate::{
    engine::ports::{AccountPatch, Batch, Mark, PolicyStore, Posting, StoreError},
    quota::entry::Kind,
    sql::Store,
};

/// Shards, each opened, each with an account of its own.
async fn shards(store: &Store, count: u16) -> Vec<Mark> {
    let mut marks = Vec::new();
    for shard in 0..count {
        store.put_account(&by(), &account(&account_of(shard)), &AccountPatch::default()).await.unwrap();
        marks.push(open_generation(store, shard, None, 1).await.unwrap().unwrap());
    }
    marks
}

pub async fn batches_of_many_shards_are_posted_at_once(place: &Place) {
    let store = place.store().await;
    let marks = shards(&store, 70).await;
    let mut batches: Vec<Batch> =
        marks.iter().zip(0..).flat_map(|(mark, shard)| chain(shard, *mark, &account_of(shard), 1, 3)).collect();
    batches.reverse();
    batches[4].from.fence += 1;
    batches[4].to.fence += 1;
    let applied = store.apply(&batches).await.unwrap();
    let moved: Vec<bool> = applied.iter().map(|applied| applied.moved).collect();
    assert!(moved.iter().enumerate().all(|(place, moved)| *moved == (place != 4)), "in the order of the batches");
    for (batch, applied) in batches.iter().zip(&applied) {
        let expected = if applied.moved { batch.to } else { marks[usize::from(batch.shard)] };
        assert_eq!(mark_of(&store, batch.shard).await, Some(expected));
        let expected = if applied.moved { [-3, 3, 3] } else { [0, 0, 0] };
        assert_eq!(sums(&store, &account_of(batch.shard)).await, expected);
    }
    assert!(store.apply(&batches).await.unwrap().iter().all(|applied| !applied.moved), "once more");
    assert!(store.apply(&[]).await.unwrap().is_empty());
}

pub async fn an_error_in_one_batch_posts_none(place: &Place) {
    let store = place.store().await;
    let marks = shards(&store, 2).await;
    let good = batch(0, marks[0], vec![credit(&account_of(0), Kind::Credit, "c", 5)]);
    let ghost = batch(1, marks[1], vec![credit("ghost", Kind::Credit, "c", 5)]);
    let error = store.apply(&[good.clone(), ghost]).await.expect_err("an unknown account");
    assert!(matches!(&error, StoreError::Refused { field: "account", .. }), "{error}");
    assert_eq!(mark_of(&store, 0).await, Some(marks[0]));
    assert_eq!(sums(&store, &account_of(0)).await, [0, 0, 0]);
    assert!(store.apply(&[good]).await.unwrap()[0].moved);
}

/// Posts until everything of every chain is posted, taking batches in the given order of shards; a
/// deadlock or a busy database is no more than a reason to try again.
async fn post_all(store: Arc<Store>, chains: Arc<Vec<Vec<Batch>>>, backwards: bool) -> usize {
    let mut moved = 0;
    loop {
        let mut turn = Vec::new();
        for opened in store.all_opened().await.unwrap() {
            let chain = &chains[usize::from(opened.shard)];
            turn.extend(chain.iter().find(|batch| batch.from == opened.mark).cloned());
        }
        if turn.is_empty() {
            return moved;
        }
        if backwards {
            turn.reverse();
        }
        match store.apply(&turn).await {
            Ok(applied) => moved += applied.iter().filter(|applied| applied.moved).count(),
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn post_by_many(place: &Place, posters: usize, batches: usize, size: usize) {
    const SHARDS: u16 = 6;
    let store = place.store().await;
    let marks = shards(&store, SHARDS).await;
    let chains: Vec<Vec<Batch>> =
        marks.iter().zip(0..).map(|(mark, shard)| chain(shard, *mark, &account_of(shard), batches, size)).collect();
    let chains = Arc::new(chains);
    let mut tasks = tokio::task::JoinSet::new();
    for poster in 0..posters {
        tasks.spawn(post_all(place.store().await, chains.clone(), poster % 2 == 1));
    }
    let moved: usize = tasks.join_all().await.iter().sum();
    assert_eq!(moved, usize::from(SHARDS) * batches, "each batch once, by one of them");
    let count = (batches * size) as i64;
    for (shard, chain) in (0..SHARDS).zip(chains.iter()) {
        assert_eq!(mark_of(&store, shard).await, chain.last().map(|batch| batch.to));
        assert_eq!(sums(&store, &account_of(shard)).await, [-count, count, count]);
        assert_eq!(posted(&store, &account_of(shard)).await.counters.keys[0].1.used, count);
        let rows = store.rows_after(shard, marks[usize::from(shard)].at, 1000).await.unwrap();
        assert!(rows.iter().map(|row| row.at.seq).eq(1..=count as u64), "dense");
    }
}

pub async fn two_posters_of_overlapping_shards_post_each_once(place: &Place) {
    post_by_many(place, 2, 8, 5).await;
}

pub async fn four_sidecars_post_everything_once(place: &Place) {
    post_by_many(place, 4, 10, 20).await;
}

pub async fn a_new_database_is_opened_by_many_at_once(place: &Place) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let url = place.url.clone();
        tasks.spawn(async move {
            let store = crate::sql::open(&url, crate::quota::window::Zone::utc()).await.expect("a database");
            store.put_account(&by(), &account(&format!("a{number}")), &AccountPatch::default()).await.unwrap();
        });
    }
    assert_eq!(tasks.join_all().await.len(), 8);
    let store = place.store().await;
    assert_eq!(store.list_accounts(None, 100).await.unwrap().len(), 8);
}

pub async fn one_of_many_opens_the_first_generation(place: &Place) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = place.store().await;
        tasks.spawn(async move { open_generation(&store, 3, None, 1).await.unwrap() });
    }
    let opened = tasks.join_all().await.into_iter().flatten().count();
    assert_eq!(opened, 1);
    let store = place.store().await;
    store.put_account(&by(), &account("a"), &AccountPatch::default()).await.unwrap();
    let mark = mark_of(&store, 3).await.unwrap();
    assert!(store.apply(&[batch(3, mark, vec![settle("a", "r", 1, None)])]).await.unwrap()[0].moved);
}
