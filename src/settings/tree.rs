//! The settings before they have a type: texts in lists and tables, each with where it was written.

use std::{collections::BTreeMap, fmt};

use config::{Value, ValueKind};

/// One value; `origin` is its place in [`Origins`].
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub origin: usize,
    pub content: Content,
}

/// Texts stay texts: what `0123` or `yes` means is decided by the key that holds it, never by the look of it.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// `null`: the key counts as not written, and what `defaults` says of it is not inherited.
    Nothing,
    Text(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// A stretch of a file; lines and columns count from 1, columns are characters, the end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
}

/// Who said a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    File { key: Option<Range>, value: Range },
    Environment(String),
    Set(String),
    Default,
}

/// Where a value was written.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// `defaults.version` also where `routes[0]` inherits it.
    pub path: String,
    pub source: Source,
    /// A part of it was read by `${file:…}`: never printed.
    pub from_file: bool,
    /// It has its problem already; whatever else it lacks is not another one.
    pub broken: bool,
}

/// All origins of one pipeline.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins(Vec<Origin>);

impl Origins {
    pub fn add(&mut self, path: impl Into<String>, source: Source) -> usize {
        self.0.push(Origin { path: path.into(), source, from_file: false, broken: false });
        self.0.len() - 1
    }

    pub fn get(&self, id: usize) -> Option<&Origin> {
        self.0.get(id)
    }

    pub fn get_mut(&mut self, id: usize) -> Option<&mut Origin> {
        self.0.get_mut(id)
    }

    pub fn is_broken(&self, id: usize) -> bool {
        self.get(id).is_some_and(|origin| origin.broken)
    }

    pub fn any_broken(&self) -> bool {
        self.0.iter().any(|origin| origin.broken)
    }

    pub fn is_default(&self, id: usize) -> bool {
        self.get(id).is_none_or(|origin| origin.source == Source::Default)
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// `routes[0].table`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(pub Vec<Step>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// `routes[0]` and `table` make `routes[0].table`.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Node {
    pub fn text(origin: usize, text: impl Into<String>) -> Self {
        Self { origin, content: Content::Text(text.into()) }
    }

    pub fn table(&self) -> Option<&BTreeMap<String, Self>> {
        match &self.content {
            Content::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn table_mut(&mut self) -> Option<&mut BTreeMap<String, Self>> {
        match &mut self.content {
            Content::Table(table) => Some(table),
            _ => None,
        }
    }

    /// As the layering crate holds it; the origin travels along as a number.
    pub fn into_value(self) -> Value {
        let origin = self.origin.to_string();
        let kind = match self.content {
            Content::Nothing => ValueKind::Nil,
            Content::Text(text) => ValueKind::String(text),
            Content::List(nodes) => ValueKind::Array(nodes.into_iter().map(Self::into_value).collect()),
            Content::Table(table) => ValueKind::Table(table.into_iter().map(|(key, node)| (key, node.into_value())).collect()),
        };
        Value::new(Some(&origin), kind)
    }

    /// Back again. What no layer wrote (a table made for one of its keys) takes the origin `unwritten`.
    pub fn from_value(value: Value, unwritten: usize) -> Self {
        let origin = value.origin().and_then(|origin| origin.parse().ok()).unwrap_or(unwritten);
        let content = match value.kind {
            ValueKind::Nil => Content::Nothing,
            ValueKind::Array(values) => Content::List(values.into_iter().map(|value| Self::from_value(value, unwritten)).collect()),
            ValueKind::Table(table) => Content::Table(table.into_iter().map(|(key, value)| (key, Self::from_value(value, unwritten))).collect()),
            scalar => Content::Text(scalar.to_string()),
        };
        Self { origin, content }
    }

    /// The origin of every value by its path.
    pub fn places(&self) -> BTreeMap<String, usize> {
        let mut places = BTreeMap::new();
        self.gather_places(String::new(), &mut places);
        places
    }

    fn gather_places(&self, path: String, places: &mut BTreeMap<String, usize>) {
        match &self.content {
            Content::List(nodes) => nodes.iter().enumerate().for_each(|(index, node)| node.gather_places(format!("{path}[{index}]"), places)),
            Content::Table(table) => table.iter().for_each(|(key, node)| node.gather_places(below(&path, key), places)),
            Content::Nothing | Content::Text(_) => {}
        }
        places.insert(path, self.origin);
    }
}
