//! Moments as text: RFC 3339 in UTC with all six digits of the microsecond, or seconds since the epoch as a decimal
//! number. Both are read back to the microsecond; nothing goes through a floating-point number.

use jiff::Timestamp;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;

/// The last microsecond of the year 9999, and the first of the year 0: what RFC 3339 can write.
const LAST: i64 = 253_402_300_799_999_999;
const FIRST: i64 = -62_167_219_200_000_000;

/// Appends `2026-11-23T13:48:35.000001Z`; answers whether it could: RFC 3339 ends with the year 9999.
pub(super) fn push_rfc3339(us: i64, out: &mut Vec<u8>) -> bool {
    if !(FIRST..=LAST).contains(&us) {
        return false;
    }
    let (seconds, micros) = (us.div_euclid(SECOND), us.rem_euclid(SECOND));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second / 3600);
    digits(&mut text[14..16], second / 60 % 60);
    digits(&mut text[17..19], second % 60);
    digits(&mut text[20..26], micros);
    out.extend_from_slice(&text);
    true
}

/// Appends `1795441715.000001`.
pub(super) fn push_epoch(us: i64, out: &mut Vec<u8>) {
    if us < 0 {
        out.push(b'-');
    }
    push_u64(us.unsigned_abs() / SECOND as u64, out);
    let mut fraction = *b".000000";
    digits(&mut fraction[1..], (us.unsigned_abs() % SECOND as u64) as i64);
    out.extend_from_slice(&fraction);
}

/// Appends a number in decimal.
pub(super) fn push_u64(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [b'0'; 20];
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// Reads RFC 3339, as microseconds since the epoch; digits beyond the microsecond are dropped.
pub(super) fn parse_rfc3339(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// Reads seconds since the epoch, as microseconds; digits beyond the microsecond are dropped. An exponent is no form
/// that anybody writes a time in.
pub(super) fn parse_epoch(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !numeric(seconds) || !numeric(fraction) {
        return None;
    }
    let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let micros = micros.fold(0, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    // Summed with its sign, so that the smallest number is read as well.
    let us = i128::from(seconds.parse::<i64>().ok()?) * i128::from(SECOND) + micros;
    i64::try_from(if negative { -us } else { us }).ok()
}

fn digits(slots: &mut [u8], mut value: i64) {
    for slot in slots.iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day counted from the epoch, by Hinnant's `civil_from_days`: years begin in March, so that
/// the day that comes and goes is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rfc3339(us: i64) -> Option<String> {
        let mut out = Vec::new();
        push_rfc3339(us, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    fn epoch(us: i64) -> String {
        let mut out = Vec::new();
        push_epoch(us, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(rfc3339(0).unwrap(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(-1).unwrap(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(LAST).unwrap(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(FIRST).unwrap(), "0000-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(LAST + 1), None);
        assert_eq!(epoch(1_500_000), "1.500000");
        assert_eq!(epoch(-1), "-0.000001");
        assert_eq!(parse_epoch("1441215410.867"), Some(1_441_215_410_867_000));
        assert_eq!(parse_rfc3339("2026-11-23T15:00:00.5+01:00"), Some(1_795_442_400_500_000));
        for bad in ["", "-", ".5", "1.", "1e9", "+1", "99999999999999999999"] {
            assert_eq!(parse_epoch(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn epoch_round_trip(us: i64) {
            prop_assert_eq!(parse_epoch(&epoch(us)), Some(us));
        }

        #[test]
        fn rfc3339_round_trip(us in FIRST..=LAST - 86_400_000_000) {
            let text = rfc3339(us).unwrap();
            prop_assert_eq!(parse_rfc3339(&text), Some(us));
        }
    }
}
