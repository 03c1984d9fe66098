//! The small web server: `/metrics`, `/live`, `/ready`, `/status`.

use std::{fmt::Write as _, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use super::metrics;

/// What the process says of itself at this moment.
#[derive(Clone, Debug)]
pub struct View {
    /// False only if the loop that serves Kafka is stuck: then, and only then, a restart helps.
    pub live: bool,
    /// Kafka, database and group are reached, and not every partition stands still.
    pub ready: bool,
    /// What is missing, and each partition that stands still.
    pub notes: Vec<String>,
    pub status: serde_json::Value,
}

/// Asked at each request.
pub type Ask = Arc<dyn Fn() -> View + Send + Sync>;

/// Installs the recorder of all metrics. To be called once.
///
/// # Errors
/// [`BuildError`], if a recorder is installed already.
pub fn record() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in metrics::BOUNDS {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)?;
    }
    let handle = builder.install_recorder()?;
    metrics::describe();
    Ok(handle)
}

/// Where people and scrapers ask.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// # Errors
    /// The operating system's, if the address is taken or not ours.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await? })
    }

    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn serve(self, recorder: PrometheusHandle, ask: Ask) -> io::Result<()> {
        let upkeep = recorder.clone();
        // Without it histograms would keep every sample that nobody scrapes.
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_secs(5));
            loop {
                clock.tick().await;
                upkeep.run_upkeep();
            }
        });
        axum::serve(self.listener, router(recorder, ask)).await
    }
}

fn router(recorder: PrometheusHandle, ask: Ask) -> Router {
    Router::new()
        .route("/metrics", get(move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], recorder.render()) }))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/status", get(status))
        .with_state(ask)
}

async fn live(State(ask): State<Ask>) -> impl IntoResponse {
    if ask().live { (StatusCode::OK, "live\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "stuck\n") }
}

async fn ready(State(ask): State<Ask>) -> impl IntoResponse {
    let view = ask();
    let mut body = String::from(if view.ready { "ready\n" } else { "not ready\n" });
    for note in &view.notes {
        let _ = writeln!(body, "{note}");
    }
    (if view.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

async fn status(State(ask): State<Ask>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], format!("{:#}\n", ask().status))
}
