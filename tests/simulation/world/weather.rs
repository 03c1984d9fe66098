//! Trouble that lasts for a while.

use tokio::time::Instant;

use super::{
    World,
    dice::{Dice, chance},
    events::Event,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    SlowDatabase,
    DatabaseDown,
    TooManyConnections,
    ConnectionCuts,
    Deadlocks,
    LostCommits,
    DiskFull,
    PermissionRevoked,
    TableChanged,
    ReadOnly,
    CommitFailures,
    LookUpFailures,
    RepeatedCallbacks,
    SlowRedis,
    RedisAway,
    RedisAnswersLost,
    RedisFull,
}

impl Weather {
    /// What is counted when it strikes. None: what it strikes counts for itself.
    const fn event(self) -> Option<Event> {
        Some(match self {
            Self::SlowDatabase => Event::SlowStatement,
            Self::TooManyConnections => Event::TooManyConnections,
            Self::ConnectionCuts => Event::ConnectionCut,
            Self::Deadlocks => Event::Deadlock,
            Self::LostCommits => Event::CommitWithoutAnswer,
            Self::DiskFull => Event::DiskFull,
            Self::PermissionRevoked => Event::PermissionRevoked,
            Self::TableChanged => Event::TableChanged,
            Self::SlowRedis => Event::RedisSlow,
            Self::RedisAnswersLost => Event::RedisAnswerLost,
            Self::RedisFull => Event::RedisFull,
            Self::DatabaseDown | Self::RedisAway | Self::ReadOnly | Self::CommitFailures | Self::LookUpFailures | Self::RepeatedCallbacks => return None,
        })
    }

    pub const fn text(self) -> &'static str {
        match self {
            Self::SlowDatabase => "statements are slow",
            Self::DatabaseDown => "the database is away",
            Self::TooManyConnections => "there are too many connections",
            Self::ConnectionCuts => "connections are cut",
            Self::Deadlocks => "statements meet deadlocks",
            Self::LostCommits => "COMMITs are not answered",
            Self::DiskFull => "the database's disk is full",
            Self::PermissionRevoked => "a permission is revoked",
            Self::TableChanged => "a table is changed",
            Self::ReadOnly => "the database takes no writes",
            Self::CommitFailures => "offset commits fail",
            Self::LookUpFailures => "look-ups fail or take long",
            Self::RepeatedCallbacks => "callbacks are repeated",
            Self::SlowRedis => "redis is slow",
            Self::RedisAway => "redis is away",
            Self::RedisAnswersLost => "answers of redis are lost",
            Self::RedisFull => "redis has no memory left",
        }
    }
}

/// One spell of it, with the random numbers of the fault that brought it.
#[derive(Debug)]
pub struct Spell {
    until: Instant,
    dice: Dice,
}

impl World {
    pub fn begin_weather(&mut self, weather: Weather, until: Instant, dice: Dice) {
        let until = self.weather.get(&weather).map_or(until, |spell| spell.until.max(until));
        self.weather.insert(weather, Spell { until, dice });
    }

    /// Whether this kind of trouble lasts now.
    pub fn is(&self, weather: Weather) -> bool {
        self.weather.get(&weather).is_some_and(|spell| Instant::now() < spell.until)
    }

    /// Whether this kind of trouble lasts now and strikes this time; then the random numbers for what it does.
    pub fn strikes(&mut self, weather: Weather, percent: u32) -> Option<&mut Dice> {
        let spell = self.weather.get_mut(&weather)?;
        if Instant::now() >= spell.until || !chance(&mut spell.dice, percent) {
            return None;
        }
        if let Some(event) = weather.event() {
            self.story.count(event);
        }
        Some(&mut spell.dice)
    }
}
