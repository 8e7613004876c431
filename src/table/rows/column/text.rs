//! Values that are written as texts.

use base64::Engine;

use crate::table::number::Number;

pub(super) fn decimal(number: Number<'_>, precision: u8, scale: u8) -> Option<i128> {
    let (value, _) = number.to_decimal(scale)?;
    (value.unsigned_abs() < 10u128.pow(u32::from(precision))).then_some(value)
}

/// A number as people write it in text: with a plus, with zeros before it, without the zero before the point.
pub(super) fn plain_number(text: &str) -> Option<Number<'_>> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    Number::parse(text).or_else(|| {
        let rest = text.trim_start_matches('0');
        let digits = rest.as_bytes().first().is_some_and(u8::is_ascii_digit);
        if digits && rest.len() < text.len() { Number::parse(rest) } else { None }
    })
}

/// What a double can be besides a number, as other programs write it.
pub(super) fn not_finite(text: &str) -> Option<f64> {
    match text.trim().to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "inf" | "+inf" | "infinity" | "+infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Base64 in either alphabet, filled up or not.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
    use base64::{alphabet, engine::DecodePaddingMode};
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}
