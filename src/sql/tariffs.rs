//! Price lists: each import is a new version, numbered from 1; 0 is the list the package brings along.

use serde_json::json;

use super::{
    Store, changes,
    session::{Row, Session},
};
use crate::{
    engine::ports::{StoreError, TariffVersion},
    quota::{
        change::{Change, Subject},
        clock::{Millis, local_now},
        id::Actor,
    },
};

/// Looks for the number of a list that is imported beside others. One of those who look at the same moment gets it.
const ATTEMPTS: u32 = 16;

/// Number of the newest version; 0 when none was imported.
pub(super) async fn newest(session: &mut dyn Session) -> Result<u32, StoreError> {
    let rows = session.fetch("SELECT COALESCE(MAX(version), 0) FROM tariffs".into(), &[]).await?;
    rows.first().map_or(Ok(0), |row| row.number(0))
}

pub(super) async fn content(session: &mut dyn Session, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = session.fetch("SELECT content FROM tariffs WHERE version = ?".into(), &[version.into()]).await?;
    rows.first().map(|row| row.blob(0).map(<[u8]>::to_vec)).transpose()
}

/// Versions below `before`, the newest first.
pub(super) async fn versions(
    session: &mut dyn Session,
    before: Option<u32>,
    most: u32,
) -> Result<Vec<TariffVersion>, StoreError> {
    let statement = "SELECT version, source, imported_at FROM tariffs WHERE version < ? ORDER BY version DESC LIMIT ?";
    let before = before.map_or(i64::from(u32::MAX) + 1, i64::from);
    let rows = session.fetch(statement.into(), &[before.into(), most.into()]).await?;
    let read = |row: &Row| {
        let (source, imported_at) = (row.text(1)?.to_owned(), Millis(row.number(2)?));
        Ok(TariffVersion { version: row.number(0)?, source, imported_at })
    };
    rows.iter().map(read).collect()
}

/// Adds the newest version with its row of the audit; its number.
pub(super) async fn put(
    store: &Store,
    by: &Actor,
    content: &[u8],
    source: &str,
    base: Option<u32>,
) -> Result<u32, StoreError> {
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match try_put(store, by, content, source, base).await {
            // Another one took the number: the next look finds it there.
            Err(StoreError::Refused { field: "row", .. }) if left > 0 => {}
            put => return put,
        }
    }
}

async fn try_put(
    store: &Store,
    by: &Actor,
    content: &[u8],
    source: &str,
    base: Option<u32>,
) -> Result<u32, StoreError> {
    let mut session = store.write().await?;
    let now = local_now();
    let version = add(&mut *session, content, source, base, now).await?;
    let after = json!({"version": version, "source": source});
    let before = json!({"version": version - 1});
    let change = Change::new(by, "import", Subject::of("tariff", version), before, after);
    changes::record(&mut *session, &change, now).await?;
    session.commit().await?;
    Ok(version)
}

/// The number of the version added. Two at once: the primary key lets one of them in.
async fn add(
    session: &mut dyn Session,
    content: &[u8],
    source: &str,
    base: Option<u32>,
    now: Millis,
) -> Result<u32, StoreError> {
    let newest = newest(session).await?;
    if base.is_some_and(|base| base != newest) {
        let detail = format!("another price list was imported meanwhile: the newest version is {newest}");
        return Err(StoreError::Refused { field: "base", detail });
    }
    let version = newest + 1;
    session
        .execute(
            "INSERT INTO tariffs (version, source, imported_at, content) VALUES (?, ?, ?, ?)".into(),
            &[version.into(), source.into(), now.0.into(), content.into()],
        )
        .await?;
    Ok(version)
}
