//! From the keys of an object to its fields.
//!
//! Objects of a stream have their keys in the same order, nearly always: the key that came next the last time is tried
//! first, as it was spelled. Only what is new is looked up, with the case and dots that the options speak of.

use std::collections::HashMap;

use super::RowOptions;
use crate::table::json::{Scanner, Syntax};
use crate::table::schema::{Column, SchemaError};

/// Which field a key is of.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// By what keys are compared by.
    fields: HashMap<Box<str>, u32>,
    /// Keys in the order in which they came.
    order: Vec<Seen>,
    /// Which of them is expected.
    next: usize,
    limit: usize,
    plain: bool,
}

/// A key that has come before.
#[derive(Debug, Clone)]
struct Seen {
    /// As it stands in JSON, its quotes and the colon included: it is found by one comparison.
    text: Box<str>,
    field: Option<u32>,
}

impl Seen {
    fn key(&self) -> &str {
        &self.text[1..self.text.len() - 2]
    }

    fn field(&self) -> Option<usize> {
        self.field.map(|field| field as usize)
    }
}

/// Optional keys that are missing in a row: so many are passed over before the key is looked up.
const MISSING_MAX: usize = 4;

/// A longer key is not remembered: such keys are data.
const KEY_BYTES_MAX: usize = 256;

impl Names {
    /// The names of these fields. The mappings are for columns of the row itself.
    pub(super) fn new(fields: &[Column], options: &RowOptions, is_row: bool) -> Result<Self, SchemaError> {
        let mut names = HashMap::with_capacity(fields.len());
        for (i, field) in fields.iter().enumerate() {
            let mapped = options.mappings.iter().filter(|_| is_row);
            let same = |column: &str| options.normal(column) == options.normal(&field.name);
            let key = mapped.clone().find(|(column, _)| same(column)).map_or(&field.name, |(_, key)| key);
            let name = options.normal(key);
            // A key that a mapping gives to one column is taken from the column of that name.
            let taken = mapped.clone().any(|(column, key)| options.normal(key) == name && !same(column));
            if taken {
                continue;
            }
            if let Some(other) = names.insert(name.into(), i as u32) {
                return Err(SchemaError::Columns(format!(
                    "columns {:?} and {:?} are of one key, {key:?}, by the options for names",
                    fields[other as usize].name, field.name
                )));
            }
        }
        let plain = options.case_sensitive && !options.dots_to_underscores;
        // Twice the fields, since what is not a field comes in the same order too.
        Ok(Self { limit: names.len() * 2 + 64, fields: names, order: Vec::new(), next: 0, plain })
    }

    /// An object begins.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.next = 0;
    }

    /// The field of the key that is next in a text, which is then behind its colon.
    #[inline]
    pub(super) fn take(
        &mut self,
        json: &mut Scanner<'_>,
        scratch: &mut String,
        options: &RowOptions,
    ) -> Result<Option<usize>, Syntax> {
        if let Some(seen) = self.order.get(self.next)
            && json.eat(&seen.text)
        {
            self.next += 1;
            return Ok(seen.field());
        }
        Ok(self.find(json.key(scratch)?, options))
    }

    /// The field of a key.
    fn find(&mut self, key: &str, options: &RowOptions) -> Option<usize> {
        let ahead = self.order.iter().skip(self.next).take(1 + MISSING_MAX);
        for (passed, seen) in ahead.enumerate() {
            if seen.key() == key {
                self.next += passed + 1;
                return seen.field();
            }
        }
        let field = if self.plain {
            self.fields.get(key).copied()
        } else {
            self.fields.get(options.normal(key).as_ref()).copied()
        };
        // One with escapes has another text.
        let plain = |b: u8| b >= b' ' && b != b'"' && b != b'\\';
        if self.order.len() < self.limit && key.len() <= KEY_BYTES_MAX && key.bytes().all(plain) {
            let at = self.next.min(self.order.len());
            self.order.insert(at, Seen { text: format!("\"{key}\":").into(), field });
            self.next = at + 1;
        }
        field.map(|field| field as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::schema::Type;

    fn fields(names: &[&str]) -> Vec<Column> {
        names.iter().map(|name| Column::new(*name, Type::Int)).collect()
    }

    #[test]
    fn keys_in_any_order_and_case() {
        let options = RowOptions::default();
        let mut names = Names::new(&fields(&["a", "B", "c"]), &options, true).unwrap();
        for _ in 0..2 {
            for row in [&["a", "b", "c"][..], &["C", "A"], &["x", "c", "b", "a", "y"], &[], &["a", "x", "c"]]
            {
                names.begin();
                for key in row {
                    let expected = ["a", "b", "c"].iter().position(|name| name.eq_ignore_ascii_case(key));
                    assert_eq!(names.find(key, &options), expected, "{key} of {row:?}");
                }
            }
        }
    }

    #[test]
    fn keys_where_they_lie() {
        let options = RowOptions::default();
        let mut names = Names::new(&fields(&["a", "q\"\\", "\u{e9}"]), &options, true).unwrap();
        let mut scratch = String::new();
        for _ in 0..3 {
            names.begin();
            for (text, field) in [
                ("\"a\":1", Ok(Some(0))),
                ("\"a\" :1", Ok(Some(0))),
                ("\"q\\\"\\\\\":1", Ok(Some(1))),
                ("\"\u{c9}\":1", Ok(Some(2))),
                ("\"\\u00e9\":1", Ok(Some(2))),
                ("\"b\":1", Ok(None)),
            ] {
                let mut json = Scanner::new(text);
                assert_eq!(names.take(&mut json, &mut scratch, &options), field, "{text}");
                assert_eq!(json.raw(), Ok("1"));
            }
            assert!(names.take(&mut Scanner::new("\"q\"\\\":1"), &mut scratch, &options).is_err());
            assert!(names.take(&mut Scanner::new("\"a\""), &mut scratch, &options).is_err());
        }
    }

    #[test]
    fn many_unknown_keys_are_not_remembered() {
        let options = RowOptions::default();
        let mut names = Names::new(&fields(&["a"]), &options, true).unwrap();
        for i in 0..10_000 {
            names.begin();
            assert_eq!(names.find(&format!("k{i}"), &options), None);
            assert_eq!(names.find("a", &options), Some(0));
        }
        assert!(names.order.len() <= names.limit);
    }

    #[test]
    fn a_key_is_of_one_column() {
        let mut options = RowOptions::default();
        assert!(Names::new(&fields(&["a", "A"]), &options, true).is_err());
        options.mappings = vec![("ts".to_owned(), "timestamp".to_owned())];
        let mut names = Names::new(&fields(&["timestamp", "ts"]), &options, true).unwrap();
        names.begin();
        assert_eq!(names.find("Timestamp", &options), Some(1));
        assert_eq!(names.find("ts", &options), None);
        let mut nested = Names::new(&fields(&["timestamp", "ts"]), &options, false).unwrap();
        assert_eq!(nested.find("timestamp", &options), Some(0));
        options.case_sensitive = true;
        assert!(Names::new(&fields(&["a", "A"]), &options, true).is_ok());
    }
}
