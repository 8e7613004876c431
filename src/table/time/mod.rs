//! Moments and dates as JSON has them: texts in a handful of forms, and numbers since the epoch.
//!
//! # What is understood without a word
//!
//! * Texts: `2024-05-06T07:08:09.123456Z` and its relatives: a space or `t` for the `T`, one digit for month, day or
//!   hour, no seconds, any number of digits behind the point, an offset (`+02:00`, `+0200`, `+02`, `Z`, ` UTC`) or none,
//!   which means UTC; a date alone is its midnight. A text that is a number of nine digits or more is taken as the
//!   number: with fewer it is rather a year or a day.
//! * Numbers, by how large they are: below 10^11 seconds (until the year 5138), below 10^14 milliseconds, below 10^17
//!   microseconds, else nanoseconds. The OpenX reader does it by digits, 13 and more being milliseconds; here twelve are
//!   too, so that the years before 2001 come out right. A point makes no difference: `1700000000.25` is a quarter of a
//!   second past.
//!
//! A moment between two of the column's units belongs to the earlier one.

mod pattern;

use pattern::Pattern;

use super::number::Number;

/// How timestamps are written, where that has to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimestampFormat {
    /// Milliseconds since the epoch.
    Millis,
    /// Seconds since the epoch.
    Seconds,
    /// A pattern of Java or Joda-Time, as `dd/MM/yyyy HH:mm:ss`.
    Pattern(TimestampPattern),
}

/// A pattern of Java or Joda-Time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampPattern(Pattern);

impl TimestampFormat {
    /// Reads a format: `millis`, `seconds`, or a pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "millis" => Self::Millis,
            "seconds" => Self::Seconds,
            _ => Self::Pattern(TimestampPattern(Pattern::parse(text)?)),
        })
    }
}

/// A moment, and whether it came with its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Since the epoch, rounded down.
    seconds: i64,
    /// Below a second.
    nanos: u32,
}

impl Moment {
    /// In units of `10^-digits` seconds, rounded down.
    #[inline]
    pub(super) fn units(self, digits: u8) -> Option<i64> {
        let (per_second, nanos) = match digits {
            3 => (1_000, 1_000_000),
            9 => (1_000_000_000, 1),
            _ => (1_000_000, 1_000),
        };
        self.seconds.checked_mul(per_second)?.checked_add(i64::from(self.nanos / nanos))
    }

    /// Days since the epoch.
    pub(super) fn days(self) -> Option<i32> {
        i32::try_from(self.seconds.div_euclid(DAY_S)).ok()
    }
}

const DAY_S: i64 = 86_400;

/// Days since the epoch of a date, where there is such a date.
pub(super) fn days(year: i64, month: u32, day: u32) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day == 0 || day > length {
        return None;
    }
    // The year begins in March here, so that its leap day is its last.
    let year = if month > 2 { year } else { year - 1 };
    let (era, month) = (year.div_euclid(400), (i64::from(month) + 9) % 12);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// The moment of a date and a time of day, `offset` seconds east of Greenwich.
fn moment(days: i64, (hour, minute, second): (u32, u32, u32), nanos: u32, offset: i32) -> Option<Moment> {
    // A leap second is the first of the next minute, as on a clock that has none.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let of_day = i64::from(hour * 3600 + minute * 60 + second);
    Some(Moment { seconds: days * DAY_S + of_day - i64::from(offset), nanos })
}

/// Goes over a text from digit to digit.
struct Digits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Digits<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// A number of at least `least` and at most `most` digits.
    #[inline]
    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let (start, mut value) = (self.at, 0);
        while self.at - start < most
            && let Some(digit @ b'0'..=b'9') = self.peek()
        {
            value = value * 10 + u32::from(digit - b'0');
            self.at += 1;
        }
        (self.at - start >= least).then_some(value)
    }

    /// The digits behind the point, in nanoseconds; those beyond the ninth do not count.
    #[inline]
    fn nanos(&mut self, most: usize) -> Option<u32> {
        let start = self.at;
        let mut value = self.number(1, most.min(9))?;
        for _ in self.at - start..9 {
            value *= 10;
        }
        let rest = most - (self.at - start);
        self.at += self.bytes[self.at..].iter().take(rest).take_while(|b| b.is_ascii_digit()).count();
        Some(value)
    }

    /// An offset from UTC in seconds: `Z`, `+02`, `+0200`, `+02:00`.
    fn offset(&mut self) -> Option<i32> {
        if self.eat(b'Z') || self.eat(b'z') {
            return Some(0);
        }
        let west = self.eat(b'-');
        if !west && !self.eat(b'+') {
            return None;
        }
        let hours = self.number(2, 2)?;
        let minutes = if self.eat(b':') || self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.number(2, 2)?
        } else {
            0
        };
        if hours > 23 || minutes > 59 {
            return None;
        }
        let seconds = (hours * 3600 + minutes * 60) as i32;
        Some(if west { -seconds } else { seconds })
    }

    fn done(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// A moment in RFC 3339, as strict as that is: what a column can be told by. No other text is written like this.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= "2024-01-01T00:00:00Z".len()
        && (bytes[4], bytes[7], bytes[13], bytes[16]) == (b'-', b'-', b':', b':')
        && matches!(bytes[10], b'T' | b't' | b' ')
        && (matches!(bytes[bytes.len() - 1], b'Z' | b'z')
            || (matches!(bytes[bytes.len() - 6], b'+' | b'-') && bytes[bytes.len() - 3] == b':'))
        && iso(text).is_some()
}

