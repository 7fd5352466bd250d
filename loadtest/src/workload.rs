//! The calls of a run: who calls what, and what becomes of it. Call `n` of a seed is always the same
//! call, whichever task makes it and whenever, so that a run can be repeated.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Zipf, weighted::WeightedIndex};

use crate::{
    price::{Price, Tokens},
    profile::Profile,
    trace::Trace,
};

/// What becomes of a call once it is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Settled with the upstream's usage.
    Settle,
    /// Given back; the upstream was never called.
    Release,
    /// Settled with outcome `client_abort` and nothing else: the estimate's prompt part.
    ClientAbort,
    /// Settled with outcome `upstream_error` and nothing else: free.
    UpstreamError,
    /// Never heard of again: the hold expires.
    Lost,
    /// Settled with usage after the hold expired.
    Late,
}

/// What is sent again, to see that it is answered again and done once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The reserve, while the hold lives.
    Reserve,
    /// The last step (settle or release), and the reserve after it.
    Settle,
    /// The last step twice at the same time.
    Together,
    /// The settle with another amount: a conflict.
    Conflict,
}

/// One call, all of it decided before it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub index: u64,
    pub account: usize,
    /// Which of the account's keys.
    pub key: usize,
    /// Which of the profile's models.
    pub model: usize,
    pub prompt_tokens: i64,
    pub max_tokens: i64,
    /// What the upstream counts in the end.
    pub tokens: Tokens,
    pub fate: Fate,
    pub repeat: Option<Repeat>,
    /// Units the reserve must hold.
    pub hold: i64,
    /// Units the account must be charged in the end.
    pub cost: i64,
    /// From the reserve's answer to the end of the upstream's work.
    pub work: Duration,
}

/// How an account is tight, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tight {
    Balance,
    /// The cap of the profile's first cost limit.
    Cap,
    /// The allowance of each of its keys.
    Allowance,
}

/// Makes the calls of one seed.
#[derive(Debug)]
pub struct Workload {
    pub profile: Profile,
    pub trace: Trace,
    pub prices: Vec<Price>,
    seed: u64,
    accounts: Zipf<f64>,
    models: WeightedIndex<u32>,
}

/// OpenAI's caches count in steps of so many tokens, and hold no shorter prompts than 1 024.
const CACHE_STEP_TOKENS: i64 = 128;
const CACHE_TOKENS_MIN: i64 = 1024;

impl Workload {
    /// # Errors
    /// A sentence when the profile's trace, models or numbers are wrong.
    pub fn new(profile: Profile, seed: u64) -> Result<Self, String> {
        profile.check()?;
        let models: Vec<&str> = profile.models.iter().map(|model| model.model.as_str()).collect();
        Ok(Self {
            trace: Trace::named(&profile.trace)?,
            prices: Price::of(&models)?,
            seed,
            accounts: Zipf::new(f64::from(profile.accounts), profile.zipf).map_err(|error| format!("zipf: {error}"))?,
            models: WeightedIndex::new(profile.models.iter().map(|model| model.weight))
                .map_err(|error| format!("the models' weights: {error}"))?,
            profile,
        })
    }

