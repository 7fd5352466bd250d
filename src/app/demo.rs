//! `--demo`: an account to play with, and lines to copy.

use std::{net::SocketAddr, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use crate::{
    config::secret::Secret,
    engine::{
        Answer, Engine,
        ports::{AccountPatch, KeyPatch},
    },
    quota::{
        id::{AccountId, Actor, KeyId},
        verdict::Verdict,
    },
};

const ACCOUNT: &str = "demo";
const KEY: &str = "demo-key";
const BALANCE_USD: i64 = 100;
/// Attach must be through first.
const READY_WAIT: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What the lines are made of.
pub(super) struct Places {
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
    pub gateway_token: Option<Secret>,
    pub admin_token: Secret,
    pub units_per_usd: i64,
}

/// Creates account and key where they are not there, gives the key a new secret, prints.
pub(super) async fn set_up(engine: &Engine, places: &Places) -> Result<(), Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::Other(format!("the demo account: {error}"));
    let account = AccountId::new(ACCOUNT).map_err(|error| bad(&error))?;
    let key = KeyId::new(KEY).map_err(|error| bad(&error))?;
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes).map_err(|error| bad(&error))?;
    let secret = format!("demo-{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());

    let by = Actor::command_line();
    let exists = matches!(patiently(|| engine.account(&account)).await?, Verdict::Done { .. });
    let initial_balance = (!exists).then_some(BALANCE_USD * places.units_per_usd);
    let patch = AccountPatch { initial_balance, name: Some(Some("Demo".into())), ..AccountPatch::default() };
    done(patiently(|| engine.put_account(&by, &account, &patch)).await?)?;
    let patch = KeyPatch { secret_sha256: Some(Sha256::digest(&secret).into()), ..KeyPatch::default() };
    done(patiently(|| engine.put_key(&by, &account, &key, &patch)).await?)?;
    println!("{}", lines(places, &secret));
    Ok(())
}

/// Asks again while the engine cannot tell, until the shards are attached.
async fn patiently<T, F: Future<Output = Answer<T>>>(ask: impl Fn() -> F) -> Result<Verdict<T>, Failure> {
    let deadline = Instant::now() + READY_WAIT;
    loop {
        match ask().await {
            Ok(verdict) => return Ok(verdict),
            Err(reason) if Instant::now() >= deadline => {
                return Err(Failure::backend(format!("the demo account cannot be made: {reason}")));
            }
            Err(_) => sleep(ASK_AGAIN).await,
        }
    }
}

fn done<T>(verdict: Verdict<T>) -> Result<T, Failure> {
    match verdict {
        Verdict::Done { answer, .. } => Ok(answer),
        Verdict::Refused(refusal) => Err(Failure::Other(format!("the demo account: {}", refusal.detail))),
    }
}

fn lines(places: &Places, secret: &str) -> String {
    let Places { gateway, admin, gateway_token, admin_token, units_per_usd } = places;
    let top_up = 5 * units_per_usd;
    let credential = gateway_token
        .as_ref()
        .map_or_else(String::new, |token| format!(" -H 'Authorization: Bearer {}'", token.expose()));
    let admin_credential = format!("-H 'Authorization: Bearer {}'", admin_token.expose());
    format!(
        r#"
Account `{ACCOUNT}` has {BALANCE_USD} USD to begin with, and key `{KEY}` the secret {secret} (a new one at each start).

# ask: hold the price of 1 200 prompt tokens and at most 800 generated ones
curl -s http://{gateway}/v1/reserve{credential} -d '{{"account":"{ACCOUNT}","key":"{KEY}","id":"r-1","platform":"openai","model":"gpt-4o","estimate":{{"prompt_tokens":1200,"max_tokens":800}}}}'

# report: what the call really used
curl -s http://{gateway}/v1/settle{credential} -d '{{"account":"{ACCOUNT}","id":"r-1","model":"gpt-4o","usage":{{"prompt_tokens":1180,"completion_tokens":310}}}}'

# the same with nothing but the caller's secret
curl -s http://{gateway}/v1/reserve{credential} -d '{{"api_key":"{secret}","platform":"openai","model":"gpt-4o","amount":120000}}'

# look: live numbers
curl -s http://{gateway}/v1/accounts/{ACCOUNT}/balance{credential}

# admin: the account, and a top-up of 5 USD
curl -s http://{admin}/admin/v1/accounts/{ACCOUNT} {admin_credential}
curl -s http://{admin}/admin/v1/accounts/{ACCOUNT}/credit {admin_credential} -d '{{"op_id":"top-up-1","amount":{top_up},"kind":"topup"}}'

# metrics
curl -s http://{admin}/metrics
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_carry_real_addresses_and_tokens_and_valid_json() {
        let places = Places {
            gateway: "127.0.0.1:1111".parse().unwrap(),
            admin: "127.0.0.1:2222".parse().unwrap(),
            gateway_token: Some(Secret::new("gateway-token")),
            admin_token: Secret::new("admin-token"),
            units_per_usd: 100_000_000,
        };
        let lines = lines(&places, "demo-secret");
        let mut bodies = 0;
        for line in lines.lines().filter(|line| line.starts_with("curl")) {
            assert_ne!(line.contains("127.0.0.1:1111"), line.contains("127.0.0.1:2222"), "{line}");
            assert_eq!(line.contains("Bearer gateway-token"), line.contains(":1111"), "{line}");
            assert_eq!(line.contains("Bearer admin-token"), line.contains("/admin/"), "{line}");
            if let Some((_, body)) = line.split_once(" -d '") {
                serde_json::from_str::<serde_json::Value>(body.trim_end_matches('\'')).unwrap();
                bodies += 1;
            }
        }
        assert_eq!(bodies, 4);
    }
}
