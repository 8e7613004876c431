//! What a user types for a size, a duration, a time, a position or a name, and how the same are shown again.
//!
//! One parser each, used by every command. Nothing here reads a clock: a time relative to now stays relative until
//! [`Time::resolve`] is told what now is. Times are held in microseconds since the epoch, as the log holds them.
//!
//! A value that can be read in two ways is refused, with both ways spelled out: `--retain 24` could be seconds or
//! hours, a time without an offset could be anywhere.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use crate::record::SequenceNumber;
use crate::stream::Start;

/// The longest a name of a stream, consumer or producer may be, as in the service.
pub const NAME_CHARS_MAX: usize = 128;

/// A name of a stream, a consumer or a producer: `[a-zA-Z0-9_.-]{1,128}`, and neither `.` nor `..`.
pub fn name(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    match text {
        "" => Err("a name cannot be empty".to_owned()),
        "." | ".." => Err(format!("`{text}` is not a name; for a directory give a path: `{text}/`")),
        _ if text.len() > NAME_CHARS_MAX => {
            Err(format!("a name has at most {NAME_CHARS_MAX} characters, this one {}", text.chars().count()))
        }
        _ => match text.chars().find(|&c| !(c.is_ascii() && allowed(c as u8))) {
            Some(c) => Err(format!("{c:?} cannot be in a name: letters, digits, `_`, `.` and `-` can")),
            None => Ok(text.to_owned()),
        },
    }
}

/// Splits `12.5rest` into the digits before and after the point and the rest.
fn number(text: &str) -> Option<(u128, &str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits);
    let (part, rest) = match rest.strip_prefix('.') {
        Some(after) => {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            after.split_at(digits)
        }
        None => ("", rest),
    };
    // A number of 30 digits is beyond every limit below, and u128 holds it: the caller sees that it is too large.
    let whole = if whole.len() > 30 { u128::MAX >> 40 } else { whole.parse().ok()? };
    // Below the 18th digit nothing is left of a byte or of a nanosecond.
    Some((whole, &part[..part.len().min(18)], rest))
}

/// `whole.part` times `unit`, rounded down.
fn scale(whole: u128, part: &str, unit: u64) -> u128 {
    let unit = u128::from(unit);
    let fraction = part.parse::<u128>().map_or(0, |value| value * unit / 10u128.pow(part.len() as u32));
    whole.saturating_mul(unit).saturating_add(fraction)
}

/// A number of bytes: `4096`, `64MiB`, `10MB`, `1.5g`.
///
/// As in GNU's tools a bare letter and `KiB` mean powers of 1024, `kB` powers of 1000. Case does not matter.
pub fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a size: give bytes or a unit, as `4096`, `64MiB`, `10MB`");
    let (whole, part, unit) = number(text.trim()).ok_or_else(bad)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let (letter, tail) = match unit.split_at_checked(1) {
        None if unit.is_empty() => ("b", ""),
        split => split.ok_or_else(bad)?,
    };
    let power = "bkmgtpe".find(letter).ok_or_else(bad)? as u32;
    let bytes = match tail {
        "" | "ib" if power > 0 || tail.is_empty() => 1024u64.pow(power),
        "b" if power > 0 => 1000u64.pow(power),
        _ => return Err(bad()),
    };
    if power == 0 && !part.is_empty() {
        return Err(format!("`{text}` is not a whole number of bytes"));
    }
    u64::try_from(scale(whole, part, bytes)).map_err(|_| format!("`{text}` is larger than any size can be"))
}

/// A number of bytes that is not nothing.
pub fn size_above_zero(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("it must be above zero".to_owned()),
        bytes => Ok(bytes),
    }
}

const DURATION_UNITS: [(&str, u64); 7] = [
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// A length of time: `250ms`, `5m`, `1h30m`, `1.5h`, `7d`. Only `0` goes without a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad =
        || format!("`{text}` is not a duration: give a number and a unit, as `250ms`, `5m`, `1h30m`, `7d`");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut nanos) = (text, 0u128);
    while !rest.is_empty() {
        let (whole, part, after) = number(rest).ok_or_else(bad)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (word, after) = after.split_at(letters);
        if word.is_empty() && rest == text && after.is_empty() {
            return Err(format!("`{text}` has no unit: give `{text}s`, `{text}m`, `{text}h` or `{text}d`"));
        }
        let unit = DURATION_UNITS.iter().find(|(name, _)| *name == word).ok_or_else(bad)?.1;
        nanos = nanos.saturating_add(scale(whole, part, unit));
        rest = after;
    }
    if text.is_empty() {
        return Err(bad());
    }
    // i64 nanoseconds: 292 years, and no sum with a time of day can overflow afterwards.
    match i64::try_from(nanos) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos as u64)),
        Err(_) => Err(format!("`{text}` is longer than 292 years")),
    }
}

