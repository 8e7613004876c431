//! What a failure of the database comes to: wait and try again, give up, or leave a row out.

use std::error::Error as _;
use std::fmt::Write as _;

use tokio_postgres::Error;

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::hose::dest) enum Fault {
    /// It may work later.
    Transient(String),
    /// It will not work like this.
    Permanent(String),
    /// A row that was copied does not fit.
    Data(Misfit),
}

/// A row that the table would not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::hose::dest) struct Misfit {
    /// The SQLSTATE.
    pub(in crate::hose::dest) code: String,
    /// What the server said.
    pub(in crate::hose::dest) message: String,
    /// Which line of the copy it was, counted from 1, where the server said so.
    pub(in crate::hose::dest) line: Option<usize>,
}

impl Fault {
    /// A failure of anything but a copy. `doing` is what was tried.
    pub(in crate::hose::dest) fn of(error: &Error, doing: &str) -> Self {
        let Some(db) = error.as_db_error() else {
            let message = format!("{doing}: {}", chain(error));
            return if is_for_good(error) { Self::Permanent(message) } else { Self::Transient(message) };
        };
        let message = format!("{doing}: {}", said(db));
        if passes(db.code().code()) { Self::Transient(message) } else { Self::Permanent(message) }
    }

    /// A failure of a copy into the table `name`.
    pub(in crate::hose::dest) fn of_copy(error: &Error, name: &str) -> Self {
        match error.as_db_error() {
            Some(db) if is_of_data(db.code().code()) => Self::Data(Misfit {
                code: db.code().code().to_owned(),
                message: said(db),
                line: db.where_().and_then(|place| line(place, name)),
            }),
            _ => Self::of(error, &format!("copy into {name}")),
        }
    }

    /// The same with another message.
    pub(in crate::hose::dest) fn map(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Transient(message) => Self::Transient(change(message)),
            Self::Permanent(message) => Self::Permanent(change(message)),
            Self::Data(misfit) => Self::Data(Misfit { message: change(misfit.message), ..misfit }),
        }
    }
}

/// What went wrong on the way, outermost first, on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let _ = write!(text, ": {inner}");
        source = inner.source();
    }
    one_line(&text)
}

/// What the server said, on one line.
fn said(db: &tokio_postgres::error::DbError) -> String {
    let mut text = db.message().to_owned();
    if let Some(detail) = db.detail() {
        let _ = write!(text, ": {detail}");
    }
    let _ = write!(text, " (SQLSTATE {})", db.code().code());
    one_line(&text)
}

/// A message is one line, and a row that is quoted in it may be long.
const MESSAGE_CHARS_MAX: usize = 500;

fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MESSAGE_CHARS_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Whether a failure that is not the server's answer will be the same next time.
fn is_for_good(error: &Error) -> bool {
    let mut source = error.source();
    let mut is_io = false;
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            // What is wrapped is not among the sources.
            if io.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) {
                return true;
            }
            is_io = true;
        }
        source = inner.source();
    }
    // What is left: the password is missing, the server has no TLS, it speaks another protocol. A connection that is
    // closed has no source.
    !is_io && !error.is_closed() && error.source().is_some()
}

/// Whether what the server could not do it may be able to do later.
fn passes(code: &str) -> bool {
    match code.get(..2) {
        // Connections; resources; the operator; the machine under the server.
        Some("08" | "53" | "57" | "58") => true,
        _ => matches!(
            code,
            // A serialization failure, a deadlock, a lock that was not to be had, a transaction that took too long; a
            // server that only reads, which is what one meets while another takes over.
            "40001" | "40P01" | "40003" | "55P03" | "55006" | "25P03" | "25006"
        ),
    }
}

/// Whether it is the row that is wrong, and not the statement: data, constraints, what a trigger refuses, what is too
/// large for an index, a view's check.
fn is_of_data(code: &str) -> bool {
    matches!(code.get(..2), Some("22" | "23" | "54")) || matches!(code, "P0001" | "44000")
}

/// The line in `COPY clicks, line 17, column id: "x"`, in whatever language that is.
fn line(place: &str, name: &str) -> Option<usize> {
    let rest = place.lines().rev().find_map(|line| {
        // A trigger's own lines stand before it.
        line.trim().strip_prefix("COPY ")?.strip_prefix(name)?.strip_prefix(", ")
    })?;
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit() && !matches!(c, ',' | ':' | '"'));
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_in_any_language() {
        assert_eq!(line("COPY clicks, line 17, column id: \"x\"", "clicks"), Some(17));
        assert_eq!(line("COPY clicks, Zeile 3: »a 9«", "clicks"), Some(3));
        assert_eq!(
            line("PL/pgSQL function f() line 3 at RAISE\nCOPY my, clicks, line 2: \"x\"", "my, clicks"),
            Some(2)
        );
        assert_eq!(line("COPY clicks, \"7\"", "clicks"), None);
        assert_eq!(line("SQL statement \"SELECT 1\"", "clicks"), None);
        assert_eq!(line("COPY other, line 2", "clicks"), None);
    }

    #[test]
    fn failures_are_told_apart_by_their_codes() {
        for code in ["08006", "53300", "57P01", "57014", "40001", "40P01", "58030", "25006"] {
            assert!(passes(code) && !is_of_data(code), "{code}");
        }
        for code in ["22P02", "23505", "P0001", "54000", "44000"] {
            assert!(!passes(code) && is_of_data(code), "{code}");
        }
        for code in ["42P01", "28P01", "3D000", "42501", "0A000", "XX000", ""] {
            assert!(!passes(code) && !is_of_data(code), "{code}");
        }
    }

    #[test]
    fn messages_are_short_lines() {
        assert_eq!(one_line("a\n  b\tc"), "a b c");
        assert!(one_line(&"ä".repeat(2000)).len() < 1100);
    }
}
