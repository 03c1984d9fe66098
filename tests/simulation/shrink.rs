//! From the faults of a failing seed to a few that still make it fail.

use std::collections::BTreeSet;

use oncesink_sinks::planted::Bug;

use crate::seeds::{Outcome, simulate_without};

/// Runs of a seed that its shrinking may cost.
const MOST_RUNS: usize = 40;

/// A failing seed with as few of its faults as were found to be enough.
pub struct Shrunk {
    /// The numbers of the faults that are left.
    pub kept: Vec<u32>,
    pub runs: usize,
    pub outcome: Outcome,
}

/// Leaves out what can be left out of the faults of a failing seed.
pub fn shrink(failed: &Outcome, bug: Option<Bug>) -> Shrunk {
    let all: Vec<u32> = failed.faults.iter().map(|(number, _)| *number).collect();
    let mut runs = 0;
    let mut last = None;
    let kept = minimize(&all, MOST_RUNS, |kept| {
        runs += 1;
        let outcome = simulate_without(failed.seed, bug, &others(kept));
        let fails = !outcome.violations.is_empty();
        if fails {
            last = Some(outcome);
        }
        fails
    });
    let outcome = last.unwrap_or_else(|| simulate_without(failed.seed, bug, &others(&kept)));
    Shrunk { kept, runs, outcome }
}

/// The numbers of all faults but these: a fault that did nothing among the others might do something without them.
pub fn others(kept: &[u32]) -> BTreeSet<u32> {
    (1..1000).filter(|number| !kept.contains(number)).collect()
}

/// Delta debugging: leaves out ever smaller pieces, as long as what remains still fails. Costs at most `budget` questions.
fn minimize(all: &[u32], budget: usize, mut fails: impl FnMut(&[u32]) -> bool) -> Vec<u32> {
    let mut asked = 0;
    let mut ask = |kept: &[u32]| {
        asked += 1;
        asked <= budget && fails(kept)
    };
    if ask(&[]) {
        return Vec::new();
    }
    let mut kept = all.to_vec();
    let mut pieces = 2;
    while kept.len() > 1 {
        let length = kept.len().div_ceil(pieces);
        let smaller = (0..kept.len()).step_by(length).find_map(|from| {
            let to = (from + length).min(kept.len());
            let rest: Vec<u32> = kept[..from].iter().chain(&kept[to..]).copied().collect();
            ask(&rest).then_some(rest)
        });
        match smaller {
            Some(rest) => {
                kept = rest;
                pieces = (pieces - 1).max(2);
            }
            None if length == 1 => break,
            None => pieces = (pieces * 2).min(kept.len()),
        }
    }
    kept
}

#[test]
fn only_what_matters_is_kept() {
    let all: Vec<u32> = (1..=30).collect();
    let mut asked = 0;
    let kept = minimize(&all, 1000, |kept| {
        asked += 1;
        kept.contains(&3) && kept.contains(&17)
    });
    assert_eq!(kept, [3, 17]);
    assert!(asked < 60, "{asked} questions");
    assert_eq!(minimize(&all, 1000, |_| true), [0_u32; 0]);
    assert_eq!(minimize(&all, 1000, |kept| kept.len() == 30), all);
    // Out of questions: what was shown to fail last.
    let kept = minimize(&all, 5, |kept| kept.contains(&3));
    assert!(kept.contains(&3) && kept.len() < 30);
}

/// With a bug in the product, the shortened list still shows it, and is shorter.
#[test]
fn a_failing_seed_shrinks() {
    let failed = (1..101).map(|seed| simulate_without(seed, Some(Bug::BlindRetry), &BTreeSet::new())).find(|outcome| !outcome.violations.is_empty()).unwrap();
    let shrunk = shrink(&failed, Some(Bug::BlindRetry));
    println!("seed {}: {} of {} faults in {} runs", failed.seed, shrunk.kept.len(), failed.faults.len(), shrunk.runs);
    assert!(!shrunk.outcome.violations.is_empty());
    assert!(shrunk.kept.len() < failed.faults.len() / 2, "{:?} of {:?}", shrunk.kept, failed.faults);
    let again = simulate_without(failed.seed, Some(Bug::BlindRetry), &others(&shrunk.kept));
    assert_eq!(again.hash, shrunk.outcome.hash, "the shortened list replays");
    let sound = simulate_without(failed.seed, None, &others(&shrunk.kept));
    assert!(sound.violations.is_empty(), "{:?}", sound.violations);
}
