//! JSON objects to the rows of a `COPY ... FROM STDIN` in text format.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::super::failure::{ErrorType, Failure};
use super::table::{Column, Kind, Match, Table};
use super::value::{Epoch, convert, hex};

/// How records become rows.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) table: Table,
    pub(super) mode: Mode,
    pub(super) epoch: Epoch,
}

/// Where the parts of a record go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The whole record into this column.
    Whole(usize),
    /// Values into the columns that their keys name; the others into this one.
    Keys {
        /// A column for JSON.
        rest: Option<usize>,
    },
}

/// The columns of a row that were given: a set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Given(Vec<u64>);

impl Given {
    fn new(columns: usize) -> Self {
        Self(vec![0; columns.div_ceil(64)])
    }

    fn add(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    pub(super) fn has(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|word| word >> (i % 64) & 1 == 1)
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }
}

/// The values of one record, by column. Its memory is used again.
#[derive(Debug, Default)]
pub(super) struct Values<'a> {
    /// The value, and whether its key was the column's very name.
    of: Vec<Option<(bool, &'a RawValue)>>,
    rest: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl Layout {
    /// Which columns a record has something for; that it can be written is tried too.
    pub(super) fn given<'a>(&self, payload: &'a [u8], values: &mut Values<'a>) -> Result<Given, Failure> {
        let columns = self.table.columns.len();
        let mut given = Given::new(columns);
        match self.mode {
            Mode::Whole(i) => {
                if self.table.columns[i].kind != Kind::Bytes {
                    text(payload)?;
                }
                given.add(i);
            }
            Mode::Keys { rest } => {
                self.parse(payload, values)?;
                for i in 0..columns {
                    if values.of[i].is_some() {
                        self.value(i, values)?;
                        given.add(i);
                    }
                }
                if let Some(rest) = rest {
                    given.add(rest);
                } else if values.of.iter().all(Option::is_none) {
                    return Err(refuse(
                        "Database.NoColumn",
                        format!("none of its keys is a column of {}", self.table.name),
                    ));
                }
            }
        }
        Ok(given)
    }

    /// Appends the record as a row of these columns, with its newline. `values` is memory.
    pub(super) fn write<'a>(
        &self,
        payload: &'a [u8],
        columns: &[usize],
        values: &mut Values<'a>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let start = out.len();
        let written = self.write_fields(payload, columns, values, out);
        if written.is_err() {
            out.truncate(start);
        } else {
            out.push(b'\n');
        }
        written
    }

    fn write_fields<'a>(
        &self,
        payload: &'a [u8],
        columns: &[usize],
        values: &mut Values<'a>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let rest = match self.mode {
            Mode::Whole(i) => {
                match self.table.columns[i].kind {
                    Kind::Bytes => escape(&hex(payload), out),
                    _ => escape(text(payload)?, out),
                }
                return Ok(());
            }
            Mode::Keys { rest } => rest,
        };
        self.parse(payload, values)?;
        for (n, &i) in columns.iter().enumerate() {
            if n > 0 {
                out.push(b'\t');
            }
            let column = &self.table.columns[i];
            if rest == Some(i) {
                match object(&values.rest) {
                    Some(object) => escape(&object, out),
                    None if column.is_not_null => out.extend_from_slice(b"{}"),
                    None => out.extend_from_slice(b"\\N"),
                }
                continue;
            }
            match self.value(i, values)? {
                Some(value) => escape(&value, out),
                None => out.extend_from_slice(b"\\N"),
            }
        }
        Ok(())
    }

    /// What a column takes of a record; `None` is NULL.
    fn value<'a>(&self, i: usize, values: &Values<'a>) -> Result<Option<Cow<'a, str>>, Failure> {
        let Some(Some((_, raw))) = values.of.get(i) else { return Ok(None) };
        let Column { name, kind, .. } = &self.table.columns[i];
        let value = convert(kind, raw, self.epoch)
            .map_err(|why| refuse("Database.Conversion", format!("column {name}: {why}")))?;
        if value.as_ref().is_some_and(|value| value.contains('\0')) {
            return Err(refuse("22021", format!("column {name}: a text with a zero byte")));
        }
        Ok(value)
    }

    fn parse<'a>(&self, payload: &'a [u8], values: &mut Values<'a>) -> Result<(), Failure> {
        values.of.clear();
        values.of.resize(self.table.columns.len(), None);
        values.rest.clear();
        let keeps_rest = matches!(self.mode, Mode::Keys { rest: Some(_) });
        let mut json = serde_json::Deserializer::from_slice(payload);
        Sorter { layout: self, keeps_rest, values }
            .deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| refuse("Database.NotAnObject", format!("no JSON object: {error}")))
    }
}

