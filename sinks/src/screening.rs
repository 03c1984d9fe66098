//! What may be gone by of what a store remembers: over any [`Store`]. Why it is sound: the documentation of [`crate::redis`].

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    dedup::{Dedup, DedupFacts, Event, Found, Generation, Reached, Remembered, ScreenError, Screened},
    fault::{Fault, FaultClass},
    model::{ClaimId, Coordinate, EventIdKind, NextOffset, Partition},
    planted,
};

/// How often a screening begins anew within one call, because the state has changed meanwhile. Each change is a claim of somebody or
/// a loss of the store: of more than a few in a row a person should hear.
const ROUNDS: usize = 4;

/// A server with the marks of one pipeline, and its *state*: the generation in force, and for each partition the claim that holds it and its
/// next offset. Whatever concerns the state is one step.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    async fn verify(&self) -> Result<DedupFacts, Fault>;

    /// Takes partitions over. Where the stored offset is above the claim's, the database has gone back: the state begins anew, in a new generation,
    /// with these partitions alone.
    async fn claim(&self, held: &[Reached]) -> Result<(Generation, Found), Fault>;

    /// Puts back what the store has lost or a rewind has taken out: only partitions that are not there.
    async fn register(&self, held: &[Reached]) -> Result<Generation, Fault>;

    /// The state as it is, for these partitions.
    async fn state(&self, held: &[Reached]) -> Result<Seen, Fault>;

    /// Raises offsets, each only under the claim that still holds its partition, and all only in the generation that is still in force. Which were taken.
    async fn raise(&self, generation: &Generation, reached: &[Reached]) -> Result<HashMap<Partition, bool>, Fault>;

    /// For each event the record that its mark names.
    async fn marks(&self, generation: &Generation, events: &[Event<'_>]) -> Result<Vec<Option<Coordinate>>, Fault>;

    async fn mark(&self, generation: &Generation, events: &[Event<'_>]) -> Result<(), Fault>;
}

/// The state as it was read, for the partitions that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub generation: Option<Generation>,
    /// One for each partition, in their order.
    pub partitions: Vec<Option<Stands>>,
}

/// What the store knows of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    pub claim: ClaimId,
    pub durable: NextOffset,
}

/// The remembered events of one pipeline.
#[derive(Debug)]
pub struct Screening<S> {
    store: S,
    own: Mutex<Own>,
}

/// What this worker knows. The store may know better of everything but how far the database has come under our own claims.
#[derive(Debug, Default)]
struct Own {
    generation: Option<Generation>,
    held: HashMap<Partition, Reached>,
}

/// What a screening may go by.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The generation is in force, and all partitions are held by these claims and not beyond them.
    Sound,
    /// It is another one.
    Other(Generation),
    /// The store has lost these, or a rewind has taken them out.
    Missing(Vec<usize>),
    /// Held by other claims, or known further than the database has come.
    NotHeld(Vec<usize>),
}

impl Seen {
    fn judge(&self, generation: &Generation, held: &[Reached]) -> Verdict {
        let positions = |is: fn(&Option<Stands>, &Reached) -> bool| -> Vec<usize> {
            (0..held.len()).filter(|index| self.partitions.get(*index).is_some_and(|stands| is(stands, &held[*index]))).collect()
        };
        let not_held = positions(|stands, held| stands.is_some_and(|stands| stands.claim != held.claim || stands.durable > held.durable));
        if !not_held.is_empty() {
            return Verdict::NotHeld(not_held);
        }
        let Some(current) = &self.generation else { return Verdict::Missing((0..held.len()).collect()) };
        let missing = positions(|stands, _| stands.is_none());
        if !missing.is_empty() {
            return Verdict::Missing(missing);
        }
        if current == generation || planted!(ScreensByOldGeneration) { Verdict::Sound } else { Verdict::Other(current.clone()) }
    }
}

