//! One pass over a JSON object: each field that a column takes is remembered as it stands, everything else is only checked.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Bad, Broken,
    fields::{Action, FieldMatch, Fields, Node},
    rule,
};

/// What a record gives one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    Missing,
    /// Of a field whose name is only near: one that matches exactly comes before it.
    Near(&'a str),
    Found(&'a str),
}

/// What one pass found.
#[derive(Debug)]
pub(super) struct Walked<'a> {
    /// One for each column of the target.
    pub(super) slots: Vec<Slot<'a>>,
    /// Whether a field found no column.
    pub(super) extra: bool,
    /// Their names, if they were asked for; some, if they are many.
    pub(super) extra_names: Vec<String>,
}

/// Reads the object in `text`. `columns`: how many the target has; `name` names the column of a position in messages.
pub(super) fn walk<'a>(text: &'a str, columns: usize, fields: &mut Fields, list_extra: bool, name: impl Fn(Broken, usize) -> Bad) -> Result<Walked<'a>, Bad> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Broken::new(rule::NOT_AN_OBJECT, "the value is not a JSON object").into(),
            Err(error) => not_json(&error).into(),
        });
    }
    let walked = Walked { slots: vec![Slot::Missing; columns], extra: false, extra_names: Vec::new() };
    let mut walk = Walk { fields, walked, list_extra, conflict: None };
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(&mut walk).and_then(|()| reader.end()).map_err(|error| not_json(&error))?;
    let Walk { walked, conflict, .. } = walk;
    match conflict {
        Some((broken, position)) => Err(name(broken, position)),
        None => Ok(walked),
    }
}

/// The names of the top-level fields of an object, for people.
pub(crate) fn field_names(text: &str) -> Result<Vec<String>, Bad> {
    Ok(members(text)?.into_iter().map(|(name, _)| name).collect())
}

/// The members of a small object, such as a key.
pub(super) fn members(text: &str) -> Result<Vec<(String, &str)>, Broken> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let members = reader.deserialize_map(Members).and_then(|members| reader.end().map(|()| members));
    members.map_err(|error| if error.is_data() { Broken::new(rule::NOT_AN_OBJECT, "not a JSON object") } else { not_json(&error) })
}

/// Where the text stops being JSON, but not what stands there.
pub(super) fn not_json(error: &serde_json::Error) -> Broken {
    Broken::new(rule::NOT_JSON, format!("not JSON at line {}, column {}", error.line(), error.column()))
}

struct Walk<'f, 'a> {
    fields: &'f mut Fields,
    walked: Walked<'a>,
    list_extra: bool,
    conflict: Option<(Broken, usize)>,
}

const MOST_NAMES: usize = 50;

impl<'a> Walk<'_, 'a> {
    fn found(&mut self, position: usize, raw: &'a str) {
        match self.walked.slots.get_mut(position) {
            Some(slot @ Slot::Missing) => *slot = Slot::Found(raw),
            Some(slot @ Slot::Near(_)) => {
                // The near one finds no column now.
                *slot = Slot::Found(raw);
                self.walked.extra = true;
            }
            _ => self.twice(position),
        }
    }

    fn near(&mut self, position: usize, raw: &'a str) {
        match self.walked.slots.get_mut(position) {
            Some(slot @ Slot::Missing) => *slot = Slot::Near(raw),
            Some(Slot::Found(_)) => self.walked.extra = true,
            _ => self.twice(position),
        }
    }

    fn twice(&mut self, position: usize) {
        let detail = "the record gives it two values, by one field twice or by two fields that differ in case and `_`";
        self.conflict.get_or_insert((Broken::new(rule::DUPLICATE_FIELD, detail), position));
    }

    fn take(&mut self, action: Action, raw: &'a str) {
        match action.by_name {
            FieldMatch::Exact(position) => self.found(position, raw),
            FieldMatch::Loose(position) => self.near(position, raw),
            FieldMatch::Elsewhere | FieldMatch::NoColumn => {}
        }
        if let Some(node) = action.root.and_then(|index| self.fields.root(index)) {
            self.descend(&node, raw);
        }
    }

    fn descend(&mut self, node: &Node, raw: &'a str) {
        node.columns.iter().for_each(|position| self.found(*position, raw));
        if node.children.is_empty() {
            return;
        }
        match raw.as_bytes().first() {
            Some(b'{') => {
                let members = match members(raw) {
                    Ok(members) => members,
                    Err(broken) => return self.fails(node, broken),
                };
                for (name, value) in members {
                    if let Some(child) = node.children.get(&name) {
                        self.descend(child, value);
                    }
                }
            }
            // Nothing is below null: everything there is null.
            Some(b'n') => node.children.values().for_each(|child| child.every_column(&mut |position| self.found(position, raw))),
            _ => self.fails(node, Broken::new(rule::NOT_AN_OBJECT, "its path goes through a value that is not an object")),
        }
    }

    /// Blames the first column below `node`.
    fn fails(&mut self, node: &Node, broken: Broken) {
        let mut first = None;
        node.every_column(&mut |position| first = first.or(Some(position)));
        self.conflict = self.conflict.take().or(first.map(|position| (broken, position)));
    }
}

impl<'a> Visitor<'a> for &mut Walk<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(action) = map.next_key_seed(FieldName { fields: self.fields, extra_names: self.list_extra.then_some(&mut self.walked.extra_names) })? {
            self.walked.extra |= action.finds_nothing();
            if action.takes_value() {
                let raw: &'a RawValue = map.next_value()?;
                self.take(action, raw.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Looks a field name up where it stands.
struct FieldName<'f> {
    fields: &'f mut Fields,
    extra_names: Option<&'f mut Vec<String>>,
}

impl<'a> DeserializeSeed<'a> for FieldName<'_> {
    type Value = Action;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Action, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName<'_> {
    type Value = Action;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Action, E> {
        let action = self.fields.action(name);
        if let Some(names) = self.extra_names
            && action.finds_nothing()
            && names.len() < MOST_NAMES
        {
            names.push(name.to_owned());
        }
        Ok(action)
    }
}

struct Members;

impl<'a> Visitor<'a> for Members {
    type Value = Vec<(String, &'a str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let raw: &'a RawValue = map.next_value()?;
            members.push((name, raw.get()));
        }
        Ok(members)
    }
}
