//! What the engine knows of a database: it describes tables, and its writers apply batches.

use std::fmt;

use async_trait::async_trait;

use crate::{
    fault::Fault,
    model::{Batch, Partition, Table, TableName},
    outcome::Standing,
};

/// Where rows go. Cheap to share.
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync {
    /// The table as the catalogue has it now. A missing table is a fault of class `Halt`, reason `missing-table`.
    async fn describe(&self, table: &TableName) -> Result<Table, Fault>;

    /// One more writer. It connects when it is first used, and again after whatever broke its connection.
    fn writer(&self) -> Box<dyn Writer>;
}

/// One connection that applies batches, one after the other. Never cancelled: it is driven to the end in a task of its own.
#[async_trait]
pub trait Writer: fmt::Debug + Send {
    /// Fence, rows, checkpoint, COMMIT. `Ok` means it is durable.
    async fn apply(&mut self, batch: &Batch) -> Result<Applied, ApplyError>;
}

/// What a batch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// For each entry of [`crate::model::Content::rows`], how many of its rows lost against a newer version.
    pub stale: Vec<u64>,
    /// For each entry likewise, how many were left out because their event had been processed before, or found the row of their key there and
    /// left it as it is.
    pub deduplicated: Vec<u64>,
}

/// Why a batch did not take effect, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// Not every partition is ours as expected; nothing was written. One entry a span, in their order.
    Fenced(Vec<(Partition, Standing)>),
    /// COMMIT was sent and its reply is lost: only the database knows.
    Unknown(Fault),
    /// It failed, and nothing was written.
    Failed(Fault),
}
