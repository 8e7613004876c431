//! The fields of a moment, and their texts.

use std::fmt::Write as _;

use super::names::{self, NameKind};
use crate::hose::name::zone::Zone;

/// Why a moment cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Padding is narrower than the text.
    #[error("`{text}` is wider than the {pad} characters that it is padded to")]
    Padding {
        /// The text.
        text: String,
        /// The width of the padding.
        pad: usize,
    },
}

/// A number of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Number {
    Year,
    YearOfEra,
    WeekYear,
    Month,
    Quarter,
    Day,
    DayOfYear,
    JulianDay,
    WeekOfYear,
    WeekOfMonth,
    DayOfWeek,
    DayOfWeekInMonth,
    Hour,
    ClockHour,
    HourOfHalf,
    ClockHourOfHalf,
    Minute,
    Second,
    Nano,
    MilliOfDay,
    NanoOfDay,
}

/// What a number has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Style {
    /// A minus if it is negative.
    Plain,
    /// Also a plus if it is wider than it was asked for.
    PlusIfWider,
}

/// How long a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Width {
    Short,
    Full,
    Narrow,
}

/// What of an offset is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Offsets {
    /// Hours, minutes if there are any.
    Hours,
    /// Hours and minutes.
    Minutes,
    /// The same with a colon between.
    ColonMinutes,
    /// Hours and minutes, seconds if there are any.
    Seconds,
    /// The same with colons between.
    ColonSeconds,
}

/// A field of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Field {
    Number { of: Number, min: usize, style: Style },
    TwoDigits(Number),
    Fraction(usize),
    Era(Width),
    Month(Width),
    Quarter(Width),
    Weekday(Width),
    HalfDay,
    DayPeriod(Width),
    ZoneId,
    ZoneName { kind: NameKind, full: bool },
    Offset { form: Offsets, zero: &'static str },
    LocalizedOffset { full: bool },
}

const MICROS: i64 = 1;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

impl Field {
    pub(super) fn write(self, moment: &Moment<'_>, out: &mut String) {
        match self {
            Self::Number { of, min, style } => push_number(moment.number(of), min, style, out),
            Self::TwoDigits(of) => push_number(moment.number(of).abs() % 100, 2, Style::Plain, out),
            Self::Fraction(digits) => {
                let value = i64::from(moment.nano) / 10i64.pow(9 - digits as u32);
                push_number(value, digits, Style::Plain, out);
            }
            Self::Era(width) => out.push_str(names::era(moment.year > 0, width)),
            Self::Month(width) => out.push_str(names::month(moment.month, width)),
            Self::Quarter(width) => out.push_str(names::quarter(moment.number(Number::Quarter), width)),
            Self::Weekday(width) => out.push_str(names::weekday(moment.weekday, width)),
            Self::HalfDay => out.push_str(if moment.hour < 12 { "AM" } else { "PM" }),
            Self::DayPeriod(width) => out.push_str(names::day_period(moment.hour, moment.minute, width)),
            Self::ZoneId => out.push_str(moment.zone.id()),
            Self::ZoneName { kind, full } => {
                out.push_str(names::zone(moment.zone, moment.daylight, kind, full));
            }
            Self::Offset { form, zero } => push_offset(moment.offset_s, form, zero, out),
            Self::LocalizedOffset { full } => push_localized_offset(moment.offset_s, full, out),
        }
    }

    /// How many characters it can have at the most for the years 0 to 9999, where that does not hang on the zone.
    pub(super) fn widest(self) -> Option<usize> {
        Some(match self {
            Self::Number { of, min, .. } => of.digits().max(min),
            Self::Fraction(digits) => digits,
            Self::Era(Width::Full) => 13,
            // Of an offset a sign and two digits each; its seconds are of the time before zones, or were asked for.
            Self::Month(Width::Full)
            | Self::Weekday(Width::Full)
            | Self::Offset { form: Offsets::ColonSeconds, .. } => 9,
            Self::Month(Width::Short) | Self::Weekday(Width::Short) => 3,
            Self::Quarter(Width::Full) => 11,
            Self::Quarter(Width::Short) | Self::Era(Width::Short) | Self::HalfDay | Self::TwoDigits(_) => 2,
            Self::Month(_) | Self::Weekday(_) | Self::Quarter(_) | Self::Era(_) => 1,
            Self::DayPeriod(_) => 16,
            Self::Offset { form: Offsets::Hours | Offsets::Minutes, .. } => 5,
            Self::Offset { form: Offsets::ColonMinutes, .. } => 6,
            Self::Offset { form: Offsets::Seconds, .. } => 7,
            Self::LocalizedOffset { .. } => 12,
            Self::ZoneId | Self::ZoneName { .. } => return None,
        })
    }

    /// How long a text of it holds, in microseconds of the local clock, counted from midnight; `None` for ever.
    pub(super) fn step_us(self) -> Option<i64> {
        Some(match self {
            Self::Number { of, .. } => of.step_us(),
            Self::Fraction(digits) => SECOND / 10i64.pow(digits.min(6) as u32),
            Self::DayPeriod(_) => MINUTE,
            Self::HalfDay => HOUR,
            Self::ZoneId => return None,
            // Those of the zone change with the zone's rules, which every span is cut by.
            _ => DAY,
        })
    }
}

