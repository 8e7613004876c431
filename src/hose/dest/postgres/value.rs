//! A JSON value to the text that a column of a table takes.
//!
//! | JSON | column | becomes |
//! |---|---|---|
//! | `null` | any | NULL |
//! | string | `bytea` | the bytes, from base64 (`\x...` as it is) |
//! | string | `json`, `jsonb` | a JSON string |
//! | string | any other, arrays too | as it is |
//! | number | `date`, `timestamp`, `timestamptz` | a time, if it was said what the numbers are |
//! | number | `smallint`, `integer`, `bigint` | without `.0` and without exponent, if it is whole |
//! | number, `true`, `false` | any other | as it is |
//! | array | an array | an array, of as many dimensions |
//! | array, object | any other | its JSON |

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::value::RawValue;

use super::table::Kind;

/// What numbers mean in columns of times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Epoch {
    /// Nothing: they go to the server as they are, and it refuses them.
    #[default]
    AsGiven,
    /// Seconds since 1970, with a fraction perhaps.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
}

/// A value as the text that a column of this kind takes; `None` is NULL.
pub(super) fn convert<'a>(
    kind: &Kind,
    raw: &'a RawValue,
    epoch: Epoch,
) -> Result<Option<Cow<'a, str>>, String> {
    let text = raw.get();
    let first = text.as_bytes().first().copied().unwrap_or(b'n');
    if first == b'n' {
        return Ok(None);
    }
    if *kind == Kind::Json {
        return Ok(Some(Cow::Borrowed(text)));
    }
    Ok(Some(match first {
        b'"' => {
            let string = string(text)?;
            match kind {
                Kind::Bytes => Cow::Owned(bytes(&string)?),
                _ => string,
            }
        }
        b'[' => match kind {
            Kind::Array(element) => Cow::Owned(array(element, text, epoch)?),
            _ => Cow::Borrowed(text),
        },
        b'-' | b'0'..=b'9' => match kind {
            Kind::Integer => whole(text),
            Kind::Time => time(text, epoch)?,
            _ => Cow::Borrowed(text),
        },
        _ => Cow::Borrowed(text),
    }))
}

fn string(text: &str) -> Result<Cow<'_, str>, String> {
    match text.get(1..text.len() - 1) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str::<String>(text).map(Cow::Owned).map_err(|error| error.to_string()),
    }
}

/// What producers call base64: with padding and without.
const BASE64: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, BASE64);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, BASE64);

fn bytes(string: &str) -> Result<String, String> {
    // Base64 has no backslash.
    if string.starts_with("\\x") {
        return Ok(string.to_owned());
    }
    let decoded = STANDARD.decode(string).or_else(|_| URL_SAFE.decode(string));
    decoded.map(|bytes| hex(&bytes)).map_err(|error| format!("no base64: {error}"))
}

/// Bytes as `bytea` takes them.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Beyond this a double does not have every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// `1.0` and `1e3` as `1` and `1000`; anything else as it is, for the server to judge.
fn whole(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
        && let Ok(number) = text.parse::<f64>()
        && number.fract() == 0.0
        && number.abs() < EXACT
    {
        return Cow::Owned((number as i64).to_string());
    }
    Cow::Borrowed(text)
}

fn time(text: &str, epoch: Epoch) -> Result<Cow<'_, str>, String> {
    let (digits, per_unit) = match epoch {
        Epoch::AsGiven => return Ok(Cow::Borrowed(text)),
        Epoch::Seconds => (6, 1e6),
        Epoch::Millis => (3, 1e3),
        Epoch::Micros => (0, 1.0),
    };
    let wrong = || format!("{text} is no time");
    let micros = match text.parse::<i64>() {
        Ok(whole) => whole.checked_mul(10_i64.pow(digits)).ok_or_else(wrong)?,
        // Microseconds of this century are exact in a double.
        Err(_) => text.parse::<f64>().map(|units| (units * per_unit).round() as i64).map_err(|_| wrong())?,
    };
    jiff::Timestamp::from_microsecond(micros).map(|time| Cow::Owned(time.to_string())).map_err(|_| wrong())
}

/// `{1,2,NULL}`, `{{"a","b"}}`.
fn array(element: &Kind, text: &str, epoch: Epoch) -> Result<String, String> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut out = String::with_capacity(text.len() + 8);
    out.push('{');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        // An array of JSON has JSON arrays in it; any other has dimensions.
        if item.get().starts_with('[') && *element != Kind::Json {
            out.push_str(&array(element, item.get(), epoch)?);
            continue;
        }
        match convert(element, item, epoch)? {
            None => out.push_str("NULL"),
            Some(text) => {
                out.push('"');
                for c in text.chars() {
                    if matches!(c, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(c);
                }
                out.push('"');
            }
        }
    }
    out.push('}');
    Ok(out)
}
