use serde_json::json;

use super::{
    Place,
    made::{account, by, key, limit},
};
use crate::{
    engine::ports::{AccountPatch, Changes, KeyPatch, PolicyStore, StoreError},
    quota::{
        clock::Millis,
        id::Model,
        limit::{LIMITS_MAX, Limit, Period},
        policy::{AccountStatus, KeyStatus, OnUnavailable, Trust},
        window::Zone,
    },
    sql::KEYS_MAX,
};

fn field_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::Refused { field, .. } => field,
        other => panic!("not refused: {other}"),
    }
}

pub async fn an_account_is_created_merged_and_read_back(place: &Place) {
    let store = place.store().await;
    let id = account("a");
    assert_eq!(store.policy(&id).await.unwrap(), None);
    let (blank, created) = store.put_account(&by(), &id, &AccountPatch::default()).await.unwrap();
    assert!(created);
    assert_eq!((blank.version, blank.status, &*blank.group), (1, AccountStatus::Enabled, "default"));
    assert_eq!(store.policy(&id).await.unwrap(), Some(blank));
    let words = [Some(OnUnavailable::Allow), Some(OnUnavailable::Deny), None];
    for ((version, trust), word) in [(2, Trust::Above(5)), (3, Trust::Off), (4, Trust::Default)].into_iter().zip(words)
    {
        let patch = AccountPatch {
            status: Some(AccountStatus::Restricted),
            group: Some("vip".into()),
            credit_limit: Some(7),
            zone: Some(Zone::parse("Europe/Berlin").unwrap()),
            trust: Some(trust),
            on_unavailable: Some(word),
            limits: Some(vec![limit("openai", Period::Rolling(5400), Some(0)), limit("*", Period::None, None)]),
            name: Some(Some("Ada".into())),
            contact: Some(Some("ada@example.org".into())),
            initial_balance: None,
        };
        let (policy, created) = store.put_account(&by(), &id, &patch).await.unwrap();
        assert!(!created);
        assert_eq!((policy.version, policy.trust, policy.on_unavailable), (version, trust, word));
        assert_eq!(store.policy(&id).await.unwrap(), Some(policy));
    }
    let clear = AccountPatch { name: Some(None), ..AccountPatch::default() };
    let (policy, _) = store.put_account(&by(), &id, &clear).await.unwrap();
    assert_eq!((policy.name.as_deref(), policy.contact.as_deref()), (None, Some("ada@example.org")));
    assert_eq!((policy.credit_limit, policy.limits.len(), &*policy.group), (7, 2, "vip"));
    assert_eq!(store.policy(&id).await.unwrap(), Some(policy));
}

pub async fn a_key_reads_back_whole(place: &Place) {
    let store = place.store().await;
    let id = account("a");
    assert_eq!(store.put_key(&by(), &id, &key("k"), &KeyPatch::default()).await.unwrap(), None);
    store.put_account(&by(), &id, &AccountPatch::default()).await.unwrap();
    let patch = KeyPatch {
        status: Some(KeyStatus::Disabled),
        allowance: Some(Some(99)),
        expires_at: Some(Some(Millis(1_795_168_800_000))),
        models: Some(vec![Model::new("gpt 4/o").unwrap(), Model::new("\"quoted\"").unwrap()]),
        networks: Some(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]),
        group: Some(Some("vip".into())),
        limits: Some(vec![limit("openai", Period::Day, Some(3))]),
        secret_sha256: Some([7; 32]),
        first_secret_sha256: Some([8; 32]),
        name: Some(Some("Ada's laptop".into())),
        cross_group_retry: Some(true),
    };
    let (policy, created) = store.put_key(&by(), &id, &key("k"), &patch).await.unwrap().unwrap();
    assert!(created);
    assert_eq!(policy.version, 2);
    let made = policy.keys["k"].clone();
    assert_eq!((made.name.as_deref(), made.cross_group_retry), (Some("Ada's laptop"), true));
    assert!(made.created_at.is_some() && made.created_at == made.changed_at);
    assert_eq!(policy.keys["k"].networks.len(), 2);
    assert_eq!(store.policy(&id).await.unwrap(), Some(policy));
    assert_eq!(store.secret(&[7; 32]).await.unwrap(), Some((id.clone(), key("k"))));
    let clear = KeyPatch { allowance: Some(None), expires_at: Some(None), group: Some(None), ..KeyPatch::default() };
    let (policy, created) = store.put_key(&by(), &id, &key("k"), &clear).await.unwrap().unwrap();
    assert!(!created);
    let merged = &policy.keys["k"];
    assert_eq!((merged.allowance, merged.expires_at, &merged.group), (None, None, &None));
    assert_eq!((merged.limits.len(), merged.models.len(), merged.secret_sha256), (1, 2, Some([7; 32])));
    assert_eq!((&merged.name, merged.cross_group_retry, merged.created_at), (&made.name, true, made.created_at));
    assert!(merged.changed_at >= made.changed_at);
    assert_eq!(store.policy(&id).await.unwrap(), Some(policy));
    let without = store.delete_key(&by(), &id, &key("k")).await.unwrap().unwrap();
    assert_eq!((without.version, without.keys.len()), (4, 0));
    assert_eq!(store.policy(&id).await.unwrap(), Some(without));
    assert_eq!(store.delete_key(&by(), &id, &key("k")).await.unwrap(), None);
    assert_eq!(store.secret(&[7; 32]).await.unwrap(), None);
}