impl Number {
    /// Its digits for the years 0 to 9999.
    fn digits(self) -> usize {
        match self {
            Self::Quarter | Self::WeekOfMonth | Self::DayOfWeek | Self::DayOfWeekInMonth => 1,
            Self::Year | Self::YearOfEra | Self::WeekYear => 4,
            Self::DayOfYear => 3,
            Self::JulianDay => 7,
            Self::MilliOfDay => 8,
            Self::Nano => 9,
            Self::NanoOfDay => 14,
            _ => 2,
        }
    }

    fn step_us(self) -> i64 {
        match self {
            Self::Nano | Self::NanoOfDay => MICROS,
            Self::MilliOfDay => 1000 * MICROS,
            Self::Second => SECOND,
            Self::Minute => MINUTE,
            Self::Hour | Self::ClockHour | Self::HourOfHalf | Self::ClockHourOfHalf => HOUR,
            _ => DAY,
        }
    }
}

/// A moment as a clock on a wall in a zone shows it.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'z> {
    pub(in super::super) zone: &'z Zone,
    pub(in super::super) offset_s: i32,
    pub(in super::super) daylight: bool,
    /// Days since 1970-01-01.
    pub(in super::super) epoch_day: i64,
    pub(in super::super) year: i64,
    pub(in super::super) month: usize,
    pub(in super::super) day: i64,
    pub(in super::super) day_of_year: i64,
    /// Days since Sunday.
    pub(in super::super) weekday: usize,
    pub(in super::super) hour: i64,
    pub(in super::super) minute: i64,
    pub(in super::super) second: i64,
    pub(in super::super) nano: i32,
}

impl Moment<'_> {
    fn number(&self, of: Number) -> i64 {
        match of {
            Number::Year => self.year,
            Number::YearOfEra if self.year > 0 => self.year,
            Number::YearOfEra => 1 - self.year,
            Number::WeekYear => self.week().0,
            Number::Month => self.month as i64,
            Number::Quarter => (self.month as i64 + 2) / 3,
            Number::Day => self.day,
            Number::DayOfYear => self.day_of_year,
            // Its day 0 is 1858-11-17.
            Number::JulianDay => self.epoch_day + 40_587,
            Number::WeekOfYear => self.week().1,
            Number::WeekOfMonth => self.week_of(self.day),
            Number::DayOfWeek => self.weekday as i64 + 1,
            Number::DayOfWeekInMonth => (self.day - 1) % 7 + 1,
            Number::Hour => self.hour,
            Number::ClockHour => (self.hour + 23) % 24 + 1,
            Number::HourOfHalf => self.hour % 12,
            Number::ClockHourOfHalf => (self.hour + 11) % 12 + 1,
            Number::Minute => self.minute,
            Number::Second => self.second,
            Number::Nano => i64::from(self.nano),
            Number::MilliOfDay => self.second_of_day() * 1000 + i64::from(self.nano) / 1_000_000,
            Number::NanoOfDay => self.second_of_day() * 1_000_000_000 + i64::from(self.nano),
        }
    }

    fn second_of_day(&self) -> i64 {
        (self.hour * 60 + self.minute) * 60 + self.second
    }

    /// The week of this day in the month or year whose day `day` it is: weeks begin on Sunday, the first has day 1.
    fn week_of(&self, day: i64) -> i64 {
        let first_weekday = (self.weekday as i64 - (day - 1)).rem_euclid(7);
        (day - 1 + first_weekday) / 7 + 1
    }

    /// The week-based year and its week. The last week of a year is the first of the next if that begins in it.
    fn week(&self) -> (i64, i64) {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let days_left = if leap { 366 } else { 365 } - self.day_of_year;
        let saturday_in = 6 - self.weekday as i64;
        if days_left < saturday_in { (self.year + 1, 1) } else { (self.year, self.week_of(self.day_of_year)) }
    }
}

fn push_number(value: i64, min: usize, style: Style, out: &mut String) {
    if value < 0 {
        out.push('-');
    } else if style == Style::PlusIfWider && min < 19 && value >= 10i64.pow(min as u32) {
        out.push('+');
    }
    // Writing to a string does not fail.
    let _ = write!(out, "{:0min$}", value.unsigned_abs());
}

fn push_offset(offset_s: i32, form: Offsets, zero: &str, out: &mut String) {
    let seconds = offset_s.unsigned_abs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let with_minutes = form != Offsets::Hours || minutes > 0;
    let with_seconds = matches!(form, Offsets::Seconds | Offsets::ColonSeconds) && seconds > 0;
    // An offset of a few seconds is none where seconds are not written.
    if hours == 0 && minutes == 0 && !with_seconds {
        out.push_str(zero);
        return;
    }
    let colon = if matches!(form, Offsets::ColonMinutes | Offsets::ColonSeconds) { ":" } else { "" };
    out.push(if offset_s < 0 { '-' } else { '+' });
    let _ = write!(out, "{hours:02}");
    if with_minutes {
        let _ = write!(out, "{colon}{minutes:02}");
    }
    if with_seconds {
        let _ = write!(out, "{colon}{seconds:02}");
    }
}

fn push_localized_offset(offset_s: i32, full: bool, out: &mut String) {
    out.push_str("GMT");
    if offset_s == 0 {
        return;
    }
    let seconds = offset_s.unsigned_abs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    out.push(if offset_s < 0 { '-' } else { '+' });
    let _ = if full { write!(out, "{hours:02}") } else { write!(out, "{hours}") };
    if full || minutes > 0 || seconds > 0 {
        let _ = write!(out, ":{minutes:02}");
    }
    if seconds > 0 {
        let _ = write!(out, ":{seconds:02}");
    }
}
