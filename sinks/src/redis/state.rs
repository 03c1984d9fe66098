//! The state of a pipeline in Redis: the generation in force, and for each partition the claim that holds it and how far it has come.

use std::collections::HashMap;

use super::{
    connection::Link,
    fault::unknown,
    script::{Scripts, Stored},
};
use crate::{
    dedup::{Found, Generation, Reached, Rewound},
    fault::Fault,
    model::{ClaimId, NextOffset, Partition},
    screening::{Seen, Stands},
};

#[derive(Debug)]
pub(super) struct State {
    key: String,
    scripts: Scripts,
}

impl State {
    pub(super) fn new(key: String) -> Self {
        Self { key, scripts: Scripts::new() }
    }

    pub(super) async fn read(&self, link: &Link, held: &[Reached]) -> Result<Seen, Fault> {
        let mut command = redis::cmd("HMGET");
        command.arg(&self.key).arg("generation");
        for held in held {
            command.arg(held.partition.to_string());
        }
        let mut answer = link.one::<Vec<Option<String>>>(command).await?.into_iter();
        let generation = answer.next().ok_or_else(unknown)?.map(Generation::new);
        let partitions: Vec<Option<Stands>> = answer.map(|text| text.map(|text| stands(&text).ok_or_else(unknown)).transpose()).collect::<Result<_, _>>()?;
        if partitions.len() != held.len() {
            return Err(unknown());
        }
        Ok(Seen { generation, partitions })
    }

    pub(super) async fn claim(&self, link: &Link, held: &[Reached]) -> Result<(Generation, Found), Fault> {
        let answer: Vec<String> = self.run(link, &self.scripts.claim, &fresh(), held).await?;
        let (generation, before) = answer.split_first().ok_or_else(unknown)?;
        if before.len() != held.len() {
            return Err(unknown());
        }
        let mut rewound = Vec::new();
        for (held, once) in held.iter().zip(before).filter(|(_, once)| !once.is_empty()) {
            let once = NextOffset::new(once.parse().map_err(|_| unknown())?);
            rewound.push(Rewound { partition: held.partition.clone(), durable: held.durable, once });
        }
        Ok((Generation::new(generation.as_str()), Found { rewound }))
    }

    pub(super) async fn register(&self, link: &Link, held: &[Reached]) -> Result<Generation, Fault> {
        let answer: String = self.run(link, &self.scripts.register, &fresh(), held).await?;
        Ok(Generation::new(answer))
    }

    /// Which of them were taken.
    pub(super) async fn raise(&self, link: &Link, generation: &Generation, reached: &[Reached]) -> Result<HashMap<Partition, bool>, Fault> {
        let answer: Vec<u8> = self.run(link, &self.scripts.raise, generation.as_str(), reached).await?;
        if answer.len() != reached.len() {
            return Err(unknown());
        }
        Ok(reached.iter().zip(answer).map(|(reached, taken)| (reached.partition.clone(), taken == 1)).collect())
    }

    async fn run<T: redis::FromRedisValue>(&self, link: &Link, script: &Stored, first: &str, held: &[Reached]) -> Result<T, Fault> {
        let mut arguments = vec![first.to_owned()];
        for held in held {
            arguments.extend([held.partition.to_string(), held.claim.0.to_string(), digits(held.durable)]);
        }
        link.script(script, &self.key, &arguments).await
    }
}

/// A generation that nobody ever had: a number that is counted up would come again after Redis has lost its last steps.
fn fresh() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Always 19 of them, so that texts compare as numbers do.
fn digits(next: NextOffset) -> String {
    format!("{:019}", next.get().max(0))
}

fn stands(text: &str) -> Option<Stands> {
    let (durable, claim) = text.split_once(':')?;
    Some(Stands { claim: ClaimId(claim.parse().ok()?), durable: NextOffset::new(durable.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(claim: i64, durable: i64) -> Option<Stands> {
        Some(Stands { claim: ClaimId(claim), durable: NextOffset::new(durable) })
    }

    #[test]
    fn what_is_stored_is_read_back() {
        for (claim, durable) in [(-7, 0), (i64::MIN, i64::MAX), (5, 88212)] {
            let text = format!("{}:{claim}", digits(NextOffset::new(durable)));
            assert_eq!(stands(&text), at(claim, durable));
            assert_eq!(&text[20..], claim.to_string(), "where the scripts look for it");
        }
    }
}
