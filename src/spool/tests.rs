//! Crashes, torn tails and full disks.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::*;

fn spool(folder: &Path) -> Arc<Files> {
    open(Config { folder: folder.join("spool"), bytes_max: 10_000 }).unwrap()
}

fn said(spool: &Files) -> Vec<String> {
    spool.waiting().iter().map(|(_, record)| String::from_utf8(record.to_vec()).unwrap()).collect()
}

fn logs(folder: &Path) -> usize {
    let entries = fs::read_dir(folder.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).count()
}

/// Waits until the writer has done what it was told before.
async fn settled(spool: &Files) {
    spool.append(b"{}".to_vec()).await.unwrap();
    let (ticket, _) = spool.waiting().pop().unwrap();
    spool.done(ticket).await;
}

#[tokio::test]
async fn what_is_kept_is_found_by_the_next_process_until_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!folder.path().join("spool").exists());
    let first = spool(folder.path());
    assert!(!folder.path().join("spool").exists(), "made when there is something to keep");
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..50 {
        let first = first.clone();
        calls.spawn(async move { first.append(format!(r#"{{"n":{number}}}"#).into_bytes()).await.unwrap() });
    }
    calls.join_all().await;
    assert_eq!(first.entries(), 50);
    let mut before = said(&first);
    for (ticket, _) in first.waiting().into_iter().take(10) {
        first.done(ticket).await;
    }
    drop(first);
    // A crash between a replay and its end shows all of the file again, in its order.
    let second = spool(folder.path());
    assert_eq!(said(&second), before);
    second.append(b"last".to_vec()).await.unwrap();
    before.push("last".into());
    assert_eq!((said(&second), logs(folder.path())), (before, 2));
    for (ticket, _) in second.waiting() {
        second.done(ticket).await;
    }
    settled(&second).await;
    assert_eq!(second.entries(), 0);
    drop(second);
    let third = spool(folder.path());
    assert_eq!(said(&third), Vec::<String>::new());
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_what_is_before_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let first = spool(folder.path());
    for record in ["one", "two", "three"] {
        first.append(record.as_bytes().to_vec()).await.unwrap();
    }
    drop(first);
    let path = segment::path(&folder.path().join("spool"), 1);
    let whole = fs::read(&path).unwrap();
    let third = whole.len() - 17 - "three\n".len();
    for end in third..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let again = spool(folder.path());
        assert_eq!(said(&again), ["one", "two"], "cut after {end} bytes");
        assert_eq!(fs::read(&path).unwrap().len(), third, "cut off the file too");
    }
    // A byte that changed in the middle costs its own line alone.
    let mut rotten = whole.clone();
    rotten[third - 2] ^= 1;
    fs::write(&path, rotten).unwrap();
    assert_eq!(said(&spool(folder.path())), ["one", "three"]);
}

#[tokio::test]
async fn a_full_spool_and_a_full_disk_keep_nothing_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let files = spool(folder.path());
    assert!(matches!(files.append(vec![b'x'; 10_001]).await, Err(SpoolError::Full(10_000))));
    files.append(vec![b'x'; 9_000]).await.unwrap();
    assert!(matches!(files.append(vec![b'y'; 2_000]).await, Err(SpoolError::Full(_))));
    files.append(b"small".to_vec()).await.unwrap();
    for (ticket, _) in files.waiting() {
        files.done(ticket).await;
    }
    settled(&files).await;
    // The next file is the device that is always full.
    let next = (1..10).map(|number| segment::path(&folder.path().join("spool"), number));
    for path in next.filter(|path| !path.exists()) {
        symlink("/dev/full", path).unwrap();
    }
    let mut failures = 0;
    for _ in 0..10 {
        failures += u32::from(matches!(files.append(b"lost".to_vec()).await, Err(SpoolError::Io(_))));
    }
    assert!(failures > 0);
    assert_eq!(files.entries() + failures as usize, 10, "kept or told, never neither");
    drop(files);
}

#[tokio::test]
async fn a_refused_record_is_kept_aside_and_never_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let files = spool(folder.path());
    files.append(br#"{"id":"r"}"#.to_vec()).await.unwrap();
    let (ticket, _) = files.waiting()[0];
    files.refuse(ticket, "account_not_found: gone").await.unwrap();
    assert_eq!(files.entries(), 0);
    let refused = fs::read_to_string(folder.path().join("spool/refused")).unwrap();
    assert!(refused.contains("account_not_found") && refused.contains(r#"\"id\":\"r\""#), "{refused}");
    // One process at a time: the first one is still removing its files until it is dropped.
    drop(files);
    assert_eq!(said(&spool(folder.path())), Vec::<String>::new());
}
