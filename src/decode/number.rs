//! Numbers as their text says them, with no float in between.

use std::borrow::Cow;

use super::{Broken, rule};

/// PostgreSQL's own limits of a `numeric` without precision.
const MOST_INTEGER_DIGITS: i64 = 131_072;
const MOST_FRACTION_DIGITS: i64 = 16_383;
/// An exponent beyond this is out of every range; it keeps the arithmetic below from overflowing.
const MOST_EXPONENT: i64 = 1_000_000_000;

/// A number in JSON's grammar: `significant` × 10^-`scale`. Equal numbers are equal here, however they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number<'a> {
    negative: bool,
    /// Digits without leading and trailing zeros; empty for zero.
    significant: Cow<'a, str>,
    scale: i64,
}

impl<'a> Number<'a> {
    /// Reads the whole of `text`; `None` if it is not a number as JSON writes them.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (integer, rest) = split_digits(unsigned);
        if integer.is_empty() || (integer.len() > 1 && integer.starts_with('0')) {
            return None;
        }
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        if fraction.is_empty() && unsigned[integer.len()..].starts_with('.') {
            return None;
        }
        let exponent = if rest.is_empty() { 0 } else { exponent(rest.strip_prefix(['e', 'E'])?)? };
        let scale = i64::try_from(fraction.len()).ok()? - exponent;
        let digits: Cow<'a, str> = match (integer, fraction) {
            (integer, "") => Cow::Borrowed(integer),
            ("0", fraction) => Cow::Borrowed(fraction),
            (integer, fraction) => Cow::Owned([integer, fraction].concat()),
        };
        Some(Self::normal(negative, digits, scale))
    }

    fn normal(negative: bool, digits: Cow<'a, str>, scale: i64) -> Self {
        let without_zeros = |digits: &str| digits.trim_end_matches('0').len();
        let kept = without_zeros(&digits);
        let dropped = i64::try_from(digits.len() - kept).unwrap_or(i64::MAX);
        let significant: Cow<'a, str> = match digits {
            Cow::Borrowed(digits) => Cow::Borrowed(digits[..kept].trim_start_matches('0')),
            Cow::Owned(digits) => Cow::Owned(digits[..kept].trim_start_matches('0').to_owned()),
        };
        if significant.is_empty() {
            return Self { negative: false, significant, scale: 0 };
        }
        Self { negative, significant, scale: scale - dropped }
    }

    fn significant_digits(&self) -> i64 {
        i64::try_from(self.significant.len()).unwrap_or(i64::MAX)
    }

    /// Digits before the point; zero or less for numbers below one.
    fn integer_digits(&self) -> i64 {
        self.significant_digits() - self.scale
    }

    /// The number times 10^`power`, if that is an integer of 64 bits.
    pub(super) fn to_integer(&self, power: i64) -> Result<i64, Broken> {
        let scale = self.scale - power;
        if scale > 0 {
            return Err(Broken::new(rule::NOT_EXACT, "has a fraction"));
        }
        let too_large = || Broken::new(rule::OUT_OF_RANGE, "does not fit in 64 bits");
        if self.significant.is_empty() {
            return Ok(0);
        }
        if self.significant_digits() - scale > 19 {
            return Err(too_large());
        }
        let digits = self.significant.bytes().chain(std::iter::repeat_n(b'0', usize::try_from(-scale).unwrap_or(0)));
        let magnitude = digits.fold(0_i128, |value, digit| value * 10 + i128::from(digit - b'0'));
        i64::try_from(if self.negative { -magnitude } else { magnitude }).map_err(|_| too_large())
    }

    /// Checks the number against `numeric(precision, scale)`.
    pub(super) fn check_decimal(&self, precision: Option<u16>, scale: Option<i16>) -> Result<(), Broken> {
        if self.significant.is_empty() {
            return Ok(());
        }
        let most_fraction = precision.map_or(MOST_FRACTION_DIGITS, |_| i64::from(scale.unwrap_or(0)));
        if self.scale > most_fraction {
            let detail = if most_fraction < 0 {
                format!("not a multiple of 10^{}", -most_fraction)
            } else {
                format!("more than {most_fraction} digits after the point")
            };
            return Err(Broken::new(rule::NOT_EXACT, detail));
        }
        let most_integer = precision.map_or(MOST_INTEGER_DIGITS, |precision| i64::from(precision) - i64::from(scale.unwrap_or(0)));
        if self.integer_digits() > most_integer {
            return Err(Broken::new(rule::OUT_OF_RANGE, format!("more than {most_integer} digits before the point")));
        }
        Ok(())
    }

    /// Checks that SQLite's NUMERIC affinity keeps the number: an integer of 64 bits, or at most 15 digits that a double keeps.
    pub(super) fn check_affinity(&self) -> Result<(), Broken> {
        let fits = if self.scale <= 0 { self.to_integer(0).is_ok() } else { self.significant_digits() <= 15 && self.integer_digits() > -300 };
        if fits { Ok(()) } else { Err(Broken::new(rule::NOT_EXACT, "more than 15 digits or 64 bits, which this column type changes; declare it TEXT")) }
    }

    /// The one text of this number: no exponent, no zeros that say nothing. Only after a check of its range, or it can be very long.
    pub(super) fn to_text(&self) -> String {
        if self.significant.is_empty() {
            return "0".to_owned();
        }
        let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
        let sign = if self.negative { "-" } else { "" };
        if self.scale <= 0 {
            return format!("{sign}{}{}", self.significant, zeros(-self.scale));
        }
        match usize::try_from(self.integer_digits()) {
            Ok(point) if point > 0 => format!("{sign}{}.{}", &self.significant[..point], &self.significant[point..]),
            _ => format!("{sign}0.{}{}", zeros(-self.integer_digits()), self.significant),
        }
    }
}