    /// Call number `index`.
    #[must_use]
    pub fn call(&self, index: u64) -> Call {
        let mut rng = SmallRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(index));
        let row = self.trace.row(index);
        let account = self.account(&mut rng);
        let key = rng.random_range(0..self.profile.keys as usize);
        let model = self.models.sample(&mut rng);
        let price = &self.prices[model];
        let fate = self.fate(&mut rng);
        let repeat = self.repeat(&mut rng, fate);
        let tokens = self.tokens(&mut rng, model, row.prompt_tokens, row.generated_tokens);
        let max_tokens = self.max_tokens(&mut rng, row.generated_tokens);
        let cost = match fate {
            Fate::Settle | Fate::Late => price.cost(&tokens),
            Fate::ClientAbort => price.prompt_part(row.prompt_tokens),
            Fate::UpstreamError | Fate::Release | Fate::Lost => 0,
        };
        Call {
            index,
            account,
            key,
            model,
            prompt_tokens: row.prompt_tokens,
            max_tokens,
            tokens,
            fate,
            repeat,
            hold: price.estimate(row.prompt_tokens, max_tokens),
            cost,
            work: Duration::from_secs_f64(
                row.generated_tokens as f64 * self.profile.token_ms / 1e3 / self.profile.speed,
            ),
        }
    }

    /// How account `n` is tight. Tight accounts are spread evenly; the busiest one is not among them
    /// unless all are.
    #[must_use]
    pub fn tight(&self, account: usize) -> Option<Tight> {
        let share = self.profile.shares.tight_accounts;
        let before = (account as f64 * share).floor();
        let after = ((account + 1) as f64 * share).floor();
        (after > before).then(|| [Tight::Balance, Tight::Cap, Tight::Allowance][before as usize % 3])
    }

    fn account(&self, rng: &mut SmallRng) -> usize {
        let rank = self.accounts.sample(rng) as usize;
        rank.clamp(1, self.profile.accounts as usize) - 1
    }

    fn fate(&self, rng: &mut SmallRng) -> Fate {
        let shares = &self.profile.shares;
        let mut left = rng.random::<f64>();
        for (share, fate) in [
            (shares.release, Fate::Release),
            (shares.client_abort, Fate::ClientAbort),
            (shares.upstream_error, Fate::UpstreamError),
            (shares.lost, Fate::Lost),
            (shares.late, Fate::Late),
        ] {
            if left < share {
                return fate;
            }
            left -= share;
        }
        Fate::Settle
    }

    fn repeat(&self, rng: &mut SmallRng, fate: Fate) -> Option<Repeat> {
        let wanted = rng.random::<f64>() < self.profile.shares.repeat;
        let kind = [Repeat::Reserve, Repeat::Settle, Repeat::Together, Repeat::Conflict][rng.random_range(0..4)];
        let fits = match (kind, fate) {
            // A hold that ends at once may be gone before its repetition comes.
            (Repeat::Reserve, Fate::Lost | Fate::Late) => false,
            (Repeat::Reserve, _) => true,
            (_, Fate::Lost) => false,
            (Repeat::Conflict, fate) => fate == Fate::Settle,
            (Repeat::Settle | Repeat::Together, _) => true,
        };
        (wanted && fits).then_some(kind)
    }

    fn tokens(&self, rng: &mut SmallRng, model: usize, prompt: i64, output: i64) -> Tokens {
        let cached = rng.random::<f64>() < self.profile.shares.cached;
        let part = rng.random_range(0.2..1.0);
        let writes = rng.random_bool(0.5);
        if !cached || prompt < CACHE_TOKENS_MIN {
            return Tokens { input: prompt, output, ..Tokens::default() };
        }
        let cache_read = (prompt as f64 * part) as i64 / CACHE_STEP_TOKENS * CACHE_STEP_TOKENS;
        let rest = prompt - cache_read;
        let (cache_write_5m, cache_write_1h) =
            if writes && self.profile.models[model].usage.names_cache_writes() { (rest / 2, rest / 4) } else { (0, 0) };
        Tokens { input: rest - cache_write_5m - cache_write_1h, cache_read, cache_write_5m, cache_write_1h, output }
    }

    /// The smallest of the profile's output limits that fits, or the next; half of what will be
    /// generated for an overrun.
    fn max_tokens(&self, rng: &mut SmallRng, generated: i64) -> i64 {
        let overrun = rng.random::<f64>() < self.profile.shares.overrun;
        let roomy = rng.random_range(0..=1);
        if overrun {
            return (generated / 2).max(1);
        }
        let menu = &self.profile.max_tokens;
        let fits = menu.partition_point(|tokens| *tokens < generated) + roomy;
        menu.get(fits).or(menu.last()).copied().unwrap_or(generated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(seed: u64) -> Workload {
        Workload::new(Profile::load("conv").unwrap(), seed).unwrap()
    }

    #[test]
    fn a_seed_repeats_its_calls_and_another_does_not() {
        let (one, again, other) = (workload(1), workload(1), workload(2));
        assert!((0..200).all(|index| one.call(index) == again.call(index)));
        assert!((0..200).any(|index| one.call(index) != other.call(index)));
    }

    /// With exponent s, rank 1 is 2^s times as busy as rank 2; and everyone is within range.
    #[test]
    fn accounts_follow_the_zipf_law() {
        let workload = workload(7);
        let mut calls = vec![0_u32; 1000];
        for index in 0..60_000 {
            calls[workload.call(index).account] += 1;
        }
        let ratio = f64::from(calls[0]) / f64::from(calls[1]);
        assert!((ratio - 2_f64.powf(1.1)).abs() < 0.15, "rank 1 to rank 2: {ratio}");
        let harmonic: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-1.1)).sum();
        let head = f64::from(calls[0]) / 60_000.0;
        assert!((head - 1.0 / harmonic).abs() < 0.01, "the busiest account makes {head} of all calls");
    }

    #[test]
    fn no_skew_is_even() {
        let mut profile = Profile::load("conv").unwrap();
        profile.accounts = 4;
        profile.zipf = 0.0;
        let workload = Workload::new(profile, 1).unwrap();
        let mut calls = [0_u32; 4];
        (0..8_000).for_each(|index| calls[workload.call(index).account] += 1);
        assert!(calls.iter().all(|count| (1_800..2_200).contains(count)), "{calls:?}");
    }

    #[test]
    fn shares_and_amounts_are_those_of_the_profile() {
        let workload = workload(3);
        let calls: Vec<Call> = (0..19_366).map(|index| workload.call(index)).collect();
        let share = |fate| calls.iter().filter(|call| call.fate == fate).count() as f64 / calls.len() as f64;
        assert!((share(Fate::Release) - 0.02).abs() < 0.005);
        assert!((share(Fate::ClientAbort) - 0.02).abs() < 0.005);
        assert!((share(Fate::Lost) - 0.01).abs() < 0.004);
        assert!((share(Fate::Settle) - 0.938).abs() < 0.01);
        let over = calls.iter().filter(|call| call.fate == Fate::Settle && call.cost > call.hold).count();
        assert!((10..300).contains(&over), "{over} calls cost more than their hold");
        for call in &calls {
            let prompt =
                call.tokens.input + call.tokens.cache_read + call.tokens.cache_write_5m + call.tokens.cache_write_1h;
            assert_eq!(prompt, call.prompt_tokens);
            assert!(call.tokens.input >= 0 && call.key < 2);
        }
        assert!(calls.iter().any(|call| call.tokens.cache_write_1h > 0));
    }

    #[test]
    fn tight_accounts_are_spread_and_of_every_kind() {
        let workload = workload(1);
        let tight: Vec<Tight> = (0..1000).filter_map(|account| workload.tight(account)).collect();
        assert_eq!(tight.len(), 100);
        for kind in [Tight::Balance, Tight::Cap, Tight::Allowance] {
            assert!(tight.iter().filter(|other| **other == kind).count() >= 33);
        }
        assert_eq!(workload.tight(0), None);
    }
}
