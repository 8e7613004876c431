//! What is printed: aligned tables for people, JSON for programs.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::output::Stdout;
use crate::cli::report::printable;

/// For whom it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// `-o json`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArg {
    /// Print a table for people, or JSON for programs: table or json
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub(crate) format: Format,
}

impl OutputArg {
    /// Whether JSON was asked for.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

/// Prints to standard output.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut out = Stdout::open(false, None)?;
        out.write_all(text.as_bytes())?;
        out.flush()
    };
    write().context("standard output")
}

/// Prints one JSON document to standard output.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut lines = serde_json::to_string_pretty(value).context("standard output")?;
    lines.push('\n');
    text(&lines)
}

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under headings, each column as wide as its widest cell.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A heading that begins with `>` is of a column of numbers.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| match heading.strip_prefix('>') {
            Some(heading) => (heading, Align::Right),
            None => (*heading, Align::Left),
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| printable(&cell)).collect();
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    pub(crate) fn render(&self) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.chain([self.columns[i].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut out = String::new();
        let head: Vec<&str> = self.columns.iter().map(|(heading, _)| *heading).collect();
        self.line(&mut out, &widths, &head);
        for row in &self.rows {
            self.line(&mut out, &widths, &row.iter().map(String::as_str).collect::<Vec<_>>());
        }
        out
    }

    fn line(&self, out: &mut String, widths: &[usize], cells: &[&str]) {
        let start = out.len();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            if out.len() > start {
                out.push_str("  ");
            }
            let _ = match align {
                Align::Left => write!(out, "{cell:width$}"),
                Align::Right => write!(out, "{cell:>width$}"),
            };
        }
        out.truncate(start + out[start..].trim_end().len());
        out.push('\n');
    }
}

/// `name: value` lines, the values below each other.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let mut out = String::new();
    for (name, value) in facts {
        let _ = writeln!(out, "{:width$} {}", format!("{name}:"), printable(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(&["SHARD", ">BYTES", "STATE"]);
        table.row(["0", "1000", "open"].map(str::to_owned));
        table.row(["11", "5", ""].map(str::to_owned));
        assert_eq!(table.render(), "SHARD  BYTES  STATE\n0       1000  open\n11         5\n");
        assert_eq!(facts(&[("a", "1".into()), ("long", "2\n".into())]), "a:    1\nlong: 2\\n\n");
    }
}
