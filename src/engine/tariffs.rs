//! The price lists in memory: the newest one, and those that reservations still refer to.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;

use super::{
    Answer, Engine,
    cache::Bounded,
    ports::{TariffVersion, Unavailable},
    step::{Done, Step, verdict},
};
use crate::quota::{
    clock::Millis,
    id::Actor,
    tariff::{Draft, Tariff, TariffDoc},
    usd::Scale,
    verdict::Refusal,
};

/// Older versions kept; a reservation lives a day at most, so few are asked for.
const OLDER_MAX: usize = 8;

/// How a price list is to be imported.
#[derive(Clone, Debug, Default)]
pub struct TariffImport {
    /// Models and groups that it does not name stay.
    pub merge: bool,
    /// The version that the caller has compared it with.
    pub base: Option<u32>,
    /// Who imports it, and where it came from; `None`: nobody yet.
    pub store: Option<(Actor, String)>,
}

/// A price list that was read, and perhaps stored.
#[derive(Clone, Debug)]
pub struct Drafted {
    /// The version it was compared with.
    pub base: u32,
    /// The version that it is; `None`: it was not stored.
    pub version: Option<u32>,
    pub draft: Draft,
}

/// The list that the package brings along.
fn builtin() -> TariffVersion {
    TariffVersion { version: 0, source: "built in".into(), imported_at: Millis(0) }
}

pub(crate) struct Tariffs {
    /// Version 0, which is in force until somebody imports another.
    builtin: Arc<Tariff>,
    current: ArcSwap<Tariff>,
    /// How the store shows the present one: it is known again by more than its number.
    row: Mutex<TariffVersion>,
    older: Bounded<u32, Arc<Tariff>>,
}

impl Tariffs {
    pub(crate) fn new(builtin: Tariff) -> Self {
        let builtin = Arc::new(builtin);
        let (current, row) = (ArcSwap::new(builtin.clone()), Mutex::new(self::builtin()));
        Self { current, row, builtin, older: Bounded::new(OLDER_MAX) }
    }

    fn row(&self) -> TariffVersion {
        self.row.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes another list over. `rewound`: the store is another one than before, so what is remembered of its
    /// versions is worth nothing.
    fn put(&self, row: TariffVersion, tariff: Arc<Tariff>, rewound: bool) {
        if rewound {
            self.older.clear();
        } else {
            let before = self.current();
            let version = before.version;
            self.older.put(&version, before, |_| false);
        }
        self.current.store(tariff);
        *self.row.lock().unwrap_or_else(PoisonError::into_inner) = row;
    }

    /// Of every price list here.
    pub(crate) fn scale(&self) -> Scale {
        Scale::new(self.builtin.units_per_usd())
    }

    /// The newest version this process knows; [`Engine::refresh_tariff`] keeps it so.
    pub(crate) fn current(&self) -> Arc<Tariff> {
        self.current.load_full()
    }
}

impl Engine {
    /// Another version 0 than the package's own, which is in units of 10^-8 USD.
    #[must_use]
    pub fn with_builtin_tariff(mut self, builtin: Tariff) -> Self {
        self.tariffs = Tariffs::new(builtin);
        self
    }

    /// Takes over the newest price list when it is not the present one. Called with every look
    /// at the settings, and after an import.
    ///
    /// A database that was restored from an older copy may have lost versions, and given their numbers to other lists
    /// since: then what this process knows of older versions is forgotten.
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be read; the present one then stays in force.
    pub async fn refresh_tariff(&self) -> Result<(), Unavailable> {
        let _turn = self.live.turn.lock().await;
        let newest = self.policies.tariff_versions(None, 1).await?.pop().unwrap_or_else(builtin);
        let known = self.tariffs.row();
        if newest != known {
            let still_there = known.version == 0 || self.row_of(known.version).await?.as_ref() == Some(&known);
            let rewound = newest.version <= known.version || !still_there;
            if rewound {
                let (before, after) = (known.version, newest.version);
                tracing::warn!(before, after, "the database has other price lists than before: they are read again");
            }
            let missing = || Unavailable::Store(format!("price list {} is not there", newest.version));
            let tariff = self.read_tariff(newest.version).await?.ok_or_else(missing)?;
            self.tariffs.put(newest, tariff, rewound);
        }
        Ok(())
    }

    async fn row_of(&self, version: u32) -> Result<Option<TariffVersion>, Unavailable> {
        let found = self.policies.tariff_versions(version.checked_add(1), 1).await?;
        Ok(found.into_iter().find(|found| found.version == version))
    }

    /// Stores a price list (the JSON of [`Tariff::from_json`]) as the newest version and takes it
    /// over; its number. `source` says where it came from, for people.
    pub async fn tariff_import(&self, by: &Actor, content: &[u8], source: &str) -> Answer<u32> {
        let import = async {
            Tariff::from_json(0, content).map_err(|sentence| Refusal::invalid("tariff", sentence))?;
            Ok(Done::now(self.put_tariff(by, content, source, None).await?))
        };
        verdict(import.await)
    }

    async fn put_tariff(&self, by: &Actor, content: &[u8], source: &str, base: Option<u32>) -> Step<u32> {
        let version = self.policies.put_tariff(by, content, source, base).await?;
        self.follow_tariff().await?;
        Ok(version)
    }

    /// The newest list, here and then everywhere.
    async fn follow_tariff(&self) -> Step<()> {
        self.refresh_tariff().await?;
        self.tell().await;
        Ok(())
    }

