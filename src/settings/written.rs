//! A file with its variables put in and its short forms written out.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::Path as FilePath,
};

use super::{
    expand::{Failure, expand},
    mask,
    nearest::nearest,
    problem::{Place, Problem, SourceText},
    tree::{Content, Node, Origins, Path, Range, Source, Step, below},
    yaml::{self, Raw, RawContent},
};

/// What a file says.
#[derive(Debug)]
pub(super) struct Written {
    pub root: Node,
    pub origins: Origins,
    pub text: SourceText,
    /// The name in the file, which `--set name:…` goes by.
    pub name: Option<String>,
}

/// Reads a file. `None`: it is not even YAML, and the problem is said.
pub(super) fn read(file: &FilePath, content: io::Result<Vec<u8>>, environment: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Option<Written> {
    let name = file.display().to_string();
    let content = match content {
        Ok(content) => content,
        Err(error) => {
            problems.push(Problem::new(format!("the file cannot be read: {error}"), Place::Named(name)));
            return None;
        }
    };
    let Ok(content) = String::from_utf8(content) else {
        problems.push(Problem::new("the file is not UTF-8", Place::Named(name)));
        return None;
    };
    from_text(&name, &content, environment, problems)
}

fn from_text(name: &str, content: &str, environment: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Option<Written> {
    let text = SourceText::new(name, content);
    let raw = match yaml::parse(content) {
        Ok(Some(raw)) => raw,
        Ok(None) => {
            problems.push(Problem::new("the file is empty", Place::Named(name.to_owned())).with_label("oncesink example prints one with every key"));
            return None;
        }
        Err(invalid) => {
            let problem = Problem::new(invalid.message, text.place(invalid.range));
            problems.push(match invalid.label {
                Some(label) => problem.with_label(label),
                None => problem,
            });
            return None;
        }
    };
    if !matches!(raw.content, RawContent::Map(_)) {
        problems.push(Problem::new("the file holds no keys", text.place(raw.range)).with_label("write `key: value` lines; oncesink example prints some"));
        return None;
    }
    let mut placing = Placing { environment, origins: Origins::default(), text, found: Vec::new() };
    let mut root = placing.node(raw, String::new(), None);
    let Placing { origins, text, found, .. } = placing;
    // Only now all secrets are known, which a line of a problem must not show.
    problems.extend(found.into_iter().map(|(range, problem)| Problem { place: text.place(range), ..problem }));
    write_out(&mut root);
    let name = root.table().and_then(|table| table.get("name")).and_then(|node| match &node.content {
        Content::Text(name) => Some(name.clone()),
        _ => None,
    });
    Some(Written { root, origins, text, name })
}

/// `kafka`, `database` and `redis` as a text are short for one key below them.
pub(super) fn long(mut path: Path) -> Path {
    if let [Step::Key(key)] = path.0.as_slice()
        && let Some(below) = short_for(key)
    {
        path.0.push(Step::Key(below.to_owned()));
    }
    path
}

fn short_for(key: &str) -> Option<&'static str> {
    match key {
        "kafka" => Some("brokers"),
        "database" | "redis" => Some("url"),
        _ => None,
    }
}

fn write_out(root: &mut Node) {
    for (key, node) in root.table_mut().into_iter().flatten() {
        if let Some(below) = short_for(key)
            && matches!(node.content, Content::Text(_) | Content::List(_))
        {
            let short = Node { origin: node.origin, content: std::mem::replace(&mut node.content, Content::Nothing) };
            node.content = Content::Table(BTreeMap::from([(below.to_owned(), short)]));
        }
    }
}

struct Placing<'a> {
    environment: &'a BTreeMap<String, String>,
    origins: Origins,
    text: SourceText,
    found: Vec<(Range, Problem)>,
}

