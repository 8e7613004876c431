//! Which types take over from which.
//!
//! ```text
//! tinyint ─► smallint ─► int ─► bigint ─► double ◄─ float
//! ```
//!
//! Nothing else widens once a schema is there. A column of timestamps that meets another text stays one of timestamps,
//! and the row is bad: files that were written before would hold another type under the same name, and what reads them
//! by the present schema could not. A `bigint` as a `double` has 53 of its bits.

use super::number::{NotInteger, Number};
use super::schema::Type;

/// The type that a column of numbers needs to take this one, if there is one.
pub(super) fn for_number(kind: &Type, number: Number<'_>) -> Option<Type> {
    let double = || number.to_f64().map(|_| Type::Double);
    match kind {
        Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt => match number.to_i64() {
            Ok(value) if i16::try_from(value).is_ok() && *kind == Type::TinyInt => Some(Type::SmallInt),
            Ok(value) if i32::try_from(value).is_ok() => Some(Type::Int),
            Ok(_) => Some(Type::BigInt),
            Err(NotInteger::Fraction | NotInteger::Range) => double(),
        },
        Type::Float => double(),
        _ => None,
    }
}

/// Whether every value of one type is one of another (a `bigint` as a `double` but for its last bits).
pub(super) fn is_wider(from: &Type, to: &Type) -> bool {
    let rank = |kind: &Type| match kind {
        Type::TinyInt => Some(1),
        Type::SmallInt => Some(2),
        Type::Int => Some(3),
        Type::BigInt => Some(4),
        Type::Double => Some(5),
        _ => None,
    };
    match (from, to) {
        (Type::Char(from) | Type::Varchar(from), Type::Char(to) | Type::Varchar(to)) => from <= to,
        (Type::Float, Type::Double) | (Type::Char(_) | Type::Varchar(_), Type::String) => true,
        (from, to) => rank(from).zip(rank(to)).is_some_and(|(from, to)| from <= to),
    }
}
