//! Stories as the dice tell them, and which answers they can get.

use serde_json::{Value, json};

use super::{
    dice::Dice,
    journal::{Call, Reply, Story, Verb},
    plan::AccountPlan,
};

const LONG_TTL_MS: i64 = 120_000;
const SHORT_TTL_MS: i64 = 1000;

fn call(verb: Verb, id: &str, amount: i64, path: String, body: Value) -> Call {
    Call { verb, id: id.to_owned(), amount, path, body, sent: None, tries: 0, reply: None }
}

/// Gives a hold back.
pub fn release(account: &str, id: &str) -> Call {
    call(Verb::Release, id, 0, "/v1/release".into(), json!({"account": account, "id": id}))
}

/// A hold of one unit and its settle.
pub fn plain(name: &str, account: &AccountPlan) -> Story {
    let id = format!("r{name}");
    let reserve = json!({"account": account.name, "id": id, "amount": 1, "ttl_ms": LONG_TTL_MS});
    let settle = json!({"account": account.name, "id": id, "amount": 1});
    let calls = vec![
        call(Verb::Reserve, &id, 1, "/v1/reserve".into(), reserve),
        call(Verb::Settle, &id, 1, "/v1/settle".into(), settle),
    ];
    Story { account: account.name.clone(), id, calls, next: 0, charge_on_expiry: false, late: false }
}

/// A story named `name`, of one of the accounts.
pub fn draw(name: &str, accounts: &[AccountPlan], dice: &mut Dice) -> Story {
    let account = dice.pick(accounts);
    let mut story = Story {
        account: account.name.clone(),
        id: format!("r{name}"),
        calls: Vec::new(),
        next: 0,
        charge_on_expiry: false,
        late: false,
    };
    match dice.below(100) {
        0..55 => reservation(&mut story, &account, dice),
        55..63 => {
            let amount = dice.between(0..=4000);
            settle(&mut story, &account, amount, dice);
        }
        63..78 => charge(&mut story, &account, dice),
        78..92 => adjust(&mut story, Verb::Credit, dice),
        _ => adjust(&mut story, Verb::Debit, dice),
    }
    story
}

fn reservation(story: &mut Story, account: &AccountPlan, dice: &mut Dice) {
    let mut held = dice.between(1..=5000);
    let end = dice.below(100);
    let left_alone = end >= 85;
    story.charge_on_expiry = left_alone && dice.chance(50);
    let mut body = json!({
        "account": story.account, "id": story.id, "amount": held, "tokens": dice.between(0..=50),
        "ttl_ms": if left_alone { SHORT_TTL_MS } else { LONG_TTL_MS },
        "on_expiry": if story.charge_on_expiry { "charge" } else { "release" },
    });
    decorate(&mut body, account, dice);
    story.calls.push(call(Verb::Reserve, &story.id, held, "/v1/reserve".into(), body));
    if left_alone {
        // Half of them are settled after all, but late.
        if dice.chance(50) {
            story.late = true;
            let amount = dice.between(0..=held);
            settle(story, account, amount, dice);
        }
        return;
    }
    if dice.chance(20) {
        held += dice.between(1..=2000);
        let body = json!({"account": story.account, "id": story.id, "amount": held, "ttl_ms": LONG_TTL_MS});
        story.calls.push(call(Verb::Extend, &story.id, held, "/v1/extend".into(), body));
    }
    let mut charged = 0;
    if dice.chance(25) {
        for _ in 0..1 + dice.below(3) {
            charged += dice.between(1..=1000);
            let body = json!({"account": story.account, "id": story.id, "amount": charged, "final": false});
            story.calls.push(call(Verb::Partial, &story.id, charged, "/v1/settle".into(), body));
        }
    }
    if end < 70 {
        let amount = charged + dice.between(0..=held + 500);
        settle(story, account, amount, dice);
    } else {
        story.calls.push(release(&story.account, &story.id));
    }
}

