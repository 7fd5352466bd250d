//! The OpenAPI 3.1 document: objects from the wire types, operations from the table below. One
//! document for both listeners; tags tell them apart.

mod operations;
mod rules;

use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    error,
    wire::{admin, answer, codes, compat, estimate, gateway, limit, onboarding, own_key, quota, report, tariff},
};
use operations::{OPERATIONS, Operation};

/// The document as JSON.
#[must_use]
pub fn document() -> String {
    build().to_string()
}

fn build() -> Value {
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "quotad",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A quota sidecar for API gateways: reserve before a call, settle after it. Amounts are \
                integers; one unit is 10^-8 USD by default. Wherever a body has `id` or `op_id`, the header \
                `Idempotency-Key` may carry it instead. Every answer has `X-Request-Id`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "gateway", "description": "The gateway listener (default 127.0.0.1:8787)"},
            {"name": "admin", "description": "The admin listener (default 127.0.0.1:8788)"},
            {"name": "probes", "description": "On both listeners, without a token; metrics on the admin listener"},
        ],
        "paths": {},
        "components": {"schemas": schemas(), "securitySchemes": {
            "gatewayToken": {"type": "http", "scheme": "bearer", "description": "When the deployment sets one"},
            "adminToken": {"type": "http", "scheme": "bearer"},
            "callerKey": {"type": "http", "scheme": "bearer", "description": "The caller's own API key: authz, and reads of the key itself"},
            "quotaToken": {"type": "apiKey", "in": "header", "name": "X-Quota-Token",
                "description": "authz: the gateway's token, when the deployment sets one"},
        }},
    });
    for operation in OPERATIONS {
        document["paths"][operation.path][operation.method] = described(operation);
    }
    document
}

/// Schemas of all objects; those of requests made as strict as the reader.
fn schemas() -> Value {
    let mut requests = json!({});
    add::<gateway::Reserve>(&mut requests);
    add::<gateway::Settle>(&mut requests);
    add::<gateway::Release>(&mut requests);
    add::<gateway::Extend>(&mut requests);
    add::<gateway::Charge>(&mut requests);
    add::<gateway::Refund>(&mut requests);
    add::<estimate::Estimation>(&mut requests);
    add::<admin::AccountPut>(&mut requests);
    add::<admin::KeyPut>(&mut requests);
    add::<admin::Credit>(&mut requests);
    add::<admin::Debit>(&mut requests);
    add::<admin::Reset>(&mut requests);
    add::<admin::Reconcile>(&mut requests);
    add::<codes::CodesMake>(&mut requests);
    add::<codes::CodePut>(&mut requests);
    add::<codes::CodesPurge>(&mut requests);
    add::<codes::Redeem>(&mut requests);
    add::<codes::RedeemFor>(&mut requests);
    add::<admin::SettingPut>(&mut requests);
    add::<limit::LimitRule>(&mut requests);
    onboarding_requests(&mut requests);
    rules::tighten(&mut requests);
    let mut schemas = requests;
    add::<error::Shown<'static>>(&mut schemas);
    add::<answer::Reserved<'static>>(&mut schemas);
    add::<answer::Settled<'static>>(&mut schemas);
    add::<answer::Released<'static>>(&mut schemas);
    add::<answer::Extended<'static>>(&mut schemas);
    add::<answer::Refunded<'static>>(&mut schemas);
    add::<answer::Estimated<'static>>(&mut schemas);
    add::<tariff::Tariffs>(&mut schemas);
    add::<tariff::TariffWhole<'static>>(&mut schemas);
    add::<tariff::Models<'static>>(&mut schemas);
    add::<tariff::Imported<'static>>(&mut schemas);
    add::<tariff::Activated>(&mut schemas);
    add::<report::Adjusted<'static>>(&mut schemas);
    add::<answer::Balance<'static>>(&mut schemas);
    add::<own_key::OwnKey<'static>>(&mut schemas);
    add::<compat::Subscription>(&mut schemas);
    add::<compat::BillingUsage>(&mut schemas);
    add::<compat::TokenUsage<'static>>(&mut schemas);
    add::<compat::OpenAiError<'static>>(&mut schemas);
    add::<compat::TokenError<'static>>(&mut schemas);
    add::<report::Account<'static>>(&mut schemas);
    add::<report::Accounts<'static>>(&mut schemas);
    add::<report::Key<'static>>(&mut schemas);
    add::<report::Keys<'static>>(&mut schemas);
    add::<report::ResetDone<'static>>(&mut schemas);
    add::<report::Reservation<'static>>(&mut schemas);
    add::<report::Reconciled<'static>>(&mut schemas);
    add::<report::Changes<'static>>(&mut schemas);
    add::<codes::CodeShown<'static>>(&mut schemas);
    add::<codes::CodesShown<'static>>(&mut schemas);
    add::<codes::CodesMade<'static>>(&mut schemas);
    add::<codes::CodesPurged>(&mut schemas);
    add::<codes::Redeemed<'static>>(&mut schemas);
    add::<report::Settings<'static>>(&mut schemas);
    onboarding_answers(&mut schemas);
    add::<answer::Readiness>(&mut schemas);
    rules::batch(&mut schemas);
    schemas
}

