//! Which column a field of a record goes to: the one of its name, else the only one whose name differs just in case and `_`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;

/// How a field found its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldMatch {
    Exact(usize),
    /// Ignoring case and `_`.
    Loose(usize),
    /// The table has the column, but something else feeds it, or nothing may.
    Elsewhere,
    NoColumn,
}

/// Everything that is done with one field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Action {
    pub(super) by_name: FieldMatch,
    /// Where paths of `columns:` begin with this field: an index for [`Fields::root`].
    pub(super) root: Option<usize>,
}

impl Action {
    pub(super) fn finds_nothing(self) -> bool {
        self.by_name == FieldMatch::NoColumn && self.root.is_none()
    }

    pub(super) fn takes_value(self) -> bool {
        self.root.is_some() || matches!(self.by_name, FieldMatch::Exact(_) | FieldMatch::Loose(_))
    }
}

/// The paths of `columns:` below one field.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Positions in the target of the columns that take this very value.
    pub(super) columns: Vec<usize>,
    pub(super) children: BTreeMap<String, Node>,
}

impl Node {
    fn insert(&mut self, path: &[String], position: usize) {
        match path.split_first() {
            Some((name, rest)) => self.children.entry(name.clone()).or_default().insert(rest, position),
            None => self.columns.push(position),
        }
    }

    /// Every column at or below this field.
    pub(super) fn every_column(&self, visit: &mut impl FnMut(usize)) {
        self.columns.iter().for_each(|position| visit(*position));
        self.children.values().for_each(|child| child.every_column(visit));
    }
}

/// The columns that fields can feed, and what was learned of field names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    /// Every column of the table; `None` where no field feeds it by name.
    exact: BTreeMap<String, Option<usize>>,
    /// Under the folded name; `None` where two columns share it, or no field feeds the one.
    loose: BTreeMap<String, Option<usize>>,
    roots: Vec<Arc<Node>>,
    root_names: BTreeMap<String, usize>,
    /// Only looked up, never walked. Every field of every record is: the standard hasher costs a twentieth of all.
    learned: HashMap<Box<str>, Action, RandomState>,
}

/// Producers that put data into field names must not fill the memory.
const MOST_LEARNED: usize = 4_096;

impl Fields {
    /// `columns`: all columns of the table, and for those that fields feed by name their position in the target.
    pub(crate) fn new<'a>(columns: impl Iterator<Item = (&'a str, Option<usize>)>) -> Self {
        let mut fields = Self::default();
        for (name, position) in columns {
            fields.exact.insert(name.to_owned(), position);
            fields.loose.entry(folded(name)).and_modify(|shared| *shared = None).or_insert(position);
        }
        fields
    }

    /// Feeds the column at `position` by a path below the value.
    pub(crate) fn add_path(&mut self, path: &[String], position: usize) {
        if let Some((name, rest)) = path.split_first() {
            let index = *self.root_names.entry(name.clone()).or_insert(self.roots.len());
            if index == self.roots.len() {
                self.roots.push(Arc::default());
            }
            if let Some(root) = self.roots.get_mut(index) {
                Arc::make_mut(root).insert(rest, position);
            }
        }
    }

    pub(super) fn root(&self, index: usize) -> Option<Arc<Node>> {
        self.roots.get(index).cloned()
    }

    /// Which column takes a field of this name, and whether `columns:` names the field.
    pub(crate) fn find(&self, field: &str) -> (FieldMatch, bool) {
        let by_name = match self.exact.get(field) {
            Some(Some(position)) => FieldMatch::Exact(*position),
            Some(None) => FieldMatch::Elsewhere,
            None => match self.loose.get(&folded(field)) {
                Some(Some(position)) => FieldMatch::Loose(*position),
                Some(None) if self.is_unambiguous(field) => FieldMatch::Elsewhere,
                _ => FieldMatch::NoColumn,
            },
        };
        (by_name, self.root_names.contains_key(field))
    }

    pub(super) fn action(&mut self, field: &str) -> Action {
        if let Some(action) = self.learned.get(field) {
            return *action;
        }
        let action = Action { by_name: self.find(field).0, root: self.root_names.get(field).copied() };
        if self.learned.len() < MOST_LEARNED {
            self.learned.insert(field.into(), action);
        }
        action
    }

    fn is_unambiguous(&self, field: &str) -> bool {
        self.exact.keys().filter(|name| folded(name) == folded(field)).count() == 1
    }
}

/// A name without what producers and databases write differently.
pub(crate) fn folded(name: &str) -> String {
    name.chars().filter(|character| *character != '_').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_goes_to_its_name_else_to_the_only_near_one() {
        let columns = [("id", Some(0)), ("customer_id", Some(1)), ("order_no", Some(2)), ("orderno", Some(3)), ("ssn", None)];
        let mut fields = Fields::new(columns.into_iter());
        assert_eq!(fields.find("id").0, FieldMatch::Exact(0));
        assert_eq!(fields.find("ID").0, FieldMatch::Loose(0));
        assert_eq!(fields.find("customerId").0, FieldMatch::Loose(1));
        assert_eq!(fields.find("order_no").0, FieldMatch::Exact(2));
        assert_eq!(fields.find("orderNo").0, FieldMatch::NoColumn, "two columns are as near");
        assert_eq!(fields.find("SSN").0, FieldMatch::Elsewhere);
        assert_eq!(fields.find("other").0, FieldMatch::NoColumn);
        fields.add_path(&["other".to_owned(), "deep".to_owned()], 4);
        assert!(fields.find("other").1);
        assert!(!fields.action("other").finds_nothing());
    }

    #[test]
    fn what_is_learned_of_names_is_bounded() {
        let mut fields = Fields::new([("id", Some(0))].into_iter());
        for number in 0..2 * MOST_LEARNED {
            fields.action(&number.to_string());
        }
        assert_eq!(fields.learned.len(), MOST_LEARNED);
        assert_eq!(fields.action("id").by_name, FieldMatch::Exact(0));
    }
}
