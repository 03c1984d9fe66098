//! Dates and times in two closed grammars: RFC 3339, and the same with a space in place of the `T`.

use jiff::{Timestamp, civil, tz};

use super::{Broken, rule};

const MICROSECONDS: i64 = 1_000_000;
const DAY: i64 = 86_400 * MICROSECONDS;
/// 0001-01-01 and 9999-12-31 in days since the Unix epoch: what every database that oncesink knows can hold and print.
const FIRST_DAY: i64 = -719_162;
const LAST_DAY: i64 = 2_932_896;

/// What a route's `timezone:` names.
#[derive(Clone, Debug)]
pub(crate) enum Zone {
    /// Seconds east of UTC.
    Fixed(i64),
    Named(tz::TimeZone),
}

impl Zone {
    /// Reads `UTC`, `Z`, `+02:00` or a name of the system's time zone database.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("utc") {
            return Ok(Self::Fixed(0));
        }
        if let Some(seconds) = offset(text.as_bytes()) {
            return Ok(Self::Fixed(seconds));
        }
        let unknown = |error| format!("`{text}` is no time zone that this system knows ({error}); write UTC, +02:00 or a name such as Europe/Berlin");
        tz::TimeZone::get(text).map(Self::Named).map_err(unknown)
    }

    /// The instant of a local time, in microseconds since the Unix epoch.
    fn instant(&self, local: i64) -> Result<i64, Broken> {
        match self {
            Self::Fixed(seconds) => Ok(local - seconds * MICROSECONDS),
            Self::Named(zone) => {
                let never = || Broken::new(rule::AMBIGUOUS_TIME, "the clocks of `timezone` show this time twice or never");
                let civil = civil_time(local).ok_or_else(out_of_range)?;
                let instant = zone.to_ambiguous_timestamp(civil).unambiguous().map_err(|_| never())?;
                Ok(instant.as_microsecond())
            }
        }
    }

    /// What the clocks show at an instant, in microseconds since the Unix epoch.
    fn local(&self, instant: i64) -> Result<i64, Broken> {
        let seconds = match self {
            Self::Fixed(seconds) => *seconds,
            Self::Named(zone) => {
                let instant = Timestamp::from_microsecond(instant).map_err(|_| out_of_range())?;
                i64::from(zone.to_offset(instant).seconds())
            }
        };
        Ok(instant + seconds * MICROSECONDS)
    }
}

/// Days since the Unix epoch of `2024-02-29`.
pub(super) fn date(text: &str) -> Result<i64, Broken> {
    let mut reader = Reader(text.as_bytes());
    let day = reader.date().filter(|_| reader.0.is_empty()).ok_or_else(|| Broken::new(rule::NOT_A_DATE, "not a date like 2024-02-29"))?;
    day.value()
}

/// Microseconds since midnight of `13:07:59.25`.
pub(super) fn time(text: &str) -> Result<i64, Broken> {
    let mut reader = Reader(text.as_bytes());
    let time = reader.time().filter(|_| reader.0.is_empty()).ok_or_else(|| Broken::new(rule::NOT_A_TIME, "not a time like 13:07:59.25"))?;
    time.value()
}

/// Microseconds since the Unix epoch of a text with a zone, or without one where `zone` is given.
pub(super) fn timestamp_with_zone(text: &str, zone: Option<&Zone>) -> Result<i64, Broken> {
    let (local, offset) = local_and_offset(text)?;
    let instant = match (offset, zone) {
        (Some(seconds), _) => local - seconds * MICROSECONDS,
        (None, Some(zone)) => zone.instant(local)?,
        (None, None) => return Err(Broken::new(rule::NO_ZONE, "has no zone, and the route names none in `timezone`")),
    };
    in_range(instant)
}

/// The local time of a text without a zone, or with one where `zone` is given: then what the clocks show there.
pub(super) fn timestamp_without_zone(text: &str, zone: Option<&Zone>) -> Result<i64, Broken> {
    let (local, offset) = local_and_offset(text)?;
    let local = match (offset, zone) {
        (None, _) => local,
        (Some(seconds), Some(zone)) => zone.local(local - seconds * MICROSECONDS)?,
        (Some(_), None) => return Err(Broken::new(rule::HAS_ZONE, "has a zone, which this column cannot keep, and the route names none in `timezone`")),
    };
    in_range(local)
}

