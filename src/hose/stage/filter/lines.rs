//! Records as lines, and which line came from which.

use std::borrow::Cow;

use serde_json::Value;

/// Which records lines came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sources {
    /// The number of its record for each line, growing.
    Known(Vec<usize>),
    /// It cannot be told.
    Unknown,
}

/// Which records the lines that came out came from; `None` where more came out than went in.
pub(super) fn sources(went: &[Vec<u8>], came: &[&[u8]]) -> Option<Sources> {
    if came.len() > went.len() {
        return None;
    }
    if came.len() == went.len() {
        return Some(Sources::Known((0..went.len()).collect()));
    }
    let known = matched(went, came, |went, came| went == came).or_else(|| {
        // A line is compared with several; it is parsed once.
        let read = |line: &[u8]| serde_json::from_slice::<Value>(line).ok();
        let came: Option<Vec<Value>> = came.iter().map(|line| read(line)).collect();
        let went: Vec<Option<Value>> = went.iter().map(|line| read(line)).collect();
        matched(&went, &came?, |went, came| went.as_ref().is_some_and(|went| is_same(went, came)))
    });
    Some(known.map_or(Sources::Unknown, Sources::Known))
}

/// For each that came the next that went and is equal to it.
fn matched<W, C>(went: &[W], came: &[C], equal: impl Fn(&W, &C) -> bool) -> Option<Vec<usize>> {
    let mut next = 0;
    came.iter()
        .map(|line| {
            let at = next + went[next..].iter().position(|went| equal(went, line))?;
            next = at + 1;
            Some(at)
        })
        .collect()
}

/// Whether two values are the same to a program for which all numbers are doubles.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// A record as a line, without its newline; `None` where it is none.
pub(super) fn one_line(data: &[u8]) -> Option<Cow<'_, [u8]>> {
    let line = data.strip_suffix(b"\n").unwrap_or(data);
    if memchr::memchr(b'\n', line).is_none() {
        return Some(line.into());
    }
    let text = std::str::from_utf8(line).ok()?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let (mut out, mut in_string, mut escaped) = (Vec::with_capacity(line.len()), false, false);
    for &byte in line {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
    Some(out.into())
}

/// Whether the command is nothing but a program that exits 1 where no line matches.
pub(super) fn says_nothing_with_1(command: &str) -> bool {
    const PROGRAMS: [&str; 4] = ["grep", "egrep", "fgrep", "rg"];
    let Some(bare) = without_quoted(command) else { return false };
    if bare.contains(['|', '&', ';', '<', '>', '(', ')', '`', '\n', '{', '}', '#']) {
        return false;
    }
    let is_assignment = |word: &&str| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let program =
        bare.split_whitespace().find(|word| !is_assignment(word) && !["exec", "command"].contains(word));
    program.is_some_and(|program| PROGRAMS.contains(&program.rsplit('/').next().unwrap_or(program)))
}

