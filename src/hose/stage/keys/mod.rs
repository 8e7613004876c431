//! Partition keys out of the data of records: `!{partitionKeyFromQuery:NAME}`.
//!
//! Its promise: a record has a text for each name that is asked for, or it fails (`metadata-extraction-failed`); it never
//! lands in a partition that is named after nothing.
//!
//! - Without a query the name is a path to a field: `customer_id`, `user.id`, `tags.0`.
//! - A query is evaluated once for each record and makes one object, as in the service:
//!   `{customer: .customer_id, y: (.ts | strftime("%Y"))}`. Each name that is asked for must be a member.
//!
//! Strings are taken as they are, numbers and booleans as their text (a number that is not calculated with keeps the
//! digits it has in the record: `1.50` stays that). What is missing, `null`, empty, an array or an object is no partition
//! key; the service refuses the same.
//!
//! # Fields are found without reading the record
//!
//! Names without a query, and queries that are nothing but an object of paths (`{a: .x, b: .y.z}`), are the hot path of a
//! partitioned delivery. There only what stands before the field is looked at: a record that is broken behind it is not
//! noticed here, where an object has a name twice the first counts (in a query, the last), and members of the query that
//! are not asked for are not evaluated. Any other query is run by [`super::Jq`], with its limits.

use std::borrow::Cow;

use jaq_json::Val;

use super::excerpt;
use super::jq::{Jq, QueryError, on_threads, push_number};
use crate::codec::json_path::{Field, JsonPath};
use crate::hose::failure::{ErrorType, Failure};

/// Where partition keys come from.
pub struct PartitionKeys {
    names: Vec<String>,
    how: How,
}

enum How {
    /// One path for each name.
    Paths(Vec<JsonPath>),
    Query(Box<Jq>),
}

impl PartitionKeys {
    /// Keys of these names, from a query or from the fields of the same names.
    ///
    /// # Errors
    /// Where the query is none, or is seen not to have one of the names; where a name is no path. As the end of a usage
    /// error.
    pub fn new(query: Option<&str>, names: &[&str]) -> Result<Self, String> {
        let how = match query {
            None => How::Paths(names.iter().map(|name| JsonPath::new(name)).collect::<Result<_, _>>()?),
            Some(query) => {
                let jq = Jq::new(query)?;
                let members = members(query);
                let member = |name: &&str| {
                    members.as_ref()?.iter().find(|(member, _)| member == name).map(|(_, value)| value)
                };
                if let (Some(members), Some(name)) =
                    (&members, names.iter().find(|name| member(name).is_none()))
                {
                    let known: Vec<_> = members.iter().map(|(name, _)| &**name).collect();
                    return Err(format!(
                        "the query has no `{name}`, only {}",
                        if known.is_empty() { "an empty object".to_owned() } else { known.join(", ") }
                    ));
                }
                let paths: Option<Vec<_>> = names.iter().map(|name| path(member(name)?)).collect();
                paths.map_or_else(|| How::Query(Box::new(jq)), How::Paths)
            }
        };
        Ok(Self { names: names.iter().map(|&name| name.to_owned()).collect(), how })
    }

    /// The names, in the order in which their values are given.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether fields are found without reading whole records.
    pub fn are_paths(&self) -> bool {
        matches!(self.how, How::Paths(_))
    }

