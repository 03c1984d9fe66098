//! What records cost, and the medians of some rounds.

use super::{Run, cpu, median};
use crate::servers::Server;

#[derive(Clone, Copy)]
pub struct Figure {
    /// Records a second.
    pub rate: f64,
    /// Seconds of a processor a million records.
    pub own: f64,
    pub database: f64,
}

impl Figure {
    /// Of a run over so many records into a database of this server, or into a file.
    pub fn of(server: Option<&Server>, count: usize, run: impl FnOnce() -> Run) -> Self {
        let seconds = || server.map_or(0.0, |server| cpu::seconds_of(server.get("pid").parse().expect("a pid")));
        let before = seconds();
        let Run { rate, own, .. } = run();
        let millions = f64::from(u32::try_from(count).expect("small")) / 1e6;
        Self { rate, own: own / millions, database: (seconds() - before) / millions }
    }

    pub fn median(figures: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| median(figures.iter().map(value).collect());
        Self { rate: of(|figure| figure.rate), own: of(|figure| figure.own), database: of(|figure| figure.database) }
    }
}
