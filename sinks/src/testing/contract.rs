//! The contract as a list of checks, and what came of them.

use std::{fmt, pin::Pin, time::Duration};

use tokio::time::timeout;

use super::{Feature, Fixture, TableLayout, broken::Broken, trial::Trial};

/// Longer than any sink should take over a check: one that waits for itself must not hang the test.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send + 'a>>;

/// One rule of the contract.
#[derive(Clone, Copy)]
pub struct Check {
    pub name: &'static str,
    /// What a sink must declare to be asked.
    pub needs: &'static [Feature],
    pub(super) layout: fn(&[Feature]) -> TableLayout,
    pub(super) run: for<'a> fn(&'a Trial) -> Running<'a>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Kept,
    /// What was expected and what was found.
    Broken(String),
    /// The sink does not declare these.
    LeftOut(Vec<Feature>),
}

/// What came of every check, in the order of the contract. Printed, it is a line a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Report {
    pub outcomes: Vec<(&'static str, Outcome)>,
}

impl Report {
    /// No check found anything, and at least one was made.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.broken().next().is_none() && self.outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Kept)
    }

    /// The checks that found something, by name.
    pub fn broken(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Broken(_))).map(|(name, _)| *name)
    }

    /// The checks that were not made, by name.
    pub fn left_out(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::LeftOut(_))).map(|(name, _)| *name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome) in &self.outcomes {
            match outcome {
                Outcome::Kept => writeln!(f, "kept      {name}")?,
                Outcome::Broken(why) => writeln!(f, "BROKEN    {name}: {why}")?,
                Outcome::LeftOut(features) => {
                    let features: Vec<String> = features.iter().map(Feature::to_string).collect();
                    writeln!(f, "left out  {name}: not declared: {}", features.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

/// Every check, in order.
#[must_use]
pub fn checks() -> Vec<Check> {
    super::checks::all()
}

/// Makes every check, one after the other, each in a place of its own.
///
/// It fails by nothing but its report. Cancelled, it leaves the place of the check that it was at.
pub async fn run(fixture: &dyn Fixture) -> Report {
    let features = fixture.features();
    let mut outcomes = Vec::new();
    for check in checks() {
        let missing: Vec<Feature> = check.needs.iter().copied().filter(|feature| !features.contains(feature)).collect();
        let outcome = if missing.is_empty() { outcome(&check, fixture, &features).await } else { Outcome::LeftOut(missing) };
        outcomes.push((check.name, outcome));
    }
    Report { outcomes }
}

/// Makes one check.
async fn outcome(check: &Check, fixture: &dyn Fixture, features: &[Feature]) -> Outcome {
    let layout = (check.layout)(features);
    let place = match fixture.fresh(&layout).await {
        Ok(place) => place,
        Err(error) => return Outcome::Broken(format!("the fixture gave no place: {error}")),
    };
    let trial = Trial::new(place, layout, features.to_vec());
    let result = match timeout(LIMIT, (check.run)(&trial)).await {
        Ok(result) => result.map_err(Broken::into_text),
        Err(_) => Err(format!("it did not end within {} s", LIMIT.as_secs())),
    };
    match (result, trial.close().await) {
        (Err(why), _) => Outcome::Broken(why),
        (Ok(()), Err(error)) => Outcome::Broken(format!("the fixture could not take the place away: {error}")),
        (Ok(()), Ok(())) => Outcome::Kept,
    }
}
