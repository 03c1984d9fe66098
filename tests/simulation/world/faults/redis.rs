//! The store of remembered events forgets.

use super::Strike;
use crate::world::events::Event;

impl Strike<'_> {
    pub(super) fn flush_redis(&mut self) {
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::RedisFlushed), format_args!("redis is flushed"));
        world.redis.flush();
    }

    pub(super) fn replicate_redis(&mut self) {
        let mut world = self.sim.lock();
        self.fired(&mut world, None, format_args!("redis's replica catches up"));
        world.redis.replicate();
    }

    pub(super) fn fail_redis_over(&mut self) {
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::RedisFailedOver), format_args!("redis fails over to its replica"));
        world.redis.fail_over();
    }
}
