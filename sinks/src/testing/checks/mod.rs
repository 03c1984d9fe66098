//! The rules of the contract, by what they are about.

mod at_least_once;
mod at_most_once;
mod claims;
mod fence;
mod halts;
mod lost_replies;
mod marks;
mod processed_events;
mod replay;
mod several_writers;
mod spans;
mod starts;
mod tombstones;
mod versions;
mod write_modes;

use super::{
    ColumnLayout, ColumnType, Feature, TableLayout, Value,
    contract::Check,
    trial::any_mode,
    worker::{ABSENT, Record, int, text},
};
use crate::model::WriteMode;

macro_rules! checks {
    ($($module:ident::$name:ident in $layout:ident, $needs:tt;)+) => {
        vec![$(Check { name: stringify!($name), needs: checks!(@ $needs), layout: $layout, run: |trial| Box::pin($module::$name(trial)) }),+]
    };
    (@ [$($feature:ident),*]) => { &[$(Feature::$feature),*] };
}

/// In the order in which somebody who writes a sink gets to them.
pub(super) fn all() -> Vec<Check> {
    checks! {
        claims::a_table_that_is_not_there_is_named in journal, [];
        claims::the_place_has_one_id in journal, [];
        claims::each_claim_has_a_higher_epoch_and_another_id in journal, [];
        claims::each_partition_is_answered_by_itself in journal, [];
        claims::pipelines_do_not_meet in journal, [];
        starts::the_first_claim_of_a_topic_makes_all_of_its_rows in journal, [];
        starts::a_start_is_decided_once in journal, [];
        starts::what_contradicts_the_checkpoint_is_refused in journal, [];
        starts::a_commit_of_others_is_adopted_where_it_may_be in journal, [];
        starts::a_topic_that_was_made_again_stays_refused in journal, [];

        fence::a_batch_moves_rows_and_checkpoint_together in journal, [];
        fence::an_old_claim_is_fenced in journal, [];
        fence::a_claim_that_was_never_made_is_fenced in journal, [];
        fence::a_batch_takes_effect_once in journal, [];
        fence::a_batch_that_does_not_follow_is_fenced in journal, [];
        fence::one_partition_that_is_taken_fences_the_whole_batch in journal, [];
        fence::a_batch_that_fails_leaves_nothing in journal, [Constraints];
        lost_replies::a_lost_reply_is_judged_by_the_row in journal, [];
        lost_replies::a_batch_is_known_after_its_partition_was_taken in journal, [];

        spans::a_batch_without_rows_moves_the_checkpoint in journal, [];
        spans::only_what_lies_in_the_spans_is_written in journal, [];
        spans::a_batch_that_is_split_tiles_the_log in journal, [];
        spans::what_is_known_to_be_durable_is_left_out in journal, [];
        halts::a_halt_is_kept_until_a_batch_takes_effect in journal, [];
        halts::a_halt_of_somebody_who_is_late_is_dropped in journal, [];

        write_modes::append_writes_every_record in log, [Append];
        write_modes::upsert_leaves_the_last_record_of_each_key in orders, [Upsert];
        write_modes::what_a_record_lacks_is_left_alone in orders, [Upsert];
        write_modes::a_new_row_needs_its_required_columns in stock, [Upsert, Constraints];
        write_modes::update_makes_no_row in orders, [Upsert, Update];
        write_modes::insert_if_new_leaves_the_first_record_of_each_key in orders, [InsertIfNew];
        write_modes::accumulate_takes_every_record_into_account in accounts, [Accumulate];
        write_modes::a_delete_removes_its_row in orders, [Upsert, Deletes];
        marks::a_mark_keeps_the_row in marked, [Upsert, Marks];
        marks::a_mark_is_remembered_by_its_version in marked, [Upsert, Marks, Versions, Tombstones];

        versions::an_older_version_is_stale in orders, [Upsert, Versions];
        versions::a_null_version_never_wins in orders, [Upsert, Versions];
        versions::update_goes_by_the_version_too in orders, [Upsert, Update, Versions];
        tombstones::a_write_that_is_older_than_a_delete_is_stale in orders, [Upsert, Deletes, Versions, Tombstones];
        tombstones::a_delete_without_a_version_takes_that_of_its_row in orders, [Upsert, Deletes, Versions, Tombstones];
        tombstones::an_older_delete_is_stale in orders, [Upsert, Deletes, Versions, Tombstones];
        tombstones::of_one_version_in_two_partitions_the_delete_stays in orders, [Upsert, Deletes, Versions, Tombstones];
        tombstones::an_update_forgets_no_delete in orders, [Upsert, Update, Deletes, Versions, Tombstones];
        tombstones::tombstones_are_of_their_pipeline in orders, [Upsert, Deletes, Versions, Tombstones];
        tombstones::tombstones_expire in orders, [Upsert, Deletes, Versions, Tombstones];

        processed_events::an_event_takes_effect_once in log, [Append, ProcessedEvents];
        processed_events::an_event_is_of_its_route_and_pipeline in log, [Append, ProcessedEvents];
        processed_events::an_event_is_known_byte_by_byte in log, [Append, ProcessedEvents];
        processed_events::a_batch_that_fails_leaves_no_event in log, [Append, ProcessedEvents, Constraints];
        processed_events::events_are_kept_for_their_retention in log, [Append, ProcessedEvents];
        processed_events::no_event_expires_that_may_be_delivered_again in log, [Append, ProcessedEvents, AtLeastOnce];

        at_least_once::a_repeat_is_written_again in log, [Append, AtLeastOnce];
        at_least_once::the_floor_stays in journal, [AtLeastOnce];
        at_least_once::commits_decide_the_start in journal, [AtLeastOnce];
        at_most_once::what_was_committed_is_not_read_again in journal, [AtMostOnce];
        at_most_once::a_gap_is_passed_over in journal, [AtMostOnce];

        several_writers::writers_take_turns in journal, [SeveralWriters];
        several_writers::writers_of_several_partitions_do_not_lose_each_other in journal, [SeveralWriters];
        several_writers::of_two_writers_one_brings_the_event in log, [Append, ProcessedEvents, SeveralWriters];
        several_writers::one_claim_at_a_time_holds in journal, [SeveralWriters];

        replay::any_upserts_end_as_row_by_row in orders, [Upsert];
        replay::any_upserts_and_deletes_end_as_row_by_row in orders, [Upsert, Deletes];
        replay::any_versions_and_deletes_end_as_row_by_row in orders, [Upsert, Deletes, Versions, Tombstones];
        replay::any_updates_end_as_row_by_row in orders, [Upsert, Update, Deletes, Versions, Tombstones];
        replay::any_first_records_end_as_row_by_row in orders, [InsertIfNew, Deletes];
        replay::any_sums_end_as_row_by_row in accounts, [Accumulate, Deletes];
    }
}

