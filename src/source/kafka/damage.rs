//! A log that cannot be read: what the client says of it, and when to stop trying.
//!
//! Where the client finds a batch damaged it says so, leaves it out, and goes on behind it. The offsets then jump as they do in a compacted
//! log, so what comes after must not be taken, or the checkpoint would move over records that nobody has seen.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use oncesink_sinks::model::Partition;
use rdkafka::error::RDKafkaErrorCode as Code;

/// So often a stretch is read in vain. A network card that flips bits heals; a disk does not.
const ATTEMPTS: u32 = 3;

/// Damages that are further apart have nothing to do with each other.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// What an error of the client means for the records behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing was left out: the client tries again by itself, or the error is of something else.
    Harmless,
    Unreachable,
    TopicForbidden,
    GroupForbidden,
    Fatal,
    /// Records may have been left out.
    Damaged,
}

/// What is not known to be harmless is damage: reading once more costs little, a record left out cannot be mended.
pub(super) const fn meaning(code: Code) -> Meaning {
    match code {
        Code::AllBrokersDown | Code::Authentication | Code::SaslAuthenticationFailed => Meaning::Unreachable,
        Code::TopicAuthorizationFailed => Meaning::TopicForbidden,
        Code::GroupAuthorizationFailed => Meaning::GroupForbidden,
        Code::Fatal | Code::FencedInstanceId => Meaning::Fatal,
        // The broker itself cannot read its log.
        Code::InvalidMessage | Code::InvalidRecord | Code::UnsupportedCompressionType => Meaning::Damaged,
        Code::BrokerDestroy
        | Code::BrokerTransportFailure
        | Code::Resolve
        | Code::MessageTimedOut
        | Code::PartitionEOF
        | Code::UnknownPartition
        | Code::UnknownTopic
        | Code::OperationTimedOut
        | Code::QueueFull
        | Code::NodeUpdate
        | Code::SSL
        | Code::WaitingForCoordinator
        | Code::UnknownGroup
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::AssignPartitions
        | Code::RevokePartitions
        | Code::Conflict
        | Code::State
        | Code::NoOffset
        | Code::Outdated
        | Code::TimedOutQueue
        | Code::WaitCache
        | Code::Interrupted
        | Code::Retry
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::PollExceeded
        | Code::UnknownBroker
        | Code::Fenced
        | Code::AssignmentLost
        | Code::Noop
        // These two stop the fetching, and the statistics say of which partition.
        | Code::AutoOffsetReset
        | Code::LogTruncation
        | Code::DestroyBroker => Meaning::Harmless,
        // A broker's answer holds no records: there is nothing that could have been left out.
        _ if code as i32 >= Code::Unknown as i32 => Meaning::Harmless,
        _ => Meaning::Damaged,
    }
}

/// Counts how often the log was read in vain. The client names no partition, so each that has not moved since is under suspicion.
#[derive(Debug, Default)]
pub(super) struct Damage {
    times: u32,
    last: Option<Instant>,
    unmoved: BTreeMap<Partition, i64>,
}

impl Damage {
    /// Once more, with the partitions being read here. The answer is whether it is worth another attempt.
    pub(super) fn again(&mut self, active: &[(Partition, i64)], now: Instant) -> bool {
        self.unmoved.retain(|partition, next| active.iter().any(|(one, at)| one == partition && at == next));
        let is_another = self.unmoved.is_empty() || self.last.is_none_or(|last| now.saturating_duration_since(last) >= FORGOTTEN_AFTER);
        if is_another {
            self.times = 0;
            self.unmoved = active.iter().cloned().collect();
        }
        self.times += 1;
        self.last = Some(now);
        self.times < ATTEMPTS
    }

    /// Where to look.
    pub(super) fn suspects(&self) -> String {
        let mut names: Vec<String> = self.unmoved.iter().take(8).map(|(partition, next)| format!("{partition}@{next}")).collect();
        if self.unmoved.len() > names.len() {
            names.push("…".to_owned());
        }
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_meaning() {
        let table = [
            (Meaning::Damaged, &[Code::BadMessage, Code::BadCompression, Code::NotImplemented, Code::CriticalSystemResource, Code::Underflow][..]),
            (Meaning::Damaged, &[Code::Partial, Code::Fail, Code::Inconsistent, Code::InvalidMessage, Code::InvalidRecord, Code::UnsupportedCompressionType]),
            (Meaning::Harmless, &[Code::BrokerTransportFailure, Code::OperationTimedOut, Code::MessageTimedOut, Code::Resolve, Code::SSL]),
            (Meaning::Harmless, &[Code::AutoOffsetReset, Code::LogTruncation, Code::OffsetOutOfRange, Code::UnknownTopic, Code::UnknownTopicOrPartition]),
            (Meaning::Harmless, &[Code::NotLeaderForPartition, Code::KafkaStorageError, Code::Unknown, Code::MessageSizeTooLarge, Code::PollExceeded]),
            // What a refused commit says.
            (Meaning::Harmless, &[Code::IllegalGeneration, Code::UnknownMemberId, Code::RebalanceInProgress, Code::NotCoordinator, Code::StaleMemberEpoch]),
            (Meaning::Unreachable, &[Code::AllBrokersDown, Code::Authentication, Code::SaslAuthenticationFailed]),
            (Meaning::TopicForbidden, &[Code::TopicAuthorizationFailed]),
            (Meaning::GroupForbidden, &[Code::GroupAuthorizationFailed]),
            (Meaning::Fatal, &[Code::Fatal, Code::FencedInstanceId]),
        ];
        for (expected, codes) in table {
            for code in codes {
                assert_eq!(meaning(*code), expected, "{code:?}");
            }
        }
    }

    fn at(next: &[i64]) -> Vec<(Partition, i64)> {
        (0..).zip(next).map(|(index, next)| (Partition::new("orders", index), *next)).collect()
    }

    #[test]
    fn the_third_time_at_one_place_is_the_last() {
        let (mut damage, begin) = (Damage::default(), Instant::now());
        assert!(damage.again(&at(&[10, 7]), begin));
        assert!(damage.again(&at(&[10, 9]), begin + Duration::from_secs(400)), "another partition went on");
        assert!(!damage.again(&at(&[10, 11]), begin + Duration::from_secs(800)));
        assert_eq!(damage.suspects(), "orders:0@10");
    }

    #[test]
    fn damage_that_was_read_after_all_is_forgotten() {
        let (mut damage, begin) = (Damage::default(), Instant::now());
        for place in 0..10 {
            assert!(damage.again(&at(&[place]), begin));
            assert!(damage.again(&at(&[place]), begin));
        }
        for hour in 1..10 {
            assert!(damage.again(&at(&[9]), begin + Duration::from_secs(3600) * hour));
        }
    }
}
