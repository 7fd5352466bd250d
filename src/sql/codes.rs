//! The port `CodeStore`: redemption codes. How one is redeemed is in `redeem.rs`.

use async_trait::async_trait;
use serde_json::{Map, Value as Json, json};

use super::{
    Store,
    bulk::{self, Table, Type},
    changes,
    policy_rows::corrupt,
    redeem::redeem,
    session::{Dialect, Row, Session, Value},
};
use crate::{
    engine::ports::{CodeFilter, CodePatch, CodeStore, Edited, GuessBound, Made, NewCodes, Redemption, StoreError},
    quota::{
        change::{Change, Subject},
        clock::Millis,
        code::{Code, CodeName, CodeState, Plain, Use},
        id::{AccountId, Actor, CodeId, OpId},
    },
};

/// What [`read_code`] reads.
pub(super) const COLUMNS: &str =
    "id, batch, head, tail, name, amount, status, expires_at, created_at, used_by, used_at";

const CODES: Table<10> = Table {
    name: "codes",
    columns: "id, batch, sha256, head, tail, name, amount, expires_at, created_at, status",
    types: [
        Type::Text,
        Type::Text,
        Type::Blob,
        Type::Text,
        Type::Text,
        Type::Text,
        Type::Int,
        Type::Int,
        Type::Int,
        Type::Text,
    ],
};

/// Codes on one page at most, and one more that tells whether there is another.
const PAGE_MAX: u32 = 1001;

#[async_trait]
impl CodeStore for Store {
    async fn make(&self, by: &Actor, new: &NewCodes, now: Millis) -> Result<Made, StoreError> {
        let mut session = self.write().await?;
        let made = make(&mut *session, self.backend.dialect(), by, new, now).await?;
        session.commit().await?;
        Ok(made)
    }

    async fn code(&self, id: &CodeId) -> Result<Option<Code>, StoreError> {
        one(&mut *self.read().await?, id, "").await
    }

    async fn codes(
        &self,
        filter: &CodeFilter,
        cursor: Option<&CodeId>,
        most: u32,
        now: Millis,
    ) -> Result<Vec<Code>, StoreError> {
        let (condition, mut values) = condition_of(filter, now);
        let mut sql = format!("SELECT {COLUMNS} FROM codes WHERE {condition}");
        if let Some(cursor) = cursor {
            sql.push_str(" AND id < ?");
            values.push(cursor.as_str().into());
        }
        sql.push_str(" ORDER BY id DESC LIMIT ?");
        values.push(most.min(PAGE_MAX).into());
        let rows = self.read().await?.fetch(sql.into(), &values).await?;
        rows.iter().map(read_code).collect()
    }

    async fn edit(&self, by: &Actor, id: &CodeId, patch: &CodePatch, now: Millis) -> Result<Edited, StoreError> {
        let mut session = self.write().await?;
        let Some(before) = one(&mut *session, id, self.backend.dialect().for_update).await? else {
            return Ok(Edited::Unknown);
        };
        if before.used.is_some() {
            return Ok(Edited::Used);
        }
        let CodePatch { name, amount, expires_at, disabled } = patch;
        if let Some(expires_at) = expires_at {
            check_future(*expires_at, now)?;
        }
        let after = Code {
            name: name.clone().unwrap_or_else(|| before.name.clone()),
            amount: amount.unwrap_or(before.amount),
            expires_at: expires_at.unwrap_or(before.expires_at),
            disabled: disabled.unwrap_or(before.disabled),
            ..before.clone()
        };
        let values = [
            after.name.as_str().into(),
            after.amount.into(),
            after.expires_at.map(|at| at.0).into(),
            status_of(&after).into(),
            id.as_str().into(),
        ];
        let sql = "UPDATE codes SET name = ?, amount = ?, expires_at = ?, status = ? WHERE id = ?";
        session.execute(sql.into(), &values).await?;
        let change = Change::new(by, "edit", subject(id), doc(&before), doc(&after));
        changes::record(&mut *session, &change, now).await?;
        session.commit().await?;
        Ok(Edited::Done(after))
    }

    async fn delete(&self, by: &Actor, id: &CodeId, now: Millis) -> Result<bool, StoreError> {
        let mut session = self.write().await?;
        let Some(before) = one(&mut *session, id, self.backend.dialect().for_update).await? else { return Ok(false) };
        session.execute("DELETE FROM codes WHERE id = ?".into(), &[id.as_str().into()]).await?;
        let change = Change::new(by, "delete", subject(id), doc(&before), None);
        changes::record(&mut *session, &change, now).await?;
        session.commit().await?;
        Ok(true)
    }

