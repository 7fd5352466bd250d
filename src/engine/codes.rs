//! Redemption codes: made by an operator, turned into balance by whoever has one. SQL decides who gets a
//! code (compare-and-set), and the outbox brings the money to Redis before the call answers.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{
    Answer, Engine, Payer,
    adjust::Adjusted,
    denial::conflict_in,
    keys::random_text,
    outbox::Attempt,
    policies::no_account,
    ports::{CodeFilter, CodePatch, CodeStore, Edited, GuessBound, Made, NewCodes, Owed, Redemption, Unavailable},
    step::{Done, Step, Stop, verdict},
};
use crate::quota::{
    clock::Millis,
    code::{CODE_CHARS, Code, CodeName, CodeState, Plain},
    id::{AccountId, Actor, CodeId, OpId},
    verdict::{Code as Word, Refusal, Verdict},
};

/// Failed attempts of one account at redeeming, on all sidecars together: enough for slips of the hand.
/// Guessing is hopeless anyway; this keeps it from being a load.
const GUESSES: GuessBound = GuessBound { failures_max: 10, window_ms: 600_000 };
/// Codes deleted by one transaction of a purge, and named in its row of the audit: less than a second of a slow disk,
/// and some 40 kB.
const PURGE_ROWS: u32 = 1_000;

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct Make {
    pub op_id: OpId,
    pub name: CodeName,
    pub amount: i64,
    pub expires_at: Option<Millis>,
    /// 1 to [`BATCH_MAX`](crate::quota::code::BATCH_MAX).
    pub count: u32,
}

/// Codes of one call, each with its characters if this is the call that made it.
pub type MadeCodes = Vec<(Code, Option<Plain>)>;

/// A code that was redeemed.
#[derive(Clone, Debug)]
pub struct Redeemed {
    pub account: AccountId,
    pub code: CodeId,
    pub amount: i64,
    pub balance: i64,
    pub available: i64,
}

/// The use cases of codes.
pub struct Codes {
    engine: Arc<Engine>,
    store: Arc<dyn CodeStore>,
}

impl Codes {
    #[must_use]
    pub fn new(engine: Arc<Engine>, store: Arc<dyn CodeStore>) -> Self {
        Self { engine, store }
    }

