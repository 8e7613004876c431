//! The names in English: of months, days, eras, and zones.

use super::fields::Width;
use crate::hose::name::zone::Zone;

/// Which name of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum NameKind {
    /// That of standard time, or of daylight saving time, whichever it is.
    Specific,
    /// That of both.
    Generic,
}

/// The column of the tables below.
fn column(width: Width) -> usize {
    match width {
        Width::Short => 0,
        Width::Full => 1,
        Width::Narrow => 2,
    }
}

const MONTHS: [[&str; 3]; 12] = [
    ["Jan", "January", "J"],
    ["Feb", "February", "F"],
    ["Mar", "March", "M"],
    ["Apr", "April", "A"],
    ["May", "May", "M"],
    ["Jun", "June", "J"],
    ["Jul", "July", "J"],
    ["Aug", "August", "A"],
    ["Sep", "September", "S"],
    ["Oct", "October", "O"],
    ["Nov", "November", "N"],
    ["Dec", "December", "D"],
];

const WEEKDAYS: [[&str; 3]; 7] = [
    ["Sun", "Sunday", "S"],
    ["Mon", "Monday", "M"],
    ["Tue", "Tuesday", "T"],
    ["Wed", "Wednesday", "W"],
    ["Thu", "Thursday", "T"],
    ["Fri", "Friday", "F"],
    ["Sat", "Saturday", "S"],
];

const QUARTERS: [[&str; 3]; 4] = [
    ["Q1", "1st quarter", "1"],
    ["Q2", "2nd quarter", "2"],
    ["Q3", "3rd quarter", "3"],
    ["Q4", "4th quarter", "4"],
];

const ERAS: [[&str; 3]; 2] = [["BC", "Before Christ", "B"], ["AD", "Anno Domini", "A"]];

/// `month` counts from 1.
pub(super) fn month(month: usize, width: Width) -> &'static str {
    MONTHS[month - 1][column(width)]
}

/// `weekday` counts from Sunday, 0.
pub(super) fn weekday(weekday: usize, width: Width) -> &'static str {
    WEEKDAYS[weekday][column(width)]
}

/// `quarter` counts from 1.
pub(super) fn quarter(quarter: i64, width: Width) -> &'static str {
    QUARTERS[quarter as usize - 1][column(width)]
}

pub(super) fn era(current: bool, width: Width) -> &'static str {
    ERAS[usize::from(current)][column(width)]
}

/// The period of the day in CLDR's English. The exact minutes of midnight and noon have names of their own.
pub(super) fn day_period(hour: i64, minute: i64, width: Width) -> &'static str {
    match (hour, minute) {
        (0, 0) if width == Width::Narrow => "mi",
        (0, 0) => "midnight",
        (12, 0) if width == Width::Narrow => "n",
        (12, 0) => "noon",
        (6..12, _) => "in the morning",
        (12..18, _) => "in the afternoon",
        (18..21, _) => "in the evening",
        _ => "at night",
    }
}

/// The names of zones in the English of Java 17, which has them from Unicode CLDR: short and full, each for standard
/// time, daylight saving time and both, then the zones that have these.
const ZONES: &str = include_str!("../zone_names.tsv");

/// The name of a zone. A zone that is not in the table, and a plain offset, has its id for a name.
pub(super) fn zone(zone: &Zone, daylight: bool, kind: NameKind, full: bool) -> &str {
    let id = zone.id();
    if zone.is_offset() {
        return id;
    }
    let column = usize::from(full) * 3
        + match kind {
            NameKind::Generic => 2,
            NameKind::Specific => usize::from(daylight),
        };
    ZONES
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .find(|(_, ids)| ids.split(' ').any(|known| known == id))
        .and_then(|(names, _)| names.split('|').nth(column))
        .filter(|name| !name.is_empty())
        .unwrap_or(id)
}
