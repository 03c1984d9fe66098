//! What must be true at the end. It knows the final log and the final tables, and nothing of how one became the other.
//!
//! Two things cannot be read from them, and are taken from where they are decided: which payloads the tables refused at some time
//! (`once_refused`: such a record may be left out where the routes say so), and whether a record that compaction removed was below the
//! checkpoint before that (`was_applied`, noted in the log when it is removed).

use std::collections::{BTreeMap, BTreeSet};

use oncesink_sinks::model::{Coordinate, DedupBackend, Delivery, Partition};

use crate::world::{
    World,
    database::Row,
    events::Event,
    log::{Entry, Fact, FactKind, PartitionLog, Topic, TopicKind},
    worker::{State, WorkerId},
};

/// Differences that are told one by one.
const SHOWN: usize = 8;

/// Partitions whose end is not reached yet, in the database or in the group. One may be stopped before a record, and others may wait for a
/// person.
pub fn behind(world: &World, stopped: Option<&Coordinate>) -> Vec<String> {
    let mut behind = Vec::new();
    for partition in world.log.partitions() {
        let Some(log) = world.log.partition(&partition) else { continue };
        if world.waits_for_person(&partition) {
            continue;
        }
        let mut high = log.high();
        if let Some(stopped) = stopped.filter(|stopped| stopped.partition == partition) {
            let halt = world.server.tables.checkpoints.get(&partition).and_then(|row| row.halt.as_ref());
            if halt.is_none_or(|halt| halt.offset != stopped.offset) {
                behind.push(format!("the halt of {partition} at {} is noted as {halt:?}", stopped.offset));
            }
            // Nothing has to move the checkpoint over what nobody sees right before the record at fault.
            high = log.before_gap(stopped.offset);
        }
        let reached = world.server.tables.checkpoints.get(&partition).map_or(0, |row| match row.delivery {
            Delivery::ExactlyOnce => row.next_offset.get(),
            Delivery::AtLeastOnce => row.durable.get(),
            // What it lost is in no row.
            Delivery::AtMostOnce => row.durable.get().max(world.group.committed_offset(&partition)),
        });
        let committed = world.group.committed_offset(&partition);
        if reached < high {
            behind.push(format!("{partition} is at {reached} of {high}"));
        } else if committed < high && stopped.is_none_or(|stopped| stopped.partition != partition) {
            behind.push(format!("the group's offset of {partition} is {committed} of {high}"));
        }
    }
    behind
}

/// Workers that still count bytes of records, though every record is done with.
pub fn held(world: &World) -> Vec<String> {
    let running = world.workers_in(State::Running);
    let bytes = |worker: &WorkerId| world.life(*worker).map_or(0, |life| life.buffer.bytes());
    running.iter().filter(|worker| bytes(worker) > 0).map(|worker| format!("{worker} counts {} bytes of no records", bytes(worker))).collect()
}

/// Compares every table with what the log makes of it.
pub fn judge(world: &mut World) {
    tell_what_was_combined(world);
    let mut differences = Vec::new();
    for topic in &world.log.topics {
        let mut expected = records(world, topic);
        if let Some(table) = topic.kind.append_table() {
            let rows = world.server.tables.appended.get(table).map_or(&[][..], Vec::as_slice);
            let of_topic = if topic.kind == TopicKind::Events {
                // Redis alone stops most repeats, and none for certain.
                let may_repeat = !world.plan.events_kept_by(topic.kind).contains(&DedupBackend::ProcessedEvent);
                compare_events(table, rows, &expected, may_repeat)
            } else {
                compare_appended(table, rows, &expected)
            };
            differences.extend(of_topic);
            if topic.kind.delivery() == Delivery::AtMostOnce {
                differences.extend(uncounted(world, table, rows, &expected));
            }
            // The rows tell which of those that may be missing are.
            let there: BTreeSet<Row> = rows.iter().cloned().collect();
            let events: BTreeSet<Option<i64>> = rows.iter().filter_map(|row| row.last().copied()).collect();
            // Only the append table keeps the ids of events: to the other one every record of a known event goes.
            let is_there =
                |record: &Record| if topic.kind == TopicKind::Events { events.contains(&Some(record.fact.payload)) } else { there.contains(&record.row()) };
            expected.retain(is_there);
        }
        let table = topic.kind.keyed_table();
        let empty = BTreeMap::new();
        let rows = world.server.tables.keyed.get(table).unwrap_or(&empty);
        differences.extend(compare_keyed(table, topic.kind, rows, &expected));
    }
    let more = differences.len().saturating_sub(SHOWN);
    for difference in differences.into_iter().take(SHOWN) {
        world.story.violation(difference);
    }
    if more > 0 {
        world.story.violation(format!("and {more} more differences"));
    }
}