fn refuse(code: &str, message: String) -> Failure {
    Failure::new(ErrorType::Database, code, message)
}

fn text(payload: &[u8]) -> Result<&str, Failure> {
    let text = std::str::from_utf8(payload)
        .map_err(|_| refuse("22021", "it is no text in UTF-8: a bytea column would take it".to_owned()))?;
    if text.contains('\0') {
        return Err(refuse("22021", "it has a zero byte: a bytea column would take it".to_owned()));
    }
    Ok(text)
}

/// Sorts the members of an object by the columns that they are for.
struct Sorter<'s, 'a> {
    layout: &'s Layout,
    keeps_rest: bool,
    values: &'s mut Values<'a>,
}

impl<'a> DeserializeSeed<'a> for Sorter<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Sorter<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key::<Key<'a>>()? {
            let value: &'a RawValue = map.next_value()?;
            let (exact, i) = match self.layout.table.find(&key) {
                Match::Exact(i) => (true, i),
                Match::Folded(i) => (false, i),
                Match::Generated => continue,
                Match::None => {
                    if self.keeps_rest {
                        self.values.rest.push((key, value));
                    }
                    continue;
                }
            };
            let held = &mut self.values.of[i];
            // Of several keys for one column the one that has its very name counts, then the last.
            if held.is_none_or(|(was_exact, _)| exact || !was_exact) {
                *held = Some((exact, value));
            }
        }
        Ok(())
    }
}

/// A key, not copied where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'a> de::Deserialize<'a> for Key<'a> {
    fn deserialize<D: Deserializer<'a>>(json: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'a> Visitor<'a> for Text {
            type Value = Key<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: de::Error>(self, key: &'a str) -> Result<Key<'a>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: de::Error>(self, key: &str) -> Result<Key<'a>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        json.deserialize_str(Text)
    }
}