/// How long something is kept or waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// For so long.
    For(Duration),
    /// `forever`.
    Forever,
}

impl FromStr for Term {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forever" => Ok(Self::Forever),
            _ => duration(text).map(Self::For).map_err(|error| format!("{error}, or `forever`")),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(length) => f.write_str(&show_duration(*length)),
            Self::Forever => f.write_str("forever"),
        }
    }
}

/// A point in time, as given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// Microseconds since the epoch.
    At(i64),
    /// Microseconds from now: `-1h` is negative, `now` is 0.
    FromNow(i64),
}

impl Time {
    /// Microseconds since the epoch, where `now_us` is the present.
    pub fn resolve(self, now_us: i64) -> i64 {
        match self {
            Self::At(us) => us,
            Self::FromNow(us) => now_us.saturating_add(us),
        }
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let micros = |length: Duration| length.as_micros() as i64;
        if text == "now" {
            return Ok(Self::FromNow(0));
        }
        if let Some(ago) = text.strip_prefix('-') {
            let before_christ = |error| text.parse::<Timestamp>().map_err(|_| error);
            // What it says of a number without a unit is of this one, sign and all.
            let is_bare = number(ago).is_some_and(|(_, _, unit)| unit.is_empty());
            let signed = |error: String| {
                if is_bare { error.replace(&format!("`{ago}"), &format!("`-{ago}")) } else { error }
            };
            return duration(ago)
                .map(|length| Self::FromNow(-micros(length)))
                .map_err(signed)
                .or_else(|error| before_christ(error).map(|time| Self::At(time.as_microsecond())));
        }
        if let Some(ahead) = text.strip_prefix('+') {
            return duration(ahead).map(|length| Self::FromNow(micros(length)));
        }
        if let Some((seconds, part, "")) = number(text) {
            let us = scale(seconds, part, 1_000_000);
            return match i64::try_from(us).ok().filter(|us| *us <= Timestamp::MAX.as_microsecond()) {
                Some(us) => Ok(Self::At(us)),
                None => Err(format!(
                    "`{text}` lies after the year 9999: epoch times are in seconds, as `1700000000.5`"
                )),
            };
        }
        match text.parse::<Timestamp>() {
            Ok(time) => Ok(Self::At(time.as_microsecond())),
            Err(_) if text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10 => {
                Err(format!("`{text}` has no time and no offset: give `{text}T00:00:00Z`"))
            }
            Err(_) if text.parse::<jiff::civil::DateTime>().is_ok() => {
                Err(format!("`{text}` has no offset: give `{text}Z` for UTC, or one such as `{text}+02:00`"))
            }
            Err(_) => Err(format!(
                "`{text}` is not a time: give `2026-01-31T12:00:00Z`, epoch seconds, `-1h` or `now`"
            )),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::At(us) => f.write_str(&show_time(us)),
            Self::FromNow(0) => f.write_str("now"),
            Self::FromNow(us) => {
                let sign = if us < 0 { '-' } else { '+' };
                write!(f, "{sign}{}", show_duration(Duration::from_micros(us.unsigned_abs())))
            }
        }
    }
}

/// A place in a stream to begin or to end at: the service's iterator positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The oldest record that is kept.
    TrimHorizon,
    /// Behind the newest record.
    Latest,
    /// The first record that arrived at this time or later.
    Time(Time),
    /// The record with this sequence number, or one of those that it is an aggregate of.
    At(SequenceNumber, Option<u64>),
    /// The record behind that.
    After(SequenceNumber, Option<u64>),
}

impl Position {
    /// The place where a reader begins, as of now.
    pub fn start(self, now_us: i64) -> Start {
        match self {
            Self::TrimHorizon => Start::TrimHorizon,
            Self::Latest => Start::Latest,
            Self::Time(time) => Start::Time(time.resolve(now_us)),
            Self::At(sequence, _) | Self::After(sequence, Some(_)) => Start::At(sequence),
            Self::After(sequence, None) => Start::After(sequence),
        }
    }

