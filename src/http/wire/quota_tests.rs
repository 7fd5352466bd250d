//! How quotas and defaults are read from dollars and written as such.

use super::*;
use crate::http::wire::read;

const SCALE: fn() -> Scale = || Scale::new(100_000_000);

fn put(text: &str) -> Result<Vec<PlatformQuota>, Bad> {
    read::body::<PlatformQuotasPut>(text.as_bytes())?.units(SCALE())
}

#[test]
fn quotas_are_read_in_dollars() {
    let text = r#"{"quotas":[{"platform":"openai","daily_limit_usd":10.5,"weekly_limit_usd":null,
        "monthly_limit_usd":0},{"platform":"gemini","daily_limit_usd":"1e-8"}]}"#;
    let quotas = put(text).unwrap();
    let caps = [quotas[0].caps, quotas[1].caps].map(|caps| [caps.daily, caps.weekly, caps.monthly]);
    assert_eq!(caps, [[Some(1_050_000_000), None, Some(0)], [Some(1), None, None]]);
    let rule =
        |field: &str, value: &str| format!(r#"{{"quotas":[{{"platform":"x"}},{{"platform":"y","{field}":{value}}}]}}"#);
    for (field, value) in [
        ("daily_limit_usd", "-1"),
        ("weekly_limit_usd", "\"NaN\""),
        ("monthly_limit_usd", "0.000000001"),
        ("monthly_limit_usd", "1e300"),
        ("daily_limit_usd", "true"),
        ("daily_limit_usd", "[]"),
        ("daily_limit_usd", "\"\""),
    ] {
        assert_eq!(put(&rule(field, value)).unwrap_err().path, format!("quotas[1].{field}"), "{value}");
    }
    assert_eq!(put(&rule("platform", "\"x\"")).unwrap_err().path, "quotas[1].platform");
    assert_eq!(put(&rule("hourly_limit_usd", "1")).unwrap_err().path, "quotas[1].hourly_limit_usd");
    let twice = put(r#"{"quotas":[{"platform":"x"},{"platform":"x"}]}"#).unwrap_err();
    assert_eq!(twice.path, "quotas[1].platform");
    assert!(put("{}").is_err() && put(r#"{"quotas":null}"#).is_err());
    // No JSON at all: there is no field to name.
    assert!(put(r#"{"quotas":[{"platform":"x","daily_limit_usd":NaN}]}"#).unwrap_err().path.is_empty());
}

#[test]
fn defaults_are_one_nested_value() {
    let all = |text: &str| read::body::<AllDefaults>(text.as_bytes()).and_then(|all| all.units(SCALE()));
    let layers = all(r#"{"system":{"openai":{"daily":10,"weekly":null,"monthly":0}},"github":{}}"#).unwrap();
    assert_eq!(layers.len(), 8);
    let shown = serde_json::to_string(&LayerShown::of(&layers[&Layer::System], SCALE())).unwrap();
    assert_eq!(shown, r#"{"openai":{"daily":10,"weekly":null,"monthly":0}}"#);
    for (text, path) in [
        (r#"{"facebook":{}}"#, "facebook"),
        (r#"{"github":{"openai":{"daily":-1}}}"#, "github.openai.daily"),
        (r#"{"github":{"openai":{"day":1}}}"#, "github.openai.day"),
        (r#"{"github":{"openai":null}}"#, "github.openai"),
        (r#"{"github":{"openai":{}, "openai":{}}}"#, "github.openai"),
        (r#"{"github":{"":{}}}"#, "github.platform"),
        (r#"{"github":[]}"#, "github"),
        (r#"[]"#, ""),
    ] {
        assert_eq!(all(text).unwrap_err().path, path, "{text}");
    }
}

#[test]
fn dollars_are_written_digit_for_digit() {
    let text = serde_json::to_string(&Usd(SCALE().usd(9_007_199_254_740_991))).unwrap();
    assert_eq!(text, "90071992.54740991");
}
