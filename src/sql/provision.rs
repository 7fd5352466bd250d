//! Provisioning: account, limits, first key and referral in one transaction, once in an account's life.
//!
//! The account's row is the lock. Whoever has it first makes everything; all others, at the same moment
//! or years later, find how that was done and compare.

use serde_json::{Map, Value as Json, json};

use super::{
    Store, changes, defaults,
    merge::merge_account,
    policy::{begin_account, blank_of, load_one, write_key},
    policy_rows::{corrupt, save_account, save_limits},
    referrals,
    session::{Row, Session},
};
use crate::{
    engine::ports::{AccountPatch, Grant, Provisioned, Provisioning, SignupTerms, StoreError},
    quota::{
        change::Change,
        clock::{Millis, local_now},
        defaults::{Defaults, Layer, Source},
        id::{AccountId, Actor, KeyId},
        platform::with_quotas,
        policy::{KeyPolicy, Policy},
    },
};

impl Store {
    pub(super) async fn provision_once(&self, by: &Actor, ask: &Provisioning) -> Result<Provisioned, StoreError> {
        let mut session = self.write().await?;
        let now = local_now();
        let Some(blank) = blank_of(&mut *session, self.backend.dialect(), &ask.account, &self.zone, now).await? else {
            return before(&mut *session, ask).await;
        };
        let bonus = match self.refer(&mut *session, by, ask, now).await? {
            Some(bonus) => bonus,
            None => return Ok(Provisioned::NoInviter),
        };
        let SignupTerms { initial_balance, month, .. } = ask.terms;
        let layers = [Layer::System, Layer::Source(ask.source)];
        let layers = defaults::read(&mut *session, layers.into_iter()).await?;
        let [system, source] = [Layer::System, Layer::Source(ask.source)].map(|layer| &layers[&layer]);
        let limits = with_quotas(&[], &Defaults::merged(system, source), month)
            .map_err(|error| StoreError::Refused { field: "source", detail: error.to_string() })?;
        let patch = AccountPatch {
            group: ask.group.clone(),
            zone: ask.zone.clone(),
            name: Some(ask.name.clone()),
            contact: Some(ask.contact.clone()),
            limits: Some(limits),
            initial_balance: Some(initial_balance + bonus),
            ..AccountPatch::default()
        };
        let mut policy = merge_account(blank, &patch)?;
        begin_account(&mut *session, &policy, initial_balance + bonus, now).await?;
        save_account(&mut *session, self.backend.dialect(), &policy, now).await?;
        save_limits(&mut *session, &ask.account, None, &policy.limits).await?;
        let key = first_key(&mut *session, ask, now).await?;
        let grant = Grant {
            source: ask.source,
            inviter: ask.inviter.clone(),
            key: key.as_ref().map(|(id, _)| id.clone()),
            initial_balance,
            bonus,
            at: now,
        };
        save_grant(&mut *session, &policy, ask, &grant).await?;
        for change in told(by, ask, &policy, key.as_ref(), &grant) {
            changes::record(&mut *session, &change, now).await?;
        }
        session.commit().await?;
        policy.keys.extend(key);
        Ok(Provisioned::Done { policy: Box::new(policy), grant, first: true })
    }

    /// Keeps the referral; what the new account gets for it. `None`: there is no such inviter.
    async fn refer(
        &self,
        session: &mut dyn Session,
        by: &Actor,
        ask: &Provisioning,
        now: Millis,
    ) -> Result<Option<i64>, StoreError> {
        let Some(inviter) = &ask.inviter else { return Ok(Some(0)) };
        if load_one(session, inviter).await?.is_none() {
            return Ok(None);
        }
        let first = referrals::add(session, self.backend.dialect(), by, inviter, ask, now).await?;
        Ok(Some(if first { ask.terms.invitee_reward } else { 0 }))
    }
}

