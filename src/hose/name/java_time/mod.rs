//! Moments as text by the patterns of Java's `DateTimeFormatter`, which are the service's `!{timestamp:...}`.
//!
//! The promise: a pattern that is taken gives, for every moment, the text that Java gives for a `ZonedDateTime` in
//! `Locale.US`; golden tables made by Java hold this against the code. A pattern is compiled once.
//!
//! # Which Java
//!
//! The service documents the class of Java 8 and names no locale. Its examples are English, and a JVM that was told
//! nothing counts weeks as in the United States: a week begins on Sunday, and week 1 is the one with the first of
//! January. So that is what `Y`, `w`, `W`, `e` and `c` mean here; with no ISO locale, Java has no letters for ISO
//! weeks. `Locale.ROOT` counts the same weeks, but has no names of months and eras.
//!
//! Between the versions of Java two things differ: `F` is the day of the week in the month up to Java 18 (the 8th of a
//! month gives 1) and the week of the month from 19 on; here it is the former, as the service's documentation is
//! of Java 8. And the names of time zones (`z`, `v`) change with each edition of CLDR; here they are those of Java 17.
//! `B`, `g` and `v` came after Java 8; they are taken.
//!
//! # What is refused although Java takes it
//!
//! Padding (`p`) that is too narrow for what it pads (`pH`): Java fails at the first moment that does not fit, which
//! would be in the middle of a delivery. Java itself cannot do `ppHmm` (it fails with a `ClassCastException`); that
//! works here. Optional sections (`[...]`) are always written, since a moment has every field.

mod fields;
mod names;

pub use fields::Moment;
pub(super) use fields::{Field, FormatError};

use fields::{Number, Offsets, Style, Width};
use names::NameKind;

/// The letters of patterns, for messages.
const LETTERS: &str = "G u y D M L d Q q Y w W E e c F a B h K k H m s S A n N V v z O X x Z p";

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    items: Vec<Item>,
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// As it is.
    Text(String),
    /// A field, with spaces before it up to a width where there is one.
    Field { field: Field, pad: Option<usize> },
}

/// What is wrong with a pattern, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PatternError {
    /// The byte of the pattern that it is about.
    pub at: usize,
    /// What is wrong.
    pub reason: String,
}

impl PatternError {
    fn new(at: usize, reason: impl Into<String>) -> Self {
        Self { at, reason: reason.into() }
    }
}

