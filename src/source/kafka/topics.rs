//! Which topics are read. Names and expressions are expanded here against the cluster's topics, and the consumer subscribes to names only:
//! librdkafka has another dialect of expressions, matches parts of a name, and cannot exclude.

use std::collections::BTreeSet;

use regex::Regex;

use crate::source::TopicSelector;

/// Kafka's own topics; an expression never means them.
const INTERNAL: &[&str] = &["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// The topics of all routes of a pipeline.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    selectors: Vec<Selector>,
}

#[derive(Clone, Debug)]
struct Selector {
    names: Vec<String>,
    patterns: Vec<Regex>,
    exclude: Vec<String>,
}

impl Topics {
    pub(super) fn new(selectors: &[TopicSelector]) -> Self {
        let selectors = selectors
            .iter()
            .map(|selector| Selector {
                names: selector.names.clone(),
                // The whole name must match, also where an alternative alone has no anchor: `^a|b`.
                patterns: selector
                    .patterns
                    .iter()
                    .map(|pattern| Regex::new(&format!(r"\A(?:{})\z", pattern.as_str())).unwrap_or_else(|_| pattern.clone()))
                    .collect(),
                exclude: selector.exclude.clone(),
            })
            .collect();
        Self { selectors }
    }

    pub(super) fn has_patterns(&self) -> bool {
        self.selectors.iter().any(|selector| !selector.patterns.is_empty())
    }

    /// The names that are written out: each must exist.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let names = self.selectors.iter().flat_map(|selector| selector.names.iter().filter(|name| !selector.exclude.contains(name)));
        names.map(String::as_str).collect()
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        self.selectors.iter().any(|selector| {
            let by_pattern = || !INTERNAL.contains(&topic) && selector.patterns.iter().any(|pattern| pattern.is_match(topic));
            !selector.exclude.iter().any(|name| name == topic) && (selector.names.iter().any(|name| name == topic) || by_pattern())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(names: &[&str], patterns: &[&str], exclude: &[&str]) -> Topics {
        Topics::new(&[TopicSelector {
            names: names.iter().map(ToString::to_string).collect(),
            patterns: patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect(),
            exclude: exclude.iter().map(ToString::to_string).collect(),
        }])
    }

    #[test]
    fn an_expression_matches_whole_names_that_are_not_excluded() {
        let topics = topics(&["orders"], &[r"^bank\.[a-z]+", "^a|ab"], &["bank.test"]);
        for (name, expected) in
            [("orders", true), ("orders2", false), ("bank.eur", true), ("bank.eur1", false), ("bank.test", false), ("ab", true), ("xab", false)]
        {
            assert_eq!(topics.matches(name), expected, "{name}");
        }
    }

    #[test]
    fn an_expression_never_means_the_topics_of_kafka_itself() {
        let topics = topics(&[], &["^.*"], &[]);
        assert!(!topics.matches("__consumer_offsets") && topics.matches("__mine"));
    }
}
