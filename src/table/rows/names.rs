//! From the keys of an object to its fields.
//!
//! Objects of a stream have their keys in the same order, nearly always: the key that came next the last time is tried
//! first, as it was spelled. Only what is new is looked up, with the case and dots that the options speak of.

use std::collections::HashMap;

use super::RowOptions;
use crate::table::schema::{Column, SchemaError};

/// Which field a key is of.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// By what keys are compared by.
    fields: HashMap<Box<str>, u32>,
    /// Keys in the order in which they came, and their fields.
    order: Vec<(Box<str>, Option<u32>)>,
    /// Which of them is expected.
    next: usize,
    limit: usize,
    plain: bool,
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

    /// The field of the next key.
    #[inline]
    pub(super) fn find(&mut self, key: &str, options: &RowOptions) -> Option<usize> {
        if let Some((expected, field)) = self.order.get(self.next)
            && **expected == *key
        {
            self.next += 1;
            return field.map(|field| field as usize);
        }
        self.look_up(key, options)
    }

    fn look_up(&mut self, key: &str, options: &RowOptions) -> Option<usize> {
        let ahead = self.order.iter().skip(self.next + 1).take(MISSING_MAX);
        for (passed, (expected, field)) in ahead.enumerate() {
            if **expected == *key {
                self.next += passed + 2;
                return field.map(|field| field as usize);
            }
        }
        let field = if self.plain {
            self.fields.get(key).copied()
        } else {
            self.fields.get(options.normal(key).as_ref()).copied()
        };
        if self.order.len() < self.limit && key.len() <= KEY_BYTES_MAX {
            let at = self.next.min(self.order.len());
            self.order.insert(at, (key.into(), field));
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
