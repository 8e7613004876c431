//! Values of the data as parts of names: percent-encoded as Hive and Spark do it, so that they find them again.

use std::borrow::Cow;

/// What stands for a value that is missing or empty.
pub const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Whether a byte of ASCII is encoded: Hive's list, and all that steers a terminal.
const fn is_special(byte: u8) -> bool {
    matches!(
        byte,
        b'"' | b'#' | b'%' | b'\'' | b'*' | b'/' | b':' | b'=' | b'?' | b'\\' | b'{' | b'[' | b']' | b'^' | 0
            ..=0x1f | 0x7f
    )
}

const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        special[byte] = is_special(byte as u8);
        byte += 1;
    }
    special
};

/// Appends a value so that it cannot be anything but a value: never empty, with no `/`, and no `.` or `..`.
///
/// At the beginning of a part, `_` and `.` are encoded too: Hive and Spark overlook such folders, and khose's own files
/// lie in one.
pub fn push_value(value: &str, out: &mut String) {
    if value.is_empty() {
        out.push_str(DEFAULT_PARTITION);
        return;
    }
    if value == DEFAULT_PARTITION {
        // It is this text, and not a missing value.
        out.push_str("%5F");
        out.push_str(&value[1..]);
        return;
    }
    // Dots alone are encoded wherever they are: two values may stand side by side.
    if value.bytes().all(|byte| byte == b'.') {
        out.extend(std::iter::repeat_n("%2E", value.len()));
        return;
    }
    let mut clean = 0;
    if value.starts_with(['_', '.']) && (out.is_empty() || out.ends_with('/')) {
        push_encoded(value.as_bytes()[0], out);
        clean = 1;
    }
    for (at, &byte) in value.as_bytes().iter().enumerate().skip(clean) {
        // The control characters U+0080 to U+009F are C2 and a byte from 80 to 9F.
        let control = byte == 0xc2 && value.as_bytes().get(at + 1).is_some_and(|&next| next < 0xa0);
        if control {
            out.push_str(&value[clean..at]);
            push_encoded(byte, out);
            push_encoded(value.as_bytes()[at + 1], out);
            clean = at + 2;
        } else if SPECIAL[byte as usize] {
            out.push_str(&value[clean..at]);
            push_encoded(byte, out);
            clean = at + 1;
        }
    }
    out.push_str(&value[clean..]);
}

fn push_encoded(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// The value of a part of a name; `None` for the missing value. What is no escape is left as it is.
pub fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if text == DEFAULT_PARTITION {
        return None;
    }
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (first, digit(0), digit(1)) {
            bytes.push((high * 16 + low) as u8);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Some(String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(value: &str) -> String {
        let mut out = String::new();
        push_value(value, &mut out);
        out
    }

    #[test]
    fn values_are_encoded_as_hive_does() {
        for (value, text) in [
            ("Zürich 8", "Zürich 8"),
            ("", DEFAULT_PARTITION),
            (DEFAULT_PARTITION, "%5F_HIVE_DEFAULT_PARTITION__"),
            ("a/b", "a%2Fb"),
            ("../../etc", "%2E.%2F..%2Fetc"),
            (".", "%2E"),
            ("..", "%2E%2E"),
            (".a", "%2Ea"),
            ("_khose", "%5Fkhose"),
            ("__a_", "%5F_a_"),
            ("a._", "a._"),
            ("2024-01-01 00:00:00", "2024-01-01 00%3A00%3A00"),
            ("100%", "100%25"),
            ("a=b", "a%3Db"),
            ("\"#%'*/:=?\\\u{7f}{[]^", "%22%23%25%27%2A%2F%3A%3D%3F%5C%7F%7B%5B%5D%5E"),
            ("a\0\n\u{85}\u{a0}é", "a%00%0A%C2%85\u{a0}é"),
            ("}~!@$&()+,-;<>_`|", "}~!@$&()+,-;<>_`|"),
        ] {
            assert_eq!(escaped(value), text);
            assert_eq!(unescape(text).unwrap_or_default(), value);
        }
        let mut out = "a=".to_owned();
        push_value("_b", &mut out);
        assert_eq!(out, "a=_b");
        assert_eq!(unescape("50%"), Some("50%".into()));
        assert_eq!(unescape("%zz%4"), Some("%zz%4".into()));
        assert_eq!(unescape("%FF"), Some("%FF".into()));
    }

    proptest! {
        #[test]
        fn a_value_comes_back_and_is_one_part(value in any::<String>()) {
            let text = escaped(&value);
            prop_assert!(!text.is_empty() && !text.contains('/') && !text.chars().any(char::is_control));
            prop_assert!(!text.bytes().all(|byte| byte == b'.'));
            prop_assert_eq!(unescape(&text).unwrap_or_default(), value);
        }
    }
}
