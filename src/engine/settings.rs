//! What is set at run time: read by every verb without a lock, changed by the admin API, kept in SQL.
//!
//! The [`registry`] has one entry per setting. What the configuration says is the deployment's default; what
//! SQL says wins. A sidecar takes over a change at once when it makes it, within milliseconds when the news
//! reaches it through Redis, and at its next look into SQL otherwise ([`Engine::refresh`], twice a second).

mod kinds;
mod registry;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};

use super::{
    Answer, Engine,
    ports::{Put, SettingPut, StoreError, Stored, StoredSettings, Unavailable},
    step::{Done, Step, verdict},
};
use crate::quota::{
    clock::Millis,
    group::GroupTables,
    id::Actor,
    verdict::{Code, Refusal},
};
pub use kinds::{Entry, README_HEAD, find};
pub use registry::{ENTRIES, Values, judge_platforms};

/// What this deployment starts from.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub values: Values,
    /// Where values come from that are not the package's own, in words: a file, a variable.
    pub origins: HashMap<&'static str, String>,
}

impl From<Values> for Deployment {
    fn from(values: Values) -> Self {
        Self { values, origins: HashMap::new() }
    }
}

/// What is in force in this process.
pub(crate) struct Live {
    deployment: Deployment,
    values: ArcSwap<Values>,
    /// Of SQL, when the values were read.
    revision: AtomicU32,
    /// One takes over at a time, settings or prices, the newer after the older.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Live {
    pub(crate) fn new(deployment: Deployment) -> Self {
        Self {
            values: ArcSwap::from_pointee(deployment.values.clone()),
            deployment,
            revision: AtomicU32::new(0),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// What is in force now. Cheap, and to be asked at every use: nobody keeps a copy.
    pub(crate) fn now(&self) -> Guard<Arc<Values>> {
        self.values.load()
    }

    /// The deployment's defaults with what is stored in their places.
    fn merged(&self, settings: &[Stored]) -> Values {
        self.merge(settings, |_, _| {})
    }

    /// What does not read (a row that another version of this program wrote) leaves the value that is in
    /// force, and is complained about by name and sentence.
    fn merge(&self, settings: &[Stored], complain: impl Fn(&str, &str)) -> Values {
        let (mut values, now) = (self.deployment.values.clone(), self.now());
        for stored in settings {
            let Some(content) = &stored.content else { continue };
            let Some(entry) = find(&stored.name) else {
                complain(&stored.name, "this version does not know it");
                continue;
            };
            if let Err(sentence) = entry.set(&mut values, content) {
                (entry.copy)(&mut values, &now);
                complain(&stored.name, &sentence);
            }
        }
        values
    }
}

/// A setting as the admin API shows it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub entry: &'static Entry,
    pub value: serde_json::Value,
    /// Of the deployment.
    pub default: serde_json::Value,
    /// `database`, or where the deployment's default comes from.
    pub source: String,
    /// 0: never changed.
    pub version: u32,
    pub changed: Option<(Millis, String)>,
}

impl Engine {
    /// The settings in force. Cheap, without a lock, and to be asked at every use.
    pub(crate) fn live(&self) -> Guard<Arc<Values>> {
        self.live.now()
    }

    /// All settings, as SQL has them at this moment.
    pub async fn settings(&self) -> Answer<Vec<Shown>> {
        let listed = async {
            let stored = self.policies.settings().await?;
            Ok(Done::now(ENTRIES.iter().map(|entry| self.shown(entry, &stored.settings)).collect()))
        };
        verdict(listed.await)
    }

    /// One setting, as SQL has it at this moment.
    pub async fn setting(&self, entry: &'static Entry) -> Answer<Shown> {
        let found = async { Ok(Done::now(self.shown(entry, &self.policies.settings().await?.settings))) };
        verdict(found.await)
    }

