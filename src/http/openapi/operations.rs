//! The operations of the document, one row each.

use serde_json::{Value, json};

use super::{header, reference};

pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) tag: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// Schema of the body.
    pub(super) request: Option<&'static str>,
    /// Status and schema of each 2xx (and of others that come in a shape of their own); an empty one: no body.
    pub(super) answers: &'static [(u16, &'static str)],
    /// Statuses that come as problems.
    pub(super) problems: &'static [u16],
}

const VERB: &[u16] = &[400, 401, 402, 403, 404, 408, 409, 413, 429, 503];
const SETTLING: &[u16] = &[400, 401, 403, 404, 408, 409, 413, 503];
const REDEEMING: &[u16] = &[400, 401, 403, 404, 408, 409, 413, 429, 503];
const READING: &[u16] = &[400, 401, 404, 503];
const WRITING: &[u16] = &[400, 401, 404, 408, 409, 413, 503];

type Answers = &'static [(u16, &'static str)];

const fn verb(
    path: &'static str,
    id: &'static str,
    request: &'static str,
    answers: Answers,
    problems: &'static [u16],
    summary: &'static str,
) -> Operation {
    Operation { method: "post", path, tag: "gateway", id, summary, request: Some(request), answers, problems }
}

const fn admin(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    request: Option<&'static str>,
    answers: Answers,
    summary: &'static str,
) -> Operation {
    let problems = if request.is_some() { WRITING } else { READING };
    Operation { method, path, tag: "admin", id, summary, request, answers, problems }
}

const fn probe(path: &'static str, id: &'static str, answers: Answers, summary: &'static str) -> Operation {
    Operation { method: "get", path, tag: "probes", id, summary, request: None, answers, problems: &[] }
}

const fn authz(method: &'static str, id: &'static str) -> Operation {
    let summary = "Reserve by headers alone, for forward-auth";
    let (path, tag, answers) = ("/v1/authz", "gateway", &[(200, "")]);
    Operation { method, path, tag, id, summary, request: None, answers, problems: VERB }
}

/// A read of the key whose secret is presented.
const fn own(
    path: &'static str,
    id: &'static str,
    answers: Answers,
    problems: &'static [u16],
    summary: &'static str,
) -> Operation {
    Operation { method: "get", path, tag: "gateway", id, summary, request: None, answers, problems }
}

const DEGRADED: &str = "X-Quota-Degraded";
const REPLAYED: &str = "Idempotency-Replayed";

const SUBSCRIPTION: &str = "/dashboard/billing/subscription";
const SUBSCRIPTION_V1: &str = "/v1/dashboard/billing/subscription";
const USAGE: &str = "/dashboard/billing/usage";
const USAGE_V1: &str = "/v1/dashboard/billing/usage";
const SUBSCRIBED: Answers = &[(200, "Subscription"), (401, "OpenAiError"), (503, "OpenAiError")];
const BILLED: Answers = &[(200, "BillingUsage"), (401, "OpenAiError"), (503, "OpenAiError")];
const TOKEN_USED: Answers = &[(200, "TokenUsage"), (401, "TokenError"), (503, "TokenError")];
const ACCOUNTS: &str = "/admin/v1/accounts";
const ACCOUNT: &str = "/admin/v1/accounts/{account}";
const KEYS: &str = "/admin/v1/accounts/{account}/keys";
const KEY: &str = "/admin/v1/accounts/{account}/keys/{key}";
const CREDIT: &str = "/admin/v1/accounts/{account}/credit";
const DEBIT: &str = "/admin/v1/accounts/{account}/debit";
const RESET: &str = "/admin/v1/accounts/{account}/reset";
const REDEEM_FOR: &str = "/admin/v1/accounts/{account}/redeem";
const CODES: &str = "/admin/v1/codes";
const CODE: &str = "/admin/v1/codes/{code}";
const PURGE: &str = "/admin/v1/codes/purge";
const QUOTAS: &str = "/admin/v1/accounts/{account}/platform-quotas";
const QUOTA: &str = "/admin/v1/accounts/{account}/platform-quotas/{platform}";
const QUOTA_RESET: &str = "/admin/v1/accounts/{account}/platform-quotas/reset";
const ALL_DEFAULTS: &str = "/admin/v1/defaults";
const DEFAULTS: &str = "/admin/v1/defaults/{layer}";
const PROVISION: &str = "/admin/v1/provision";
const REFERRALS: &str = "/admin/v1/accounts/{account}/referrals";
const TRANSFER: &str = "/admin/v1/accounts/{account}/referrals/transfer";
const RESERVATION: &str = "/admin/v1/reservations/{account}/{id}";
const RECONCILE: &str = "/admin/v1/reconcile";
const AUDIT: &str = "/admin/v1/audit";
const TARIFFS: &str = "/admin/v1/tariffs";
const TARIFF: &str = "/admin/v1/tariffs/{version}";
const TARIFF_MODELS: &str = "/admin/v1/tariffs/{version}/models";
const TARIFF_ACTIVATE: &str = "/admin/v1/tariffs/{version}/activate";
const SETTINGS: &str = "/admin/v1/settings";
const SETTING: &str = "/admin/v1/settings/{name}";

