//! What policy says of one call: the first policy denial, if any, and the counters that a script has
//! to check, each with the window that is open. Pure: the caller may keep the answer as long as
//! [`Admission::holds_at`] says so.

use std::{net::IpAddr, sync::Arc};

use smallvec::SmallVec;

use super::{
    clock::Millis,
    group::{AUTO, GroupTables, Member},
    id::{KeyId, Model, Platform},
    limit::{GroupField, Limit, Period},
    policy::{AccountStatus, KeyPolicy, KeyStatus, Policy},
    verdict::{Code, LimitState, Refusal},
    window::{Zone, calendar},
};

/// The end of an [`Admission`] that nothing bounds: the latest instant that six packed bytes hold.
pub const FOREVER: Millis = Millis((1 << 48) - 1);

/// A call, as far as policy cares.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub key: Option<&'a KeyId>,
    pub platform: Option<&'a Platform>,
    pub model: Option<&'a Model>,
    pub client_ip: Option<IpAddr>,
    /// The guess of Redis' clock; the windows below are open then.
    pub now: Millis,
}

/// One counter to check: where its window begins, how long a rolling one is, its cap.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    pub limit: Arc<Limit>,
    /// Start of the calendar window in seconds; 0 for rolling and concurrency.
    pub start_s: u32,
    /// End of the calendar window in seconds; 0 for rolling and concurrency.
    pub end_s: u32,
    /// Length of a rolling window in seconds; 0 for others.
    pub period_s: u32,
}

/// The counters of one hash field.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub field: GroupField,
    /// Whose limits they are; `None` for the account's own.
    pub key: Option<KeyId>,
    pub gauges: SmallVec<[Gauge; 3]>,
}

/// What policy says of a call, and what the script needs to decide the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// The first policy check that fails, in the order of `verdict::Code`.
    pub refusal: Option<Refusal>,
    /// Price group that the call is made in: the key's, else the account's, else what [`Policy::admit_in`] chose.
    pub group: Box<str>,
    pub credit_limit: i64,
    /// The key's allowance; `None` without a key or when unlimited.
    pub allowance: Option<i64>,
    /// Every limit that applies, the account's groups first.
    pub groups: SmallVec<[Group; 2]>,
    /// The windows above are those of `valid_from <= now < valid_until`.
    pub valid_from: Millis,
    pub valid_until: Millis,
}

impl Gauge {
    /// The counter of a limit, with the window that is open at `now`.
    fn open(limit: &Arc<Limit>, zone: &Zone, now: Millis) -> Self {
        let span = calendar(limit.period, zone, now);
        Self {
            limit: Arc::clone(limit),
            start_s: span.map_or(0, |span| span.start_s),
            end_s: span.map_or(0, |span| span.end_s),
            period_s: if let Period::Rolling(seconds) = limit.period { seconds } else { 0 },
        }
    }

    /// End of the calendar window; `None` for rolling and concurrency.
    #[must_use]
    pub fn resets_at(&self) -> Option<Millis> {
        (self.end_s > 0).then(|| Millis(i64::from(self.end_s) * 1000))
    }
}

impl Admission {
    /// Whether this answer still stands at `now`: an admission may be cached for its question (key,
    /// platform, model, address) and policy version as long as this is true.
    #[must_use]
    pub fn holds_at(&self, now: Millis) -> bool {
        self.valid_from <= now && now < self.valid_until
    }

    /// Keeps the admission from being used across `instant`, which is a change of the answer.
    fn bound(&mut self, instant: Millis, now: Millis) {
        if instant <= now {
            self.valid_from = self.valid_from.max(instant);
        } else {
            self.valid_until = self.valid_until.min(instant);
        }
    }
}

