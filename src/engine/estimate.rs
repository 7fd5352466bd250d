//! Estimate: what a call would hold, from its text. Nothing is held, and nothing is asked of Redis.
//!
//! Counting tokens takes as long as the text is, and the first count reads a vocabulary. It is done on
//! threads for blocking work, few at a time, so that no reserve waits behind it.

use std::{num::NonZeroUsize, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{
    Answer, Engine, Payer,
    policies::Who,
    ports::Unavailable,
    pricing::model_not_priced,
    step::{Done, Step, verdict},
};
use crate::quota::{
    group::{AUTO, GroupTables},
    id::{KeyId, Model},
    tariff::{Groups, Rates, Ratio},
    tokens::{Family, Image, around_messages, audio_tokens, image_tokens},
    usage::Usage,
    verdict::Refusal,
};

/// Counts that wait for their turn; more are 503.
const WAITING_MAX: usize = 256;

/// An estimate as the wire gives it.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Whose group's ratio holds; `None`: 1.
    pub payer: Option<Payer>,
    pub key: Option<KeyId>,
    /// The price group that the call shall be made in, or `auto`.
    pub group: Option<Box<str>>,
    pub model: Model,
    pub prompt: Prompt,
    pub images: Vec<Image>,
    /// Sound that goes in, in milliseconds.
    pub audio_millis: i64,
    pub max_tokens: Option<i64>,
    /// Images and milliseconds of sound or film that come out.
    pub output_images: i64,
    pub output_millis: i64,
}

/// The text of a prompt, or its tokens.
#[derive(Clone, Debug)]
pub enum Prompt {
    Tokens(i64),
    /// `messages`: of how many messages of a chat, if it is one.
    Texts {
        texts: Vec<String>,
        messages: usize,
    },
}

/// What a call would cost.
#[derive(Clone, Debug)]
pub struct Estimated {
    /// How the text was counted; `None`: it was not.
    pub counted_by: Option<&'static str>,
    /// Of text, images and sound.
    pub prompt_tokens: i64,
    /// Output tokens it is priced with: those asked for, as far as the model puts out so many.
    pub max_tokens: i64,
    /// Units for the prompt alone.
    pub prompt_cost: i64,
    /// Units that a reserve with these numbers holds.
    pub held: i64,
    pub free: bool,
    /// The price group; `None` for nobody's call.
    pub group: Option<Box<str>>,
    /// The price list, the ratio and the prices that it was computed with.
    pub version: u32,
    pub ratio: Ratio,
    pub rates: Rates,
}

/// Counts tokens, few texts at a time.
pub(crate) struct Texts {
    places: Semaphore,
    turns: Arc<Semaphore>,
}

impl Default for Texts {
    /// Half of the cores.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { places: Semaphore::new(WAITING_MAX), turns: Arc::new(Semaphore::new((cores / 2).max(1))) }
    }
}

impl Texts {
    async fn count(&self, family: Family, texts: Vec<String>) -> Result<i64, Unavailable> {
        if texts.iter().all(String::is_empty) {
            return Ok(0);
        }
        let _place = self.places.try_acquire().map_err(|_| Unavailable::Overloaded)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Unavailable::Overloaded)?;
        let count = spawn_blocking(move || {
            // Until it is done, whether or not anybody still waits for it.
            let _turn = turn;
            family.count(&texts)
        });
        count.await.map_err(|error| Unavailable::Corrupt(format!("tokens could not be counted: {error}")))
    }
}

impl Engine {
    /// Tokens of one text of the model's.
    ///
    /// # Errors
    /// [`Unavailable::Overloaded`] when too many texts wait.
    pub async fn count_tokens(&self, model: &Model, text: String) -> Result<i64, Unavailable> {
        self.texts.count(Family::of(model.as_str()), vec![text]).await
    }

    /// By the newest prices, and the ratio of the payer's groups.
    pub async fn estimate(&self, ask: Estimate) -> Answer<Estimated> {
        verdict(self.try_estimate(ask).await)
    }

