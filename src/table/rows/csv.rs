//! Payloads that are rows of CSV, under a header that is known.
//!
//! A row has as many fields as the header. A field goes into its column by its text: numbers may have a plus and zeros
//! before them, doubles may be NaN and Infinity, arrays and objects are JSON. A field that is the text for null (the
//! empty one, unless another is given) is null, in columns of strings too.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::column::{Struct, unknown_column};
use super::fault::{Fault, Result};
use super::{Context, RowOptions, Unknown};

/// How rows of CSV are read.
#[derive(Debug)]
pub struct CsvRows {
    header: Vec<String>,
    delimiter: u8,
    null: String,
    reader: Reader,
    /// The column of each field.
    columns: Vec<Option<usize>>,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Clone for CsvRows {
    fn clone(&self) -> Self {
        Self {
            header: self.header.clone(),
            delimiter: self.delimiter,
            null: self.null.clone(),
            // The clone of a reader of csv-core 0.1 has not its tables.
            reader: reader(self.delimiter),
            columns: self.columns.clone(),
            text: Vec::new(),
            ends: Vec::new(),
        }
    }
}

fn reader(delimiter: u8) -> Reader {
    ReaderBuilder::new().delimiter(delimiter).build()
}

impl CsvRows {
    /// Rows under this header, a line of CSV itself.
    ///
    /// # Errors
    /// Where it is not one line of CSV in UTF-8.
    pub fn new(header: &[u8], delimiter: u8) -> std::result::Result<Self, String> {
        let mut rows = Self {
            header: Vec::new(),
            delimiter,
            null: String::new(),
            reader: reader(delimiter),
            columns: Vec::new(),
            text: Vec::new(),
            ends: Vec::new(),
        };
        let header = header.strip_prefix("\u{feff}".as_bytes()).unwrap_or(header);
        let header = std::str::from_utf8(header).map_err(|_| "the header is not UTF-8".to_owned())?;
        rows.split(header).map_err(|reason| format!("the header: {reason}"))?;
        rows.header = rows.fields().map(|field| field.unwrap_or_default().to_owned()).collect();
        Ok(rows)
    }

    /// The same with another text for null.
    #[must_use]
    pub fn with_null(mut self, null: impl Into<String>) -> Self {
        self.null = null.into();
        self
    }

    /// The names of the fields.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The same, for a table of these columns.
    pub(super) fn for_columns<'a>(
        mut self,
        columns: impl Iterator<Item = &'a str>,
        options: &RowOptions,
    ) -> Self {
        let columns: Vec<_> = columns.map(|column| options.normal(column)).collect();
        let find = |name: &String| {
            let name = options.column(name)?;
            columns.iter().position(|column| *column == name)
        };
        self.columns = self.header.iter().map(find).collect();
        self
    }

    /// Takes a row apart.
    pub(in crate::table) fn split(&mut self, row: &str) -> std::result::Result<(), String> {
        let row = row.strip_suffix('\n').unwrap_or(row);
        let row = row.strip_suffix('\r').unwrap_or(row);
        if row.is_empty() {
            return Err("it is empty".to_owned());
        }
        let (mut input, mut written, mut fields) = (row.as_bytes(), 0, 0);
        // Fields are never longer than what they are written as.
        self.text.resize(row.len(), 0);
        self.ends.resize(self.ends.len().max(8), 0);
        self.reader.reset();
        loop {
            let (result, read, wrote, ended) =
                self.reader.read_record(input, &mut self.text[written..], &mut self.ends[fields..]);
            (written, fields) = (written + wrote, fields + ended);
            let last = input.is_empty();
            input = &input[read..];
            match result {
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2 + 16, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                // An empty input is how the reader is told that there is no more.
                ReadRecordResult::InputEmpty if !last => {}
                ReadRecordResult::Record | ReadRecordResult::InputEmpty | ReadRecordResult::End => break,
            }
        }
        if !input.is_empty() {
            return Err("it has several rows".to_owned());
        }
        self.text.truncate(written);
        self.ends.truncate(fields);
        if !self.header.is_empty() && fields != self.header.len() {
            return Err(format!("expected {} fields, found {fields}", self.header.len()));
        }
        Ok(())
    }

    /// The fields of the row that was taken apart; none is null.
    pub(in crate::table) fn fields(&self) -> impl Iterator<Item = Option<&str>> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            // Quotes and delimiters are of one byte: taking them out leaves UTF-8 what it is.
            let text = std::str::from_utf8(&self.text[start..end]).unwrap_or_default();
            start = end;
            Some(text).filter(|text| *text != self.null)
        })
    }

    /// Takes a row into the columns.
    pub(super) fn row(&mut self, rows: &mut Struct, text: &str, context: &mut Context<'_>) -> Result<()> {
        self.split(text).map_err(Fault::value)?;
        let mut filled = 0;
        for (i, field) in self.fields().enumerate() {
            let Some(column) = self.columns.get(i).copied().flatten() else {
                if field.is_some() && context.unknown == Unknown::Noted {
                    return Err(unknown_column(&self.header[i], context.watch));
                }
                continue;
            };
            let before = rows.len();
            let member = &mut rows.fields[column];
            if member.column.len() > before {
                member.column.truncate(before);
                filled -= 1;
            }
            member.cell(field, context)?;
            filled += 1;
        }
        rows.complete(filled)
    }
}
