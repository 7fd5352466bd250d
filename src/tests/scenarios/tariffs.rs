//! Price lists through the admin API, what they change for calls, and estimates.

use serde_json::{Value, json};

use crate::harness::{Answer, Setup, Sidecar, USD};

const TARIFFS: &str = "/admin/v1/tariffs";

/// A list of our own with one model.
fn list(input: i64) -> Value {
    json!({"format": 1, "units_per_usd": USD, "models": {"m": {"input": input * 1_000_000, "output": 0}}})
}

#[track_caller]
fn import(quotad: &Sidecar, query: &str, list: &Value) -> Value {
    quotad.admin.post(&format!("{TARIFFS}?{query}"), list).expect(201)
}

fn audited(quotad: &Sidecar, subject: &str) -> Value {
    quotad.admin.get(&format!("/admin/v1/audit?subject={subject}")).expect(200)["changes"].clone()
}

#[test]
fn a_price_list_is_shown_before_it_is_stored_and_every_version_stays() {
    let quotad = Sidecar::start();
    let first = quotad.admin.get(TARIFFS).expect(200);
    assert_eq!(
        first,
        json!({"tariffs": [{"version": 0, "source": "built in", "imported_at": null}], "next_cursor": null})
    );
    // What would change, and nothing does.
    let dry = quotad.admin.post(&format!("{TARIFFS}?dry_run=true"), &list(3)).expect(200);
    assert_eq!((&dry["base"], &dry["version"], &dry["models"]), (&json!(0), &Value::Null, &json!(1)));
    assert_eq!((&dry["diff"]["added"], &dry["diff"]["changed"]), (&json!(1), &json!(0)));
    let row = dry["diff"]["models"].as_array().unwrap().iter().find(|row| row["model"] == "m").unwrap().clone();
    let price = |price: &str, before: Value, after: Value| json!({"price": price, "before": before, "after": after});
    let prices = [price("input", Value::Null, json!(3_000_000)), price("output", Value::Null, json!(0))];
    assert_eq!(row, json!({"model": "m", "change": "added", "prices": prices}));
    assert_eq!(quotad.admin.get(TARIFFS).expect(200), first);

    let merged = import(&quotad, "base=0&merge=true&source=mine", &list(3));
    assert_eq!(
        (&merged["version"], &merged["diff"]["removed"], &merged["diff"]["added"]),
        (&json!(1), &json!(0), &json!(1))
    );
    // Shown against a list that is no longer the newest: not stored.
    let late = quotad.admin.post(&format!("{TARIFFS}?base=0"), &list(4));
    assert_eq!(late.problem(400, "invalid_request")["field"], "base");
    let second = import(&quotad, "source=yours", &list(4));
    assert_eq!(second["version"], 2);
    assert!(second["diff"]["removed"].as_i64().unwrap() > 3_000, "without merge a list is the whole list");

    // By page, the newest first, down to the built-in one.
    let page = quotad.admin.get(&format!("{TARIFFS}?limit=2")).expect(200);
    let versions = |page: &Value| -> Vec<(i64, String)> {
        let tariffs = page["tariffs"].as_array().unwrap().iter();
        tariffs.map(|t| (t["version"].as_i64().unwrap(), t["source"].as_str().unwrap().to_owned())).collect()
    };
    assert_eq!(versions(&page), [(2, "yours".to_owned()), (1, "mine".to_owned())]);
    let last =
        quotad.admin.get(&format!("{TARIFFS}?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).expect(200);
    assert_eq!((versions(&last), &last["next_cursor"]), (vec![(0, "built in".to_owned())], &Value::Null));

    let whole = quotad.admin.get(&format!("{TARIFFS}/2")).expect(200);
    assert_eq!((&whole["tariff"], &whole["source"]), (&list(4), &json!("yours")));
    assert_eq!(quotad.admin.get(&format!("{TARIFFS}/current")).expect(200), whole);
    quotad.admin.get(&format!("{TARIFFS}/9")).problem(404, "not_found");
    assert_eq!(quotad.admin.get(&format!("{TARIFFS}/x")).problem(400, "invalid_request")["field"], "version");
    let rows = audited(&quotad, "tariff/2");
    assert_eq!((&rows[0]["what"], &rows[0]["after"]["source"]), (&json!("import"), &json!("yours")));
}

#[test]
fn models_are_listed_by_page_and_an_older_list_can_be_put_in_force_again() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": USD}));
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = format!("{TARIFFS}/current/models?match=gpt-4o&limit=50&cursor={cursor}");
        let page = quotad.admin.get(&page).expect(200);
        let models = page["models"].as_array().unwrap();
        names.extend(models.iter().map(|model| model["model"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.replace('/', "%2F").replace(' ', "%20"),
            None => break,
        }
    }
    assert!(names.len() > 50 && names.is_sorted() && names.iter().all(|name| name.contains("gpt-4o")), "{names:?}");
    let shown = quotad.admin.get(&format!("{TARIFFS}/0/models?match=gemini-2.5-pro&limit=1000")).expect(200);
    let gemini = shown["models"].as_array().unwrap().iter().find(|model| model["model"] == "gemini-2.5-pro").unwrap();
    assert_eq!(
        (&gemini["prices"]["input"], &gemini["tiers"][0]["above_tokens"]),
        (&json!(125_000_000), &json!(200_000))
    );

    let charge = |id: &str, model: &str| {
        let usage = json!({"prompt_tokens": 10, "completion_tokens": 0});
        quotad.gateway.post("/v1/charge", &json!({"account": "a", "id": id, "model": model, "usage": usage}))
    };
    import(&quotad, "", &list(7));
    assert_eq!(charge("c-1", "m").expect(200)["charged"], 70, "at once, on this sidecar");
    charge("c-2", "gpt-4o").problem(400, "model_not_priced");
    let back = quotad.admin.post(&format!("{TARIFFS}/0/activate"), &json!({})).expect(201);
    assert_eq!(back, json!({"of": 0, "version": 2}));
    assert_eq!(charge("c-3", "gpt-4o").expect(200)["charged"], 2_500);
    charge("c-4", "m").problem(400, "model_not_priced");
    quotad.admin.post(&format!("{TARIFFS}/1/activate"), &json!({})).expect(201);
    assert_eq!(charge("c-5", "m").expect(200)["charged"], 70);
    assert_eq!(quotad.admin.get(&format!("{TARIFFS}/3")).expect(200)["tariff"], list(7));
    quotad.admin.post(&format!("{TARIFFS}/9/activate"), &json!({})).problem(404, "not_found");
}

#[test]
fn the_public_list_and_ratio_settings_are_taken_as_they_are() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": USD, "group": "gold"}));
    quotad.key("a", "k", json!({"group": "vip"}));
    // The list is larger than other bodies may be, and goes through compressed as well.
    let packed = include_bytes!("../../quota/tariff/model_prices.json.gz");
    let taken = quotad.admin.call("POST", &format!("{TARIFFS}?dry_run=true"), &[], packed).expect(200);
    assert!(taken["models"].as_i64().unwrap() > 3_000, "{}", taken["models"]);
    assert_eq!(
        (&taken["diff"]["models"], &taken["diff"]["ratios"]),
        (&json!([]), &json!([])),
        "it is the built-in one"
    );
    let long = json!({"format": 1, "units_per_usd": USD, "models": {}, "x": "y".repeat(200_000)});
    quotad.admin.post(TARIFFS, &long).problem(400, "invalid_request");
    let longer = vec![b' '; (16 << 20) + 1];
    assert_eq!(quotad.admin.call("POST", TARIFFS, &[], &longer).code(), "payload_too_large");

    let ratios = json!({"ModelRatio": {"m": 1.25}, "CompletionRatio": "{\"m\": 4}", "ModelPrice": {"draw": 0.04},
        "GroupRatio": {"vip": 0.8}, "GroupGroupRatio": {"gold": {"vip": 0.5}}});
    let stored = import(&quotad, "merge=true", &ratios);
    assert_eq!((&stored["diff"]["added"], &stored["diff"]["ratios"].as_array().unwrap().len()), (&json!(2), &2));
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 50});
    let charge = |id: &str, more: Value| {
        let mut body = json!({"account": "a", "id": id, "model": "m", "usage": usage});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        quotad.gateway.post("/v1/charge", &body).expect(200)["charged"].clone()
    };
    // (100 + 50 * 4) * 1.25 = 375 of new-api's quota, 200 units each.
    assert_eq!(charge("c-1", json!({})), 75_000);
    assert_eq!(charge("c-2", json!({"key": "k"})), 37_500, "group gold in group vip");
    assert_eq!(charge("c-3", json!({"model": "draw", "key": "k"})), 2_000_000);
    for (bad, part) in [
        (json!({"ModelRatio": {"m": -1}}), "ModelRatio"),
        (json!({"format": 1, "units_per_usd": 500_000, "models": {}}), "units to a dollar"),
        (json!({"nothing": 1}), "no price list"),
        (json!([]), "no price list"),
    ] {
        let problem = quotad.admin.post(TARIFFS, &bad).problem(400, "invalid_request");
        assert!(problem["field"] == "tariff" && problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    assert_eq!(quotad.admin.post_text(TARIFFS, "").problem(400, "invalid_request")["field"], "tariff");
    let twice = quotad.admin.post(&format!("{TARIFFS}?dry_run=1"), &list(1));
    assert_eq!(twice.problem(400, "invalid_request")["field"], "dry_run");
}

/// Price edits between reserve and settle once billed half a request.
#[test]
fn a_reservation_is_billed_by_the_prices_it_was_made_with() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": USD, "group": "gold"}));
    quotad.key("a", "k", json!({"group": "vip"}));
    let with = |input: i64, ratio: &str| {
        let mut list = list(input);
        list["user_group_ratio"] = json!({"gold": {"vip": ratio}});
        list
    };
    import(&quotad, "", &with(30, "0.5"));
    let ask = |id: &str| {
        let estimate = json!({"prompt_tokens": 1_000, "max_tokens": 10});
        quotad.reserve(json!({"account": "a", "key": "k", "id": id, "model": "m", "estimate": estimate}))
    };
    assert_eq!(ask("r-1").expect(200)["held"], 15_000);
    ask("r-2").expect(200);
    ask("r-3").expect(200);
    import(&quotad, "", &with(70, "2"));
    assert_eq!(ask("r-4").expect(200)["held"], 140_000);
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 1});
    let settle = |id: &str| quotad.settle(json!({"account": "a", "key": "k", "id": id, "model": "m", "usage": usage}));
    assert_eq!(settle("r-1").expect(200)["charged"], 1_500, "price and ratio of the reserve");
    assert_eq!(settle("r-4").expect(200)["charged"], 14_000);
    // A model that no list prices any more still has its price.
    let mut other = with(1, "1");
    other["models"] = json!({"other": {"input": 1}});
    import(&quotad, "", &other);
    assert_eq!(settle("r-2").expect(200)["charged"], 1_500);
    settle("new").problem(400, "model_not_priced");
    // Also without a usage, by the text.
    let text = json!({"account": "a", "key": "k", "id": "r-3", "model": "m", "response_text": "hello"});
    assert_eq!(quotad.settle(text).expect(200)["charged"], 15_000, "the prompt as it was estimated");
    quotad.assert_reconciled();
}

