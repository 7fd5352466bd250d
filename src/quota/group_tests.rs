use super::*;

fn tables(usable: &str, auto: &str, models: &str) -> GroupTables {
    GroupTables {
        usable: GroupTables::read_usable(serde_json::from_str(usable).unwrap()).unwrap(),
        auto: GroupTables::read_auto(serde_json::from_str(auto).unwrap()).unwrap(),
        models: GroupTables::read_models(serde_json::from_str(models).unwrap()).unwrap(),
    }
}

fn lanes() -> GroupTables {
    tables(
        r#"{"default": {"cheap": "Slow and cheap", "fast": ""}, "*": {"cheap": "For everybody"}}"#,
        r#"["cheap", "fast", "gold"]"#,
        r#"{"cheap": ["gpt-4o-mini", "llama-*"], "gold": []}"#,
    )
}

fn model(name: &str) -> Model {
    Model::new(name).unwrap()
}

#[test]
fn a_call_is_made_in_the_group_it_names_else_its_keys_else_the_accounts() {
    let lanes = lanes();
    let gpt = model("gpt-4o");
    let choose = |own, of_key, named| {
        let member = Member { own, of_key };
        lanes.choose(member, named, Some(&gpt)).map_err(|refusal| refusal.code)
    };
    let no = Err(Code::GroupNotAllowed);
    for (own, of_key, named, chosen) in [
        ("default", None, None, Ok("default")),
        ("default", None, Some("fast"), Ok("fast")),
        ("default", Some("fast"), None, Ok("fast")),
        ("default", Some("fast"), Some("fast"), Ok("fast")),
        ("default", Some("fast"), Some("default"), no),
        ("default", None, Some("gold"), no),
        ("default", Some("gold"), None, no),
        // A row of its own is all that a group has; the common row is for the others.
        ("vip", None, Some("fast"), no),
        ("vip", None, None, Ok("vip")),
        // gpt-4o is not served by `cheap`, so the next one of the order comes.
        ("default", Some("auto"), None, Ok("fast")),
        ("default", None, Some("auto"), Ok("fast")),
        ("default", Some("auto"), Some("fast"), Ok("fast")),
        ("default", Some("auto"), Some("default"), no),
        ("vip", Some("auto"), None, no),
        ("default", None, Some("cheap"), no),
    ] {
        assert_eq!(choose(own, of_key, named), chosen, "{own} {of_key:?} {named:?}");
    }
}

