//! `/metrics`, `/healthz`, `/readyz`, `/openapi.json`: no token.

use std::sync::OnceLock;

use hyper::StatusCode;

use crate::http::{
    answer::{Answer, Handled, Media},
    error::{Problem, Word},
    openapi,
    route::{Call, Route},
};

pub(in crate::http) fn probes(route: Route<'_>, call: &Call<'_>) -> Handled {
    match (route, &call.service.exporter) {
        (Route::Healthz, _) => Ok(Answer::ok(&serde_json::json!({"status": "ok"}))),
        (Route::Readyz, _) => {
            let readiness = call.service.health.readiness();
            let mut answer = Answer::ok(&readiness);
            if !readiness.ready {
                answer.status = StatusCode::SERVICE_UNAVAILABLE;
                answer.code = "unavailable";
                answer.header(hyper::header::RETRY_AFTER, 1.into());
            }
            Ok(answer)
        }
        (Route::Openapi, _) => {
            static DOCUMENT: OnceLock<String> = OnceLock::new();
            let document = DOCUMENT.get_or_init(openapi::document);
            Ok(Answer::new(StatusCode::OK, Media::Json, document.clone().into(), "ok"))
        }
        (Route::Metrics, Some(exporter)) => {
            Ok(Answer::new(StatusCode::OK, Media::Prometheus, exporter.render().into(), "ok"))
        }
        _ => Err(Problem::new(Word::NotFound, "no resource has this path")),
    }
}
