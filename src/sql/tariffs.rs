//! Price lists: each import is a new version, numbered from 1; 0 is the list the package brings along.

use super::session::Session;
use crate::{engine::ports::StoreError, quota::clock::Millis};

/// Number of the newest version; 0 when none was imported.
pub(super) async fn newest(session: &mut dyn Session) -> Result<u32, StoreError> {
    let rows = session.fetch("SELECT COALESCE(MAX(version), 0) FROM tariffs".into(), &[]).await?;
    rows.first().map_or(Ok(0), |row| row.number(0))
}

pub(super) async fn content(session: &mut dyn Session, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = session.fetch("SELECT content FROM tariffs WHERE version = ?".into(), &[version.into()]).await?;
    rows.first().map(|row| row.blob(0).map(<[u8]>::to_vec)).transpose()
}

/// The number of the version added.
pub(super) async fn add(
    session: &mut dyn Session,
    content: &[u8],
    source: &str,
    now: Millis,
) -> Result<u32, StoreError> {
    let version = newest(session).await? + 1;
    session
        .execute(
            "INSERT INTO tariffs (version, source, imported_at, content) VALUES (?, ?, ?, ?)".into(),
            &[version.into(), source.into(), now.0.into(), content.into()],
        )
        .await?;
    Ok(version)
}