/// What a column without a zone shows of an instant: the local time of `timezone`, else UTC.
pub(super) fn local_of_instant(instant: i64, zone: Option<&Zone>) -> Result<i64, Broken> {
    let instant = in_range(instant)?;
    in_range(zone.map_or(Ok(instant), |zone| zone.local(instant))?)
}

/// The instant itself, if it lies between the years 1 and 9999.
pub(super) fn in_range(microseconds: i64) -> Result<i64, Broken> {
    if (FIRST_DAY..=LAST_DAY).contains(&microseconds.div_euclid(DAY)) { Ok(microseconds) } else { Err(out_of_range()) }
}

fn out_of_range() -> Broken {
    Broken::new(rule::OUT_OF_RANGE, "not a date and time between the years 1 and 9999")
}

fn civil_time(local: i64) -> Option<civil::DateTime> {
    // A local time is the instant that the same digits mean in UTC.
    Timestamp::from_microsecond(local).ok().map(|instant| tz::Offset::UTC.to_datetime(instant))
}

fn local_and_offset(text: &str) -> Result<(i64, Option<i64>), Broken> {
    let mut reader = Reader(text.as_bytes());
    let mut read = || {
        let day = reader.date()?;
        reader.one_of(b"Tt ")?;
        let time = reader.time()?;
        let offset = if reader.0.is_empty() { None } else { Some(offset(reader.0)?) };
        Some((day, time, offset))
    };
    let (day, time, offset) = read().ok_or_else(|| Broken::new(rule::NOT_A_TIMESTAMP, "not a timestamp like 2024-02-29T13:07:59.25Z"))?;
    Ok((day.value()? * DAY + time.value()?, offset))
}