impl Pattern {
    /// Compiles a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut pattern = Self { items: Vec::new() };
        let mut sections = 0u32;
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            match c {
                'a'..='z' | 'A'..='Z' => at = pattern.letters(text, at)?,
                '\'' => at = pattern.quoted(text, at)?,
                '[' => {
                    sections += 1;
                    at += 1;
                }
                ']' => {
                    sections = sections
                        .checked_sub(1)
                        .ok_or_else(|| PatternError::new(at, "a `]` without its `[`"))?;
                    at += 1;
                }
                '{' | '}' | '#' => {
                    let reason = format!("`{c}` is reserved in patterns: write `'{c}'` for the character");
                    return Err(PatternError::new(at, reason));
                }
                c => {
                    pattern.push_text(c.encode_utf8(&mut [0; 4]));
                    at += c.len_utf8();
                }
            }
        }
        Ok(pattern)
    }

    /// Where the pattern that begins `text` ends: at the first `}` that is not in quotes.
    pub(super) fn end(text: &str) -> Option<usize> {
        let mut quoted = false;
        text.bytes().position(|byte| {
            quoted ^= byte == b'\'';
            byte == b'}' && !quoted
        })
    }

    /// Appends the text of a moment.
    pub fn write(&self, moment: &Moment<'_>, out: &mut String) -> Result<(), FormatError> {
        self.items.iter().try_for_each(|item| item.write(moment, out))
    }

    /// Its parts.
    pub(super) fn into_items(self) -> Vec<Item> {
        self.items
    }

    fn push_text(&mut self, text: &str) {
        match self.items.last_mut() {
            Some(Item::Text(before)) => before.push_str(text),
            _ => self.items.push(Item::Text(text.to_owned())),
        }
    }

    /// Takes the literal whose quote is at `at`; answers where it ends.
    fn quoted(&mut self, text: &str, at: usize) -> Result<usize, PatternError> {
        // Two quotes are one, within and without; only a literal of nothing is two with no third behind.
        let (mut rest, mut literal) = (&text[at + 1..], String::new());
        loop {
            let end = rest.find('\'').ok_or_else(|| PatternError::new(at, "a quote that is not closed"))?;
            literal.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            let Some(after) = rest.strip_prefix('\'') else { break };
            literal.push('\'');
            rest = after;
        }
        self.push_text(if literal.is_empty() { "'" } else { &literal });
        Ok(text.len() - rest.len())
    }

    /// Takes the run of one letter at `at`, and what it pads; answers where it ends.
    fn letters(&mut self, text: &str, at: usize) -> Result<usize, PatternError> {
        let run = |at: usize| {
            let letter = text.as_bytes()[at];
            text.as_bytes()[at..].iter().take_while(|&&byte| byte == letter).count()
        };
        let (mut start, mut count, mut pad) = (at, run(at), None);
        if text.as_bytes()[at] == b'p' {
            start = at + count;
            if !text.as_bytes().get(start).is_some_and(u8::is_ascii_alphabetic) {
                return Err(PatternError::new(at, "`p` pads the letter behind it, and there is none"));
            }
            (pad, count) = (Some(count), run(start));
        }
        let letter = char::from(text.as_bytes()[start]);
        let field = field(letter, count).map_err(|reason| PatternError::new(start, reason))?;
        if let (Some(pad), Some(widest)) = (pad, field.widest())
            && widest > pad
        {
            let reason = format!(
                "`{}` can be {widest} characters wide, more than the {pad} that it is padded to",
                &text[start..start + count]
            );
            return Err(PatternError::new(at, reason));
        }
        self.items.push(Item::Field { field, pad });
        Ok(start + count)
    }
}

impl Item {
    /// Appends the text of a moment.
    pub(super) fn write(&self, moment: &Moment<'_>, out: &mut String) -> Result<(), FormatError> {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Field { field, pad: None } => field.write(moment, out),
            Self::Field { field, pad: Some(pad) } => {
                let start = out.len();
                field.write(moment, out);
                let chars = out[start..].chars().count();
                if chars > *pad {
                    return Err(FormatError::Padding { text: out.split_off(start), pad: *pad });
                }
                out.insert_str(start, &" ".repeat(pad - chars));
            }
        }
        Ok(())
    }

    /// How many characters it can have at the most, for the years 0 to 9999; a guess where a zone's name is in it.
    pub(super) fn widest(&self) -> usize {
        // The longest name of a zone has 47.
        const ZONE_NAME: usize = 64;
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Field { pad: Some(pad), .. } => *pad,
            Self::Field { field, .. } => field.widest().unwrap_or(ZONE_NAME),
        }
    }

    /// How long a text of it holds, in microseconds of the local clock, counted from midnight; `None` for ever.
    pub(super) fn step_us(&self) -> Option<i64> {
        match self {
            Self::Text(_) => None,
            Self::Field { field, .. } => field.step_us(),
        }
    }
}