pub(super) const OPERATIONS: &[Operation] = &[
    verb("/v1/reserve", "reserve", "Reserve", &[(200, "Reserved")], VERB, "Hold an amount before the call"),
    verb("/v1/settle", "settle", "Settle", &[(200, "Settled")], SETTLING, "Charge what the call cost"),
    verb("/v1/release", "release", "Release", &[(200, "Released")], SETTLING, "Give a hold back"),
    verb("/v1/extend", "extend", "Extend", &[(200, "Extended")], VERB, "Hold more, longer"),
    verb("/v1/charge", "charge", "Charge", &[(200, "Settled")], VERB, "Reserve and settle in one step"),
    verb("/v1/refund", "refund", "Refund", &[(200, "Refunded")], SETTLING, "Give back part of a charge"),
    verb("/v1/redeem", "redeem", "Redeem", &[(200, "Redeemed")], REDEEMING, "Turn a code into balance"),
    verb("/v1/estimate", "estimate", "Estimation", ESTIMATED, ESTIMATING, "What a call would hold, by its text"),
    verb("/v1/batch", "batch", "Batch", &[(200, "BatchAnswer")], &[400, 401, 408, 413, 503], "Up to 256 operations"),
    Operation {
        method: "get",
        path: "/v1/accounts/{account}/balance",
        tag: "gateway",
        id: "balance",
        summary: "An account's live numbers",
        request: None,
        answers: &[(200, "Balance")],
        problems: READING,
    },
    own("/v1/key", "own_key", &[(200, "OwnKey")], &[401, 503], "The key whose secret is presented"),
    own(SUBSCRIPTION, "subscription", SUBSCRIBED, &[], "As new-api: a key's allowance in dollars"),
    own(SUBSCRIPTION_V1, "subscription_v1", SUBSCRIBED, &[], "As new-api: a key's allowance in dollars"),
    own(USAGE, "billing_usage", BILLED, &[], "As new-api: what a key spent, in 1/100 dollars; the dates mean nothing"),
    own(
        USAGE_V1,
        "billing_usage_v1",
        BILLED,
        &[],
        "As new-api: what a key spent, in 1/100 dollars; the dates mean nothing",
    ),
    own("/api/usage/token", "token_usage", TOKEN_USED, &[], "As new-api: a key's quota, of 1/500000 dollars each"),
    authz("get", "authz"),
    authz("post", "authz_post"),
    admin("get", ACCOUNTS, "list_accounts", None, &[(200, "Accounts")], "Accounts in order of their ids, by page"),
    admin("put", ACCOUNT, "put_account", Some("AccountPut"), CREATED_ACCOUNT, "Create or merge an account"),
    admin("get", ACCOUNT, "get_account", None, &[(200, "Account")], "An account"),
    Operation {
        method: "delete",
        path: ACCOUNT,
        tag: "admin",
        id: "delete_account",
        summary: "Delete an account that holds nothing",
        request: None,
        answers: &[(204, "")],
        problems: &[400, 401, 404, 409, 503],
    },
    admin("post", CREDIT, "credit", Some("Credit"), &[(200, "Adjusted")], "Top up"),
    Operation {
        method: "post",
        path: DEBIT,
        tag: "admin",
        id: "debit",
        summary: "Take away",
        request: Some("Debit"),
        answers: &[(200, "Adjusted")],
        problems: VERB,
    },
    admin("post", RESET, "reset", Some("Reset"), &[(200, "ResetDone")], "Start a window's usage anew"),
    admin("get", QUOTAS, "list_platform_quotas", None, &[(200, "PlatformQuotas")], "An account's platform quotas"),
    admin("put", QUOTAS, "put_platform_quotas", Some("PlatformQuotasPut"), &[(200, "PlatformQuotas")], "Replace them"),
    admin("get", QUOTA, "get_platform_quota", None, &[(200, "PlatformQuota")], "One of them; 404 when there is none"),
    admin(
        "post",
        QUOTA_RESET,
        "reset_platform_quota",
        Some("PlatformQuotaReset"),
        &[(200, "PlatformQuota")],
        "Start one window of it anew",
    ),
    admin("get", ALL_DEFAULTS, "list_defaults", None, &[(200, "AllDefaults")], "Platform quotas of new accounts"),
    admin("put", ALL_DEFAULTS, "put_all_defaults", Some("AllDefaults"), &[(200, "AllDefaults")], "Replace all layers"),
    admin("get", DEFAULTS, "get_defaults", None, &[(200, "Defaults")], "One layer: system, or a source"),
    admin("put", DEFAULTS, "put_defaults", Some("Defaults"), &[(200, "Defaults")], "Replace one layer"),
    admin("post", PROVISION, "provision", Some("Provision"), PROVISIONED, "Make an account with all it begins with"),
    admin("get", REFERRALS, "referrals", None, &[(200, "Referrals")], "Rewards, and the accounts that were invited"),
    Operation {
        method: "post",
        path: TRANSFER,
        tag: "admin",
        id: "transfer_referral",
        summary: "Move rewards to the balance",
        request: Some("ReferralTransfer"),
        answers: &[(200, "Transfer")],
        problems: VERB,
    },
    admin("get", KEYS, "list_keys", None, &[(200, "Keys")], "Keys in order of their ids, with what they used, by page"),
    admin("put", KEY, "put_key", Some("KeyPut"), &[(200, "Key"), (201, "Key")], "Create or merge a key"),
    admin("get", KEY, "get_key", None, &[(200, "Key")], "A key"),
    admin("delete", KEY, "delete_key", None, &[(204, "")], "Delete a key"),
    Operation {
        method: "post",
        path: REDEEM_FOR,
        tag: "admin",
        id: "redeem_for",
        summary: "Turn a code into the account's balance",
        request: Some("RedeemFor"),
        answers: &[(200, "Redeemed")],
        problems: REDEEMING,
    },
    admin("post", CODES, "make_codes", Some("CodesMake"), MADE_CODES, "Make codes"),
    admin("get", CODES, "list_codes", None, &[(200, "CodesShown")], "Codes, newest first, by page"),
    admin("post", PURGE, "purge_codes", Some("CodesPurge"), &[(200, "CodesPurged")], "Delete codes that are spent"),
    admin("get", CODE, "get_code", None, &[(200, "CodeShown")], "A code"),
    admin("put", CODE, "put_code", Some("CodePut"), &[(200, "CodeShown")], "Change a code that nobody has used"),
    admin("delete", CODE, "delete_code", None, &[(204, "")], "Delete a code"),
    admin("get", RESERVATION, "get_reservation", None, &[(200, "Reservation")], "A reservation as it stands"),
    admin("post", RECONCILE, "reconcile", Some("Reconcile"), &[(200, "Reconciled")], "Compare Redis with SQL"),
    admin("get", AUDIT, "list_audit", None, &[(200, "Changes")], "Who changed what, newest first, by page"),
    admin(
        "get",
        TARIFFS,
        "list_tariffs",
        None,
        &[(200, "Tariffs")],
        "Versions of the price list, newest first, by page",
    ),
    admin(
        "post",
        TARIFFS,
        "import_tariff",
        Some("PriceList"),
        IMPORTED,
        "Compare a price list with the newest, and store it",
    ),
    admin(
        "get",
        TARIFF,
        "get_tariff",
        None,
        &[(200, "TariffWhole")],
        "A version with its list; `current` is the newest",
    ),
    admin("get", TARIFF_MODELS, "list_models", None, &[(200, "Models")], "Models with their prices, by page"),
    admin(
        "post",
        TARIFF_ACTIVATE,
        "activate_tariff",
        None,
        &[(201, "Activated")],
        "Make an older list the newest version",
    ),
    admin("get", SETTINGS, "list_settings", None, &[(200, "Settings")], "What is set at run time, by page"),
    admin("get", SETTING, "get_setting", None, &[(200, "Setting")], "A setting"),
    admin("put", SETTING, "put_setting", Some("SettingPut"), &[(200, "Setting")], "Change a setting everywhere"),
    Operation {
        method: "delete",
        path: SETTING,
        tag: "admin",
        id: "delete_setting",
        summary: "Return a setting to the deployment's default",
        request: None,
        answers: &[(200, "Setting")],
        problems: &[400, 401, 404, 409, 503],
    },
    admin_metrics(),
    probe("/healthz", "healthz", &[(200, "Health")], "The process lives"),
    probe("/readyz", "readyz", &[(200, "Readiness"), (503, "Readiness")], "Calls can be decided"),
    probe("/openapi.json", "openapi", &[(200, "Document")], "This document"),
    probe("/admin/v1/openapi.json", "openapi_admin", &[(200, "Document")], "This document, under the admin prefix"),
];

