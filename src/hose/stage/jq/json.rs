//! Values of a query as JSON.

use std::io::Write;

use jaq_json::{Num, Val};

use super::QueryError;

/// Values nested deeper are refused: they are written by recursion, and nothing reads them.
const DEPTH_MAX: usize = 10_000;
/// Doubles below this have a place for each unit; above it jq writes an exponent too.
const INTEGER_MAX: f64 = 1e17;

/// Appends a value as JSON on one line, without white space.
pub(super) fn push_value(value: &Val, out: &mut Vec<u8>) -> Result<(), QueryError> {
    push(value, 0, out)
}

fn push(value: &Val, depth: usize, out: &mut Vec<u8>) -> Result<(), QueryError> {
    let invalid = |why: &str| QueryError::new("InvalidOutput", why);
    if depth > DEPTH_MAX {
        return Err(invalid("an output is nested too deep"));
    }
    match value {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Val::Num(number) => push_number(number, out),
        Val::TStr(bytes) => push_string(bytes, out),
        Val::BStr(_) => return Err(invalid("an output has a byte string, which JSON has not")),
        Val::Arr(values) => {
            out.push(b'[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push(value, depth + 1, out)?;
            }
            out.push(b']');
        }
        Val::Obj(members) => {
            out.push(b'{');
            for (i, (name, value)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                let Val::TStr(name) = name else {
                    return Err(invalid("an output has an object in which a name is not a string"));
                };
                push_string(name, out);
                out.push(b':');
                push(value, depth + 1, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// Appends a string with its quotes. What is not UTF-8, which only a query can make, is replaced.
fn push_string(bytes: &[u8], out: &mut Vec<u8>) {
    // A vector takes everything, and a string is always JSON.
    let _ = serde_json::to_writer(out, &*String::from_utf8_lossy(bytes));
}

/// Appends a number.
pub(in super::super) fn push_number(number: &Num, out: &mut Vec<u8>) {
    let _ = match number {
        Num::Int(integer) => write!(out, "{integer}"),
        Num::BigInt(integer) => write!(out, "{integer}"),
        // `1.` and `.5` are numbers in a query.
        Num::Dec(text) if is_json(text) => write!(out, "{text}"),
        Num::Dec(text) => return push_double(text.parse().unwrap_or(f64::NAN), out),
        Num::Float(double) => return push_double(*double, out),
    };
}

fn push_double(double: f64, out: &mut Vec<u8>) {
    let _ = if double.is_nan() {
        write!(out, "null")
    } else if double.is_infinite() {
        write!(out, "{:?}", f64::MAX.copysign(double))
    } else if double.fract() == 0.0 && double.abs() < INTEGER_MAX {
        // Of zero the sign is kept.
        write!(out, "{double:.0}")
    } else {
        write!(out, "{double:?}")
    };
}

fn is_json(number: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(number).is_ok()
}
