//! The time zone that prefixes and names are written in.
//!
//! Zones of the IANA database are read from the system (`/usr/share/zoneinfo`, or where `TZDIR` says); UTC and plain
//! offsets need no database. Where there is none, a zone by name is refused at the start, never taken for another.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use super::java_time::Moment;

/// A time zone.
#[derive(Debug, Clone)]
pub struct Zone {
    id: String,
    rules: TimeZone,
    is_offset: bool,
}

/// Microseconds since the epoch, the first within and the last without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first within.
    pub since_us: i64,
    /// The first behind it.
    pub until_us: i64,
}

impl Span {
    /// All of time.
    pub const ALL: Self = Self { since_us: i64::MIN, until_us: i64::MAX };

    /// Whether a moment lies within.
    pub fn contains(&self, us: i64) -> bool {
        self.since_us <= us && us < self.until_us
    }
}

impl Zone {
    /// UTC, the service's default.
    pub fn utc() -> Self {
        Self { id: "UTC".to_owned(), rules: TimeZone::UTC, is_offset: false }
    }

    /// The id, as `Europe/Berlin` or `+02:00`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it is a plain offset and no zone.
    pub fn is_offset(&self) -> bool {
        self.is_offset
    }

    /// A moment on the clock of this zone; `None` outside the years -9999 to 9999.
    pub fn moment(&self, us: i64) -> Option<Moment<'_>> {
        let timestamp = Timestamp::from_microsecond(us).ok()?;
        let info = self.rules.to_offset_info(timestamp);
        let (offset, flag) = (info.offset(), info.dst().is_dst());
        let local = offset.to_datetime(timestamp);
        let seconds = us.div_euclid(1_000_000);
        Some(Moment {
            zone: self,
            offset_s: offset.seconds(),
            daylight: self.is_daylight(seconds, flag),
            epoch_day: (seconds + i64::from(offset.seconds())).div_euclid(86_400),
            year: i64::from(local.year()),
            month: local.month() as usize,
            day: i64::from(local.day()),
            day_of_year: i64::from(local.day_of_year()),
            weekday: local.weekday().to_sunday_zero_offset() as usize,
            hour: i64::from(local.hour()),
            minute: i64::from(local.minute()),
            second: i64::from(local.second()),
            nano: local.subsec_nanosecond(),
        })
    }

    /// How long a text that changes every `step_us` of the local clock, counted from midnight, stays as it is at `us`.
    pub fn span(&self, us: i64, step_us: Option<i64>) -> Span {
        let (Some(step_us), Ok(timestamp)) = (step_us, Timestamp::from_microsecond(us)) else {
            return Span::ALL;
        };
        let offset_us = i64::from(self.rules.to_offset(timestamp).seconds()) * 1_000_000;
        let since_us = (us + offset_us).div_euclid(step_us) * step_us - offset_us;
        let mut span = Span { since_us, until_us: since_us + step_us };
        // The text of a step holds only as long as the clock is not put back or forward.
        let before = Timestamp::from_microsecond(us + 1).unwrap_or(timestamp);
        if let Some(change) = self.rules.preceding(before).next() {
            span.since_us = span.since_us.max(change.timestamp().as_microsecond());
        }
        if let Some(change) = self.rules.following(timestamp).next() {
            span.until_us = span.until_us.min(change.timestamp().as_microsecond());
        }
        span
    }

    /// When the clock of this zone is next put forward or back.
    #[cfg(test)]
    pub(super) fn next_change_us(&self, us: i64) -> Option<i64> {
        let timestamp = Timestamp::from_microsecond(us).ok()?;
        self.rules.following(timestamp).next().map(|change| change.timestamp().as_microsecond())
    }

    /// Whether Java takes it for daylight saving time.
    ///
    /// In a few zones the law has standard time in summer and a time of its own in winter. The database says it so;
    /// Java's edition of it says that summer is daylight saving time, as everywhere.
    fn is_daylight(&self, seconds: i64, flag: bool) -> bool {
        // From 1968-10-26T23:00Z, 1990-03-20T22:00Z and 2018-10-28T02:00Z on.
        let negative_since = match self.id.as_str() {
            "Europe/Dublin" | "Eire" => -37_242_000,
            "Africa/Windhoek" => 637_970_400,
            "Africa/Casablanca" | "Africa/El_Aaiun" => 1_540_692_000,
            _ => return flag,
        };
        flag != (seconds >= negative_since)
    }
}

impl std::str::FromStr for Zone {
    type Err = String;