/// Platform quotas, defaults, provisioning, referrals.
fn onboarding_requests(requests: &mut Value) {
    add::<quota::PlatformQuotasPut>(requests);
    add::<quota::PlatformQuotaReset>(requests);
    add::<quota::DefaultCaps>(requests);
    add::<onboarding::Provision>(requests);
    add::<onboarding::ReferralTransfer>(requests);
}

fn onboarding_answers(schemas: &mut Value) {
    add::<quota::PlatformQuotas<'static>>(schemas);
    add::<onboarding::ProvisionShown<'static>>(schemas);
    add::<onboarding::ReferralsShown<'static>>(schemas);
    add::<onboarding::TransferShown<'static>>(schemas);
    rules::defaults(schemas);
}

/// Adds an object and all that it refers to.
fn add<T: ToSchema>(schemas: &mut Value) {
    let mut found = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    for (name, schema) in found {
        // The first one stays: what a request brought is already made strict when an answer brings it again.
        if schemas.get(&name).is_none() {
            schemas[name] = serde_json::to_value(schema).unwrap_or_default();
        }
    }
}

fn described(operation: &Operation) -> Value {
    let mut described = json!({
        "tags": [operation.tag],
        "operationId": operation.id,
        "summary": operation.summary,
        "security": operation.security(),
        "responses": {},
    });
    let parameters: Vec<Value> = operation.parameters().collect();
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(schema) = operation.request {
        let optional = matches!(schema, "Reconcile" | "CodesPurge");
        described["requestBody"] = json!({
            "required": !optional,
            "content": {"application/json": {"schema": reference(schema)}},
        });
    }
    for (status, schema) in operation.answers {
        described["responses"][status.to_string()] = operation.answer(*status, schema);
    }
    for status in operation.problems {
        if described["responses"].get(status.to_string()).is_none() {
            described["responses"][status.to_string()] = problem(*status);
        }
    }
    described
}

fn problem(status: u16) -> Value {
    let mut headers = json!({"X-Request-Id": header("the caller's, or a new one")});
    if matches!(status, 429 | 503) {
        headers["Retry-After"] = json!({"schema": {"type": "integer", "minimum": 1}});
    }
    if status == 401 {
        headers["WWW-Authenticate"] = header("Bearer");
    }
    let content = json!({"application/problem+json": {"schema": reference("Problem")}});
    json!({"description": operations::meaning(status), "headers": headers, "content": content})
}

fn header(about: &str) -> Value {
    json!({"description": about, "schema": {"type": "string"}})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{
        route::{Route, Side},
        wire::read::Object,
    };

    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = build();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_is_served_and_every_route_described() {
        for operation in OPERATIONS {
            let side = if operation.tag == "gateway" { Side::Gateway } else { Side::Admin };
            let path = operation.path.replace(['{', '}'], "");
            let route = Route::find(side, &path).unwrap_or_else(|| panic!("{path}"));
            let method = operation.method.to_uppercase();
            assert!(route.allow().split(", ").any(|allowed| allowed == method), "{method} {path}");
        }
        let described = |path: &str| OPERATIONS.iter().filter(|operation| operation.path == path).count();
        for (path, methods) in
            [("/admin/v1/accounts/{account}", 3), ("/admin/v1/accounts/{account}/keys/{key}", 3), ("/v1/authz", 2)]
        {
            assert_eq!(described(path), methods, "{path}");
        }
        assert_eq!(OPERATIONS.len(), 64);
    }

    fn same_names<T: Object>(schemas: &Value, name: &str) {
        let mut read: Vec<_> = T::FIELDS.to_vec();
        let properties = schemas[name]["properties"].as_object().unwrap_or_else(|| panic!("{name}"));
        let mut shown: Vec<_> = properties.keys().map(String::as_str).collect();
        read.sort_unstable();
        shown.sort_unstable();
        assert_eq!(read, shown, "{name}");
        assert_eq!(schemas[name]["additionalProperties"], false, "{name}");
    }

    #[test]
    fn what_is_read_is_what_is_described() {
        let schemas = schemas();
        same_names::<gateway::Reserve>(&schemas, "Reserve");
        same_names::<gateway::Estimate>(&schemas, "Estimate");
        same_names::<gateway::Settle>(&schemas, "Settle");
        same_names::<gateway::Charge>(&schemas, "Charge");
        same_names::<gateway::Refund>(&schemas, "Refund");
        same_names::<estimate::Estimation>(&schemas, "Estimation");
        same_names::<admin::AccountPut>(&schemas, "AccountPut");
        same_names::<admin::KeyPut>(&schemas, "KeyPut");
        same_names::<admin::SettingPut>(&schemas, "SettingPut");
        same_names::<limit::LimitRule>(&schemas, "LimitRule");
        same_names::<codes::CodesMake>(&schemas, "CodesMake");
        same_names::<codes::CodePut>(&schemas, "CodePut");
        same_names::<codes::Redeem>(&schemas, "Redeem");
        same_names::<quota::PlatformQuotaRule>(&schemas, "PlatformQuotaRule");
        same_names::<quota::DefaultCaps>(&schemas, "DefaultCaps");
        same_names::<onboarding::Provision>(&schemas, "Provision");
        assert_eq!(schemas["Reserve"]["properties"]["amount"]["$ref"], "#/components/schemas/Units");
        assert_eq!(schemas["Reserve"]["properties"]["verbose"]["type"], "boolean");
        assert_eq!(schemas["LimitRule"]["required"], json!(["cap"]));
    }
}
