//! The faults there are.

/// What is done to the processes. Times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of one sidecar, of all, of Redis, of everything at once; what was killed starts again.
    KillSidecar(usize),
    KillSidecars,
    KillRedis,
    KillBoth,
    /// Power loss: `kill -9` of Redis, and the last units of its append-only file are gone. `twice`: killed
    /// once more after it served again.
    CutBlocks {
        most: usize,
        twice: bool,
    },
    /// The same at any byte.
    CutBytes {
        most: usize,
        twice: bool,
    },
    /// Power loss within a script's block; killed once more after it served again.
    CutInside,
    /// Redis' folder is emptied.
    TotalLoss,
    /// Keeps a copy of Redis' folder, for a later `RestoreRedis`.
    CopyRedis,
    /// Redis comes back from the copy; nothing when there is none.
    RestoreRedis,
    /// A replica that lags takes over.
    Failover(u64),
    /// Redis, or a sidecar, stands still.
    FreezeRedis(u64),
    FreezeSidecar(usize, u64),
    /// Requests reach Redis, answers are swallowed.
    LostReplies(u64),
    CutConnections,
    /// `SCRIPT FLUSH` again and again.
    FlushScripts(u64),
    /// Another connection holds the database.
    SqlLocked(u64),
    /// `kill -9` of the database server, which stays away for a while.
    SqlKilled(u64),
    /// The database comes back from a copy that is this old.
    SqlOldCopy(u64),
    /// Keeps a copy of the database, for a later `LoseEverything`.
    CopySql,
    /// Redis' folder is emptied, and the database comes back from the copy.
    LoseEverything,
    /// From now on clients send nothing (`true`), or go on.
    Quiet(bool),
    /// Redis refuses to take more memory.
    OutOfMemory(u64),
    /// A sidecar is started anew and aborts when it comes to this point for the n-th time.
    FailPoint {
        sidecar: usize,
        name: &'static str,
        after: usize,
    },
}

/// The fail points of the protocol (`fail_point!` in the source).
pub const FAIL_POINTS: &[&str] = &[
    "batch-read",
    "posting-before-commit",
    "posting-committed",
    "after-commit-before-trim",
    "fence-set",
    "redo-one",
    "merge-appended",
    "wiped",
    "restored",
    "reopened",
    "rewrite-done",
    "generation-committed",
];

/// The point between data and mark, which are one transaction except in a mutant.
pub const MARK_OUTSIDE: &str = "mark-outside";

impl Fault {
    pub fn name(&self) -> &'static str {
        match self {
            Fault::KillSidecar(_) => "kill -9 sidecar",
            Fault::KillSidecars => "kill -9 all sidecars",
            Fault::KillRedis => "kill -9 redis",
            Fault::KillBoth => "kill -9 everything",
            Fault::CutBlocks { twice: false, .. } => "power loss, whole blocks",
            Fault::CutBlocks { twice: true, .. } => "power loss, whole blocks, restarted twice",
            Fault::CutBytes { twice: false, .. } => "power loss, torn file",
            Fault::CutBytes { twice: true, .. } => "power loss, torn file, restarted twice",
            Fault::CutInside => "power loss inside a block, restarted twice",
            Fault::TotalLoss => "total loss of redis",
            Fault::CopyRedis => "(copy of redis taken)",
            Fault::RestoreRedis => "redis restored from an older copy",
            Fault::Failover(_) => "failover to a lagging replica",
            Fault::FreezeRedis(_) => "redis stands still",
            Fault::FreezeSidecar(..) => "sidecar stands still",
            Fault::LostReplies(_) => "lost replies",
            Fault::CutConnections => "connections cut",
            Fault::FlushScripts(_) => "SCRIPT FLUSH in a loop",
            Fault::SqlLocked(_) => "sql locked",
            Fault::SqlKilled(_) => "kill -9 sql",
            Fault::SqlOldCopy(_) => "sql restored from an older copy",
            Fault::CopySql => "(copy of sql taken)",
            Fault::LoseEverything => "total loss of redis, sql restored from an older copy",
            Fault::Quiet(_) => "(clients pause)",
            Fault::OutOfMemory(_) => "redis out of memory",
            Fault::FailPoint { name, .. } => name,
        }
    }

    /// Whether Redis is killed, its file left as it is.
    pub fn kills_redis(&self) -> bool {
        matches!(self, Fault::KillRedis | Fault::KillBoth)
    }

    /// Whether Redis may forget what it acknowledged. A plain `kill -9` is no such fault: what was
    /// acknowledged had been written to the file, but while a flush of it is under way (see `World::postpones`).
    pub fn loses(&self) -> bool {
        matches!(
            self,
            Fault::CutBlocks { .. }
                | Fault::CutBytes { .. }
                | Fault::CutInside
                | Fault::TotalLoss
                | Fault::RestoreRedis
                | Fault::Failover(_)
                | Fault::LoseEverything
        )
    }
}
