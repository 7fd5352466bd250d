//! The public list read a second time, by what its models do: what a picture, a second of film or of heard speech
//! costs is taken from the entry by hand here, so that a price that the import puts in the wrong place shows.

use std::collections::BTreeMap;

use rust_decimal::{Decimal, RoundingStrategy::MidpointAwayFromZero};
use serde_json::value::RawValue;

use super::*;

/// One entry: its mode, and its numbers in USD.
struct Entry {
    mode: String,
    usd: BTreeMap<String, Decimal>,
}

impl Entry {
    fn price(&self, field: &str) -> Option<Decimal> {
        self.usd.get(field).copied().filter(|usd| !usd.is_zero())
    }

    fn has_output_tokens(&self) -> bool {
        ["output_cost_per_token", "output_cost_per_image_token", "output_cost_per_audio_token"]
            .iter()
            .any(|field| self.price(field).is_some())
    }

    fn has_tokens(&self) -> bool {
        let input = ["input_cost_per_token", "input_cost_per_audio_token", "input_cost_per_image_token"];
        self.has_output_tokens() || input.iter().any(|field| self.price(field).is_some())
    }
}

fn entries() -> Vec<(String, Entry)> {
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(BUILTIN_GZ).read_to_end(&mut json).unwrap();
    let list: BTreeMap<String, BTreeMap<String, Box<RawValue>>> = serde_json::from_slice(&json).unwrap();
    let number = |raw: &RawValue| Decimal::from_scientific(raw.get()).or_else(|_| Decimal::from_str_exact(raw.get()));
    let read = |(name, fields): (String, BTreeMap<String, Box<RawValue>>)| {
        let mode = fields.get("mode").map_or("", |mode| mode.get()).trim_matches('"').to_owned();
        let costs = fields.iter().filter(|(field, _)| field.contains("cost"));
        let usd = costs.filter_map(|(field, raw)| Some((field.clone(), number(raw).ok()?))).collect();
        (name, Entry { mode, usd })
    };
    list.into_iter().filter(|(name, _)| name != "sample_spec").map(read).collect()
}

fn units(usd: Decimal, times: i64) -> i64 {
    let exact = usd * Decimal::from(times) * Decimal::from(UNITS_PER_USD);
    i64::try_from(exact.round_dp_with_strategy(0, MidpointAwayFromZero)).unwrap()
}

#[test]
fn pictures_cost_what_the_list_asks_for_making_them() {
    let (tariff, own) = (Tariff::builtin(), Groups::own("default"));
    let (mut made, mut by_input) = (0, 0);
    for (name, entry) in entries() {
        if !["image_generation", "image_edit"].contains(&&*entry.mode) {
            continue;
        }
        let out = entry.price("output_cost_per_image");
        let other = entry.price("input_cost_per_image").filter(|_| !entry.has_output_tokens());
        let Some(picture) = out.or(other) else { continue };
        made += 1;
        by_input += usize::from(out.is_none());
        let two = Usage { images_out: 2, ..Usage::default() };
        assert_eq!(tariff.cost(&name, own, &two), Some(units(picture, 2)), "{name}");
        if !entry.has_output_tokens() {
            // Who does not say how many made one.
            let call = Usage { requests: 1, ..Usage::default() };
            assert_eq!(tariff.cost(&name, own, &call), Some(units(picture, 1)), "{name}");
            assert_eq!(tariff.lacks(&name, own, &call), None, "{name}");
        }
    }
    assert!(made >= 350 && by_input >= 53, "{made} models make pictures, {by_input} priced by what goes in");
    let two = Usage { images_out: 2, ..Usage::default() };
    assert_eq!(tariff.cost("high/1024-x-1024/gpt-image-1", own, &two), Some(33_400_000));
}

