//! Usage objects as the upstreams' documents show them, and what cannot be one.

use super::*;

fn check(usage: Usage, text: &str) {
    for text in [text.to_owned(), format!(r#"{{"usage":{text}}}"#), format!(r#"{{"usageMetadata":{text}}}"#)] {
        assert_eq!(Usage::from_json(&text), Ok(usage), "{text}");
    }
}

#[test]
fn openai_chat() {
    check(
        Usage { input: 19, output: 10, ..Usage::default() },
        r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,
            "prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,
              "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
    );
    check(
        Usage {
            input: 82,
            cache_read: 1920,
            audio_in: 4,
            output: 136,
            reasoning: 64,
            audio_out: 100,
            ..Usage::default()
        },
        r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,
            "prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":4},
            "completion_tokens_details":{"reasoning_tokens":64,"audio_tokens":100}}"#,
    );
    check(Usage { input: 8, ..Usage::default() }, r#"{"prompt_tokens":8,"total_tokens":8}"#);
    check(
        Usage { input: 5, output: 7, ..Usage::default() },
        r#"{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":null,"completion_tokens_details":null}"#,
    );
    check(
        Usage { output: 7, ..Usage::default() },
        r#"{"prompt_tokens":null,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":null}}"#,
    );
    check(
        Usage { input: 15, image_in: 258, output: 1, ..Usage::default() },
        r#"{"prompt_tokens":273,"completion_tokens":1,"prompt_tokens_details":{"image_tokens":258,"text_tokens":15}}"#,
    );
}

#[test]
fn openai_responses_transcription_and_realtime() {
    check(
        Usage { input: 36, output: 87, ..Usage::default() },
        r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,
            "output_tokens_details":{"reasoning_tokens":0},"total_tokens":123}"#,
    );
    check(
        Usage { input: 104, cache_read: 1024, output: 32, ..Usage::default() },
        r#"{"input_tokens":1128,"input_tokens_details":{"cached_tokens":1024},"output_tokens":32,"total_tokens":1160}"#,
    );
    // Details say that the cached tokens are within, whatever else a gateway adds.
    check(
        Usage { input: 6, cache_read: 4, output: 1, ..Usage::default() },
        r#"{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"cache_read_input_tokens":4,"output_tokens":1}"#,
    );
    check(
        Usage { audio_in: 14, output: 45, ..Usage::default() },
        r#"{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},
            "output_tokens":45,"total_tokens":59}"#,
    );
    check(
        Usage {
            input: 55,
            cache_read: 256,
            cache_read_audio: 128,
            audio_in: 77,
            output: 30,
            audio_out: 91,
            ..Usage::default()
        },
        r#"{"total_tokens":637,"input_tokens":516,"output_tokens":121,
            "input_token_details":{"cached_tokens":384,"text_tokens":311,"audio_tokens":205,
              "cached_tokens_details":{"text_tokens":256,"audio_tokens":128}},
            "output_token_details":{"text_tokens":30,"audio_tokens":91}}"#,
    );
}

#[test]
fn anthropic_messages() {
    check(
        Usage { input: 2095, output: 503, ..Usage::default() },
        r#"{"input_tokens":2095,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":503,
            "server_tool_use":{"web_search_requests":0},"service_tier":"standard"}"#,
    );
    check(
        Usage {
            input: 12,
            cache_read: 100_000,
            cache_write_5m: 248,
            cache_write_1h: 100,
            output: 503,
            ..Usage::default()
        },
        r#"{"input_tokens":12,"cache_creation_input_tokens":348,"cache_read_input_tokens":100000,"output_tokens":503,
            "cache_creation":{"ephemeral_5m_input_tokens":248,"ephemeral_1h_input_tokens":100}}"#,
    );
    check(
        Usage { input: 3, cache_write_5m: 50, output: 1, ..Usage::default() },
        r#"{"input_tokens":3,"cache_creation_input_tokens":50,"cache_read_input_tokens":null,"output_tokens":1}"#,
    );
    check(
        Usage { input: 3, cache_write_1h: 9, output: 1, ..Usage::default() },
        r#"{"input_tokens":3,"cache_creation":{"ephemeral_1h_input_tokens":9},"output_tokens":1}"#,
    );
    check(
        Usage { input: 3, cache_read: 70, ..Usage::default() },
        r#"{"input_tokens":3,"cache_read_input_tokens":70,"total_tokens":73,"input_tokens_details":null}"#,
    );
    // With neither's own fields both readings agree.
    check(Usage { input: 3, output: 4, ..Usage::default() }, r#"{"input_tokens":3,"output_tokens":4}"#);
}

