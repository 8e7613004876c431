//! Patterns of Java and Joda-Time, for reading.
//!
//! Names of months and days are the English ones, and count whether they are short or long. A field reads as few digits
//! as there are, unless the next field follows without anything between them: `yyyyMMdd`. What the pattern has not is the
//! first of January 1970 at midnight, UTC.

use super::{Digits, Moment, days, moment};

/// A pattern, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Literal(String),
    Number(Field, Width),
    Month,
    Day,
    HalfDay,
    Offset,
    Optional(Vec<Item>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    ShortYear,
    Month,
    Day,
    DayOfYear,
    Hour,
    /// 1 to 24.
    HourFrom1,
    /// 0 to 11.
    HalfHour,
    /// 1 to 12.
    HalfHourFrom1,
    Minute,
    Second,
    Fraction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width {
    least: usize,
    most: usize,
    letters: usize,
}

/// Sections in brackets in each other: nobody writes more, and they are read by recursion.
const OPTIONAL_DEPTH_MAX: usize = 8;

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut chars = text.chars().peekable();
        let fault = |what: String| format!("timestamp format {text:?}: {what}");
        let mut levels: Vec<Vec<Item>> = vec![Vec::new()];
        while let Some(c) = chars.next() {
            let literal = |levels: &mut Vec<Vec<Item>>, c: char| {
                let items = levels.last_mut();
                match items.and_then(|items| items.last_mut()) {
                    Some(Item::Literal(text)) => text.push(c),
                    _ => levels
                        .iter_mut()
                        .last()
                        .into_iter()
                        .for_each(|items| items.push(Item::Literal(c.into()))),
                }
            };
            match c {
                '\'' if chars.next_if_eq(&'\'').is_some() => literal(&mut levels, '\''),
                '\'' => loop {
                    match chars.next() {
                        Some('\'') if chars.next_if_eq(&'\'').is_some() => literal(&mut levels, '\''),
                        Some('\'') => break,
                        Some(c) => literal(&mut levels, c),
                        None => return Err(fault("a quote is not closed".to_owned())),
                    }
                },
                '[' if levels.len() <= OPTIONAL_DEPTH_MAX => levels.push(Vec::new()),
                ']' if levels.len() > 1 => {
                    let inner = levels.pop().unwrap_or_default();
                    levels
                        .iter_mut()
                        .last()
                        .into_iter()
                        .for_each(|items| items.push(Item::Optional(inner.clone())));
                }
                '[' | ']' => return Err(fault(format!("`{c}` has no other end"))),
                c if c.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    let item = field(c, count).ok_or_else(|| {
                        fault(format!(
                            "`{c}` is not understood: give letters of y M d D H h K k m s S a E Z X z, \
                                       and text in quotes"
                        ))
                    })?;
                    levels.iter_mut().last().into_iter().for_each(|items| items.push(item.clone()));
                }
                c => literal(&mut levels, c),
            }
        }
        let (Some(mut items), true) = (levels.pop(), levels.is_empty()) else {
            return Err(fault("`[` has no other end".to_owned()));
        };
        fix_widths(&mut items);
        let pattern = Self { items };
        if !pattern.has(|field| matches!(field, Field::Year | Field::ShortYear)) {
            return Err(fault("it has no year".to_owned()));
        }
        Ok(pattern)
    }

    fn has(&self, test: impl Fn(Field) -> bool + Copy) -> bool {
        fn any(items: &[Item], test: impl Fn(Field) -> bool + Copy) -> bool {
            items.iter().any(|item| match item {
                Item::Number(field, _) => test(*field),
                Item::Optional(items) => any(items, test),
                _ => false,
            })
        }
        any(&self.items, test)
    }

    /// Whether it has more than a date.
    pub(super) fn has_time(&self) -> bool {
        self.has(|field| {
            matches!(field, Field::Hour | Field::HourFrom1 | Field::HalfHour | Field::HalfHourFrom1)
        })
    }

    /// The moment of a text, if all of it is as the pattern has it.
    pub(super) fn read(&self, text: &str) -> Option<Moment> {
        let mut read = Read::default();
        let mut digits = Digits { bytes: text.as_bytes(), at: 0 };
        take(&self.items, &mut digits, &mut read)?;
        digits.done().then(|| read.moment())?
    }
}