impl Policy {
    /// Checks a call against the rules, in the order of `verdict::Code`, and lists the counters
    /// that must be checked with it. The counters are listed for a refused call too: what was spent
    /// without a reservation is charged to them all the same.
    #[must_use]
    pub fn admit(&self, ask: &Ask<'_>) -> Admission {
        let key = ask.key.and_then(|id| self.keys.get(id).map(|key| (id, key)));
        let groups = self.groups(key, ask);
        let refusal = self
            .refuse_account()
            .or_else(|| ask.key.and_then(|id| refuse_key(id, key.map(|(_, key)| key), ask)))
            .or_else(|| refuse_disabled(&groups));
        let mut admission = Admission {
            refusal,
            group: key
                .and_then(|(_, key)| key.group.as_ref())
                .filter(|group| ***group != *AUTO)
                .unwrap_or(&self.group)
                .clone(),
            credit_limit: self.credit_limit,
            allowance: key.and_then(|(_, key)| key.allowance),
            groups,
            valid_from: Millis(0),
            valid_until: FOREVER,
        };
        let gauges = admission.groups.iter().flat_map(|group| &group.gauges).filter(|gauge| gauge.end_s > 0);
        let spans: SmallVec<[(u32, u32); 6]> = gauges.map(|gauge| (gauge.start_s, gauge.end_s)).collect();
        for (start_s, end_s) in spans {
            admission.valid_from = admission.valid_from.max(Millis(i64::from(start_s) * 1000));
            admission.valid_until = admission.valid_until.min(Millis(i64::from(end_s) * 1000));
        }
        if let Some(expires_at) = key.and_then(|(_, key)| key.expires_at) {
            admission.bound(expires_at, ask.now);
        }
        admission
    }

    /// The same, in the group that the tables choose; `named` is the one that the call names. A group that the call
    /// may not use is refused after what is wrong with its key.
    #[must_use]
    pub fn admit_in(&self, ask: &Ask<'_>, named: Option<&str>, tables: &GroupTables) -> Admission {
        let mut admission = self.admit(ask);
        match tables.choose(self.member(ask.key), named, ask.model) {
            Ok(group) if *group == *admission.group => {}
            Ok(group) => admission.group = group.into(),
            Err(refusal) => {
                if admission.refusal.as_ref().is_none_or(|first| first.code > refusal.code) {
                    admission.refusal = Some(refusal);
                }
            }
        }
        admission
    }

    /// Why work that goes on may not call this model: its key's models, or a cap of 0 on the model. That on a platform
    /// was looked at when the work began.
    #[must_use]
    pub fn refuse_model(&self, key: Option<&KeyId>, model: &Model, now: Millis) -> Option<Refusal> {
        let key = key.and_then(|id| self.keys.get(id).map(|key| (id, key)));
        let ask = Ask { key: None, platform: None, model: Some(model), client_ip: None, now };
        let of_key = key.and_then(|(id, key)| refuse_model(id, key, Some(model)));
        of_key.or_else(|| refuse_disabled(&self.groups(key, &ask)))
    }

    /// Who asks for a group, when it is this key.
    #[must_use]
    pub fn member(&self, key: Option<&KeyId>) -> Member<'_> {
        let of_key = key.and_then(|key| self.keys.get(key)).and_then(|key| key.group.as_deref());
        Member { own: &self.group, of_key }
    }

    /// Whether the answer for this key can depend on the caller's address; when it does not, one
    /// cached [`Admission`] serves all addresses.
    #[must_use]
    pub fn heeds_ip(&self, key: Option<&KeyId>) -> bool {
        key.and_then(|id| self.keys.get(id)).is_some_and(|key| !key.networks.is_empty())
    }

    /// The counters of every limit there is, for the balance sheet: the account's groups, then those
    /// of its keys in order of their ids.
    #[must_use]
    pub fn all_gauges(&self, now: Millis) -> Vec<Group> {
        let mut groups = group(&self.limits, None, &self.zone, now).collect::<Vec<_>>();
        let mut keys = self.keys.iter().collect::<Vec<_>>();
        keys.sort_unstable_by_key(|(id, _)| *id);
        for (id, key) in keys {
            groups.extend(group(&key.limits, Some(id), &self.zone, now));
        }
        groups
    }

    fn groups(&self, key: Option<(&KeyId, &KeyPolicy)>, ask: &Ask<'_>) -> SmallVec<[Group; 2]> {
        let (platform, model) = (ask.platform.map(Platform::as_str), ask.model.map(Model::as_str));
        let apply = |limit: &&Arc<Limit>| limit.applies(platform, model);
        let mut groups: SmallVec<[Group; 2]> =
            group(self.limits.iter().filter(apply), None, &self.zone, ask.now).collect();
        if let Some((id, key)) = key {
            groups.extend(group(key.limits.iter().filter(apply), Some(id), &self.zone, ask.now));
        }
        groups
    }

    fn refuse_account(&self) -> Option<Refusal> {
        let account = &self.account;
        match self.status {
            AccountStatus::Enabled => None,
            AccountStatus::Disabled => {
                Some(Refusal::new(Code::AccountDisabled, format!("The account {account} is disabled.")))
            }
            AccountStatus::Restricted => {
                Some(Refusal::new(Code::AccountRestricted, format!("The account {account} is restricted.")))
            }
        }
    }
}

