//! What is asked of the sidecars when all is calm again.

use std::time::Duration;

use super::{client::Wire, dice::Dice, http::Http, journal::Story, run::wait, snapshot::SqlState, story, world::World};

/// A call that needs nothing but Redis is answered by then, however busy the machine.
const ANSWERED: Duration = Duration::from_secs(5);
const ASKED: Duration = Duration::from_secs(20);

/// I16: while nobody can use any table of the database, reserve and settle of accounts that are known and
/// loaded are answered. Only servers can be shut; and what is idle may be gone from Redis by then.
pub fn without_sql(world: &mut World, wire: &Wire, stories: &mut Vec<Story>, dice: &mut Dice) {
    if world.plan.unload_idle_ms.is_some() || world.findings.any() {
        return;
    }
    // Whoever serves all accounts knows all of them.
    world.wait_ready(true);
    let Some(shut) = world.runtime.block_on(world.sql.shut()) else { return };
    for account in world.plan.accounts.clone() {
        let mut story = story::plain(&format!("-shut-{}", account.name), &account);
        let told = wait(world.patience(ANSWERED), || {
            let known = wire.advance(&mut story, dice);
            (known && story.finished()).then_some(())
        });
        if told.is_none() {
            world.findings.violation(format!("I16: not answered while the database is shut: {story}"));
        }
        stories.push(story);
    }
    let _ = world.runtime.block_on(shut.close());
}

/// I18: every account is what its ledger makes, also one that had left Redis and is loaded by this very question.
pub fn balances(world: &mut World, state: &SqlState) {
    let Some((gateway, _)) = world.addresses.lock().expect("addresses").first().copied() else { return };
    let gateway = Http::new(gateway, None);
    for sum in &state.accounts {
        let mut last = None;
        let answer = wait(world.patience(ASKED), || {
            last = gateway.try_call("GET", &format!("/v1/accounts/{}/balance", sum.account), &[], b"").ok();
            last.as_ref().filter(|answer| answer.status == 200).map(super::http::Answer::json)
        });
        let Some(answer) = answer else {
            world.findings.violation(format!("the balance of {} is not answered: {last:?}", sum.account));
            continue;
        };
        let number = |field: &str| answer[field].as_i64();
        let (has, expected) =
            ([number("balance"), number("used"), number("requests")], [sum.balance, sum.used, sum.requests]);
        if has != expected.map(Some) || answer["held"] != 0 {
            world.findings.violation(format!("I18: {} is answered as {answer}, and is {sum:?}", sum.account));
        }
    }
}