    async fn purge(&self, by: &Actor, states: &[CodeState], most: u32, now: Millis) -> Result<u64, StoreError> {
        let mut session = self.write().await?;
        let mut any = Vec::new();
        let mut values = Vec::new();
        for state in states {
            any.push(state_condition(*state));
            values.extend(state_values(*state, now));
        }
        if any.is_empty() {
            return Ok(0);
        }
        let any = any.join(" OR ");
        let dialect = self.backend.dialect();
        let page = format!("SELECT id, amount FROM codes WHERE {any} ORDER BY id LIMIT ?{}", dialect.for_update);
        values.push(most.into());
        let rows = session.fetch(page.into(), &values).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let (mut ids, mut amounts) = (Vec::with_capacity(rows.len()), Map::new());
        for row in &rows {
            ids.push(Value::from(row.text(0)?));
            amounts.insert(row.text(0)?.to_owned(), row.int(1)?.into());
        }
        // What is told is what is deleted: others may have come to these states since.
        let ids = bulk::padded(ids);
        let sql = format!("DELETE FROM codes WHERE id IN ({})", vec!["?"; ids.len()].join(","));
        let purged = session.execute(sql.into(), &ids).await?;
        if purged != rows.len() as u64 {
            return Err(corrupt("locked codes were deleted by another one"));
        }
        let words: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
        let before = json!({"count": purged, "status": words, "codes": amounts});
        let change = Change::new(by, "purge", Subject::of("codes", "purge"), before, None);
        changes::record(&mut *session, &change, now).await?;
        session.commit().await?;
        Ok(purged)
    }

    async fn redeem(
        &self,
        by: &Actor,
        account: &AccountId,
        sha256: &[u8; 32],
        bound: GuessBound,
        now: Millis,
    ) -> Result<Redemption, StoreError> {
        redeem(self, by, account, sha256, bound, now).await
    }
}

async fn make(
    session: &mut dyn Session,
    dialect: &Dialect,
    by: &Actor,
    new: &NewCodes,
    now: Millis,
) -> Result<Made, StoreError> {
    // Ids are random enough to tell which call was the first of its name.
    let maker = new.codes.first().map_or("", |(id, _, _)| id.as_str());
    let size = i64::try_from(new.codes.len()).unwrap_or(i64::MAX);
    let (name, op_id) = (new.name.as_str(), new.op_id.as_str());
    let expires_at = new.expires_at.map(|at| at.0);
    let values =
        [op_id.into(), maker.into(), name.into(), new.amount.into(), expires_at.into(), size.into(), now.0.into()];
    let sql = format!(
        "INSERT INTO code_batches (op_id, maker, name, amount, expires_at, size, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?){}",
        (dialect.keep_first)("op_id")
    );
    session.execute(sql.into(), &values).await?;
    let sql =
        format!("SELECT maker, name, amount, expires_at, size FROM code_batches WHERE op_id = ?{}", dialect.for_update);
    let rows = session.fetch(sql.into(), &[op_id.into()]).await?;
    let row = rows.first().ok_or_else(|| corrupt("a batch of codes vanished"))?;
    if row.text(0)? != maker {
        let same = [
            ("name", row.text(1)? == name),
            ("amount", row.int(2)? == new.amount),
            ("expires_at", row.opt_int(3)? == expires_at),
            ("count", row.int(4)? == size),
        ];
        if let Some((field, _)) = same.into_iter().find(|(_, same)| !same) {
            return Ok(Made::Conflict(field));
        }
        let sql = format!("SELECT {COLUMNS} FROM codes WHERE batch = ? ORDER BY id");
        let rows = session.fetch(sql.into(), &[op_id.into()]).await?;
        return Ok(Made::Before(rows.iter().map(read_code).collect::<Result<_, _>>()?));
    }
    check_future(new.expires_at, now)?;
    insert(session, dialect, new, now).await?;
    let ids: Vec<&str> = new.codes.iter().map(|(id, _, _)| id.as_str()).collect();
    let after = json!({"name": name, "amount": new.amount, "expires_at": expires_at.map(|at| Millis(at).rfc3339()),
        "codes": ids});
    let change = Change::new(by, "make", Subject::of("codes", op_id), None, after).with_op(&new.op_id);
    changes::record(session, &change, now).await?;
    Ok(Made::Now(new.codes.iter().map(|code| fresh(new, code, now)).collect()))
}

