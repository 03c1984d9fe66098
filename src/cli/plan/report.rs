//! A plan as people read it.

use std::collections::BTreeSet;

use oncesink_sinks::{
    model::{EventIdKind, WriteMode},
    session::Bookkeeping,
};

use super::{Findings, TopicFindings};
use crate::{
    cli::output::{self, Colour},
    decode::{ExtraFields, Format, Tombstone},
    guarantee::{Events, Facts, effective},
    route::{Mapping, RouteConfig},
};

pub fn print(findings: &Findings) {
    print_sides(findings);
    for topic in &findings.topics {
        for mapping in &topic.mappings {
            print_mapping(mapping, topic);
        }
    }
    print_starts(findings);
    print_guarantees(findings);
    print_needed(findings);
    println!();
    for warning in warnings(findings) {
        output::warning(&warning);
    }
    for obstacle in &findings.obstacles {
        output::error(&obstacle.to_string());
    }
    let (errors, warnings) = (findings.obstacles.len(), warnings(findings).len());
    let counted = |count: usize, what: &str| match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let next = if errors == 0 { format!(" Next: oncesink run {}", findings.pipeline.file.display()) } else { String::new() };
    let sum = format!("{}, {}; nothing was changed.{next}", counted(errors, "error"), counted(warnings, "warning"));
    let mut characters = sum.chars();
    println!("{}{}", characters.next().map(|first| first.to_ascii_uppercase()).unwrap_or_default(), characters.as_str());
}