fn field(c: char, count: usize) -> Option<Item> {
    let width = |field, least, most| Item::Number(field, Width { least, most, letters: count });
    let number = |field, most| width(field, 1, count.max(most));
    Some(match c {
        'y' | 'u' | 'Y' if count == 2 => width(Field::ShortYear, 2, 2),
        'y' | 'u' | 'Y' => width(Field::Year, count.min(4), 4),
        'M' | 'L' if count > 2 => Item::Month,
        'M' | 'L' => number(Field::Month, 2),
        'd' => number(Field::Day, 2),
        'D' => number(Field::DayOfYear, 3),
        'H' => number(Field::Hour, 2),
        'k' => number(Field::HourFrom1, 2),
        'K' => number(Field::HalfHour, 2),
        'h' => number(Field::HalfHourFrom1, 2),
        'm' => number(Field::Minute, 2),
        's' => number(Field::Second, 2),
        'S' => width(Field::Fraction, 1, 18),
        'a' => Item::HalfDay,
        'E' => Item::Day,
        'Z' | 'X' | 'x' | 'z' => Item::Offset,
        _ => return None,
    })
}

/// Numbers that follow each other directly are told apart by how many letters they have.
fn fix_widths(items: &mut [Item]) {
    let is_number = |item: Option<&Item>| matches!(item, Some(Item::Number(..)));
    for i in 0..items.len() {
        let beside = is_number(items.get(i + 1)) || (i > 0 && is_number(items.get(i - 1)));
        let last = !is_number(items.get(i + 1));
        match &mut items[i] {
            Item::Optional(inner) => fix_widths(inner),
            // The digits behind the point are as many as there are, if nothing follows.
            Item::Number(Field::Fraction, _) if last => {}
            Item::Number(_, width) if beside => {
                *width = Width { least: width.letters, most: width.letters, ..*width };
            }
            _ => {}
        }
    }
}

/// What has been read so far.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    year: u32,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: u32,
    half_hour: Option<u32>,
    afternoon: bool,
    minute: u32,
    second: u32,
    nanos: u32,
    offset: i32,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

fn take(items: &[Item], digits: &mut Digits<'_>, read: &mut Read) -> Option<()> {
    for item in items {
        match item {
            Item::Literal(text) => {
                let rest = &digits.bytes[digits.at..];
                if !rest.starts_with(text.as_bytes()) {
                    return None;
                }
                digits.at += text.len();
            }
            Item::Number(Field::Fraction, width) => {
                let start = digits.at;
                read.nanos = digits.nanos(width.most)?;
                if digits.at - start < width.least {
                    return None;
                }
            }
            Item::Number(field, width) => {
                let number = digits.number(width.least, width.most.min(9))?;
                read.set(*field, number)?;
            }
            Item::Month => read.month = Some(name(digits, &MONTHS)? as u32 + 1),
            Item::Day => drop(name(digits, &DAYS)?),
            Item::HalfDay => read.afternoon = name(digits, &["am", "pm"])? == 1,
            Item::Offset => {
                let rest = &digits.bytes[digits.at..];
                let zone = [&b"UTC"[..], b"GMT"].into_iter().any(|zone| rest.starts_with(zone));
                if zone {
                    digits.at += 3;
                } else {
                    read.offset = digits.offset()?;
                }
            }
            Item::Optional(inner) => {
                let (at, before) = (digits.at, *read);
                if take(inner, digits, read).is_none() {
                    digits.at = at;
                    *read = before;
                }
            }
        }
    }
    Some(())
}

/// A name of several letters, whole or its first three. Returns which.
fn name(digits: &mut Digits<'_>, names: &[&str]) -> Option<usize> {
    let rest = &digits.bytes[digits.at..];
    let len = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let word = rest[..len].to_ascii_lowercase();
    let found = names
        .iter()
        .position(|name| word == name.as_bytes() || (name.len() > 3 && word == name.as_bytes()[..3]))?;
    digits.at += len;
    Some(found)
}

