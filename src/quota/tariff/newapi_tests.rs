//! Ratio settings in the forms that new-api stores and shows them, and what they come to.

use super::*;
use crate::quota::{
    tariff::{Draft, Groups, Tariff},
    usage::Usage,
};

const USD: i64 = 100_000_000;

fn known() -> TariffDoc {
    serde_json::from_str(
        r#"{"format":1,"units_per_usd":100000000,"models":{
            "gpt-4o":{"input":250000000,"output":1000000000,"max_output":16384,"provider":"openai"},
            "free":{"input":0,"output":5}},"group_ratio":{"old":"3"}}"#,
    )
    .unwrap()
}

fn read(json: &str) -> Result<Draft, String> {
    Draft::read(json.as_bytes(), &known(), false)
}

#[test]
fn every_ratio_has_its_price() {
    let draft = read(
        r#"{"ModelRatio":{"claude":1.5,"voice":0.3,"free":0,"gpt-4o":1.25,"odd":1e-1,"priced":9,"gpt-4-gizmo-*":15},
            "CompletionRatio":{"claude":5,"voice":4},"CacheRatio":{"claude":0.1},"CreateCacheRatio":{"claude":1.2},
            "ModelPrice":{"priced":0.04,"mj":0.1},"ImageRatio":{"claude":2},"AudioRatio":{"voice":16.5},
            "AudioCompletionRatio":{"voice":2},"Notice":"hello","QuotaPerUnit":500000}"#,
    )
    .unwrap();
    let price = |name: &str| draft.doc.models[name].clone();
    let claude = price("claude");
    assert_eq!((claude.input, claude.output), (Some(3 * USD), Some(15 * USD)));
    assert_eq!((claude.cache_read, claude.image_in), (Some(USD * 3 / 10), Some(6 * USD)));
    assert_eq!((claude.cache_write_5m, claude.cache_write_1h), (Some(USD * 36 / 10), Some(USD * 576 / 100)));
    let voice = price("voice");
    assert_eq!((voice.input, voice.output), (Some(USD * 6 / 10), Some(USD * 24 / 10)));
    assert_eq!((voice.audio_in, voice.audio_out), (Some(USD * 99 / 10), Some(USD * 198 / 10)));
    assert_eq!((voice.cache_read, voice.cache_write_5m), (None, Some(USD * 3 / 4)), "read as input, written dearer");
    // The settings do not say what its output costs: the list in force does, and what else it knows stays.
    let gpt = price("gpt-4o");
    assert_eq!((gpt.input, gpt.output, gpt.max_output), (Some(5 * USD / 2), Some(10 * USD), Some(16_384)));
    assert_eq!(price("odd").output, price("odd").input);
    assert_eq!(price("priced"), PriceDoc { per_request: Some(4_000_000), ..PriceDoc::default() });
    assert_eq!(price("mj").per_request, Some(10_000_000));
    assert!(!price("free").has_price());
    let notes = draft.notes.join("\n");
    assert!(
        notes.contains("`gpt-4-gizmo-*` is a pattern") && notes.contains("`odd` has no completion ratio"),
        "{notes}"
    );
    assert!(!notes.contains("`gpt-4o`"), "{notes}");
    assert_eq!(draft.doc.group_ratio, known().group_ratio, "no group is named: they stay");
}

/// One quota of new-api is 1/500 000 USD, 200 units: what that program charges is what we charge.
#[test]
fn a_call_costs_what_new_api_charges() {
    let draft = read(
        r#"{"ModelRatio":{"m":1.25},"CompletionRatio":{"m":4},"CacheRatio":{"m":0.5},
            "GroupRatio":{"default":1,"vip":0.8},"GroupGroupRatio":{"gold":{"vip":0.5}}}"#,
    )
    .unwrap();
    let tariff = Tariff::from_doc(1, &draft.doc).unwrap();
    let usage = Usage { input: 1_000, cache_read: 200, output: 300, ..Usage::default() };
    // (1000 + 200 * 0.5 + 300 * 4) * 1.25 = 2875 quota.
    assert_eq!(tariff.cost("m", Groups::own("default"), &usage), Some(2_875 * 200));
    assert_eq!(tariff.cost("m", Groups::own("vip"), &usage), Some(2_875 * 160));
    assert_eq!(tariff.cost("m", Groups { user: "gold", using: "vip" }, &usage), Some(2_875 * 100));
}

