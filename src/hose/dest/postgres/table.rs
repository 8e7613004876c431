//! What a table has: its columns, and what each takes.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::super::watermark::{column, rows};
use super::address::{TableName, literal};
use super::fault::Fault;

/// What a column takes, as far as a JSON value is to be written in another way for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// `json`, `jsonb`: the value's own text.
    Json,
    /// `bytea`: base64 in JSON.
    Bytes,
    /// `smallint`, `integer`, `bigint`: no `1.0`.
    Integer,
    /// `date`, `timestamp`, `timestamptz`.
    Time,
    /// Arrays of these.
    Array(Box<Kind>),
    /// Anything that takes the text of a string, of a number, of `true`.
    Text,
}

impl Kind {
    /// By the names and categories of `pg_type`.
    fn of(name: &str, category: &str, element: Option<&str>) -> Self {
        match (name, category) {
            ("json" | "jsonb", _) => Self::Json,
            ("bytea", _) => Self::Bytes,
            ("int2" | "int4" | "int8", _) => Self::Integer,
            ("date" | "timestamp" | "timestamptz", _) => Self::Time,
            (_, "A") => Self::Array(Box::new(Self::of(element.unwrap_or(""), "", None))),
            _ => Self::Text,
        }
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The type as SQL writes it, for a person.
    pub(super) type_name: String,
    pub(super) is_not_null: bool,
    /// There is something to put where nothing was given.
    pub(super) has_default: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Its own name, without the schema: the server's messages have it.
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Columns that are computed and take nothing.
    generated: Vec<String>,
    by_name: HashMap<String, usize>,
    /// By their names in small letters, where that is one column.
    by_folded: HashMap<String, usize>,
}

/// What a key of a record is to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// The column's name.
    Exact(usize),
    /// The column's name but for the case of its letters.
    Folded(usize),
    /// The name of a column that takes nothing.
    Generated,
    /// Nothing.
    None,
}

impl Table {
    pub(super) fn new(
        name: String,
        columns: Vec<Column>,
        generated: Vec<String>,
        case_sensitive: bool,
    ) -> Self {
        let by_name = columns.iter().enumerate().map(|(i, column)| (column.name.clone(), i)).collect();
        let mut folded: HashMap<String, Option<usize>> = HashMap::new();
        if !case_sensitive {
            for (i, column) in columns.iter().enumerate() {
                folded.entry(column.name.to_lowercase()).and_modify(|known| *known = None).or_insert(Some(i));
            }
        }
        let by_folded = folded.into_iter().filter_map(|(name, i)| Some((name, i?))).collect();
        Self { name, columns, generated, by_name, by_folded }
    }

    /// Which column a key is for.
    pub(super) fn find(&self, key: &str) -> Match {
        if let Some(&i) = self.by_name.get(key) {
            return Match::Exact(i);
        }
        if self.generated.iter().any(|name| name == key) {
            return Match::Generated;
        }
        if self.by_folded.is_empty() {
            return Match::None;
        }
        match self.by_folded.get(&key.to_lowercase()) {
            Some(&i) => Match::Folded(i),
            None => Match::None,
        }
    }

    /// The column of this name, as an option names it.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        match self.find(name) {
            Match::Exact(i) | Match::Folded(i) => Some(i),
            Match::Generated | Match::None => None,
        }
    }

    /// Reads from the catalogue what the table has; `None` if there is none.
    pub(super) async fn read(
        client: &Client,
        table: &TableName,
        case_sensitive: bool,
    ) -> Result<Option<Self>, Fault> {
        // A domain is what is under it, however many are one on the other.
        let sql = format!(
            "WITH RECURSIVE it AS (SELECT c.oid, c.relname FROM pg_catalog.pg_class c WHERE c.oid = to_regclass({name})), \
             bases (id, base, has_default) AS ( \
               SELECT DISTINCT a.atttypid, a.atttypid, false FROM pg_catalog.pg_attribute a JOIN it ON a.attrelid = it.oid \
               WHERE a.attnum > 0 AND NOT a.attisdropped \
               UNION ALL SELECT b.id, t.typbasetype, b.has_default OR t.typdefault IS NOT NULL \
               FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype = 'd') \
             SELECT it.relname, a.attname, t.typname, t.typcategory, e.typname, \
               pg_catalog.format_type(a.atttypid, a.atttypmod), \
               (a.attnotnull OR o.typnotnull)::int, \
               (a.atthasdef OR a.attidentity <> '' OR b.has_default)::int, (a.attgenerated <> '')::int \
             FROM it LEFT JOIN (pg_catalog.pg_attribute a \
               JOIN bases b ON b.id = a.atttypid \
               JOIN pg_catalog.pg_type t ON t.oid = b.base AND t.typtype <> 'd' \
               JOIN pg_catalog.pg_type o ON o.oid = a.atttypid \
               LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A') \
             ON a.attrelid = it.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            name = literal(&table.sql())
        );
        let doing = format!("look at table {table}");
        let messages = client.simple_query(&sql).await.map_err(|error| Fault::of(&error, &doing))?;
        let (mut columns, mut generated, mut own_name) = (Vec::new(), Vec::new(), None);
        for row in rows(messages) {
            own_name = own_name.or_else(|| column(&row, 0).map(str::to_owned));
            let Some(name) = column(&row, 1) else { continue };
            if column(&row, 8) == Some("1") {
                generated.push(name.to_owned());
                continue;
            }
            let text = |i| column(&row, i).unwrap_or_default();
            columns.push(Column {
                name: name.to_owned(),
                kind: Kind::of(text(2), text(3), column(&row, 4)),
                type_name: text(5).to_owned(),
                is_not_null: text(6) == "1",
                has_default: text(7) == "1",
            });
        }
        Ok(own_name.map(|name| Self::new(name, columns, generated, case_sensitive)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn column_of(name: &str, kind: Kind, has_default: bool) -> Column {
        Column { name: name.to_owned(), kind, type_name: "?".to_owned(), is_not_null: false, has_default }
    }

    #[test]
    fn keys_find_their_columns() {
        let columns = ["id", "At", "at", "Name"].map(|name| column_of(name, Kind::Text, false)).to_vec();
        let table = Table::new("t".to_owned(), columns.clone(), vec!["sum".to_owned()], false);
        assert_eq!(table.find("id"), Match::Exact(0));
        assert_eq!(table.find("ID"), Match::Folded(0));
        assert_eq!(table.find("At"), Match::Exact(1));
        assert_eq!(table.find("AT"), Match::None);
        assert_eq!(table.find("name"), Match::Folded(3));
        assert_eq!(table.find("sum"), Match::Generated);
        let table = Table::new("t".to_owned(), columns, Vec::new(), true);
        assert_eq!((table.find("id"), table.find("ID")), (Match::Exact(0), Match::None));
    }

    #[test]
    fn kinds() {
        assert_eq!(Kind::of("int8", "N", None), Kind::Integer);
        assert_eq!(Kind::of("_jsonb", "A", Some("jsonb")), Kind::Array(Box::new(Kind::Json)));
        assert_eq!(Kind::of("inet", "I", None), Kind::Text);
    }
}
