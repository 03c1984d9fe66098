//! Random numbers, in a stream of its own for each thing that draws them: what one draws, or a fault that is left out, shifts nothing
//! for another.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub type Dice = SmallRng;

/// The stream of one thing: its kind and its number.
pub fn stream(seed: u64, kind: &str, number: u64) -> Dice {
    let kind = xxh3_64_with_seed(kind.as_bytes(), seed);
    SmallRng::seed_from_u64(xxh3_64_with_seed(&number.to_le_bytes(), kind))
}

/// A time between these bounds, in milliseconds.
pub fn milliseconds(dice: &mut Dice, from: u64, to: u64) -> Duration {
    Duration::from_millis(dice.random_range(from..=to))
}

pub fn chance(dice: &mut Dice, percent: u32) -> bool {
    dice.random_range(0..100) < percent
}
