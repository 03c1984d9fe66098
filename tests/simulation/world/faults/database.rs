//! The database crashes, fails over, or goes back in time; the group's offsets are gone.

use std::time::Duration;

use oncesink_sinks::model::Epoch;
use tokio::time::Instant;

use super::Strike;
use crate::world::{World, database::Tables, events::Event, weather::Weather};

impl Strike<'_> {
    pub(super) fn crash_database(&mut self) {
        let lasts = self.milliseconds(200, 4000);
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::DatabaseCrashed), format_args!("the database crashes for {lasts:?}"));
        self.database_stops(&mut world, lasts);
    }

    /// The old server goes on answering, and takes no writes; nor does the new one, for a while.
    pub(super) fn fail_over(&mut self) {
        let lasts = self.milliseconds(100, 4000);
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::FailedOver), format_args!("the database fails over, and takes no writes for {lasts:?}"));
        world.server.fail_over();
        world.begin_weather(Weather::ReadOnly, Instant::now() + lasts, self.dice.clone());
        drop(world);
        self.sim.locks_freed.notify_waiters();
    }

    pub(super) fn back_up(&mut self) {
        let mut world = self.sim.lock();
        if world.every_partition_was_claimed() {
            self.fired(&mut world, None, format_args!("a backup is taken"));
            world.server.backup = Some(world.server.tables.clone());
        }
    }

    /// Yesterday's database: what Kafka still has comes again. Partitions that it does not know would rightly halt.
    pub(super) fn restore(&mut self) {
        let lasts = self.milliseconds(200, 4000);
        let loses_end = self.chance(50);
        let mut world = self.sim.lock();
        let Some(backup) = world.usable_backup() else { return };
        self.fired(&mut world, Some(Event::DatabaseRestored), format_args!("the database is restored from the backup, and is away for {lasts:?}"));
        self.database_stops(&mut world, lasts);
        world.server.tables = backup;
        world.was_restored = true;
        if loses_end && world.plan.remembers {
            world.redis.fail_over();
            world.story.count(Event::RedisFailedOver);
        }
    }

    pub(super) fn delete_offsets(&mut self) {
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::OffsetsDeleted), format_args!("the group's offsets are deleted"));
        world.group.forget_commits();
    }

    fn database_stops(&self, world: &mut World, lasts: Duration) {
        world.begin_weather(Weather::DatabaseDown, Instant::now() + lasts, self.dice.clone());
        world.server.disconnect_all();
        self.sim.locks_freed.notify_waiters();
    }
}

impl World {
    /// Once everything is at rest: only the idle check can notice it. Whether there was a backup.
    pub fn restore_at_rest(&mut self) -> bool {
        let Some(backup) = self.usable_backup() else { return false };
        self.story.tell(format_args!("the database is restored from the backup while nothing is written"));
        self.story.count(Event::DatabaseRestoredAtRest);
        self.server.disconnect_all();
        self.server.tables = backup;
        self.was_restored = true;
        true
    }

    fn usable_backup(&self) -> Option<Tables> {
        self.server.backup.clone().filter(|backup| self.log.partitions().iter().all(|partition| backup.checkpoints.contains_key(partition)))
    }

    fn every_partition_was_claimed(&self) -> bool {
        self.log.partitions().iter().all(|partition| self.server.tables.checkpoints.get(partition).is_some_and(|row| row.claim.epoch > Epoch(0)))
    }
}
