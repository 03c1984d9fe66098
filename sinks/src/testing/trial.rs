//! One run of one check: its place, and the processes that it opens there.

use super::{Broken, Feature, Place, Process, TableLayout, Value, fixture::FixtureError, worker::Worker};
use crate::model::{Delivery, WriteMode};

#[derive(Debug)]
pub(super) struct Trial {
    place: Box<dyn Place>,
    pub layout: TableLayout,
    pub features: Vec<Feature>,
}

impl Trial {
    pub fn new(place: Box<dyn Place>, layout: TableLayout, features: Vec<Feature>) -> Self {
        Self { place, layout, features }
    }

    pub async fn open(&self) -> Result<Process, Broken> {
        Ok(self.place.open().await?)
    }

    /// A worker of one more process, which holds `orders:0`.
    pub async fn worker(&self, write: WriteMode) -> Result<Worker, Broken> {
        let mut worker = self.worker_without_claim(write).await?;
        worker.claim().await?;
        Ok(worker)
    }

    /// As [`Self::worker`], under a delivery.
    pub async fn worker_under(&self, delivery: Delivery, write: WriteMode) -> Result<Worker, Broken> {
        let mut worker = self.worker_without_claim(write).await?;
        worker.request.wanted[0].delivery = delivery;
        worker.claim().await?;
        Ok(worker)
    }

    pub async fn worker_without_claim(&self, write: WriteMode) -> Result<Worker, Broken> {
        Worker::new(self.open().await?, &self.layout, write).await
    }

    /// As [`Self::worker`], for checks to which it is all the same how a row is written.
    pub async fn any_worker(&self) -> Result<Worker, Broken> {
        self.worker(self.any_mode()).await
    }

    pub fn any_mode(&self) -> WriteMode {
        any_mode(&self.features)
    }

    /// The rows of the table, sorted.
    pub async fn rows(&self) -> Result<Vec<Vec<Value>>, Broken> {
        let mut rows = self.place.rows().await?;
        rows.sort_unstable();
        Ok(rows)
    }

    /// The rows as `1|a`, sorted.
    pub async fn shown(&self) -> Result<Vec<String>, Broken> {
        let show = |row: Vec<Value>| row.iter().map(Value::to_string).collect::<Vec<_>>().join("|");
        Ok(self.rows().await?.into_iter().map(show).collect())
    }

    pub async fn close(self) -> Result<(), FixtureError> {
        self.place.close().await
    }
}

/// Append where there is a choice: it hides no repeat.
pub(super) fn any_mode(features: &[Feature]) -> WriteMode {
    if features.contains(&Feature::Append) {
        WriteMode::Append
    } else if features.contains(&Feature::Upsert) {
        WriteMode::Upsert
    } else {
        WriteMode::InsertIfNew
    }
}
