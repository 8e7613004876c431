//! Folders as `name=value`: the partition columns of a table.

use std::borrow::Cow;

use super::escape::unescape;
use super::prefix::{Piece, Prefix};

/// A column that the folders of a prefix have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiveColumn {
    /// What stands before the `=`.
    pub name: String,
    /// What stands behind it.
    pub value: HiveValue,
}

/// Where the value of a column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HiveValue {
    /// It is always this.
    Text(String),
    /// The arrival time, with or without text around it.
    Timestamp,
    /// A partition key by query.
    Query(String),
    /// A partition key by the transformation.
    Transform(String),
    /// The shard.
    Shard,
    /// A random string.
    Random,
    /// The type of the error.
    ErrorType,
    /// More than one of these.
    Mixed,
}

/// The columns of a prefix, in the order of its folders. A name that comes twice is its first.
pub fn hive_columns(prefix: &Prefix) -> Vec<HiveColumn> {
    let mut columns: Vec<HiveColumn> = Vec::new();
    // Of the folder at hand: its name, if a `=` has come, and what stands behind it.
    let mut name = Some(String::new());
    let mut value: Option<Option<HiveValue>> = None;
    for piece in &prefix.pieces[..prefix.folder] {
        let source = match piece {
            Piece::Text(text) => {
                for c in text.chars() {
                    match (c, &mut name, &mut value) {
                        ('/', _, _) => {
                            if let (Some(name), Some(Some(value))) = (name.take(), value.take())
                                && !name.is_empty()
                                && columns.iter().all(|column| column.name != name)
                            {
                                columns.push(HiveColumn { name, value });
                            }
                            (name, value) = (Some(String::new()), None);
                        }
                        ('=', Some(_), None) => value = Some(None),
                        (c, Some(name), None) => name.push(c),
                        (c, _, Some(value)) => {
                            *value = Some(match value.take() {
                                None => HiveValue::Text(c.to_string()),
                                Some(HiveValue::Text(mut text)) => {
                                    text.push(c);
                                    HiveValue::Text(text)
                                }
                                // `yyyy-MM-dd` is one timestamp, and so is it with text around it.
                                Some(HiveValue::Timestamp) => HiveValue::Timestamp,
                                Some(_) => HiveValue::Mixed,
                            });
                        }
                        (_, None, None) => {}
                    }
                }
                continue;
            }
            Piece::Time(_) => HiveValue::Timestamp,
            Piece::Query(key) => HiveValue::Query(key.clone()),
            Piece::Transform(key) => HiveValue::Transform(key.clone()),
            Piece::Shard | Piece::ShardNumber => HiveValue::Shard,
            Piece::Random => HiveValue::Random,
            Piece::ErrorType => HiveValue::ErrorType,
        };
        match &mut value {
            Some(value) => {
                *value = Some(match value.take() {
                    None => source,
                    Some(HiveValue::Text(_) | HiveValue::Timestamp) if source == HiveValue::Timestamp => {
                        source
                    }
                    Some(_) => HiveValue::Mixed,
                });
            }
            // A name that the data gives is no column.
            None => name = None,
        }
    }
    columns
}

/// The values of the columns in the folders of an object's name; `None` for the missing value.
pub fn hive_values(name: &str) -> Vec<(&str, Option<Cow<'_, str>>)> {
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders
        .split('/')
        .filter_map(|folder| folder.split_once('=').filter(|(name, _)| !name.is_empty()))
        .map(|(name, value)| (name, unescape(value)))
        .collect()
}