const MADE_CODES: Answers = &[(200, "CodesMade"), (201, "CodesMade")];
const ESTIMATED: Answers = &[(200, "Estimated")];
const ESTIMATING: &[u16] = &[400, 401, 404, 408, 413, 503];
const IMPORTED: Answers = &[(200, "Imported"), (201, "Imported")];
const PROVISIONED: Answers = &[(200, "Provisioned"), (201, "Provisioned")];
const CREATED_ACCOUNT: Answers = &[(200, "Account"), (201, "Account")];

const fn admin_metrics() -> Operation {
    let answers = &[(200, "text")];
    Operation { problems: &[404], ..probe("/metrics", "metrics", answers, "What was counted, for Prometheus") }
}

/// A problem's status in words.
pub(super) fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is malformed (`invalid_request`), or its model has no price (`model_not_priced`)",
        401 => "The credential is missing or wrong",
        402 => "`insufficient_balance` or `key_exhausted`",
        403 => "Account, key, address, model, platform or code may not",
        404 => "No such account, key, reservation, code, version or setting",
        408 => "The body did not come in time",
        409 => "The id was used otherwise, or the verb does not fit the state",
        413 => "The body is too large",
        429 => "`limit_exceeded`; `violated` lists the limits. `too_many_attempts`, of redeem",
        503 => "`unavailable`: could not tell; ask again",
        _ => "Another problem",
    }
}