fn tell_what_was_combined(world: &mut World) {
    let kinds: Vec<TopicKind> = world.log.topics.iter().map(|topic| topic.kind).collect();
    if kinds.iter().any(|kind| kind.delivery() == Delivery::ExactlyOnce && world.plan.events_kept_by(*kind).len() == 2) {
        world.story.count(Event::AllLayers);
    }
    if kinds.iter().map(|kind| kind.delivery()).collect::<BTreeSet<_>>().len() == 3 {
        world.story.count(Event::AllDeliveries);
    }
    for kind in kinds.into_iter().filter(|kind| kind.delivery() == Delivery::AtLeastOnce) {
        let rows = kind.append_table().and_then(|table| world.server.tables.appended.get(table)).map_or(&[][..], Vec::as_slice);
        let events: BTreeSet<_> = rows.iter().map(|row| row.last()).collect();
        if events.len() < rows.len() {
            world.story.count(Event::RepeatLeft);
        }
    }
}

/// A record that has, or may have, a row.
struct Record {
    partition: Partition,
    offset: i64,
    fact: Fact,
    /// It must have one.
    must: bool,
    /// Compaction has removed it, perhaps before anybody read it.
    vanished: bool,
}

impl Record {
    fn row(&self) -> Row {
        let Self { partition, offset, fact, .. } = self;
        vec![Some(i64::from(partition.index)), Some(*offset), Some(fact.id), Some(fact.version), Some(fact.payload)]
    }
}

/// All that had to take effect, or may have: the older makings of the topic first, then by partition and offset.
fn records(world: &World, topic: &Topic) -> Vec<Record> {
    let mut records = Vec::new();
    for (partition, log) in topic.all().into_iter().zip(&topic.partitions) {
        if let Some(former) = &log.former {
            add(world, &partition, former, 0, former_end(world, &partition), &mut records);
        }
    }
    for (partition, log) in topic.all().into_iter().zip(&topic.partitions) {
        let mut from = 0;
        // Where a person let a partition go on behind a gap, what lay in it is lost.
        for decision in world.server.tables.audit.iter().filter(|decision| decision.partition == partition && log.former.is_none()) {
            add(world, &partition, log, from, decision.from, &mut records);
            from = decision.to;
        }
        let end = match (world.left_halted.contains(&partition), &log.former) {
            // Not one record of the new topic may take effect.
            (true, Some(_)) => 0,
            (true, None) => world.server.tables.checkpoints.get(&partition).map_or(0, |row| row.next_offset.get()),
            (false, _) => log.high(),
        };
        add(world, &partition, log, from, end, &mut records);
    }
    records
}

/// Where reading of a topic ended that was deleted: at the checkpoint of the halt, or where a person found it. Else nothing of it was read.
fn former_end(world: &World, partition: &Partition) -> i64 {
    if world.left_halted.contains(partition) {
        return world.server.tables.checkpoints.get(partition).map_or(0, |row| row.next_offset.get());
    }
    world.server.tables.audit.iter().find(|decision| decision.partition == *partition).map_or(0, |decision| decision.from)
}

fn add(world: &World, partition: &Partition, log: &PartitionLog, from: i64, to: i64, records: &mut Vec<Record>) {
    let at_most_once = world.log.topics.iter().any(|topic| topic.name == partition.topic && topic.kind.delivery() == Delivery::AtMostOnce);
    for (offset, entry) in log.range(from, to) {
        let (fact, must) = match entry {
            Entry::Record(fact) => (*fact, true),
            Entry::Vanished { fact, was_applied } => (*fact, *was_applied),
            Entry::Control | Entry::Aborted => continue,
        };
        if fact.is_visible() {
            let must = must && !at_most_once && !(world.plan.skips && world.server.once_refused.contains(&fact.payload));
            records.push(Record { partition: partition.clone(), offset, fact, must, vanished: matches!(entry, Entry::Vanished { .. }) });
        }
    }
}

