//! A table for records that have none yet: what `CREATE TABLE` could say, from the first of them.

use std::collections::HashMap;

use serde_json::Value;

use super::address::{TableName, identifier};

/// So many records are looked at. More would seldom tell more.
pub(super) const RECORDS: usize = 1000;

/// What a column was seen to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Boolean,
    Integer,
    /// A whole number beyond 64 bits.
    Large,
    Number,
    Time,
    Text,
    Json,
}

impl Seen {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_i64() => Self::Integer,
            Value::Number(number) if number.is_u64() => Self::Large,
            Value::Number(_) => Self::Number,
            Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => Self::Time,
            Value::String(_) => Self::Text,
            Value::Array(_) | Value::Object(_) => Self::Json,
        }
    }

    /// What holds both.
    fn join(self, other: Self) -> Self {
        use Seen::{Integer, Json, Large, Nothing, Number, Text, Time};
        match (self, other) {
            (a, b) if a == b => a,
            (Nothing, seen) | (seen, Nothing) => seen,
            (Integer, Large) | (Large, Integer) => Large,
            (Integer | Large, Number) | (Number, Integer | Large) => Number,
            (Time, Text) | (Text, Time) => Text,
            _ => Json,
        }
    }

    fn sql(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "bigint",
            Self::Large => "numeric",
            Self::Number => "double precision",
            Self::Time => "timestamptz",
            Self::Nothing | Self::Text => "text",
            Self::Json => "jsonb",
        }
    }
}

/// `CREATE TABLE "clicks" ("id" bigint, "at" timestamptz)`; `None` where no record is an object. `whole` is the column
/// that whole records go to, `rest` the one for what has no other.
pub(super) fn create_table<'a>(
    table: &TableName,
    payloads: impl Iterator<Item = &'a [u8]>,
    whole: Option<&str>,
    rest: Option<&str>,
    case_sensitive: bool,
) -> Option<String> {
    let mut columns: Vec<(String, Seen)> = Vec::new();
    if let Some(whole) = whole {
        let is_json = payloads.take(RECORDS).all(|payload| serde_json::from_slice::<Value>(payload).is_ok());
        columns.push((whole.to_owned(), if is_json { Seen::Json } else { Seen::Text }));
    } else {
        let mut known: HashMap<String, usize> = HashMap::new();
        for payload in payloads.take(RECORDS) {
            let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(payload) else { continue };
            for (key, value) in &object {
                // Nobody likes to write names in quotes.
                let name = if case_sensitive { key.clone() } else { key.to_lowercase() };
                if name.is_empty() || name.contains('\0') || Some(name.as_str()) == rest {
                    continue;
                }
                let i = *known.entry(name.clone()).or_insert_with(|| {
                    columns.push((name, Seen::Nothing));
                    columns.len() - 1
                });
                columns[i].1 = columns[i].1.join(Seen::of(value));
            }
        }
        columns.extend(rest.map(|rest| (rest.to_owned(), Seen::Json)));
    }
    if columns.is_empty() {
        return None;
    }
    let columns: Vec<String> =
        columns.iter().map(|(name, seen)| format!("{} {}", identifier(name), seen.sql())).collect();
    Some(format!("CREATE TABLE {} ({})", table.sql(), columns.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_that_hold_all() {
        let rows: [&[u8]; 5] = [
            br#"{"Id":1,"at":"2026-01-01T00:00:00Z","big":1,"n":1,"t":"2026-01-01T00:00:00Z"}"#,
            b"no json",
            br#"{"at":null,"big":18446744073709551615,"id":2,"n":1.5,"ok":true,"t":"x"}"#,
            br#"{"id":3,"mixed":1,"none":null,"o":{"a":1}}"#,
            br#"{"mixed":"x"}"#,
        ];
        let table = TableName::parse("web.clicks").unwrap();
        assert_eq!(
            create_table(&table, rows.into_iter(), None, Some("rest"), false).unwrap(),
            "CREATE TABLE \"web\".\"clicks\" (\"id\" bigint, \"at\" timestamptz, \"big\" numeric, \"n\" double precision, \
             \"t\" text, \"ok\" boolean, \"mixed\" jsonb, \"none\" text, \"o\" jsonb, \"rest\" jsonb)"
        );
        let json = create_table(&table, rows[2..].iter().copied(), Some("data"), None, false).unwrap();
        assert!(json.ends_with("(\"data\" jsonb)"), "{json}");
        let text = create_table(&table, rows.into_iter(), Some("data"), None, false).unwrap();
        assert!(text.ends_with("(\"data\" text)"), "{text}");
        assert_eq!(create_table(&table, std::iter::once(&b"1"[..]), None, None, false), None);
    }
}
