//! What must be true at the end. It knows the log and the tables, and nothing of how one became the other.

use std::collections::BTreeMap;

use oncesink_sinks::model::{Coordinate, Delivery, Partition};

use crate::world::{
    World,
    database::Row,
    log::{Entry, Fact, FactKind, TopicKind},
    worker::{State, WorkerId},
};

/// Differences that are told one by one.
const SHOWN: usize = 8;

/// Partitions whose end is not reached yet, in the database or in the group. One may be stopped before a record.
pub fn behind(world: &World, stopped: Option<&Coordinate>) -> Vec<String> {
    let mut behind = Vec::new();
    for partition in world.log.partitions() {
        let Some(mut high) = world.log.partition(&partition).map(super::world::log::PartitionLog::high) else { continue };
        if let Some(stopped) = stopped.filter(|stopped| stopped.partition == partition) {
            let halt = world.server.tables.checkpoints.get(&partition).and_then(|row| row.halt.as_ref());
            if halt.is_none_or(|halt| halt.offset != stopped.offset) {
                behind.push(format!("the halt of {partition} at {} is noted as {halt:?}", stopped.offset));
            }
            // Nothing has to move the checkpoint over control records that stand right before the record at fault.
            high = stopped.offset;
            let entries = world.log.partition(&partition).map_or(&[][..], |log| &log.entries);
            while high > 0 && matches!(entries.get(high as usize - 1), Some(Entry::Control)) {
                high -= 1;
            }
        }
        let reached = world.server.tables.checkpoints.get(&partition).map_or(0, |row| match row.delivery {
            Delivery::ExactlyOnce => row.next_offset.get(),
            Delivery::AtLeastOnce => row.durable.get(),
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
    let mut differences = Vec::new();
    for topic in &world.log.topics {
        let records: Vec<(Partition, i64, Fact)> = topic
            .partitions
            .iter()
            .enumerate()
            .flat_map(|(index, log)| {
                let partition = Partition { topic: topic.name.clone(), index: index as i32 };
                log.visible(0, log.high()).map(move |(offset, fact)| (partition.clone(), offset, *fact))
            })
            .filter(|(_, _, fact)| !world.witness.skipped.contains(&fact.payload))
            .collect();
        if let Some(table) = topic.kind.append_table() {
            let rows = world.server.tables.appended.get(table).map_or(&[][..], Vec::as_slice);
            differences.extend(compare_appended(table, rows, &records));
        }
        let table = topic.kind.keyed_table();
        let empty = BTreeMap::new();
        let rows = world.server.tables.keyed.get(table).unwrap_or(&empty);
        differences.extend(compare_keyed(table, rows, &fold(topic.kind, &records)));
    }
    let more = differences.len().saturating_sub(SHOWN);
    for difference in differences.into_iter().take(SHOWN) {
        world.story.violation(difference);
    }
    if more > 0 {
        world.story.violation(format!("and {more} more differences"));
    }
}

/// Every record once: none missing, none twice, none that is not in the log.
fn compare_appended(table: &str, rows: &[Row], records: &[(Partition, i64, Fact)]) -> Vec<String> {
    let expected = records
        .iter()
        .map(|(partition, offset, fact)| vec![Some(i64::from(partition.index)), Some(*offset), Some(fact.id), Some(fact.version), Some(fact.payload)]);
    let mut counts: BTreeMap<Row, i64> = expected.map(|row| (row, -1)).collect();
    for row in rows {
        *counts.entry(row.clone()).or_insert(1000) += 1;
    }
    let describe = |(row, count): (Row, i64)| match count {
        0 => None,
        -1 => Some(format!("{table}: {row:?} is missing")),
        1000.. => Some(format!("{table}: {row:?} is not in the log")),
        more => Some(format!("{table}: {row:?} is there {} times", more + 1)),
    };
    counts.into_iter().filter_map(describe).collect()
}

/// What a keyed table holds once every record has taken effect, in the order of its log.
fn fold(kind: TopicKind, records: &[(Partition, i64, Fact)]) -> BTreeMap<i64, Row> {
    let mut table: BTreeMap<i64, Fact> = BTreeMap::new();
    for (_, _, fact) in records {
        if kind.has_version() {
            if table.get(&fact.id).is_none_or(|known| known.version <= fact.version) {
                table.insert(fact.id, *fact);
            }
        } else if fact.kind == FactKind::Delete {
            table.remove(&fact.id);
        } else {
            table.insert(fact.id, *fact);
        }
    }
    table.into_iter().map(|(id, fact)| (id, vec![Some(id), Some(fact.version), Some(fact.payload)])).collect()
}

fn compare_keyed(table: &str, rows: &BTreeMap<i64, Row>, expected: &BTreeMap<i64, Row>) -> Vec<String> {
    let mut differences = Vec::new();
    for (key, row) in expected {
        match rows.get(key) {
            Some(found) if found == row => {}
            Some(found) => differences.push(format!("{table}: key {key} is {found:?} and should be {row:?}")),
            None => differences.push(format!("{table}: key {key} is missing, should be {row:?}")),
        }
    }
    differences.extend(rows.keys().filter(|key| !expected.contains_key(*key)).map(|key| format!("{table}: key {key} should not be there")));
    differences
}
