//! Platform quotas, sign-up defaults, provisioning and referrals.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::{
    Place, made,
    made::{account, key, limit, op},
};
use crate::{
    engine::ports::{
        AccountPatch, Changes, Grant, KeyPatch, Onboarding, Outbox, Owed, PolicyStore, Provisioned, Provisioning,
        Referrals, SignupTerms, StoreError, Transfer, Transferred,
    },
    quota::{
        clock::{Millis, local_now},
        defaults::{Defaults, Layer, Source},
        id::{Actor, Platform},
        limit::Period,
        platform::{Caps, Month, PlatformQuota, quotas_of},
        policy::Policy,
        window::Zone,
    },
    sql::Store,
};

fn quota(platform: &str, [daily, weekly, monthly]: [Option<i64>; 3]) -> PlatformQuota {
    PlatformQuota { platform: Platform::new(platform).unwrap(), caps: Caps { daily, weekly, monthly } }
}

fn layer(quotas: &[PlatformQuota]) -> Defaults {
    Defaults(quotas.iter().map(|quota| (quota.platform.clone(), quota.caps)).collect())
}

const TERMS: SignupTerms =
    SignupTerms { initial_balance: 700, invitee_reward: 30, inviter_reward: 50, month: Month::Calendar };

fn asked(name: &str) -> Provisioning {
    Provisioning {
        account: account(name),
        source: Source::Github,
        group: None,
        inviter: None,
        key: None,
        name: None,
        contact: None,
        zone: None,
        content: vec![("source", Some("github".into())), ("inviter", None)],
        terms: TERMS,
    }
}

fn invited(name: &str, by: &str) -> Provisioning {
    let content = vec![("source", Some("github".into())), ("inviter", Some(by.into()))];
    Provisioning { inviter: Some(account(by)), content, ..asked(name) }
}

async fn provision(store: &Store, ask: &Provisioning) -> (Policy, Grant, bool) {
    match store.provision(&Actor::admin(), ask).await.unwrap() {
        Provisioned::Done { policy, grant, first } => (*policy, grant, first),
        other => panic!("{other:?}"),
    }
}

async fn refused(store: &Store, ask: &Provisioning) -> Option<&'static str> {
    match store.provision(&Actor::admin(), ask).await.unwrap() {
        Provisioned::Conflict(field) => Some(field),
        Provisioned::NoInviter => None,
        Provisioned::Done { .. } => panic!("{ask:?} was done"),
    }
}

async fn referrals(store: &Store, of: &str) -> Referrals {
    store.referrals(&account(of), None, 100).await.unwrap().expect("an account")
}

/// What is to be credited when it is loaded.
async fn initial(store: &Store, of: &str) -> Option<i64> {
    made::posted(store, of).await.initial.map(|(_, units)| units)
}

pub async fn quotas_are_replaced_and_all_other_limits_stay(place: &Place) {
    let store = place.store().await;
    let others = vec![limit("*", Period::Day, Some(1)), limit("openai", Period::Hour, Some(2))];
    let patch = AccountPatch { limits: Some(others.clone()), ..AccountPatch::default() };
    let (before, _) = store.put_account(&Actor::admin(), &account("a"), &patch).await.unwrap();
    let put = async |quotas: &[PlatformQuota]| {
        let policy = store.put_quotas(&Actor::admin(), &account("a"), quotas, Month::Rolling).await.unwrap();
        let policy = policy.expect("an account");
        assert_eq!(Some(&policy), store.policy(&account("a")).await.unwrap().as_ref());
        assert_eq!(policy.limits[..2], before.limits[..]);
        policy
    };
    let quotas = [quota("openai", [Some(10), None, Some(0)]), quota("gemini", [None; 3])];
    let policy = put(&quotas).await;
    assert_eq!((quotas_of(&policy.limits), policy.version), (quotas.to_vec(), before.version + 1));
    let policy = put(&quotas[1..]).await;
    assert_eq!(quotas_of(&policy.limits), quotas[1..]);
    assert_eq!(put(&[]).await.limits, before.limits);
    let audit = store.changes(Some("account/a"), None, 10).await.unwrap();
    assert_eq!(audit.len(), 4, "each change has its row");
    let many: Vec<PlatformQuota> = (0..40).map(|n| quota(&format!("p{n}"), [Some(1); 3])).collect();
    let refused = store.put_quotas(&Actor::admin(), &account("a"), &many, Month::Calendar).await;
    assert!(matches!(refused, Err(StoreError::Refused { field: "quotas", .. })), "{refused:?}");
    assert_eq!(store.policy(&account("a")).await.unwrap().unwrap().limits, before.limits);
    assert_eq!(store.put_quotas(&Actor::admin(), &account("none"), &quotas, Month::Calendar).await.unwrap(), None);
}

