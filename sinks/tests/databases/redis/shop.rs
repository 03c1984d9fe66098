//! One pipeline's events: `orders:0` at the offsets from 0 on, `orders:1` in the same way.

use oncesink_sinks::{
    dedup::{Dedup, Event, Generation, Reached, ScreenError},
    fault::Fault,
    model::{ClaimId, EventIdKind, NextOffset, Partition},
};

/// A worker's claim of one partition, and the events of its records.
#[derive(Clone, Debug)]
pub struct Lane {
    pub partition: Partition,
    pub claim: ClaimId,
    pub ids: Vec<String>,
    pub id_kind: EventIdKind,
}

impl Lane {
    pub fn new(index: i32, events: usize) -> Self {
        let ids = (0..events).map(|offset| format!("{index}-{offset:08}-4a5b-9c1d")).collect();
        Self { partition: Partition::new("orders", index), claim: ClaimId(rand::random()), ids, id_kind: EventIdKind::Producer }
    }

    /// The same records, claimed anew.
    pub fn again(&self) -> Self {
        Self { claim: ClaimId(rand::random()), ..self.clone() }
    }

    /// The same records, each of which is told by its place alone.
    pub fn by_coordinate(self) -> Self {
        Self { id_kind: EventIdKind::Coordinate, ..self }
    }

    pub fn events(&self) -> Vec<Event<'_>> {
        self.events_of("orders")
    }

    pub fn events_of<'a>(&'a self, route: &'a str) -> Vec<Event<'a>> {
        self.ids.iter().enumerate().map(|(offset, id)| Event { partition: &self.partition, offset: offset as i64, route, id, id_kind: self.id_kind }).collect()
    }

    pub fn reached(&self, durable: i64) -> Vec<Reached> {
        vec![Reached { partition: self.partition.clone(), claim: self.claim, durable: NextOffset::new(durable) }]
    }

    /// All of them.
    pub fn end(&self) -> Vec<Reached> {
        self.reached(self.ids.len() as i64)
    }

    /// How many of the events are known, and under which generation.
    pub async fn screen(&self, dedup: &dyn Dedup) -> Result<(usize, Generation), ScreenError> {
        let screened = dedup.screen(&self.events()).await?;
        assert_eq!(screened.known.len(), self.ids.len());
        Ok((screened.known.iter().filter(|known| **known).count(), screened.generation))
    }

    pub async fn known(&self, dedup: &dyn Dedup) -> usize {
        self.screen(dedup).await.unwrap().0
    }

    /// Screens, as if it then wrote, and remembers all of it.
    pub async fn remember(&self, dedup: &dyn Dedup) {
        let (_, generation) = self.screen(dedup).await.unwrap();
        let remembered = dedup.remember(&generation, &self.end(), &self.events()).await.unwrap();
        assert!(remembered.passed_over.is_empty());
    }

    /// As a batch does: why it could not.
    pub async fn work(&self, dedup: &dyn Dedup) -> Result<usize, Fault> {
        let (known, generation) = self.screen(dedup).await.map_err(|error| match error {
            ScreenError::Failed(fault) => fault,
            ScreenError::NotHeld(partitions) => panic!("{partitions:?} are not held"),
        })?;
        dedup.remember(&generation, &self.end(), &self.events()).await?;
        Ok(known)
    }
}
