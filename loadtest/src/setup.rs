//! Makes the accounts and keys of a run through the admin API, each with the terms the journal has
//! for it.

use std::sync::Arc;

use hyper::{Method, body::Bytes};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    audit,
    client::Client,
    journal::{Journal, Terms},
    profile::Profile,
    wire::{self, LimitState},
    workload::Workload,
};

/// Creates everything, a few accounts at a time, telling `progress` after each. Answers the first
/// account's limits as the server shows them: when their windows end tells later whether the run
/// stayed within them.
///
/// # Errors
/// A sentence with the server's answer when something cannot be made.
pub async fn create(
    admin: &Arc<Client>,
    gateway: &Client,
    workload: &Workload,
    journal: &Journal,
    progress: impl Fn(),
) -> Result<Vec<LimitState>, String> {
    let mut creations = JoinSet::new();
    for (index, account) in journal.names().iter().enumerate() {
        let terms = journal.terms(index);
        let body = account_body(&workload.profile, &terms);
        let (admin, account, keys) = (Arc::clone(admin), account.clone(), workload.profile.keys);
        creations.spawn(async move {
            put(&admin, &format!("/admin/v1/accounts/{account}"), &body).await?;
            for key in 0..keys {
                let path = format!("/admin/v1/accounts/{account}/keys/{}", wire::key(key as usize));
                put(&admin, &path, &json!({"allowance": terms.allowance})).await?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(creation) = creations.join_next().await {
        creation.map_err(|error| format!("an account's creation failed: {error}"))??;
        progress();
    }
    Ok(audit::sheet(gateway, &journal.names()[0]).await?.limits)
}

fn account_body(profile: &Profile, terms: &Terms) -> Value {
    let limit = |(limit, cap): (&crate::profile::Limit, &i64)| {
        json!({
            "platform": limit.platform,
            "model": "*",
            "metric": limit.metric.as_str(),
            "period": limit.period,
            "cap": cap,
        })
    };
    let limits: Vec<Value> = profile.limits.iter().zip(&terms.caps).map(limit).collect();
    json!({"initial_balance": terms.balance, "timezone": "UTC", "limits": limits})
}

async fn put(admin: &Client, path: &str, body: &Value) -> Result<(), String> {
    let reply = admin.call(Method::PUT, path, Some(Bytes::from(body.to_string()))).await.map_err(|doubt| doubt.0)?;
    if reply.status.is_success() {
        return Ok(());
    }
    Err(format!("PUT {path} was answered {} {}", reply.status, reply.text()))
}