pub async fn defaults_are_replaced_layer_by_layer(place: &Place) {
    let store = place.store().await;
    let by = Actor::new("olga").unwrap();
    let empty = store.defaults().await.unwrap();
    assert_eq!(empty, Layer::all().map(|layer| (layer, Defaults::default())).collect());
    let github = Layer::Source(Source::Github);
    let system = layer(&[quota("openai", [Some(10), None, Some(0)])]);
    let wanted = BTreeMap::from([(Layer::System, system.clone()), (github, layer(&[quota("x", [None; 3])]))]);
    store.put_defaults(&by, &wanted).await.unwrap();
    let one = BTreeMap::from([(github, layer(&[quota("gemini", [Some(1), Some(2), Some(3)])]))]);
    store.put_defaults(&by, &one).await.unwrap();
    let read = place.store().await.defaults().await.unwrap();
    assert_eq!((&read[&Layer::System], &read[&github]), (&system, &one[&github]));
    assert_eq!(read.values().filter(|defaults| !defaults.0.is_empty()).count(), 2);
    let rows = store.changes(Some("defaults/github"), None, 10).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].by, "olga");
    assert_eq!(rows[0].before.as_ref().unwrap()["x"]["daily"], serde_json::Value::Null);
    assert_eq!(rows[0].after.as_ref().unwrap()["gemini"]["weekly"], 2);
}

pub async fn an_account_is_provisioned_once_with_all_that_it_begins_with(place: &Place) {
    let store = place.store().await;
    let layers = BTreeMap::from([
        (Layer::System, layer(&[quota("openai", [Some(10), None, Some(0)]), quota("gemini", [Some(1); 3])])),
        (Layer::Source(Source::Github), layer(&[quota("openai", [Some(0), Some(5), None])])),
        (Layer::Source(Source::Email), layer(&[quota("anthropic", [Some(1); 3])])),
    ]);
    store.put_defaults(&Actor::admin(), &layers).await.unwrap();
    let key_patch = KeyPatch { allowance: Some(Some(5)), first_secret_sha256: Some([7; 32]), ..KeyPatch::default() };
    let ask = Provisioning {
        group: Some("vip".into()),
        name: Some("Ann".into()),
        zone: Some(Zone::parse("Europe/Berlin").unwrap()),
        key: Some((
            key("main"),
            KeyPatch { limits: Some(vec![limit("*", Period::Rolling(18_000), Some(3))]), ..key_patch },
        )),
        ..asked("ann")
    };
    let (policy, grant, first) = provision(&store, &ask).await;
    assert!(first);
    assert_eq!((&*policy.group, policy.zone.name(), policy.name.as_deref()), ("vip", "Europe/Berlin", Some("Ann")));
    let expected = [quota("gemini", [Some(1); 3]), quota("openai", [Some(0), Some(5), Some(0)])];
    assert_eq!(quotas_of(&policy.limits), expected, "field by field, the source's number wins, 0 too");
    assert_eq!((grant.initial_balance, grant.bonus, grant.key.clone()), (700, 0, Some(key("main"))));
    assert_eq!(Some(&policy), store.policy(&account("ann")).await.unwrap().as_ref());
    assert_eq!(store.secret(&[7; 32]).await.unwrap(), Some((account("ann"), key("main"))));
    assert_eq!(initial(&store, "ann").await, Some(700));
    let audit = store.changes(Some("account/ann"), None, 10).await.unwrap();
    let told: Vec<_> = audit.iter().map(|row| (row.subject.as_str(), row.what.as_str())).collect();
    assert_eq!(told, [("account/ann/key/main", "put"), ("account/ann", "provision")]);

    // Defaults and terms that change later, and another secret, change nothing of it.
    store.put_defaults(&Actor::admin(), &BTreeMap::from([(Layer::System, Defaults::default())])).await.unwrap();
    let mut again = Provisioning { terms: SignupTerms { initial_balance: 9, ..TERMS }, ..ask.clone() };
    again.key.as_mut().unwrap().1.first_secret_sha256 = Some([8; 32]);
    assert_eq!(provision(&store, &again).await, (policy.clone(), grant, false));
    assert_eq!(store.secret(&[8; 32]).await.unwrap(), None);
    assert_eq!(store.policy(&account("ann")).await.unwrap(), Some(policy));

    let (policy, ..) = provision(&store, &asked("bob")).await;
    assert_eq!(quotas_of(&policy.limits), [quota("openai", [Some(0), Some(5), None])]);
}

