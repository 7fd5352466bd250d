//! What only servers do: be away, hang, refuse, be somebody's replica.

use std::time::{Duration, Instant};

use super::{
    MariaDb, Place, Postgres, SqlServer,
    made::{account, by, credit, mark_of, post, ready},
    open,
    sql_server::{Kind as ServerKind, PASSWORD},
};
use crate::{
    engine::ports::{AccountPatch, PolicyStore, Posting, StoreError},
    quota::{entry::Kind, window::Zone},
};

async fn sentence_of(url: &str) -> String {
    open(url, Zone::utc()).await.err().expect("no database").to_string()
}

/// A server that is killed, comes back, hangs and goes on: `Unavailable` meanwhile, and the same store
/// works after.
async fn outages_are_told(mut server: SqlServer) {
    let place = Place::of(&server);
    let (store, _) = ready(&place).await;
    post(&store, vec![credit("a", Kind::Credit, "1", 1)]).await;
    server.kill();
    assert!(matches!(store.opened(1).await, Err(StoreError::Unavailable(_))));
    server.restart();
    post(&store, vec![credit("a", Kind::Credit, "2", 1)]).await;
    assert_eq!(mark_of(&store, 1).await.unwrap().at.seq, 2);
    server.freeze();
    let begun = Instant::now();
    assert!(matches!(store.opened(1).await, Err(StoreError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(15), "took {:?}", begun.elapsed());
    server.thaw();
    post(&store, vec![credit("a", Kind::Credit, "3", 1)]).await;
    assert_eq!(mark_of(&store, 1).await.unwrap().at.seq, 3);
}

/// A sidecar that was stopped in the middle of a transaction keeps its locks for some seconds only.
async fn a_stopped_owner_lets_go(server: &SqlServer) {
    let place = Place::of(server);
    let (store, mark) = ready(&place).await;
    let mut stopped = store.write().await.unwrap();
    let sql = format!("SELECT shard FROM shards WHERE shard = 1{}", store.backend.dialect().for_update);
    stopped.fetch(sql.into(), &[]).await.unwrap();
    let other = place.store().await;
    let begun = Instant::now();
    post(&other, vec![credit("a", Kind::Credit, "1", 1)]).await;
    assert!(begun.elapsed() > Duration::from_secs(1), "the lock was not held");
    assert!(stopped.commit().await.is_err(), "its transaction is gone");
    assert_eq!(mark_of(&store, 1).await.unwrap().at.seq, mark.at.seq + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_be_away() {
    outages_are_told(Postgres::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_may_be_away() {
    outages_are_told(MariaDb::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_looked_at_before_it_is_used() {
    let server = Postgres::start();
    let url = server.database();
    a_stopped_owner_lets_go(&server).await;
    assert!(sentence_of(&format!("{url}?sslmode=require")).await.contains("PostgreSQL"));
    server.query("", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    assert!(sentence_of(&server.url("latin")).await.contains("UTF8"));
    server.query("", "ALTER DATABASE q0 SET default_transaction_read_only = on");
    assert!(sentence_of(&url).await.contains("only reads"));
    let unknown = url.replace("quotad@", "nobody:hunter2-secret@");
    let sentence = sentence_of(&unknown).await;
    assert!(sentence.contains("nobody") && !sentence.contains("hunter2"), "{sentence}");
    settings_are_forced(&server).await;
}

/// Whatever the server is told elsewhere.
async fn settings_are_forced(server: &SqlServer) {
    let place = Place::of(server);
    let name = place.url.rsplit_once('/').unwrap().1.to_owned();
    server.query("", &format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    let store = place.store().await;
    let rows = store.write().await.unwrap().fetch("SHOW synchronous_commit".into(), &[]).await.unwrap();
    assert_eq!(rows[0].text(0).unwrap(), "on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_is_looked_at_before_it_is_used() {
    let server = MariaDb::start();
    let url = server.database();
    a_stopped_owner_lets_go(&server).await;
    assert_eq!(server.kind, ServerKind::MariaDb);
    let store = open(&url.replace("mysql://", "mariadb://"), Zone::utc()).await.expect("by its own name too");
    store.put_account(&by(), &account("a"), &AccountPatch::default()).await.unwrap();
    store.close().await;
    assert!(sentence_of(&format!("{url}?ssl-mode=required")).await.contains("MySQL"));
    let sentence = sentence_of(&url.replace(PASSWORD, "hunter2-secret")).await;
    assert!(sentence.contains("quotad") && !sentence.contains("hunter2"), "{sentence}");
    // As if another process had died in the middle of the migration.
    server
        .query("q0", "UPDATE _sqlx_migrations SET success = FALSE; DROP TABLE tariffs; DROP TRIGGER ledger_keeps_rows");
    let store = open(&url, Zone::utc()).await.expect("a migration that goes on");
    assert_eq!(store.tariff_version().await.unwrap(), 0);
    assert!(store.policy(&account("a")).await.unwrap().is_some(), "nothing was lost by that");
    server.query("", "SET GLOBAL max_allowed_packet = 1048576");
    assert!(sentence_of(&url).await.contains("max_allowed_packet"));
    server.query("", "SET GLOBAL max_allowed_packet = 16777216; SET GLOBAL read_only = 1");
    assert!(sentence_of(&url).await.contains("only reads"));
}

/// With TLS and the right authority the server is known, with another one it is refused.
async fn tls_is_checked(server: SqlServer, verify: &str, authority: &str) {
    let url = server.database();
    let ca = server.authority();
    let store = open(&format!("{url}?{verify}&{authority}={}", ca.display()), Zone::utc()).await.expect("over TLS");
    store.put_account(&by(), &account("a"), &AccountPatch::default()).await.unwrap();
    let mut session = store.read().await.unwrap();
    let sql = match server.kind {
        ServerKind::Postgres => "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        ServerKind::MariaDb => {
            "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'ssl_version'"
        }
    };
    let rows = session.fetch(sql.into(), &[]).await.unwrap();
    assert!(rows[0].text(0).unwrap().starts_with("TLS"), "{rows:?}");
    let sentence = sentence_of(&format!("{url}?{verify}")).await;
    assert!(sentence.contains("certificate"), "the system's authorities do not know it: {sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_speaks_tls() {
    tls_is_checked(Postgres::start_with_tls(), "sslmode=verify-full", "sslrootcert").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_speaks_tls() {
    tls_is_checked(MariaDb::start_with_tls(), "ssl-mode=VERIFY_IDENTITY", "ssl-ca").await;
}
