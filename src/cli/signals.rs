//! SIGTERM and SIGINT. `run` drains at the first and ends at once at the second; every other command has nothing to finish.
//!
//! They are heard by a thread of its own, so that a process ends whatever its other threads wait for. And they are always heard:
//! the first process of a container gets no signal that it does not ask for.

use std::{io, thread};

use tokio::{
    runtime::Builder,
    select,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::exit;

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
pub fn listen() -> io::Result<Shutdown> {
    let (ask, asked) = watch::channel(false);
    on_each(move |name, number| {
        let again = ask.send_replace(true);
        if again {
            tracing::warn!("{name} again: ending at once");
            exit::at_once(128 + number);
        }
        tracing::info!("{name}: stopping; a second signal ends at once");
    })?;
    Ok(Shutdown { asked })
}

/// Ends the process at the first signal, with 128 + its number.
pub fn end_at_the_first() -> io::Result<()> {
    on_each(|_, number| exit::at_once(128 + number))
}

fn on_each(mut heard: impl FnMut(&str, u8) + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    drop(entered);
    let listening = move || {
        runtime.block_on(async move {
            loop {
                select! {
                    Some(()) = terminate.recv() => heard("SIGTERM", 15),
                    Some(()) = interrupt.recv() => heard("SIGINT", 2),
                    else => break,
                }
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listening)?;
    Ok(())
}