pub async fn limits_are_replaced_whole(place: &Place) {
    let store = place.store().await;
    let id = account("a");
    let put = |limits: Vec<Limit>| AccountPatch { limits: Some(limits), ..AccountPatch::default() };
    let caps = [limit("b", Period::Day, Some(1)), limit("a", Period::Day, None)];
    let (policy, _) = store.put_account(&by(), &id, &put(caps.to_vec())).await.unwrap();
    assert_eq!(*policy.limits[0], caps[0], "the order is the caller's");
    store
        .put_key(&by(), &id, &key("k"), &KeyPatch { limits: Some(caps.to_vec()), ..KeyPatch::default() })
        .await
        .unwrap();
    store.put_account(&by(), &id, &put(vec![limit("c", Period::Month, Some(2))])).await.unwrap();
    store.put_account(&by(), &id, &AccountPatch::default()).await.unwrap();
    let policy = store.policy(&id).await.unwrap().unwrap();
    assert_eq!((policy.limits.len(), &*policy.limits[0].platform), (1, "c"));
    assert_eq!(policy.keys["k"].limits.len(), 2, "a key's limits are its own");
    store.put_account(&by(), &id, &put(Vec::new())).await.unwrap();
    assert!(store.policy(&id).await.unwrap().unwrap().limits.is_empty());
}

pub async fn what_cannot_stand_is_refused_and_changes_nothing(place: &Place) {
    let store = place.store().await;
    let id = account("a");
    let (before, _) = store.put_account(&by(), &id, &AccountPatch::default()).await.unwrap();
    let none = AccountPatch::default;
    let twice = vec![limit("x", Period::Day, Some(1)), limit("x", Period::Day, Some(2))];
    let many = (0..=LIMITS_MAX as u32).map(|n| limit("x", Period::Rolling(n + 1), None)).collect();
    let no_period = Limit { period: Period::None, ..limit("x", Period::Day, None) };
    let negative = limit("x", Period::Day, Some(-1));
    for (field, patch) in [
        ("credit_limit", AccountPatch { credit_limit: Some(-1), ..none() }),
        ("credit_limit", AccountPatch { credit_limit: Some(i64::MAX), ..none() }),
        ("trust", AccountPatch { trust: Some(Trust::Above(-1)), ..none() }),
        ("initial_balance", AccountPatch { initial_balance: Some(-1), ..none() }),
        ("group", AccountPatch { group: Some("".into()), ..none() }),
        ("name", AccountPatch { name: Some(Some("x".repeat(257).into())), ..none() }),
        ("limits", AccountPatch { limits: Some(twice), ..none() }),
        ("limits", AccountPatch { limits: Some(many), ..none() }),
        ("limits", AccountPatch { limits: Some(vec![no_period]), ..none() }),
        ("limits", AccountPatch { limits: Some(vec![negative]), ..none() }),
    ] {
        let error = store.put_account(&by(), &id, &patch).await.expect_err(field);
        assert_eq!(field_of(&error), field);
        assert!(store.put_account(&by(), &account("new"), &patch).await.is_err());
    }
    let error = store
        .put_key(&by(), &id, &key("k"), &KeyPatch { allowance: Some(Some(-1)), ..KeyPatch::default() })
        .await
        .expect_err("a negative allowance");
    assert_eq!(field_of(&error), "allowance");
    assert_eq!(store.policy(&id).await.unwrap(), Some(before));
    assert_eq!(store.policy(&account("new")).await.unwrap(), None);
}

