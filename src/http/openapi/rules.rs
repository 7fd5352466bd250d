//! What a derive cannot say about requests: nothing unknown, nothing null by chance, and which
//! fields go together.

use serde_json::{Map, Value, json};

use super::reference;
use crate::{
    http::wire::gateway::{BATCH_OPS_MAX, OP_TAG, Op},
    quota::defaults::Layer,
};

/// Makes request objects as strict as the reader is.
pub(super) fn tighten(schemas: &mut Value) {
    let Some(schemas) = schemas.as_object_mut() else { return };
    for schema in schemas.values_mut() {
        if schema.get("properties").is_none() {
            continue;
        }
        schema["additionalProperties"] = false.into();
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.values_mut().for_each(without_null);
        }
    }
    for (name, rule) in together() {
        let Some(schema) = schemas.get_mut(name) else { continue };
        let Value::Object(rule) = rule else { continue };
        for (word, value) in rule {
            schema[word] = value;
        }
    }
}

/// An optional field derives as "this or null"; on the wire it is absent or this.
fn without_null(property: &mut Value) {
    if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            property["type"] = only.clone();
        }
    }
    let Some(choices) = property.get("oneOf").and_then(Value::as_array) else { return };
    let mut kinds = choices.iter().filter(|choice| choice["type"] != "null");
    if let (Some(kind), None) = (kinds.next(), kinds.next()) {
        *property = kind.clone();
    }
}

fn one_of(fields: &[&str]) -> Value {
    fields.iter().map(|field| json!({"required": [field]})).collect()
}

fn both(a: &str, b: &str) -> Value {
    json!({"required": [a, b]})
}

fn settle(payer: Value) -> Value {
    let partial = json!({"required": ["final"], "properties": {"final": {"const": false}}});
    let [amount, text] = ["usage", "response_text"].map(|other| both("amount", other));
    json!({
        "required": ["id"],
        "oneOf": payer,
        "not": {"anyOf": [amount, text, both("usage", "response_text")]},
        "dependentRequired": {"usage": ["model"], "response_text": ["model"]},
        "if": partial,
        "then": {"anyOf": one_of(&["amount", "usage", "response_text"])},
    })
}

fn estimation() -> Value {
    let prompts = [both("prompt_tokens", "text"), both("prompt_tokens", "messages"), both("text", "messages")];
    let [a, b, c] = prompts;
    json!({
        "required": ["model"],
        "not": {"anyOf": [both("account", "api_key"), a, b, c]},
        "if": {"required": ["key"]},
        "then": {"anyOf": one_of(&["account", "api_key"])},
    })
}

/// Which fields need or exclude each other, object by object.
fn together() -> Vec<(&'static str, Value)> {
    let payer = || one_of(&["account", "api_key"]);
    let concurrency = json!({"required": ["metric"], "properties": {"metric": {"const": "concurrency"}}});
    let best_effort = json!({"required": ["mode"], "properties": {"mode": {"const": "best_effort"}}});
    vec![
        (
            "Reserve",
            json!({
                "oneOf": payer(),
                "not": {"anyOf": [both("amount", "estimate"), both("tokens", "estimate")]},
                "dependentRequired": {"estimate": ["model"]},
                "dependentSchemas": {"min_amount": best_effort},
            }),
        ),
        ("Settle", settle(payer())),
        ("Release", json!({"required": ["id"], "oneOf": payer()})),
        (
            "Extend",
            json!({
                "required": ["id"],
                "oneOf": payer(),
                "anyOf": one_of(&["amount", "ttl_ms", "group"]),
                "not": both("amount", "estimate"),
                "dependentRequired": {"estimate": ["model", "group"]},
            }),
        ),
        (
            "Charge",
            json!({
                "oneOf": payer(),
                "allOf": [
                    {"oneOf": one_of(&["amount", "usage", "estimate"])},
                    {"properties": {"final": {"const": true}, "mode": {"const": "strict"}}},
                ],
                "not": both("tokens", "estimate"),
                "dependentRequired": {"usage": ["model"], "estimate": ["model"]},
            }),
        ),
        ("Estimation", estimation()),
        ("Refund", json!({"required": ["op_id", "of", "amount"], "oneOf": payer()})),
        ("Credit", json!({"required": ["op_id", "amount"]})),
        ("Debit", json!({"required": ["op_id", "amount"]})),
        ("CodesMake", json!({"required": ["op_id", "name", "amount"]})),
        ("Redeem", json!({"required": ["code"], "oneOf": payer()})),
        ("ReferralTransfer", json!({"required": ["op_id", "amount"]})),
        ("Reset", json!({"allOf": [{"properties": {"metric": {"not": {"const": "concurrency"}}}}]})),
        (
            "LimitRule",
            json!({"if": concurrency, "then": {"not": {"required": ["period"]}}, "else": {"required": ["period"]}}),
        ),
    ]
}

/// Sign-up defaults, whose names are data: platforms within layers. Read and shown in the same shape.
pub(super) fn defaults(schemas: &mut Value) {
    let names: Vec<&str> = Layer::all().map(Layer::as_str).collect();
    let layers: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), reference("Defaults"))).collect();
    schemas["Layer"] = json!({"type": "string", "enum": names});
    schemas["Defaults"] = json!({
        "type": "object",
        "description": "caps by platform; a platform that is not named is unlimited",
        "propertyNames": reference("Platform"),
        "additionalProperties": reference("DefaultCaps"),
    });
    schemas["AllDefaults"] = json!({
        "type": "object",
        "description": "in a request, a layer that is not named becomes empty",
        "properties": layers,
        "additionalProperties": false,
    });
}

/// The batch's objects, and the two small ones that have no wire type.
pub(super) fn batch(schemas: &mut Value) {
    let ops: Vec<Value> = Op::WORDS
        .iter()
        .map(|word| {
            let mut name = (*word).to_owned();
            name[..1].make_ascii_uppercase();
            let mut schema = schemas[&name].clone();
            schema["properties"][OP_TAG] = json!({"const": word});
            let mut required = schema["required"].as_array().cloned().unwrap_or_default();
            required.push(OP_TAG.into());
            schema["required"] = required.into();
            schema
        })
        .collect();
    schemas["Batch"] = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["ops"],
        "properties": {"ops": {"type": "array", "minItems": 1, "maxItems": BATCH_OPS_MAX,
            "description": "Each is an operation's request with its verb in `op`; one that is malformed is a 400 in its place",
            "items": {"oneOf": ops}}},
    });
    let bodies: Vec<Value> =
        ["Reserved", "Settled", "Released", "Extended", "Refunded", "Problem"].into_iter().map(reference).collect();
    schemas["BatchAnswer"] = json!({
        "type": "object",
        "required": ["ops"],
        "properties": {"ops": {"type": "array", "description": "Answers in the places of the operations", "items": {
            "type": "object", "required": ["status", "body"],
            "properties": {"status": {"type": "integer"}, "body": {"anyOf": bodies}},
        }}},
    });
    schemas["Health"] =
        json!({"type": "object", "required": ["status"], "properties": {"status": {"type": "string", "const": "ok"}}});
    schemas["PriceList"] = json!({"type": "object",
        "description": "The public price list, new-api's ratio settings, or a list of our own (as `get_tariff` shows it); \
            at most 16 MiB, also compressed by gzip"});
    schemas["TariffNumber"] = json!({"type": "string", "pattern": "^([0-9]{1,10}|current)$"});
    schemas["Document"] = json!({"type": "object"});
}
