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
    fn a_date_is_the_calendar_s() {
        for days in (-719_528..2_932_896).step_by(37) {
            let expected = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            assert_eq!(date(days), Some(expected.to_string()));
        }
    }
}