    /// The clock that decides what has expired.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.engine.clock.now()
    }

    /// Makes codes; the same call again answers those it made, without their characters.
    pub async fn make(&self, by: &Actor, ask: &Make) -> Answer<MadeCodes> {
        verdict(self.try_make(by, ask).await)
    }

    async fn try_make(&self, by: &Actor, ask: &Make) -> Step<Done<MadeCodes>> {
        let now = self.now();
        let codes = (0..ask.count).map(|place| random_code(now, place)).collect::<Result<Vec<_>, _>>()?;
        let new = NewCodes {
            op_id: ask.op_id.clone(),
            name: ask.name.clone(),
            amount: ask.amount,
            expires_at: ask.expires_at,
            codes,
        };
        match self.store.make(by, &new, now).await? {
            Made::Now(codes) => {
                let plain = new.codes.into_iter().map(|(_, plain, _)| Some(plain));
                Ok(Done::now(codes.into_iter().zip(plain).collect()))
            }
            Made::Before(codes) => {
                Ok(Done { answer: codes.into_iter().map(|code| (code, None)).collect(), replayed: true })
            }
            Made::Conflict(field) => Err(conflict_in(ask.op_id.as_str(), field)),
        }
    }

    pub async fn code(&self, id: &CodeId) -> Answer<Code> {
        let found = async { Ok(Done::now(self.store.code(id).await?.ok_or_else(no_code)?)) };
        verdict(found.await)
    }

    /// Newest first, after `cursor`.
    pub async fn list(&self, filter: &CodeFilter, cursor: Option<&CodeId>, most: u32) -> Answer<Vec<Code>> {
        let listed = self.store.codes(filter, cursor, most, self.now()).await;
        verdict(listed.map(Done::now).map_err(Into::into))
    }

    pub async fn edit(&self, by: &Actor, id: &CodeId, patch: &CodePatch) -> Answer<Code> {
        let edit = async {
            match self.store.edit(by, id, patch, self.now()).await? {
                Edited::Done(code) => Ok(Done::now(code)),
                Edited::Unknown => Err(no_code()),
                Edited::Used => Err(Refusal::new(Word::CodeUsed, "the code was redeemed and cannot be changed").into()),
            }
        };
        verdict(edit.await)
    }

    pub async fn delete(&self, by: &Actor, id: &CodeId) -> Answer<()> {
        let delete = async {
            match self.store.delete(by, id, self.now()).await? {
                true => Ok(Done::now(())),
                false => Err(no_code()),
            }
        };
        verdict(delete.await)
    }

    /// Deletes every code in one of these states; how many.
    pub async fn purge(&self, by: &Actor, states: &[CodeState]) -> Answer<u64> {
        let purge = async {
            let (now, mut purged) = (self.now(), 0);
            loop {
                match self.store.purge(by, states, PURGE_ROWS, now).await? {
                    0 => return Ok(Done::now(purged)),
                    some => purged += some,
                }
            }
        };
        verdict(purge.await)
    }

    /// Turns a code into balance of the payer's account, within the time budget of a gateway's call. What
    /// was begun goes on when that is over: the same call again finds it done.
    pub async fn redeem(self: &Arc<Self>, payer: &Payer, code: &Plain) -> Answer<Redeemed> {
        let who = async { Ok(Done::now(self.engine.who(payer, None).await?.account)) };
        let account = match self.engine.in_time(Box::pin(who)).await? {
            Verdict::Done { answer, .. } => answer,
            Verdict::Refused(refusal) => return Ok(Verdict::Refused(refusal)),
        };
        let (codes, code) = (self.clone(), code.clone());
        let by = Actor::account(&account);
        let task = tokio::spawn(async move { codes.redeem_for(&by, &account, &code).await });
        let ended = async {
            let ended = task.await.unwrap_or_else(|error| Err(Unavailable::Corrupt(error.to_string())));
            match ended? {
                Verdict::Done { answer, replayed } => Ok(Done { answer, replayed }),
                Verdict::Refused(refusal) => Err(refusal.into()),
            }
        };
        self.engine.in_time(Box::pin(ended)).await
    }

    /// The same for an operator, who has more time.
    pub async fn redeem_for(&self, by: &Actor, account: &AccountId, code: &Plain) -> Answer<Redeemed> {
        verdict(self.try_redeem(by, account, code).await)
    }

    async fn try_redeem(&self, by: &Actor, account: &AccountId, code: &Plain) -> Step<Done<Redeemed>> {
        let now = self.now();
        let sha256 = Sha256::digest(code.expose().as_bytes()).into();
        let (code, first) = match self.store.redeem(by, account, &sha256, GUESSES, now).await? {
            Redemption::Done { code, first } => (code, first),
            Redemption::NoAccount => return Err(no_account(account)),
            Redemption::Unknown => return Err(no_code()),
            Redemption::Used => return Err(refusal(Word::CodeUsed, "the code was redeemed by another account")),
            Redemption::Disabled => return Err(refusal(Word::CodeDisabled, "the code is switched off")),
            Redemption::Expired => return Err(refusal(Word::CodeExpired, "the time of the code is over")),
            Redemption::TooMany { until } => return Err(too_many(until, now)),
        };
        crate::fail_point!("code-used");
        let attempt = if first { Attempt::First } else { Attempt::Later };
        let given = match self.engine.give(&Owed::for_code(account, &code), attempt).await? {
            Verdict::Done { answer, .. } => answer,
            Verdict::Refused(refusal) => return Err(refusal.into()),
        };
        crate::fail_point!("code-credited");
        let Adjusted { amount, balance, available, .. } = given;
        let answer = Redeemed { account: account.clone(), code: code.id, amount, balance, available };
        Ok(Done { answer, replayed: !first })
    }
}

fn refusal(word: Word, detail: &str) -> Stop {
    Refusal::new(word, detail).into()
}

fn no_code() -> Stop {
    refusal(Word::CodeNotFound, "there is no such code")
}

fn too_many(until: Millis, now: Millis) -> Stop {
    let wait_ms = u64::try_from(until.0 - now.0).unwrap_or(0).max(1);
    let refusal = Refusal::new(Word::TooManyAttempts, "too many codes were tried that could not be redeemed");
    Refusal { retry_after_ms: Some(wait_ms), ..refusal }.into()
}

/// An id that grows with time, and with the place within the call; the code, and its hash.
fn random_code(now: Millis, place: u32) -> Result<(CodeId, Plain, [u8; 32]), Unavailable> {
    let broken = || Unavailable::Corrupt("a code of the engine's own cannot be read".to_owned());
    let mut apart = [0; 4];
    getrandom::fill(&mut apart)
        .map_err(|error| Unavailable::Corrupt(format!("the system has no random numbers: {error}")))?;
    let id = CodeId::new(format!("{:012x}{place:02x}{:08x}", now.0, u32::from_be_bytes(apart)));
    let plain = Plain::parse(&random_text(CODE_CHARS)?).ok_or_else(broken)?;
    let sha256 = Sha256::digest(plain.expose().as_bytes()).into();
    Ok((id.map_err(|_| broken())?, plain, sha256))
}