/// Refused by the name of the request's field.
async fn first_key(
    session: &mut dyn Session,
    ask: &Provisioning,
    now: Millis,
) -> Result<Option<(KeyId, KeyPolicy)>, StoreError> {
    let Some((id, patch)) = &ask.key else { return Ok(None) };
    let written = write_key(session, &ask.account, id, None, patch, now).await.map_err(|error| match error {
        StoreError::Refused { field, detail } => {
            StoreError::Refused { field: "key", detail: format!("{field}: {detail}") }
        }
        other => other,
    });
    Ok(Some((id.clone(), written?)))
}

/// The account is there: provisioned by the same call before, or not.
async fn before(session: &mut dyn Session, ask: &Provisioning) -> Result<Provisioned, StoreError> {
    let sql = "SELECT content, source, inviter, key_id, provisions.initial_balance, bonus, provisions.at FROM provisions \
               JOIN accounts ON accounts.account = provisions.account AND accounts.initial_op = provisions.initial_op \
               WHERE provisions.account = ?";
    let rows = session.fetch(sql.into(), &[ask.account.as_str().into()]).await?;
    let Some(row) = rows.first() else { return Ok(Provisioned::Conflict("account")) };
    let first: Map<String, Json> = serde_json::from_str(row.text(0)?).map_err(corrupt)?;
    let differs = |(name, text): &&(&'static str, Option<String>)| first.get(*name) != Some(&json!(text));
    if let Some((name, _)) = ask.content.iter().find(differs) {
        return Ok(Provisioned::Conflict(name));
    }
    let policy = load_one(session, &ask.account).await?.ok_or_else(|| corrupt("an account vanished"))?;
    Ok(Provisioned::Done { policy: Box::new(policy), grant: read_grant(row)?, first: false })
}

fn read_grant(row: &Row) -> Result<Grant, StoreError> {
    let source = row.text(1)?;
    Ok(Grant {
        source: Source::parse(source).ok_or_else(|| corrupt(format!("source {source}")))?,
        inviter: row.opt_text(2)?.map(AccountId::new).transpose().map_err(corrupt)?,
        key: row.opt_text(3)?.map(KeyId::new).transpose().map_err(corrupt)?,
        initial_balance: row.int(4)?,
        bonus: row.int(5)?,
        at: Millis(row.int(6)?),
    })
}

/// In the place of the grant of an earlier life, if there is one.
async fn save_grant(
    session: &mut dyn Session,
    policy: &Policy,
    ask: &Provisioning,
    grant: &Grant,
) -> Result<(), StoreError> {
    let account = ask.account.as_str();
    session.execute("DELETE FROM provisions WHERE account = ?".into(), &[account.into()]).await?;
    let content: Map<String, Json> = ask.content.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let content = Json::Object(content).to_string();
    let initial_op = format!("v{}", policy.version);
    let values = [
        account.into(),
        initial_op.as_str().into(),
        content.as_str().into(),
        grant.source.as_str().into(),
        grant.inviter.as_ref().map(AccountId::as_str).into(),
        grant.key.as_ref().map(KeyId::as_str).into(),
        grant.initial_balance.into(),
        grant.bonus.into(),
        grant.at.0.into(),
    ];
    let sql = "INSERT INTO provisions (account, initial_op, content, source, inviter, key_id, initial_balance, bonus, at) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    session.execute(sql.into(), &values).await?;
    Ok(())
}

/// For the audit: the account as it was made, and by what, and its key.
fn told(
    by: &Actor,
    ask: &Provisioning,
    policy: &Policy,
    key: Option<&(KeyId, KeyPolicy)>,
    grant: &Grant,
) -> Vec<Change> {
    let mut account = Change::put_account(by, None, policy, Some(grant.initial_balance + grant.bonus));
    account.what = "provision";
    if let Some(after) = &mut account.after {
        after["source"] = grant.source.as_str().into();
        after["inviter"] = json!(grant.inviter);
        after["bonus"] = grant.bonus.into();
    }
    let key = key.map(|(id, key)| Change::put_key(by, &ask.account, id, None, key));
    std::iter::once(account).chain(key).collect()
}
