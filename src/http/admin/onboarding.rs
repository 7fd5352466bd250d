//! `/admin/v1/provision`, `/admin/v1/accounts/{account}/referrals` and `…/referrals/transfer`.

use crate::{
    engine::{
        balance::Sheet,
        provision::{FirstKey, Provision, ProvisionDone},
    },
    http::{
        admin::{accounts::live, adjust::op_id, keys},
        answer::{Answer, Handled},
        gateway::done,
        path,
        route::Call,
        wire::{
            limit::LimitShown,
            onboarding::{self, InviteeShown, ProvisionShown, ReferralTransfer, ReferralsShown, TransferShown},
            quota::Usd,
            read,
        },
    },
    quota::id::AccountId,
};

pub(super) async fn provision(call: &Call<'_>) -> Handled {
    let ask: onboarding::Provision = read::body(call.body)?;
    let key = |key: onboarding::FirstKey| FirstKey { id: key.id, patch: keys::patch(key.put), content: key.content };
    let provision = Provision {
        account: ask.account,
        source: ask.source.0,
        group: ask.group.map(|group| group.0),
        inviter: ask.inviter,
        key: ask.key.map(key),
        name: ask.name.map(|name| name.0),
        contact: ask.contact.map(|contact| contact.0),
        zone: ask.timezone.map(|zone| zone.0),
    };
    let (made, replayed) = done(call.service.engine.provision(&call.actor()?, &provision).await)?;
    let live = live(call, &provision.account).await;
    let answer = Answer::ok(&shown(&made, live.as_ref(), replayed)).created(!replayed);
    Ok(answer.replayed(replayed))
}

fn shown<'a>(made: &'a ProvisionDone, live: Option<&Sheet>, replayed: bool) -> ProvisionShown<'a> {
    let ProvisionDone { policy, grant, secret } = made;
    ProvisionShown {
        account: &policy.account,
        source: grant.source.as_str(),
        group: &policy.group,
        timezone: policy.zone.name(),
        name: policy.name.as_deref(),
        contact: policy.contact.as_deref(),
        inviter: grant.inviter.clone(),
        initial_balance: grant.initial_balance,
        bonus: grant.bonus,
        limits: policy.limits.iter().map(|limit| LimitShown::from(&**limit)).collect(),
        key: grant.key.clone(),
        secret: secret.as_deref(),
        provisioned_at: grant.at,
        balance: live.map(|sheet| sheet.balance),
        available: live.map(|sheet| sheet.available),
        replayed,
    }
}

pub(super) async fn referrals(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let cursor = path::parameter(call.query, "cursor")?.filter(|cursor| !cursor.is_empty());
    let cursor = cursor.map(|cursor| path::id(&cursor, "cursor", AccountId::new)).transpose()?;
    let most = path::page(call.query)?;
    let engine = &call.service.engine;
    // One more than asked for tells whether there is a next page.
    let (mut found, _) = done(engine.referrals(&account, cursor.as_ref(), most + 1).await)?;
    let more = found.invitees.len() > most as usize;
    found.invitees.truncate(most as usize);
    let next_cursor = found.invitees.last().filter(|_| more).map(|invitee| invitee.account.clone());
    let invitees = found.invitees.iter().map(|invitee| InviteeShown {
        account: &invitee.account,
        source: invitee.source.as_str(),
        reward: invitee.reward,
        bonus: invitee.bonus,
        invited_at: invitee.at,
    });
    let [pending_usd, history_usd] = [found.pending, found.history].map(|units| Usd(engine.scale().usd(units)));
    Ok(Answer::ok(&ReferralsShown {
        account: &account,
        pending: found.pending,
        pending_usd,
        history: found.history,
        history_usd,
        invitees: invitees.collect(),
        next_cursor,
    }))
}

pub(super) async fn transfer(call: &Call<'_>, account: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let ask: ReferralTransfer = read::body(call.body)?;
    let op_id = op_id(call, ask.op_id)?;
    let (made, replayed) = done(call.service.engine.transfer(&call.actor()?, &account, &op_id, ask.amount.0).await)?;
    let shown = TransferShown {
        account: &made.account,
        op_id: &made.op_id,
        outcome: "transferred",
        amount: made.amount,
        pending: made.pending,
        balance: made.balance,
        available: made.available,
        replayed,
    };
    Ok(Answer::ok(&shown).replayed(replayed))
}
