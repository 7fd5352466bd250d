//! How a verb leaves early. Inside the engine a refusal travels like an error, so that `?` carries
//! it past the steps that follow; on the way out it becomes the verdict it is.

use super::{
    Answer,
    ports::{StoreError, Unavailable},
};
use crate::quota::verdict::{Refusal, Verdict};

/// Why a verb ends before its last step.
#[derive(Debug)]
pub(crate) enum Stop {
    Refused(Box<Refusal>),
    Unavailable(Unavailable),
}

pub(crate) type Step<T> = Result<T, Stop>;

/// What a verb did, and whether it was done before by the same call.
pub(crate) struct Done<T> {
    pub(crate) answer: T,
    pub(crate) replayed: bool,
}

impl<T> Done<T> {
    pub(crate) fn now(answer: T) -> Self {
        Self { answer, replayed: false }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(Box::new(refusal))
    }
}

impl From<Unavailable> for Stop {
    fn from(unavailable: Unavailable) -> Self {
        Stop::Unavailable(unavailable)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { field, detail } => Refusal::invalid(field, detail).into(),
            StoreError::Unavailable(_) | StoreError::Corrupt(_) => Unavailable::from(error).into(),
        }
    }
}

pub(crate) fn verdict<T>(step: Step<Done<T>>) -> Answer<T> {
    match step {
        Ok(Done { answer, replayed }) => Ok(Verdict::Done { answer, replayed }),
        Err(Stop::Refused(refusal)) => Ok(Verdict::Refused(*refusal)),
        Err(Stop::Unavailable(unavailable)) => Err(unavailable),
    }
}
