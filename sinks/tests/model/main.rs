//! The protocol of claims, fences and commits, explored exhaustively: every state within bounds, and from each a quiet continuation.
//!
//! Two workers, two partitions, two or three offsets of which one holds no visible record. Whatever can go wrong between Kafka's group,
//! the database and a worker goes wrong at every moment; that the rules of the product hold then is asked of the product itself
//! ([`product`]): the fence, the start, the rows as claims and batches leave them, the idle check, the outcome of a lost reply.
//!
//! | file | holds |
//! | --- | --- |
//! | `state`, `normal` | a state in 40 bytes, and one form for all that differ in names only |
//! | `action` | everything that can happen |
//! | `rules` | what must hold in every state, and at rest |
//! | `world`, `claims`, `batches` | what each step does |
//! | `search`, `tell` | breadth first; the shortest way to what is wrong, in words |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "a model's numbers are small")]

mod action;
mod batches;
mod claims;
mod normal;
mod product;
mod rules;
mod search;
mod state;
mod tell;
mod world;

use std::time::Instant;

use action::Fault;
use rules::{Bounds, Mistake, Rules};
use search::{Explored, explore};

const ALL: &[Fault] = &[
    Fault::Crash,
    Fault::Switch,
    Fault::Revoke,
    Fault::Steal,
    Fault::StrangerClaims,
    Fault::ClaimUnseen,
    Fault::LostReply,
    Fault::StaleLookUp,
    Fault::OffsetDeleted,
    Fault::OffsetReset,
    Fault::Restore,
];

const BASE: Bounds = Bounds { partitions: 2, offsets: 2, invisible: 1, latest: false, exactly_once: true, faults: 2, restores: 1, kinds: ALL, mistake: None };
/// One partition, of which more is read and with which more goes wrong.
const ONE: Bounds = Bounds { partitions: 1, offsets: 3, faults: 3, ..BASE };

/// One more in `tests/run long`, which takes ten minutes and a GiB.
fn faults(few: u8) -> u8 {
    few + u8::from(std::env::var("ONCESINK_TEST_TIER").is_ok_and(|tier| tier == "long"))
}

fn run(name: &str, bounds: Bounds) -> Explored {
    let started = Instant::now();
    let faults = bounds.faults;
    let explored = explore(&Rules::new(bounds));
    let Explored { states, steps, depth, .. } = explored;
    let seconds = started.elapsed().as_secs_f64();
    println!("{name}, up to {faults} faults: {states} states, {steps} steps, the farthest {depth} steps away, {seconds:.1} s");
    explored
}

/// Explores all of it, and finds nothing wrong.
#[track_caller]
fn holds(name: &str, bounds: Bounds) {
    let few = bounds.faults;
    if let Some(wrong) = run(name, Bounds { faults: faults(few), ..bounds }).wrong {
        panic!("{name}:\n{wrong}");
    }
}

#[test]
fn exactly_once_in_two_partitions() {
    holds("exactly-once, two partitions", BASE);
}

#[test]
fn exactly_once_in_one_partition() {
    holds("exactly-once, one partition", ONE);
    holds("exactly-once from latest, one partition", Bounds { latest: true, ..ONE });
}

#[test]
fn at_least_once_in_two_partitions() {
    holds("at-least-once, two partitions", Bounds { exactly_once: false, faults: 1, ..BASE });
    holds("at-least-once from latest, two partitions", Bounds { exactly_once: false, latest: true, faults: 1, ..BASE });
}

#[test]
fn at_least_once_in_one_partition() {
    holds("at-least-once, one partition", Bounds { exactly_once: false, ..ONE });
    holds("at-least-once from latest, one partition", Bounds { exactly_once: false, latest: true, faults: 2, ..ONE });
}

/// Who tests the tester: each of these leaves a rule out, and the shortest way to the harm is told.
#[test]
fn planted_mistakes_are_found() {
    let weak = Bounds { exactly_once: false, ..ONE };
    let mistakes = [
        (Mistake::NoFloor, Bounds { latest: true, ..weak }, "lost"),
        (Mistake::NoFloor, ONE, "above the checkpoint"),
        (Mistake::NoDurable, weak, "lost"),
        (Mistake::EpochZeroAdopted, Bounds { latest: true, ..BASE }, "lost"),
        (Mistake::EpochZeroAdopted, Bounds { latest: true, kinds: &[Fault::Restore], ..BASE }, "lost"),
        (Mistake::NoClaimId, ONE, "another has taken over"),
        (Mistake::BlindRetry, ONE, "takes effect again"),
        (Mistake::CommitFirst, ONE, "only 0 is durable"),
        (Mistake::NoIdleCheck, ONE, "nothing is left to do"),
        (Mistake::EpochNotRaised, ONE, "with epoch 1 after 1"),
    ];
    for (mistake, bounds, harm) in mistakes {
        let wrong = run(&format!("{mistake:?}"), Bounds { mistake: Some(mistake), ..bounds }).wrong;
        let wrong = wrong.unwrap_or_else(|| panic!("{mistake:?} was not found"));
        println!("{wrong}\n");
        assert!(wrong.contains(harm), "{mistake:?} does other harm than `{harm}`");
    }
}