    /// Of the record that a reader begins with, what is not wanted any more: its index and the last of its records.
    pub fn within(self) -> Option<(u64, u64)> {
        match self {
            Self::At(sequence, Some(sub)) => sub.checked_sub(1).map(|last| (sequence.index, last)),
            Self::After(sequence, Some(sub)) => Some((sequence.index, sub)),
            _ => None,
        }
    }
}

/// `SEQUENCE`, or `SEQUENCE/SUBSEQUENCE`.
fn place(text: &str) -> Result<(SequenceNumber, Option<u64>), String> {
    let Some((sequence, sub)) = text.split_once('/') else { return Ok((text.parse()?, None)) };
    let sub =
        sub.parse().map_err(|_| format!("`{sub}` is not a sub-sequence number: give a count from 0"))?;
    Ok((sequence.parse()?, Some(sub)))
}

impl FromStr for Position {
    type Err = String;

    /// The service's own `TRIM_HORIZON` and `LATEST` are understood as well.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(number) = text.strip_prefix("at:") {
            return place(number).map(|(sequence, sub)| Self::At(sequence, sub));
        }
        if let Some(number) = text.strip_prefix("after:") {
            return place(number).map(|(sequence, sub)| Self::After(sequence, sub));
        }
        match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "trim-horizon" => Ok(Self::TrimHorizon),
            "latest" => Ok(Self::Latest),
            _ if text.len() > 30 && text.bytes().all(|b| b.is_ascii_digit()) => {
                Err(format!("a sequence number begins with `at:` or `after:`, as `after:{text}`"))
            }
            _ => text.parse().map(Self::Time).map_err(|error: String| {
                match error.strip_suffix("`-1h` or `now`").filter(|_| error.contains("is not a time")) {
                    Some(head) => format!(
                        "{}`-1h`, `trim-horizon`, `latest`, `at:SEQUENCE` or `after:SEQUENCE`",
                        head.replace("is not a time", "is not a position")
                    ),
                    None => error,
                }
            }),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrimHorizon => f.write_str("trim-horizon"),
            Self::Latest => f.write_str("latest"),
            Self::Time(time) => time.fmt(f),
            Self::At(number, None) => write!(f, "at:{number}"),
            Self::At(number, Some(sub)) => write!(f, "at:{number}/{sub}"),
            Self::After(number, None) => write!(f, "after:{number}"),
            Self::After(number, Some(sub)) => write!(f, "after:{number}/{sub}"),
        }
    }
}

/// What becomes of a record that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnError {
    /// Stop with exit status 2 at the first.
    Fail,
    /// Leave it out, count it.
    Skip,
    /// Keep it with its reason: in this file, or where the command keeps them.
    Reject(Option<std::path::PathBuf>),
}

impl FromStr for OnError {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fail" => Ok(Self::Fail),
            "skip" => Ok(Self::Skip),
            "reject" => Ok(Self::Reject(None)),
            _ => match text.strip_prefix("reject=") {
                Some("") => Err("`reject=` lacks the file's name".to_owned()),
                Some("-") => Err("`-` is not a file: give `reject=FILE`, as reject=/dev/stderr".to_owned()),
                Some(file) => Ok(Self::Reject(Some(file.into()))),
                None => Err("give `fail`, `skip`, `reject` or `reject=FILE`".to_owned()),
            },
        }
    }
}

impl fmt::Display for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::Skip => f.write_str("skip"),
            Self::Reject(None) => f.write_str("reject"),
            Self::Reject(Some(file)) => write!(f, "reject={}", file.display()),
        }
    }
}

const SIZE_UNITS: [(&str, u64); 6] = [
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// A size as it would be typed: exact, and [`size`] reads it back.
pub fn show_size(bytes: u64) -> String {
    match SIZE_UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// A size for the eye: three digits and a unit, as `1.50 GiB`.
pub fn about_size(bytes: u64) -> String {
    match SIZE_UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let value = bytes as f64 / *unit as f64;
            let places = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
            format!("{value:.places$} {name}")
        }
        None => format!("{bytes} B"),
    }
}

/// A count for the eye, its thousands apart: `1 234 567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A duration as it would be typed: exact to the microsecond, and [`duration`] reads it back.
pub fn show_duration(length: Duration) -> String {
    duration_words(length, usize::MAX)
}

/// A duration for the eye: its two largest units, as `3d4h`.
pub fn about_duration(length: Duration) -> String {
    duration_words(length, 2)
}

