//! When processed events expire: by whole tables, never one by one. Pure.
//!
//! New ids go to the table of the newest generation; the two before it are only looked at; the table of the next one is empty. A roll-over
//! moves one number. The generation that is then looked at no more expires with it, and its table is emptied when nobody knows it any more.

use std::time::Duration;

use crate::planted;

/// Which table of processed events takes new ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub i64);

impl Generation {
    /// The newest, two that are looked at, and one that is empty.
    pub const TABLES: i64 = 4;

    /// The number of its table.
    #[must_use]
    pub const fn table(self) -> i64 {
        self.0.rem_euclid(Self::TABLES)
    }

    /// Older ones whose ids still count.
    #[must_use]
    pub fn looked_at(self) -> [Self; 2] {
        if planted!(OlderGenerationsForgotten) {
            return [self, self];
        }
        [Self(self.0 - 1), Self(self.0 - 2)]
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The one that a roll-over away from this one lets expire.
    #[must_use]
    pub const fn expires_next(self) -> Self {
        Self(self.0 - 2)
    }
}

/// What the database says of the generations. Times are milliseconds since the Unix epoch, by its own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generations {
    pub newest: Generation,
    pub opened_at: i64,
    /// When the generation before it was opened: since then [`Generation::expires_next`] has taken no id.
    pub previous_opened_at: i64,
    /// The newest generation whose table was emptied for it.
    pub emptied: Generation,
    pub now: i64,
    /// The longest that any pipeline here asks for, in milliseconds.
    pub retention: i64,
    /// A partition (`pipeline orders, topic:3`) that Kafka may deliver again from below what [`Generation::expires_next`] holds.
    pub waits_for: Option<String>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// The table of the next generation still holds ids that have expired.
    EmptyNext,
    RollOver,
    /// A roll-over would let ids expire whose records may come again.
    Waits {
        /// As [`Generations::waits_for`].
        partition: String,
    },
}

impl Generations {
    /// Ids live for at least the retention and at most one and a half times as long.
    #[must_use]
    pub fn due(&self) -> Due {
        if self.emptied < self.newest.next() {
            return Due::EmptyNext;
        }
        let old_enough = self.now.saturating_sub(self.opened_at) >= self.retention / 2 && self.now.saturating_sub(self.previous_opened_at) >= self.retention;
        match (&self.waits_for, old_enough) {
            (_, false) => Due::Nothing,
            (Some(_), true) if planted!(ExpiresTooEarly) => Due::RollOver,
            (Some(partition), true) => Due::Waits { partition: partition.clone() },
            (None, true) => Due::RollOver,
        }
    }
}

/// How often a pipeline looks whether something is due: often enough that a generation closes in time, and never a burden.
#[must_use]
pub fn look_every(retention: Duration) -> Duration {
    (retention / 16).clamp(Duration::from_secs(1), Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generations(now: i64) -> Generations {
        Generations { newest: Generation(7), opened_at: 1_500, previous_opened_at: 1_000, emptied: Generation(8), now, retention: 1_000, waits_for: None }
    }

    #[test]
    fn four_generations_in_a_row_have_four_tables() {
        for newest in (0..9).map(Generation) {
            let [second, third] = newest.looked_at();
            let mut tables = [newest.table(), second.table(), third.table(), newest.next().table()];
            tables.sort_unstable();
            assert_eq!(tables, [0, 1, 2, 3]);
            assert_eq!(newest.expires_next().table(), newest.next().next().table(), "what expires is emptied for the one after the next");
        }
    }

    #[test]
    fn nothing_expires_before_its_newest_id_is_as_old_as_the_retention() {
        assert_eq!(generations(1_999).due(), Due::Nothing);
        assert_eq!(generations(2_000).due(), Due::RollOver);
        // A retention that was made longer meanwhile holds for what is there already.
        assert_eq!(Generations { retention: 1_200, ..generations(2_150) }.due(), Due::Nothing);
        assert_eq!(Generations { retention: 1_200, ..generations(2_200) }.due(), Due::RollOver);
    }

    #[test]
    fn nothing_expires_that_may_be_delivered_again() {
        let waiting = Generations { waits_for: Some("pipeline orders, orders:3".to_owned()), ..generations(9_000) };
        assert_eq!(waiting.due(), Due::Waits { partition: "pipeline orders, orders:3".to_owned() });
    }

    #[test]
    fn a_generation_is_opened_in_an_empty_table_only() {
        assert_eq!(Generations { emptied: Generation(7), ..generations(9_000) }.due(), Due::EmptyNext);
    }

    #[test]
    fn a_clock_that_goes_back_expires_nothing() {
        assert_eq!(generations(-5).due(), Due::Nothing);
    }
}
