//! Which topics are read.

use regex::Regex;

/// Which topics a route takes.
#[derive(Clone, Debug, Default)]
pub struct TopicSelector {
    pub names: Vec<String>,
    /// Expressions as librdkafka and we read them: they begin with `^` and match the whole name.
    pub patterns: Vec<Regex>,
    pub exclude: Vec<String>,
}
