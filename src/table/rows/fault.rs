//! Why a row is not one of its table.

use std::fmt::Write;

use crate::table::json::Syntax;
use crate::table::schema::Type;

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Its number in the block, from 0.
    pub row: usize,
    /// Why, with the column and the kind of the value: `column "id": expected bigint, found string "x"`.
    pub reason: String,
}

/// What stopped the reading of a row. Faults are rare, and a small result is a fast one.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::table) struct Fault(Box<Cause>);

#[derive(Debug, PartialEq, Eq)]
enum Cause {
    /// It is not JSON.
    Syntax(Syntax),
    /// A value does not fit its column. The path is from the inside out.
    Value(Vec<Step>, String),
    /// It would fit if the schema were a wider one.
    Drift,
}

/// A step to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::table) enum Step {
    Field(Box<str>),
    Item(usize),
}

pub(in crate::table) type Result<T> = std::result::Result<T, Fault>;

impl From<Syntax> for Fault {
    #[cold]
    fn from(syntax: Syntax) -> Self {
        Self(Box::new(Cause::Syntax(syntax)))
    }
}

impl Fault {
    #[cold]
    pub(in crate::table) fn value(reason: String) -> Self {
        Self(Box::new(Cause::Value(Vec::new(), reason)))
    }

    pub(super) fn drift() -> Self {
        Self(Box::new(Cause::Drift))
    }

    pub(super) fn is_drift(&self) -> bool {
        *self.0 == Cause::Drift
    }

    /// The same, one level further out.
    #[cold]
    pub(in crate::table) fn within(mut self, step: Step) -> Self {
        if let Cause::Value(path, _) = &mut *self.0 {
            path.push(step);
        }
        self
    }

    /// For people, on one line.
    pub(in crate::table) fn reason(self) -> String {
        match *self.0 {
            Cause::Syntax(syntax) => format!("not JSON: {syntax}"),
            Cause::Drift => "it does not fit the schema".to_owned(),
            Cause::Value(path, reason) if path.is_empty() => reason,
            Cause::Value(path, reason) => {
                let mut name = String::new();
                for step in path.iter().rev() {
                    match step {
                        Step::Field(field) if name.is_empty() => name.push_str(field),
                        Step::Field(field) => name.extend([".", field]),
                        Step::Item(i) => drop(write!(name, "[{i}]")),
                    }
                }
                format!("column {}: {reason}", quoted(&name))
            }
        }
    }
}

/// Characters of a value that a reason shows.
const SHOWN_MAX: usize = 40;

/// A text in quotes, cut where it is long.
pub(in crate::table) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// What a value is, for people, by its JSON text.
pub(in crate::table) fn found(raw: &str) -> String {
    match raw.as_bytes().first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        Some(b'n') => "null".to_owned(),
        Some(b't' | b'f') => format!("boolean {raw}"),
        Some(b'"') => {
            let text: Option<String> = serde_json::from_str(raw).ok();
            format!("string {}", quoted(&text.unwrap_or_default()))
        }
        _ if raw.len() > SHOWN_MAX => format!("number {}...", &raw[..SHOWN_MAX]),
        _ => format!("number {raw}"),
    }
}

/// `expected bigint, found string "x"`.
pub(in crate::table) fn mismatch(expected: &Type, found: &str) -> String {
    let expected = match expected {
        Type::Struct(_) => "an object".to_owned(),
        Type::Map(..) => "an object (map)".to_owned(),
        Type::Array(_) => "an array".to_owned(),
        plain => plain.to_string(),
    };
    format!("expected {expected}, found {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_the_place() {
        let fault = Fault::value("x".to_owned())
            .within(Step::Field("lat".into()))
            .within(Step::Item(3))
            .within(Step::Field("geo".into()));
        assert_eq!(fault.reason(), "column \"geo[3].lat\": x");
        assert_eq!(found("\"a\\nb\""), "string \"a\\nb\"");
        assert_eq!(found(&"9".repeat(50)), format!("number {}...", "9".repeat(40)));
        assert_eq!(mismatch(&Type::BigInt, &found("true")), "expected bigint, found boolean true");
    }
}
