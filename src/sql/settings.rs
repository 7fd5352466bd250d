//! What is set at run time. The row without a name counts all changes: whoever makes one locks it first, so
//! that changes come one after the other, and a look at it tells whether there is anything new.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::{
    Store, changes,
    policy_rows::corrupt,
    session::{Dialect, Row, Session, Value},
};
use crate::{
    engine::ports::{Put, SettingPut, SettingStore, StoreError, Stored, StoredSettings},
    quota::{
        change::{Change, Subject},
        clock::{Millis, local_now},
        id::Actor,
    },
};

/// The name of the row that counts.
const ALL: &str = "";

#[async_trait]
impl SettingStore for Store {
    async fn settings_revision(&self) -> Result<u32, StoreError> {
        let sql = "SELECT version FROM settings WHERE name = ?";
        let rows = self.read().await?.fetch(sql.into(), &[ALL.into()]).await?;
        rows.first().map_or(Ok(0), |row| row.number(0))
    }

    async fn settings(&self) -> Result<StoredSettings, StoreError> {
        read(&mut *self.read().await?).await
    }

    async fn put_setting(
        &self,
        by: &Actor,
        put: SettingPut<'_>,
        judge: &(dyn for<'s> Fn(&'s [Stored]) -> Result<(), StoreError> + Sync),
    ) -> Result<Put, StoreError> {
        let mut session = self.write().await?;
        let (dialect, now) = (self.backend.dialect(), local_now());
        lock(&mut *session, dialect, by, now).await?;
        let mut all = read(&mut *session).await?;
        let place = all.settings.iter().position(|stored| stored.name == put.name);
        let before = place.and_then(|place| all.settings[place].content.clone());
        if before.as_deref() == put.content {
            return Ok(Put::Saved(all));
        }
        let there = place.map_or(0, |place| all.settings[place].version);
        if put.version.is_some_and(|version| version != there) {
            return Ok(Put::Conflict(there));
        }
        let next = |version: u32| version.checked_add(1).ok_or_else(|| corrupt("a setting's version reached its end"));
        let stored = Stored {
            name: put.name.to_owned(),
            version: next(there)?,
            content: put.content.map(str::to_owned),
            changed_at: now,
            changed_by: by.to_string(),
        };
        save(&mut *session, &stored, place.is_some()).await?;
        match place {
            Some(place) => all.settings[place] = stored,
            None => all.settings.push(stored),
        }
        all.settings.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        judge(&all.settings)?;
        all.revision = next(all.revision)?;
        let count = Stored { name: ALL.into(), version: all.revision, content: None, ..blank(by, now) };
        save(&mut *session, &count, true).await?;
        let (before, after) = (value(before.as_deref())?, value(put.content)?);
        let what = if put.content.is_some() { "put" } else { "delete" };
        let change = Change::new(by, what, Subject::of("setting", put.name), before, after);
        changes::record(&mut *session, &change, now).await?;
        session.commit().await?;
        Ok(Put::Saved(all))
    }
}

fn blank(by: &Actor, now: Millis) -> Stored {
    Stored { name: ALL.into(), version: 0, content: None, changed_at: now, changed_by: by.to_string() }
}

/// Waits until nobody else changes settings.
async fn lock(session: &mut dyn Session, dialect: &Dialect, by: &Actor, now: Millis) -> Result<(), StoreError> {
    let insert = format!(
        "INSERT INTO settings (name, version, changed_at, changed_by) VALUES (?, 0, ?, ?){}",
        (dialect.keep_first)("name")
    );
    session.execute(insert.into(), &[ALL.into(), now.0.into(), by.as_str().into()]).await?;
    let sql = format!("SELECT version FROM settings WHERE name = ?{}", dialect.for_update);
    session.fetch(sql.into(), &[ALL.into()]).await?;
    Ok(())
}

async fn read(session: &mut dyn Session) -> Result<StoredSettings, StoreError> {
    let sql = "SELECT name, version, content, changed_at, changed_by FROM settings ORDER BY name";
    let mut all = StoredSettings::default();
    for row in session.fetch(sql.into(), &[]).await? {
        let stored = stored(&row)?;
        if stored.name == ALL {
            all.revision = stored.version;
        } else {
            all.settings.push(stored);
        }
    }
    Ok(all)
}

fn stored(row: &Row) -> Result<Stored, StoreError> {
    Ok(Stored {
        name: row.text(0)?.to_owned(),
        version: row.number(1)?,
        content: row.opt_text(2)?.map(str::to_owned),
        changed_at: Millis(row.int(3)?),
        changed_by: row.text(4)?.to_owned(),
    })
}

async fn save(session: &mut dyn Session, stored: &Stored, is_there: bool) -> Result<(), StoreError> {
    let values: [Value<'_>; 5] = [
        stored.version.into(),
        stored.content.as_deref().into(),
        stored.changed_at.0.into(),
        stored.changed_by.as_str().into(),
        stored.name.as_str().into(),
    ];
    let sql = if is_there {
        "UPDATE settings SET version = ?, content = ?, changed_at = ?, changed_by = ? WHERE name = ?"
    } else {
        "INSERT INTO settings (version, content, changed_at, changed_by, name) VALUES (?, ?, ?, ?, ?)"
    };
    session.execute(sql.into(), &values).await?;
    Ok(())
}

/// For the audit: null is the deployment's default.
fn value(content: Option<&str>) -> Result<Json, StoreError> {
    let value: Option<Json> = content.map(serde_json::from_str).transpose().map_err(corrupt)?;
    Ok(json!({"value": value, "default": content.is_none()}))
}
