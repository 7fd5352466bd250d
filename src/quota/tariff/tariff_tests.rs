//! The stored form, the import of the public list, and the list's costs against a second, plain
//! computation in exact decimals.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::value::RawValue;

use super::*;

const SEED: u64 = 20_261_120;

fn public_list() -> Vec<u8> {
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(BUILTIN_GZ).read_to_end(&mut json).unwrap();
    json
}

fn import(json: &str) -> (TariffDoc, ImportReport) {
    Tariff::import_public_list(json.as_bytes(), UNITS_PER_USD).unwrap()
}

#[test]
fn the_stored_form_reads_back() {
    let text = r#"{"format":1,"units_per_usd":100000000,
        "models":{"m":{"input":250000000,"output":1000000000,"cache_read":125000000,"max_output":4096,
                       "provider":"openai","tiers":{"above_200k":{"input":500000000}}},
                  "image":{"per_request":4000000}},
        "group_ratio":{"vip":"0.8"},"user_group_ratio":{"gold":{"gold":"0.5","vip":0.75}}}"#;
    let doc: TariffDoc = serde_json::from_str(text).unwrap();
    let stored = serde_json::to_vec(&doc).unwrap();
    assert_eq!(serde_json::from_slice::<TariffDoc>(&stored).unwrap(), doc);

    let tariff = Tariff::from_json(7, &stored).unwrap();
    assert_eq!((tariff.version, tariff.units_per_usd()), (7, UNITS_PER_USD));
    let price = tariff.price("m").unwrap();
    let tier = price.rates_for(200_001);
    assert_eq!(
        (price.rates.cache_write_1h, price.rates.audio_in, price.rates.audio_out),
        (250_000_000, 250_000_000, 1_000_000_000)
    );
    assert_eq!(
        (tier.input, tier.output, tier.cache_read, tier.image_in),
        (500_000_000, 1_000_000_000, 125_000_000, 500_000_000)
    );
    assert_eq!(tariff.models().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["image", "m"]);

    let usage = Usage { input: 1000, output: 100, ..Usage::default() };
    for (group, cost) in [("standard", 350_000), ("vip", 280_000), ("gold", 175_000)] {
        assert_eq!(tariff.cost("m", Groups::own(group), &usage), Some(cost), "{group}");
    }
    // In another group than one's own: what is agreed for the two, else what holds for the one used.
    for (user, using, cost) in [("gold", "vip", 262_500), ("silver", "vip", 280_000), ("gold", "other", 350_000)] {
        assert_eq!(tariff.cost("m", Groups { user, using }, &usage), Some(cost), "{user} in {using}");
    }
    let gold = Groups::own("gold");
    assert_eq!(tariff.cost("image", gold, &usage), Some(2_000_000));
    assert_eq!(tariff.cost("unheard-of", gold, &usage), None);
    assert_eq!(tariff.estimate("unheard-of", gold, &usage, None), None);
}

