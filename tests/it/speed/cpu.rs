//! What a process and its children have cost so far, from Linux' own account of them.

use std::fs;

/// Linux counts in hundredths of a second.
const TICKS: f64 = 100.0;

/// Seconds of a processor, of the process, of all its children that have ended, and of those that still run.
pub fn seconds_of(process: u32) -> f64 {
    let children = fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = children.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(stat).filter(|stat| stat.parent == process);
    let own = stat(process).map_or(0.0, |own| own.ticks + own.of_children);
    (own + children.map(|child| child.ticks).sum::<f64>()) / TICKS
}

struct Stat {
    parent: u32,
    ticks: f64,
    /// Of those that have ended and were waited for.
    of_children: f64,
}

fn stat(process: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks: number(11)? + number(12)?, of_children: number(13)? + number(14)? })
}
