//! A store of events in Redis.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;

use super::{
    connection::Link,
    facts,
    marks::{Keys, coordinate},
    options::{RedisOptions, RedisOptionsError},
    state::State,
};
use crate::{
    dedup::{DedupFacts, Event, Found, Generation, Reached},
    fault::Fault,
    model::{Coordinate, Partition},
    screening::{Screening, Seen, Store},
};

/// The remembered events of one pipeline in Redis.
pub type RedisDedup = Screening<RedisStore>;

/// Understands the options; connects to nothing.
///
/// # Errors
/// What a person must write differently.
pub fn open(pipeline: &str, options: &RedisOptions) -> Result<RedisDedup, RedisOptionsError> {
    let keys = Keys::new(&options.prefix, pipeline);
    let state = State::new(keys.state());
    Ok(Screening::new(RedisStore { link: Link::new(options)?, keys, state, ttl: options.ttl, allow_eviction: options.allow_eviction }))
}

/// The marks and the state of one pipeline.
#[derive(Debug)]
pub struct RedisStore {
    link: Link,
    keys: Keys,
    state: State,
    ttl: Duration,
    allow_eviction: bool,
}

#[async_trait]
impl Store for RedisStore {
    async fn verify(&self) -> Result<DedupFacts, Fault> {
        let facts = facts::read(&self.link, self.allow_eviction).await?;
        // Marks are read where records are read again: that it is allowed should not be found out then.
        self.link.values(&[self.keys.never_written()]).await.map(|_| facts)
    }

    async fn claim(&self, held: &[Reached]) -> Result<(Generation, Found), Fault> {
        self.state.claim(&self.link, held).await
    }

    async fn register(&self, held: &[Reached]) -> Result<Generation, Fault> {
        self.state.register(&self.link, held).await
    }

    async fn state(&self, held: &[Reached]) -> Result<Seen, Fault> {
        self.state.read(&self.link, held).await
    }

    async fn raise(&self, generation: &Generation, reached: &[Reached]) -> Result<HashMap<Partition, bool>, Fault> {
        self.state.raise(&self.link, generation, reached).await
    }

    async fn marks(&self, generation: &Generation, events: &[Event<'_>]) -> Result<Vec<Option<Coordinate>>, Fault> {
        self.link.values(&self.keys.marks(generation, events)).await?.into_iter().map(coordinate).collect()
    }

    async fn mark(&self, generation: &Generation, events: &[Event<'_>]) -> Result<(), Fault> {
        self.link.all(self.keys.remember(generation, events, self.ttl)).await.map(drop)
    }
}