/// A command with `x` for whatever stands in quotes or behind a backslash; `None` where a quote is not closed, or something
/// is run within.
fn without_quoted(command: &str) -> Option<String> {
    let mut bare = String::with_capacity(command.len());
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next()?;
                bare.push('x');
            }
            '\'' => {
                chars.by_ref().find(|&c| c == '\'')?;
                bare.push('x');
            }
            '"' => {
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => drop(chars.next()?),
                        '`' => return None,
                        '$' if chars.as_str().starts_with('(') => return None,
                        _ => {}
                    }
                }
                bare.push('x');
            }
            c => bare.push(c),
        }
    }
    Some(bare)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(went: &[&str], came: &[&str]) -> Option<Sources> {
        let went: Vec<Vec<u8>> = went.iter().map(|line| line.as_bytes().to_vec()).collect();
        let came: Vec<&[u8]> = came.iter().map(|line| line.as_bytes()).collect();
        sources(&went, &came)
    }

    #[test]
    fn lines_are_known_by_their_number_or_their_text() {
        let known = |places: &[usize]| Some(Sources::Known(places.to_vec()));
        assert_eq!(told(&["a", "b"], &["x", "y"]), known(&[0, 1]));
        assert_eq!(told(&["a", "b"], &[]), known(&[]));
        assert_eq!(told(&[], &[]), known(&[]));
        assert_eq!(told(&["a", "b", "a", "c"], &["a", "c"]), known(&[0, 3]));
        assert_eq!(told(&["a", "b", "a", "c"], &["b", "a"]), known(&[1, 2]));
        assert_eq!(told(&["a", "b", "c"], &["b", "a"]), Some(Sources::Unknown));
        assert_eq!(told(&["a", "b", "c"], &["A"]), Some(Sources::Unknown));
        assert_eq!(told(&["a"], &["a", "a"]), None);
        // As jq writes them.
        let went = [
            r#"{"b": 1.0, "a": [1e2, "\u00e9"]}"#,
            r#"{"b": 2}"#,
            "no json",
            r#"{"b": 12345678901234567890}"#,
        ];
        assert_eq!(
            told(&went, &[r#"{"b":1,"a":[100,"é"]}"#, r#"{"b":12345678901234567000}"#]),
            known(&[0, 3])
        );
        assert_eq!(told(&went, &[r#"{"b":1}"#]), Some(Sources::Unknown));
        assert_eq!(told(&went, &[r#"{"b":1,"a":[100]}"#]), Some(Sources::Unknown));
    }

    #[test]
    fn records_as_lines() {
        let line =
            |data: &str| one_line(data.as_bytes()).map(|line| String::from_utf8(line.into_owned()).unwrap());
        assert_eq!(line("a b").as_deref(), Some("a b"));
        assert_eq!(line("").as_deref(), Some(""));
        assert_eq!(line("a\r\n").as_deref(), Some("a\r"));
        assert_eq!(line("a\nb"), None);
        assert_eq!(line("\n\n"), None);
        assert_eq!(
            line("{\n  \"a b\": [1, \"x \\\" \\\\\", true],\r\n\t\"c\": null\n}\n").as_deref(),
            Some(r#"{"a b":[1,"x \" \\",true],"c":null}"#)
        );
        assert_eq!(one_line(b"[\n\"\xff\"]"), None);
    }

    #[test]
    fn commands_that_say_nothing_with_1() {
        for command in [
            "grep x",
            "grep -v 'a|b'",
            " LC_ALL=C /usr/bin/grep \"$PATTERN\" ",
            "exec rg -F \"a;b\"",
            "egrep a\\|b",
            "fgrep -e x",
        ] {
            assert!(says_nothing_with_1(command), "{command}");
        }
        for command in [
            "",
            "cat",
            "grep x | sort",
            "grep x; true",
            "python3 grep.py",
            "grep x && y",
            "grep 'x",
            "$(which grep) x",
            "grep \"$(cat patterns)\"",
            "grep x <file",
            "mygrep x",
            "jq .grep",
        ] {
            assert!(!says_nothing_with_1(command), "{command}");
        }
    }

    proptest! {
        #[test]
        fn what_is_let_through_is_known(lines in prop::collection::vec(("[ab]{0,2}", any::<bool>()), 0..20)) {
            let went: Vec<Vec<u8>> = lines.iter().map(|(line, _)| line.clone().into_bytes()).collect();
            let came: Vec<&[u8]> = lines.iter().filter(|(_, kept)| *kept).map(|(line, _)| line.as_bytes()).collect();
            let Some(Sources::Known(places)) = sources(&went, &came) else { panic!() };
            prop_assert!(places.is_sorted_by(|a, b| a < b));
            for (place, line) in places.iter().zip(&came) {
                prop_assert_eq!(&went[*place][..], *line);
            }
        }

        #[test]
        fn json_on_one_line_is_the_same_json(text in ".{0,6}", n: i32) {
            let value = serde_json::json!({ text.clone(): [n, text, { "x": null }] });
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            let line = one_line(&pretty).unwrap().into_owned();
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(line, value.to_string().into_bytes());
        }
    }
}
