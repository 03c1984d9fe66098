use std::{fmt, str::FromStr, sync::Arc};

/// One partition of one topic; written `orders:3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    pub topic: Arc<str>,
    pub index: i32,
}

impl Partition {
    #[must_use]
    pub fn new(topic: &str, index: i32) -> Self {
        Self { topic: Arc::from(topic), index }
    }

    #[must_use]
    pub fn at(&self, offset: i64) -> Coordinate {
        Coordinate { partition: self.clone(), offset }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic, self.index)
    }
}

/// Where one record stands in Kafka; written `orders:3@88211`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coordinate {
    pub partition: Partition,
    pub offset: i64,
}

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// The text is not `topic:partition@offset`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a coordinate; write topic:partition@offset, as in orders:3@88211")]
pub struct ParseCoordinateError(String);

impl FromStr for Coordinate {
    type Err = ParseCoordinateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            let (partition, offset) = text.rsplit_once('@')?;
            let (topic, index) = partition.rsplit_once(':')?;
            let (index, offset): (i32, i64) = (index.parse().ok()?, offset.parse().ok()?);
            (!topic.is_empty() && index >= 0 && offset >= 0).then(|| Partition::new(topic, index).at(offset))
        };
        parts().ok_or_else(|| ParseCoordinateError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinate_is_written_as_it_is_read() {
        for text in ["orders:3@88211", "a.b-c_d:0@0"] {
            assert_eq!(text.parse::<Coordinate>().unwrap().to_string(), text);
        }
        for text in ["orders", "orders:3", "orders@3", ":1@2", "orders:-1@2", "orders:1@-2", "orders:x@2"] {
            assert!(text.parse::<Coordinate>().is_err(), "{text}");
        }
    }
}
