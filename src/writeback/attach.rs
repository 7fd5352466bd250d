//! Attach: before a shard is served, its two sides are compared, and brought together where that loses
//! nothing. Runs at start and whenever the stream port says that Redis may not be the one it was.
//!
//! Every step is a compare-and-set on what was read, so that it can stop anywhere and several sidecars
//! may attach at once: whoever comes second reads again.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tracing::{error, info, warn};

use super::{
    checkpoint::{Text, after_overlap},
    concurrent, gauges,
    poster::{PostError, Poster, Step},
    rebuild::rebuild,
    standing::{Standing, compare, differs, fence_for, is_empty, is_past},
};
use crate::engine::ports::{Mark, Position, ServerFacts, ShardMeta, StoreError, Unavailable};

/// Shards attached at once.
const SHARDS_AT_ONCE: usize = 16;
/// Looks at one shard before its attach is put off; each ends with somebody's step done.
const LOOKS_MAX: usize = 200;
/// Pause before looking again at a shard that another sidecar recovers.
const ELSEWHERE_PAUSE: Duration = Duration::from_millis(50);
/// A recovery that takes longer may be taken over.
const RECOVERY_LEASE: Duration = Duration::from_secs(30);
/// Pauses between attempts while Redis or SQL is away.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
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

/// A shard whose memory in Redis was lost, and that goes on from SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    pub shard: u16,
    /// Where SQL stood: entries after it that were not yet posted are lost.
    pub after: Position,
    /// True: Redis had nothing at all, so nobody can say whether there were such entries. False: it
    /// was an older state of what SQL has. Either way holds are gone, and so is what Redis had
    /// acknowledged, but neither kept nor seen posted.
    pub empty: bool,
    pub generation: u32,
}

/// What an attach did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub run_id: String,
    /// The append-only file was rewritten, because the server is another process than last time.
    pub rewritten: bool,
    /// Shards that nobody had opened before.
    pub opened: usize,
    /// Shards whose sides agree.
    pub agreed: usize,
    pub rebuilt: Vec<Rebuilt>,
    /// Shards that are not served, and why.
    pub refused: Vec<(u16, String)>,
}

enum Outcome {
    Agreed,
    Opened,
    Rebuilt(Rebuilt),
    Refused(String),
}

/// Attaches shards.
pub struct Attach {
    poster: Arc<Poster>,
    /// The server that was attached last.
    attached: Mutex<Option<String>>,
}

impl Attach {
    pub(super) fn new(poster: Arc<Poster>) -> Self {
        Self { poster, attached: Mutex::new(None) }
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
                () = again => {}
            }
        }
    }

    /// Looks at the server and at every shard once, and serves those that may be.
    ///
    /// # Errors
    /// [`AttachError`]; what was served before is served on, unless the server is another one.
    pub async fn run_once(&self) -> Result<Report, AttachError> {
        let ports = &self.poster.ports;
        let facts = ports.stream.server().await?;
        let same = self.attached_to().as_deref() == Some(facts.run_id.as_str());
        if !same || !is_fit(&facts) {
            self.serve_none();
        }
        check_fit(&facts)?;
        self.check_constants().await?;
        let rewritten = self.rewrite_once(&facts).await?;
        let poster = &self.poster;
        let shards = 0..poster.settings.constants.shards;
        let outcomes = concurrent::map(shards, SHARDS_AT_ONCE, |shard| {
            let poster = poster.clone();
            async move { (shard, attach_shard(&poster, shard).await) }
        })
        .await;
        let mut report = Report { run_id: facts.run_id.clone(), rewritten, ..Report::default() };
        for (shard, outcome) in outcomes {
            match outcome? {
                Outcome::Agreed => report.agreed += 1,
                Outcome::Opened => report.opened += 1,
                Outcome::Rebuilt(rebuilt) => report.rebuilt.push(rebuilt),
                Outcome::Refused(sentence) => report.refused.push((shard, sentence)),
            }
        }
        self.set_attached(Some(facts.run_id));
        tell(&mut report);
        Ok(report)
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
        ports.stream.rewrite_aof().await?;
        ports.posting.set_run_id(&facts.run_id).await?;
        Ok(true)
    }

    fn serve_none(&self) {
        for shard in 0..self.poster.settings.constants.shards {
            self.poster.ports.stream.serve(shard, None);
        }
        self.set_attached(None);
    }

    fn attached_to(&self) -> Option<String> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_attached(&self, run_id: Option<String>) {
        *self.attached.lock().unwrap_or_else(PoisonError::into_inner) = run_id;
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

/// One shard, until its sides stand together or are known to differ.
async fn attach_shard(poster: &Poster, shard: u16) -> Result<Outcome, Unavailable> {
    let stream = &poster.ports.stream;
    let mut lost: Option<(Position, bool)> = None;
    for _ in 0..LOOKS_MAX {
        // In this order: a healthy Redis is never behind a mark that was read before it.
        let mark = poster.ports.posting.mark(shard).await?;
        let meta = stream.meta(shard).await?;
        let refusal = match (compare(mark.as_ref(), meta.as_ref()), &mark, &meta) {
            (Standing::Agree, Some(mark), Some(_)) => {
                if has_overlap(poster, shard, mark).await? {
                    stream.serve(shard, Some(mark.at.generation));
                    return Ok(Outcome::Agreed);
                }
                differs(mark)
            }
            (Standing::Missing, _, _) => {
                stream.set_meta(shard, None, &fence_for(mark.as_ref())).await?;
                continue;
            }
            (Standing::Behind, Some(mark), Some(meta)) => {
                let in_ledger = poster.ports.posting.digest_at(shard, meta.top).await?;
                if is_past(meta, in_ledger.as_ref()) {
                    lost.get_or_insert((mark.at, false));
                    stream.set_meta(shard, Some(meta), &ShardMeta { open: false, ..*meta }).await?;
                    continue;
                }
                format!("{}, and Redis is at {}", differs(mark), Text(meta.top))
            }
            (standing @ (Standing::FencedAhead | Standing::FencedDone | Standing::FencedEmpty), _, Some(meta)) => {
                // A recovery that began elsewhere, perhaps in a process that is gone, is reported too.
                if meta.top != Position::default() {
                    lost.get_or_insert((meta.top, is_empty(meta)));
                }
                match recover(poster, shard, &standing, mark.as_ref(), meta).await? {
                    Recovery::Again => continue,
                    Recovery::Opened(generation) => return Ok(opened(shard, generation, lost)),
                    Recovery::Refused(sentence) => sentence,
                }
            }
            (Standing::Diverged(sentence), _, _) => sentence,
            (other, _, _) => return Err(Unavailable::Corrupt(format!("shard {shard} stands {other:?}"))),
        };
        // What was compared may have moved while it was: only what stands still differs.
        if poster.ports.posting.mark(shard).await? == mark && same_history(&stream.meta(shard).await?, &meta) {
            stream.serve(shard, None);
            return Ok(Outcome::Refused(refusal));
        }
    }
    Err(Unavailable::Recovering)
}

fn opened(shard: u16, generation: u32, lost: Option<(Position, bool)>) -> Outcome {
    match lost {
        Some((after, empty)) => Outcome::Rebuilt(Rebuilt { shard, after, empty, generation }),
        None => Outcome::Opened,
    }
}

/// A shard that takes traffic moves on; its fence and generation stay while nobody recovers it.
fn same_history(now: &Option<ShardMeta>, before: &Option<ShardMeta>) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => now.open == before.open && now.top.generation == before.top.generation,
        (now, before) => now == before,
    }
}

