//! Numbers as JSON writes them: what they are worth to a column of integers, of decimals, of floating point.
//!
//! Nothing goes through a double but what becomes one.

/// A number in its text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number<'a> {
    /// The text.
    pub(super) text: &'a str,
    negative: bool,
    /// Its digits without the point, where they are few enough.
    mantissa: u64,
    /// How often `mantissa` is to be divided by ten.
    scale: i32,
    /// Whether `mantissa` has all digits.
    exact: bool,
}

/// Why a number is not an integer of a width, or a decimal of a precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotInteger {
    /// It has a fraction.
    Fraction,
    /// It is too large.
    Range,
}

/// Digits that 64 bits hold whatever they are.
const MANTISSA_DIGITS: usize = 19;

/// Beyond this an exponent only says "very": no column holds such a number but as zero or as text.
const EXPONENT_MAX: i32 = 100_000;

/// The powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

impl<'a> Number<'a> {
    /// The number at the beginning of a text; of one that is none, where that shows.
    #[inline]
    pub(super) fn scan(text: &'a str) -> Result<Self, usize> {
        let bytes = text.as_bytes();
        let negative = bytes.first() == Some(&b'-');
        let mut at = usize::from(negative);
        let (first, mut mantissa) = (at, 0u64);
        while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        let mut digits = at - first;
        if digits == 0 || (digits > 1 && bytes[first] == b'0') {
            return Err(if digits == 0 { at } else { first });
        }
        let mut scale = 0;
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            let point = at;
            while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
                at += 1;
            }
            if at == point {
                return Err(at);
            }
            digits += at - point;
            scale = (at - point) as i32;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            at += 1;
            let down = bytes.get(at) == Some(&b'-');
            at += usize::from(down || bytes.get(at) == Some(&b'+'));
            let (begun, mut exponent) = (at, 0i32);
            while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
                exponent = (exponent * 10 + i32::from(digit)).min(EXPONENT_MAX);
                at += 1;
            }
            if at == begun {
                return Err(at);
            }
            scale = scale.saturating_add(if down { exponent } else { -exponent });
        }
        Ok(Self { text: &text[..at], negative, mantissa, scale, exact: digits <= MANTISSA_DIGITS })
    }

    /// The number that a whole text is.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        Self::scan(text).ok().filter(|number| number.text.len() == text.len())
    }

    /// Whether it is written as an integer.
    pub(super) fn is_plain_integer(self) -> bool {
        !self.text.contains(['.', 'e', 'E'])
    }

    /// As an integer. `1.0` and `1e3` are integers too.
    #[inline]
    pub(super) fn to_i64(self) -> Result<i64, NotInteger> {
        if self.exact && self.scale == 0 {
            return if self.negative {
                0i64.checked_sub_unsigned(self.mantissa).ok_or(NotInteger::Range)
            } else {
                i64::try_from(self.mantissa).map_err(|_| NotInteger::Range)
            };
        }
        i64::try_from(self.integer()?).map_err(|_| NotInteger::Range)
    }

    #[cold]
    fn integer(self) -> Result<i128, NotInteger> {
        let (value, exact) = self.to_decimal(0).ok_or(NotInteger::Range)?;
        if exact { Ok(value) } else { Err(NotInteger::Fraction) }
    }

    /// As a double, rounded to the nearest, if it is not beyond the largest.
    #[inline]
    pub(super) fn to_f64(self) -> Option<f64> {
        // Both are exact, so the one rounding is that of the result.
        if self.exact && self.mantissa < 1 << 53 && self.scale.unsigned_abs() < POWERS.len() as u32 {
            let power = POWERS[self.scale.unsigned_abs() as usize];
            let mantissa = self.mantissa as f64;
            let value = if self.scale < 0 { mantissa * power } else { mantissa / power };
            return Some(if self.negative { -value } else { value });
        }
        self.text.parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// As a float, rounded to the nearest, if it is not beyond the largest.
    pub(super) fn to_f32(self) -> Option<f32> {
        self.text.parse().ok().filter(|value: &f32| value.is_finite())
    }

    /// How many units of `10^-scale` it is, rounded half away from zero, and whether nothing had to be rounded. `None`
    /// where it has more digits than any decimal.
    pub(super) fn to_decimal(self, scale: u8) -> Option<(i128, bool)> {
        let (mut value, exact, up) = self.units(scale)?;
        value += i128::from(up);
        Some((if self.negative { -value } else { value }, exact))
    }

    /// The same, rounded down: a moment belongs to the microsecond that it is in.
    pub(super) fn to_decimal_floor(self, scale: u8) -> Option<i128> {
        let (value, exact, _) = self.units(scale)?;
        Some(if self.negative { -value - i128::from(!exact) } else { value })
    }

    /// The digits before the last that counts, whether others follow them, and whether those are a half or more.
    fn units(self, scale: u8) -> Option<(i128, bool, bool)> {
        // Digits behind the last that counts.
        let behind = i64::from(self.scale) - i64::from(scale);
        if self.exact {
            let mantissa = i128::from(self.mantissa);
            if mantissa == 0 {
                return Some((0, true, false));
            }
            if behind > MANTISSA_DIGITS as i64 {
                return Some((0, false, false));
            }
            if behind >= 0 {
                let power = 10i128.pow(behind as u32);
                let rest = mantissa % power;
                return Some((mantissa / power, rest == 0, rest * 2 >= power));
            }
            let power = u32::try_from(-behind).ok().filter(|&power| power <= 38)?;
            return mantissa.checked_mul(10i128.pow(power)).map(|value| (value, true, false));
        }
        let written = self.text.bytes().take_while(|b| !matches!(b, b'e' | b'E'));
        let digits: Vec<i128> =
            written.filter(u8::is_ascii_digit).map(|digit| i128::from(digit - b'0')).collect();
        let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
        let keep = digits.len() as i64 - behind;
        let (mut value, kept) = (0i128, keep.clamp(0, digits.len() as i64) as usize);
        for digit in &digits[zeros.min(kept)..kept] {
            value = value.checked_mul(10)?.checked_add(*digit)?;
        }
        if value != 0 {
            for _ in digits.len() as i64..keep {
                value = value.checked_mul(10)?;
            }
        } else if keep < 0 {
            return Some((0, digits.len() == zeros, false));
        }
        let rest = &digits[kept..];
        let half = rest.first().is_some_and(|&digit| digit >= 5);
        Some((value, rest.iter().all(|&digit| digit == 0), half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number<'_> {
        Number::parse(text).unwrap()
    }

    #[test]
    fn integers() {
        for (text, value) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(NotInteger::Range)),
            ("-9223372036854775809", Err(NotInteger::Range)),
            ("1.0", Ok(1)),
            ("1e3", Ok(1000)),
            ("12.5e1", Ok(125)),
            ("1.5", Err(NotInteger::Fraction)),
            ("1e-3", Err(NotInteger::Fraction)),
            ("1e400", Err(NotInteger::Range)),
            ("1e-400", Err(NotInteger::Fraction)),
            ("0e400", Ok(0)),
            ("0.00000000000000000000000000000", Ok(0)),
            ("1.00000000000000000000000000000", Ok(1)),
            ("0.00000000000000000000000000001e29", Ok(1)),
            ("100000000000000000000000e-22", Ok(10)),
            ("99999999999999999999999999999999999999999", Err(NotInteger::Range)),
        ] {
            assert_eq!(number(text).to_i64(), value, "{text}");
        }
    }

    #[test]
    fn decimals() {
        for (text, scale, value) in [
            ("1.23", 2, Some((123, true))),
            ("1.235", 2, Some((124, false))),
            ("-1.235", 2, Some((-124, false))),
            ("1.2349999999999999999999999", 2, Some((123, false))),
            ("0.1", 2, Some((10, true))),
            ("1e2", 2, Some((10_000, true))),
            ("12345678901234567890123456.78", 2, Some((1_234_567_890_123_456_789_012_345_678, true))),
            ("1e-50", 2, Some((0, false))),
            ("0.000000000000000000000000000000009", 2, Some((0, false))),
            ("1e50", 2, None),
            ("1e38", 2, None),
        ] {
            assert_eq!(number(text).to_decimal(scale), value, "{text}");
        }
        assert_eq!(number("-1.0000001").to_decimal_floor(6), Some(-1_000_001));
        assert_eq!(number("1.9999999").to_decimal_floor(6), Some(1_999_999));
    }

    proptest! {
        #[test]
        fn doubles_are_those_of_the_standard_library(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?") {
            let expected: f64 = text.parse().unwrap();
            let found = number(&text).to_f64();
            prop_assert_eq!(found.map(f64::to_bits), Some(expected).filter(|v| v.is_finite()).map(f64::to_bits));
        }

        #[test]
        fn any_double_comes_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(number(&text).to_f64().unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn any_integer_comes_back(value in any::<i64>(), zeros in 0usize..20) {
            let (value_text, zeros) = (value.to_string(), "0".repeat(zeros));
            prop_assert_eq!(number(&value_text).to_i64(), Ok(value));
            let text = format!("{value_text}.0{zeros}");
            prop_assert_eq!(number(&text).to_i64(), Ok(value));
        }

        #[test]
        fn decimals_of_any_length(whole in 0u64..u64::MAX, part in "[0-9]{1,14}") {
            let text = format!("{whole}.{part}");
            let expected: i128 = format!("{whole}{part}").parse().unwrap();
            prop_assert_eq!(number(&text).to_decimal(part.len() as u8), Some((expected, true)));
        }
    }
}