fn print_sides(findings: &Findings) {
    let pipeline = &findings.pipeline;
    let mut rows = Vec::new();
    let heading = |text: &str| output::coloured(Colour::Bold, text);
    if let Some(kafka) = &findings.kafka {
        let members = match kafka.members.len() {
            0 => "no members".to_owned(),
            1 => "1 member".to_owned(),
            count => format!("{count} members"),
        };
        let partitions: usize = kafka.topics.values().sum();
        let tables: BTreeSet<String> = findings.topics.iter().flat_map(|topic| topic.mappings.iter().map(|mapping| mapping.table.to_string())).collect();
        rows.push(vec![
            heading(&pipeline.name),
            format!(
                "{}, {}, {}; group {} ({members})",
                plural(kafka.topics.len(), "topic"),
                plural(partitions, "partition"),
                plural(tables.len(), "table"),
                pipeline.kafka.group
            ),
        ]);
        rows.push(vec!["kafka".to_owned(), format!("{}, cluster {}", pipeline.kafka.brokers, kafka.probe.cluster())]);
    } else {
        rows.push(vec![heading(&pipeline.name), format!("group {}", pipeline.kafka.group)]);
        rows.push(vec!["kafka".to_owned(), format!("{}, not reached", pipeline.kafka.brokers)]);
    }
    rows.push(vec![
        "database".to_owned(),
        findings.database.as_ref().map_or_else(|| "not reached".to_owned(), |database| format!("{}, {}", database.facts.address, database.facts.version)),
    ]);
    if pipeline.redis.is_some() {
        rows.push(vec![
            "redis".to_owned(),
            findings.redis.as_ref().map_or_else(|| "not reached".to_owned(), |facts| format!("{}, {}", facts.address, facts.version)),
        ]);
    }
    println!("{}", output::table(&[], rows));
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn print_mapping(mapping: &Mapping, topic: &TopicFindings) {
    let format = match mapping.format {
        Format::Json => "json",
        Format::Text => "text",
        Format::Bytes => "bytes",
    };
    let key = match (mapping.write, mapping.primary) {
        (WriteMode::Append, _) => String::new(),
        (_, true) => format!(" on ({}) = primary key", mapping.key.join(", ")),
        (_, false) => format!(" on ({})", mapping.key.join(", ")),
    };
    let version = mapping.version.as_ref().map(|version| format!(", newer {version} wins")).unwrap_or_default();
    let tombstone = match &mapping.tombstone {
        Tombstone::Delete => "delete".to_owned(),
        Tombstone::Mark(column) => format!("mark {column}"),
        Tombstone::Ignore => "ignore".to_owned(),
        Tombstone::BadRecord => "bad-record".to_owned(),
    };
    let route = if *mapping.route == *mapping.topic { String::new() } else { format!(" (route {})", mapping.route) };
    println!(
        "\n{}{route}    {format}, {}{key}{version}, tombstone: {tombstone}",
        output::coloured(Colour::Bold, &format!("{} -> {}", mapping.topic, mapping.table)),
        mapping.write
    );
    let rows = mapping.columns.iter().map(|column| vec![column.column.clone(), column.declared.clone(), column.from.clone(), column.note.clone()]);
    for line in output::table(&["COLUMN", "TYPE", "FROM", "NOTE"], rows.collect()).lines() {
        println!("  {line}");
    }
    if !topic.has_record {
        println!("  no record yet: columns are matched when the first arrives");
    }
    if !mapping.fields_without_column.is_empty() {
        let fields: Vec<String> = mapping.fields_without_column.iter().map(|field| format!("value.{field}")).collect();
        let what = match mapping.extra_fields {
            ExtraFields::Ignore => "ignored",
            ExtraFields::BadRecord => "such a record is bad",
        };
        println!("  without a column: {} ({what})", fields.join(", "));
    }
}

fn print_starts(findings: &Findings) {
    let lines: Vec<&String> = findings.topics.iter().filter_map(|topic| topic.starts.as_ref()).flat_map(|starts| &starts.lines).collect();
    if !findings.topics.is_empty() {
        println!();
    }
    for (index, line) in lines.into_iter().enumerate() {
        println!("{}{line}", if index == 0 { "start     " } else { "          " });
    }
}

fn print_guarantees(findings: &Findings) {
    let mut said = BTreeSet::new();
    for topic in &findings.topics {
        for mapping in &topic.mappings {
            let Some(route) = findings.pipeline.routes.iter().find(|route| route.name == mapping.route) else { continue };
            if !said.insert(&route.name) {
                continue;
            }
            let facts = Facts {
                delivery: route.delivery,
                write: route.write,
                version: mapping.version.is_some(),
                deletes: route.remembers_deletes(),
                marked: events(route.marks_events(), route),
                remembered: events(route.remembers_events(), route),
            };
            let guarantee = effective(facts);
            println!("delivery  {}: {}, {}: {}", route.name, facts.delivery, guarantee.effect.as_str(), guarantee.because);
            for remains in guarantee.remains {
                let harmless = if remains.harmless { "harmless" } else { "not stopped" };
                println!("          {harmless}: {} {}", remains.what, remains.consequence);
            }
        }
    }
}

fn events(are_kept: bool, route: &RouteConfig) -> Events {
    match (are_kept, route.event_id.kind()) {
        (false, _) => Events::NotKept,
        (true, EventIdKind::Coordinate) => Events::ByCoordinate,
        (true, EventIdKind::Producer) => Events::ById,
    }
}

fn print_needed(findings: &Findings) {
    let Some(database) = &findings.database else { return };
    if let Some(Bookkeeping::Needed { statements, allowed }) = &database.bookkeeping {
        let who = if *allowed { "this role may, so `run` will" } else { "this role may not" };
        println!(
            "create    oncesink's own tables ({}; {who}); see: oncesink migrate {} --dry-run",
            plural(statements.len(), "statement"),
            findings.pipeline.file.display()
        );
    }
}

fn warnings(findings: &Findings) -> BTreeSet<String> {
    let mut warnings: BTreeSet<String> = findings.warnings.iter().cloned().collect();
    for mapping in findings.topics.iter().flat_map(|topic| &topic.mappings) {
        warnings.extend(mapping.warnings.iter().map(|warning| format!("{}: {warning}", mapping.table)));
        if let Some(bad) = &mapping.bad {
            warnings.insert(format!("the latest record of {} is a bad record for {}: {bad}", mapping.topic, mapping.table));
        }
    }
    warnings
}
