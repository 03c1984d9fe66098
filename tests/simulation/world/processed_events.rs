//! The tables of processed events of the simulated server. They do what SQL does for the real ones; all that is decided is the product's.

use async_trait::async_trait;
use oncesink_sinks::{
    fault::Fault,
    generation::{Due, Generation, Generations},
    model::{Delivery, NextOffset, Partition},
    processed_events::{EventMarks, ProcessedEvents},
};
use tokio::time::Instant;

use super::{database::Lock, events::Event, session::SimulatedSession};

fn table(generation: Generation) -> usize {
    generation.table() as usize
}

#[async_trait]
impl ProcessedEvents for SimulatedSession {
    async fn hold_generation(&mut self) -> Result<Generation, Fault> {
        self.send_write().await?;
        self.wait_for(Event::WaitedForLock, |world| world.server.hold_generation(self.connection)).await?;
        Ok(self.sim.lock().server.tables.events.newest)
    }

    async fn mark(&mut self, marks: &EventMarks<'_>) -> Result<Vec<bool>, Fault> {
        self.send_write().await?;
        let route = std::sync::Arc::from(marks.route);
        let mut is_new = Vec::with_capacity(marks.ids.len());
        if !self.sim.lock().server.holds_generation(self.connection, marks.generation) {
            self.sim.lock().story.violation(format!("{} marks events without holding their generation", self.worker));
        }
        if !marks.ids.is_sorted() {
            self.sim.lock().story.violation(format!("{} marks events out of order", self.worker));
        }
        for id in marks.ids {
            let older = marks.generation.looked_at();
            let knows = |session: &Self, generation: Generation| session.sim.lock().server.knows_event(session.connection, table(generation), &route, id);
            if older.into_iter().any(|generation| knows(self, generation)) || knows(self, marks.generation) {
                self.sim.lock().story.count(Event::KnownAlready);
                is_new.push(false);
                continue;
            }
            let lock = Lock::Event(route.clone(), format!("{}/{id}", table(marks.generation)));
            if self.sim.lock().server.is_held_by_another(self.connection, &lock) {
                self.sim.lock().story.count(Event::WaitedForSameId);
            }
            self.acquire(lock).await?;
            let is_known = knows(self, marks.generation);
            if !is_known && let Some(transaction) = self.sim.lock().server.transaction(self.connection) {
                transaction.events.push((table(marks.generation), route.clone(), (*id).to_owned()));
            }
            is_new.push(!is_known);
        }
        Ok(is_new)
    }

    async fn keep_house(&mut self) -> Result<bool, Fault> {
        self.send_write().await?;
        Ok(self.sim.lock().server.keep_house(self.connection))
    }

    async fn note_retention(&mut self, _: &str, milliseconds: i64) -> Result<(), Fault> {
        self.send_write().await?;
        self.sim.lock().server.tables.events.retention = milliseconds;
        Ok(())
    }

    async fn note_committed(&mut self, _: &str, committed: &[(Partition, NextOffset)]) -> Result<(), Fault> {
        self.send_write().await?;
        let mut world = self.sim.lock();
        for (partition, next) in committed {
            let known = world.server.tables.events.committed.entry(partition.clone()).or_insert(NextOffset::ZERO);
            *known = (*known).max(*next);
        }
        Ok(())
    }

    async fn generations(&mut self) -> Result<Generations, Fault> {
        self.send_write().await?;
        let mut world = self.sim.lock();
        let tables = &world.server.tables;
        let events = &tables.events;
        let first = events.previous_opened_at.min(events.opened_at);
        let since = |instant: Instant| i64::try_from(instant.saturating_duration_since(first).as_millis()).unwrap_or(i64::MAX);
        let waits_for = events.ends.iter().find(|((generation, partition), end)| {
            *generation == events.newest.expires_next()
                && tables.checkpoints.get(partition).is_some_and(|row| row.delivery != Delivery::ExactlyOnce)
                && events.committed.get(partition).is_none_or(|committed| committed < *end)
        });
        let generations = Generations {
            newest: events.newest,
            opened_at: since(events.opened_at),
            previous_opened_at: since(events.previous_opened_at),
            emptied: events.emptied,
            now: since(Instant::now()),
            retention: events.retention,
            waits_for: waits_for.map(|((_, partition), _)| partition.to_string()),
        };
        if matches!(generations.due(), Due::Waits { .. }) {
            world.story.count(Event::RollOverHeldBack);
        }
        Ok(generations)
    }

    async fn empty_next(&mut self, newest: Generation) -> Result<(), Fault> {
        self.send_write().await?;
        let mut world = self.sim.lock();
        self.still_connected(&world)?;
        let events = &mut world.server.tables.events;
        if events.newest != newest {
            world.story.violation(format!("{} empties a table that may be in use", self.worker));
            return Ok(());
        }
        events.tables[table(newest.next())].clear();
        events.emptied = newest.next();
        world.story.count(Event::TableEmptied);
        Ok(())
    }

    async fn roll_over(&mut self, newest: Generation) -> Result<(), Fault> {
        self.send_write().await?;
        self.wait_for(Event::RollOverWaited, |world| world.server.take_generation(self.connection)).await?;
        let mut world = self.sim.lock();
        let checkpoints: Vec<(Partition, NextOffset)> = world
            .server
            .tables
            .checkpoints
            .values()
            .filter(|row| row.delivery != Delivery::ExactlyOnce)
            .map(|row| (row.partition.clone(), row.durable))
            .collect();
        let events = &mut world.server.tables.events;
        if events.newest != newest || events.emptied != newest.next() {
            world.story.violation(format!("{} rolls over to a table that is not empty", self.worker));
            return Ok(());
        }
        events.ends.extend(checkpoints.into_iter().map(|(partition, durable)| ((newest, partition), durable)));
        events.newest = newest.next();
        events.previous_opened_at = events.opened_at;
        events.opened_at = Instant::now();
        world.server.free_generation(self.connection);
        world.story.count(Event::RolledOver);
        world.story.tell(format_args!("{}: rolls over to generation {}", self.worker, newest.next().0));
        drop(world);
        self.sim.locks_freed.notify_waiters();
        Ok(())
    }
}
