//! Attach: before a shard is served, its two sides are compared, and brought together where that loses
//! nothing. Runs at start and whenever the stream port says that Redis may not be the one it was.
//!
//! Every step is a compare-and-set on what was read, so that it can stop anywhere and several sidecars
//! may attach at once: whoever comes second reads again.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::error;

use super::{
    concurrent,
    poster::Poster,
    recovery::{Outcome, Server, attach_shard},
    report::Report,
};
use crate::{
    engine::ports::{Opened, ServerFacts, StoreError, Unavailable},
    faults::{self, Mutant},
};

/// Shards attached at once.
const SHARDS_AT_ONCE: usize = 16;
/// Pauses between attempts while Redis or SQL is away.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How often an attached server is asked whether it still may be used: somebody may have allowed it to
/// throw balances away.
const FITNESS_INTERVAL: Duration = Duration::from_secs(2);
/// A shard that was refused is looked at again this often: somebody may have put it right.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// Why nothing is attached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AttachError {
    /// Later.
    #[error(transparent)]
    Away(#[from] Unavailable),
    /// Redis answers, but must not be used as it is; its operator can change that.
    #[error("{0}")]
    Unfit(String),
    /// Configuration and data do not belong together: refuse to start.
    #[error("{0}")]
    Mismatch(String),
}

impl AttachError {
    /// Whether trying again can help without anybody's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            AttachError::Away(_) => true,
            AttachError::Unfit(_) | AttachError::Mismatch(_) => false,
        }
    }
}

impl From<StoreError> for AttachError {
    fn from(error: StoreError) -> Self {
        AttachError::Away(error.into())
    }
}

/// Attaches shards.
pub struct Attach {
    poster: Arc<Poster>,
}

impl Attach {
    pub(super) fn new(poster: Arc<Poster>) -> Self {
        Self { poster }
    }

