use super::*;
use proptest::prelude::*;

fn to_serde(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Number(number) => serde_json::from_str(number.text).unwrap(),
        Value::String(text) => text.as_ref().into(),
        Value::Array(items) => items.iter().map(to_serde).collect(),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| (key.clone().into_owned(), to_serde(value)));
            serde_json::Value::Object(members.collect())
        }
    }
}

/// Holds the scanner to what `serde_json` says of a text, in all its ways to go over it.
fn agree(text: &str) {
    let ours = Value::parse(text);
    let theirs = serde_json::from_str::<serde_json::Value>(text);
    let mut scanner = Scanner::new(text);
    let skipped = scanner.skip().and_then(|()| scanner.end());
    assert_eq!(skipped, ours.as_ref().map(drop).map_err(|fault| *fault), "{text:?}");
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(to_serde(&ours), theirs, "{text:?}"),
        (Err(_), Err(_)) => {}
        // A number that no double holds is JSON all the same.
        (Ok(_), Err(error)) => assert!(error.to_string().contains("out of range"), "{text:?}: {error}"),
        (ours, theirs) => panic!("{text:?}: {ours:?}, but {theirs:?}"),
    }
}

#[test]
fn what_is_json_and_what_is_not() {
    for text in [
        "",
        " ",
        "{}",
        "[]",
        "{",
        "[",
        "}",
        "nul",
        "null",
        "nulll",
        "true",
        "tru",
        "1",
        "-1",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1e5",
        "-0",
        "-0.0e-0",
        "1 2",
        "{}{}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{,}",
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"a":}"#,
        "{a:1}",
        "'a'",
        r#""a"#,
        r#""\"#,
        r#""\x""#,
        r#""\u12""#,
        r#""\u00e9""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ud83dx""#,
        r#""\ud83d\u0041""#,
        "\"\n\"",
        "\"a\u{7f}\"",
        "NaN",
        "Infinity",
        "-Infinity",
        "// x\n1",
        "[[[]]]",
        "1e400",
        "123456789012345678901234567890",
        "\u{a0}1",
        r#"{"a":1,"a":2}"#,
        "\"\u{1}\"",
        "\"0123456789012345678901234\u{1}\"",
        "\"0123456789012345678901234567890123456789\\n0123456789\"",
    ] {
        agree(text);
    }
}

#[test]
fn nesting_ends_somewhere() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(Value::parse(&nested(LEVELS_MAX)).is_ok());
    let fault = Value::parse(&nested(LEVELS_MAX + 1)).unwrap_err();
    assert_eq!(fault.at, LEVELS_MAX);
    assert!(Scanner::new(&"[".repeat(1_000_000)).skip().is_err());
    assert!(Scanner::new(&"{\"a\":".repeat(1_000_000)).skip().is_err());
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    assert_eq!(Value::parse("\u{feff}{}"), Ok(Value::Object(Vec::new())));
    assert!(Value::parse("\u{feff}\u{feff}{}").is_err());
}

#[test]
fn what_says_nothing() {
    for (text, says) in [
        ("null", false),
        ("[]", false),
        ("[{\"a\":[null,{}]}]", false),
        ("{\"a\":[0]}", true),
        ("\"\"", true),
    ] {
        assert_eq!(Scanner::new(text).says_something(), Ok(says), "{text}");
    }
}

proptest! {
    #[test]
    fn agrees_with_serde_json_on_anything(text in r#"[\[\]{}:,"\\ \n0-9eE.+\-truefalsnu\u{e9}x]{0,24}"#) {
        agree(&text);
    }

    #[test]
    fn agrees_with_serde_json_on_strings(text in any::<String>()) {
        agree(&serde_json::to_string(&text).unwrap());
        agree(&format!("\"{text}\""));
    }
}