    /// Sets a setting from JSON text, or (`None`) returns it to the deployment's default. In force here when
    /// this answers, and on all other sidecars within a second.
    ///
    /// Refused: `invalid_request` for a value that cannot stand, `conflict` when another version than
    /// `version` is there; then nothing has changed. Setting what is set already changes nothing.
    pub async fn put_setting(
        &self,
        by: &Actor,
        entry: &'static Entry,
        raw: Option<&str>,
        version: Option<u32>,
    ) -> Answer<Shown> {
        verdict(self.try_put_setting(by, entry, raw, version).await.map(Done::now))
    }

    async fn try_put_setting(
        &self,
        by: &Actor,
        entry: &'static Entry,
        raw: Option<&str>,
        version: Option<u32>,
    ) -> Step<Shown> {
        // Kept as it is shown, so that equal values are equal texts.
        let content = raw.map(|raw| canonical(entry, raw)).transpose()?;
        let judge = |settings: &[Stored]| {
            let judged = self.live.merged(settings).judge();
            judged.map_err(|(field, detail)| StoreError::Refused { field, detail })
        };
        let put = SettingPut { name: entry.name, content: content.as_deref(), version };
        match self.policies.put_setting(by, put, &judge).await? {
            Put::Saved(stored) => {
                let turn = self.live.turn.lock().await;
                if stored.revision > self.live.revision.load(Ordering::Relaxed) {
                    self.take_over(&stored);
                }
                drop(turn);
                self.tell().await;
                Ok(self.shown(entry, &stored.settings))
            }
            Put::Conflict(there) => {
                let detail = format!("{} has version {there} by now: read it again", entry.name);
                Err(Refusal { field: Some("version"), ..Refusal::new(Code::Conflict, detail) }.into())
            }
        }
    }

    /// Takes over what SQL has by now: settings, and the price list.
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be read; what is in force stays so.
    pub async fn refresh(&self) -> Result<(), Unavailable> {
        self.refresh_settings().await?;
        self.refresh_tariff().await
    }

    /// Takes over the settings in SQL, when there is anything new.
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be read; what is in force stays so.
    pub async fn refresh_settings(&self) -> Result<(), Unavailable> {
        let _turn = self.live.turn.lock().await;
        if self.policies.settings_revision().await? != self.live.revision.load(Ordering::Relaxed) {
            self.take_over(&self.policies.settings().await?);
        }
        Ok(())
    }

    /// In whose turn it is.
    fn take_over(&self, stored: &StoredSettings) {
        let values = self.live.merge(&stored.settings, |setting, sentence| {
            tracing::error!(setting, sentence, "a setting in the database cannot stand: the value before it stays");
        });
        self.local.bound(values.unavailable_allowance, values.unavailable_total);
        self.set_groups(GroupTables {
            usable: values.usable_groups.clone(),
            auto: values.auto_groups.clone(),
            models: values.group_models.clone(),
        });
        self.live.values.store(Arc::new(values));
        self.live.revision.store(stored.revision, Ordering::Relaxed);
        tracing::info!(revision = stored.revision, "settings are in force");
    }

    /// Tells every sidecar that there is something new in SQL.
    pub(crate) async fn tell(&self) {
        if let Some(news) = &self.news {
            news.tell().await;
        }
    }

    fn shown(&self, entry: &'static Entry, settings: &[Stored]) -> Shown {
        let (deployment, values) = (&self.live.deployment, self.live.merged(settings));
        let row = settings.iter().find(|stored| stored.name == entry.name);
        let source = match row.and_then(|row| row.content.as_ref()) {
            Some(_) => "database".to_owned(),
            None => deployment.origins.get(entry.name).cloned().unwrap_or_else(|| "default".to_owned()),
        };
        Shown {
            entry,
            value: entry.show(&values),
            default: entry.show(&deployment.values),
            source,
            version: row.map_or(0, |row| row.version),
            changed: row.map(|row| (row.changed_at, row.changed_by.clone())),
        }
    }
}

fn canonical(entry: &Entry, raw: &str) -> Result<String, Refusal> {
    let mut scratch = Values::builtin();
    let refused = |sentence| Refusal::invalid("value", format!("{} {sentence}", entry.name));
    entry.set(&mut scratch, raw).map_err(refused)?;
    Ok(entry.show(&scratch).to_string())
}
