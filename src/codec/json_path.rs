//! One field of a JSON text, found without reading the rest of it.
//!
//! Only what stands before the field and the field itself is looked at: a text that is broken behind it passes. Where
//! an object has a name twice, the first one counts.

use std::borrow::Cow;
use std::ops::Range;

use sonic_rs::PointerNode;

/// Deeper nesting is refused: the parser below goes into it by recursion, and a line of a million `[` must not take
/// the stack.
pub const DEPTH_MAX: usize = 512;

/// A path to a field: `user.id`, or as a JSON pointer `/user/id`. A segment of digits names a member or, where there
/// is an array, an element, counted from 0.
#[derive(Debug, Clone)]
pub struct JsonPath {
    text: String,
    members: Vec<PointerNode>,
    /// The same with the segments of digits as array elements, where there are any.
    elements: Option<Vec<PointerNode>>,
}

/// What a path led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Its text lies in the JSON text; of a string, what stands between the quotes.
    Plain(Range<usize>),
    /// A string with escapes: its text between the quotes, and what it stands for.
    Escaped(Range<usize>, Cow<'a, str>),
}

impl Field<'_> {
    /// Where its text lies, escapes uninterpreted.
    pub fn raw(&self) -> Range<usize> {
        match self {
            Self::Plain(range) | Self::Escaped(range, _) => range.clone(),
        }
    }
}

impl JsonPath {
    /// Reads a path as it is written; an error is the end of a usage error.
    pub fn new(text: &str) -> Result<Self, String> {
        let segments: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => {
                pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
            }
            None => text.split('.').map(str::to_owned).collect(),
        };
        if segments.iter().any(String::is_empty) && !text.starts_with('/') {
            return Err(format!("`{text}` is not a path to a field: give `user.id` or `/user/id`"));
        }
        let index =
            |segment: &String| segment.parse().ok().filter(|_| segment.bytes().all(|b| b.is_ascii_digit()));
        let member = |segment: &String| PointerNode::Key(segment.clone().into());
        let elements = segments.iter().any(|segment| index(segment).is_some()).then(|| {
            segments
                .iter()
                .map(|segment| index(segment).map_or_else(|| member(segment), PointerNode::Index))
                .collect()
        });
        Ok(Self { text: text.to_owned(), members: segments.iter().map(member).collect(), elements })
    }

    /// The path that leads through members of these names.
    pub fn of_members(names: &[&str]) -> Self {
        let members = names.iter().map(|name| PointerNode::Key((*name).to_owned().into())).collect();
        Self { text: names.join("."), members, elements: None }
    }

    /// The field of `json`: a string, a number or a boolean.
    pub fn find<'a>(&self, json: &'a [u8]) -> Result<Field<'a>, String> {
        if json.len() > DEPTH_MAX && too_deep(json) {
            return Err(format!("its JSON is nested more than {DEPTH_MAX} levels deep"));
        }
        let mut found = sonic_rs::get(json, &self.members);
        if let (Err(_), Some(elements)) = (&found, &self.elements) {
            found = sonic_rs::get(json, elements);
        }
        let value = found.map_err(|error| {
            if error.is_not_found() || error.is_unmatched_type() {
                format!("the field `{}` is missing", self.text)
            } else {
                format!("it is not valid JSON (byte {})", error.offset())
            }
        })?;
        let raw = value.as_raw_str();
        // The text is a slice of `json`: where it begins is how far apart the two begin.
        let start = raw.as_ptr() as usize - json.as_ptr() as usize;
        match raw.as_bytes() {
            [b'"', inner @ .., b'"'] => {
                let range = start + 1..start + 1 + inner.len();
                if !inner.contains(&b'\\') {
                    return Ok(Field::Plain(range));
                }
                let text: String = serde_json::from_str(raw)
                    .map_err(|_| format!("the field `{}` is not a valid JSON string", self.text))?;
                Ok(Field::Escaped(range, text.into()))
            }
            [b'{', ..] => Err(format!("the field `{}` is an object", self.text)),
            [b'[', ..] => Err(format!("the field `{}` is an array", self.text)),
            [b'n', ..] => Err(format!("the field `{}` is null", self.text)),
            _ => Ok(Field::Plain(start..start + raw.len())),
        }
    }
}

