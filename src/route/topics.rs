//! Which topics a route takes, and which table a topic goes to.

use std::{collections::BTreeMap, fmt::Write as _};

use oncesink_sinks::model::{Identifier, TableName};
use regex::Regex;

use crate::source::TopicSelector;

impl TopicSelector {
    /// Whether the route takes `topic`.
    #[must_use]
    pub fn takes(&self, topic: &str) -> bool {
        self.captures(topic).is_some()
    }

    /// What the names in the table's name stand for, if the route takes `topic`: `topic`, and the named groups of the first expression
    /// that matches its whole name.
    pub(super) fn captures(&self, topic: &str) -> Option<BTreeMap<String, String>> {
        if self.exclude.iter().any(|name| name == topic) {
            return None;
        }
        let mut captures = BTreeMap::from([("topic".to_owned(), topic.to_owned())]);
        if self.names.iter().any(|name| name == topic) {
            return Some(captures);
        }
        let matched = self.patterns.iter().find_map(|pattern| named_groups(pattern, topic))?;
        captures.extend(matched);
        Some(captures)
    }
}

/// The named groups of `pattern` if it matches the whole of `topic`.
fn named_groups(pattern: &Regex, topic: &str) -> Option<BTreeMap<String, String>> {
    // Alternatives could else stop at a shorter match than the whole.
    let whole = Regex::new(&format!("^(?:{pattern})$")).unwrap_or_else(|_| pattern.clone());
    let found = whole.captures(topic).filter(|found| found.get_match().len() == topic.len())?;
    Some(whole.capture_names().flatten().filter_map(|name| Some((name.to_owned(), found.name(name)?.as_str().to_owned()))).collect())
}

/// The table that `template` names for a topic. Its schema ends at the template's own first point: a topic never chooses the schema by a
/// point in its name.
pub(super) fn table_name(template: &str, captures: &BTreeMap<String, String>) -> Result<TableName, String> {
    let mut depth = 0_u32;
    let point = template.bytes().position(|byte| {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        byte == b'.' && depth == 0
    });
    let part = |template: &str| substituted(template, captures).map(|name| Identifier::new(&name));
    match point.and_then(|point| template.split_at_checked(point)) {
        Some((schema, name)) => Ok(TableName { schema: Some(part(schema)?), name: part(name.strip_prefix('.').unwrap_or(name))? }),
        None => Ok(TableName { schema: None, name: part(template)? }),
    }
}

fn substituted(template: &str, captures: &BTreeMap<String, String>) -> Result<String, String> {
    let mut name = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (group, after) = after.split_once('}').ok_or_else(|| format!("`{template}` has a {{ without a }}"))?;
        let value = captures.get(group).ok_or_else(|| {
            let mut known = String::new();
            captures.keys().for_each(|name| {
                let _ = write!(known, " {{{name}}}");
            });
            format!("`{template}` names {{{group}}}, but the topic gives only{known}")
        })?;
        // What Kafka allows in a topic, so that no other source of topic names can bring more into SQL.
        if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
            return Err(format!("`{template}`: what {{{group}}} stands for is not made of letters, digits, `.`, `_` and `-`"));
        }
        name.push_str(before);
        name.push_str(value);
        rest = after;
    }
    name.push_str(rest);
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(format!("`{template}` gives an empty name"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(names: &[&str], patterns: &[&str], exclude: &[&str]) -> TopicSelector {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        TopicSelector { names: owned(names), patterns: patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect(), exclude: owned(exclude) }
    }

    #[test]
    fn expressions_match_whole_names() {
        let selector = selector(&["orders"], &["^bank[.](?<kind>[a-z]+)", "^a|ab"], &["bank.test"]);
        assert!(selector.takes("orders"));
        assert!(!selector.takes("orders2"));
        assert!(selector.takes("bank.cash"));
        assert!(!selector.takes("bank.cash2"));
        assert!(!selector.takes("bank.test"));
        assert!(selector.takes("ab"), "the shorter alternative is not the whole name, the longer one is");
        assert!(!selector.takes("xbank.cash"));
    }

    #[test]
    fn a_table_is_named_by_the_topic() {
        let selector = selector(&["a.b"], &["^bank[.](?<kind>[a-z]+)$"], &[]);
        let table = |template: &str, topic: &str| table_name(template, &selector.captures(topic).unwrap());
        let name = table("ledger.{kind}", "bank.cash").unwrap();
        assert_eq!((name.schema, name.name), (Some(Identifier::new("ledger")), Identifier::new("cash")));
        let name = table("{topic}", "a.b").unwrap();
        assert_eq!((name.schema, name.name), (None, Identifier::new("a.b")));
        assert_eq!(table("{topic}_raw", "a.b").unwrap().name, Identifier::new("a.b_raw"));
        assert!(table("{kind}", "a.b").unwrap_err().contains("{topic}"));
        assert!(table("{topic", "a.b").is_err());
        assert!(table("", "a.b").is_err());
        assert!(table_name("{topic}", &BTreeMap::from([("topic".to_owned(), "a\"; DROP".to_owned())])).is_err());
    }
}