    /// Attaches again and again until `stop` resolves.
    ///
    /// # Errors
    /// [`AttachError::Mismatch`], which no waiting cures.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), AttachError> {
        let mut stop = pin!(stop);
        let mut failures = 0_u32;
        loop {
            let pause = tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                attached = self.run_once() => match attached {
                    Ok(report) => {
                        failures = 0;
                        if report.refused.is_empty() { None } else { Some(REFUSED_RETRY) }
                    }
                    Err(mismatch @ AttachError::Mismatch(_)) => return Err(mismatch),
                    Err(reason) => {
                        if failures == 0 {
                            error!(%reason, "Redis cannot be attached; trying again");
                        }
                        failures = failures.saturating_add(1);
                        Some(BACKOFF_MIN.saturating_mul(1 << (failures - 1).min(10)).min(BACKOFF_MAX))
                    }
                },
            };
            let again = async {
                match pause {
                    Some(pause) => sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                // While attempts fail, the pause decides: the signal may be pending all the time.
                () = self.poster.ports.stream.needs_attach(), if failures == 0 => {}
                () = self.until_unfit(), if failures == 0 => {}
                () = again => {}
            }
        }
    }

    /// Resolves when the server answers, but must not be used any more.
    async fn until_unfit(&self) {
        loop {
            sleep(FITNESS_INTERVAL).await;
            if self.poster.ports.stream.server().await.is_ok_and(|facts| !is_fit(&facts)) {
                return;
            }
        }
    }

    /// Looks at the server and at every shard once, and serves those that may be.
    ///
    /// # Errors
    /// [`AttachError`]; what was served before is served on, unless the server is another one.
    pub async fn run_once(&self) -> Result<Report, AttachError> {
        let ports = &self.poster.ports;
        // Before the server is asked who it is: one that comes after that is another era.
        let era = ports.counters.era();
        let facts = ports.stream.server().await?;
        let same = self.poster.attached_to().as_deref() == Some(facts.run_id.as_str());
        if !same || !is_fit(&facts) {
            self.serve_none();
        }
        check_fit(&facts)?;
        self.check_constants().await?;
        let rewritten = self.rewrite_once(&facts).await?;
        // Write-back opens generations that SQL lacks for this server.
        self.poster.set_attached(Some(facts.run_id.clone()));
        let server = Server { run_id: facts.run_id, era };
        let outcomes = self.attach_shards(&server).await?;
        let mut report = Report { run_id: server.run_id, rewritten, ..Report::default() };
        let mut put_off = None;
        for (shard, outcome) in outcomes {
            match outcome {
                Ok(Outcome::Agreed) => report.agreed += 1,
                Ok(Outcome::Opened) => report.opened += 1,
                Ok(Outcome::Recovered(recovered)) => report.recovered.push(recovered),
                Ok(Outcome::Refused(sentence)) => report.refused.push((shard, sentence)),
                Err(reason) => put_off = Some(reason),
            }
        }
        // What was done is told, whatever is left to do.
        report.tell();
        match put_off {
            Some(reason) => Err(reason.into()),
            None => Ok(report),
        }
    }

    /// One read of SQL for all shards: what it says is old by the time it is used, and only good
    /// enough to see that nothing is wrong.
    async fn attach_shards(&self, server: &Server) -> Result<Vec<(u16, Result<Outcome, Unavailable>)>, AttachError> {
        let poster = &self.poster;
        let shards = poster.settings.constants.shards;
        let mut views: Vec<Option<Opened>> = vec![None; usize::from(shards)];
        for opened in poster.ports.posting.all_opened().await? {
            if let Some(view) = views.get_mut(usize::from(opened.shard)) {
                *view = Some(opened);
            }
        }
        let outcomes = concurrent::map((0..shards).zip(views), SHARDS_AT_ONCE, |(shard, view)| {
            let (poster, server) = (poster.clone(), server.clone());
            async move { (shard, attach_shard(&poster, &server, shard, view.as_ref()).await) }
        });
        Ok(outcomes.await)
    }

    async fn check_constants(&self) -> Result<(), AttachError> {
        let wanted = self.poster.settings.constants;
        let stored = self.poster.ports.posting.constants(wanted).await?;
        let mismatch = |name: &str, wanted: i64, stored: i64| {
            Err(AttachError::Mismatch(format!(
                "{name} is configured as {wanted}, but this database was begun with {stored}, which cannot change; \
                 set {name} to {stored}"
            )))
        };
        if stored.shards != wanted.shards {
            return mismatch("shards", wanted.shards.into(), stored.shards.into());
        }
        if stored.units_per_usd != wanted.units_per_usd {
            return mismatch("units_per_usd", wanted.units_per_usd, stored.units_per_usd);
        }
        Ok(())
    }

    /// A server process that nobody attached before may have an append-only file that is torn inside
    /// a script: the next restart would revive half of it (write-back, fact 3).
    async fn rewrite_once(&self, facts: &ServerFacts) -> Result<bool, AttachError> {
        let ports = &self.poster.ports;
        if ports.posting.last_run_id().await?.as_deref() == Some(facts.run_id.as_str()) {
            return Ok(false);
        }
        if !faults::is(Mutant::NoAofRewrite) {
            ports.stream.rewrite_aof().await?;
        }
        crate::fail_point!("rewrite-done");
        ports.posting.set_run_id(&facts.run_id).await?;
        Ok(true)
    }

    fn serve_none(&self) {
        for shard in 0..self.poster.settings.constants.shards {
            self.poster.ports.stream.stop(shard);
        }
        self.poster.set_attached(None);
    }
}

fn is_fit(facts: &ServerFacts) -> bool {
    check_fit(facts).is_ok()
}

fn check_fit(facts: &ServerFacts) -> Result<(), AttachError> {
    if facts.loading {
        return Err(Unavailable::Connection("it is loading its data".into()).into());
    }
    if !facts.master {
        return Err(AttachError::Unfit("Redis is a replica; money is counted on the master only".into()));
    }
    if facts.maxmemory_policy != "noeviction" {
        return Err(AttachError::Unfit(format!(
            "Redis would evict balances when its memory is full: set maxmemory-policy to noeviction (it is {})",
            facts.maxmemory_policy
        )));
    }
    if facts.append_only && !facts.aof_last_write_ok {
        return Err(AttachError::Unfit("Redis could not write its append-only file; look at its disk".into()));
    }
    Ok(())
}