    /// Reads a price list in any format that [`Draft`] knows against the newest one, off the threads that
    /// serve; `store` says who imports it from where, and nothing is stored without it. `base` is the version
    /// that the caller has seen: when it is no longer the newest, the call is refused.
    pub async fn tariff_draft(&self, content: bytes::Bytes, ask: TariffImport) -> Answer<Drafted> {
        let draft = async {
            let newest = self.policies.tariff_version().await?;
            if let Some(base) = ask.base.filter(|base| *base != newest) {
                let sentence = format!("is {base}, but the newest version is {newest}: look at the difference again");
                return Err(Refusal::invalid("base", sentence).into());
            }
            let (_, in_force) = self.tariff_doc(newest).await?;
            let merge = ask.merge;
            let read = spawn_blocking(move || {
                let draft = Draft::read(&content, &in_force, merge)?;
                Ok((draft.stored(), draft.doc == in_force, draft))
            });
            let read: Result<_, String> = read.await.map_err(|error| Unavailable::Corrupt(error.to_string()))?;
            let (stored, same, draft) = read.map_err(|sentence| Refusal::invalid("tariff", sentence))?;
            let version = match ask.store {
                None => None,
                // Stored already, perhaps by this very call, which then could not take it over.
                Some(_) if same && newest > 0 => {
                    self.follow_tariff().await?;
                    Some(newest)
                }
                // What was compared is what is replaced.
                Some((by, source)) => Some(self.put_tariff(&by, &stored, &source, Some(newest)).await?),
            };
            Ok(Done::now(Drafted { base: newest, version, draft }))
        };
        verdict(draft.await)
    }

    /// Makes an older version the newest one, under a new number, which it answers.
    pub async fn tariff_activate(&self, by: &Actor, version: u32) -> Answer<u32> {
        let activate = async {
            let (_, doc) = self.tariff_doc(version).await?;
            let content = serde_json::to_vec(&doc).map_err(|error| Unavailable::Corrupt(error.to_string()))?;
            let source = format!("version {version}");
            Ok(Done::now(self.put_tariff(by, &content, &source, None).await?))
        };
        verdict(activate.await)
    }

    /// Versions below `before`, the newest first; the last of them is the package's own, 0.
    pub async fn tariff_versions(&self, before: Option<u32>, most: u32) -> Answer<Vec<TariffVersion>> {
        let list = async {
            let mut versions = self.policies.tariff_versions(before, most).await?;
            if versions.len() < most as usize && before.is_none_or(|before| before > 0) {
                versions.push(builtin());
            }
            Ok(Done::now(versions))
        };
        verdict(list.await)
    }

    /// One version (`None`: the newest), and its list as it is stored.
    pub async fn tariff_version(&self, version: Option<u32>) -> Answer<(TariffVersion, TariffDoc)> {
        let read = async {
            let version = match version {
                Some(version) => version,
                None => self.policies.tariff_version().await?,
            };
            Ok(Done::now(self.tariff_doc(version).await?))
        };
        verdict(read.await)
    }

    /// One version (`None`: the newest that this process knows), ready to be asked.
    pub async fn tariff_table(&self, version: Option<u32>) -> Answer<Arc<Tariff>> {
        let read = async {
            let Some(version) = version else { return Ok(Done::now(self.tariffs.current())) };
            self.known_version(version).await?;
            let missing = || Unavailable::Store(format!("price list {version} is not there"));
            Ok(Done::now(self.tariff(version).await?.ok_or_else(missing)?))
        };
        verdict(read.await)
    }

    async fn known_version(&self, version: u32) -> Step<TariffVersion> {
        if version == 0 {
            return Ok(builtin());
        }
        let found = self.row_of(version).await?;
        found.ok_or_else(|| Refusal::invalid("version", format!("there is no price list {version}")).into())
    }

    async fn tariff_doc(&self, version: u32) -> Step<(TariffVersion, TariffDoc)> {
        let known = self.known_version(version).await?;
        let corrupt = |sentence: String| Unavailable::Store(format!("price list {version} cannot be read: {sentence}"));
        let doc = match self.policies.tariff(version).await? {
            Some(content) => serde_json::from_slice(&content).map_err(|error| corrupt(error.to_string()))?,
            None => Tariff::builtin_doc(self.tariffs.builtin.units_per_usd()).map_err(corrupt)?,
        };
        Ok((known, doc))
    }

    /// The version that a reservation was made with. One that is gone, because the database was restored from an older
    /// copy, is stood in for by the newest: the work has to be priced by something.
    pub(crate) async fn tariff_of(&self, version: u32) -> Result<Arc<Tariff>, Unavailable> {
        if let Some(tariff) = self.tariff(version).await? {
            return Ok(tariff);
        }
        let newest = self.tariffs.current();
        let by = newest.version;
        tracing::warn!(version, by, "a reservation's price list is not there any more: priced by the newest");
        Ok(newest)
    }

    /// One version; `None` when it is not there.
    async fn tariff(&self, version: u32) -> Result<Option<Arc<Tariff>>, Unavailable> {
        let current = self.tariffs.current();
        if version == current.version {
            return Ok(Some(current));
        }
        if let Some(tariff) = self.tariffs.older.get(&version) {
            return Ok(Some(tariff));
        }
        let read = self.read_tariff(version).await?;
        Ok(read.map(|tariff| if version == 0 { tariff } else { self.tariffs.older.put(&version, tariff, |_| true) }))
    }

    /// From the store; version 0 is built in.
    async fn read_tariff(&self, version: u32) -> Result<Option<Arc<Tariff>>, Unavailable> {
        match self.policies.tariff(version).await? {
            Some(content) => Tariff::from_json(version, &content)
                .map(|tariff| Some(Arc::new(tariff)))
                .map_err(|sentence| Unavailable::Store(format!("price list {version} cannot be read: {sentence}"))),
            None => Ok((version == 0).then(|| self.tariffs.builtin.clone())),
        }
    }
}
