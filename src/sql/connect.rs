//! From a URL to an open database with its tables up to date.

use std::sync::Arc;

use super::{Store, sqlite::SqliteBackend};
use crate::quota::window::Zone;

/// Why a database cannot be used; start-up ends with this sentence.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL itself cannot stand.
    #[error("{0}")]
    Url(String),
    #[error("the database cannot be opened: {0}")]
    Open(String),
}

/// Opens the database that `url` names: `sqlite://<path>`. `zone` is the time zone of accounts that
/// are created without one.
///
/// # Errors
/// [`OpenError`]: a URL of another kind, or a database that cannot be opened or migrated.
pub async fn open(url: &str, zone: Zone) -> Result<Arc<Store>, OpenError> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(OpenError::Url(format!("`{url}` is no database URL; write sqlite:// and the path of a file")));
    };
    match scheme {
        "sqlite" if rest.contains(":memory:") || rest.contains("mode=memory") => Err(OpenError::Url(
            "an SQLite database in memory forgets the ledger with the process; write sqlite:// and the path of a file"
                .into(),
        )),
        "sqlite" => Ok(Arc::new(Store { backend: Box::new(SqliteBackend::open(url).await?), zone })),
        "postgres" | "postgresql" | "mysql" | "mariadb" => Err(OpenError::Url(
            "PostgreSQL and MySQL arrive with the next version; until then write sqlite:// and the path of a file"
                .into(),
        )),
        _ => Err(OpenError::Url(format!(
            "databases of the kind `{scheme}` are not known; write sqlite:// and the path of a file"
        ))),
    }
}
