//! JSON, read value by value where it lies, so that each goes straight into its column.
//!
//! It takes what RFC 8259 calls JSON and nothing else: no comments, no trailing commas, no NaN, no raw control characters
//! in strings, no half of a surrogate pair. The text of a number is kept: what it is worth is for its column to say.

use std::borrow::Cow;

use super::number::Number;

/// How deep values may be nested: what `serde_json` takes too, and twice as deep as types are.
pub(super) const LEVELS_MAX: usize = 128;

/// Where and why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syntax {
    /// The byte, from 0.
    pub(super) at: usize,
    /// What is wrong there.
    pub(super) what: &'static str,
}

type Result<T> = std::result::Result<T, Syntax>;

/// A place in a JSON text.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    level: usize,
}

/// Bytes that end the plain part of a string: the quote, the backslash, and what may not stand there.
const ENDS_PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = true;
        i += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // A byte order mark is not JSON, but it stands before the first record of many a file.
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, at, level: 0 }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn fault<T>(&self, what: &'static str) -> Result<T> {
        let what = if self.at >= self.text.len() { "it ends too early" } else { what };
        Err(Syntax { at: self.at, what })
    }

    /// The first byte of what is next, white space skipped.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                byte => return byte,
            }
        }
    }

    /// Goes into an object or array, at whose bracket it stands.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<()> {
        if self.level == LEVELS_MAX {
            return self.fault("it is nested more than 128 levels deep");
        }
        self.level += 1;
        self.at += 1;
        Ok(())
    }

    /// Whether one more is in the object or array that ends with `close`; if not, it is left.
    #[inline]
    pub(super) fn more(&mut self, first: bool, close: u8) -> Result<bool> {
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                self.level -= 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                if self.peek() == Some(close) {
                    return self.fault("a value is missing behind a comma");
                }
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => self.fault(if close == b'}' { "`,` or `}` is missing" } else { "`,` or `]` is missing" }),
        }
    }

    /// Goes over a text if it is the next thing.
    #[inline]
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(text.as_bytes());
        self.at += if found { text.len() } else { 0 };
        found
    }

    /// The key of a member, and the colon behind it.
    #[inline]
    pub(super) fn key<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str>
    where
        'a: 's,
    {
        if self.peek() != Some(b'"') {
            return self.fault("a key in quotes is missing");
        }
        let key = self.string(scratch)?;
        if self.peek() != Some(b':') {
            return self.fault("`:` is missing");
        }
        self.at += 1;
        Ok(key)
    }

    /// A string, at whose quote it stands. One with escapes is put together in `scratch`.
    #[inline]
    pub(super) fn string<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str>
    where
        'a: 's,
    {
        self.at += 1;
        let start = self.at;
        self.plain();
        if self.byte() == Some(b'"') {
            let text = &self.text[start..self.at];
            self.at += 1;
            return Ok(text);
        }
        self.escaped(start, scratch)?;
        Ok(scratch)
    }

    /// Goes to the end of what stands for itself in a string.
    #[inline]
    fn plain(&mut self) {
        let bytes = self.text.as_bytes();
        // Most strings are short, and not worth the call.
        let near = bytes.len().min(self.at + 16);
        while self.at < near {
            if ENDS_PLAIN[usize::from(bytes[self.at])] {
                return;
            }
            self.at += 1;
        }
        let rest = &bytes[self.at..];
        let rest = &rest[..memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())];
        // Without a branch for each byte, so that they are compared side by side.
        let has_control = rest.iter().fold(0, |found, &b| found | u8::from(b < 0x20)) != 0;
        let control = has_control.then(|| rest.iter().position(|&b| b < 0x20)).flatten();
        self.at += control.unwrap_or(rest.len());
    }

    #[cold]
    fn escaped(&mut self, start: usize, scratch: &mut String) -> Result<()> {
        scratch.clear();
        scratch.push_str(&self.text[start..self.at]);
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    let c = self.escape()?;
                    scratch.push(c);
                }
                _ => return self.fault("a control character stands in a string"),
            }
            let from = self.at;
            self.plain();
            scratch.push_str(&self.text[from..self.at]);
        }
    }

    fn escape(&mut self) -> Result<char> {
        let c = match self.byte() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let at = self.at;
                let lone = Err(Syntax { at, what: "half of a surrogate pair stands alone" });
                self.at += 1;
                let first = self.hex()?;
                if !(0xd800..0xe000).contains(&first) {
                    return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                if first >= 0xdc00 || !self.text[self.at..].starts_with("\\u") {
                    return lone;
                }
                self.at += 2;
                let second = self.hex()?;
                if !(0xdc00..0xe000).contains(&second) {
                    return lone;
                }
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            _ => return self.fault("an escape in a string is not one of JSON's"),
        };
        self.at += 1;
        Ok(c)
    }

    fn hex(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.byte().and_then(|b| char::from(b).to_digit(16)) else {
                return self.fault("\\u has four hexadecimal digits");
            };
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }

    /// A number, at whose first byte it stands.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number<'a>> {
        match Number::scan(&self.text[self.at..]) {
            Ok(number) => {
                self.at += number.text.len();
                Ok(number)
            }
            Err(at) => {
                self.at += at;
                self.fault("a number is not as JSON writes them")
            }
        }
    }

    /// `true`, `false` or `null`, at whose first byte it stands.
    #[inline]
    pub(super) fn word(&mut self, word: &'static str) -> Result<()> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.fault("this is no JSON value")
    }

    /// Goes over a value, which has to be JSON all the same.
    pub(super) fn skip(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{') => {
                self.enter()?;
                let mut first = true;
                while self.more(first, b'}')? {
                    first = false;
                    if self.peek() != Some(b'"') {
                        return self.fault("a key in quotes is missing");
                    }
                    self.skip_string()?;
                    if self.peek() != Some(b':') {
                        return self.fault("`:` is missing");
                    }
                    self.at += 1;
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.enter()?;
                let mut first = true;
                while self.more(first, b']')? {
                    first = false;
                    self.skip()?;
                }
                Ok(())
            }
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => self.fault("this is no JSON value"),
        }
    }

    fn skip_string(&mut self) -> Result<()> {
        self.at += 1;
        loop {
            self.plain();
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                _ => return self.fault("a control character stands in a string"),
            }
        }
    }

    /// The text of a value.
    pub(super) fn raw(&mut self) -> Result<&'a str> {
        self.peek();
        let start = self.at;
        self.skip()?;
        Ok(&self.text[start..self.at])
    }

    /// Whether there is anything but nulls, empty objects and empty arrays in a value, which is gone over.
    pub(super) fn says_something(&mut self) -> Result<bool> {
        let raw = self.raw()?;
        // A key is in quotes too, but a key alone says nothing: only then is it looked at closely.
        if !raw.bytes().any(|b| matches!(b, b'"' | b't' | b'f' | b'0'..=b'9')) {
            return Ok(false);
        }
        let mut inner = Scanner { text: raw, at: 0, level: 0 };
        Ok(inner.value()?.says_something())
    }

    /// The end of the text.
    #[inline]
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault("more stands behind the value"),
        }
    }

    /// A whole value.
    pub(super) fn value(&mut self) -> Result<Value<'a>> {
        let mut scratch = String::new();
        Ok(match self.peek() {
            Some(b'"') => Value::String(self.owned(&mut scratch)?),
            Some(b'{') => {
                let mut members = Vec::new();
                self.enter()?;
                while self.more(members.is_empty(), b'}')? {
                    if self.peek() != Some(b'"') {
                        return self.fault("a key in quotes is missing");
                    }
                    let key = self.owned(&mut scratch)?;
                    if self.peek() != Some(b':') {
                        return self.fault("`:` is missing");
                    }
                    self.at += 1;
                    members.push((key, self.value()?));
                }
                Value::Object(members)
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.enter()?;
                while self.more(items.is_empty(), b']')? {
                    items.push(self.value()?);
                }
                Value::Array(items)
            }
            Some(b't') => self.word("true").map(|()| Value::Bool(true))?,
            Some(b'f') => self.word("false").map(|()| Value::Bool(false))?,
            Some(b'n') => self.word("null").map(|()| Value::Null)?,
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()?),
            _ => return self.fault("this is no JSON value"),
        })
    }

    fn owned(&mut self, scratch: &mut String) -> Result<Cow<'a, str>> {
        let start = self.at + 1;
        let text = self.text;
        let len = self.string(scratch)?.len();
        // One without escapes lies in the text, and ends before the closing quote.
        Ok(if start + len + 1 == self.at {
            Cow::Borrowed(&text[start..start + len])
        } else {
            Cow::Owned(scratch.clone())
        })
    }
}

/// A JSON value whose objects keep the order of their members.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number<'a>),
    String(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Reads a text that is one value.
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let mut scanner = Scanner::new(text);
        let value = scanner.value()?;
        scanner.end()?;
        Ok(value)
    }

    /// The member of an object. Where it is there twice, the last one counts.
    pub(super) fn get(&self, key: &str) -> Option<&Value<'a>> {
        match self {
            Self::Object(members) => {
                members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_array(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// What it is, for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => format!("boolean {value}"),
            Self::Number(number) => super::rows::found(number.text),
            Self::String(text) => format!("string {}", super::rows::quoted(text)),
            Self::Array(_) => "an array".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }

    /// Whether there is anything in it but nulls, empty objects and empty arrays.
    pub(super) fn says_something(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(_) | Self::Number(_) | Self::String(_) => true,
            Self::Array(items) => items.iter().any(Value::says_something),
            Self::Object(members) => members.iter().any(|(_, value)| value.says_something()),
        }
    }
}

impl std::fmt::Display for Syntax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (byte {})", self.what, self.at)
    }
}

#[cfg(test)]
mod tests;
