//! `GET /admin/v1/reservations/{account}/{id}`.

use crate::{
    engine::balance::ReservationView,
    http::{
        answer::{Answer, Handled},
        gateway::done,
        path,
        route::Call,
        wire::report::Reservation,
    },
    quota::{
        id::{AccountId, ReservationId},
        reservation::{Flags, State},
    },
};

pub(super) async fn get(call: &Call<'_>, account: &str, id: &str) -> Handled {
    let account = path::id(account, "account", AccountId::new)?;
    let id = path::id(id, "id", ReservationId::new)?;
    let (view, _) = done(call.service.engine.reservation(&account, &id).await)?;
    Ok(Answer::ok(&shown(&view)))
}

fn shown(view: &ReservationView) -> Reservation<'_> {
    let record = &view.record;
    Reservation {
        account: &view.account,
        id: &view.id,
        state: match record.state {
            State::Held => "held",
            State::Settled => "settled",
            State::Released => "released",
            State::Expired => "expired",
        },
        reserved: record.held,
        held: if record.state == State::Held { record.rest() } else { 0 },
        charged: record.charged,
        refunded: record.refunded,
        overdraft: record.overdraft,
        tokens: record.tokens,
        parts: record.parts,
        charge: record.flags.has(Flags::BY_CHARGE),
        late: record.flags.has(Flags::LATE),
        unreserved: record.flags.has(Flags::UNRESERVED),
        clamped: record.flags.has(Flags::CLAMPED),
        on_expiry: if record.flags.has(Flags::CHARGE_ON_EXPIRY) { "charge" } else { "release" },
        key: record.key.clone(),
        created_at: record.created,
        expires_at: record.expires,
    }
}