#[test]
fn gemini_generate_content() {
    check(
        Usage { input: 264, output: 59, ..Usage::default() },
        r#"{"promptTokenCount":264,"candidatesTokenCount":59,"totalTokenCount":323,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":264}]}"#,
    );
    check(
        Usage {
            input: 172,
            cache_read: 1750,
            cache_read_audio: 250,
            audio_in: 320,
            image_in: 258,
            output: 90,
            reasoning: 1000,
            ..Usage::default()
        },
        r#"{"promptTokenCount":2728,"cachedContentTokenCount":2000,"candidatesTokenCount":90,"thoughtsTokenCount":1000,
            "toolUsePromptTokenCount":22,"totalTokenCount":3840,"trafficType":"ON_DEMAND",
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":1900},{"modality":"AUDIO","tokenCount":570},
              {"modality":"IMAGE","tokenCount":258}],
            "cacheTokensDetails":[{"modality":"TEXT","tokenCount":1750},{"modality":"AUDIO","tokenCount":250}]}"#,
    );
    check(
        Usage { input: 7, audio_out: 40, ..Usage::default() },
        r#"{"promptTokenCount":7,"candidatesTokenCount":40,
            "candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":40}]}"#,
    );
    check(Usage { input: 7, ..Usage::default() }, r#"{"promptTokenCount":7,"totalTokenCount":7}"#);
}

/// Some upstreams count reasoning within the completion, some beside it.
#[test]
fn reasoning_is_counted_once_whichever_way_it_is_reported() {
    let within = r#"{"prompt_tokens":32,"completion_tokens":333,"total_tokens":365,
        "completion_tokens_details":{"reasoning_tokens":324}}"#;
    let beside = r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":365,
        "completion_tokens_details":{"reasoning_tokens":324}}"#;
    let no_total = r#"{"prompt_tokens":32,"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":324}}"#;
    for text in [within, beside, no_total] {
        check(Usage { input: 32, output: 9, reasoning: 324, ..Usage::default() }, text);
    }
}

#[test]
fn images_that_are_put_out_are_told_from_text() {
    check(
        Usage { input: 10, image_in: 40, output: 20, image_out: 1036, ..Usage::default() },
        r#"{"input_tokens":50,"input_tokens_details":{"image_tokens":40,"text_tokens":10},"output_tokens":1056,
            "output_tokens_details":{"image_tokens":1036,"text_tokens":20},"total_tokens":1106}"#,
    );
    check(
        Usage { input: 7, image_out: 1290, reasoning: 5, ..Usage::default() },
        r#"{"promptTokenCount":7,"candidatesTokenCount":1290,"thoughtsTokenCount":5,
            "candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":1290}]}"#,
    );
}

#[test]
fn caches_as_other_upstreams_report_them() {
    let read = Usage { input: 20, cache_read: 80, output: 1, ..Usage::default() };
    check(
        read,
        r#"{"prompt_tokens":100,"completion_tokens":1,"prompt_cache_hit_tokens":80,"prompt_cache_miss_tokens":20}"#,
    );
    check(read, r#"{"prompt_tokens":100,"completion_tokens":1,"cached_tokens":80}"#);
    check(
        Usage { input: 5, cache_read: 80, cache_write_5m: 15, output: 1, ..Usage::default() },
        r#"{"prompt_tokens":100,"completion_tokens":1,
            "prompt_tokens_details":{"cached_tokens":80,"cache_creation_tokens":15}}"#,
    );
}