#[test]
fn what_is_wrong_in_the_stored_form_is_named() {
    let with = |models: &str| format!(r#"{{"format":1,"units_per_usd":100000000,"models":{{{models}}}}}"#);
    for (text, parts) in [
        (with(r#""m":{"inptu":1}"#), ["`m`", "inptu"]),
        (with(r#""m":{"input":1.5}"#), ["`m`", "1.5"]),
        (with(r#""m":{"input":-1}"#), ["model `m`", "input must be from 0"]),
        (with(r#""m":{"cache_read":9007199254740992}"#), ["model `m`", "cache_read must be"]),
        (with(r#""m":{"tiers":{"above_200":{}}}"#), ["model `m`", "above_200"]),
        (with(r#""m":{"tiers":{"above_0k":{}}}"#), ["model `m`", "above_0k"]),
        (with(r#""m":{"tiers":{"above_1k":{"max_output":1}}}"#), ["model `m`", "prices only"]),
        (with(r#""m":{"tiers":{"above_1k":{"output":-1}}}"#), ["above_1k", "output must be"]),
        (with(r#""m":{},"m":{}"#), ["`m`", "twice"]),
        (with(r#""":{}"#), ["model ``", "name must be"]),
        (r#"{"format":2,"units_per_usd":1,"models":{}}"#.into(), ["format is 2", "reads format 1"]),
        (r#"{"format":1,"units_per_usd":0,"models":{}}"#.into(), ["units_per_usd", "positive"]),
        (r#"{"format":1,"units_per_usd":1,"models":{},"group_ratio":{"vip":"-1"}}"#.into(), ["`vip`", "decimal"]),
        (r#"{"format":1,"units_per_usd":1,"models":{},"ratio":{}}"#.into(), ["ratio", "unknown field"]),
        ("7".into(), ["the tariff does not read", "integer"]),
    ] {
        let why = Tariff::from_json(1, text.as_bytes()).unwrap_err();
        assert!(parts.iter().all(|part| why.contains(part)), "{text}: {why}");
    }
}

#[test]
fn a_public_list_is_read_by_its_digits() {
    let (doc, report) = import(
        r#"{"sample_spec":{"input_cost_per_token":0.0,"max_output_tokens":"a number"},
            "gpt-4o":{"litellm_provider":"openai","mode":"chat","input_cost_per_token":2.5e-06,
              "output_cost_per_token":0.00001,"cache_read_input_token_cost":1.25e-06,"max_output_tokens":16384,
              "input_cost_per_token_batches":1.25e-06,"input_cost_per_audio_token":null},
            "claude":{"litellm_provider":"anthropic","input_cost_per_token":3e-06,"output_cost_per_token":1.5e-05,
              "cache_creation_input_token_cost":3.75e-06,"cache_creation_input_token_cost_above_1hr":6e-06,
              "input_cost_per_token_above_200k_tokens":6e-06,
              "cache_creation_input_token_cost_above_1hr_above_200k_tokens":1.2e-05},
            "qwen":{"tiered_pricing":[
              {"input_cost_per_token":5e-08,"output_cost_per_token":4e-07,"range":[0,256000.0]},
              {"input_cost_per_token":2.5e-07,"output_cost_per_token":2e-06,"range":[256000.0,1000000.0]}]},
            "embed":{"mode":"embedding","input_cost_per_token":1e-07,"max_output_tokens":9},
            "rerank":{"input_cost_per_token":0,"output_cost_per_token":0,"input_cost_per_query":0.001},
            "local":{"input_cost_per_token":0,"output_cost_per_token":0.0,"max_output_tokens":0},
            "dust":{"input_cost_per_token":2.9999900000000002e-06},
            "whisper":{"mode":"audio_transcription","input_cost_per_second":0.0001,"output_cost_per_second":0.0001},
            "stt":{"mode":"audio_transcription","input_cost_per_second":0,"output_cost_per_second":0.0002},
            "rented":{"mode":"chat","input_cost_per_second":0.01},
            "pixels":{"input_cost_per_pixel":1e-08},
            "dalle":{"input_cost_per_token":0,"output_cost_per_token":0,"output_cost_per_image":0.04},
            "gpt-image":{"input_cost_per_token":5e-06,"input_cost_per_image_token":1e-05,
              "output_cost_per_image_token":4e-05,"cache_read_input_image_token_cost":2.5e-06},
            "thinker":{"input_cost_per_token":1e-06,"output_cost_per_token":2e-06,
              "output_cost_per_reasoning_token":6e-06},
            "exa":{"tiered_pricing":[{"input_cost_per_query":0.005,"max_results_range":[0,25]}]},
            "minus":{"input_cost_per_token":-1e-06},
            "word":{"input_cost_per_token":"1e-06"},
            "dear":{"input_cost_per_token":1e3},
            "ä":{"input_cost_per_token":1e-06},
            "odd":7,
            "gpt-4o":{"input_cost_per_token":1}}"#,
    );
    let tariff = Tariff::from_doc(1, &doc).unwrap();
    let rates = |model: &str, prompt| *tariff.price(model).unwrap().rates_for(prompt);
    let gpt = rates("gpt-4o", 0);
    assert_eq!(
        (gpt.input, gpt.output, gpt.cache_read, gpt.audio_in),
        (250_000_000, 1_000_000_000, 125_000_000, 250_000_000)
    );
    assert_eq!(tariff.price("gpt-4o").unwrap().max_output, Some(16_384));
    assert_eq!((rates("claude", 0).cache_write_5m, rates("claude", 0).cache_write_1h), (375_000_000, 600_000_000));
    let long = rates("claude", 200_001);
    assert_eq!((long.input, long.cache_write_1h, long.output), (600_000_000, 1_200_000_000, 1_500_000_000));
    assert_eq!((rates("qwen", 256_000).input, rates("qwen", 256_001).output), (5_000_000, 200_000_000));
    assert_eq!(tariff.price("embed").unwrap().max_output, Some(0));
    assert_eq!(rates("rerank", 0).per_request, 100_000);
    assert_eq!(tariff.price("local").unwrap().max_output, None);
    assert_eq!(rates("dust", 0).input, 299_999_000);
    assert_eq!((rates("whisper", 0).seconds_in, rates("whisper", 0).seconds_out), (10_000_000_000, 0));
    assert_eq!(rates("stt", 0).seconds_in, 20_000_000_000);
    assert_eq!(rates("dalle", 0).per_image_out, 4_000_000);
    let image = rates("gpt-image", 0);
    assert_eq!((image.output, image.image_out), (4_000_000_000, 4_000_000_000), "all that it puts out is images");
    assert_eq!((image.image_in, image.cache_read_image), (1_000_000_000, 250_000_000));
    assert_eq!((rates("thinker", 0).reasoning, rates("thinker", 0).output), (600_000_000, 200_000_000));
    let refused: BTreeMap<_, _> = report.refused.iter().map(|(name, why)| (name.as_str(), why.as_str())).collect();
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), ["dear", "gpt-4o", "minus", "odd", "word", "ä"]);
    assert!(refused["minus"].contains("input_cost_per_token is -1e-06"));
    assert_eq!((report.models, report.free, report.rounded, report.unpriced), (12, 1, 1, 3));
    for bad in ["", "[]", "{}", r#"{"sample_spec":{"input_cost_per_token":1}}"#] {
        assert!(Tariff::import_public_list(bad.as_bytes(), UNITS_PER_USD).is_err(), "{bad}");
    }
}

#[test]
fn what_models_make_is_read_by_their_mode() {
    let (doc, report) = import(
        r#"{"picture":{"mode":"image_generation","input_cost_per_image":0.167,"input_cost_per_pixel":1e-7},
            "edit":{"mode":"image_edit","input_cost_per_image":0.01,"output_cost_per_image":0.02},
            "seer":{"mode":"image_generation","input_cost_per_image":0.01,"output_cost_per_image_token":4e-05},
            "embed":{"mode":"embedding","input_cost_per_image":0.01},
            "sora":{"mode":"video_generation","output_cost_per_video_per_second":0.1},
            "zero":{"input_cost_per_token":1e-06,"input_cost_per_token_above_0k_tokens":2e-06}}"#,
    );
    let tariff = Tariff::from_doc(1, &doc).unwrap();
    let rates = |model| tariff.price(model).unwrap().rates;
    let pieces = |model| (rates(model).per_image_in, rates(model).per_image_out);
    assert_eq!(pieces("picture"), (0, 16_700_000), "what the list asks for a picture that is made");
    assert_eq!(pieces("edit"), (1_000_000, 2_000_000));
    assert_eq!(pieces("seer"), (1_000_000, 0), "what it makes is priced by tokens");
    assert_eq!(pieces("embed"), (1_000_000, 0), "it makes none");
    assert_eq!(rates("sora").seconds_out, 10_000_000_000_000);
    let [(name, why)] = &report.refused[..] else { panic!("{report:?}") };
    assert!(name == "zero" && why.contains("above_0k"), "one odd field does not refuse the whole list: {why}");
}

/// A provider's prefix finds its own model, and nobody else's.
#[test]
fn models_are_found_by_exact_name_or_their_providers_prefix() {
    let tariff = Tariff::builtin();
    assert_eq!(tariff.price("openai/gpt-4o"), tariff.price("gpt-4o"));
    assert!(tariff.price("gpt-4o").is_some());
    for unknown in ["GPT-4o", "gpt-4o ", "azure-x/gpt-4o", "a/openai/gpt-4o", "/gpt-4o", "openai/", ""] {
        assert_eq!(tariff.price(unknown), None, "{unknown}");
    }
}

#[test]
fn the_builtin_list() {
    let (doc, report) = Tariff::import_public_list(&public_list(), UNITS_PER_USD).unwrap();
    assert_eq!(report.refused, []);
    assert!(report.models > 3_000, "{report:?}");
    let builtin = Tariff::builtin();
    assert_eq!((builtin.version, builtin.models().len(), builtin.units_per_usd()), (0, report.models, UNITS_PER_USD));
    assert!(builtin.models().is_sorted_by_key(|(name, _)| *name));
    assert_eq!(builtin.price("sample_spec"), None);
    let sonnet = builtin.price("anthropic.claude-sonnet-4-20250514-v1:0").unwrap();
    assert_eq!((sonnet.rates.input, sonnet.rates.output), (300_000_000, 1_500_000_000));
    assert_eq!(sonnet.rates_for(200_001).input, 600_000_000);
    let again = Tariff::from_json(1, &serde_json::to_vec(&doc).unwrap()).unwrap();
    assert_eq!(again.models(), builtin.models());
    // A quota of new-api is 1/500 000 USD.
    let coarse = Tariff::builtin_at(500_000);
    assert_eq!(coarse.price("gpt-4o").unwrap().rates.input * 200, builtin.price("gpt-4o").unwrap().rates.input);
}

/// A model's entry as plain decimals in USD, for the second computation.
struct Plain {
    usd: HashMap<String, Decimal>,
    mode: String,
}

impl Plain {
    /// The field's price for this length of prompt, if the entry has one.
    fn usd(&self, field: &str, prompt: i64) -> Option<Decimal> {
        let thousands = self.usd.keys().filter_map(|key| key.split_once("k_tokens")?.0.rsplit_once("_above_"));
        let above = thousands.filter_map(|(_, digits)| digits.parse::<i64>().ok()).filter(|k| prompt > k * 1000).max();
        let tier = above.and_then(|k| self.usd.get(&format!("{field}_above_{k}k_tokens")));
        tier.or_else(|| self.usd.get(field)).copied()
    }

    fn cost(&self, usage: &Usage, ratio: Decimal) -> i64 {
        let prompt = usage.prompt_tokens();
        let usd = |field| self.usd(field, prompt);
        let input = usd("input_cost_per_token").unwrap_or_default();
        let by_image = usd("output_cost_per_image_token").or(usd("output_cost_per_audio_token"));
        let output = usd("output_cost_per_token").or(by_image).unwrap_or_default();
        let write = usd("cache_creation_input_token_cost").unwrap_or(input);
        let read = usd("cache_read_input_token_cost").unwrap_or(input);
        let calls = usd("input_cost_per_request").or(usd("input_cost_per_query")).unwrap_or_default();
        let makes_images = ["image_generation", "image_edit"].contains(&&*self.mode)
            && ["output_cost_per_image", "output_cost_per_token", "output_cost_per_image_token"]
                .iter()
                .all(|field| usd(field).unwrap_or_default().is_zero());
        let by_input = usd("input_cost_per_image").unwrap_or_default();
        let (seen, made) = match makes_images {
            true => (Decimal::ZERO, by_input),
            false => (by_input, usd("output_cost_per_image").unwrap_or_default()),
        };
        let film = usd("output_cost_per_second").or(usd("output_cost_per_video_per_second"));
        let seconds = |millis: i64| Decimal::from(millis) / Decimal::from(1_000);
        let count = |n: i64| Decimal::from(n);
        let kinds = [
            (count(usage.input), input),
            (count(usage.cache_read), read),
            (count(usage.cache_read_audio), usd("cache_read_input_audio_token_cost").unwrap_or(read)),
            (count(usage.cache_read_image), usd("cache_read_input_image_token_cost").unwrap_or(read)),
            (count(usage.cache_write_5m), write),
            (count(usage.cache_write_1h), usd("cache_creation_input_token_cost_above_1hr").unwrap_or(write)),
            (count(usage.audio_in), usd("input_cost_per_audio_token").unwrap_or(input)),
            (count(usage.image_in), usd("input_cost_per_image_token").unwrap_or(input)),
            (count(usage.output), output),
            (count(usage.reasoning), usd("output_cost_per_reasoning_token").unwrap_or(output)),
            (count(usage.audio_out), usd("output_cost_per_audio_token").unwrap_or(output)),
            (count(usage.image_out), usd("output_cost_per_image_token").unwrap_or(output)),
            (seconds(usage.millis_in), usd("input_cost_per_second").unwrap_or_default()),
            (seconds(usage.millis_out), film.unwrap_or_default()),
            (count(usage.images_in), seen),
            (count(usage.images_out), made),
            (count(1), calls),
        ];
        let sum: Decimal = kinds.iter().map(|(tokens, usd)| tokens * usd).sum();
        let exact = sum * ratio * Decimal::from(UNITS_PER_USD);
        let units = exact.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero);
        let due = kinds.iter().any(|(_, usd)| !usd.is_zero()) && !ratio.is_zero();
        i64::try_from(units).unwrap().max(i64::from(due))
    }
}

/// Entries that the plain reading above can price: no ranges, no aliases, no rents, whole prices.
fn plain_entries() -> Vec<(String, Plain)> {
    let list: BTreeMap<String, BTreeMap<String, Box<RawValue>>> = serde_json::from_slice(&public_list()).unwrap();
    let other =
        ["tiered_pricing", "input_cost_per_token_cache_hit", "input_cost_per_audio_per_second", "cost_per_second"];
    let number = |raw: &RawValue| Decimal::from_scientific(raw.get()).or_else(|_| Decimal::from_str_exact(raw.get()));
    let mut entries = Vec::new();
    for (name, fields) in list.into_iter().filter(|(name, _)| name != "sample_spec") {
        let mode = fields.get("mode").map_or("", |mode| mode.get()).trim_matches('"').to_owned();
        if mode == "audio_transcription" || other.iter().any(|field| fields.contains_key(*field)) {
            continue;
        }
        let costs = fields.iter().filter(|(field, _)| field.contains("cost"));
        let plain: HashMap<_, _> = costs.filter_map(|(field, raw)| Some((field.clone(), number(raw).ok()?))).collect();
        let pieces = |field: &str| ["_request", "_query", "_image"].iter().any(|end| field.ends_with(end));
        let whole = plain.iter().all(|(field, usd)| {
            let per = if pieces(field) { 1 } else { 1_000_000 };
            (usd * Decimal::from(UNITS_PER_USD) * Decimal::from(per)).is_integer()
        });
        if whole {
            entries.push((name, Plain { usd: plain, mode }));
        }
    }
    entries
}

#[test]
fn costs_of_the_list_equal_a_plain_computation_to_the_unit() {
    let mut doc = Tariff::import_public_list(&public_list(), UNITS_PER_USD).unwrap().0;
    let ratios = ["1", "0.8", "0.333333333", "2.5", "0", "0.000001"];
    doc.group_ratio = ratios.iter().map(|ratio| (format!("g{ratio}"), Ratio::parse(ratio).unwrap())).collect();
    let tariff = Tariff::from_doc(1, &doc).unwrap();
    let mut random = StdRng::seed_from_u64(SEED);
    let (mut models, mut tiered, mut pieces) = (0, 0, 0);
    for (name, plain) in plain_entries() {
        let Some(price) = tariff.price(&name) else { continue };
        models += 1;
        tiered += usize::from(!price.tiers.is_empty());
        let Rates { seconds_out, per_image_out, per_request, .. } = price.rates;
        pieces += usize::from(seconds_out + per_image_out + per_request > 0);
        for round in 0..12 {
            let mut some = |most: i64| if random.random_bool(0.4) { random.random_range(0..=most) } else { 0 };
            let most = [9, 3_000, 300_000, 1_000_000][round % 4];
            let usage = Usage {
                input: some(most).max(1),
                cache_read: some(most),
                cache_read_audio: some(most),
                cache_read_image: some(most),
                cache_write_5m: some(most),
                cache_write_1h: some(most),
                audio_in: some(most),
                image_in: some(most),
                output: some(most),
                reasoning: some(most),
                audio_out: some(most),
                image_out: some(most),
                millis_in: some(most),
                millis_out: some(most),
                images_in: some(9),
                // Whoever makes images says how many: see `an_image_that_nobody_counts_is_one`.
                images_out: some(9).max(1),
                requests: 0,
                beyond: false,
            };
            let ratio = ratios[random.random_range(0..ratios.len())];
            let ours = tariff.cost(&name, Groups::own(&format!("g{ratio}")), &usage).unwrap();
            let theirs = plain.cost(&usage, Decimal::from_str_exact(ratio).unwrap());
            assert_eq!(ours, theirs, "seed {SEED}: {name} × {ratio}, {usage:?}");
        }
    }
    assert!(models >= 3_000 && tiered >= 200 && pieces >= 300, "{models} models, {tiered} tiered, {pieces} by piece");
}