#[test]
fn an_estimate_says_what_a_reserve_holds() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": 100 * USD, "group": "vip"}));
    let mut ratios = json!({"GroupRatio": {"vip": 0.8}});
    import(&quotad, "", &ratios.take());
    let ask = |body: Value| quotad.gateway.post("/v1/estimate", &body);
    let text = "hello world ".repeat(400);
    let estimated = ask(json!({"account": "a", "model": "gpt-4o", "text": text, "max_tokens": 100})).expect(200);
    let tokens = estimated["prompt_tokens"].as_i64().unwrap();
    assert!((800..=802).contains(&tokens), "{estimated}");
    assert_eq!((&estimated["counted_by"], &estimated["ratio"]), (&json!("o200k_base"), &json!("0.8")));
    assert_eq!((&estimated["tariff"], &estimated["prices"]["input"]), (&json!(1), &json!(250_000_000)));
    assert_eq!(estimated["held"], (tokens * 250 + 100 * 1_000) * 8 / 10);
    assert_eq!(estimated["tokens"], tokens + 100);
    let reserve = json!({"account": "a", "id": "r", "model": "gpt-4o",
        "estimate": {"prompt_tokens": tokens, "max_tokens": 100}});
    assert_eq!(quotad.reserve(reserve).expect(200)["held"], estimated["held"]);
    quotad.gateway.post("/v1/release", &json!({"account": "a", "id": "r"})).expect(200);

    // A chat: three tokens around each message, three before the answer. 500 tokens at least are held.
    let messages = json!([{"role": "system", "content": "hello world"}, {"role": "user", "content": "hello"}]);
    let chat = ask(json!({"model": "gpt-4o", "messages": messages, "max_tokens": 0})).expect(200);
    assert_eq!((&chat["prompt_tokens"], &chat["held"]), (&json!(2 * 3 + 3 + 1 + 2 + 1 + 1), &json!(500 * 250)));
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]);
    assert_eq!(ask(json!({"model": "gpt-4o", "messages": image})).expect(200)["prompt_tokens"], 3 + 3 + 1 + 765);
    let sized =
        json!({"model": "gpt-4o", "prompt_tokens": 0, "images": [{"width": 512, "height": 512}], "max_tokens": 0});
    assert_eq!(ask(sized).expect(200)["prompt_tokens"], 255);
    // Sound by the second, images by the piece, at their own prices.
    let sound = ask(json!({"model": "whisper-1", "audio_seconds": 60.5})).expect(200);
    assert_eq!((&sound["held"], &sound["counted_by"]), (&json!(60 * 10_000 + 5_000), &Value::Null));
    let gemini = ask(json!({"model": "gemini-2.5-flash", "audio_seconds": 100, "max_tokens": 0})).expect(200);
    assert_eq!((&gemini["prompt_tokens"], &gemini["held"]), (&json!(3_200), &json!(3_200 * 100)));
    let pictures = ask(json!({"model": "black_forest_labs/flux-kontext-pro", "output_images": 3})).expect(200);
    assert_eq!(pictures["held"], 3 * 4_000_000);
    let one = ask(json!({"model": "black_forest_labs/flux-kontext-pro", "text": "a cat"})).expect(200);
    assert_eq!(one["held"], 4_000_000, "a picture at least");

    ask(json!({"model": "no-such-model", "text": "x"})).problem(400, "model_not_priced");
    ask(json!({"model": "gpt-4o", "text": "x", "account": "nobody"})).problem(404, "account_not_found");
    ask(json!({"model": "gpt-4o", "api_key": "sk-unknown"})).problem(401, "unauthorized");
    assert_eq!(ask(json!({"model": "gpt-4o", "text": 7})).problem(400, "invalid_request")["field"], "text");
    // Long texts are counted, longer ones refused.
    let long = json!({"model": "claude-sonnet-4-5", "text": "word ".repeat(100_000)});
    let long = ask(long).expect(200);
    assert_eq!(long["counted_by"], "o200k_base x 1.2");
    assert!((119_000..=121_000).contains(&long["prompt_tokens"].as_i64().unwrap()), "{long}");
    ask(json!({"model": "gpt-4o", "text": "x".repeat(1 << 20)})).problem(413, "payload_too_large");
    assert_eq!(quotad.money("a"), [100 * USD, 0, 100 * USD], "nothing is held");
}