#[test]
fn a_group_serves_the_models_of_its_row() {
    let lanes = lanes();
    let member = Member { own: "default", of_key: Some("auto") };
    for (name, chosen) in
        [("gpt-4o-mini", "cheap"), ("gpt-4o-mini-2", "fast"), ("llama-", "cheap"), ("llama-3", "cheap")]
    {
        assert_eq!(lanes.choose(member, None, Some(&model(name))).unwrap(), chosen, "{name}");
    }
    assert_eq!(lanes.choose(member, None, None).unwrap(), "fast", "who serves certain models serves no unnamed one");
    let none = tables("{}", r#"["default"]"#, r#"{"default": []}"#);
    let refusal = none.choose(member, None, Some(&model("m"))).unwrap_err();
    assert!(refusal.detail.contains("the model m"), "{}", refusal.detail);
    let refusal = none.choose(Member { own: "default", of_key: None }, None, Some(&model("m"))).unwrap_err();
    assert!(refusal.detail.contains("does not serve"), "{}", refusal.detail);
}

#[test]
fn without_a_table_a_keys_group_stands_as_its_operator_wrote_it() {
    let bare = GroupTables::default();
    let bound = Member { own: "default", of_key: Some("vip") };
    assert_eq!(bare.choose(bound, None, None).unwrap(), "vip");
    assert!(bare.choose(bound, Some("default"), None).is_err(), "it is bound to it");
    assert!(bare.choose(Member { own: "default", of_key: None }, Some("vip"), None).is_err());
    let auto = Member { own: "default", of_key: Some("auto") };
    assert_eq!(bare.choose(auto, None, None).unwrap(), "default");
    assert!(bare.choose(Member { own: "gold", ..auto }, None, None).is_err());
}

#[test]
fn a_retry_goes_on_in_any_usable_group_that_serves_the_model() {
    let (lanes, gpt) = (lanes(), model("gpt-4o"));
    let member = Member { own: "default", of_key: Some("fast") };
    let retry = |named, model| lanes.retry(member, named, model).map_err(|refusal| refusal.code);
    assert_eq!(retry("default", Some(&gpt)), Ok(()));
    assert_eq!(retry("fast", None), Ok(()));
    for (named, model) in [("cheap", Some(&gpt)), ("cheap", None), ("gold", Some(&gpt)), ("auto", Some(&gpt))] {
        assert_eq!(retry(named, model), Err(Code::GroupNotAllowed), "{named}");
    }
}

#[test]
fn choices_are_what_a_key_can_name() {
    let lanes = lanes();
    let choices = |own, of_key, free| lanes.choices(Member { own, of_key }, free);
    let all = [("cheap", "Slow and cheap"), ("default", ""), ("fast", "")];
    assert_eq!(choices("default", None, false), all);
    assert_eq!(choices("default", Some("fast"), false), [("fast", "")]);
    assert_eq!(choices("default", Some("fast"), true), all);
    assert_eq!(choices("default", Some("auto"), false), [("cheap", "Slow and cheap"), ("fast", "")]);
    assert_eq!(choices("vip", None, false), [("cheap", "For everybody"), ("vip", "")]);
    assert_eq!(choices("default", Some("gold"), false), []);
    assert_eq!(GroupTables::default().choices(Member { own: "a", of_key: Some("b") }, true), [("a", ""), ("b", "")]);
}

/// Deployments of new-api name groups in any language.
#[test]
fn a_name_is_of_any_language_and_of_64_bytes() {
    let most = "默".repeat(21);
    for good in ["默认", "é", "gold vip", "a*b", most.as_str()] {
        assert!(is_name(good), "{good}");
        assert!(GroupTables::read_auto(vec![good.to_owned()]).is_ok(), "{good}");
    }
    assert!(!is_name(&"默".repeat(22)));
}

#[test]
fn what_cannot_stand_is_named() {
    let long = "x".repeat(NAME_MAX + 1);
    for bad in ["", "auto", "*", "a/b", "a\u{1}", "é\u{85}", long.as_str()] {
        let usable = |own: &str, group: &str| {
            let row = BTreeMap::from([(group.to_owned(), String::new())]);
            GroupTables::read_usable(BTreeMap::from([(own.to_owned(), row)]))
        };
        assert!(usable("default", bad).is_err(), "{bad}");
        assert_eq!(usable(bad, "default").is_err(), bad != "*", "{bad}");
        assert!(GroupTables::read_auto(vec![bad.to_owned()]).is_err(), "{bad}");
        assert!(GroupTables::read_models(BTreeMap::from([(bad.to_owned(), vec![])])).is_err(), "{bad}");
    }
    assert!(GroupTables::read_auto(vec!["a".into(), "a".into()]).unwrap_err().contains("twice"));
    for bad in ["", "a*b", "**", "é"] {
        let models = BTreeMap::from([("a".to_owned(), vec![bad.to_owned()])]);
        assert!(GroupTables::read_models(models).is_err(), "{bad}");
    }
    let about = BTreeMap::from([("a".to_owned(), "x".repeat(DESCRIPTION_MAX + 1))]);
    assert!(GroupTables::read_usable(BTreeMap::from([("*".to_owned(), about)])).is_err());
    let many: Vec<String> = (0..=ENTRIES_MAX).map(|number| number.to_string()).collect();
    assert!(GroupTables::read_auto(many).is_err());
}
