//! The product's engine, started as a process of the simulation.

use std::{future::Future, sync::Arc};

use oncesink::{
    engine::{EngineSettings, Parts, Report, run},
    route::Router,
    source::{Channels, Source},
};
use oncesink_sinks::transaction::Transactional;
use tokio::sync::watch;

/// Runs an engine to its end and says how it ended.
pub fn start(
    settings: EngineSettings,
    source: Box<dyn Source>,
    channels: Channels,
    sink: Arc<Transactional>,
    router: Arc<dyn Router>,
    seed: u64,
    report: watch::Sender<Report>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = String> + Send + 'static {
    async move {
        let parts = Parts { settings, source, channels, sink: sink.clone(), checkpoint: sink, router, seed, report };
        let ended = run(parts, shutdown).await;
        let halted = ended.report.partitions.values().filter(|partition| partition.is_halted()).count();
        format!("{halted} halted, drain cut {}, gave up {:?}, failed {:?}", ended.drain_cut, ended.gave_up, ended.failed)
    }
}
