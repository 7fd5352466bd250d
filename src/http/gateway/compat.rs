//! What clients of new-api read of their key, in its shapes: `/dashboard/billing/subscription`, `/dashboard/billing/usage`
//! (both also below `/v1`) and `/api/usage/token`. The bearer token is the key's secret. Read-only, and answered for
//! every key that there is, whatever it may still spend.

use hyper::HeaderMap;

use super::own_key::find_without_prefix as find;
use crate::http::{
    Service,
    answer::{Answer, Handled, Media},
    error::Problem,
    wire::compat,
};

pub(super) async fn subscription(service: &Service, headers: &HeaderMap) -> Handled {
    match find(service, headers).await {
        Ok(own) => Ok(Answer::ok(&compat::Subscription::of(&own))),
        Err(problem) => Ok(in_shape(&problem, &compat::OpenAiError::of(&problem))),
    }
}

pub(super) async fn usage(service: &Service, headers: &HeaderMap) -> Handled {
    match find(service, headers).await {
        Ok(own) => Ok(Answer::ok(&compat::BillingUsage::of(&own))),
        Err(problem) => Ok(in_shape(&problem, &compat::OpenAiError::of(&problem))),
    }
}

pub(super) async fn token(service: &Service, headers: &HeaderMap) -> Handled {
    match find(service, headers).await {
        Ok(own) => Ok(Answer::ok(&compat::TokenUsage::of(&own))),
        Err(problem) => Ok(in_shape(&problem, &compat::TokenError::of(&problem))),
    }
}

/// The problem's status and headers with a body that such clients read.
fn in_shape(problem: &Problem, body: &impl serde::Serialize) -> Answer {
    let mut answer = problem.answer();
    answer.media = Media::Json;
    answer.body = Answer::ok(body).body;
    answer
}