pub async fn another_provisioning_of_an_account_is_refused_and_names_the_field(place: &Place) {
    let store = place.store().await;
    provision(&store, &asked("inviter")).await;
    provision(&store, &asked("ann")).await;
    let mut other = asked("ann");
    other.content[0].1 = Some("email".into());
    assert_eq!(refused(&store, &other).await, Some("source"));
    assert_eq!(refused(&store, &invited("ann", "inviter")).await, Some("inviter"));
    assert_eq!(referrals(&store, "inviter").await, Referrals::default());
    store.put_account(&Actor::admin(), &account("made"), &AccountPatch::default()).await.unwrap();
    assert_eq!(refused(&store, &asked("made")).await, Some("account"));

    // A deleted account may be provisioned anew, in any way.
    store.delete_account(&Actor::admin(), &account("ann"), 0).await.unwrap();
    let (policy, _, first) = provision(&store, &other).await;
    assert!(first && policy.version > 1);
    assert_eq!(refused(&store, &asked("ann")).await, Some("source"), "the present life counts");
    assert!(!provision(&store, &other).await.2);
}

pub async fn what_cannot_be_provisioned_leaves_nothing(place: &Place) {
    let store = place.store().await;
    assert_eq!(refused(&store, &invited("ann", "nobody")).await, None);
    provision(&store, &asked("gone")).await;
    store.delete_account(&Actor::admin(), &account("gone"), 0).await.unwrap();
    assert_eq!(refused(&store, &invited("ann", "gone")).await, None);
    let with_key = |name: &str| Provisioning {
        key: Some((key("k"), KeyPatch { secret_sha256: Some([7; 32]), ..KeyPatch::default() })),
        ..asked(name)
    };
    provision(&store, &with_key("owner")).await;
    let taken = store.provision(&Actor::admin(), &with_key("ann")).await;
    assert!(matches!(taken, Err(StoreError::Refused { field: "key", .. })), "{taken:?}");
    let group = Provisioning { group: Some("a/b".into()), ..invited("ann", "owner") };
    assert!(store.provision(&Actor::admin(), &group).await.is_err());
    assert_eq!(store.policy(&account("ann")).await.unwrap(), None);
    assert_eq!(referrals(&store, "owner").await, Referrals::default());
    assert!(provision(&store, &invited("ann", "owner")).await.2, "nothing stands in the way later");
}

