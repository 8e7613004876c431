//! How CSV is written.

use std::str::FromStr;

/// Which fields are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QuoteStyle {
    /// Those that would be read as something else: with a delimiter, a quote or a line break in them, or the text that
    /// stands for null.
    #[default]
    Necessary,
    /// All but null.
    Always,
    /// Strings, and what is written like them, but no numbers, booleans or null.
    NonNumeric,
    /// None: a backslash stands before delimiters, line breaks and backslashes.
    Never,
}

impl QuoteStyle {
    /// What can be given.
    pub const NAMES: &[&str] = &["necessary", "always", "nonnumeric", "never"];
}

impl FromStr for QuoteStyle {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "necessary" => Self::Necessary,
            "always" => Self::Always,
            "nonnumeric" => Self::NonNumeric,
            "never" => Self::Never,
            _ => {
                return Err(format!(
                    "`{name}` is not a way to quote: give one of {}",
                    Self::NAMES.join(", ")
                ));
            }
        })
    }
}

/// What ends a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineEnding {
    /// A newline.
    #[default]
    Lf,
    /// Carriage return and newline, as RFC 4180 has it.
    CrLf,
}

impl LineEnding {
    pub(super) fn bytes(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
        }
    }
}

/// Settings of CSV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Whether each object begins with the names of the columns.
    pub header: bool,
    /// What stands between fields.
    pub delimiter: u8,
    /// Which fields are quoted.
    pub quote: QuoteStyle,
    /// What stands for null. A string that says the same is quoted.
    pub null: String,
    /// What ends a row.
    pub line_ending: LineEnding,
}

impl Default for CsvOptions {
    /// A header, commas, quotes where they are needed, nothing for null (and `""` for the empty string).
    fn default() -> Self {
        Self {
            header: true,
            delimiter: b',',
            quote: QuoteStyle::default(),
            null: String::new(),
            line_ending: LineEnding::default(),
        }
    }
}

impl CsvOptions {
    /// The same with tabs.
    pub fn tsv() -> Self {
        Self { delimiter: b'\t', ..Self::default() }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let delimiter = self.delimiter;
        if matches!(delimiter, b'"' | b'\\' | b'\n' | b'\r') || !delimiter.is_ascii() {
            return Err(
                "the CSV delimiter is one ASCII character, and no quote, backslash or line ending".to_owned()
            );
        }
        let in_null = |byte: &u8| *byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r');
        if self.null.as_bytes().iter().any(in_null) {
            return Err(format!(
                "`{}` cannot stand for null in CSV: it has a delimiter, a quote or a line ending in it",
                self.null.escape_debug()
            ));
        }
        Ok(())
    }
}
