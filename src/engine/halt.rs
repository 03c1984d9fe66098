//! A partition that stands still: why, since when, and when it is tried again.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use oncesink_sinks::{
    checkpoint::StoredHalt,
    fault::Fault,
    model::{NextOffset, Partition, Target},
    refusal::{Refusal, TOPIC_RECREATED},
};
use tokio::time::Instant;

use super::EngineSettings;
use crate::{decode::Bad, route::widening};

/// How often a halt that goes on is logged again.
const LOG_AGAIN: Duration = Duration::from_secs(600);

/// Why a partition stands still. Everything below `offset` is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// A short name, also the label of a metric.
    pub reason: Cow<'static, str>,
    /// What happened, for a person; never a value of a record.
    pub detail: String,
    /// What a person can do about it, besides waiting.
    pub mend: Option<String>,
    /// The record at fault, or the next offset where none is.
    pub offset: i64,
    pub since: Instant,
    pub met: Met,
}

/// Where a halt was met, which is also what shows that it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Before the first record: over once the partition runs again.
    Claim,
    /// At a record: over once a batch gets past it. `skip` can end it.
    Record,
    /// At a write, whatever the record: over once a batch gets past it.
    Write,
}

impl Halt {
    #[must_use]
    pub fn new(reason: impl Into<Cow<'static, str>>, detail: impl Into<String>, offset: i64) -> Self {
        Self { reason: reason.into(), detail: detail.into(), mend: None, offset, since: Instant::now(), met: Met::Claim }
    }

    /// A record that does not decode.
    #[must_use]
    pub fn bad_record(bad: &Bad, target: &Target, offset: i64) -> Self {
        let route = &target.route;
        Self { met: Met::Record, mend: widening(target, bad), ..Self::new(bad.rule, format!("{bad} (route {route})"), offset) }
    }

    /// A record that the database refuses.
    #[must_use]
    pub fn refused_record(fault: &Fault, offset: i64) -> Self {
        Self { met: Met::Record, mend: fault.mend.clone(), ..Self::new(fault.reason.clone(), describe(fault), offset) }
    }

    #[must_use]
    pub fn fault(fault: &Fault, next: NextOffset, met: Met) -> Self {
        Self { met, mend: fault.mend.clone(), ..Self::new(fault.reason.clone(), describe(fault), next.get()) }
    }

    /// The topic is another one under the same name. No claim passes that, until somebody has moved the checkpoint.
    #[must_use]
    pub fn recreated(detail: impl Into<String>, next: NextOffset) -> Self {
        Self { met: Met::Write, ..Self::new(TOPIC_RECREATED, detail, next.get()) }
    }

    #[must_use]
    pub fn refusal(refusal: &Refusal, next: NextOffset) -> Self {
        Self::new(refusal.reason(), refusal.to_string(), refusal.stands_at().unwrap_or(next).get())
    }

    /// The same halt as before, only met again.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.reason == other.reason && self.offset == other.offset
    }

    #[must_use]
    pub fn stored(&self) -> StoredHalt {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(self.since.elapsed());
        StoredHalt { reason: self.reason.to_string(), detail: self.detail.clone(), offset: self.offset, at: i64::try_from(at.as_millis()).unwrap_or(i64::MAX) }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.reason, self.offset, self.detail)
    }
}

fn describe(fault: &Fault) -> String {
    match &fault.column {
        Some(column) if !fault.detail.contains(column.as_str()) => format!("{} (column {column})", fault.detail),
        _ => fault.detail.clone(),
    }
}

/// Logs a halt once, then every ten minutes.
#[derive(Clone, Debug, Default)]
pub struct HaltLog {
    logged: Option<Instant>,
}

impl HaltLog {
    pub fn note(&mut self, settings: &EngineSettings, partition: &Partition, halt: &Halt) {
        if self.logged.is_some_and(|logged| logged.elapsed() < LOG_AGAIN) {
            return;
        }
        self.logged = Some(Instant::now());
        let (place, file, brokers) = (partition.at(halt.offset), &settings.file, &settings.brokers);
        let mut text = format!("halted {place}: {}: {}", halt.reason, halt.detail);
        let mut line = |what: &str, says: String| text.push_str(&format!("\n  {what:<5}  {says}"));
        line("state", format!("all before {} is committed; {partition} waits there; the other partitions go on", halt.offset));
        let at_record = halt.met == Met::Record;
        if at_record {
            line("look", format!("kcat -C -b {brokers} -t {} -p {} -o {} -c 1", partition.topic, partition.index, halt.offset));
        }
        let again = settings.halt_retry.as_secs();
        match &halt.mend {
            Some(mend) => line("mend", format!("{mend}   tried again every {again}s")),
            None => line("again", format!("every {again}s: it goes on by itself once it is mended")),
        }
        if at_record {
            line("or", format!("leave out this one:   oncesink skip {file} {place} --execute"));
        }
        let pipeline = &*settings.pipeline;
        tracing::error!(pipeline, %partition, reason = %halt.reason, "{text}");
    }
}
