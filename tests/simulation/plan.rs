//! What a seed decides before anything runs.

use std::{sync::Arc, time::Duration};

use oncesink::engine::{BatchLimits, EngineSettings, RetrySettings};
use oncesink_sinks::model::{DedupBackend, Delivery, EventIdKind};
use rand::{Rng, seq::IndexedRandom};

use crate::world::{
    dice::{Dice, chance},
    group::Protocol,
    log::TopicKind,
    worker::WorkerId,
};

#[derive(Clone, Debug)]
pub struct Plan {
    pub topics: Vec<(TopicKind, usize)>,
    pub workers: usize,
    pub protocol: Protocol,
    /// Members have instance ids.
    pub is_static: bool,
    /// How long faults are drawn.
    pub trouble: Duration,
    /// Entries that are produced while they are.
    pub entries: usize,
    pub buffer: usize,
    pub restores: bool,
    pub trims: bool,
    /// Retention passes checkpoints: a halt that a person ends.
    pub cuts: bool,
    /// Topics are deleted and made again: a halt that a person ends.
    pub recreates: bool,
    /// A person ends such halts; otherwise they are judged as they are.
    pub is_mended: bool,
    pub compacts: bool,
    pub deletes_offsets: bool,
    /// Bad records are left out; otherwise they halt their partition until somebody mends the world.
    pub skips: bool,
    /// How long a callback waits for the engine; sometimes below what a drain may take, so that some answers come too late.
    pub callback_budget: Duration,
    pub drain_timeout: Duration,
    /// The longest that a statement takes in fair weather, in milliseconds.
    pub latency: u64,
    /// Some events are sent twice. Then their ids are kept for good: how late the second one is read, nobody can tell.
    pub sends_twice: bool,
    /// The tables remember their events in Redis, besides whatever else stops repeats there.
    pub remembers: bool,
    /// They keep the ids of their events in the database, too. Where neither a checkpoint nor Redis stops repeats they always do.
    pub marks: bool,
    /// Whose the ids of events are. Where events are sent twice, the producer's: a coordinate does not tell them.
    pub ids: EventIdKind,
    /// How long event ids are kept; for good, too, where a person may have old records read again. Else longer than any worker is frozen:
    /// what one commits when it wakes sets the group back.
    retention: Duration,
    writers: usize,
    rows: usize,
    linger: Duration,
    records_per_second: Option<u32>,
}

impl Plan {
    pub fn draw(dice: &mut Dice) -> Self {
        use TopicKind::{Events, Ledger, Orders, Readings};
        let combinations = [
            &[Orders, Ledger][..],
            &[Orders, Ledger],
            &[Orders, Events],
            &[Ledger, Events],
            &[Orders, Readings],
            &[Events, Readings],
            &[Orders, Events, Readings],
        ];
        let kinds: &[TopicKind] = combinations.choose(dice).copied().unwrap_or(&[Orders]);
        let topics: Vec<(TopicKind, usize)> = kinds.iter().map(|kind| (*kind, dice.random_range(2..=3))).collect();
        let is_exact = !kinds.contains(&Events);
        // What only a person could end, and nobody could tell what is right then, does not come together: a database that went back in
        // time, and a log that does not reach back as far.
        let restores = chance(dice, 50);
        let deletes_offsets = chance(dice, 50);
        let sends_twice = chance(dice, 50);
        // What at-most-once goes by, the group's offset, may be put back or lost: then retention and new topics leave nothing to go on from.
        let loses = kinds.contains(&Readings);
        let breaks = if restores || loses { 0 } else { dice.random_range(0..4) };
        Self {
            topics,
            workers: dice.random_range(2..=4),
            protocol: if chance(dice, 50) { Protocol::Eager } else { Protocol::Cooperative },
            is_static: chance(dice, 33),
            trouble: Duration::from_secs(dice.random_range(40..=70)),
            entries: dice.random_range(2200..=3200),
            buffer: *[1 << 10, 4 << 10, 1 << 20].choose(dice).unwrap_or(&4096),
            restores,
            trims: !restores && !loses && (is_exact || !deletes_offsets),
            cuts: breaks == 1,
            recreates: breaks == 2,
            is_mended: chance(dice, 50),
            compacts: chance(dice, 40),
            deletes_offsets,
            skips: chance(dice, 40),
            sends_twice,
            retention: if sends_twice || restores || deletes_offsets { Duration::from_secs(86_400) } else { Duration::from_secs(20) },
            writers: dice.random_range(1..=3),
            rows: dice.random_range(4..=16),
            linger: Duration::from_millis(dice.random_range(1..=40)),
            callback_budget: Duration::from_millis(*[300, 300, 3000].choose(dice).unwrap_or(&3000)),
            drain_timeout: Duration::from_millis(2500),
            latency: *[2, 3, 10].choose(dice).unwrap_or(&3),
            records_per_second: chance(dice, 15).then_some(400),
            remembers: chance(dice, 50),
            marks: chance(dice, 50),
            ids: if !sends_twice && chance(dice, 50) { EventIdKind::Coordinate } else { EventIdKind::Producer },
        }
    }

    /// What keeps the ids of events of a topic's tables. Not Redis under at-most-once: a batch that it keeps waiting would be lost.
    pub fn events_kept_by(&self, kind: TopicKind) -> Vec<DedupBackend> {
        let redis = self.remembers && kind.delivery() != Delivery::AtMostOnce;
        let processed_event = self.marks || (kind.delivery() == Delivery::AtLeastOnce && !redis);
        [(DedupBackend::Redis, redis), (DedupBackend::ProcessedEvent, processed_event)]
            .into_iter()
            .filter_map(|(backend, is_there)| is_there.then_some(backend))
            .collect()
    }

    /// The product's settings, with its waits shortened: simulated time costs little, but not nothing.
    pub fn engine_settings(&self, worker: WorkerId) -> EngineSettings {
        EngineSettings {
            pipeline: Arc::from("simulated"),
            owner: Arc::from(worker.to_string()),
            writers: self.writers,
            batch: BatchLimits { rows: self.rows, bytes: 1 << 20, linger: self.linger },
            retry: RetrySettings { initial_delay: Duration::from_millis(50), max_delay: Duration::from_secs(2), give_up_after: None },
            records_per_second: self.records_per_second,
            shutdown_timeout: Duration::from_secs(8),
            drain_timeout: self.drain_timeout,
            halt_retry: Duration::from_secs(3),
            idle_check: Duration::from_secs(3),
            processed_event_retention: Some(self.retention),
            ..EngineSettings::default()
        }
    }
}