async fn insert(session: &mut dyn Session, dialect: &Dialect, new: &NewCodes, now: Millis) -> Result<(), StoreError> {
    let mut rows: Vec<[Value<'_>; 10]> = Vec::with_capacity(new.codes.len());
    for (id, plain, sha256) in &new.codes {
        rows.push([
            id.as_str().into(),
            new.op_id.as_str().into(),
            sha256.as_slice().into(),
            plain.head().into(),
            plain.tail().into(),
            new.name.as_str().into(),
            new.amount.into(),
            new.expires_at.map(|at| at.0).into(),
            now.0.into(),
            "enabled".into(),
        ]);
    }
    bulk::insert(session, dialect, &CODES, &rows, "").await?;
    Ok(())
}

fn fresh(new: &NewCodes, (id, plain, _): &(CodeId, Plain, [u8; 32]), now: Millis) -> Code {
    Code {
        id: id.clone(),
        batch: new.op_id.clone(),
        head: plain.head().to_owned(),
        tail: plain.tail().to_owned(),
        name: new.name.clone(),
        amount: new.amount,
        disabled: false,
        expires_at: new.expires_at,
        created_at: now,
        used: None,
    }
}

fn check_future(expires_at: Option<Millis>, now: Millis) -> Result<(), StoreError> {
    if expires_at.is_some_and(|at| at <= now) {
        let detail = "expires_at must be in the future".to_owned();
        return Err(StoreError::Refused { field: "expires_at", detail });
    }
    Ok(())
}

async fn one(session: &mut dyn Session, id: &CodeId, for_update: &str) -> Result<Option<Code>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM codes WHERE id = ?{for_update}");
    let rows = session.fetch(sql.into(), &[id.as_str().into()]).await?;
    rows.first().map(read_code).transpose()
}

pub(super) fn read_code(row: &Row) -> Result<Code, StoreError> {
    let name = row.text(4)?;
    let used_by = row.opt_text(9)?.map(AccountId::new).transpose().map_err(corrupt)?;
    Ok(Code {
        id: CodeId::new(row.text(0)?).map_err(corrupt)?,
        batch: OpId::new(row.text(1)?).map_err(corrupt)?,
        head: row.text(2)?.to_owned(),
        tail: row.text(3)?.to_owned(),
        name: CodeName::parse(name).ok_or_else(|| corrupt(format!("`{name}` is no name of a code")))?,
        amount: row.int(5)?,
        disabled: row.text(6)? == "disabled",
        expires_at: row.opt_int(7)?.map(Millis),
        created_at: Millis(row.int(8)?),
        used: used_by.zip(row.opt_int(10)?).map(|(by, at)| Use { by, at: Millis(at) }),
    })
}

fn status_of(code: &Code) -> &'static str {
    match (&code.used, code.disabled) {
        (Some(_), _) => "used",
        (None, true) => "disabled",
        (None, false) => "enabled",
    }
}

pub(super) fn subject(id: &CodeId) -> Subject {
    Subject::of("code", id)
}

/// A code for the audit.
pub(super) fn doc(code: &Code) -> Json {
    json!({
        "code": code.shown(),
        "name": code.name.as_str(),
        "amount": code.amount,
        "status": status_of(code),
        "expires_at": code.expires_at.map(Millis::rfc3339),
        "used_by": code.used.as_ref().map(|used| used.by.as_str()),
    })
}

fn condition_of(filter: &CodeFilter, now: Millis) -> (String, Vec<Value<'_>>) {
    let (mut all, mut values) = (vec!["1 = 1"], Vec::new());
    if let Some(state) = filter.state {
        all.push(state_condition(state));
        values.extend(state_values(state, now));
    }
    if let Some(name) = &filter.name {
        all.push("name = ?");
        values.push(name.as_str().into());
    }
    if let Some(batch) = &filter.batch {
        all.push("batch = ?");
        values.push(batch.as_str().into());
    }
    if let Some((text, sha256)) = &filter.search {
        all.push("(LOWER(name) LIKE LOWER(?) ESCAPE '!' OR id = ? OR head = ? OR sha256 = ?)");
        let part = text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
        let sha256 = sha256.as_ref().map_or(&[][..], |sha256| sha256);
        values.extend([Value::Made(format!("%{part}%")), text.as_str().into(), text.as_str().into(), sha256.into()]);
    }
    (all.join(" AND "), values)
}

fn state_condition(state: CodeState) -> &'static str {
    match state {
        CodeState::Enabled => "(status = 'enabled' AND (expires_at IS NULL OR expires_at > ?))",
        CodeState::Expired => "(status = 'enabled' AND expires_at <= ?)",
        CodeState::Disabled => "status = 'disabled'",
        CodeState::Used => "status = 'used'",
    }
}

fn state_values(state: CodeState, now: Millis) -> Option<Value<'static>> {
    matches!(state, CodeState::Enabled | CodeState::Expired).then(|| now.0.into())
}