/// A moment or a date in one of the forms that are understood without a word.
#[inline]
fn iso(text: &str) -> Option<Moment> {
    let mut digits = Digits { bytes: text.as_bytes(), at: 0 };
    let days = digits.date()?;
    if digits.done() {
        return Some(Moment { seconds: days * DAY_S, nanos: 0 });
    }
    if !(digits.eat(b'T') || digits.eat(b' ') || digits.eat(b't')) {
        return None;
    }
    let hour = digits.number(1, 2)?;
    let minute = digits.eat(b':').then(|| digits.number(2, 2))??;
    let (mut second, mut nanos) = (0, 0);
    if digits.eat(b':') {
        second = digits.number(2, 2)?;
        if digits.eat(b'.') || digits.eat(b',') {
            nanos = digits.nanos(usize::MAX)?;
        }
    }
    let mut offset = 0;
    if !digits.done() {
        digits.eat(b' ');
        offset = if digits.bytes[digits.at..] == *b"UTC" {
            digits.at += 3;
            0
        } else {
            digits.offset()?
        };
    }
    digits.done().then(|| moment(days, (hour, minute, second), nanos, offset))?
}

impl Digits<'_> {
    #[inline]
    fn date(&mut self) -> Option<i64> {
        let year = self.number(4, 4)?;
        let month = self.eat(b'-').then(|| self.number(1, 2))??;
        let day = self.eat(b'-').then(|| self.number(1, 2))??;
        days(i64::from(year), month, day)
    }
}

/// A moment as a text.
#[inline]
pub(super) fn parse(text: &str, formats: &[TimestampFormat]) -> Option<Moment> {
    if formats.is_empty() {
        let number = || Number::parse(text).filter(|number| number.to_f64().is_some_and(|n| n.abs() >= 1e8));
        return iso(text).or_else(|| since_epoch(number()?, formats));
    }
    formats.iter().find_map(|format| match format {
        TimestampFormat::Pattern(pattern) => pattern.0.read(text),
        TimestampFormat::Millis => Number::parse(text).and_then(|number| scaled(number, 3)),
        TimestampFormat::Seconds => Number::parse(text).and_then(|number| scaled(number, 0)),
    })
}

/// Whether a text is a moment so plainly that a column is made one of timestamps by it: RFC 3339, or one of the patterns.
pub(super) fn is_timestamp(text: &str, formats: &[TimestampFormat]) -> bool {
    if formats.is_empty() { is_rfc3339(text) } else { matches_pattern(text, formats) }
}

fn matches_pattern(text: &str, formats: &[TimestampFormat]) -> bool {
    formats.iter().any(|format| match format {
        TimestampFormat::Pattern(pattern) => pattern.0.has_time() && pattern.0.read(text).is_some(),
        _ => false,
    })
}

/// A moment as a number. Patterns say nothing of numbers.
pub(super) fn since_epoch(number: Number<'_>, formats: &[TimestampFormat]) -> Option<Moment> {
    for format in formats {
        match format {
            TimestampFormat::Millis => return scaled(number, 3),
            TimestampFormat::Seconds => return scaled(number, 0),
            TimestampFormat::Pattern(_) => {}
        }
    }
    let whole = number.to_decimal_floor(0)?.unsigned_abs();
    let digits = match whole {
        0..100_000_000_000 => 0,
        100_000_000_000..100_000_000_000_000 => 3,
        100_000_000_000_000..100_000_000_000_000_000 => 6,
        _ => 9,
    };
    scaled(number, digits)
}

/// The moment that is `number` units of `10^-digits` seconds past the epoch.
fn scaled(number: Number<'_>, digits: u8) -> Option<Moment> {
    let nanos = number.to_decimal_floor(9 - digits)?;
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    Some(Moment { seconds, nanos: nanos.rem_euclid(1_000_000_000) as u32 })
}

