//! The bodies of the gateway's protocol, as far as the harness sends and reads them.

use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::workload::{Call, Fate, Workload};

/// Any answer of the three verbs, or a problem document; absent fields are 0, false or `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Answer {
    pub outcome: String,
    pub held: i64,
    pub charged: i64,
    pub returned: i64,
    pub overdraft: i64,
    pub late: bool,
    pub unreserved: bool,
    pub trusted: bool,
    pub replayed: bool,
    pub balance: Option<i64>,
    pub available: Option<i64>,
    pub code: Option<String>,
    pub requested: Option<i64>,
    pub violated: Vec<LimitState>,
}

/// A limit with its live numbers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LimitState {
    pub platform: String,
    pub model: String,
    /// Whose limit; `None` for the account's own.
    pub key: Option<String>,
    pub metric: String,
    pub period: Option<String>,
    pub cap: Option<i64>,
    pub used: i64,
    pub held: i64,
    pub resets_at: Option<String>,
}

/// `GET /v1/accounts/{account}/balance`.
#[derive(Debug, Deserialize)]
pub struct Sheet {
    pub balance: i64,
    pub held: i64,
    pub available: i64,
    pub used: i64,
    pub requests: i64,
    #[serde(default)]
    pub keys: Vec<KeySheet>,
    #[serde(default)]
    pub limits: Vec<LimitState>,
}

#[derive(Debug, Deserialize)]
pub struct KeySheet {
    pub key: String,
    pub used: i64,
    pub held: i64,
    pub requests: i64,
}

/// The id of a call's reservation.
#[must_use]
pub fn id(call: &Call) -> String {
    format!("r-{}", call.index)
}

/// The name of an account's key.
#[must_use]
pub fn key(index: usize) -> String {
    format!("k{index}")
}

#[must_use]
pub fn reserve(workload: &Workload, account: &str, call: &Call) -> Bytes {
    let profile = &workload.profile;
    let short = matches!(call.fate, Fate::Lost | Fate::Late);
    let mut body = common(workload, account, call);
    body.insert("estimate".into(), json!({"prompt_tokens": call.prompt_tokens, "max_tokens": call.max_tokens}));
    body.insert("ttl_ms".into(), json!(if short { profile.lost_ttl_ms } else { profile.ttl_ms }));
    bytes(body)
}

/// The call's last step: settle, or release for [`Fate::Release`].
#[must_use]
pub fn last_step(workload: &Workload, account: &str, call: &Call) -> (&'static str, Bytes) {
    let mut body = common(workload, account, call);
    match call.fate {
        Fate::Release => return ("/v1/release", release(account, call)),
        Fate::ClientAbort => body.insert("outcome".into(), json!("client_abort")),
        Fate::UpstreamError => body.insert("outcome".into(), json!("upstream_error")),
        Fate::Settle | Fate::Late | Fate::Lost => {
            body.insert("usage".into(), workload.profile.models[call.model].usage.object(&call.tokens))
        }
    };
    body.insert("duration_ms".into(), json!(call.work.as_millis() as u64));
    body.insert("stream".into(), json!(true));
    ("/v1/settle", bytes(body))
}

#[must_use]
pub fn release(account: &str, call: &Call) -> Bytes {
    bytes(Map::from_iter([("account".into(), json!(account)), ("id".into(), json!(id(call)))]))
}

/// A settle of the same id with another cost, which must be refused.
#[must_use]
pub fn conflicting_settle(workload: &Workload, account: &str, call: &Call) -> Bytes {
    let mut body = common(workload, account, call);
    body.insert("amount".into(), json!(call.cost + 1));
    bytes(body)
}

fn common(workload: &Workload, account: &str, call: &Call) -> Map<String, Value> {
    let model = &workload.profile.models[call.model];
    Map::from_iter([
        ("account".into(), json!(account)),
        ("key".into(), json!(key(call.key))),
        ("id".into(), json!(id(call))),
        ("platform".into(), json!(model.platform)),
        ("model".into(), json!(model.model)),
    ])
}

fn bytes(body: Map<String, Value>) -> Bytes {
    Bytes::from(Value::Object(body).to_string())
}
