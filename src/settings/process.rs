//! What several pipelines of one process must share, and what they must not.

use super::{
    pipeline::{Pipeline, ProcessSettings},
    problem::{Place, Problem},
};

/// Judges the pipelines of one process together.
pub(super) fn agree(pipelines: &[Pipeline], problems: &mut Vec<Problem>) {
    let Some((first, others)) = pipelines.split_first() else { return };
    for (index, other) in others.iter().enumerate() {
        for (key, left, right) in differences(&first.process, &other.process) {
            problems.push(
                Problem::new(format!("`{key}` is {right} here and {left} in {}", first.file.display()), named(other))
                    .with_path(key)
                    .with_label("it belongs to the process: make it equal in all files, or write it in none and give it by --set"),
            );
        }
        for earlier in pipelines.iter().take(index + 1) {
            if earlier.name == other.name {
                let message = format!("`{}` is the name of {} as well", other.name, earlier.file.display());
                problems.push(Problem::new(message, named(other)).with_path("name").with_label("their checkpoints are kept by name; give each its own"));
            } else if earlier.kafka.group == other.kafka.group && earlier.kafka.brokers == other.kafka.brokers {
                let message = format!("`{}` is the group of {} as well", other.kafka.group, earlier.file.display());
                problems.push(
                    Problem::new(message, named(other)).with_path("kafka.group").with_label("they would take partitions from each other; give each its own"),
                );
            }
        }
    }
}

fn differences(left: &ProcessSettings, right: &ProcessSettings) -> Vec<(&'static str, String, String)> {
    let both = |value: fn(&ProcessSettings) -> String| (value(left), value(right));
    let values = [
        ("max_buffer", both(|process| format!("{} bytes", process.max_buffer))),
        ("shutdown_timeout", both(|process| humantime::format_duration(process.shutdown_timeout).to_string())),
        ("observe.listen", both(|process| process.observe.listen.to_string())),
        ("log.level", both(|process| format!("{:?}", process.log_level).to_lowercase())),
        ("log.format", both(|process| format!("{:?}", process.log_format).to_lowercase())),
    ];
    values.into_iter().filter(|(_, (left, right))| left != right).map(|(key, (left, right))| (key, left, right)).collect()
}

fn named(pipeline: &Pipeline) -> Place {
    Place::Named(pipeline.file.display().to_string())
}
