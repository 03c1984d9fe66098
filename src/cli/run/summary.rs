//! What `run` says at its end.

use std::{fmt::Write as _, time::Duration};

use crate::{
    cli::{exit::Exit, output},
    engine::{Ended, PartitionReport, PartitionState},
};

/// One pipeline's run, as people read it: how long, what became of its records, and where each partition stands.
pub fn summary(pipeline: &str, took: Duration, ended: &Ended) -> String {
    let report = &ended.report;
    let read = report.totals.records_read;
    let mean = u128::from(read) * 1_000 / took.as_millis().max(1);
    let mut text = format!(
        "{pipeline}    {}, {} records, mean {}/s\n",
        output::duration(took.as_secs()),
        output::count(read),
        output::count(u64::try_from(mean).unwrap_or(u64::MAX))
    );
    let routes = report.routes.iter().map(|(route, counts)| {
        let numbers = [counts.applied, counts.deduplicated, counts.filtered, counts.stale, counts.skipped(), counts.lost];
        std::iter::once(route.to_string()).chain(numbers.map(output::count)).collect()
    });
    if !report.routes.is_empty() {
        indent(&mut text, &output::table(&["ROUTE", "APPLIED", "DEDUPLICATED", "FILTERED", "STALE", "SKIPPED", "LOST"], routes.collect()));
    }
    let totals = &report.totals;
    let _ = writeln!(
        text,
        "  redelivered and stopped {}; rebalances {}; retries {} ({:.1}s)",
        output::count(totals.redelivered),
        totals.rebalances,
        totals.retries.values().sum::<u64>(),
        totals.retry_time.as_secs_f64()
    );
    if !report.partitions.is_empty() {
        let rows = report.partitions.iter().map(|(partition, report)| {
            let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| output::count(number.unsigned_abs()));
            vec![
                partition.to_string(),
                number(Some(report.checkpoint.get())),
                number(report.committed.map(|next| next.get())),
                number(report.lag()),
                state(report),
            ]
        });
        indent(&mut text, &output::table(&["PARTITION", "CHECKPOINT", "COMMITTED", "LAG", "STATE"], rows.collect()));
    }
    text
}

/// How a run ends, and the line that says why.
pub fn verdict(pipeline: &str, file: &str, ended: &Ended) -> (Exit, String) {
    let halted: Vec<String> = ended.report.partitions.iter().filter(|(_, report)| report.is_halted()).map(|(partition, _)| partition.to_string()).collect();
    if let Some(reason) = &ended.gave_up {
        return (Exit::Unreachable, format!("{pipeline}: gave up: {reason}"));
    }
    if let Some(reason) = &ended.failed {
        return (Exit::Failed, format!("{pipeline}: {reason}"));
    }
    if !halted.is_empty() {
        let is = if halted.len() == 1 { "is" } else { "are" };
        return (Exit::Failed, format!("{pipeline}: {} {is} halted; see: oncesink status {file}", halted.join(", ")));
    }
    if ended.drain_cut {
        return (Exit::Failed, format!("{pipeline}: shutdown_timeout passed before all in flight had settled; nothing is lost, it is read again"));
    }
    (Exit::Done, format!("{pipeline}: every partition is at its checkpoint"))
}

fn state(report: &PartitionReport) -> String {
    match &report.state {
        PartitionState::Halted(halt) => format!("HALTED {} at {}, {}", halt.reason, halt.offset, output::duration(halt.since.elapsed().as_secs())),
        _ => "ok".to_owned(),
    }
}

fn indent(text: &mut String, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(text, "  {line}");
    }
}

#[cfg(test)]
mod tests {
    use oncesink_sinks::model::{Claim, NextOffset, Partition};

    use super::*;
    use crate::engine::{Halt, Report};

    fn ended(state: PartitionState) -> Ended {
        let mut report = Report::default();
        let partition =
            PartitionReport { state, claim: Claim::default(), checkpoint: NextOffset::new(88_211), committed: None, end: Some(NextOffset::new(88_252)) };
        report.partitions.insert(Partition::new("orders", 3), partition);
        Ended { report, drain_cut: false, gave_up: None, failed: None }
    }

    #[test]
    fn a_halted_partition_makes_the_exit_1_and_is_named() {
        let ended = ended(PartitionState::Halted(Halt::new("out-of-range", "too large", 88_211)));
        let (exit, line) = verdict("orders", "orders.yaml", &ended);
        assert_eq!((exit, line.as_str()), (Exit::Failed, "orders: orders:3 is halted; see: oncesink status orders.yaml"));
        let text = summary("orders", Duration::from_secs(60), &ended);
        assert!(text.contains("orders:3   88,211      -          41   HALTED out-of-range at 88211"), "{text}");
    }

    #[test]
    fn a_run_that_ends_well_exits_0_and_one_that_gave_up_75() {
        let mut ended = ended(PartitionState::Running);
        assert_eq!(verdict("orders", "orders.yaml", &ended).0, Exit::Done);
        ended.drain_cut = true;
        assert_eq!(verdict("orders", "orders.yaml", &ended).0, Exit::Failed);
        ended.gave_up = Some("the database".to_owned());
        assert_eq!(verdict("orders", "orders.yaml", &ended).0, Exit::Unreachable);
    }
}