/// A date as a text: `2024-05-06`, or by a pattern.
pub(super) fn parse_date(text: &str, formats: &[TimestampFormat]) -> Option<i32> {
    let mut digits = Digits { bytes: text.as_bytes(), at: 0 };
    if let Some(days) = digits.date()
        && digits.done()
    {
        return i32::try_from(days).ok();
    }
    formats.iter().find_map(|format| match format {
        TimestampFormat::Pattern(pattern) => pattern.0.read(text)?.days(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(text: &str) -> Option<i64> {
        parse(text, &[]).and_then(|moment| moment.units(6))
    }

    fn jiff_micros(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn texts_understood_without_a_word() {
        for (text, same) in [
            ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09Z"),
            ("2024-05-06t07:08:09z", "2024-05-06T07:08:09Z"),
            ("2024-05-06 07:08:09", "2024-05-06T07:08:09Z"),
            ("2024-5-6 7:08:09.5", "2024-05-06T07:08:09.5Z"),
            ("2024-05-06T07:08", "2024-05-06T07:08:00Z"),
            ("2024-05-06", "2024-05-06T00:00:00Z"),
            ("2024-05-06T07:08:09.123456789Z", "2024-05-06T07:08:09.123456Z"),
            ("2024-05-06T07:08:09.123456789123Z", "2024-05-06T07:08:09.123456Z"),
            ("2024-05-06T07:08:09,25+02:00", "2024-05-06T05:08:09.25Z"),
            ("2024-05-06T07:08:09-0330", "2024-05-06T10:38:09Z"),
            ("2024-05-06 07:08:09 +02", "2024-05-06T05:08:09Z"),
            ("2024-05-06 07:08:09 UTC", "2024-05-06T07:08:09Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("1715000000", "2024-05-06T12:53:20Z"),
            ("1715000000.5", "2024-05-06T12:53:20.5Z"),
        ] {
            assert_eq!(micros(text), Some(jiff_micros(same)), "{text}");
        }
        for text in [
            "",
            "x",
            "2024",
            "2024-13-01",
            "2023-02-29",
            "2024-00-01",
            "2024-01-00",
            "2024-01-32",
            "2024-05-06T",
            "2024-05-06T24:00:00Z",
            "2024-05-06T07:60:00Z",
            "2024-05-06T07:08:61Z",
            "2024-05-06T07:08:09.Z",
            "2024-05-06T07:08:09+25:00",
            "2024-05-06T07:08:09+2",
            "2024-05-06T07:08:09Zx",
            "2024-05-06 07",
            "24-05-06",
            "2024-05-06T07:08:09 ",
            " 2024-05-06",
            "12024-05-06",
            "2024-05-06T7:8:9",
        ] {
            assert_eq!(micros(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_by_how_large_they_are() {
        let micros = |text| since_epoch(Number::parse(text).unwrap(), &[]).and_then(|m| m.units(6));
        let expected = Some(jiff_micros("2024-05-06T12:53:20.123456Z"));
        for text in ["1715000000.123456", "1715000000123.456", "1715000000123456", "1715000000123456789"] {
            assert_eq!(micros(text), expected, "{text}");
        }
        assert_eq!(micros("1.715e9"), Some(jiff_micros("2024-05-06T12:53:20Z")));
        assert_eq!(micros("-1"), Some(-1_000_000));
        assert_eq!(micros("-0.0000001"), Some(-1));
        assert_eq!(micros("0"), Some(0));
        assert_eq!(micros("1e30"), None);
    }

    #[test]
    fn numbers_of_a_unit_that_is_said() {
        let read = |text: &str, format: &str| {
            let formats = [TimestampFormat::parse(format).unwrap()];
            let number = since_epoch(Number::parse(text).unwrap(), &formats);
            assert_eq!(number, parse(text, &formats), "{text}");
            number.and_then(|m| m.units(6))
        };
        assert_eq!(read("1000", "millis"), Some(1_000_000));
        assert_eq!(read("1715000000123", "seconds"), Some(1_715_000_000_123_000_000));
        assert_eq!(read("1.5", "millis"), Some(1_500));
    }

    #[test]
    fn what_a_column_of_timestamps_is_told_by() {
        for text in ["2024-05-06T07:08:09Z", "2024-05-06 07:08:09.5+02:00"] {
            assert!(is_rfc3339(text), "{text}");
        }
        for text in [
            "2024-05-06T07:08:09",
            "2024-05-06",
            "1715000000",
            "2024-5-06T07:08:09Z",
            "",
            "2024-99-06T07:08:09Z",
            "é024-05-06T07:08:09Z",
            "2024-05-06T07:08:09+0200",
        ] {
            assert!(!is_rfc3339(text), "{text}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(parse_date("1970-01-02", &[]), Some(1));
        assert_eq!(parse_date("1970-1-2", &[]), Some(1));
        assert_eq!(parse_date("1969-12-31", &[]), Some(-1));
        assert_eq!(parse_date("1970-01-02T00:00:00Z", &[]), None);
        assert_eq!(parse_date("02.01.1970", &[TimestampFormat::parse("dd.MM.yyyy").unwrap()]), Some(1));
    }

    proptest! {
        #[test]
        fn days_are_those_of_jiff(day in -700_000i32..2_900_000) {
            let date = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(day);
            let found = days(i64::from(date.year()), date.month() as u32, date.day() as u32);
            prop_assert_eq!(found, Some(i64::from(day)));
        }

        #[test]
        fn any_moment_comes_back(micros in -62_167_219_200_000_000i64..253_402_207_200_000_000) {
            let text = jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
            prop_assert!(is_rfc3339(&text));
            prop_assert_eq!(self::micros(&text), Some(micros));
        }

        #[test]
        fn any_text_is_a_moment_or_none(text in "[0-9TZ:+. -]{0,30}") {
            let _ = (self::micros(&text), is_rfc3339(&text), parse_date(&text, &[]));
        }
    }
}
