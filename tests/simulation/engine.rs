//! The product's engine, started as a process of the simulation.

use std::future::Future;

use oncesink::engine::{Parts, run};

/// Runs an engine to its end and says how it ended.
pub async fn start(parts: Parts, shutdown: impl Future<Output = ()> + Send + 'static) -> String {
    let ended = run(parts, shutdown).await;
    let halted = ended.report.partitions.values().filter(|partition| partition.is_halted()).count();
    format!("{halted} halted, drain cut {}, gave up {:?}, failed {:?}", ended.drain_cut, ended.gave_up, ended.failed)
}