impl Operation {
    pub(super) fn security(&self) -> Value {
        match self.tag {
            "gateway" if self.path == "/v1/authz" => {
                json!([{"callerKey": []}, {"callerKey": [], "quotaToken": []}, {"quotaToken": []}])
            }
            "gateway" if self.is_own() => json!([{"callerKey": []}]),
            // The empty one: a deployment without a token is open.
            "gateway" => json!([{"gatewayToken": []}, {}]),
            "admin" => json!([{"adminToken": []}]),
            _ => json!([]),
        }
    }

    /// Whether the key's secret is all that it asks for.
    fn is_own(&self) -> bool {
        matches!(
            self.id,
            "own_key" | "subscription" | "subscription_v1" | "billing_usage" | "billing_usage_v1" | "token_usage"
        )
    }

    pub(super) fn parameters(&self) -> impl Iterator<Item = Value> {
        let segments = self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let in_path = segments.map(|name| {
            let schema = match name {
                "account" => "AccountId",
                "key" => "KeyId",
                "code" => "CodeId",
                "version" => "TariffNumber",
                "name" => {
                    return json!({"name": name, "in": "path", "required": true,
                        "schema": {"type": "string", "pattern": "^[a-z_]+$"}});
                }
                "platform" => "Platform",
                "layer" => "Layer",
                _ => "ReservationId",
            };
            json!({"name": name, "in": "path", "required": true, "schema": reference(schema)})
        });
        in_path.chain(self.queries()).chain(self.headers())
    }