pub async fn a_secret_belongs_to_one_key(place: &Place) {
    let store = place.store().await;
    let patch = KeyPatch { secret_sha256: Some([1; 32]), ..KeyPatch::default() };
    for id in ["a", "b"] {
        store.put_account(&by(), &account(id), &AccountPatch::default()).await.unwrap();
    }
    store.put_key(&by(), &account("a"), &key("k"), &patch).await.unwrap().unwrap();
    store.put_key(&by(), &account("a"), &key("k"), &patch).await.unwrap().unwrap();
    for (other, id) in [("b", "k"), ("a", "k2")] {
        let error = store.put_key(&by(), &account(other), &key(id), &patch).await.expect_err("a secret in use");
        assert_eq!(field_of(&error), "secret_sha256");
    }
    assert_eq!(store.policy(&account("b")).await.unwrap().unwrap().version, 1);
    let new = KeyPatch { secret_sha256: Some([2; 32]), ..KeyPatch::default() };
    store.put_key(&by(), &account("a"), &key("k"), &new).await.unwrap().unwrap();
    assert_eq!(store.secret(&[1; 32]).await.unwrap(), None);
    assert_eq!(store.secret(&[2; 32]).await.unwrap(), Some((account("a"), key("k"))));
    store.put_key(&by(), &account("b"), &key("k"), &patch).await.unwrap().unwrap();
}

pub async fn an_account_has_a_bounded_number_of_keys(place: &Place) {
    let store = place.store().await;
    let id = account("a");
    store.put_account(&by(), &id, &AccountPatch::default()).await.unwrap();
    let mut session = store.write().await.unwrap();
    for number in 0..KEYS_MAX {
        let name = format!("k{number}");
        session
            .execute(
                "INSERT INTO api_keys (account, key_id, status, models, networks) \
                 VALUES ('a', ?, 'enabled', '[]', '[]')"
                    .into(),
                &[name.as_str().into()],
            )
            .await
            .unwrap();
    }
    session.commit().await.unwrap();
    let error = store.put_key(&by(), &id, &key("one-more"), &KeyPatch::default()).await.expect_err("too many keys");
    assert_eq!(field_of(&error), "key");
    let (policy, created) = store.put_key(&by(), &id, &key("k0"), &KeyPatch::default()).await.unwrap().unwrap();
    assert_eq!((policy.keys.len(), created), (KEYS_MAX, false));
}

pub async fn accounts_are_listed_in_pages(place: &Place) {
    let store = place.store().await;
    assert!(store.list_accounts(None, 10).await.unwrap().is_empty());
    for id in ["b", "A", "c", "a", "d"] {
        store.put_account(&by(), &account(id), &AccountPatch::default()).await.unwrap();
        store.put_key(&by(), &account(id), &key(id), &KeyPatch::default()).await.unwrap();
    }
    store.delete_account(&by(), &account("b"), 0).await.unwrap();
    let page = store.list_accounts(None, 3).await.unwrap();
    let names: Vec<&str> = page.iter().map(|policy| policy.account.as_str()).collect();
    assert_eq!(names, ["A", "a", "c"]);
    assert!(page.iter().all(|policy| policy.keys.contains_key(policy.account.as_str())));
    let rest = store.list_accounts(Some(&account("c")), 3).await.unwrap();
    assert_eq!(rest.iter().map(|policy| policy.account.as_str()).collect::<Vec<_>>(), ["d"]);
    assert!(store.list_accounts(None, 0).await.unwrap().is_empty());
}

pub async fn a_deleted_account_is_gone_and_can_come_back(place: &Place) {
    let store = place.store().await;
    let id = account("a");
    assert_eq!(store.delete_account(&by(), &id, 0).await.unwrap(), None);
    let limits = Some(vec![limit("x", Period::Day, Some(1))]);
    let patch = AccountPatch { limits, credit_limit: Some(5), initial_balance: Some(10), ..AccountPatch::default() };
    store.put_account(&by(), &id, &patch).await.unwrap();
    let secret = KeyPatch { secret_sha256: Some([1; 32]), ..KeyPatch::default() };
    store.put_key(&by(), &id, &key("k"), &secret).await.unwrap();
    assert_eq!(store.delete_account(&by(), &id, 0).await.unwrap(), Some(3));
    assert_eq!(store.delete_account(&by(), &id, 0).await.unwrap(), None);
    assert_eq!(store.policy(&id).await.unwrap(), None);
    assert_eq!(store.secret(&[1; 32]).await.unwrap(), None);
    assert_eq!(store.put_key(&by(), &id, &key("k"), &secret).await.unwrap(), None);
    assert_eq!(store.posted(&id).await.unwrap().unwrap().initial, None, "nothing is due to a deleted account");
    let again = AccountPatch { initial_balance: Some(3), ..AccountPatch::default() };
    let (policy, created) = store.put_account(&by(), &id, &again).await.unwrap();
    assert!(created);
    assert_eq!((policy.version, policy.credit_limit), (4, 0));
    assert!(policy.keys.is_empty() && policy.limits.is_empty());
    assert_eq!(store.policy(&id).await.unwrap(), Some(policy));
    let (op_id, units) = store.posted(&id).await.unwrap().unwrap().initial.unwrap();
    assert_eq!((op_id.as_str(), units), ("v4", 3));
}

