//! Databases of the first version go on.

use sqlx::{ConnectOptions as _, Executor as _, sqlite::SqliteConnectOptions};

use super::{
    Place,
    made::{mark_of, post, settle, sums},
};
use crate::engine::ports::{NO_DIGEST, Position, Posting};

#[tokio::test]
async fn a_database_of_the_first_version_goes_on() {
    let place = Place::sqlite();
    let path = std::path::Path::new(place.url.strip_prefix("sqlite://").unwrap());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut old = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    sqlx::migrate!("src/sql/migrations/sqlite").run_to(1, &mut old).await.unwrap();
    old.execute(
        "INSERT INTO accounts (account, version, status, price_group, credit_limit, zone, initial_op, created_at, \
         changed_at, balance, used, requests) VALUES ('a', 1, 'enabled', 'default', 0, 'UTC', 'v1', 0, 0, -60, 60, 2);
         INSERT INTO shards VALUES (1, 1, 2, '0000000000000000000100000000000000000002', 1);
         INSERT INTO generations (shard, generation, opened_at) VALUES (1, 1, 0);",
    )
    .await
    .unwrap();
    for (seq, status) in [(1, "posted"), (2, "rejected")] {
        let at = Position { generation: 1, seq };
        sqlx::query(
            "INSERT INTO ledger (shard, generation, seq, account, op_id, kind, part, status, at, balance, used, \
             requests, tokens, digest, payload) VALUES (1, 1, ?, 'a', 'r1', 'settle', 0, ?, 0, -30, 30, 1, 10, ?, ?)",
        )
        .bind(seq as i64)
        .bind(status)
        .bind(String::from_utf8(super::made::digest(at).to_vec()).unwrap())
        .bind(settle("a", "r1", 30, None).pack())
        .execute(&mut old)
        .await
        .unwrap();
    }
    drop(old);
    let store = place.store().await;
    let opened = store.opened(1).await.unwrap().unwrap();
    assert_eq!((opened.mark.at.seq, opened.run_id.as_str()), (2, ""), "it belongs to no known Redis");
    assert_eq!(store.digest_at(1, Position { generation: 1, seq: 0 }).await.unwrap(), Some(NO_DIGEST));
    let open: Vec<_> = store.uncompensated(10).await.unwrap().iter().map(|(shard, row)| (*shard, row.at.seq)).collect();
    assert_eq!(open, [(1, 2)], "a duplicate of that time is found too");
    post(&store, vec![settle("a", "r2", 1, None)]).await;
    assert_eq!(sums(&store, "a").await, [-61, 61, 3]);
    assert_eq!(mark_of(&store, 1).await.unwrap().at.seq, 3);
    assert!(store.write().await.unwrap().execute("DELETE FROM ledger".into(), &[]).await.is_err(), "still guarded");
}