impl Placing<'_> {
    fn node(&mut self, raw: Raw, path: String, key: Option<Range>) -> Node {
        let origin = self.origins.add(path.clone(), Source::File { key, value: raw.range });
        let content = match raw.content {
            // The one key for which `null` is a word.
            RawContent::Scalar { text, .. } if text == "null" && path.ends_with("missing_fields") => Content::Text(text),
            RawContent::Scalar { text, plain } if plain && ["", "~", "null", "Null", "NULL"].contains(&text.as_str()) => Content::Nothing,
            RawContent::Scalar { text, .. } => self.scalar(&text, raw.range, &path, origin),
            RawContent::List(items) => {
                Content::List(items.into_iter().enumerate().map(|(index, item)| self.node(item, format!("{path}[{index}]"), None)).collect())
            }
            RawContent::Map(entries) => Content::Table(self.table(entries, &path)),
        };
        Node { origin, content }
    }

    fn table(&mut self, entries: Vec<(Raw, Raw)>, path: &str) -> BTreeMap<String, Node> {
        let mut table: BTreeMap<String, Node> = BTreeMap::new();
        let mut merged = Vec::new();
        for (key, value) in entries {
            let RawContent::Scalar { text, plain } = key.content else {
                self.problem(key.range, path, "a key is one text", None);
                continue;
            };
            if plain && text == "<<" {
                merged.push(value);
                continue;
            }
            let path = below(path, &text);
            let node = self.node(value, path.clone(), Some(key.range));
            match table.entry(text) {
                Entry::Occupied(there) => {
                    self.problem(key.range, &path, format!("`{}` is written twice", there.key()), Some("leave one of them out".to_owned()))
                }
                Entry::Vacant(free) => {
                    free.insert(node);
                }
            }
        }
        // What stands beside a merge wins over it, and an earlier merge over a later one.
        for value in merged {
            let sources = match value.content {
                RawContent::List(items) => items,
                content => vec![Raw { range: value.range, content }],
            };
            for source in sources {
                match source.content {
                    RawContent::Map(entries) => {
                        for (key, node) in self.table(entries, path) {
                            table.entry(key).or_insert(node);
                        }
                    }
                    _ => {
                        self.problem(source.range, path, "`<<` takes the keys of another table", Some("write `<<: *name` of a table marked `&name`".to_owned()))
                    }
                }
            }
        }
        table
    }

    fn scalar(&mut self, text: &str, range: Range, path: &str, origin: usize) -> Content {
        let key = path.rsplit_once('.').map_or(path, |(_, key)| key);
        // Also a mistyped `pasword` holds one.
        let secret = mask::is_secret(path) || (nearest(key, ["password"]).is_some() && !key.is_empty());
        if (secret && !text.starts_with("${")) || mask::url(text) != text {
            self.text.hidden.push(range);
        }
        match expand(text, self.environment) {
            Ok(expanded) => {
                if let Some(origin) = self.origins.get_mut(origin) {
                    origin.from_file = expanded.from_file;
                }
                Content::Text(expanded.text)
            }
            Err(failure) => {
                if let Some(origin) = self.origins.get_mut(origin) {
                    origin.broken = true;
                }
                let (message, label) = said(&failure, path);
                self.problem(range, path, message, label);
                Content::Text(String::new())
            }
        }
    }

    fn problem(&mut self, range: Range, path: &str, message: impl Into<String>, label: Option<String>) {
        let problem = Problem::new(message, Place::Nowhere).with_path(path);
        self.found.push((range, Problem { label, ..problem }));
    }
}

fn said(failure: &Failure, path: &str) -> (String, Option<String>) {
    match failure {
        Failure::Unset { variable } if path.ends_with(".table") && !variable.chars().any(char::is_uppercase) => (
            format!("`${{{variable}}}` is an environment variable here and it isn't set"),
            Some(if variable == "topic" {
                "for the topic's name write `{topic}`".to_owned()
            } else {
                format!("for a part of the topic's name write `{{{variable}}}`")
            }),
        ),
        Failure::Unset { variable } => (
            format!("the environment variable `{variable}` isn't set"),
            Some(format!("set it, give it a default as in ${{{variable}:-…}}, or write $${{ for the text itself")),
        ),
        Failure::Unreadable { path, reason } => (format!("{path} cannot be read: {reason}"), None),
        Failure::Unclosed => ("`${` is not closed".to_owned(), Some("add the `}`, or write $${ for the text itself".to_owned())),
        Failure::NotAName { text } => (
            format!("`${{{text}}}` is none of ${{NAME}}, ${{NAME:-default}} and ${{file:/path}}"),
            Some("correct it, or write $${ for the text itself".to_owned()),
        ),
    }
}