    fn queries(&self) -> Vec<Value> {
        let query = |name: &str, schema: Value| json!({"name": name, "in": "query", "schema": schema});
        match self.id {
            "list_accounts" | "list_keys" | "referrals" => vec![
                query("cursor", json!({"type": "string", "pattern": "^[A-Za-z0-9._:@-]{0,128}$"})),
                query("limit", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})),
            ],
            "list_settings" => vec![
                query("cursor", json!({"type": "string"})),
                query("limit", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})),
            ],
            "delete_setting" => vec![query("version", json!({"type": "integer", "minimum": 0}))],
            "list_audit" => vec![
                query(
                    "subject",
                    json!({"type": "string", "description": "`account/<id>` and the like; also what is below it"}),
                ),
                query("cursor", json!({"type": "string", "pattern": "^[0-9]{0,19}$"})),
                query("limit", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})),
            ],
            "list_codes" => vec![
                query("status", json!({"type": "string", "enum": ["enabled", "disabled", "used", "expired"]})),
                query("name", reference("CodeName")),
                query("batch", reference("OpId")),
                query("search", json!({"type": "string", "maxLength": 128})),
                query("cursor", json!({"type": "string", "pattern": "^[A-Za-z0-9._:@-]{0,128}$"})),
                query("limit", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})),
            ],
            "list_tariffs" => vec![
                query("cursor", json!({"type": "string", "pattern": "^[0-9]{0,10}$"})),
                query("limit", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})),
            ],
            "list_models" => vec![
                query("match", json!({"type": "string", "description": "a part of the model's name"})),
                query("cursor", json!({"type": "string", "maxLength": 128})),
                query("limit", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})),
            ],
            "import_tariff" => vec![
                query("dry_run", json!({"type": "boolean", "description": "compare, but store nothing"})),
                query("merge", json!({"type": "boolean", "description": "models and groups it does not name stay"})),
                query(
                    "base",
                    json!({"type": "integer", "minimum": 0,
                    "description": "refused unless this is the newest version"}),
                ),
                query("source", json!({"type": "string", "maxLength": 512})),
            ],
            "billing_usage" | "billing_usage_v1" => {
                ["start_date", "end_date"].into_iter().map(|name| query(name, json!({"type": "string"}))).collect()
            }
            "authz" | "authz_post" => vec![query("deny", json!({"type": "string", "enum": ["403"]}))],
            _ => Vec::new(),
        }
    }

    fn headers(&self) -> Vec<Value> {
        let changes = self.tag == "admin" && self.method != "get" && self.id != "reconcile";
        if changes {
            let about = "Who makes the change, for the audit; absent: `admin`";
            let schema = json!({"type": "string", "pattern": "^[A-Za-z0-9._:@-]{1,128}$"});
            return vec![json!({"name": "X-Quota-Actor", "in": "header", "description": about, "schema": schema})];
        }
        if self.path != "/v1/authz" {
            return Vec::new();
        }
        let header = |name: &str, schema: Value| json!({"name": name, "in": "header", "schema": schema});
        vec![
            header("X-Quota-Account", reference("AccountId")),
            header("X-Quota-Key", reference("KeyId")),
            header("X-Quota-Id", reference("ReservationId")),
            header("X-Quota-Platform", reference("Platform")),
            header("X-Quota-Model", reference("Model")),
            header("X-Quota-Amount", json!({"type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_i64})),
            header("X-Quota-Tokens", reference("Count")),
            header("X-Quota-Ttl-Ms", reference("TtlMs")),
            header("X-Quota-Group", reference("GroupName")),
            json!({"name": "X-Forwarded-For", "in": "header", "schema": reference("Ip"),
                "description": "Addresses with commas between them; the client is the entry that the setting \
                    `trusted_hops` says, counted from the right"}),
        ]
    }

    pub(super) fn answer(&self, status: u16, schema: &str) -> Value {
        let about = match status {
            201 => "Created",
            204 => "Done",
            503 if self.tag == "probes" => "Not ready",
            401 | 503 => meaning(status),
            _ => self.summary,
        };
        let mut headers = json!({"X-Request-Id": header("the caller's, or a new one")});
        let adds: &[&str] = match self.id {
            "reserve" => &[DEGRADED, REPLAYED, "RateLimit-Policy", "RateLimit"],
            "authz" | "authz_post" => {
                &[DEGRADED, REPLAYED, "RateLimit-Policy", "RateLimit", "X-Quota-Id", "X-Quota-Held", "X-Quota-Group"]
            }
            "settle" | "release" | "extend" | "charge" => &[DEGRADED, REPLAYED],
            "refund" | "credit" | "debit" | "redeem" | "redeem_for" | "make_codes" => &[REPLAYED],
            _ => &[],
        };
        for name in adds {
            headers[*name] = json!({"schema": {"type": "string"}});
        }
        let mut answer = json!({"description": about, "headers": headers});
        match schema {
            "" => {}
            "text" => answer["content"] = json!({"text/plain": {"schema": {"type": "string"}}}),
            schema => answer["content"] = json!({"application/json": {"schema": reference(schema)}}),
        }
        answer
    }
}
