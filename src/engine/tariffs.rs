//! The price lists in memory: the newest one, and those that reservations still refer to.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{
    Answer, Engine,
    cache::Bounded,
    ports::Unavailable,
    step::{Done, verdict},
};
use crate::quota::{id::Actor, tariff::Tariff, verdict::Refusal};

/// Older versions kept; a reservation lives a day at most, so few are asked for.
const OLDER_MAX: usize = 8;

pub(crate) struct Tariffs {
    /// Version 0, which is in force until somebody imports another.
    builtin: Arc<Tariff>,
    current: ArcSwap<Tariff>,
    older: Bounded<u32, Arc<Tariff>>,
}

impl Tariffs {
    pub(crate) fn new(builtin: Tariff) -> Self {
        let builtin = Arc::new(builtin);
        Self { current: ArcSwap::new(builtin.clone()), builtin, older: Bounded::new(OLDER_MAX) }
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

    /// Takes over the newest price list when it is not the present one. Called every few seconds
    /// by a background task, and after an import.
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be read; the present one then stays in force.
    pub async fn refresh_tariff(&self) -> Result<(), Unavailable> {
        let newest = self.policies.tariff_version().await?;
        let current = self.tariffs.current();
        if newest != current.version {
            let tariff = self.tariff(newest).await?;
            self.tariffs.older.put(&current.version, current.clone(), |_| false);
            self.tariffs.current.store(tariff);
        }
        Ok(())
    }

    /// Stores a price list (the JSON of [`Tariff::from_json`]) as the newest version and takes it
    /// over; its number. `source` says where it came from, for people.
    pub async fn tariff_import(&self, by: &Actor, content: &[u8], source: &str) -> Answer<u32> {
        let import = async {
            Tariff::from_json(0, content).map_err(|sentence| Refusal::invalid("tariff", sentence))?;
            let version = self.policies.put_tariff(by, content, source).await?;
            self.refresh_tariff().await?;
            Ok(Done::now(version))
        };
        verdict(import.await)
    }

    /// One version: that a reservation was made with, or the newest. Version 0 is built in.
    pub(crate) async fn tariff(&self, version: u32) -> Result<Arc<Tariff>, Unavailable> {
        let current = self.tariffs.current();
        if version == current.version {
            return Ok(current);
        }
        if let Some(tariff) = self.tariffs.older.get(&version) {
            return Ok(tariff);
        }
        let tariff = match self.policies.tariff(version).await? {
            Some(content) => Tariff::from_json(version, &content)
                .map_err(|sentence| Unavailable::Store(format!("price list {version} cannot be read: {sentence}")))?,
            None if version == 0 => return Ok(self.tariffs.builtin.clone()),
            None => return Err(Unavailable::Store(format!("price list {version} is not there"))),
        };
        Ok(self.tariffs.older.put(&version, Arc::new(tariff), |_| true))
    }
}