/// Seconds east of UTC: `Z`, `+02:00`, `+0200`, `+02`.
fn offset(text: &[u8]) -> Option<i64> {
    if matches!(text, b"Z" | b"z") {
        return Some(0);
    }
    let mut reader = Reader(text);
    let sign = if reader.one_of(b"+-")? == b'-' { -1 } else { 1 };
    let hours = reader.digits(2)?;
    let minutes = if reader.0.is_empty() {
        0
    } else {
        let _ = reader.one_of(b":");
        reader.digits(2)?
    };
    (reader.0.is_empty() && hours <= 15 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

struct Day {
    year: i64,
    month: i64,
    day: i64,
}

impl Day {
    fn value(&self) -> Result<i64, Broken> {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let length = match self.month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if self.year == 0 || !(1..=12).contains(&self.month) || !(1..=length).contains(&self.day) {
            return Err(Broken::new(rule::OUT_OF_RANGE, "no such day"));
        }
        Ok(days_since_epoch(self.year, self.month, self.day))
    }
}

/// The proleptic Gregorian calendar; the year begins in March, so that the leap day is its last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

struct ClockTime {
    hours: i64,
    minutes: i64,
    seconds: i64,
    microseconds: i64,
}

impl ClockTime {
    fn value(&self) -> Result<i64, Broken> {
        if self.hours > 23 || self.minutes > 59 || self.seconds > 59 {
            return Err(Broken::new(rule::OUT_OF_RANGE, "no such time of the day"));
        }
        Ok((self.hours * 3_600 + self.minutes * 60 + self.seconds) * MICROSECONDS + self.microseconds)
    }
}

/// What is left of a text.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    fn date(&mut self) -> Option<Day> {
        let year = self.digits(4)?;
        self.one_of(b"-")?;
        let month = self.digits(2)?;
        self.one_of(b"-")?;
        Some(Day { year, month, day: self.digits(2)? })
    }

    fn time(&mut self) -> Option<ClockTime> {
        let hours = self.digits(2)?;
        self.one_of(b":")?;
        let minutes = self.digits(2)?;
        self.one_of(b":")?;
        let seconds = self.digits(2)?;
        let mut microseconds = 0;
        if self.one_of(b".").is_some() {
            let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            // Digits past the sixth are cut, never rounded: no time moves into the future, and order is kept.
            microseconds = self.digits(digits.min(6))? * 10_i64.pow(u32::try_from(6 - digits.min(6)).unwrap_or(0));
            self.0 = self.0.get(digits.saturating_sub(6).min(self.0.len())..).unwrap_or_default();
        }
        Some(ClockTime { hours, minutes, seconds, microseconds })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_before_the_epoch_count_backwards() {
        assert_eq!(date("1970-01-01"), Ok(0));
        assert_eq!(date("1969-12-31"), Ok(-1));
        assert_eq!(date("0001-01-01"), Ok(FIRST_DAY));
        assert_eq!(date("9999-12-31"), Ok(LAST_DAY));
        assert_eq!(timestamp_with_zone("1969-12-31T23:59:59.999999Z", None), Ok(-1));
        assert_eq!(timestamp_with_zone("1970-01-01 02:00:00+02", None), Ok(0));
        assert_eq!(timestamp_with_zone("1970-01-01t00:00:00.123456789-00:30", None), Ok(1_800_123_456));
        assert_eq!(timestamp_without_zone("1969-12-31 23:59:59", None), Ok(-1_000_000));
        assert_eq!(time("23:59:59.5"), Ok(86_399_500_000));
    }

    #[test]
    fn what_is_not_of_the_grammar_is_named() {
        let with = |text: &str| timestamp_with_zone(text, None).unwrap_err().rule;
        assert_eq!(with("2024-01-01T00:00:00"), rule::NO_ZONE);
        for text in
            ["2024-01-01", "2024-01-01T00:00Z", "2024-1-1T00:00:00Z", "infinity", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00 Z", "2024-01-01T00:00:00+1"]
        {
            assert_eq!(with(text), rule::NOT_A_TIMESTAMP, "{text}");
        }
        for text in ["0000-01-01T00:00:00Z", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2016-12-31T23:59:60Z", "0001-01-01T00:00:00+01:00"] {
            assert_eq!(with(text), rule::OUT_OF_RANGE, "{text}");
        }
        assert_eq!(timestamp_without_zone("2024-01-01T00:00:00Z", None).unwrap_err().rule, rule::HAS_ZONE);
        assert_eq!(date("2024-01-01T00:00:00Z").unwrap_err().rule, rule::NOT_A_DATE);
        assert_eq!(time("12:00").unwrap_err().rule, rule::NOT_A_TIME);
    }

    #[test]
    fn a_declared_zone_reads_texts_without_one() {
        let zone = Zone::parse("+02:00").unwrap();
        assert_eq!(timestamp_with_zone("1970-01-01 02:00:00", Some(&zone)), Ok(0));
        assert_eq!(timestamp_without_zone("1970-01-01T00:00:00Z", Some(&zone)), Ok(7_200_000_000));
        assert!(Zone::parse("Mars/Olympus").is_err());
        assert!(matches!(Zone::parse("utc"), Ok(Zone::Fixed(0))));
    }

    #[test]
    fn a_time_that_the_clocks_show_twice_or_never_is_bad() {
        let zone = Zone::Named(tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        assert_eq!(timestamp_with_zone("1970-01-01 01:00:00", Some(&zone)), Ok(0));
        assert_eq!(timestamp_with_zone("2024-10-27 02:30:00", Some(&zone)).unwrap_err().rule, rule::AMBIGUOUS_TIME);
        assert_eq!(timestamp_with_zone("2024-03-31 02:30:00", Some(&zone)).unwrap_err().rule, rule::AMBIGUOUS_TIME);
        assert_eq!(timestamp_without_zone("2024-07-01T00:00:00Z", Some(&zone)), timestamp_without_zone("2024-07-01T02:00:00", None));
    }

    proptest! {
        /// jiff is the model.
        #[test]
        fn a_printed_instant_reads_as_itself(microseconds in FIRST_DAY * DAY + DAY..LAST_DAY * DAY) {
            let text = Timestamp::from_microsecond(microseconds).unwrap().to_string();
            prop_assert_eq!(timestamp_with_zone(&text, None), Ok(microseconds));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,40}") {
            let _ = (date(&text), time(&text), timestamp_with_zone(&text, None), timestamp_without_zone(&text, None));
        }
    }
}