pub async fn a_hundred_provisionings_at_once_make_one_account(place: &Place) {
    let store = place.store().await;
    provision(&store, &asked("inviter")).await;
    let calls = (0..100_u8).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let patch = KeyPatch { first_secret_sha256: Some([n; 32]), ..KeyPatch::default() };
            let ask = Provisioning { key: Some((key("k"), patch)), ..invited("ann", "inviter") };
            provision(&store, &ask).await
        })
    });
    let mut firsts = 0;
    for call in calls.collect::<Vec<_>>() {
        firsts += usize::from(call.await.unwrap().2);
    }
    assert_eq!(firsts, 1);
    let found = referrals(&store, "inviter").await;
    assert_eq!((found.pending, found.history, found.invitees.len()), (50, 50, 1));
    assert_eq!(initial(&store, "ann").await, Some(730));
    let keys = store.policy(&account("ann")).await.unwrap().unwrap().keys;
    assert_eq!(keys.len(), 1);
}

pub async fn a_name_is_invited_once(place: &Place) {
    let store = place.store().await;
    for name in ["inviter", "other"] {
        provision(&store, &asked(name)).await;
    }
    let (_, grant, _) = provision(&store, &invited("ann", "inviter")).await;
    assert_eq!((grant.initial_balance, grant.bonus), (700, 30));
    assert_eq!(initial(&store, "ann").await, Some(730));
    for by in ["inviter", "other"] {
        store.delete_account(&Actor::admin(), &account("ann"), 0).await.unwrap();
        let (_, grant, first) = provision(&store, &invited("ann", by)).await;
        assert_eq!((grant.bonus, first), (0, true));
    }
    assert_eq!(referrals(&store, "other").await, Referrals::default());
    for name in ["cyd", "bob", "Dan"] {
        provision(&store, &invited(name, "inviter")).await;
    }
    let found = referrals(&store, "inviter").await;
    assert_eq!((found.pending, found.history), (200, 200));
    let names: Vec<_> = found.invitees.iter().map(|invitee| invitee.account.as_str()).collect();
    assert_eq!(names, ["Dan", "ann", "bob", "cyd"]);
    assert_eq!((found.invitees[1].reward, found.invitees[1].bonus, found.invitees[1].source), (50, 30, Source::Github));
    let page = store.referrals(&account("inviter"), Some(&account("ann")), 1).await.unwrap().unwrap();
    assert_eq!((page.invitees.len(), page.invitees[0].account.as_str()), (1, "bob"));
    assert_eq!(store.referrals(&account("nobody"), None, 10).await.unwrap(), None);
}

fn transfer_of(amount: i64, id: &str) -> Transfer {
    let credit_op = op(&format!("referral:{id}"));
    Transfer { account: account("inviter"), op_id: op(id), amount, least: 40, credit_op }
}

/// An account `inviter` with 150 pending.
async fn rewarded(place: &Place) -> Arc<Store> {
    let store = place.store().await;
    provision(&store, &asked("inviter")).await;
    for name in ["a", "b", "c"] {
        provision(&store, &invited(name, "inviter")).await;
    }
    store
}

async fn owed(store: &Store) -> Vec<Owed> {
    let later = Millis(local_now().0 + 60_000);
    store.due(later, 100).await.unwrap().into_iter().map(|due| due.owed).collect()
}