/// Whether `text`, a number, is what [`Number::to_text`] would write, so that it need not be written again.
pub(super) fn is_canonical(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = !bytes.iter().any(|byte| matches!(byte, b'e' | b'E'));
    let trailing = bytes.contains(&b'.') && bytes.ends_with(b"0");
    plain && !trailing && text != "-0"
}

/// A float of 32 or 64 bits: the nearest one, but an integer only if it is exact.
pub(super) fn to_float(text: &str, bits: u8) -> Result<f64, Broken> {
    let value = match bits {
        32 => text.parse::<f32>().map(f64::from),
        _ => text.parse::<f64>(),
    };
    let value = value.map_err(|_| Broken::new(rule::NOT_A_NUMBER, "not a number"))?;
    let is_zero = || Number::parse(text).is_some_and(|number| number.significant.is_empty());
    if !value.is_finite() || (value == 0.0 && !is_zero()) {
        return Err(Broken::new(rule::OUT_OF_RANGE, format!("no float of {bits} bits is near it")));
    }
    let is_integer = !text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    // Up to seven digits every float holds any integer.
    if is_integer && text.len() > 7 && format!("{value:.0}") != text {
        return Err(Broken::new(rule::NOT_EXACT, format!("an integer that a float of {bits} bits cannot hold")));
    }
    // Minus zero equals zero in every database, but not where rows of one key are told by their bits.
    Ok(if value == 0.0 { 0.0 } else { value })
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, rest) = split_digits(digits);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let value = digits.bytes().fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(MOST_EXPONENT));
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> Option<String> {
        Number::parse(text).map(|number| number.to_text())
    }

    #[test]
    fn equal_numbers_have_one_text() {
        for (written, text) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.00e7", "0"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("1.5e3", "1500"),
            ("-12.340E-2", "-0.1234"),
            ("100", "100"),
            ("0.0010", "0.001"),
            ("123456789012345678901234567890.1234567890", "123456789012345678901234567890.123456789"),
        ] {
            assert_eq!(canonical(written).as_deref(), Some(text), "{written}");
            assert!(is_canonical(text));
        }
        for text in ["", "-", "01", "1.", ".5", "+1", "1e", "1e+", " 1", "1 ", "NaN", "Infinity", "0x10", "1_000", "1,5", "٣"] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn integers_of_64_bits_are_exact_to_their_edges() {
        let integer = |text: &str| Number::parse(text).unwrap().to_integer(0).map_err(|broken| broken.rule);
        assert_eq!(integer("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(integer("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integer("9223372036854775808"), Err(rule::OUT_OF_RANGE));
        assert_eq!(integer("9007199254740993"), Ok(9_007_199_254_740_993));
        assert_eq!(integer("9007199254740993.0"), Ok(9_007_199_254_740_993));
        assert_eq!(integer("1e18"), Ok(1_000_000_000_000_000_000));
        assert_eq!(integer("1e999999999999999999999"), Err(rule::OUT_OF_RANGE));
        assert_eq!(integer("0e999999999999999999999"), Ok(0));
        assert_eq!(integer("1.5"), Err(rule::NOT_EXACT));
        assert_eq!(integer("1e-999999999999999999999"), Err(rule::NOT_EXACT));
    }

    #[test]
    fn floats_take_the_nearest_but_integers_only_exactly() {
        assert_eq!(to_float("9007199254740992", 64), Ok(9_007_199_254_740_992.0));
        assert_eq!(to_float("9007199254740993", 64).unwrap_err().rule, rule::NOT_EXACT);
        assert_eq!(to_float("16777217", 32).unwrap_err().rule, rule::NOT_EXACT);
        assert_eq!(to_float("16777216", 32), Ok(16_777_216.0));
        assert_eq!(to_float("0.1", 64), Ok(0.1));
        assert_eq!(to_float("0.1", 32), Ok(f64::from(0.1_f32)));
        assert_eq!(to_float("1e309", 64).unwrap_err().rule, rule::OUT_OF_RANGE);
        assert_eq!(to_float("1e39", 32).unwrap_err().rule, rule::OUT_OF_RANGE);
        assert_eq!(to_float("1e-400", 64).unwrap_err().rule, rule::OUT_OF_RANGE);
        assert!(to_float("-0.0", 64).unwrap().is_sign_positive());
    }

    proptest! {
        /// The model: shift an integer's digits by hand.
        #[test]
        fn a_decimal_is_its_digits_shifted(value: i64, shift in 0_usize..30, zeros in 0_usize..5) {
            let written = format!("{value}{}e-{}", "0".repeat(zeros), shift + zeros);
            let sign = if value < 0 { "-" } else { "" };
            let digits = format!("{:0>width$}", value.unsigned_abs(), width = shift + 1);
            let (integer, fraction) = digits.split_at(digits.len() - shift);
            let fraction = fraction.trim_end_matches('0');
            let model = match (value, fraction) {
                (0, _) => "0".to_owned(),
                (_, "") => format!("{sign}{integer}"),
                _ => format!("{sign}{integer}.{fraction}"),
            };
            prop_assert_eq!(canonical(&written), Some(model.clone()));
            prop_assert_eq!(canonical(&model), Some(model));
        }

        #[test]
        fn every_integer_of_64_bits_is_kept(value: i64) {
            prop_assert_eq!(Number::parse(&value.to_string()).unwrap().to_integer(0), Ok(value));
            prop_assert_eq!(Number::parse(&format!("{value}.000")).unwrap().to_integer(0), Ok(value));
        }

        #[test]
        fn a_canonical_text_is_told_from_others(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?") {
            prop_assert_eq!(is_canonical(&text), canonical(&text).as_deref() == Some(text.as_str()));
        }
    }
}
