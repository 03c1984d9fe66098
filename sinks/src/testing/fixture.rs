use std::{error::Error, fmt, sync::Arc};

use async_trait::async_trait;

use super::{Feature, TableLayout, Value};
use crate::{checkpoint::Checkpoint, sink::Sink};

/// Why a place could not be made or read: anything that `?` takes.
pub type FixtureError = Box<dyn Error + Send + Sync>;

/// What the author of a sink implements: where checks may write, and what the sink can do.
#[async_trait]
pub trait Fixture: fmt::Debug + Send + Sync {
    /// A check that asks for anything else is left out, and reported so.
    fn features(&self) -> Vec<Feature>;

    /// A place of its own for one check: no checkpoint, no event id, no tombstone, and one empty table of this layout.
    async fn fresh(&self, layout: &TableLayout) -> Result<Box<dyn Place>, FixtureError>;
}

/// A database, a file, a directory: where one check writes. One table is there, by the name of its layout.
#[async_trait]
pub trait Place: fmt::Debug + Send + Sync {
    /// Opens the place as one more process would: what it shares with the others is in the place, and nowhere else.
    async fn open(&self) -> Result<Process, FixtureError>;

    /// The rows of the table, in any order, each with all columns in the order of the layout. Read beside the sink, as others would.
    async fn rows(&self) -> Result<Vec<Vec<Value>>, FixtureError>;

    /// Takes the place away, after the check, whatever came of it.
    async fn close(self: Box<Self>) -> Result<(), FixtureError> {
        Ok(())
    }
}

/// The sink and the checkpoints of one process; mostly one object.
#[derive(Clone, Debug)]
pub struct Process {
    pub sink: Arc<dyn Sink>,
    pub checkpoint: Arc<dyn Checkpoint>,
}

impl Process {
    #[must_use]
    pub fn of<T: Sink + Checkpoint + 'static>(both: T) -> Self {
        let both = Arc::new(both);
        Self { sink: both.clone(), checkpoint: both }
    }
}