fn settle(story: &mut Story, account: &AccountPlan, amount: i64, dice: &mut Dice) {
    let mut body = json!({"account": story.account, "id": story.id, "amount": amount, "completion_tokens": 7});
    if story.calls.is_empty() {
        decorate(&mut body, account, dice);
    }
    story.calls.push(call(Verb::Settle, &story.id, amount, "/v1/settle".into(), body));
    refund(story, amount, dice);
}

fn charge(story: &mut Story, account: &AccountPlan, dice: &mut Dice) {
    let amount = dice.between(0..=4000);
    let mut body =
        json!({"account": story.account, "id": story.id, "amount": amount, "tokens": 5, "force": dice.chance(30)});
    decorate(&mut body, account, dice);
    story.calls.push(call(Verb::Charge, &story.id, amount, "/v1/charge".into(), body));
    refund(story, amount, dice);
}

fn refund(story: &mut Story, charged: i64, dice: &mut Dice) {
    if charged > 0 && dice.chance(20) {
        let (id, amount) = (format!("f{}", &story.id[1..]), dice.between(1..=charged));
        let body = json!({"account": story.account, "op_id": id, "of": story.id, "amount": amount});
        story.calls.push(call(Verb::Refund, &id, amount, "/v1/refund".into(), body));
    }
}

fn adjust(story: &mut Story, verb: Verb, dice: &mut Dice) {
    let (word, id) = if verb == Verb::Credit { ("credit", "t") } else { ("debit", "d") };
    story.id = format!("{id}{}", &story.id[1..]);
    let amount = dice.between(1..=6000);
    let mut body = json!({"op_id": story.id, "amount": amount});
    if verb == Verb::Debit {
        body["force"] = json!(dice.chance(50));
    }
    let path = format!("/admin/v1/accounts/{}/{word}", story.account);
    story.calls.push(call(verb, &story.id, amount, path, body));
}

/// Who calls what: decides which limits count it.
fn decorate(body: &mut Value, account: &AccountPlan, dice: &mut Dice) {
    if dice.chance(70) {
        body["platform"] = json!(dice.pick(&["openai", "anthropic"]));
        body["model"] = json!(dice.pick(&["m1", "m2"]));
    }
    if !account.keys.is_empty() && dice.chance(60) {
        body["key"] = json!(dice.pick(&account.keys));
    }
}

/// Why an answer cannot be right. `lossy`: Redis may have forgotten something of
/// this story, or done what it was not heard to do.
pub fn objection(call: &Call, reply: &Reply, lossy: bool) -> Option<&'static str> {
    let number = |field: &str| reply.body[field].as_i64();
    if reply.status != 200 {
        let denied = matches!(reply.status, 402 | 429);
        let may_be_denied = matches!(call.verb, Verb::Reserve | Verb::Extend | Verb::Charge | Verb::Debit);
        let missing = reply.body["code"] == "account_not_found" || reply.status == 400;
        // A refund or extend of what was refused or lost, a release of what was settled late.
        let follows = lossy || (call.verb == Verb::Refund && matches!(reply.status, 404 | 409));
        // An earlier attempt was carried out, and its hold has expired since.
        let ended = reply.body["code"] == "already_released" || reply.body["code"] == "already_settled";
        let expired = call.verb == Verb::Reserve && call.tries > 1 && ended;
        return match () {
            () if missing => Some("refused, although the account is there and the call well-formed"),
            () if (denied && may_be_denied) || follows || expired => None,
            () => Some("refused for no reason"),
        };
    }
    let replayed = reply.body["replayed"] == true;
    match call.verb {
        Verb::Reserve if number("held") != Some(call.amount) => Some("another amount is held"),
        Verb::Reserve if !replayed && number("available").is_none_or(|left| left < 0) => {
            Some("I3: granted, and available is below 0")
        }
        Verb::Settle | Verb::Charge if number("charged") != Some(call.amount) => Some("another amount was charged"),
        Verb::Partial if number("charged") != Some(call.amount) => Some("another amount was charged so far"),
        Verb::Refund if number("refunded") != Some(call.amount) => Some("another amount was refunded"),
        Verb::Credit | Verb::Debit if number("amount") != Some(call.amount) => Some("another amount was moved"),
        _ => None,
    }
}
