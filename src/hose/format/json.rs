//! Payloads that must be JSON, as lines.

use serde::de::IgnoredAny;

/// Deeper values are refused: the parser goes down one frame of the stack for each level, and threads have two
/// megabytes of it.
pub(super) const DEPTH_MAX: usize = 256;

/// Appends a payload as lines, one for each value in it; its own bytes where it is one value on one line.
///
/// # Errors
/// What is wrong with it; nothing was appended then.
pub(super) fn push_lines(payload: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    check_depth(payload)?;
    if has_whole_escapes(payload) && sonic_rs::from_slice::<IgnoredAny>(payload).is_ok() {
        push_line(payload.trim_ascii(), out);
        return Ok(());
    }
    let start = out.len();
    push_values(payload, out).inspect_err(|_| out.truncate(start))
}

/// The slow way: several values, or none, or something wrong. What has no end of its own, as a number, needs white space
/// behind it.
fn push_values(payload: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let text = std::str::from_utf8(payload).map_err(|e| format!("no UTF-8 at byte {}", e.valid_up_to()))?;
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut start = 0;
    while let Some(value) = values.next() {
        value.map_err(|e| format!("no JSON: {e}"))?;
        let end = values.byte_offset();
        push_line(text[start..end].trim_ascii().as_bytes(), out);
        start = end;
    }
    if start == 0 { Err("it is empty, not a JSON value".to_owned()) } else { Ok(()) }
}

/// Appends one valid value and a newline.
fn push_line(value: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr2(b'\n', b'\r', value).is_none() {
        out.extend_from_slice(value);
    } else {
        // It was laid out for people: the line breaks go, and with them what indents the lines.
        let mut in_string = false;
        let mut bytes = value.iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' if !in_string => continue,
                b'"' => in_string = !in_string,
                b'\\' => {
                    out.push(byte);
                    out.extend(bytes.next());
                    continue;
                }
                _ => {}
            }
            out.push(byte);
        }
    }
    out.push(b'\n');
}

/// Refuses what is nested too deep for the parser's stack.
pub(super) fn check_depth(payload: &[u8]) -> Result<(), String> {
    // As many as there are opening brackets, strings included, is a bound that costs next to nothing.
    if payload.len() <= DEPTH_MAX || openings(payload) <= DEPTH_MAX {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(format!("nested more than {DEPTH_MAX} deep"));
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn openings(payload: &[u8]) -> usize {
    // Sums that fit in a byte are added many at a time. The two brackets differ in one bit.
    let count = |part: &[u8]| part.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    payload.chunks(255).map(|part| usize::from(count(part))).sum()
}

/// The fast parser steps over `\u` and four bytes without looking at them.
fn has_whole_escapes(payload: &[u8]) -> bool {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &payload[at..]) {
        at += found;
        let is_whole = payload.get(at + 1) != Some(&b'u')
            || payload.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        if !is_whole {
            return false;
        }
        at = (at + 2).min(payload.len());
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(payload: &[u8]) -> Result<String, String> {
        let mut out = b"before\n".to_vec();
        let result = push_lines(payload, &mut out);
        let out = String::from_utf8(out).unwrap();
        let rest = out.strip_prefix("before\n").unwrap().to_owned();
        if result.is_err() {
            assert_eq!(rest, "");
        }
        result.map(|()| rest)
    }

    #[test]
    fn one_value_is_one_line_as_it_stands() {
        for value in ["{\"a\": [1, 2.50e3]}", "\"x\"", "12", "null", "[]", "{\"b\":\"\\u00e9 \\\" \\\\\"}"] {
            assert_eq!(lines(value.as_bytes()).unwrap(), format!("{value}\n"));
            assert_eq!(lines(format!(" \t{value}\r\n").as_bytes()).unwrap(), format!("{value}\n"));
        }
    }

    #[test]
    fn several_values_are_several_lines() {
        assert_eq!(
            lines(b"{\"a\":1}{\"a\":2}\n[3] 4 \"x\" null\n").unwrap(),
            "{\"a\":1}\n{\"a\":2}\n[3]\n4\n\"x\"\nnull\n"
        );
        for wrong in ["1true", "{\"a\":1},{\"a\":2}", "{\"a\":1} {", "truefalse", "1 2 x"] {
            lines(wrong.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn pretty_printed_values_come_on_one_line() {
        let pretty = b"{\n  \"a b\": [\n    1,\r\n    \"x \\\" \\n  y\"\n  ]\n}\n";
        assert_eq!(lines(pretty).unwrap(), "{\"a b\":[1,\"x \\\" \\n  y\"]}\n");
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        assert_eq!(lines(b"").unwrap_err(), "it is empty, not a JSON value");
        assert_eq!(lines(b" \n").unwrap_err(), "it is empty, not a JSON value");
        assert_eq!(lines(b"{\"a\":\"\xff\"}").unwrap_err(), "no UTF-8 at byte 6");
        assert_eq!(lines(b"{\"a\":\"\\uZZZZ\"}").unwrap_err(), "no JSON: invalid escape at line 1 column 12");
        for wrong in [
            "{",
            "{\"a\"}",
            "{\"a\":\"\n\"}",
            "[1,]",
            "01",
            "+1",
            ".5",
            "nul",
            "\"",
            "{\"a\":\"\\",
            "'a'",
            "NaN",
            "\"\\u12\"",
        ] {
            let reason = lines(wrong.as_bytes()).unwrap_err();
            assert!(reason.starts_with("no JSON: ") && !reason.contains('\n'), "{wrong}: {reason}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_brackets_in_strings_are_not() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(lines(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert!(lines(deep(DEPTH_MAX + 1).as_bytes()).unwrap_err().contains("deep"));
        assert!(lines("[{\"a\":".repeat(1 << 20).as_bytes()).is_err());
        assert!(lines(format!("\"{}\\\"\"", "[{".repeat(2000)).as_bytes()).is_ok());
    }

    proptest! {
        /// The strict parser of another crate agrees on what is JSON, and on what it means.
        #[test]
        fn serde_json_agrees(text in "[\\[\\]{}\",:0-9a-eu \\\\n.+-]{0,24}") {
            let theirs: Result<Vec<serde_json::Value>, _> =
                serde_json::Deserializer::from_str(&text).into_iter().collect();
            let ours = lines(text.as_bytes());
            match theirs {
                Ok(values) if !values.is_empty() => {
                    let ours: Vec<serde_json::Value> =
                        ours.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                    prop_assert_eq!(ours, values);
                }
                _ => {
                    // Numbers that no f64 can hold are JSON all the same, and so are halves of surrogate pairs.
                    let harmless = ours.is_err() || text.contains(['e', 'u']);
                    prop_assert!(harmless || text.trim().is_empty(), "{:?}", ours);
                }
            }
        }

        #[test]
        fn any_value_comes_back(keys in prop::collection::vec(".*", 0..4), numbers in prop::collection::vec(any::<i64>(), 0..4), pretty: bool) {
            let value = serde_json::json!({ "keys": keys, "numbers": numbers, "both": [keys.len(), null_or(&keys)] });
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let line = lines(text.as_bytes()).unwrap();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
        }
    }

    fn null_or(keys: &[String]) -> Option<&String> {
        keys.first()
    }
}