#[test]
fn seconds_images_and_calls() {
    let plain = Usage::default();
    check(Usage { millis_in: 12_346, ..plain }, r#"{"type":"duration","seconds":12.3456}"#);
    check(Usage { millis_in: 3_000, millis_out: 500, ..plain }, r#"{"input_seconds":3,"output_seconds":0.5}"#);
    check(Usage { images_in: 1, images_out: 2, ..plain }, r#"{"input_images":1,"output_images":2}"#);
    check(Usage { requests: 1, ..plain }, r#"{"requests":1}"#);
    check(
        Usage { input: 3, output: 4, images_out: 1, ..plain },
        r#"{"input_tokens":3,"output_tokens":4,"output_images":1}"#,
    );
    for bad in [
        r#"{"type":"duration","seconds":-1}"#,
        r#"{"input_seconds":"1"}"#,
        r#"{"output_seconds":-1e7}"#,
        r#"{"output_images":1.5}"#,
    ] {
        assert!(Usage::from_json(bad).is_err(), "{bad}");
    }
    for nothing in
        [r#"{"type":"duration","seconds":0}"#, r#"{"input_seconds":0.0004}"#, r#"{"output_images":0,"requests":0}"#]
    {
        assert!(Usage::from_json(nothing).unwrap_err().0.contains("no positive number"), "{nothing}");
    }
}

#[test]
fn of_two_shapes_the_one_with_tokens_is_read() {
    check(
        Usage { input: 3, output: 4, ..Usage::default() },
        r#"{"prompt_tokens":0,"completion_tokens":0,"input_tokens":3,"output_tokens":4}"#,
    );
    check(
        Usage { input: 3, output: 4, ..Usage::default() },
        r#"{"prompt_tokens":3,"completion_tokens":4,"input_tokens":0,"output_tokens":0}"#,
    );
}

/// Cached audio counts as both where upstream does not say how much of it there is.
#[test]
fn parts_that_overlap_never_take_more_than_the_whole() {
    let usage = Usage::from_json(
        r#"{"prompt_tokens":100,"prompt_tokens_details":{"cached_tokens":80,"audio_tokens":60,"image_tokens":10}}"#,
    )
    .unwrap();
    assert_eq!(usage, Usage { cache_read: 80, audio_in: 20, ..Usage::default() });
    assert_eq!(usage.prompt_tokens(), 100);
}

/// Absurd counts once made a balance of -5·10^11; a usage without tokens is none.
#[test]
fn what_cannot_be_is_refused() {
    for (text, part) in [
        ("", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "no known upstream"),
        (r#"{"total_tokens":12}"#, "no known upstream"),
        (r#"{"type":"time","seconds":4}"#, "no known upstream"),
        (r#"{"usage":7}"#, "usage is not an object"),
        (r#"{"prompt_tokens":0,"completion_tokens":0}"#, "no positive number"),
        (r#"{"prompt_tokens":null,"completion_tokens":null}"#, "no known upstream"),
        (r#"{"promptTokenCount":0}"#, "no positive number"),
        (r#"{"prompt_tokens":-1,"completion_tokens":5}"#, "prompt_tokens is -1"),
        (r#"{"prompt_tokens":1.5}"#, "prompt_tokens is 1.5"),
        (r#"{"prompt_tokens":"12"}"#, "prompt_tokens is \"12\""),
        (r#"{"prompt_tokens":true}"#, "prompt_tokens is true"),
        (r#"{"prompt_tokens":-1e300}"#, "prompt_tokens is -1e"),
        (r#"{"prompt_tokens":1e-300}"#, "prompt_tokens is 1e-"),
        (r#"{"prompt_tokens":1000000000000.5}"#, "prompt_tokens is 1000000000000.5"),
        (r#"{"prompt_tokens":NaN}"#, "not valid JSON"),
        (r#"{"output_seconds":-0.5}"#, "output_seconds is -0.5"),
        (r#"{"output_seconds":"4"}"#, "output_seconds is \"4\""),
        (r#"{"prompt_tokens":9,"prompt_tokens_details":[]}"#, "prompt_tokens_details is not an object"),
        (r#"{"prompt_tokens":9,"prompt_tokens_details":{"audio_tokens":10}}"#, "10 audio tokens in a prompt of 9"),
        (r#"{"completion_tokens":9,"completion_tokens_details":{"audio_tokens":10}}"#, "in an output of 9"),
        (r#"{"input_tokens":9,"output_tokens":-4,"cache_read_input_tokens":1}"#, "output_tokens is -4"),
        (r#"{"promptTokenCount":9,"promptTokensDetails":{}}"#, "promptTokensDetails is not a list"),
        (r#"{"promptTokenCount":9,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":-1}]}"#, "tokenCount is -1"),
    ] {
        let why = Usage::from_json(text).unwrap_err().0;
        assert!(why.contains(part), "{text}: {why}");
        assert!(why.starts_with("The usage") && why.ends_with('.'), "{why}");
    }
    check(Usage { input: TOKENS_MAX, ..Usage::default() }, r#"{"prompt_tokens":1000000000}"#);
}

/// The work was done: a number that is larger than can be is no reason to charge nothing.
#[test]
fn a_number_that_is_larger_than_can_be_counts_as_the_largest() {
    for number in ["1000000001", "18446744073709551615", "1e12", "1e300", "99999999999999999999999999999999999999"] {
        let usage = Usage { input: TOKENS_MAX, output: 7, beyond: true, ..Usage::default() };
        check(usage, &format!(r#"{{"prompt_tokens":{number},"completion_tokens":7}}"#));
    }
    check(
        Usage { millis_out: 1_000_000_000, beyond: true, ..Usage::default() },
        r#"{"output_seconds":1000000.5,"prompt_tokens":0}"#,
    );
    // Within a list, and spelled with a point.
    check(
        Usage { input: 0, image_in: 0, audio_in: 9, beyond: false, ..Usage::default() },
        r#"{"promptTokenCount":9.0,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":9e0}]}"#,
    );
    check(Usage { input: 12, output: 1_000, ..Usage::default() }, r#"{"prompt_tokens":12.0,"completion_tokens":1e3}"#);
    // A field that is not ours may be as large as it likes.
    check(Usage { input: 1, ..Usage::default() }, r#"{"prompt_tokens":1,"created":1795132800000,"cost":-1}"#);
}

/// What is written to Anthropic's cache has prices of its own, wherever a gateway reports it.
#[test]
fn cache_writes_are_read_as_gateways_report_them() {
    let written = |for_5m, for_1h| Usage {
        input: 100 - 30 - for_5m - for_1h,
        cache_read: 30,
        cache_write_5m: for_5m,
        cache_write_1h: for_1h,
        output: 5,
        ..Usage::default()
    };
    for (details, beside, usage) in [
        (r#","cached_creation_tokens":20"#, "", written(20, 0)),
        (r#","cache_creation_input_tokens":20"#, "", written(20, 0)),
        (r#","cache_creation_tokens":20"#, r#","cache_creation_input_tokens":20"#, written(20, 0)),
        (r#","cache_write_tokens":20"#, "", written(20, 0)),
        (
            r#","cached_creation_tokens":20"#,
            r#","claude_cache_creation_5_m_tokens":12,"claude_cache_creation_1_h_tokens":8"#,
            written(12, 8),
        ),
        (r#","cached_creation_tokens":20"#, r#","claude_cache_creation_1_h_tokens":8"#, written(12, 8)),
        ("", r#","claude_cache_creation_1_h_tokens":8"#, written(0, 8)),
        ("", r#","cache_creation":{"ephemeral_5m_input_tokens":12,"ephemeral_1h_input_tokens":8}"#, written(12, 8)),
        (
            r#","cache_creation_tokens":20,"cache_creation_token_details":{"ephemeral_1h_input_tokens":8}"#,
            r#","cache_creation_input_tokens":20,"cache_read_input_tokens":30"#,
            written(12, 8),
        ),
    ] {
        check(
            usage,
            &format!(
                r#"{{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,
                    "prompt_tokens_details":{{"cached_tokens":30{details}}}{beside}}}"#
            ),
        );
    }
    // Anthropic's own shape; the larger number holds.
    check(
        Usage { input: 9, cache_write_1h: 6, ..Usage::default() },
        r#"{"input_tokens":9,"cache_creation_input_tokens":5,"cache_creation":{"ephemeral_1h_input_tokens":6}}"#,
    );
}

/// A relay that passes Anthropic's count on as `prompt_tokens`: it does not include what was cached.
#[test]
fn more_cached_tokens_than_the_prompt_has_are_beside_it() {
    check(
        Usage { input: 12, cache_read: 100_000, cache_write_5m: 40, output: 7, ..Usage::default() },
        r#"{"prompt_tokens":12,"completion_tokens":7,"total_tokens":19,
            "prompt_tokens_details":{"cached_tokens":100000,"cached_creation_tokens":40}}"#,
    );
    // A prompt longer than what was cached, where the gateway says how it counts, or the total does.
    for tell in [r#""usage_semantic":"anthropic""#, r#""total_tokens":23057"#] {
        check(
            Usage { input: 12_000, cache_read: 11_000, cache_write_5m: 50, output: 7, ..Usage::default() },
            &format!(
                r#"{{"prompt_tokens":12000,"completion_tokens":7,{tell},
                    "prompt_tokens_details":{{"cached_tokens":11000,"cached_creation_tokens":50}}}}"#
            ),
        );
    }
    // Either of them fits, both do not: reading and writing are different tokens.
    check(
        Usage { input: 100, cache_read: 60, cache_write_1h: 50, output: 7, ..Usage::default() },
        r#"{"prompt_tokens":100,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":60},
            "claude_cache_creation_1_h_tokens":50}"#,
    );
    check(
        Usage { input: 9, cache_read: 10, ..Usage::default() },
        r#"{"promptTokenCount":9,"cachedContentTokenCount":10}"#,
    );
    check(
        Usage { cache_read: 10, ..Usage::default() },
        r#"{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":10}}"#,
    );
}

proptest::proptest! {
    /// The kinds never overlap and never lose a token.
    #[test]
    fn kinds_add_up(prompt in 0..5000_i64, cached in 0..5000_i64, audio in 0..5000_i64, output in 1..5000_i64) {
        let text = format!(
            r#"{{"prompt_tokens":{prompt},"completion_tokens":{output},
                "prompt_tokens_details":{{"cached_tokens":{cached},"audio_tokens":{audio}}}}}"#
        );
        match Usage::from_json(&text) {
            Ok(usage) => {
                // More cached tokens than the prompt has are beside it.
                let prompt = if cached > prompt { prompt + cached } else { prompt };
                assert_eq!((usage.prompt_tokens(), usage.completion_tokens()), (prompt, output));
                assert!(usage.input >= 0 && usage.audio_in >= 0 && usage.cache_read == cached);
            }
            Err(_) => assert!(audio > prompt),
        }
    }
}
