//! Which index a document goes to.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::SetupError;

/// The longest name of an index, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// How often a new index begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// Never: `logs`.
    None,
    /// `logs-2016-02-25-13`.
    Hour,
    /// `logs-2016-02-25`: the service's default.
    #[default]
    Day,
    /// `logs-2016-w09`.
    ///
    /// Weeks as the service defines them: a week begins on Sunday, and the first of a year is the first with a Saturday
    /// in that year. So a week belongs to the year of its Saturday. (The service's page has `w08` as the example for
    /// 2016-02-25, which by the definition on the same page is in week 9.)
    Week,
    /// `logs-2016-02`.
    Month,
}

impl Rotation {
    /// What can be given to `--index-rotation`.
    pub const NAMES: &[&str] = &["none", "hour", "day", "week", "month"];
}

impl std::str::FromStr for Rotation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "none" => Self::None,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            _ => {
                return Err(format!(
                    "`{name}` is not an index rotation: give one of {}",
                    Self::NAMES.join(", ")
                ));
            }
        })
    }
}

/// The index for what arrived at this time, in UTC.
pub(super) fn name(index: &str, rotation: Rotation, arrival_us: i64) -> String {
    let at = TimeZone::UTC.to_datetime(Timestamp::from_microsecond(arrival_us).unwrap_or_default());
    let (year, month, day) = (at.year(), at.month(), at.day());
    match rotation {
        Rotation::None => index.to_owned(),
        Rotation::Hour => format!("{index}-{year:04}-{month:02}-{day:02}-{:02}", at.hour()),
        Rotation::Day => format!("{index}-{year:04}-{month:02}-{day:02}"),
        Rotation::Week => {
            let (year, week) = week(at.date());
            format!("{index}-{year:04}-w{week:02}")
        }
        Rotation::Month => format!("{index}-{year:04}-{month:02}"),
    }
}

/// The year and the number of a day's week.
fn week(day: Date) -> (i16, i16) {
    let to_saturday = 6 - i64::from(day.weekday().to_sunday_zero_offset());
    // The last days that a date can have are their own Saturday: nobody's record arrives then.
    let saturday = day.checked_add(jiff::Span::new().days(to_saturday)).unwrap_or(day);
    (saturday.year(), (saturday.day_of_year() - 1) / 7 + 1)
}

/// Whether documents can be put under this name, as far as OpenSearch's rules tell.
pub(super) fn check(index: &str, rotation: Rotation) -> Result<(), SetupError> {
    let wrong = |what: &str| Err(SetupError(format!("index `{index}`: {what}")));
    if index.is_empty() {
        return wrong("no name; give it as the last part of the URL");
    }
    if name(index, rotation, 0).len() > NAME_BYTES_MAX {
        return wrong("the name is longer than 255 bytes");
    }
    if index.chars().any(char::is_uppercase) {
        return wrong("a name is in lower case");
    }
    // A dot is allowed in front: data streams have hidden indexes.
    if index.starts_with(['-', '_', '+']) || matches!(index, "." | "..") {
        return wrong("a name does not begin with `-`, `_` or `+`");
    }
    if index.contains(|c: char| c.is_whitespace() || c.is_control() || r#"\/*?"<>|,#:"#.contains(c)) {
        return wrong(r#"a name has none of \ / * ? " < > | , # : in it, and no blanks"#);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rotation: Rotation, time: &str) -> String {
        let at: Timestamp = time.parse().unwrap();
        name("myindex", rotation, at.as_microsecond())
    }

    #[test]
    fn names_are_the_service_s() {
        let at = "2016-02-25T13:00:00Z";
        assert_eq!(of(Rotation::None, at), "myindex");
        assert_eq!(of(Rotation::Hour, at), "myindex-2016-02-25-13");
        assert_eq!(of(Rotation::Day, at), "myindex-2016-02-25");
        assert_eq!(of(Rotation::Month, at), "myindex-2016-02");
        assert_eq!(of(Rotation::Day, "2016-02-25T23:59:59.999999Z"), "myindex-2016-02-25");
        for name in Rotation::NAMES {
            name.parse::<Rotation>().unwrap();
        }
        assert!("year".parse::<Rotation>().is_err());
    }

    #[test]
    fn weeks_begin_on_sunday_and_belong_to_the_year_of_their_saturday() {
        for (day, expected) in [
            ("2016-01-01", "2016-w01"), // a Friday; its Saturday is the 2nd
            ("2016-01-02", "2016-w01"),
            ("2016-01-03", "2016-w02"), // a Sunday
            ("2015-12-27", "2016-w01"),
            ("2015-12-26", "2015-w52"),
            ("2016-02-25", "2016-w09"),
            ("2022-01-01", "2022-w01"), // a Saturday itself
            ("2022-01-02", "2022-w02"),
            ("2022-12-31", "2022-w53"), // a Saturday again
            ("2023-01-01", "2023-w01"), // a Sunday
            ("2020-08-12", "2020-w33"),
        ] {
            assert_eq!(
                of(Rotation::Week, &format!("{day}T12:00:00Z")),
                format!("myindex-{expected}"),
                "{day}"
            );
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for good in ["logs", "logs-2", ".ds-x", "größe"] {
            check(good, Rotation::Day).unwrap();
        }
        let long = "x".repeat(250);
        check(&long, Rotation::None).unwrap();
        for bad in ["", "Logs", "_all", "a b", "a/b", "a*", "a:b", "..", &long] {
            assert!(check(bad, Rotation::Day).is_err(), "{bad}");
        }
    }
}