    async fn try_estimate(&self, ask: Estimate) -> Step<Done<Estimated>> {
        let tariff = self.tariffs.current();
        let model = ask.model.as_str();
        let Some(price) = tariff.price(model) else { return Err(model_not_priced(&ask.model).into()) };
        let who = match &ask.payer {
            Some(payer) => Some(self.who(payer, ask.key.as_ref()).await?),
            None => None,
        };
        let tables = self.groups.load_full();
        let groups = groups_of(&ask, who.as_ref(), &tables)?;
        let ratio = tariff.ratio(groups);
        let group: Option<Box<str>> = Some(groups.using).filter(|group| !group.is_empty()).map(Into::into);
        let (counted_by, text_tokens) = match ask.prompt {
            Prompt::Tokens(tokens) => (None, tokens),
            Prompt::Texts { texts, messages } => {
                let family = Family::of(model);
                (Some(family.rule()), self.texts.count(family, texts).await? + around_messages(messages))
            }
        };
        let heard = heard(model, &price.rates, &ask.images, ask.audio_millis);
        let prompt =
            Usage { input: text_tokens, images_out: ask.output_images, millis_out: ask.output_millis, ..heard };
        if let Some(what) = price.lacks(&prompt).filter(|_| !ratio.is_zero()) {
            let field = field_of(what);
            let sentence = format!("is needed: model `{}` is priced by it", ask.model);
            return Err(Refusal::invalid(field, sentence).into());
        }
        let estimate = price.estimate(ratio, &prompt, ask.max_tokens);
        Ok(Done::now(Estimated {
            counted_by,
            prompt_tokens: prompt.prompt_tokens(),
            max_tokens: estimate.output,
            prompt_cost: estimate.prompt_cost,
            held: estimate.cost,
            free: estimate.free,
            group,
            version: tariff.version,
            ratio,
            rates: *price.rates_for(prompt.prompt_tokens()),
        }))
    }
}

/// The group that a reserve like it would be made in; refused where that would be, when the call names it.
fn groups_of<'t>(ask: &'t Estimate, who: Option<&'t Who>, tables: &'t GroupTables) -> Result<Groups<'t>, Refusal> {
    let named = ask.group.as_deref();
    match (who, named) {
        (None, Some(AUTO)) => Err(Refusal::invalid("group", "must be a group where no account is named")),
        (None, named) => Ok(Groups::own(named.unwrap_or_default())),
        (Some(who), None) => Ok(who.rules.price_groups(who.key.as_ref(), None, Some(&ask.model), tables)),
        (Some(who), Some(_)) => {
            let policy = &who.rules.policy;
            let using = tables.choose(policy.member(who.key.as_ref()), named, Some(&ask.model))?;
            Ok(Groups { user: &policy.group, using })
        }
    }
}

/// The field of an estimate that a field of a usage is.
fn field_of(usage_field: &'static str) -> &'static str {
    match usage_field {
        "input_seconds" => "audio_seconds",
        "input_images" => "images",
        same => same,
    }
}

/// Images and sound as the model's prices count them: by tokens that are priced apart from text, else by
/// the piece or the second where they have such a price, else by tokens at the price of text.
fn heard(model: &str, rates: &Rates, images: &[Image], audio_millis: i64) -> Usage {
    let mut usage = Usage::default();
    if rates.per_image_in > 0 && rates.image_in == rates.input {
        usage.images_in = images.len() as i64;
    } else {
        usage.image_in = images.iter().map(|image| image_tokens(model, *image)).sum();
    }
    if rates.seconds_in > 0 && rates.audio_in == rates.input {
        usage.millis_in = audio_millis;
    } else {
        usage.audio_in = audio_tokens(model, audio_millis);
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_sound_are_counted_as_they_are_priced() {
        let images = [Image::UNKNOWN, Image::UNKNOWN];
        let text = Rates { input: 5, audio_in: 5, image_in: 5, ..Rates::default() };
        let usage = heard("gemini-2.5-pro", &text, &images, 2_000);
        assert_eq!((usage.image_in, usage.audio_in), (2 * 1_032, 64));
        let pieces = Rates { per_image_in: 9, seconds_in: 9, ..text };
        let usage = heard("gemini-2.5-pro", &pieces, &images, 2_000);
        assert_eq!((usage.images_in, usage.millis_in, usage.prompt_tokens()), (2, 2_000, 0));
        let apart = Rates { audio_in: 7, image_in: 7, ..pieces };
        let usage = heard("gemini-2.5-pro", &apart, &images, 2_000);
        assert_eq!((usage.image_in, usage.audio_in, usage.images_in + usage.millis_in), (2 * 1_032, 64, 0));
    }

    #[tokio::test]
    async fn texts_that_wait_are_bounded() {
        let texts = Texts { places: Semaphore::new(1), turns: Arc::new(Semaphore::new(1)) };
        let taken = texts.places.try_acquire().unwrap();
        let full = texts.count(Family::O200k, vec!["hello".into()]).await;
        assert!(matches!(full, Err(Unavailable::Overloaded)), "{full:?}");
        drop(taken);
        assert!(matches!(texts.count(Family::O200k, vec!["hello world".into()]).await, Ok(2)));
    }
}
