//! Rounding edges, tiers, saturation, and the estimate.

use super::*;

fn ratio(text: &str) -> Ratio {
    Ratio::parse(text).unwrap()
}

fn price(input: i64, output: i64) -> Price {
    Price { rates: Rates { input, output, ..Rates::default() }, ..Price::default() }
}

fn tokens(input: i64, output: i64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

/// Rows of price per million, tokens, ratio, units.
#[test]
fn one_rounding_half_away_from_zero_and_never_nothing() {
    for (per_million, used, factor, units) in [
        (1_000_000, 1, "1", 1),
        (1_500_000, 1, "1", 2),
        (1_499_999, 1, "1", 1),
        (2_500_000, 1, "1", 3),
        (1, 1, "1", 1),
        (1, 1_499_999, "1", 1),
        (1, 1_500_000, "1", 2),
        (1_000_000, 3, "0.5", 2),
        (1_000_000, 3, "0.499999999", 1),
        (1_000_000, 1, "0.000000001", 1),
        (1_000_000, 1_000_000_000, "0.000000001", 1),
        (1_000_000, 10, "0", 0),
        (0, 10, "5", 0),
        (1_000_000, 0, "5", 0),
        (250_000_000, 1_000, "0.8", 200_000),
    ] {
        let cost = price(per_million, 0).cost(ratio(factor), &tokens(used, 0));
        assert_eq!(cost, units, "{used} tokens at {per_million} per million, times {factor}");
    }
    // Two halves make one unit: the sum is rounded, not its parts.
    assert_eq!(price(500_000, 500_000).cost(Ratio::ONE, &tokens(1, 1)), 1);
    // Another kind has a price: a token of a free kind still costs a unit.
    assert_eq!(price(5, 0).cost(Ratio::ONE, &tokens(0, 1)), 1);
}

/// 32-bit sums once made a negative charge.
#[test]
fn costs_saturate_and_never_turn_negative() {
    let dearest = price(AMOUNT_MAX, AMOUNT_MAX);
    assert_eq!(dearest.cost(ratio("1000000"), &tokens(1_000_000_000, 1_000_000_000)), AMOUNT_MAX);
    assert_eq!(dearest.cost(Ratio::ONE, &tokens(1_000_001, 0)), AMOUNT_MAX);
    assert_eq!(dearest.cost(Ratio::ONE, &tokens(1_000_000, 0)), AMOUNT_MAX);
    assert_eq!(dearest.cost(Ratio::ONE, &tokens(999_999, 0)), AMOUNT_MAX - 9_007_199_255);
    assert_eq!(dearest.cost(ratio("1000000"), &tokens(i64::MAX, i64::MAX)), AMOUNT_MAX);
    assert_eq!(dearest.estimate(ratio("1000000"), &tokens(i64::MAX, 0), Some(i64::MAX)).cost, AMOUNT_MAX);
    assert_eq!(dearest.estimate(Ratio::ONE, &tokens(i64::MAX, 0), Some(i64::MAX)).tokens, AMOUNT_MAX);
    assert_eq!(price(3_000_000, 0).cost(Ratio::ONE, &tokens(3_000_000_000, 0)), 9_000_000_000);
}

/// Each kind has a digit of its own in the sum.
#[test]
fn each_kind_has_its_price() {
    let digit = |place: u32| 10_i64.pow(place) * 1_000_000;
    let rates = Rates {
        input: digit(0),
        cache_read: digit(1),
        cache_write_5m: digit(2),
        cache_write_1h: digit(3),
        audio_in: digit(4),
        image_in: digit(5),
        output: digit(6),
        audio_out: digit(7),
        per_request: 100_000_000,
        ..Rates::default()
    };
    let usage =
        Usage { input: 1, cache_read: 2, cache_write_5m: 3, cache_write_1h: 4, audio_in: 5, ..Usage::default() };
    let usage = Usage { image_in: 6, output: 7, audio_out: 8, ..usage };
    let all = Price { rates, ..Price::default() };
    assert_eq!(all.cost(Ratio::ONE, &usage), 187_654_321);
    assert_eq!(all.cost(ratio("2"), &usage), 375_308_642);

    let rates = Rates {
        cache_read_audio: digit(0),
        cache_read_image: digit(1),
        reasoning: digit(2),
        image_out: digit(3),
        seconds_in: digit(4),
        seconds_out: digit(5),
        per_image_in: 1_000_000,
        per_image_out: 10_000_000,
        per_request: 100_000_000,
        ..Rates::default()
    };
    let usage = Usage { cache_read_audio: 1, cache_read_image: 2, reasoning: 3, image_out: 4, ..Usage::default() };
    let usage = Usage { millis_in: 5_000, millis_out: 6_000, images_in: 7, images_out: 8, requests: 9, ..usage };
    assert_eq!(Price { rates, ..Price::default() }.cost(Ratio::ONE, &usage), 987_654_321);
}

#[test]
fn seconds_are_priced_by_the_millisecond() {
    let rates = Rates { seconds_in: 10_000_000_000, ..Rates::default() };
    let whisper = Price { rates, ..Price::default() };
    let heard = |millis_in| whisper.cost(Ratio::ONE, &Usage { millis_in, ..Usage::default() });
    assert_eq!((heard(1_000), heard(1), heard(12_346), heard(0)), (10_000, 10, 123_460, 0));
    let estimate = whisper.estimate(Ratio::ONE, &Usage { millis_in: 60_000, ..Usage::default() }, None);
    assert_eq!((estimate.cost, estimate.prompt_cost), (600_000, 600_000));
}

/// A picture of 4 cents must not cost the one unit that is the least, because nobody counted it.
#[test]
fn an_image_that_nobody_counts_is_one() {
    let painter = Price { rates: Rates { per_image_out: 4_000_000, ..Rates::default() }, ..Price::default() };
    assert_eq!(painter.cost(Ratio::ONE, &tokens(20, 0)), 4_000_000);
    assert_eq!(painter.cost(Ratio::ONE, &Usage { requests: 1, ..Usage::default() }), 4_000_000);
    assert_eq!(painter.cost(Ratio::ONE, &Usage { images_out: 3, ..Usage::default() }), 12_000_000);
    assert_eq!(painter.cost(Ratio::ONE, &Usage::default()), 0);
    let estimate = painter.estimate(Ratio::ONE, &tokens(20, 0), None);
    assert_eq!((estimate.cost, estimate.prompt_cost), (4_000_000, 1));
    let by_token = Price { rates: Rates { output: 1_000_000, ..painter.rates }, ..Price::default() };
    assert_eq!(by_token.cost(Ratio::ONE, &tokens(20, 30)), 30, "its tokens are its price");
}

/// The estimate's prompt comes back from what it cost, in whatever tier it was.
#[test]
fn a_prompt_is_found_by_what_it_was_estimated_to_cost() {
    let tier = |above_tokens, input| Tier { above_tokens, rates: Rates { input, per_request: 7, ..Rates::default() } };
    let rates = Rates { input: 125_000_000, per_request: 7, ..Rates::default() };
    let tiered = Price { rates, tiers: vec![tier(200_000, 250_000_000)], ..Price::default() };
    for factor in ["1", "0.8", "3.25"] {
        for prompt in [500, 501, 199_999, 200_000, 200_001, 1_000_000] {
            let cost = tiered.estimate(ratio(factor), &tokens(prompt, 0), Some(0)).prompt_cost;
            assert_eq!(tiered.prompt_tokens_of(ratio(factor), cost), prompt, "{prompt} times {factor}");
        }
        assert_eq!(tiered.prompt_tokens_of(ratio(factor), 0), 0);
    }
    assert_eq!(tiered.prompt_tokens_of(ratio("0"), 5), 0);
    assert_eq!(price(0, 9).prompt_tokens_of(Ratio::ONE, 5), 0);
}

#[test]
fn a_price_per_call_is_due_once_a_call() {
    let rates = Rates { per_request: 500_000, ..Rates::default() };
    let call = Price { rates, ..Price::default() };
    assert_eq!(call.cost(Ratio::ONE, &tokens(1, 0)), 500_000);
    assert_eq!(call.cost(ratio("0.5"), &tokens(90_000, 90_000)), 250_000);
    assert_eq!(call.cost(Ratio::ONE, &Usage::default()), 0);
    let estimate = call.estimate(Ratio::ONE, &tokens(10, 0), None);
    assert_eq!((estimate.cost, estimate.prompt_cost, estimate.free), (500_000, 500_000, false));
}

#[test]
fn the_whole_prompt_selects_the_tier() {
    let tier =
        |above_tokens, input| Tier { above_tokens, rates: Rates { input, output: 2_000_000, ..Rates::default() } };
    let tiered = Price { tiers: vec![tier(1_000, 3_000_000), tier(2_000, 5_000_000)], ..price(1_000_000, 1_000_000) };
    assert_eq!(tiered.cost(Ratio::ONE, &tokens(1_000, 10)), 1_010);
    assert_eq!(tiered.cost(Ratio::ONE, &tokens(1_001, 10)), 3_003 + 20);
    assert_eq!(tiered.cost(Ratio::ONE, &tokens(2_000, 0)), 6_000);
    assert_eq!(tiered.cost(Ratio::ONE, &tokens(2_001, 0)), 10_005);
    assert_eq!(tiered.cost(Ratio::ONE, &tokens(10, 9_000)), 9_010, "output does not count for it");
    let cached = Usage { cache_read: 2_001, output: 1, ..Usage::default() };
    assert_eq!(tiered.cost(Ratio::ONE, &cached), 2, "cached tokens are part of the prompt's length");
    assert_eq!(tiered.estimate(Ratio::ONE, &tokens(2_001, 0), Some(1)).cost, 10_007);
}

/// Leaving the output out once held 4 to 8 times too little.
#[test]
fn an_estimate_holds_prompt_and_output() {
    let chat = price(250_000_000, 1_000_000_000);
    let estimate = chat.estimate(Ratio::ONE, &tokens(1_000, 0), Some(1_000));
    assert_eq!(estimate, Estimate { cost: 1_250_000, prompt_cost: 250_000, tokens: 2_000, output: 1_000, free: false });
    let defaults = chat.estimate(Ratio::ONE, &tokens(0, 0), None);
    assert_eq!(
        defaults,
        Estimate { cost: 125_000 + 8_192_000, prompt_cost: 125_000, tokens: 8_192, output: 8_192, free: false }
    );
    assert_eq!(chat.estimate(ratio("0.5"), &tokens(499, 0), Some(0)).cost, 62_500, "500 tokens at least");
    assert_eq!(chat.estimate(ratio("0.5"), &tokens(501, 0), Some(0)).cost, 62_625);

    let short = Price { max_output: Some(4_096), ..chat.clone() };
    assert_eq!(short.estimate(Ratio::ONE, &tokens(500, 0), None).tokens, 500 + 4_096);
    assert_eq!(short.estimate(Ratio::ONE, &tokens(500, 0), Some(100_000)).tokens, 500 + 4_096);
    assert_eq!(short.estimate(Ratio::ONE, &tokens(500, 0), Some(7)).tokens, 507);
    let embedding = Price { max_output: Some(0), ..price(2_000_000, 0) };
    assert_eq!(embedding.estimate(Ratio::ONE, &tokens(800, 0), None).tokens, 800);
}

#[test]
fn free_models_and_groups_are_told() {
    assert_eq!(
        price(0, 0).estimate(Ratio::ONE, &tokens(10, 0), Some(5)),
        Estimate { cost: 0, prompt_cost: 0, tokens: 15, output: 5, free: true }
    );
    assert!(price(1, 0).estimate(ratio("0"), &tokens(10, 0), None).free);
    assert!(!price(0, 1).estimate(Ratio::ONE, &tokens(10, 0), None).free);
}

proptest::proptest! {
    /// What was estimated covers what the call then uses, as far as it keeps to what was said.
    #[test]
    fn an_estimate_covers_the_call(
        input in 0..5_000_000_000_i64, output in 0..5_000_000_000_i64, prompt in 0..300_000_i64,
        asked in 0..300_000_i64, part in 0..300_000_i64, factor in 0..3_000_u32,
    ) {
        let factor = ratio(&format!("{}.{:03}", factor / 1000, factor % 1000));
        let price = price(input, output);
        let estimate = price.estimate(factor, &tokens(prompt, 0), Some(asked));
        assert!(price.cost(factor, &tokens(prompt, part.min(asked))) <= estimate.cost);
        assert!(estimate.prompt_cost <= estimate.cost);
    }
}