fn duration_words(length: Duration, words_max: usize) -> String {
    let (mut nanos, mut text, mut words) = (length.as_nanos(), String::new(), 0);
    // Weeks are read but not written: retention is spoken of in days.
    for (name, unit) in &DURATION_UNITS[1..] {
        let count = nanos / u128::from(*unit);
        nanos %= u128::from(*unit);
        if count > 0 && words < words_max {
            let _ = write!(text, "{count}{name}");
        }
        words += usize::from(words > 0 || count > 0);
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A time in UTC as RFC 3339 has it, exact, and [`Time`] reads it back.
pub fn show_time(us: i64) -> String {
    match Timestamp::from_microsecond(us) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{us}us after the epoch"),
    }
}

/// A time for tables: UTC to the second, always of one width.
pub fn about_time(us: i64) -> String {
    show_time(us.div_euclid(1_000_000).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096b", 4096),
            ("1k", 1024),
            ("1K", 1024),
            ("1kB", 1000),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("10MB", 10_000_000),
            ("1.5GiB", 3 << 29),
            ("0.5k", 512),
            ("15EiB", 15 << 60),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        let long = format!("{}k", "9".repeat(5000));
        for text in [
            "",
            "k",
            "-1",
            "+1",
            "1x",
            "1ki",
            "1kib b",
            "1bib",
            "1bb",
            "1.5",
            "1.5b",
            ".5k",
            "1e3",
            "0x10",
            "٣",
            "1µ",
            "16EiB",
            "18446744073709551616",
            "1,5k",
            "inf",
            "nan",
            &long,
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size("16EiB").unwrap_err(), "`16EiB` is larger than any size can be");
        assert!(size_above_zero("0").is_err());
    }

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        for (text, length) in [
            ("0", ms(0)),
            ("250ms", ms(250)),
            ("5m", ms(300_000)),
            ("1h30m", ms(5_400_000)),
            ("1.5h", ms(5_400_000)),
            ("7d", ms(604_800_000)),
            ("2w", ms(1_209_600_000)),
            ("1d0s", ms(86_400_000)),
            ("10us", Duration::from_micros(10)),
        ] {
            assert_eq!(duration(text), Ok(length), "{text}");
        }
        assert_eq!("forever".parse(), Ok(Term::Forever));
        assert_eq!("1d".parse(), Ok(Term::For(ms(86_400_000))));
    }

    #[test]
    fn refuses_what_is_no_duration() {
        let long = format!("{}d", "9".repeat(5000));
        for text in [
            "",
            "s",
            "-1s",
            "1",
            "1h30",
            "1 h",
            "5 m",
            "1M",
            "1y",
            "1hh",
            "1h-1m",
            "300y",
            "99999999d",
            &long,
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("24").unwrap_err(), "`24` has no unit: give `24s`, `24m`, `24h` or `24d`");
        assert!("never".parse::<Term>().unwrap_err().ends_with("or `forever`"));
    }

    #[test]
    fn times() {
        for (text, time) in [
            ("now", Time::FromNow(0)),
            ("-1h", Time::FromNow(-3_600_000_000)),
            ("-1h30m", Time::FromNow(-5_400_000_000)),
            ("+10s", Time::FromNow(10_000_000)),
            ("0", Time::At(0)),
            ("1700000000", Time::At(1_700_000_000_000_000)),
            ("1700000000.25", Time::At(1_700_000_000_250_000)),
            ("1700000000.1234569", Time::At(1_700_000_000_123_456)),
            ("2023-11-14T22:13:20Z", Time::At(1_700_000_000_000_000)),
            ("2023-11-14T22:13:20.5Z", Time::At(1_700_000_000_500_000)),
            ("2023-11-14T23:13:20+01:00", Time::At(1_700_000_000_000_000)),
            ("1969-12-31T23:59:59Z", Time::At(-1_000_000)),
            // It begins as a time ago does.
            ("-000001-12-31T23:59:59Z", Time::At(-62_167_219_200_000_000 - 1_000_000)),
        ] {
            assert_eq!(text.parse(), Ok(time), "{text}");
        }
        assert_eq!(Time::FromNow(-1).resolve(i64::MIN), i64::MIN);
        assert_eq!(Time::FromNow(-5).resolve(7), 2);
    }

    #[test]
    fn refuses_what_is_no_time_and_says_what_is_missing() {
        let long = "9".repeat(5000);
        for text in ["", "-", "+", "--1h", "-1", "yesterday", "2023-13-01T00:00:00Z", "1e9", "NOW ", &long] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
        let error = |text: &str| text.parse::<Time>().unwrap_err();
        assert!(error("2026-01-31").ends_with("give `2026-01-31T00:00:00Z`"));
        assert!(error("2026-01-31T12:00:00").contains("has no offset"));
        assert!(error("1700000000000").contains("in seconds"), "milliseconds are told from seconds");
    }

    #[test]
    fn positions() {
        let number = "49593949378240586316257100632041325623571072533185691922";
        let sequence: SequenceNumber = number.parse().unwrap();
        for (text, position) in [
            ("trim-horizon", Position::TrimHorizon),
            ("TRIM_HORIZON", Position::TrimHorizon),
            ("LATEST", Position::Latest),
            ("-1h", Position::Time(Time::FromNow(-3_600_000_000))),
            (format!("at:{number}").as_str(), Position::At(sequence, None)),
            (format!("at:{number}/3").as_str(), Position::At(sequence, Some(3))),
            (format!("after:{number}").as_str(), Position::After(sequence, None)),
            (format!("after:{number}/0").as_str(), Position::After(sequence, Some(0))),
        ] {
            assert_eq!(text.parse(), Ok(position), "{text}");
        }
        assert!(number.parse::<Position>().unwrap_err().contains("`after:4959"));
        assert!("begin".parse::<Position>().unwrap_err().contains("`trim-horizon`"));
        for text in ["at:", "at:0", "after:x", "before:1"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        for text in ["clicks", "a", "...", ".hidden", "A-b_c.9", &"x".repeat(128)] {
            assert_eq!(name(text), Ok(text.to_owned()));
        }
        for text in ["", ".", "..", "a b", "a/b", "a\n", "ü", "\u{1b}[31m", &"x".repeat(129)] {
            assert!(name(text).is_err(), "{text}");
        }
        assert!(!name("\u{1b}[31m").unwrap_err().contains('\u{1b}'));
    }

    #[test]
    fn what_becomes_of_a_bad_record() {
        assert_eq!("reject=bad.jsonl".parse(), Ok(OnError::Reject(Some("bad.jsonl".into()))));
        assert_eq!("reject".parse(), Ok(OnError::Reject(None)));
        assert!("reject=".parse::<OnError>().is_err());
        // It was a file of that name.
        assert!("reject=-".parse::<OnError>().is_err());
        assert!("ignore".parse::<OnError>().is_err());
    }

    #[test]
    fn values_for_the_eye() {
        assert_eq!(about_size(1023), "1023 B");
        assert_eq!(about_size(1536), "1.50 KiB");
        assert_eq!(about_size(64 << 20), "64.0 MiB");
        assert_eq!(about_size(u64::MAX), "16.0 EiB");
        assert_eq!(show_count(1_234_567), "1 234 567");
        assert_eq!(show_count(12), "12");
        assert_eq!(about_duration(Duration::from_secs(273_723)), "3d4h");
        assert_eq!(about_duration(Duration::from_secs(86_401)), "1d");
        assert_eq!(about_time(1_700_000_000_999_999), "2023-11-14T22:13:20Z");
        assert_eq!(show_time(i64::MAX), format!("{}us after the epoch", i64::MAX));
    }

    proptest! {
        #[test]
        fn sizes_round_trip(bytes: u64, shift in 0u32..64) {
            let bytes = bytes >> shift << (shift / 2);
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn durations_round_trip(us in 0u64..i64::MAX as u64 / 1000) {
            let length = Duration::from_micros(us);
            prop_assert_eq!(duration(&show_duration(length)), Ok(length));
        }

        #[test]
        fn positions_round_trip(us in -377_705_116_800_000_000i64..253_402_207_200_000_000, ago: i32, which in 0..4) {
            let position = match which {
                0 => Position::Time(Time::At(us)),
                1 => Position::Time(Time::FromNow(i64::from(ago))),
                2 => Position::TrimHorizon,
                _ => Position::Latest,
            };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn nothing_typed_makes_a_parser_fall(text in "\\PC*|[-+0-9.a-zA-Z:]{0,40}") {
            let _ = (size(&text), duration(&text), name(&text));
            let _ = (text.parse::<Time>(), text.parse::<Position>(), text.parse::<Term>(), text.parse::<OnError>());
        }
    }
}