/// Whether the stream holds the mark's entry, with its digest.
async fn has_overlap(poster: &Poster, shard: u16, mark: &Mark) -> Result<bool, Unavailable> {
    let stream = poster.ports.stream.read(shard, mark.at, 1).await?;
    Ok(after_overlap(mark, &stream).is_ok())
}

enum Recovery {
    /// A step was done, here or elsewhere: look again.
    Again,
    Opened(u32),
    Refused(String),
}

/// One step of a fenced shard's way back. The lease keeps two sidecars from wiping at once.
async fn recover(
    poster: &Poster,
    shard: u16,
    standing: &Standing,
    mark: Option<&Mark>,
    fence: &ShardMeta,
) -> Result<Recovery, Unavailable> {
    let stream = &poster.ports.stream;
    let lease = format!("recover-{shard}");
    let holder = &poster.settings.holder;
    let ttl_ms = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    if !stream.lease(&lease, holder, ttl_ms(RECOVERY_LEASE)).await? {
        sleep(ELSEWHERE_PAUSE).await;
        return Ok(Recovery::Again);
    }
    // Only now is it certain that nobody else moved the fence since it was read.
    if stream.meta(shard).await? != Some(*fence) {
        return Ok(Recovery::Again);
    }
    match (standing, mark) {
        (Standing::FencedAhead, _) => match poster.post_once(shard).await {
            Ok(Step::Idle) => Ok(Recovery::Refused(format!("the stream ends before {}", Text(fence.top)))),
            Ok(Step::Posted { .. } | Step::Overtaken) => Ok(Recovery::Again),
            Err(PostError::Stopped(sentence)) => Ok(Recovery::Refused(sentence)),
            Err(PostError::Unavailable(reason)) => Err(reason),
        },
        (Standing::FencedEmpty, Some(mark)) => {
            let opened = rebuild(poster, shard, fence, mark).await?;
            // Runs out by itself when this fails.
            let _ = stream.lease(&lease, holder, 1).await;
            Ok(if opened { Recovery::Opened(mark.at.generation) } else { Recovery::Again })
        }
        (_, mark) => {
            let next = mark.map_or(1, |mark| mark.at.generation.saturating_add(1));
            poster.ports.posting.open_generation(shard, mark, next).await?;
            Ok(Recovery::Again)
        }
    }
}

/// The lines and numbers that an operator needs.
fn tell(report: &mut Report) {
    report.rebuilt.sort_by_key(|rebuilt| rebuilt.shard);
    report.refused.sort();
    gauges::attached(report.refused.len(), report.rebuilt.len());
    if report.opened > 0 || report.rewritten {
        info!(run_id = report.run_id, opened = report.opened, agreed = report.agreed, "attached to Redis");
    }
    let places = |empty: bool| {
        let of_kind = report.rebuilt.iter().filter(|rebuilt| rebuilt.empty == empty);
        of_kind.map(|rebuilt| format!("{}:{}", rebuilt.shard, Text(rebuilt.after))).collect::<Vec<_>>()
    };
    let (empty, behind) = (places(true), places(false));
    if !empty.is_empty() {
        warn!(
            after = empty.join(" "),
            "Redis had lost these shards: holds are gone, and so is what was charged after these places and not posted"
        );
    }
    if !behind.is_empty() {
        warn!(
            after = behind.join(" "),
            "Redis was behind the database on these shards: holds are gone, and so is what was charged after these places \
             and not posted"
        );
    }
    for (shard, reason) in &report.refused {
        error!(shard, reason, "a shard is not served");
    }
}