#[test]
fn the_settings_come_in_several_forms() {
    let plain = read(r#"{"ModelRatio":{"m":1},"CompletionRatio":{"m":2}}"#).unwrap().doc;
    for same in [
        r#"{"ModelRatio":"{\"m\":1}","CompletionRatio":"{\"m\":2}"}"#,
        r#"{"success":true,"data":{"model_ratio":{"m":1},"completion_ratio":{"m":2},"model_price":{}}}"#,
        r#"{"success":true,"message":"","data":[{"key":"ModelRatio","value":"{\"m\":1}"},
            {"key":"CompletionRatio","value":"{\"m\":2}"},{"key":"SystemName","value":"x"}]}"#,
        r#"[{"key":"ModelRatio","value":"{\"m\":1}"},{"key":"CompletionRatio","value":"{\"m\":2}"}]"#,
    ] {
        assert_eq!(read(same).unwrap().doc, plain, "{same}");
    }
    let groups = read(r#"{"GroupRatio":{"vip":0.75}}"#).unwrap();
    assert_eq!((&groups.doc.models, groups.diff.ratios.len()), (&known().models, 2), "models stay");
}

#[test]
fn what_cannot_stand_is_named() {
    for (text, part) in [
        (r#"{"ModelRatio":{"m":-1}}"#, "ModelRatio: `m` is -1"),
        (r#"{"ModelRatio":{"m":"1"}}"#, "ModelRatio: `m`"),
        (r#"{"ModelRatio":"{\"m\":}"}"#, "ModelRatio is no object"),
        (r#"{"GroupRatio":{"vip":0.0000000001}}"#, "GroupRatio: `vip`"),
        (r#"{"GroupGroupRatio":{"gold":0.5}}"#, "GroupGroupRatio is no object"),
        (r#"{"CacheRatio":{"m":1}}"#, "nothing to import"),
    ] {
        let why = read(text).unwrap_err();
        assert!(why.contains(part), "{text}: {why}");
    }
    let dear = read(r#"{"ModelRatio":{"m":1e9,"n":1}}"#).unwrap();
    assert!(dear.notes.iter().any(|note| note.contains("`m` comes to too large a price")), "{:?}", dear.notes);
    assert_eq!(dear.doc.models.len(), 1);
}

/// The page that users of new-api see was once taken for a list of groups: its models were passed over, and groups that
/// it does not name were gone.
#[test]
fn a_price_page_is_read_row_by_row() {
    let draft = read(
        r#"{"success":true,"auto_groups":["default"],"group_ratio":{"default":1,"默认":0.9,"a/b":2},
            "usable_group":{"default":"Default"},"supported_endpoint":{"openai":{"path":"/v1/chat/completions"}},
            "vendors":[{"id":1,"name":"OpenAI"}],"data":[
            {"model_name":"gpt-4o","vendor_id":1,"quota_type":0,"model_ratio":1.25,"model_price":0,"owner_by":"",
             "completion_ratio":4,"cache_ratio":0.5,"enable_groups":["default"],"supported_endpoint_types":["openai"]},
            {"model_name":"claude","quota_type":0,"model_ratio":1.5,"completion_ratio":5,"create_cache_ratio":1.25,
             "cache_ratio":null,"image_ratio":2,"billing_mode":""},
            {"model_name":"mj","quota_type":1,"model_ratio":0,"model_price":0.1,"completion_ratio":0},
            {"model_name":"odd","quota_type":2,"model_ratio":1},
            {"model_name":"tiered","quota_type":0,"model_ratio":1,"billing_mode":"tiered_expr","billing_expr":"p*2"}]}"#,
    )
    .unwrap();
    assert_eq!(draft.doc.models.keys().collect::<Vec<_>>(), ["claude", "gpt-4o", "mj"]);
    let price = |name: &str| draft.doc.models[name].clone();
    let gpt = price("gpt-4o");
    assert_eq!((gpt.input, gpt.output, gpt.cache_read), (Some(5 * USD / 2), Some(10 * USD), Some(USD * 5 / 4)));
    let claude = price("claude");
    assert_eq!((claude.output, claude.cache_read, claude.image_in), (Some(15 * USD), None, Some(6 * USD)));
    assert_eq!(price("mj"), PriceDoc { per_request: Some(10_000_000), ..PriceDoc::default() });
    let ratios: Vec<_> =
        draft.doc.group_ratio.iter().map(|(group, ratio)| (group.as_str(), ratio.to_string())).collect();
    let ratio = |text: &str| text.to_owned();
    assert_eq!(ratios, [("default", ratio("1")), ("old", ratio("3")), ("默认", ratio("0.9"))]);
    let notes = draft.notes.join("\n");
    for part in ["`odd` is billed", "`tiered` is billed", "`a/b` can be no price group", "all others stay"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    // Not a page: rows of something else.
    assert!(read(r#"{"data":[{"id":"gpt-4o","object":"model"}],"object":"list"}"#).is_err());
    let none = read(r#"{"data":[{"model_name":"odd","quota_type":7}],"group_ratio":{"vip":1}}"#).unwrap_err();
    assert!(none.contains("not one of its rows"), "{none}");
}