#[test]
fn films_cost_their_seconds_and_ask_for_them() {
    let (tariff, own) = (Tariff::builtin(), Groups::own("default"));
    let mut films = 0;
    for (name, entry) in entries().into_iter().filter(|(_, entry)| entry.mode == "video_generation") {
        let second = entry.price("output_cost_per_second").or(entry.price("output_cost_per_video_per_second"));
        let Some(second) = second else { continue };
        films += 1;
        let four = Usage { millis_out: 4_000, ..Usage::default() };
        assert_eq!(tariff.cost(&name, own, &four), Some(units(second, 4)), "{name}");
        for nothing in [
            Usage { requests: 1, ..Usage::default() },
            Usage { input: 1_000, output: 1_000, ..Usage::default() },
            Usage { images_in: 1, ..Usage::default() },
        ] {
            let lacks = if entry.has_output_tokens() { None } else { Some("output_seconds") };
            assert_eq!(tariff.lacks(&name, own, &nothing), lacks, "{name} {nothing:?}");
        }
        assert_eq!(tariff.lacks(&name, own, &four), None, "{name}");
    }
    assert!(films >= 75, "{films} models make films");
}

#[test]
fn speech_that_is_heard_costs_its_seconds_and_asks_for_them() {
    let (tariff, own) = (Tariff::builtin(), Groups::own("default"));
    let mut models = 0;
    for (name, entry) in entries().into_iter().filter(|(_, entry)| entry.mode == "audio_transcription") {
        let second = entry.price("input_cost_per_second").or(entry.price("output_cost_per_second"));
        let (Some(second), false) = (second, entry.has_tokens()) else { continue };
        models += 1;
        let minute = Usage { millis_in: 60_000, ..Usage::default() };
        let ours = tariff.cost(&name, own, &minute).unwrap();
        // Prices are kept as whole units per million seconds.
        assert!((ours - units(second, 60)).abs() <= 1, "{name}: {ours}");
        assert_eq!(
            tariff.lacks(&name, own, &Usage { requests: 1, ..Usage::default() }),
            Some("input_seconds"),
            "{name}"
        );
        assert_eq!(tariff.lacks(&name, own, &minute), None, "{name}");
    }
    assert!(models >= 80, "{models} models hear");
}

/// No model of the list sells work for the one unit that is the least because the usage is by another measure than
/// its price.
#[test]
fn a_usage_that_no_price_is_for_is_never_taken_for_almost_nothing() {
    let (tariff, own) = (Tariff::builtin(), Groups::own("default"));
    let ordinary = [
        Usage { requests: 1, ..Usage::default() },
        Usage { input: 10_000, output: 10_000, ..Usage::default() },
        Usage { images_in: 2, ..Usage::default() },
        Usage { millis_in: 60_000, ..Usage::default() },
        Usage { images_out: 1, input: 100, ..Usage::default() },
        Usage { millis_out: 60_000, ..Usage::default() },
    ];
    for (name, price) in tariff.models().into_iter().filter(|(_, price)| !price.is_free()) {
        let Rates { input, output, audio_in, audio_out, image_in, image_out, .. } = price.rates;
        let by_tokens = [input, output, audio_in, audio_out, image_in, image_out].iter().any(|units| *units > 0);
        for usage in ordinary.iter().filter(|usage| price.lacks(usage).is_none()) {
            let cost = tariff.cost(name, own, usage).unwrap();
            // Some models take their input, or give their output, for nothing.
            let counted = usage.output > 0 || !by_tokens;
            assert!(!counted || cost > 1, "{name} {usage:?} costs {cost}");
        }
    }
    let (film, call) = ("runwayml/gen4.5", Usage { requests: 1, ..Usage::default() });
    let mut doc = Tariff::builtin_doc(UNITS_PER_USD).unwrap();
    doc.group_ratio.insert("free".into(), Ratio::parse("0").unwrap());
    let tariff = Tariff::from_doc(1, &doc).unwrap();
    assert_eq!(tariff.lacks(film, own, &call), Some("output_seconds"));
    assert_eq!(tariff.lacks(film, Groups::own("free"), &call), None, "nothing costs nothing, however long");
    assert_eq!(tariff.lacks("unheard-of", own, &call), None);
}