/// What is missing was counted as lost, as far as every worker lived to tell.
fn uncounted(world: &World, table: &str, rows: &[Row], records: &[Record]) -> Option<String> {
    let all_told = world.workers.values().all(|life| life.state != State::Dead);
    let lost: u64 = world.workers.values().filter_map(|life| life.report.borrow().routes.get(table).map(|counts| counts.lost)).sum();
    let there: BTreeSet<&Row> = rows.iter().collect();
    let missing = records.iter().filter(|record| !record.vanished && !there.contains(&record.row())).count() as u64;
    (all_told && missing > lost).then(|| format!("{table}: {missing} records are missing, and only {lost} were counted as lost"))
}

/// Every record once: none missing, none twice, none that is not in the log.
fn compare_appended(table: &str, rows: &[Row], records: &[Record]) -> Vec<String> {
    let mut counts: BTreeMap<&Row, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(row).or_insert(0) += 1;
    }
    let mut differences = Vec::new();
    for record in records {
        let row = record.row();
        match counts.remove(&row) {
            None if record.must => differences.push(format!("{table}: {row:?} is missing")),
            None | Some(1) => {}
            Some(times) => differences.push(format!("{table}: {row:?} is there {times} times")),
        }
    }
    differences.extend(counts.keys().map(|row| format!("{table}: {row:?} must not be there")));
    differences
}

/// Every event, by whichever of its records; and once, if none may repeat.
fn compare_events(table: &str, rows: &[Row], records: &[Record], may_repeat: bool) -> Vec<String> {
    let mut known: BTreeMap<i64, (BTreeSet<Row>, bool)> = BTreeMap::new();
    for record in records {
        let (of_event, must) = known.entry(record.fact.payload).or_default();
        of_event.insert(record.row());
        *must |= record.must;
    }
    let mut found: BTreeMap<i64, usize> = BTreeMap::new();
    let mut differences = Vec::new();
    for row in rows {
        let payload = row.last().copied().flatten().unwrap_or_default();
        *found.entry(payload).or_insert(0) += 1;
        if !known.get(&payload).is_some_and(|(of_event, _)| of_event.contains(row)) {
            differences.push(format!("{table}: {row:?} must not be there"));
        }
    }
    differences.extend(
        found.iter().filter(|(_, times)| **times > 1 && !may_repeat).map(|(payload, times)| format!("{table}: event {payload} is there {times} times")),
    );
    let missing = known.iter().filter(|(payload, (_, must))| *must && !found.contains_key(payload));
    differences.extend(missing.map(|(payload, _)| format!("{table}: event {payload} is missing")));
    differences
}

/// What a keyed table holds once these records have taken effect, in their order.
fn fold<'a>(kind: TopicKind, records: impl Iterator<Item = &'a Record>) -> BTreeMap<i64, Fact> {
    let mut table: BTreeMap<i64, Fact> = BTreeMap::new();
    for Record { fact, .. } in records {
        if kind.has_version() {
            // A delete stands for what is not there, so that an older write does not bring it back.
            if table.get(&fact.id).is_none_or(|known| known.version <= fact.version) {
                table.insert(fact.id, *fact);
            }
        } else if fact.kind == FactKind::Delete {
            table.remove(&fact.id);
        } else {
            table.insert(fact.id, *fact);
        }
    }
    table.retain(|_, fact| fact.kind == FactKind::Write);
    table
}

fn compare_keyed(table: &str, kind: TopicKind, rows: &BTreeMap<i64, Row>, records: &[Record]) -> Vec<String> {
    let row = |fact: &Fact| vec![Some(fact.id), Some(fact.version), Some(fact.payload)];
    let has_journal = kind.append_table().is_some();
    // Without a journal nobody knows which of the records that were compacted away took effect: any that is newer may have.
    let expected = fold(kind, records.iter().filter(|record| record.must || has_journal));
    let may_be = |found: &Row, than: Option<&Fact>| {
        !has_journal && records.iter().any(|record| !record.must && row(&record.fact) == *found && than.is_none_or(|than| than.version <= record.fact.version))
    };
    let mut differences = Vec::new();
    for (key, fact) in &expected {
        match rows.get(key) {
            Some(found) if *found == row(fact) || may_be(found, Some(fact)) => {}
            Some(found) => differences.push(format!("{table}: key {key} is {found:?} and should be {:?}", row(fact))),
            None => differences.push(format!("{table}: key {key} is missing, should be {:?}", row(fact))),
        }
    }
    for (key, found) in rows.iter().filter(|(key, _)| !expected.contains_key(*key)) {
        if !may_be(found, None) {
            differences.push(format!("{table}: key {key} should not be there"));
        }
    }
    differences
}