/// The field that `count` times `letter` stands for.
fn field(letter: char, count: usize) -> Result<Field, String> {
    let number = |of, min: usize, style| Field::Number { of, min, style };
    let at_most = |max: usize| {
        if count <= max { Ok(()) } else { Err(format!("{count} times `{letter}`: {max} are the most")) }
    };
    let one_of = |counts: &str, ok: bool| {
        if ok { Ok(()) } else { Err(format!("{count} times `{letter}`: write it {counts}")) }
    };
    // For letters that are a number up to twice and a text from three times on.
    let width = || match count {
        4 => Width::Full,
        5 => Width::Narrow,
        _ => Width::Short,
    };
    let plain = |of, max| at_most(max).map(|()| number(of, count, Style::Plain));
    match letter {
        'G' => at_most(5).map(|()| Field::Era(width())),
        'u' | 'y' | 'Y' => {
            let of = match letter {
                'u' => Number::Year,
                'y' => Number::YearOfEra,
                _ => Number::WeekYear,
            };
            // Java has no bound for `Y`; one that is written in full is enough.
            at_most(19)?;
            Ok(match count {
                2 => Field::TwoDigits(of),
                1 | 3 => number(of, count, Style::Plain),
                _ => number(of, count, Style::PlusIfWider),
            })
        }
        'M' | 'L' if count > 2 => at_most(5).map(|()| Field::Month(width())),
        'M' | 'L' => plain(Number::Month, 2),
        'Q' | 'q' if count > 2 => at_most(5).map(|()| Field::Quarter(width())),
        'Q' | 'q' => plain(Number::Quarter, 2),
        'E' => at_most(5).map(|()| Field::Weekday(width())),
        'c' if count == 2 => Err("2 times `c`: write it once, or 3 to 5 times".to_owned()),
        'e' | 'c' if count > 2 => at_most(5).map(|()| Field::Weekday(width())),
        'e' | 'c' => plain(Number::DayOfWeek, 2),
        'D' => plain(Number::DayOfYear, 3),
        'd' => plain(Number::Day, 2),
        'w' => plain(Number::WeekOfYear, 2),
        'W' => plain(Number::WeekOfMonth, 1),
        'F' => plain(Number::DayOfWeekInMonth, 1),
        'a' => at_most(1).map(|()| Field::HalfDay),
        'B' => one_of("once, 4 or 5 times", matches!(count, 1 | 4 | 5)).map(|()| Field::DayPeriod(width())),
        'h' => plain(Number::ClockHourOfHalf, 2),
        'K' => plain(Number::HourOfHalf, 2),
        'k' => plain(Number::ClockHour, 2),
        'H' => plain(Number::Hour, 2),
        'm' => plain(Number::Minute, 2),
        's' => plain(Number::Second, 2),
        'S' => at_most(9).map(|()| Field::Fraction(count)),
        'A' => plain(Number::MilliOfDay, 19),
        'n' => plain(Number::Nano, 19),
        'N' => plain(Number::NanoOfDay, 19),
        'g' => plain(Number::JulianDay, 19),
        'V' => one_of("twice", count == 2).map(|()| Field::ZoneId),
        'v' => one_of("once or 4 times", matches!(count, 1 | 4))
            .map(|()| Field::ZoneName { kind: NameKind::Generic, full: count == 4 }),
        'z' => at_most(4).map(|()| Field::ZoneName { kind: NameKind::Specific, full: count == 4 }),
        'O' => one_of("once or 4 times", matches!(count, 1 | 4))
            .map(|()| Field::LocalizedOffset { full: count == 4 }),
        'Z' if count == 4 => Ok(Field::LocalizedOffset { full: true }),
        'Z' => {
            at_most(5)?;
            Ok(if count == 5 {
                Field::Offset { form: Offsets::ColonSeconds, zero: "Z" }
            } else {
                Field::Offset { form: Offsets::Minutes, zero: "+0000" }
            })
        }
        'X' | 'x' => {
            at_most(5)?;
            let (form, zero) = match count {
                1 => (Offsets::Hours, "+00"),
                2 => (Offsets::Minutes, "+0000"),
                3 => (Offsets::ColonMinutes, "+00:00"),
                4 => (Offsets::Seconds, "+0000"),
                _ => (Offsets::ColonSeconds, "+00:00"),
            };
            Ok(Field::Offset { form, zero: if letter == 'X' { "Z" } else { zero } })
        }
        _ => Err(format!(
            "`{letter}` is not a letter of patterns: they are {LETTERS}, and text stands in quotes"
        )),
    }
}

#[cfg(test)]
mod tests;