fn column(name: &'static str, column_type: ColumnType) -> ColumnLayout {
    ColumnLayout { name, column_type, required: false }
}

fn required(name: &'static str, column_type: ColumnType) -> ColumnLayout {
    ColumnLayout { required: true, ..column(name, column_type) }
}

/// For checks to which it is all the same how a row is written. Without a key where that can be: then nothing hides a repeat.
fn journal(features: &[Feature]) -> TableLayout {
    TableLayout {
        name: "journal",
        columns: vec![column("id", ColumnType::Int), required("note", ColumnType::Text)],
        key: usize::from(any_mode(features) != WriteMode::Append),
    }
}

fn log(_: &[Feature]) -> TableLayout {
    TableLayout { name: "log", columns: vec![column("id", ColumnType::Int), required("note", ColumnType::Text)], key: 0 }
}

fn orders(_: &[Feature]) -> TableLayout {
    TableLayout { name: "orders", columns: vec![column("id", ColumnType::Int), column("v", ColumnType::Int), column("note", ColumnType::Text)], key: 1 }
}

fn stock(_: &[Feature]) -> TableLayout {
    TableLayout { name: "stock", columns: vec![column("id", ColumnType::Int), column("note", ColumnType::Text), required("n", ColumnType::Int)], key: 1 }
}

fn marked(_: &[Feature]) -> TableLayout {
    let mut layout = orders(&[]);
    layout.name = "marked";
    layout.columns.push(column("gone", ColumnType::Bool));
    layout
}

fn accounts(_: &[Feature]) -> TableLayout {
    let ints = ["id", "balance", "peak", "low"].map(|name| column(name, ColumnType::Int));
    let texts = ["note", "first_seen", "status"].map(|name| column(name, ColumnType::Text));
    TableLayout { name: "accounts", columns: [ints.to_vec(), texts.to_vec()].concat(), key: 1 }
}

/// A record of `journal` or `log`.
fn line(id: i64, note: &str) -> Record {
    Record::write(vec![int(id), text(note)])
}

/// A record of `orders`.
fn order(id: i64, version: Option<Value>, note: &str) -> Record {
    Record::write(vec![int(id), version, text(note)])
}

/// One that deletes from `orders`, by a version of its own or without one.
fn delete(id: i64, version: Option<Value>) -> Record {
    Record::delete(vec![int(id), version, ABSENT])
}