    /// `UTC`, a zone of the IANA database, `Z`, or an offset as `+02:00`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "UTC" {
            return Ok(Self::utc());
        }
        if text == "Z" || text.starts_with(['+', '-']) {
            let seconds = offset(text).ok_or_else(|| {
                format!("`{text}` is not an offset: give hours and minutes, as +02:00, up to 18")
            })?;
            let rules = match Offset::from_seconds(seconds) {
                Ok(offset) => TimeZone::fixed(offset),
                Err(_) => return Err(format!("`{text}` is not an offset: 18 hours are the most")),
            };
            return Ok(Self { id: offset_id(seconds), rules, is_offset: true });
        }
        Self::of_database(text, jiff::tz::db())
    }
}

impl Zone {
    /// The zone of this name.
    fn of_database(text: &str, database: &TimeZoneDatabase) -> Result<Self, String> {
        match database.get(text) {
            // `Etc/Unknown` is a zone of the library alone.
            Ok(rules) if !rules.is_unknown() => {
                let id = rules.iana_name().unwrap_or(text).to_owned();
                Ok(Self { id, rules, is_offset: false })
            }
            _ if database.is_definitively_empty() || database.available().next().is_none() => Err(format!(
                "no time zone `{text}`: this system has no time zone database (/usr/share/zoneinfo, the package \
                 tzdata); UTC and offsets as +02:00 work without"
            )),
            _ => {
                let same_city = |name: &String| {
                    name.rsplit('/')
                        .next()
                        .is_some_and(|city| city.eq_ignore_ascii_case(&text.replace(' ', "_")))
                };
                let meant = database.available().map(|name| name.to_string()).find(same_city);
                let hint = meant.map_or_else(
                    || "give UTC, an offset as +02:00, or a name as Europe/Berlin".to_owned(),
                    |name| format!("did you mean `{name}`?"),
                );
                Err(format!("no time zone `{text}`: {hint}"))
            }
        }
    }
}

/// The seconds of `+h`, `+hh`, `+hh:mm`, `+hhmm`, `+hh:mm:ss` or `+hhmmss`.
fn offset(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let digits = text.get(1..)?;
    let parts: Vec<&str> = if digits.contains(':') {
        digits.split(':').collect()
    } else {
        let cut = |range: std::ops::Range<usize>| digits.get(range);
        match digits.len() {
            1 | 2 => vec![digits],
            4 => vec![cut(0..2)?, cut(2..4)?],
            6 => vec![cut(0..2)?, cut(2..4)?, cut(4..6)?],
            _ => return None,
        }
    };
    let colons = parts.len() > 1;
    if parts.len() > 3 || (colons && parts.iter().any(|part| part.len() != 2)) {
        return None;
    }
    let mut seconds = 0;
    for (part, (unit, most)) in parts.iter().zip([(3600, 18), (60, 59), (1, 59)]) {
        let value: i32 = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
        if value > most {
            return None;
        }
        seconds += value * unit;
    }
    (seconds <= 18 * 3600).then_some(if text.starts_with('-') { -seconds } else { seconds })
}

/// Java's name of an offset.
fn offset_id(seconds: i32) -> String {
    if seconds == 0 {
        return "Z".to_owned();
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let all = seconds.unsigned_abs();
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    if seconds == 0 {
        format!("{sign}{hours:02}:{minutes:02}")
    } else {
        format!("{sign}{hours:02}:{minutes:02}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_java_reads_them() {
        for (text, id) in [
            ("Z", "Z"),
            ("+0", "Z"),
            ("+2", "+02:00"),
            ("-02", "-02:00"),
            ("+0530", "+05:30"),
            ("-05:30", "-05:30"),
            ("+01:02:03", "+01:02:03"),
            ("-010203", "-01:02:03"),
            ("+18:00", "+18:00"),
        ] {
            let zone: Zone = text.parse().expect(text);
            assert_eq!(zone.id(), id);
            assert!(zone.is_offset());
        }
        for text in [
            "+",
            "-",
            "+1:00",
            "+19",
            "+18:01",
            "+05:60",
            "+5:3",
            "+053",
            "+05300",
            "+a",
            "+é",
            "+00:00:00:00",
        ] {
            assert!(text.parse::<Zone>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_zone_that_is_not_there_is_said_to_be_so() {
        for text in ["", "berlin", "Etc/Unknown", "Europe/../Berlin", "../../etc/passwd"] {
            let error = text.parse::<Zone>().expect_err(text);
            assert!(error.starts_with(&format!("no time zone `{text}`: ")), "{error}");
        }
        if "Europe/Berlin".parse::<Zone>().is_ok() {
            let error = "berlin".parse::<Zone>().expect_err("no zone");
            assert_eq!(error, "no time zone `berlin`: did you mean `Europe/Berlin`?");
        }
        let error = Zone::of_database("Europe/Berlin", &TimeZoneDatabase::none()).expect_err("no database");
        assert!(error.contains("this system has no time zone database"), "{error}");
        assert_eq!("UTC".parse::<Zone>().map(|zone| zone.id().to_owned()), Ok("UTC".to_owned()));
    }
}