#[test]
fn a_settle_without_usage_is_priced_by_its_text() {
    let quotad = Setup::default().start();
    quotad.account("a", json!({"initial_balance": USD}));
    let reserve = |id: &str, more: Value| {
        let mut body = json!({"account": "a", "id": id, "model": "gpt-4o"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        quotad.reserve(body).expect(200);
    };
    let settle = |id: &str, more: Value| -> Answer {
        let mut body = json!({"account": "a", "id": id, "model": "gpt-4o", "response_text": "hello world"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        quotad.settle(body)
    };
    let estimate = json!({"estimate": {"prompt_tokens": 600, "max_tokens": 10}});
    let output = 2 * 1_000;
    reserve("r-1", estimate.clone());
    assert_eq!(settle("r-1", json!({})).expect(200)["charged"], 600 * 250 + output, "the prompt as estimated");
    let again = settle("r-1", json!({})).expect(200);
    assert_eq!((&again["charged"], &again["replayed"]), (&json!(600 * 250 + output), &json!(true)));
    let other = settle("r-1", json!({"response_text": "hello, hello world"})).problem(409, "conflict");
    assert_eq!(other["field"], "response_text");
    reserve("r-2", estimate.clone());
    assert_eq!(settle("r-2", json!({"prompt_tokens": 550})).expect(200)["charged"], 550 * 250 + output, "as counted");
    reserve("r-3", json!({"amount": 9_000}));
    assert_eq!(settle("r-3", json!({})).expect(200)["charged"], output, "nothing was said of a prompt");
    assert_eq!(settle("r-4", json!({"prompt_tokens": 10})).expect(200)["charged"], 2_500 + output, "unreserved");
    reserve("r-5", estimate);
    let part = settle("r-5", json!({"final": false})).expect(200);
    assert_eq!((&part["outcome"], &part["charged"]), (&json!("held"), &json!(600 * 250 + output)));
    let nothing = settle("r-5", json!({"response_text": "hello world hello world"})).expect(200);
    assert_eq!(nothing["charged"], 600 * 250 + 2 * output);

    for (more, code, field) in [
        (json!({"amount": 1}), "invalid_request", "response_text"),
        (json!({"usage": {"prompt_tokens": 1}}), "invalid_request", "response_text"),
        (json!({"response_text": null}), "invalid_request", "response_text"),
    ] {
        assert_eq!(settle("bad", more).problem(400, code)["field"], field);
    }
    quotad.settle(json!({"account": "a", "id": "bad", "response_text": "x"})).problem(400, "invalid_request");
    settle("bad", json!({"model": "no-such-model"})).problem(400, "model_not_priced");
    quotad.assert_reconciled();
}

/// A usage that names nothing is no call: it is refused, and neither counted nor charged.
#[test]
fn an_empty_usage_is_counted_nowhere() {
    let quotad = Sidecar::start();
    let limits = json!([{"metric": "requests", "period": "day", "cap": 10}, {"metric": "tokens", "period": "day", "cap": 9_000}]);
    quotad.account("a", json!({"initial_balance": USD, "limits": limits}));
    for usage in [
        json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        json!({"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0}),
        json!({"promptTokenCount": 0, "totalTokenCount": 0}),
        json!({"type": "duration", "seconds": 0}),
    ] {
        for verb in ["settle", "charge"] {
            let body = json!({"account": "a", "id": "empty", "model": "gpt-4o", "usage": usage});
            let problem = quotad.gateway.post(&format!("/v1/{verb}"), &body).problem(400, "invalid_request");
            assert_eq!(problem["field"], "usage", "{verb} {usage}");
        }
    }
    let sheet = quotad.balance("a");
    assert_eq!((&sheet["requests"], &sheet["used"], &sheet["balance"]), (&json!(0), &json!(0), &json!(USD)));
    let used: Vec<&Value> = sheet["limits"].as_array().unwrap().iter().map(|limit| &limit["used"]).collect();
    assert_eq!(used, [&json!(0), &json!(0)]);
    quotad.admin.get("/admin/v1/reservations/a/empty").problem(404, "reservation_not_found");
    quotad.assert_reconciled();
}

/// A list that was stored while it could not be taken over was once stored again by the repeated call.
#[test]
fn the_same_list_again_is_the_version_that_it_is() {
    let quotad = Sidecar::start();
    assert_eq!(import(&quotad, "source=first", &list(3))["version"], 1);
    let again = import(&quotad, "source=again", &list(3));
    assert_eq!((&again["version"], &again["base"], &again["diff"]["changed"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(quotad.admin.get(TARIFFS).expect(200)["tariffs"].as_array().unwrap().len(), 2, "and the built-in one");
    assert_eq!(audited(&quotad, "tariff/2"), json!([]));
    assert_eq!(import(&quotad, "", &list(4))["version"], 2);
    assert_eq!(import(&quotad, "", &list(3))["version"], 3, "an older one is another version");
}

/// A database that is put back to an older copy has lost price lists, and gives their numbers to others: work in flight
/// is priced by what is there, and what this process knew of the numbers is forgotten.
#[test]
fn price_lists_that_a_restored_database_lost_are_not_believed() {
    let quotad = Sidecar::start();
    quotad.account("a", json!({"initial_balance": USD}));
    import(&quotad, "", &list(3));
    import(&quotad, "", &list(5));
    let reserve = json!({"account": "a", "id": "r", "model": "m", "estimate": {"prompt_tokens": 500, "max_tokens": 0}});
    assert_eq!(quotad.reserve(reserve).expect(200)["held"], 2_500);
    let database = format!("sqlite://{}", quotad.data().join("quotad.db").display());
    let mut sql = crate::harness::sql_client::SqlClient::connect(&database).unwrap();
    sql.ask("DELETE FROM tariffs WHERE version = 2");
    let charge = |id: String| {
        let body = json!({"account": "a", "id": id, "model": "m", "usage": {"prompt_tokens": 10}});
        quotad.gateway.post("/v1/charge", &body).expect(200)["charged"].as_i64().unwrap()
    };
    let mut calls = 0..;
    let mut until = |cost: i64| {
        crate::harness::eventually("the list is in force", std::time::Duration::from_secs(10), || {
            charge(format!("c-{}", calls.next().unwrap())) == cost
        });
    };
    until(30);
    // Its price list is gone: the newest one prices it, and the ledger's row says so.
    let usage = json!({"prompt_tokens": 100});
    let settled = quotad.settle(json!({"account": "a", "id": "r", "model": "m", "usage": usage})).expect(200);
    assert_eq!(settled["charged"], 300);
    crate::harness::eventually("the row is posted", std::time::Duration::from_secs(10), || {
        let told = "instr(payload, CAST('\"repriced\":true' AS BLOB)) > 0";
        let row = format!("SELECT CAST({told} AS TEXT) FROM ledger WHERE op_id = 'r' AND kind = 'settle'");
        let rows = sql.ask(&row);
        assert!(rows.iter().all(|row| row[0] == "1"), "{rows:?}");
        !rows.is_empty()
    });
    // Another list under the number that was lost.
    assert_eq!(import(&quotad, "", &list(9))["version"], 2);
    until(90);
    let table = quotad.admin.get(&format!("{TARIFFS}/2/models")).expect(200);
    assert_eq!(table["models"][0]["prices"]["input"], 9_000_000);
}
