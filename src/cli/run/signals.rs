//! SIGTERM and SIGINT: the first asks for a drain, the second ends at once.

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// The signals that stop a process, with the names and numbers that people know.
const STOPPING: [(SignalKind, &str, i32); 2] = [(SignalKind::terminate(), "SIGTERM", 15), (SignalKind::interrupt(), "SIGINT", 2)];

/// Whether the process is asked to stop.
#[derive(Clone, Debug)]
pub struct Shutdown {
    asked: watch::Receiver<bool>,
}

impl Shutdown {
    /// Completes once a stop is asked for; at once, if it was before.
    pub async fn asked(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Begins to listen. The second signal ends the process with 128 + its number: nothing is lost, what was in flight is read again.
pub fn listen() -> std::io::Result<Shutdown> {
    let (ask, asked) = watch::channel(false);
    let mut streams: Vec<(Signal, &'static str, i32)> = Vec::new();
    for (kind, name, number) in STOPPING {
        streams.push((signal(kind)?, name, number));
    }
    for (mut stream, name, number) in streams {
        let ask = ask.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                let again = ask.send_replace(true);
                if again {
                    tracing::warn!("{name} again: ending at once");
                    std::process::exit(128 + number);
                }
                tracing::info!("{name}: stopping; a second signal ends at once");
            }
        });
    }
    Ok(Shutdown { asked })
}
