//! From a URL to an open database with its tables up to date.

use std::sync::Arc;

use super::{
    Store, mysql, mysql::MySqlServer, postgres, postgres::PostgresServer, server::ServerBackend, session::Backend,
    sqlite::SqliteBackend,
};
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

/// Connections to a server, when nobody says another number.
const CONNECTIONS: u32 = 8;

/// [`open_with`], with as many connections as usual.
///
/// # Errors
/// As [`open_with`].
pub async fn open(url: &str, zone: Zone) -> Result<Arc<Store>, OpenError> {
    open_with(url, zone, CONNECTIONS).await
}

/// Opens the database that `url` names: `sqlite://<path>`, `postgres://…` or `mysql://…` (also
/// `postgresql` and `mariadb`), and brings its tables up to date; several processes may do so at once.
/// `zone` is the time zone of accounts that are created without one, `connections` bounds those to a
/// server.
///
/// # Errors
/// [`OpenError`]: a URL of another kind, or a database that cannot be opened or migrated, or is too old,
/// or only reads. No sentence holds a password.
pub async fn open_with(url: &str, zone: Zone, connections: u32) -> Result<Arc<Store>, OpenError> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(OpenError::Url("this is no database URL; write sqlite:// and the path of a file".into()));
    };
    let backend: Box<dyn Backend> = match scheme {
        "sqlite" if rest.contains(":memory:") || rest.contains("mode=memory") => {
            return Err(OpenError::Url(
                "an SQLite database in memory forgets the ledger with the process; write sqlite:// and the path of \
                 a file"
                    .into(),
            ));
        }
        "sqlite" => Box::new(SqliteBackend::open(url).await?),
        "postgres" | "postgresql" => {
            check_parameters(rest, postgres::PARAMETERS)?;
            Box::new(ServerBackend::<PostgresServer>::open(postgres::options(url)?, connections).await?)
        }
        "mysql" | "mariadb" => {
            check_parameters(rest, mysql::PARAMETERS)?;
            Box::new(ServerBackend::<MySqlServer>::open(mysql::options(url)?, connections).await?)
        }
        _ => {
            return Err(OpenError::Url(format!(
                "databases of the kind `{scheme}` are not known; write sqlite://, postgres:// or mysql://"
            )));
        }
    };
    Ok(Arc::new(Store { backend, zone }))
}

/// Refuses a parameter that nobody would read: a misspelt `sslmode` must not go without TLS.
fn check_parameters(rest: &str, known: &[&str]) -> Result<(), OpenError> {
    let Some((_, parameters)) = rest.split_once('?') else { return Ok(()) };
    for name in parameters.split('&').filter_map(|pair| pair.split('=').next()) {
        if !known.contains(&name) {
            let known = known.join(", ");
            return Err(OpenError::Url(format!("the parameter `{name}` is not known; there are {known}")));
        }
    }
    Ok(())
}