pub async fn versions_grow_by_one_under_concurrency(place: &Place) {
    let store = place.store().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            let patch = AccountPatch { credit_limit: Some(number), ..AccountPatch::default() };
            store.put_account(&by(), &account("a"), &patch).await.unwrap().0.version
        });
    }
    let mut versions = tasks.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=16).collect::<Vec<u32>>());
}

/// Each creation brings a secret of its own; the one that is told that it made the key has the one in force.
pub async fn a_new_key_gets_the_secret_of_one_creation(place: &Place) {
    let store = place.store().await;
    store.put_account(&by(), &account("a"), &AccountPatch::default()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let store = store.clone();
        tasks.spawn(async move {
            let patch = KeyPatch { first_secret_sha256: Some([number; 32]), ..KeyPatch::default() };
            let (policy, created) = store.put_key(&by(), &account("a"), &key("k"), &patch).await.unwrap().unwrap();
            (created, number, policy.keys["k"].secret_sha256)
        });
    }
    let puts = tasks.join_all().await;
    let makers: Vec<_> = puts.iter().filter(|(created, ..)| *created).map(|(_, number, _)| *number).collect();
    assert_eq!(makers.len(), 1, "{puts:?}");
    assert!(puts.iter().all(|(_, _, secret)| *secret == Some([makers[0]; 32])), "{puts:?}");
    assert_eq!(store.secret(&[makers[0]; 32]).await.unwrap(), Some((account("a"), key("k"))));
    // One of the caller's own goes before it, and replaces it later.
    let own = KeyPatch { secret_sha256: Some([9; 32]), first_secret_sha256: Some([10; 32]), ..KeyPatch::default() };
    for name in ["k", "other"] {
        let own = KeyPatch { secret_sha256: Some([if name == "k" { 9 } else { 11 }; 32]), ..own.clone() };
        let (policy, _) = store.put_key(&by(), &account("a"), &key(name), &own).await.unwrap().unwrap();
        assert_eq!(policy.keys[name].secret_sha256, own.secret_sha256);
    }
    assert_eq!(store.secret(&[10; 32]).await.unwrap(), None);
}

pub async fn price_lists_are_numbered(place: &Place) {
    let store = place.store().await;
    assert_eq!(store.tariff_version().await.unwrap(), 0);
    assert_eq!(store.tariff(1).await.unwrap(), None);
    assert_eq!(store.put_tariff(&by(), b"{}", "file", None).await.unwrap(), 1);
    assert_eq!(store.put_tariff(&by(), b"{\"a\":1}", "other", Some(1)).await.unwrap(), 2);
    // A change that was shown against a list that is no longer the newest is not made.
    let late = store.put_tariff(&by(), b"{\"b\":1}", "file", Some(1)).await.unwrap_err();
    assert!(matches!(late, StoreError::Refused { field: "base", .. }), "{late:?}");
    for (before, most, expected) in [
        (None, 10, vec![(2, "other"), (1, "file")]),
        (None, 1, vec![(2, "other")]),
        (Some(2), 10, vec![(1, "file")]),
        (Some(1), 10, vec![]),
    ] {
        let versions = store.tariff_versions(before, most).await.unwrap();
        assert!(versions.iter().all(|version| version.imported_at.0 > 0));
        let told: Vec<_> = versions.iter().map(|version| (version.version, &*version.source)).collect();
        assert_eq!(told, expected);
    }
    assert_eq!(store.tariff_version().await.unwrap(), 2);
    assert_eq!(store.tariff(1).await.unwrap().as_deref(), Some(&b"{}"[..]));
}

pub async fn policies_survive_reopening(place: &Place) {
    let store = place.store().await;
    let (policy, _) = store.put_account(&by(), &account("a"), &AccountPatch::default()).await.unwrap();
    store.close().await;
    assert!(matches!(store.policy(&account("a")).await, Err(StoreError::Unavailable(_))));
    assert_eq!(place.store().await.policy(&account("a")).await.unwrap(), Some(policy));
}

