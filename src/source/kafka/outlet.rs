use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::mpsc::UnboundedSender;

use crate::source::{Buffer, Change, Input};

/// The thread's end of the channels. It can be closed from outside, so that the engine is never kept waiting by a client that hangs.
#[derive(Debug)]
pub(super) struct Outlet {
    channels: Mutex<Option<(UnboundedSender<Change>, UnboundedSender<Input>)>>,
    buffer: Arc<Buffer>,
    deserted: AtomicBool,
}

impl Outlet {
    pub(super) fn new(changes: UnboundedSender<Change>, inputs: UnboundedSender<Input>, buffer: Arc<Buffer>) -> Self {
        Self { channels: Mutex::new(Some((changes, inputs))), buffer, deserted: AtomicBool::new(false) }
    }

    pub(super) fn change(&self, change: Change) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.as_ref().is_none_or(|(changes, _)| changes.send(change).is_err()) {
            self.deserted.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn input(&self, input: Input) {
        let cost = if let Input::Records(records) = &input { records.cost() } else { 0 };
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        self.buffer.add(cost);
        if channels.as_ref().is_none_or(|(_, inputs)| inputs.send(input).is_err()) {
            self.buffer.release(cost);
            self.deserted.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Nobody listens any more.
    pub(super) fn is_deserted(&self) -> bool {
        self.deserted.load(Ordering::Relaxed)
    }

    /// Ends the channels.
    pub(super) fn close(&self) {
        *self.channels.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
