//! Dates, times and uuids as texts, for databases that read them from text.

/// `2026-11-21`. None outside of the years 0 to 9999.
pub(crate) fn date(days: i64) -> Option<String> {
    let (year, month, day) = civil(days)?;
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

/// `01:02:03.000004`.
pub(crate) fn time(microseconds: i64) -> String {
    let (seconds, micros) = (microseconds.div_euclid(1_000_000), microseconds.rem_euclid(1_000_000));
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `2026-11-21T01:02:03.000004` and `zone`, always as long, so that texts sort as times do.
pub(crate) fn timestamp(microseconds: i64, zone: &str) -> Option<String> {
    const DAY: i64 = 86_400_000_000;
    let date = date(microseconds.div_euclid(DAY))?;
    Some(format!("{date}T{}{zone}", time(microseconds.rem_euclid(DAY))))
}

pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Reads what [`uuid`] writes.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hex = text.replace('-', "");
    let is_hex = text.len() == 36 && hex.len() == 32 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(&hex, 16).ok().map(u128::to_be_bytes)).flatten()
}

/// Reads what [`date`] writes.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let (year, rest) = (text.get(..4)?, text.get(4..)?.strip_prefix('-')?);
    let (month, day) = rest.split_once('-').filter(|(month, day)| month.len() == 2 && day.len() == 2)?;
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // As in `civil`, the other way round.
    let (years, month_from_march) = (year - i64::from(month <= 2), (month + 9) % 12);
    let (era, year_of_era) = (years.div_euclid(400), years.rem_euclid(400));
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + (153 * month_from_march + 2) / 5 + day - 1;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Reads what [`time`] writes, and the same with fewer digits after the point.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<i64> = clock.split(':').map(|part| number(part).filter(|_| part.len() == 2)).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = parts[..] else { return None };
    if fraction.len() > 6 {
        return None;
    }
    Some((hours * 3600 + minutes * 60 + seconds) * 1_000_000 + number(&format!("{fraction:0<6}"))?)
}

/// Reads what [`timestamp`] writes, with or without its `Z`.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' '])?;
    Some(parse_date(date)? * 86_400_000_000 + parse_time(time)?)
}

fn number(text: &str) -> Option<i64> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Days since 1970-01-01 as a date of the proleptic Gregorian calendar. None outside of the years that sort as text.
fn civil(days: i64) -> Option<(i64, i64, i64)> {
    if !(-719_528..=2_932_896).contains(&days) {
        return None;
    }
    // Years begin in March here, so that a leap day is the last of its year; an era is 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    Some((year_of_era + era * 400 + i64::from(month <= 2), month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_full() {
        assert_eq!(timestamp(1_795_222_923_000_004, "Z").as_deref(), Some("2026-11-21T01:02:03.000004Z"));
        assert_eq!(timestamp(-1, "").as_deref(), Some("1969-12-31T23:59:59.999999"));
        assert_eq!(date(-719_528).as_deref(), Some("0000-01-01"));
        assert_eq!(date(2_932_896).as_deref(), Some("9999-12-31"));
        assert_eq!((date(-719_529), date(2_932_897)), (None, None));
        assert_eq!(date(11_016).as_deref(), Some("2000-02-29"));
        assert_eq!(
            uuid([0x67, 0xe5, 0x50, 0x44, 0x10, 0xb1, 0x42, 0x6f, 0x92, 0x47, 0xbb, 0x68, 0x0e, 0x5f, 0xe0, 0xc8]),
            "67e55044-10b1-426f-9247-bb680e5fe0c8"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        for microseconds in [0, -1, 1_795_222_923_000_004, -62_167_219_200_000_000] {
            for zone in ["", "Z"] {
                assert_eq!(parse_timestamp(&timestamp(microseconds, zone).unwrap()), Some(microseconds));
            }
        }
        assert_eq!(parse_timestamp("2026-11-21 01:02:03"), Some(1_795_222_923_000_000));
        assert_eq!(parse_time("23:59:59.5"), Some(86_399_500_000));
        let bytes = [0x67, 0xe5, 0x50, 0x44, 0x10, 0xb1, 0x42, 0x6f, 0x92, 0x47, 0xbb, 0x68, 0x0e, 0x5f, 0xe0, 0xc8];
        assert_eq!(parse_uuid(&uuid(bytes)), Some(bytes));
        for wrong in
            ["", "é", "2026", "2026-13-01", "2026-1-1", "2026-01-01", "2026-01-01T", "2026-01-01T1:2:3", "é2026-01-01T00:00:00", "2026-01-01T00:00:00.1234567"]
        {
            assert_eq!(parse_timestamp(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_date_is_the_calendar_s() {
        for days in (-719_528..2_932_896).step_by(37) {
            let expected = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            assert_eq!(date(days), Some(expected.to_string()));
            assert_eq!(parse_date(&expected.to_string()), Some(days));
        }
    }
}