pub async fn a_version_that_redis_has_seen_is_overtaken_once(place: &Place) {
    let store = place.store().await;
    let a = account("a");
    store.put_account(&by(), &a, &AccountPatch::default()).await.unwrap();
    assert_eq!(store.overtake(&a, 1).await.unwrap(), None, "it is not below");
    assert_eq!(store.overtake(&account("b"), 1).await.unwrap(), None);
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (store, a) = (store.clone(), a.clone());
            tokio::spawn(async move { store.overtake(&a, 40).await.unwrap() })
        })
        .collect();
    let mut raised = Vec::new();
    for call in calls {
        raised.extend(call.await.unwrap());
    }
    assert_eq!(raised, [41]);
    assert_eq!(store.policy(&a).await.unwrap().unwrap().version, 41);
    assert_eq!(store.put_account(&by(), &a, &AccountPatch::default()).await.unwrap().0.version, 42);
    let told = store.changes(Some("account/a"), None, 10).await.unwrap();
    let told: Vec<_> = told.iter().filter(|row| row.what == "overtake").collect();
    assert_eq!((told.len(), told[0].by.as_str()), (1, "quotad"));
    assert_eq!((&told[0].before, &told[0].after), (&Some(json!({"version": 1})), &Some(json!({"version": 41}))));
    store.delete_account(&by(), &a, 0).await.unwrap();
    assert_eq!(store.overtake(&a, 90).await.unwrap(), Some(91), "sidecars may remember a deleted one");
    assert_eq!(store.policy(&a).await.unwrap(), None, "which stays deleted");
}

/// The largest page came without the account that tells of another one: a list of a thousand was the last.
pub async fn a_page_of_accounts_has_one_more_than_a_thousand(place: &Place) {
    let store = place.store().await;
    let rows: Vec<String> =
        (0..1_003).map(|n| format!("('a{n:04}', 1, 'enabled', 'default', 0, 'UTC', 'v1', 0, 0)")).collect();
    let sql = format!(
        "INSERT INTO accounts (account, version, status, price_group, credit_limit, zone, initial_op, created_at, \
         changed_at) VALUES {}",
        rows.join(",")
    );
    let mut session = store.write().await.unwrap();
    session.execute(sql.into(), &[]).await.unwrap();
    session.commit().await.unwrap();
    let page = store.list_accounts(None, 1_001).await.unwrap();
    assert_eq!((page.len(), page[1_000].account.as_str()), (1_001, "a1000"));
    let rest = store.list_accounts(Some(&page[999].account), 1_001).await.unwrap();
    assert_eq!(rest.iter().map(|policy| policy.account.as_str()).collect::<Vec<_>>(), ["a1000", "a1001", "a1002"]);
}

/// The slower one was answered with the words of the database's own.
pub async fn price_lists_imported_at_once_all_get_a_number(place: &Place) {
    let store = place.store().await;
    let calls: Vec<_> = (0..6)
        .map(|n: u8| {
            let store = store.clone();
            tokio::spawn(async move { store.put_tariff(&by(), &[n], "race", None).await.unwrap() })
        })
        .collect();
    let mut versions = Vec::new();
    for call in calls {
        versions.push(call.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6]);
    let calls: Vec<_> = (0..4)
        .map(|n: u8| {
            let store = store.clone();
            tokio::spawn(async move { store.put_tariff(&by(), &[n], "race", Some(6)).await })
        })
        .collect();
    let mut stored = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(version) => stored += version,
            Err(error) => assert_eq!(field_of(&error), "base", "{error}"),
        }
    }
    assert_eq!(stored, 7, "one of those that know version 6");
}

pub async fn one_of_two_keys_gets_a_secret_that_both_ask_for(place: &Place) {
    let store = place.store().await;
    for name in ["a", "b"] {
        store.put_account(&by(), &account(name), &AccountPatch::default()).await.unwrap();
    }
    for secret in 0..8 {
        let calls = ["a", "b"].map(|name| {
            let store = store.clone();
            let patch = KeyPatch { secret_sha256: Some([secret; 32]), ..KeyPatch::default() };
            let id = key(&format!("k{secret}"));
            tokio::spawn(async move { store.put_key(&by(), &account(name), &id, &patch).await })
        });
        let mut refused = Vec::new();
        for call in calls {
            refused.extend(call.await.unwrap().err());
        }
        assert_eq!(refused.iter().map(field_of).collect::<Vec<_>>(), ["secret_sha256"], "{refused:?}");
    }
}