/// Whether a mark says that its event is durable in the database as it is now. Of a partition that is not ours the generation is the witness.
fn is_known(mark: Option<Coordinate>, durable: &HashMap<&Partition, NextOffset>) -> bool {
    let Some(mark) = mark else { return false };
    planted!(MarkAboveDatabaseIsBelieved) || durable.get(&mark.partition).is_none_or(|durable| mark.offset < durable.get())
}

/// The events whose marks are read.
struct Asked<'a> {
    events: Vec<Event<'a>>,
    /// Of each, among those that are screened.
    positions: Vec<usize>,
}

impl<'a> Asked<'a> {
    /// An id that is its record's own coordinate is marked by that record alone, and a mark that names a record above the database is not believed.
    /// So of such ids only those are asked for whose records are read again.
    fn of(events: &[Event<'a>], held: &[Reached]) -> Self {
        let durable = durable(held);
        let is_asked = |event: &Event<'_>| match event.id_kind {
            EventIdKind::Producer => true,
            EventIdKind::Coordinate => durable.get(event.partition).is_none_or(|durable| event.offset < durable.get()),
        };
        let (positions, events) = events.iter().copied().enumerate().filter(|(_, event)| is_asked(event)).unzip();
        Self { events, positions }
    }
}

fn durable<'a>(reached: impl IntoIterator<Item = &'a Reached>) -> HashMap<&'a Partition, NextOffset> {
    reached.into_iter().map(|reached| (&reached.partition, reached.durable)).collect()
}

impl<S: Store> Screening<S> {
    pub fn new(store: S) -> Self {
        Self { store, own: Mutex::default() }
    }

    pub fn store(&self) -> &S {
        &self.store
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        // Whoever panicked held it for one assignment.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These partitions as this worker holds them, in a fixed order; or those that it never claimed.
    fn held(&self, partitions: &BTreeSet<&Partition>) -> Result<Vec<Reached>, ScreenError> {
        let own = self.own();
        let unknown: Vec<Partition> = partitions.iter().filter(|partition| !own.held.contains_key(**partition)).map(|partition| (*partition).clone()).collect();
        if !unknown.is_empty() {
            return Err(ScreenError::NotHeld(unknown));
        }
        Ok(partitions.iter().filter_map(|partition| own.held.get(*partition).cloned()).collect())
    }

    async fn generation(&self, held: &[Reached]) -> Result<Generation, Fault> {
        let known = self.own().generation.clone();
        match known {
            Some(generation) => Ok(generation),
            None => self.register(held).await,
        }
    }

    async fn register(&self, held: &[Reached]) -> Result<Generation, Fault> {
        let generation = self.store.register(held).await?;
        self.own().generation = Some(generation.clone());
        Ok(generation)
    }
}

#[async_trait]
impl<S: Store> Dedup for Screening<S> {
    async fn verify(&self) -> Result<DedupFacts, Fault> {
        self.store.verify().await
    }

    async fn claimed(&self, held: &[Reached]) -> Result<Found, Fault> {
        if held.is_empty() {
            return Ok(Found::default());
        }
        let (generation, found) = self.store.claim(held).await?;
        let mut own = self.own();
        own.generation = Some(generation);
        for held in held {
            own.held.insert(held.partition.clone(), held.clone());
        }
        Ok(found)
    }

