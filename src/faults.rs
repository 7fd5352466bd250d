//! Faults on purpose, for the fault tests alone. Without the cargo feature `faults` (every build but
//! theirs) a fail point is nothing and a mutant is a constant `false`: neither leaves code behind.
//!
//! | fail point | where |
//! |---|---|
//! | `batch-read` | write-back has read a stream, SQL has nothing of it |
//! | `after-commit-before-trim` | SQL has it; no compensation, no trim yet |
//! | `rewrite-done` | the append-only file is rewritten, SQL does not know |
//! | `fence-set` | a shard was fenced, as it is or as worth nothing |
//! | `redo-one` | one more ledger row was applied to Redis again |
//! | `merge-appended` | one more page of Redis' branch is in the ledger |
//! | `wiped` | a shard is empty, its tombstones are not back |
//! | `restored` | its tombstones are back, it is still fenced |
//! | `operation-done` | a credit or debit is done in Redis, the audit has no row of it |
//! | `account-closed` | Redis has taken an account's balance, SQL has the account still |
//! | `reset-done` | a window was reset in Redis, the audit has no row of it |
//! | `policy-committed` | SQL has other rules of an account, Redis has not heard of them |
//! | `provisioned` | SQL has a new account, Redis does not know |
//! | `transferred` | SQL owes a reward that was moved, Redis does not know |
//! | `reopened` | a shard is open, and not yet served |
//! | `code-used` | SQL knows that a code is used, Redis has no credit for it |
//! | `code-credited` | Redis has it, and nobody was told |

/// A step of the protocol left out. The fault tests must notice each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Write-back does not look for the mark's own entry in the stream.
    NoOverlapCheck,
    /// The mark moves in a transaction of its own, after the data.
    MarkOutsideTransaction,
    /// A rebuild restores balances without the memory of recent reservations.
    RebuildWithoutRecords,
    /// A Redis behind SQL is served as it is.
    NoRedo,
    /// Histories are compared by sequence number alone.
    SeqWithoutDigest,
    /// A restarted Redis keeps its append-only file as the crash left it.
    NoAofRewrite,
}

impl Mutant {
    /// All of them, with the names by which `QUOTAD_MUTANT` selects one.
    pub const ALL: [(&'static str, Mutant); 6] = [
        ("no-overlap-check", Mutant::NoOverlapCheck),
        ("mark-outside-transaction", Mutant::MarkOutsideTransaction),
        ("rebuild-without-records", Mutant::RebuildWithoutRecords),
        ("no-redo", Mutant::NoRedo),
        ("seq-without-digest", Mutant::SeqWithoutDigest),
        ("no-aof-rewrite", Mutant::NoAofRewrite),
    ];
}

/// Whether this process runs as that mutant.
#[cfg(feature = "faults")]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("QUOTAD_MUTANT").ok()?;
        Mutant::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, mutant)| mutant)
    });
    *chosen == Some(mutant)
}

/// Whether this process runs as that mutant: it never does.
#[cfg(not(feature = "faults"))]
#[must_use]
pub const fn is(_mutant: Mutant) -> bool {
    false
}

/// A place where the fault tests may stop the process dead: `FAILPOINTS="name=panic"` (syntax of the
/// crate `fail`); a panic there aborts, see [`arm`].
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(feature = "faults")]
        ::fail::fail_point!($name);
    };
}

/// Reads `FAILPOINTS`, and makes every panic end the process at once, as a kill would.
#[cfg(feature = "faults")]
pub fn arm() {
    if std::env::var_os("FAILPOINTS").is_some() {
        // Kept for the life of the process: dropping it would clear the fail points.
        std::mem::forget(fail::FailScenario::setup());
        std::panic::set_hook(Box::new(|_| std::process::abort()));
    }
}

/// Nothing to arm.
#[cfg(not(feature = "faults"))]
pub const fn arm() {}