/// The members as an object; `None` if there are none.
fn object(members: &[(Cow<'_, str>, &RawValue)]) -> Option<String> {
    let mut object = String::new();
    for (key, value) in members {
        object.push(if object.is_empty() { '{' } else { ',' });
        object.push_str(&serde_json::Value::from(key.as_ref()).to_string());
        object.push(':');
        object.push_str(value.get());
    }
    (!object.is_empty()).then(|| object + "}")
}

/// Appends a field of a row in text format.
fn escape(field: &str, out: &mut Vec<u8>) {
    let mut rest = field.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        out.extend_from_slice(&rest[..at]);
        let letter = match rest[at] {
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            _ => b'\\',
        };
        out.extend_from_slice(&[b'\\', letter]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::column_of;
    use super::*;

    fn layout(rest: bool, epoch: Epoch) -> Layout {
        let columns = vec![
            column_of("id", Kind::Integer, false),
            column_of("name", Kind::Text, false),
            column_of("at", Kind::Time, true),
            column_of("tags", Kind::Array(Box::new(Kind::Text)), false),
            column_of("more", Kind::Json, false),
            column_of("raw", Kind::Bytes, false),
            column_of("docs", Kind::Array(Box::new(Kind::Json)), false),
        ];
        let table = Table::new("t".to_owned(), columns, vec!["sum".to_owned()], false);
        Layout { table, mode: Mode::Keys { rest: rest.then_some(4) }, epoch }
    }

    fn row(layout: &Layout, json: &str) -> Result<String, String> {
        let columns: Vec<usize> = (0..layout.table.columns.len()).collect();
        let mut out = Vec::new();
        layout
            .write(json.as_bytes(), &columns, &mut Values::default(), &mut out)
            .map_err(|failure| format!("{}: {}", failure.code, failure.message))?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_become_fields() {
        let plain = layout(false, Epoch::AsGiven);
        for (json, fields) in [
            (r#"{"id":1,"name":"a"}"#, "1\ta\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
            (r#"{"id":1.0,"name":2.50}"#, "1\t2.50\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
            (r#"{"ID":-1e3,"name":true}"#, "-1000\ttrue\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
            (r#"{"id":null,"name":"a\tb\\\n\u00e4"}"#, "\\N\ta\\tb\\\\\\nä\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
            (r#"{"name":"\\N"}"#, "\\N\t\\\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
            (r#"{"name":{"a": [1]}}"#, "\\N\t{\"a\": [1]}\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
            (r#"{"at":"2026-01-01","sum":9,"x":1}"#, "\\N\t\\N\t2026-01-01\t\\N\t\\N\t\\N\t\\N\n"),
            (
                r#"{"tags":["a","b\"c",null,"NULL",1,[]],"more":"s"}"#,
                "\\N\t\\N\t\\N\t{\"a\",\"b\\\\\"c\",NULL,\"NULL\",\"1\",{}}\t\"s\"\t\\N\t\\N\n",
            ),
            (r#"{"tags":[["a"],["b"]]}"#, "\\N\t\\N\t\\N\t{{\"a\"},{\"b\"}}\t\\N\t\\N\t\\N\n"),
            (r#"{"tags":"{x,y}"}"#, "\\N\t\\N\t\\N\t{x,y}\t\\N\t\\N\t\\N\n"),
            (
                r#"{"docs":[{"a":"b"},[1]]}"#,
                "\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t{\"{\\\\\"a\\\\\":\\\\\"b\\\\\"}\",\"[1]\"}\n",
            ),
            (r#"{"raw":"AP8="}"#, "\\N\t\\N\t\\N\t\\N\t\\N\t\\\\x00ff\t\\N\n"),
            (r#"{"raw":"AP8"}"#, "\\N\t\\N\t\\N\t\\N\t\\N\t\\\\x00ff\t\\N\n"),
            (r#"{"raw":"\\xAB"}"#, "\\N\t\\N\t\\N\t\\N\t\\N\t\\\\xAB\t\\N\n"),
            // The very name goes before another case of it, and the last before the first.
            (r#"{"id":1,"ID":2}"#, "1\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
            (r#"{"id":1,"id":2}"#, "2\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
            (r#"{"\u0069d":5}"#, "5\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"),
        ] {
            assert_eq!(row(&plain, json).as_deref(), Ok(fields), "{json}");
        }
    }

    #[test]
    fn what_has_no_column_goes_into_the_rest() {
        let rest = layout(true, Epoch::AsGiven);
        let fields = "7\t\\N\t\\N\t\\N\t{\"x\":{\"y\": 1},\"a\\\\\"b\":null}\t\\N\t\\N\n";
        assert_eq!(row(&rest, r#"{"x":{"y": 1},"id":7,"a\"b":null}"#).as_deref(), Ok(fields));
        assert_eq!(row(&rest, r#"{"id":7}"#).as_deref(), Ok("7\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"));
    }

    #[test]
    fn numbers_are_times_where_that_was_said() {
        let at = |epoch, json: &str| {
            row(&layout(false, epoch), json).map(|row| row.split('\t').nth(2).unwrap().to_owned())
        };
        assert_eq!(at(Epoch::Seconds, r#"{"at":1700000000.25}"#).unwrap(), "2023-11-14T22:13:20.25Z");
        assert_eq!(at(Epoch::Millis, r#"{"at":1700000000250}"#).unwrap(), "2023-11-14T22:13:20.25Z");
        assert_eq!(at(Epoch::Micros, r#"{"at":1}"#).unwrap(), "1970-01-01T00:00:00.000001Z");
        assert_eq!(at(Epoch::AsGiven, r#"{"at":17}"#).unwrap(), "17");
        assert_eq!(at(Epoch::Seconds, r#"{"at":"17"}"#).unwrap(), "17");
        assert!(at(Epoch::Seconds, r#"{"at":99999999999999999}"#).is_err());
    }

    #[test]
    fn what_is_no_row_is_refused() {
        let plain = layout(false, Epoch::AsGiven);
        for json in
            ["", "1", "[1]", "{", r#"{"id":1}{"#, r#"{"id":1,}"#, "{\"name\":\"\u{fffd}", r#"{"raw":"%"}"#]
        {
            assert!(row(&plain, json).is_err(), "{json}");
        }
        assert!(row(&plain, r#"{"name":"a\u0000"}"#).unwrap_err().starts_with("22021"));
        let mut values = Values::default();
        let given = |json: &'static str| plain.given(json.as_bytes(), &mut Values::default());
        assert_eq!(given(r#"{"x":1}"#).unwrap_err().code, "Database.NoColumn");
        let given = plain.given(br#"{"AT":null,"id":3}"#, &mut values).unwrap();
        assert_eq!((0..7).filter(|i| given.has(*i)).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn whole_records_go_into_one_column() {
        let mut whole = layout(false, Epoch::AsGiven);
        whole.mode = Mode::Whole(1);
        let write = |layout: &Layout, payload: &[u8]| {
            let mut out = Vec::new();
            layout.write(payload, &[1], &mut Values::default(), &mut out).map(|()| out)
        };
        assert_eq!(write(&whole, b"a\tb").unwrap(), b"a\\tb\n");
        assert_eq!(write(&whole, b"\xff").unwrap_err().code, "22021");
        whole.mode = Mode::Whole(5);
        assert_eq!(write(&whole, b"\x00\xff").unwrap(), b"\\\\x00ff\n");
    }
}