pub async fn rewards_are_moved_all_or_nothing_and_once(place: &Place) {
    let store = rewarded(place).await;
    let by = Actor::admin();
    let transfer = async |amount, id| store.transfer(&by, &transfer_of(amount, id)).await.unwrap();
    assert_eq!(transfer(39, "t").await, Transferred::TooLittle);
    assert_eq!(transfer(151, "t").await, Transferred::Lacking { pending: 150 });
    assert_eq!((referrals(&store, "inviter").await.pending, owed(&store).await), (150, Vec::new()));
    let Transferred::Done { owed: first_owed, pending: 50, first: true } = transfer(100, "t").await else {
        panic!("the transfer was not made")
    };
    assert_eq!((first_owed.op_id.as_str(), first_owed.amount), ("referral:t", 100));
    assert_eq!(owed(&store).await, std::slice::from_ref(&first_owed));
    // The same call finds the first one's credit, whatever it brings along itself.
    let again = Transfer { credit_op: op("referral:else"), least: 1_000, ..transfer_of(100, "t") };
    let again = store.transfer(&by, &again).await.unwrap();
    assert_eq!(again, Transferred::Done { owed: first_owed, pending: 50, first: false });
    assert_eq!(transfer(50, "t").await, Transferred::Conflict);
    let found = referrals(&store, "inviter").await;
    assert_eq!((found.pending, found.history, owed(&store).await.len()), (50, 150, 1));
    let nobody = Transfer { account: account("nobody"), ..transfer_of(50, "t") };
    assert_eq!(store.transfer(&by, &nobody).await.unwrap(), Transferred::NoAccount);
    let rows = store.changes(Some("account/inviter"), None, 1).await.unwrap();
    assert_eq!((rows[0].what.as_str(), rows[0].op_id.as_deref()), ("transfer", Some("t")));
    let rewards = |pending: i64| Some(json!({"referral_pending": pending, "referral_history": 150}));
    assert_eq!((&rows[0].before, &rows[0].after), (&rewards(150), &rewards(50)));
}

pub async fn transfers_at_once_never_move_more_than_is_pending(place: &Place) {
    let store = rewarded(place).await;
    let calls = (0..20).map(|n| {
        let store = Arc::clone(&store);
        // Two calls of each name.
        tokio::spawn(
            async move { store.transfer(&Actor::admin(), &transfer_of(50, &format!("t{}", n / 2))).await.unwrap() },
        )
    });
    let mut firsts = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Transferred::Done { first, .. } => firsts += usize::from(first),
            Transferred::Lacking { pending } => assert_eq!(pending, 0),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((firsts, referrals(&store, "inviter").await.pending, owed(&store).await.len()), (3, 0, 3));
}

pub async fn what_is_pending_goes_with_the_account(place: &Place) {
    let store = rewarded(place).await;
    store.delete_account(&Actor::admin(), &account("inviter"), 12).await.unwrap();
    told_of_rewards(&store).await;
    assert_eq!(store.referrals(&account("inviter"), None, 10).await.unwrap(), None);
    let gone = store.transfer(&Actor::admin(), &transfer_of(100, "t")).await.unwrap();
    assert_eq!(gone, Transferred::NoAccount);
    provision(&store, &asked("inviter")).await;
    let found = referrals(&store, "inviter").await;
    assert_eq!((found.pending, found.history, found.invitees.len()), (0, 150, 3), "what was, is told");
}

/// Rewards appeared and vanished without a row of the audit.
async fn told_of_rewards(store: &Store) {
    let rows = store.changes(Some("account/inviter"), None, 100).await.unwrap();
    let find = |what: &str| rows.iter().filter(|row| row.what == what).collect::<Vec<_>>();
    let rewards = |pending: i64, history: i64| json!({"referral_pending": pending, "referral_history": history});
    let [last, second, first] = find("reward")[..] else { panic!("{rows:?}") };
    assert_eq!(first.before, Some(rewards(0, 0)));
    assert_eq!(second.before, Some(rewards(50, 50)));
    let after = json!({"referral_pending": 150, "referral_history": 150, "invitee": "c"});
    assert_eq!((&last.before, &last.after), (&Some(rewards(100, 100)), &Some(after)));
    let [forfeit] = find("forfeit")[..] else { panic!("{rows:?}") };
    assert_eq!((&forfeit.before, &forfeit.after), (&Some(rewards(150, 150)), &Some(rewards(0, 150))));
    let [deleted] = find("delete")[..] else { panic!("{rows:?}") };
    let before = deleted.before.as_ref().unwrap();
    assert_eq!((&before["balance"], &before["referral_pending"]), (&json!(12), &json!(150)));
}
