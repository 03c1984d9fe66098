//! `check --show`: the merged file with the origin of each value. It is YAML again, and holds no secret.

use super::{
    mask,
    pipeline::Pipeline,
    tree::{Content, Node, Origins, Source, below},
    validate::{default_node, is_nothing},
};

/// The merged settings of a pipeline, each value with where it comes from, secrets masked.
#[must_use]
pub fn show(pipeline: &Pipeline) -> String {
    pipeline.shown.clone()
}

/// Adds what holds because of something else that was written.
pub(super) fn complete(root: &mut Node, pipeline: &Pipeline, origins: &mut Origins) {
    if let Some(kafka) = root.table_mut().and_then(|table| table.get_mut("kafka")).and_then(Node::table_mut)
        && kafka.get("group").is_none_or(is_nothing)
    {
        kafka.insert("group".to_owned(), default_node(origins, "kafka.group".to_owned(), &pipeline.kafka.group));
    }
}

pub(super) fn merged(root: &Node, origins: &Origins, file: &str) -> String {
    let mut lines = Vec::new();
    for key in ["name", "kafka", "database", "redis", "batch", "retry", "rate_limit", "max_buffer", "shutdown_timeout", "observe", "log", "routes"] {
        // `defaults` is left out: each route shows what it took from there.
        if let Some(node) = root.table().and_then(|table| table.get(key)) {
            entry(&mut lines, &format!("{key}:"), node, key, 0, &Origin { origins, file });
        }
    }
    let width = lines.iter().filter(|(_, origin)| !origin.is_empty()).map(|(text, _)| text.chars().count()).max().unwrap_or(0).min(60);
    let line = |(text, origin): (String, String)| {
        if origin.is_empty() { format!("{text}\n") } else { format!("{text:width$}  # {origin}\n") }
    };
    lines.into_iter().map(line).collect()
}

struct Origin<'a> {
    origins: &'a Origins,
    file: &'a str,
}

impl Origin<'_> {
    fn of(&self, node: &Node) -> String {
        match self.origins.get(node.origin).map(|origin| &origin.source) {
            Some(Source::File { value, .. }) => format!("{}:{}", self.file, value.line),
            Some(Source::Environment(name)) => name.clone(),
            Some(Source::Set(key)) => format!("--set {key}"),
            Some(Source::Default) | None => "default".to_owned(),
        }
    }
}

fn entry(lines: &mut Vec<(String, String)>, head: &str, node: &Node, path: &str, depth: usize, origin: &Origin<'_>) {
    let indent = "  ".repeat(depth);
    match &node.content {
        Content::Nothing => {}
        Content::Text(text) => lines.push((format!("{indent}{head} {}", shown(text, path, node, origin.origins)), origin.of(node))),
        Content::List(items) if items.is_empty() => lines.push((format!("{indent}{head} []"), origin.of(node))),
        Content::Table(table) if table.values().all(is_nothing) => {}
        Content::List(items) => {
            lines.push((format!("{indent}{head}"), String::new()));
            items.iter().for_each(|item| entry(lines, "-", item, path, depth + 1, origin));
        }
        Content::Table(table) => {
            lines.push((format!("{indent}{head}"), String::new()));
            for (key, node) in table {
                entry(lines, &format!("{}:", quoted(key)), node, &below(path, key), depth + 1, origin);
            }
        }
    }
}

fn shown(text: &str, path: &str, node: &Node, origins: &Origins) -> String {
    let from_file = origins.get(node.origin).is_some_and(|origin| origin.from_file);
    let is_address = ["database.url", "redis.url", "redis.sentinels", "redis.cluster"].contains(&path);
    if mask::is_secret(path) || (from_file && !is_address) {
        return format!("'{}'", mask::MASK);
    }
    if is_address {
        return quoted(&mask::url(text));
    }
    quoted(text)
}

/// Without quotes where YAML and this product read it the same.
fn quoted(text: &str) -> String {
    let simple = text.chars().all(|character| character.is_ascii_alphanumeric() || "._/-:@+?=&".contains(character));
    let plain =
        simple && !text.is_empty() && !text.starts_with(['-', ':', '?', '@', '&']) && !text.ends_with(':') && !["null", "~", "Null", "NULL"].contains(&text);
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}
