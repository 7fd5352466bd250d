//! Denials: whether what the server says against a reserve hangs together. Whether it can be true is
//! the journal's question.

use crate::{journal::Ceiling, wire::Answer, workload::Call};

/// A denial that hangs together.
#[derive(Debug, PartialEq, Eq)]
pub struct Denial {
    pub code: &'static str,
    pub ceiling: Ceiling,
}

/// Reads a denial. Only three can happen in a run: no money, no allowance, a cap.
///
/// # Errors
/// A sentence when it is another one, or when its numbers would not deny the call.
pub fn judge(call: &Call, answer: &Answer) -> Result<Denial, String> {
    let denial = match answer.code.as_deref() {
        Some("insufficient_balance") => Denial { code: "insufficient_balance", ceiling: Ceiling::Balance },
        Some("key_exhausted") => Denial { code: "key_exhausted", ceiling: Ceiling::Allowance },
        Some("limit_exceeded") => Denial { code: "limit_exceeded", ceiling: Ceiling::Cap },
        other => return Err(format!("reserve was denied as {other:?}, for which there is no reason")),
    };
    if answer.requested.is_some_and(|requested| requested != call.hold) {
        return Err(format!(
            "{} names {:?} as requested, the estimate is {}",
            denial.code, answer.requested, call.hold
        ));
    }
    match denial.ceiling {
        Ceiling::Balance | Ceiling::Allowance => match answer.available {
            Some(available) if available >= call.hold => {
                Err(format!("{} with {available} available and {} requested", denial.code, call.hold))
            }
            Some(_) | None => Ok(denial),
        },
        Ceiling::Cap => {
            let over = |limit: &crate::wire::LimitState| {
                let more = if limit.metric == "cost" { call.hold } else { 1 };
                limit.cap.is_some_and(|cap| limit.used + limit.held + more > cap)
            };
            match answer.violated.iter().find(|limit| !over(limit)) {
                Some(limit) => Err(format!("a limit is named that is not exceeded by {}: {limit:?}", call.hold)),
                None if answer.violated.is_empty() => Err("limit_exceeded names no limit".into()),
                None => Ok(denial),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{profile::Profile, workload::Workload};

    fn judged(text: &str) -> Result<Denial, String> {
        let call = Call { hold: 100, ..Workload::new(Profile::load("conv").unwrap(), 1).unwrap().call(0) };
        judge(&call, &serde_json::from_str(text).unwrap())
    }

    #[test]
    fn denials_must_hang_together() {
        let good = judged(r#"{"code":"insufficient_balance","requested":100,"available":99}"#);
        assert_eq!(good, Ok(Denial { code: "insufficient_balance", ceiling: Ceiling::Balance }));
        assert!(judged(r#"{"code":"key_exhausted","requested":100,"available":-5}"#).is_ok());
        let over = r#"{"code":"limit_exceeded","violated":[{"metric":"cost","cap":150,"used":51,"held":0}]}"#;
        assert_eq!(judged(over).unwrap().ceiling, Ceiling::Cap);
        for wrong in [
            r#"{"code":"account_disabled"}"#,
            r#"{}"#,
            r#"{"code":"insufficient_balance","requested":100,"available":100}"#,
            r#"{"code":"insufficient_balance","requested":99,"available":0}"#,
            r#"{"code":"limit_exceeded","violated":[]}"#,
            r#"{"code":"limit_exceeded","violated":[{"metric":"cost","cap":150,"used":40,"held":10}]}"#,
        ] {
            assert!(judged(wrong).is_err(), "{wrong}");
        }
    }
}