    /// Tells for each record, in their order, its number and the values of the names, or why it has none.
    ///
    /// # Errors
    /// Where the query cannot be run at all.
    pub fn extract<'a>(
        &self,
        records: &[&'a [u8]],
        mut each: impl FnMut(usize, Result<&[Cow<'a, str>], Failure>),
    ) -> anyhow::Result<()> {
        let mut values = Vec::with_capacity(self.names.len());
        match &self.how {
            How::Paths(paths) => {
                for (number, data) in records.iter().enumerate() {
                    values.clear();
                    let mut found = Ok(());
                    for (path, name) in paths.iter().zip(&self.names) {
                        match field(path, data) {
                            Ok(value) => values.push(value),
                            Err(why) => {
                                found = Err(failure(name, &why));
                                break;
                            }
                        }
                    }
                    each(number, found.map(|()| &values[..]));
                }
            }
            How::Query(jq) => {
                let results = on_threads(records.to_vec(), |data| self.query(jq, data))?;
                for (number, result) in results.into_iter().enumerate() {
                    values.clear();
                    let found = result.map(|found| values.extend(found.into_iter().map(Cow::Owned)));
                    each(number, found.map(|()| &values[..]));
                }
            }
        }
        Ok(())
    }

    fn query(&self, jq: &Jq, data: &[u8]) -> Result<Vec<String>, Failure> {
        let (mut outputs, mut values) = (0, Vec::with_capacity(self.names.len()));
        let mut lacks = None;
        let run = jq.outputs(data, &mut |output| {
            outputs += 1;
            if outputs > 1 {
                return Err(QueryError {
                    kind: "",
                    message: "the query has more than one output".to_owned(),
                });
            }
            let Val::Obj(members) = output else {
                return Err(QueryError {
                    kind: "",
                    message: "the query's output is not an object".to_owned(),
                });
            };
            for name in &self.names {
                match members.get(&Val::from(name.clone())).map_or(Err("is missing"), text) {
                    Ok(value) => values.push(value),
                    Err(why) => {
                        lacks.get_or_insert((name, why));
                    }
                }
            }
            Ok(())
        });
        match (run, lacks) {
            (Err(QueryError { message, .. }), _) => Err(failed(message)),
            (Ok(()), Some((name, why))) => Err(failure(name, why)),
            (Ok(()), None) if outputs == 0 => Err(failed("the query has no output".to_owned())),
            (Ok(()), None) => Ok(values),
        }
    }
}

fn failure(name: &str, why: &str) -> Failure {
    failed(format!("the partition key `{name}`: {why}"))
}

fn failed(message: String) -> Failure {
    Failure::new(ErrorType::MetadataExtraction, "DynamicPartitioning.MetadataExtractionFailed", message)
}

fn field<'a>(path: &JsonPath, data: &'a [u8]) -> Result<Cow<'a, str>, String> {
    let value = match path.find(data)? {
        Field::Escaped(_, text) => text,
        Field::Plain(range) => {
            std::str::from_utf8(&data[range]).map_err(|_| "it is not UTF-8".to_owned())?.into()
        }
    };
    if value.is_empty() { Err("it is empty".to_owned()) } else { Ok(value) }
}

/// The text of a value that can name a partition.
fn text(value: &Val) -> Result<String, &'static str> {
    match value {
        Val::TStr(text) if text.is_empty() => Err("it is empty"),
        Val::TStr(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        Val::Bool(yes) => Ok(yes.to_string()),
        Val::Num(number) => {
            let mut text = Vec::new();
            push_number(number, &mut text);
            // `nan`
            if text == b"null" {
                Err("it is not a number")
            } else {
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
        }
        Val::Null => Err("it is null"),
        Val::BStr(_) => Err("it is a byte string"),
        Val::Arr(_) => Err("it is an array"),
        Val::Obj(_) => Err("it is an object"),
    }
}

/// The members of an object as it stands in a query, `{a: .x, "b": .y | z, c}`, or `None` where it cannot be told without
/// running it.
fn members(query: &str) -> Option<Vec<(String, String)>> {
    let inner = query.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut members = Vec::new();
    for part in split_at_commas(inner)? {
        let part = part.trim();
        if part.is_empty() && members.is_empty() {
            continue;
        }
        let (name, value) = match part.split_once(':') {
            Some((name, value)) => (name.trim(), value.trim().to_owned()),
            None => (part, format!(".{part}")),
        };
        let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
        let name = match quoted {
            Some(name) if !name.contains(['\\', '"']) => name,
            None if is_identifier(name) => name,
            _ => return None,
        };
        // A later member of the same name counts.
        members.retain(|(known, _)| known != name);
        members.push((name.to_owned(), value));
    }
    Some(members)
}

/// The parts between commas that stand in no brackets and no string.
fn split_at_commas(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut depth, mut in_string, mut escaped) = (Vec::new(), 0, 0i32, false, false);
    for (at, c) in text.char_indices() {
        if in_string {
            // What stands in `\(...)` may hold strings again.
            if escaped && c == '(' {
                return None;
            }
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => in_string = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            '#' => return None,
            _ => {}
        }
        if depth < 0 {
            // `{...} | {...}`
            return None;
        }
    }
    parts.push(&text[start..]);
    Some(parts)
}

/// A path that is nothing but names, `.a.b` or `."x y".b`.
fn path(value: &str) -> Option<JsonPath> {
    let mut rest = value.strip_prefix('.')?;
    let mut names = Vec::new();
    loop {
        let after = if let Some(quoted) = rest.strip_prefix('"') {
            let (name, after) = quoted.split_once('"')?;
            if name.contains('\\') {
                return None;
            }
            names.push(name);
            after
        } else {
            let len = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(len);
            if !is_identifier(name) {
                return None;
            }
            names.push(name);
            after
        };
        if after.is_empty() {
            return Some(JsonPath::of_members(&names));
        }
        rest = after.strip_prefix('.')?;
    }
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_identifier(name: &str) -> bool {
    name.chars().all(is_part) && name.starts_with(|c: char| !c.is_ascii_digit())
}

impl std::fmt::Debug for PartitionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartitionKeys({})", excerpt(&self.names.join(", ")))
    }
}

#[cfg(test)]
mod tests;
