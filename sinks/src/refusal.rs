//! Why a partition is not claimed, for a person.

use std::{fmt, sync::Arc};

use crate::model::{Epoch, NextOffset};

/// The reason of a halt that lasts until the checkpoint is moved: only once can it be seen for certain.
pub const TOPIC_RECREATED: &str = "topic-recreated";

/// Why a partition is not claimed. Each is a halt that a person ends; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The checkpoint belongs to another cluster or group: two deployments with one name.
    AnotherDeployment { cluster: Arc<str>, group: Arc<str>, owner: Arc<str> },
    /// The group has offsets that oncesink did not commit, and the file does not name the group.
    ForeignCommit { committed: NextOffset },
    /// We committed, but the database holds no claim: it was recreated, or restored to before the first claim.
    CommittedButNeverClaimed { committed: NextOffset },
    /// The commit was made beside another database.
    AnotherDatabase { committed: NextOffset, theirs: String, ours: String },
    /// The commit is above what ever was durable here: the database was recreated or restored.
    CommittedAboveDurable { committed: NextOffset, durable: NextOffset },
    /// The row that this worker held is gone, and Kafka does not tell of it: where the partition stood, only a person may know.
    CheckpointGone { held: Epoch },
    /// The topic was deleted and made again, and nobody has moved the checkpoint since.
    TopicRecreated { next: NextOffset },
    /// No checkpoint, no committed offset, and `kafka.start: error`.
    NoStart,
}

impl Refusal {
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AnotherDeployment { .. } => "another-deployment",
            Self::ForeignCommit { .. } => "foreign-commit",
            Self::CommittedButNeverClaimed { .. } | Self::AnotherDatabase { .. } => "another-database",
            Self::CommittedAboveDurable { .. } => "committed-above-durable",
            Self::CheckpointGone { .. } => "checkpoint-gone",
            Self::TopicRecreated { .. } => TOPIC_RECREATED,
            Self::NoStart => "no-start",
        }
    }

    /// The next offset at which the partition stands, where the refusal is about that.
    #[must_use]
    pub const fn stands_at(&self) -> Option<NextOffset> {
        match self {
            Self::TopicRecreated { next } => Some(*next),
            _ => None,
        }
    }

    /// Whether this database is not what the commits or this worker stood beside, or is so no longer.
    #[must_use]
    pub const fn is_about_the_database(&self) -> bool {
        matches!(self, Self::CommittedButNeverClaimed { .. } | Self::AnotherDatabase { .. } | Self::CommittedAboveDurable { .. } | Self::CheckpointGone { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnotherDeployment { cluster, group, owner } => {
                write!(f, "the checkpoint belongs to group {group} on cluster {cluster} (last held by {owner}); give one of the two another name")
            }
            Self::ForeignCommit { committed } => {
                write!(f, "the group has an offset ({committed}) that oncesink did not commit; to take it over write kafka.group")
            }
            Self::CommittedButNeverClaimed { committed } => {
                write!(
                    f,
                    "oncesink has committed {committed} to Kafka, but this database holds no checkpoint: it was recreated, or restored to before the first claim"
                )
            }
            Self::AnotherDatabase { committed, theirs, ours } => {
                write!(f, "offset {committed} was committed beside database {theirs}, this one is {ours}")
            }
            Self::CommittedAboveDurable { committed, durable } => {
                write!(f, "Kafka holds committed offset {committed}, but nothing above {durable} was ever durable here: the database was recreated or restored")
            }
            Self::CheckpointGone { held } => {
                write!(f, "the checkpoint row that this worker held (epoch {}) is gone: somebody deleted it, or the database was restored to before it", held.0)
            }
            Self::TopicRecreated { next } => {
                write!(
                    f,
                    "the topic was deleted and made again, and the checkpoint is still at {next} of the old one; \
                     set next_offset in oncesink_checkpoint to where the new one is to be read from"
                )
            }
            Self::NoStart => write!(f, "there is no checkpoint and no committed offset, and kafka.start is error"),
        }
    }
}
