use serde_json::json;

use super::{Place, made::by};
use crate::{
    engine::ports::{Changes, Put, SettingPut, SettingStore, StoreError, Stored, StoredSettings},
    quota::id::Actor,
    sql::Store,
};

fn accept(_: &[Stored]) -> Result<(), StoreError> {
    Ok(())
}

async fn put(store: &Store, name: &str, content: Option<&str>, version: Option<u32>) -> Result<Put, StoreError> {
    store.put_setting(&by(), SettingPut { name, content, version }, &accept).await
}

async fn saved(store: &Store, name: &str, content: Option<&str>) -> StoredSettings {
    match put(store, name, content, None).await.unwrap() {
        Put::Saved(all) => all,
        Put::Conflict(version) => panic!("version {version} is in the way"),
    }
}

fn told(all: &StoredSettings) -> Vec<(&str, u32, Option<&str>)> {
    all.settings.iter().map(|stored| (stored.name.as_str(), stored.version, stored.content.as_deref())).collect()
}

pub async fn a_setting_is_kept_with_its_version(place: &Place) {
    let store = place.store().await;
    assert_eq!(store.settings().await.unwrap(), StoredSettings::default());
    assert_eq!(store.settings_revision().await.unwrap(), 0);
    // Returning to a default that nobody left is no change.
    assert_eq!(told(&saved(&store, "max", None).await), []);
    let ada = Actor::new("ada").unwrap();
    let first = SettingPut { name: "max", content: Some("17"), version: Some(0) };
    store.put_setting(&ada, first, &accept).await.unwrap();
    saved(&store, "list", Some(r#"["ä","\u0000"]"#)).await;
    let again = saved(&store, "max", Some("17")).await;
    assert_eq!((again.revision, told(&again)[1]), (2, ("max", 1, Some("17"))), "the same again is no change");
    assert_eq!(again.settings[1].changed_by, "ada");
    saved(&store, "max", Some("18")).await;
    let all = saved(&store, "max", None).await;
    assert_eq!((all.revision, told(&all)), (4, vec![("list", 1, Some(r#"["ä","\u0000"]"#)), ("max", 3, None)]));
    drop(store);
    let store = place.store().await;
    assert_eq!(store.settings().await.unwrap(), all);
    assert_eq!(store.settings_revision().await.unwrap(), 4);
    let rows = store.changes(Some("setting/max"), None, 10).await.unwrap();
    let told: Vec<_> = rows.iter().rev().map(|row| (&*row.by, &*row.what, &row.before, &row.after)).collect();
    let [none, was, is] = [
        Some(json!({"value": null, "default": true})),
        Some(json!({"value": 17, "default": false})),
        Some(json!({"value": 18, "default": false})),
    ];
    assert_eq!(
        told,
        [("ada", "put", &none, &was), ("admin", "put", &was, &is), ("admin", "delete", &is, &none)],
        "each with before and after"
    );
}

pub async fn a_change_that_another_one_overtook_is_a_conflict(place: &Place) {
    let store = place.store().await;
    assert_eq!(put(&store, "max", Some("1"), Some(1)).await.unwrap(), Put::Conflict(0));
    saved(&store, "max", Some("1")).await;
    saved(&store, "other", Some("1")).await;
    assert_eq!(put(&store, "max", Some("2"), Some(0)).await.unwrap(), Put::Conflict(1));
    assert_eq!(put(&store, "max", None, Some(2)).await.unwrap(), Put::Conflict(1));
    assert!(matches!(put(&store, "max", Some("2"), Some(1)).await.unwrap(), Put::Saved(_)));
    // Asked again because the answer was lost: it is so.
    assert!(matches!(put(&store, "max", Some("2"), Some(1)).await.unwrap(), Put::Saved(_)));
    let all = store.settings().await.unwrap();
    assert_eq!((all.revision, told(&all)), (3, vec![("max", 2, Some("2")), ("other", 1, Some("1"))]));
}

pub async fn what_is_refused_leaves_the_old_value(place: &Place) {
    let store = place.store().await;
    saved(&store, "a", Some("1")).await;
    let before = store.settings().await.unwrap();
    for (name, content) in [("a", Some("2")), ("a", None), ("b", Some("3"))] {
        let judge = |all: &[Stored]| {
            let new = all.iter().find(|stored| stored.name == name).and_then(|stored| stored.content.as_deref());
            assert_eq!(new, content, "it sees what would be");
            Err(StoreError::Refused { field: "value", detail: "no".into() })
        };
        let put = SettingPut { name, content, version: None };
        let refused = store.put_setting(&by(), put, &judge).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused { field: "value", .. }));
    }
    assert_eq!(store.settings().await.unwrap(), before);
    assert_eq!(store.changes(None, None, 10).await.unwrap().len(), 1);
}

pub async fn changes_of_settings_come_one_after_the_other(place: &Place) {
    const EACH: u32 = 5;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..4_u32 {
        let store = place.store().await;
        running.spawn(async move {
            let mut won = 0;
            for round in 0..EACH {
                // Two settings, so that a lock on one of them would not do.
                let name = ["a", "b"][number as usize % 2];
                saved(&store, name, Some(&format!("{}", number * 100 + round))).await;
                let content = format!("\"{number}-{round}\"");
                won += u32::from(matches!(put(&store, "once", Some(&content), Some(round)).await, Ok(Put::Saved(_))));
            }
            won
        });
    }
    let won: u32 = running.join_all().await.into_iter().sum();
    let store = place.store().await;
    let all = store.settings().await.unwrap();
    let versions: Vec<u32> = all.settings.iter().map(|stored| stored.version).collect();
    assert_eq!(versions, [2 * EACH, 2 * EACH, won], "no change is lost, and one alone wins a version");
    assert_eq!(all.revision, 4 * EACH + won);
    assert_eq!(store.changes(None, None, 1000).await.unwrap().len() as u32, all.revision);
}