    async fn screen(&self, events: &[Event<'_>]) -> Result<Screened, ScreenError> {
        let partitions: BTreeSet<&Partition> = events.iter().map(|event| event.partition).collect();
        let held = self.held(&partitions)?;
        let asked = Asked::of(events, &held);
        let mut generation = self.generation(&held).await?;
        for _ in 0..ROUNDS {
            let marks = self.store.marks(&generation, &asked.events).await?;
            // Only now: what holds after the marks were read held while they were.
            let seen = self.store.state(&self.held(&partitions)?).await?;
            // Our own marks move on while the store answers, and are never a rewind.
            let held = self.held(&partitions)?;
            let pick = |positions: Vec<usize>| positions.into_iter().filter_map(|position| held.get(position).cloned()).collect::<Vec<_>>();
            match seen.judge(&generation, &held) {
                Verdict::Sound => {
                    let durable = durable(&held);
                    let mut known = vec![false; events.len()];
                    for (position, mark) in asked.positions.into_iter().zip(marks) {
                        known[position] = is_known(mark, &durable);
                    }
                    self.own().generation = Some(generation.clone());
                    return Ok(Screened { known, generation });
                }
                Verdict::Other(current) => generation = current,
                Verdict::Missing(missing) => generation = self.register(&pick(missing)).await?,
                Verdict::NotHeld(others) => return Err(ScreenError::NotHeld(pick(others).into_iter().map(|held| held.partition).collect())),
            }
        }
        Err(Fault::new(FaultClass::Retry, "redis-unsteady", "the generation in Redis changes all the time").into())
    }

    async fn remember(&self, generation: &Generation, reached: &[Reached], events: &[Event<'_>]) -> Result<Remembered, Fault> {
        if reached.is_empty() {
            return Ok(Remembered::default());
        }
        {
            // First: a screening that meets the raised offset must not take it for a rewind.
            let mut own = self.own();
            for reached in reached {
                if let Some(held) = own.held.get_mut(&reached.partition).filter(|held| held.claim == reached.claim) {
                    held.durable = held.durable.max(reached.durable);
                }
            }
        }
        // Acknowledged before the first mark: a mark without it could outlive a rewind that nobody sees.
        let taken = self.store.raise(generation, reached).await?;
        let (taken, passed_over): (Vec<&Reached>, Vec<&Reached>) = reached.iter().partition(|reached| taken.get(&reached.partition) == Some(&true));
        let durable = durable(taken);
        let is_durable = |event: &&Event<'_>| durable.get(event.partition).is_some_and(|durable| event.offset < durable.get());
        let marks: Vec<Event<'_>> = events.iter().filter(is_durable).copied().collect();
        self.store.mark(generation, &marks).await?;
        Ok(Remembered { passed_over: passed_over.iter().map(|reached| reached.partition.clone()).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u8) -> Generation {
        Generation::new(format!("{number:016x}"))
    }

    fn reached(index: i32, claim: i64, durable: i64) -> Reached {
        Reached { partition: Partition::new("orders", index), claim: ClaimId(claim), durable: NextOffset::new(durable) }
    }

    fn at(claim: i64, durable: i64) -> Option<Stands> {
        Some(Stands { claim: ClaimId(claim), durable: NextOffset::new(durable) })
    }

    #[test]
    fn what_was_read_is_judged() {
        let held = [reached(0, 1, 50), reached(1, 2, 70)];
        let judge = |generation_seen: Option<u8>, partitions: [Option<Stands>; 2]| {
            Seen { generation: generation_seen.map(generation), partitions: partitions.to_vec() }.judge(&generation(1), &held)
        };
        assert_eq!(judge(Some(1), [at(1, 50), at(2, 0)]), Verdict::Sound);
        assert_eq!(judge(Some(2), [at(1, 50), at(2, 0)]), Verdict::Other(generation(2)));
        assert_eq!(judge(Some(1), [None, at(2, 0)]), Verdict::Missing(vec![0]));
        assert_eq!(judge(Some(2), [at(1, 51), None]), Verdict::NotHeld(vec![0]), "further than the database");
        assert_eq!(judge(Some(1), [at(1, 50), at(3, 0)]), Verdict::NotHeld(vec![1]), "another claim");
        assert_eq!(judge(None, [None, None]), Verdict::Missing(vec![0, 1]));
    }

    #[test]
    fn a_mark_above_the_database_is_not_believed() {
        let (ours, another) = (Partition::new("orders", 0), Partition::new("orders", 1));
        let durable = HashMap::from([(&ours, NextOffset::new(50))]);
        let known = |coordinate: Coordinate| is_known(Some(coordinate), &durable);
        assert!(known(ours.at(49)) && !known(ours.at(50)));
        assert!(known(another.at(99)));
        assert!(!is_known(None, &durable));
    }
}