/// Whether brackets are nested deeper than [`DEPTH_MAX`]. Few texts have as many brackets at all, and those that do not
/// are told by a search alone.
pub fn too_deep(json: &[u8]) -> bool {
    if memchr::memchr2_iter(b'[', b'{', json).nth(DEPTH_MAX).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in json {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(path: &str, json: &str) -> Result<String, String> {
        JsonPath::new(path).unwrap().find(json.as_bytes()).map(|field| match field {
            Field::Plain(range) => json[range].to_owned(),
            Field::Escaped(_, text) => text.into_owned(),
        })
    }

    #[test]
    fn scalars_of_every_kind() {
        let json = r#" {"s":"a b","n":-1.50,"b":true,"e":"a\"\u00e9","o":{"p":{"q":"deep"}},"a":[1,{"x":"y"}],"z":null,"":"no name","a/b":"slash","7":"seven"}"#;
        for (path, value) in [
            ("s", "a b"),
            ("n", "-1.50"),
            ("b", "true"),
            ("e", "a\"é"),
            ("o.p.q", "deep"),
            ("/o/p/q", "deep"),
            ("a.0", "1"),
            ("/a/1/x", "y"),
            ("/", "no name"),
            ("/a~1b", "slash"),
            ("7", "seven"),
        ] {
            assert_eq!(find(path, json).as_deref(), Ok(value), "{path}");
        }
        for (path, reason) in [
            ("o", "an object"),
            ("a", "an array"),
            ("z", "null"),
            ("nope", "missing"),
            ("s.x", "missing"),
            ("a.9", "missing"),
        ] {
            assert!(find(path, json).unwrap_err().contains(reason), "{path}: {:?}", find(path, json));
        }
    }

    #[test]
    fn broken_json_before_the_field_is_refused() {
        for json in ["", "{", r#"{"a":}"#, r#"{"x":1 "a":2}"#, r#"{"a":"b"#, "\u{feff}{\"a\":1}"] {
            assert!(find("a", json).is_err(), "{json}");
        }
        assert!(JsonPath::new("a").unwrap().find(b"{\"a\":\"\xff\"}").is_err());
        assert!(find("a", r#"{"x":1 "a":2}"#).unwrap_err().contains("not valid JSON"));
    }

    #[test]
    fn paths_that_name_nothing() {
        assert!(JsonPath::new("").is_err());
        assert!(JsonPath::new("a..b").is_err());
    }

    #[test]
    fn nesting_cannot_take_the_stack() {
        for open in ["[", "{\"a\":", "[{\"a\":"] {
            let json = format!("{{\"x\":{}", open.repeat(300_000));
            assert!(find("a", &json).unwrap_err().contains("deep"));
        }
        // Wide is not deep, and brackets in strings are no brackets.
        let wide = format!("{{\"x\":[{}0],\"s\":\"{}\",\"a\":1}}", "[],".repeat(1000), "[\\\"".repeat(1000));
        assert_eq!(find("a", &wide).as_deref(), Ok("1"));
    }

    proptest! {
        #[test]
        fn agrees_with_a_whole_parse(key in ".*", before in ".*", value in ".*") {
            let json = serde_json::json!({ "before": { "x": before }, "user": { "id": key, "more": value } }).to_string();
            prop_assert_eq!(find("user.id", &json), Ok(key));
        }

        #[test]
        fn never_panics(json in prop::collection::vec(prop::sample::select(&b"{}[]\":,\\ua1e-. nult\xff"[..]), 0..60)) {
            let _ = JsonPath::new("a.1").unwrap().find(&json);
        }
    }
}
