//! What is taken, applied and committed in a lane. Pure.

use oncesink_sinks::model::NextOffset;

/// The marks of a lane; `committed <= durable = applied <= taken`, but that at-most-once is committed ahead, and goes on over what it has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    taken: NextOffset,
    applied: NextOffset,
    durable: NextOffset,
    committed: Option<NextOffset>,
}

/// A span does not join what was applied before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch from {from} was applied where {applied} is next")]
pub struct Gap {
    pub from: NextOffset,
    pub applied: NextOffset,
}

impl Ledger {
    /// A lane that starts at `next`; `committed` is what Kafka's group holds.
    #[must_use]
    pub fn new(next: NextOffset, committed: Option<NextOffset>) -> Self {
        Self { taken: next, applied: next, durable: next, committed }
    }

    /// The same, but that everything from `durable` on was lost before.
    #[must_use]
    pub fn durable_to(mut self, durable: NextOffset) -> Self {
        self.durable = self.durable.min(durable);
        self
    }

    /// The next offset that a record may have.
    #[must_use]
    pub fn taken(&self) -> NextOffset {
        self.taken
    }

    #[must_use]
    pub fn applied(&self) -> NextOffset {
        self.applied
    }

    /// Below it everything is durable: what is applied, but where at-most-once has lost the last of it.
    #[must_use]
    pub fn durable(&self) -> NextOffset {
        self.durable
    }

    #[must_use]
    pub fn committed(&self) -> Option<NextOffset> {
        self.committed
    }

    /// Everything below `next` is in a batch, or never comes.
    pub fn take(&mut self, next: NextOffset) {
        self.taken = self.taken.max(next);
    }

    /// `[from, to)` is durable.
    ///
    /// # Errors
    /// [`Gap`], if it does not begin where the last one ended: spans tile.
    pub fn apply(&mut self, from: NextOffset, to: NextOffset) -> Result<(), Gap> {
        if from != self.applied {
            return Err(Gap { from, applied: self.applied });
        }
        self.applied = to;
        self.durable = to;
        self.taken = self.taken.max(to);
        Ok(())
    }

    /// `[from, to)` is lost: it is done with, and not durable.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn lose(&mut self, from: NextOffset, to: NextOffset) -> Result<(), Gap> {
        let durable = self.durable;
        self.apply(from, to)?;
        self.durable = durable;
        Ok(())
    }

    /// What was taken and not applied is given up; it will be read again.
    pub fn forget_taken(&mut self) {
        self.taken = self.applied;
    }

    /// What was taken from `next` on is given up; it will be read again, by whoever has the partition then.
    pub fn give_up_from(&mut self, next: NextOffset) {
        self.taken = self.taken.min(next).max(self.applied);
    }

    /// Nothing is on its way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.taken == self.applied
    }

    /// What Kafka should be told, if it does not know it yet.
    #[must_use]
    pub fn committable(&self) -> Option<NextOffset> {
        (self.committed != Some(self.applied)).then_some(self.applied)
    }

    pub fn mark_committed(&mut self, next: NextOffset) {
        self.committed = Some(next);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is taken and applied in whatever cuts: the marks keep their order, and only what joins is applied.
        #[test]
        fn marks_keep_their_order(start in 0_i64..1000, steps in prop::collection::vec((0_u8..5, 0_i64..20), 0..200)) {
            let mut ledger = Ledger::new(NextOffset::new(start), None);
            for (step, length) in steps {
                let from = ledger.applied();
                let to = NextOffset::new((from.get() + length).min(ledger.taken().get()));
                match step {
                    0 => ledger.take(NextOffset::new(ledger.taken().get() + length)),
                    1 => prop_assert!(ledger.apply(from, to).is_ok()),
                    3 => {
                        let durable = ledger.durable();
                        prop_assert!(ledger.lose(from, to).is_ok());
                        prop_assert_eq!(ledger.durable(), durable);
                    }
                    2 => {
                        let beyond = NextOffset::new(from.get() + 1 + length);
                        let before = ledger;
                        prop_assert_eq!(ledger.apply(beyond, NextOffset::new(beyond.get() + 1)), Err(Gap { from: beyond, applied: from }));
                        prop_assert_eq!(ledger, before);
                    }
                    _ => if let Some(next) = ledger.committable() { ledger.mark_committed(next) },
                }
                prop_assert!(ledger.durable() <= ledger.applied() && ledger.applied() <= ledger.taken());
                prop_assert!(ledger.committed().is_none_or(|committed| committed <= ledger.applied()));
                prop_assert_eq!(ledger.is_settled(), ledger.applied() == ledger.taken());
            }
        }
    }
}