/// Limits by (platform, model), in that order, and by counter code within.
fn group<'a>(
    limits: impl IntoIterator<Item = &'a Arc<Limit>>,
    key: Option<&KeyId>,
    zone: &Zone,
    now: Millis,
) -> impl Iterator<Item = Group> {
    let mut limits = limits.into_iter().collect::<SmallVec<[&Arc<Limit>; 8]>>();
    limits.sort_by(|a, b| (&a.platform, &a.model, a.code()).cmp(&(&b.platform, &b.model, b.code())));
    let groups = limits.chunk_by(|a, b| a.platform == b.platform && a.model == b.model).map(|limits| Group {
        field: GroupField::new(&limits[0].platform, &limits[0].model, key),
        key: key.cloned(),
        gauges: limits.iter().map(|limit| Gauge::open(limit, zone, now)).collect(),
    });
    groups.collect::<SmallVec<[Group; 2]>>().into_iter()
}

fn refuse_model(id: &KeyId, key: &KeyPolicy, model: Option<&Model>) -> Option<Refusal> {
    if key.allows_model(model) {
        return None;
    }
    let detail = match model {
        Some(model) => format!("The key {id} may not call the model {model}."),
        None => format!("The key {id} may only call certain models, and the call names none."),
    };
    Some(Refusal::new(Code::ModelNotAllowed, detail))
}

fn refuse_key(id: &KeyId, key: Option<&KeyPolicy>, ask: &Ask<'_>) -> Option<Refusal> {
    let Some(key) = key else {
        return Some(Refusal::new(Code::KeyNotFound, format!("The account has no key {id}.")));
    };
    if key.status == KeyStatus::Disabled {
        return Some(Refusal::new(Code::KeyDisabled, format!("The key {id} is disabled.")));
    }
    if let Some(expires_at) = key.expires_at.filter(|expires_at| ask.now >= *expires_at) {
        return Some(Refusal::new(Code::KeyExpired, format!("The key {id} expired at {expires_at}.")));
    }
    if !key.allows_ip(ask.client_ip) {
        let detail = match ask.client_ip {
            Some(ip) => format!("The key {id} may not be used from {ip}."),
            None => format!("The key {id} may only be used from certain networks, and the call names no client_ip."),
        };
        return Some(Refusal::new(Code::IpNotAllowed, detail));
    }
    refuse_model(id, key, ask.model)
}

/// A cap of 0 that applies, on the account or the key; live numbers are not looked at for it.
fn refuse_disabled(groups: &[Group]) -> Option<Refusal> {
    let gauges = groups.iter().flat_map(|group| group.gauges.iter().map(move |gauge| (group, gauge)));
    let violated: Vec<LimitState> = gauges
        .filter(|(_, gauge)| gauge.limit.cap == Some(0))
        .map(|(group, gauge)| LimitState {
            limit: gauge.limit.clone(),
            key: group.key.clone(),
            used: 0,
            held: 0,
            resets_at: gauge.resets_at(),
        })
        .collect();
    let first = violated.first()?;
    let what = match (&*first.limit.platform, &*first.limit.model) {
        ("*", "*") => "All calls are".to_owned(),
        (platform, "*") => format!("The platform {platform} is"),
        ("*", model) => format!("The model {model} is"),
        (platform, model) => format!("The model {model} on the platform {platform} is"),
    };
    let whose = first.key.as_ref().map_or_else(|| "this account".to_owned(), |key| format!("the key {key}"));
    let metric = first.limit.metric.as_str();
    let detail = format!("{what} disabled for {whose}: the {metric} limit has a cap of 0.");
    Some(Refusal { violated, ..Refusal::new(Code::PlatformDisabled, detail) })
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
