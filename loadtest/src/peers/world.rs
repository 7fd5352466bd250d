//! What all lines share: what was typed, the seeded databases, and how throughput is measured.

use std::path::Path;

use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{
    args::{Name, PeersArgs},
    figures::Row,
    seed::Seed,
    wrk::{Script, Wrk},
};

/// Accounts that throughput is measured with: as many as the plain scripts' Redis has.
pub const ACCOUNTS: u32 = 10_000;

pub struct World {
    pub args: PeersArgs,
    scripts: TempDir,
    few: OnceCell<Seed>,
    many: OnceCell<Seed>,
}

impl World {
    /// # Errors
    /// A sentence when there is no place for files.
    pub fn new(args: PeersArgs) -> Result<Self, String> {
        let scripts = TempDir::with_prefix("quotad-peers-wrk-").map_err(|error| format!("no folder: {error}"))?;
        Ok(Self { args, scripts, few: OnceCell::new(), many: OnceCell::new() })
    }

    #[must_use]
    pub fn program(&self) -> &Path {
        &self.args.quotad
    }

    /// A database with two times 10 000 ordinary accounts and 10 000 with a trust threshold.
    ///
    /// # Errors
    /// A sentence when it cannot be made.
    pub async fn few(&self) -> Result<&Seed, String> {
        self.few.get_or_try_init(|| Seed::make(self.program(), 2 * ACCOUNTS, ACCOUNTS)).await
    }

    /// A database with `--many` accounts.
    ///
    /// # Errors
    /// A sentence when it cannot be made.
    pub async fn many(&self) -> Result<&Seed, String> {
        let make = async || {
            eprintln!("  writing {} accounts into SQLite", self.args.many);
            Seed::make(self.program(), self.args.many, 0).await
        };
        self.many.get_or_try_init(make).await
    }

    #[must_use]
    pub fn wrk(&self) -> Wrk<'_> {
        Wrk { folder: self.scripts.path(), connections: self.args.connections, seconds: self.args.seconds }
    }

    /// Numbers of the rounds; each is told on standard error.
    pub fn rounds(&self, line: Name) -> impl Iterator<Item = u32> + '_ {
        (1..=self.args.rounds).inspect(move |round| eprintln!("  {line:?}: round {round} of {}", self.args.rounds))
    }
}

/// What a line gives.
pub type Rows = Result<Vec<Row>, String>;

/// The scripts that wrk runs; each says in its head what it needs.
pub mod scripts {
    use super::Script;

    macro_rules! script {
        ($name:literal) => {
            Script { name: $name, text: include_str!(concat!("../../peers/", $name)), environment: Vec::new() }
        };
    }

    pub fn fixed() -> Script {
        script!("static.wrk.lua")
    }

    pub fn webdis() -> Script {
        script!("webdis.wrk.lua")
    }

    pub fn reserve() -> Script {
        script!("reserve.wrk.lua")
    }

    pub fn pair() -> Script {
        script!("pair.wrk.lua")
    }

    pub fn batch() -> Script {
        script!("batch.wrk.lua")
    }
}