impl Read {
    fn set(&mut self, field: Field, number: u32) -> Option<()> {
        match field {
            Field::Year => self.year = number,
            Field::ShortYear => self.year = 2000 + number,
            Field::Month => self.month = Some(number),
            Field::Day => self.day = Some(number),
            Field::DayOfYear => self.day_of_year = Some(number),
            Field::Hour => self.hour = number,
            Field::HourFrom1 if (1..=24).contains(&number) => self.hour = number % 24,
            Field::HalfHour if number < 12 => self.half_hour = Some(number),
            Field::HalfHourFrom1 if (1..=12).contains(&number) => self.half_hour = Some(number % 12),
            Field::HourFrom1 | Field::HalfHour | Field::HalfHourFrom1 => return None,
            Field::Minute => self.minute = number,
            Field::Second => self.second = number,
            Field::Fraction => self.nanos = number,
        }
        Some(())
    }

    fn moment(self) -> Option<Moment> {
        let year = i64::from(self.year);
        let days = match self.day_of_year {
            Some(day) => {
                let (first, next) = (days(year, 1, 1)?, days(year + 1, 1, 1)?);
                Some(first + i64::from(day) - 1).filter(|&days| day > 0 && days < next)?
            }
            None => days(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let hour = match self.half_hour {
            Some(hour) => hour + if self.afternoon { 12 } else { 0 },
            None => self.hour,
        };
        moment(days, (hour, self.minute, self.second), self.nanos, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &str, text: &str) -> Option<String> {
        let moment = Pattern::parse(pattern).unwrap().read(text)?;
        let micros = moment.units(6)?;
        Some(jiff::Timestamp::from_microsecond(micros).unwrap().to_string())
    }

    #[test]
    fn texts_by_a_pattern() {
        for (pattern, text, moment) in [
            ("yyyy-MM-dd HH:mm:ss", "2024-05-06 07:08:09", "2024-05-06T07:08:09Z"),
            ("dd/MM/yyyy", "6/5/2024", "2024-05-06T00:00:00Z"),
            ("yyyyMMddHHmmssSSS", "20240506070809123", "2024-05-06T07:08:09.123Z"),
            ("yyyyMMdd'T'HHmmss'Z'", "20240506T070809Z", "2024-05-06T07:08:09Z"),
            ("dd/MMM/yyyy:HH:mm:ss Z", "06/May/2024:07:08:09 +0200", "2024-05-06T05:08:09Z"),
            ("EEE, d MMMM yyyy h:mm a z", "Mon, 6 May 2024 12:08 PM GMT", "2024-05-06T12:08:00Z"),
            ("EEE, d MMMM yyyy h:mm a z", "Monday, 6 may 2024 12:08 am UTC", "2024-05-06T00:08:00Z"),
            ("yyyy-MM-dd'T'HH:mm:ss[.SSS]XXX", "2024-05-06T07:08:09Z", "2024-05-06T07:08:09Z"),
            ("yyyy-MM-dd'T'HH:mm:ss[.SSS]XXX", "2024-05-06T07:08:09.5-01:00", "2024-05-06T08:08:09.5Z"),
            ("yyyyMMddHHmmssSSSSSS", "20240506070809123456", "2024-05-06T07:08:09.123456Z"),
            ("ssSSmmyyyy", "0950082024", "2024-01-01T00:08:09.5Z"),
            ("yyyy-DDD", "2024-366", "2024-12-31T00:00:00Z"),
            ("MM/dd/yy", "05/06/24", "2024-05-06T00:00:00Z"),
            ("yyyy 'o''clock' k", "2024 o'clock 24", "2024-01-01T00:00:00Z"),
        ] {
            assert_eq!(read(pattern, text).as_deref(), Some(moment), "{pattern}: {text}");
        }
        for (pattern, text) in [
            ("yyyy-MM-dd", "2024-05-06 "),
            ("yyyy-MM-dd", "2024-13-06"),
            ("yyyy-DDD", "2023-366"),
            ("yyyy h", "2024 13"),
            ("yyyyMMdd", "2024056"),
            ("yyyy MMM", "2024 Mai"),
            ("yyyy HH", "2024 24"),
            ("yyyy Z", "2024 PST"),
        ] {
            assert_eq!(read(pattern, text), None, "{pattern}: {text}");
        }
    }

    #[test]
    fn patterns_that_are_none() {
        for pattern in ["yyyy 'x", "yyyy[", "yyyy]", "yyyyQ", "HH:mm", "", "yyyy[[[[[[[[[x]]]]]]]]]"] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.contains("timestamp format"), "{error}");
        }
    }
}
