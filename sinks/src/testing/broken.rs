//! How a check says that the contract is broken.

use std::{fmt, panic::Location};

use super::FixtureError;
use crate::{fault::Fault, sink::ApplyError};

/// What was expected, what was found, and where that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken(String);

impl Broken {
    #[track_caller]
    pub fn new(what: impl fmt::Display) -> Self {
        Self(format!("{what} ({})", Location::caller()))
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

impl From<Fault> for Broken {
    #[track_caller]
    fn from(fault: Fault) -> Self {
        Self::new(format_args!("the sink failed with {} ({})", fault, fault.class.as_str()))
    }
}

impl From<FixtureError> for Broken {
    #[track_caller]
    fn from(error: FixtureError) -> Self {
        Self::new(format_args!("the fixture failed: {error}"))
    }
}

impl From<ApplyError> for Broken {
    #[track_caller]
    fn from(error: ApplyError) -> Self {
        Self::new(format_args!("a batch was not applied: {error:?}"))
    }
}

/// `what`: the rule, as a sentence.
#[track_caller]
pub(super) fn equal<T: fmt::Debug + PartialEq<U>, U: fmt::Debug>(what: &str, found: T, expected: U) -> Result<(), Broken> {
    if found == expected { Ok(()) } else { Err(Broken::new(format_args!("{what}: expected {expected:?}, found {found:?}"))) }
}

#[track_caller]
pub(super) fn holds(what: &str, found: impl fmt::Debug, holds: bool) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::new(format_args!("{what}: found {found:?}"))) }
}
