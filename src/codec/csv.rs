//! CSV with a header row: each row's own bytes, as they stand in the input, are a record's payload.
//!
//! - The header row names the columns and is no record; [`Csv::header`] keeps it. Rows are numbered as the lines of an
//!   editor are where no field holds a newline: the header is row 1.
//! - Rows end with LF or CRLF, and neither is part of the payload. Blank rows are skipped.
//! - A quoted field may hold delimiters, newlines and doubled quotes (RFC 4180). A quote that is never closed takes the
//!   rest of the input with it, as it does for every reader of CSV; it is refused as one row.
//! - Columns beyond those a rule needs are not looked at, and rows need not have as many as the header.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2};

use super::columns::{Place, check_key, check_size, parse_position};
use super::key::ByteRule;
use super::split::{Dropping, Line, too_long};
use super::{BrokenInput, Decode, Records, Span};
use crate::hash::HashKey;

const QUOTE: u8 = b'"';

/// A header is no record, so the record limit is not its limit.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Decodes `csv`.
#[derive(Debug)]
pub(super) struct Csv {
    delimiter: u8,
    key: KeyColumn,
    explicit_hash: Option<Column>,
    position: Option<Column>,
    record_bytes: usize,
    header: Option<Vec<u8>>,
    /// Rows whose end has been seen.
    number: u64,
    dropping: Option<(Dropping, Scanner)>,
}

/// The key comes from a column or from the row's bytes.
#[derive(Debug)]
pub(super) enum KeyColumn {
    Named(Column),
    Bytes(ByteRule),
}

/// A column that a rule needs; where it stands is known once the header has been read.
#[derive(Debug)]
pub(super) struct Column {
    name: String,
    index: usize,
}

impl Column {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), index: 0 }
    }

    fn locate(&mut self, header: &[u8], delimiter: u8) -> Result<(), String> {
        let names = names(header, delimiter);
        let found = names.iter().position(|name| **name == *self.name.as_bytes());
        self.index = found.ok_or_else(|| {
            let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
            format!("the header has no column `{}`; it has {}", self.name, names.join(", "))
        })?;
        Ok(())
    }

    fn find(&self, row: &[u8], delimiter: u8) -> Result<Range<usize>, String> {
        field(row, delimiter, self.index)
            .ok_or_else(|| format!("the column `{}` is missing: the row is too short", self.name))
    }
}

impl Csv {
    pub(super) fn new(
        delimiter: u8,
        key: KeyColumn,
        explicit_hash: Option<Column>,
        position: Option<Column>,
        record_bytes: usize,
    ) -> Self {
        Self {
            delimiter,
            key,
            explicit_hash,
            position,
            record_bytes,
            header: None,
            number: 0,
            dropping: None,
        }
    }

    /// Takes the header row from the start of the block; answers where the rows begin, or `None` where more is needed.
    fn begin(&mut self, block: &[u8], last: bool) -> Result<Option<usize>, BrokenInput> {
        let end = match Scanner::default().row_end(block, self.delimiter) {
            Some(end) => end,
            None if last => block.len(),
            None if block.len() <= HEADER_BYTES_MAX => return Ok(None),
            None => block.len(),
        };
        if end > HEADER_BYTES_MAX {
            return Err(broken(format!("the header row is longer than {HEADER_BYTES_MAX} bytes")));
        }
        let text = trim_return(&block[..end]);
        // Spreadsheets write a byte order mark, which is no part of the first column's name.
        let header = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).to_vec();
        if !block.is_empty() {
            let key = if let KeyColumn::Named(column) = &mut self.key { Some(column) } else { None };
            for column in [key, self.explicit_hash.as_mut(), self.position.as_mut()].into_iter().flatten() {
                column.locate(&header, self.delimiter).map_err(broken)?;
            }
            self.number = 1;
            self.header = Some(header);
        }
        Ok(Some((end + 1).min(block.len())))
    }

    /// Goes on with a row that is being dropped; answers with the number of bytes it took.
    fn resume(&mut self, block: &[u8], last: bool, out: &mut Records) -> usize {
        let Some((mut dropping, mut scanner)) = self.dropping.take() else { return 0 };
        let found = scanner.row_end(block, self.delimiter);
        dropping.add(found.unwrap_or(block.len()));
        if found.is_none() && !last {
            self.dropping = Some((dropping, scanner));
            return block.len();
        }
        self.number += 1;
        dropping.finish("row", self.number, self.record_bytes, out);
        found.map_or(block.len(), |end| (end + 1).min(block.len()))
    }

    /// The longest text of a row, its carriage return included.
    fn row_bytes(&self) -> usize {
        let overhead = if let KeyColumn::Bytes(rule) = &self.key { rule.overhead() } else { 0 };
        self.record_bytes + overhead + 1
    }

    fn push(&self, block: &[u8], line: Line, out: &mut Records) {
        let row = &block[line.start..line.end];
        if let Err(reason) = self.find(block, row, line, out) {
            out.refuse(line.number, line.start, line.end, reason);
        }
    }

    fn find(&self, block: &[u8], row: &[u8], line: Line, out: &mut Records) -> Result<(), String> {
        // All that can be refused is found before anything is pushed.
        let hash = match &self.explicit_hash {
            Some(column) => {
                let range = column.find(row, self.delimiter)?;
                Some(String::from_utf8_lossy(&unquote(row, range).1).parse::<HashKey>()?)
            }
            None => None,
        };
        let position = match &self.position {
            Some(column) => Some(parse_position(&unquote(row, column.find(row, self.delimiter)?).1)?),
            None => None,
        };
        let at = |range: Range<usize>| Span::new(line.start + range.start, line.start + range.end);
        let taken = out.payloads.len();
        match &self.key {
            KeyColumn::Bytes(rule) => {
                rule.push(block, Place::Block(at(0..row.len())), line, self.record_bytes, out);
            }
            KeyColumn::Named(column) => {
                let (range, text) = unquote(row, column.find(row, self.delimiter)?);
                check_key(&text)?;
                check_size(row.len(), text.len(), self.record_bytes)?;
                let key = match text {
                    Cow::Borrowed(_) => Place::Block(at(range)),
                    Cow::Owned(text) => Place::Arena(out.store(&text)),
                };
                out.push_key(block, key);
                out.payloads.push(at(0..row.len()));
                out.push_end(line);
            }
        }
        if out.payloads.len() > taken {
            out.hashes.extend(hash.map(Some));
            out.positions.extend(position);
        }
        Ok(())
    }
}

impl Decode for Csv {
    fn decode(&mut self, block: &[u8], last: bool, out: &mut Records) -> Result<usize, BrokenInput> {
        let mut start = 0;
        if self.header.is_none() {
            let Some(begun) = self.begin(block, last)? else { return Ok(0) };
            start = begun;
        }
        start += self.resume(&block[start..], last, out);
        // Rows that end before the block's next quote need no look at their fields.
        let mut quote = memchr(QUOTE, &block[start..]).map_or(block.len(), |at| start + at);
        let mut whole = true;
        while start < block.len() {
            let mut scanner = Scanner::default();
            let newline = memchr(b'\n', &block[start..]).map(|at| start + at).filter(|&at| at < quote);
            let found =
                newline.or_else(|| scanner.row_end(&block[start..], self.delimiter).map(|at| start + at));
            let (end, next) = match found {
                Some(end) => (end, end + 1),
                None if last => (block.len(), block.len()),
                None => {
                    if block.len() - start > self.row_bytes() {
                        self.dropping = Some((Dropping::new(&block[start..]), scanner));
                        start = block.len();
                    }
                    break;
                }
            };
            self.number += 1;
            let row = trim_return(&block[start..end]);
            let line = Line { number: self.number, start, end: start + row.len(), next };
            whole &= line.end == end && !row.is_empty();
            if end - start > self.row_bytes() {
                let reason = too_long("row", (end - start) as u64, self.record_bytes);
                out.refuse(line.number, line.start, line.end, reason);
            } else if found.is_none() && scanner.in_quotes() {
                out.refuse(
                    line.number,
                    line.start,
                    line.end,
                    "the input ends inside a quoted field".to_owned(),
                );
            } else if !row.is_empty() {
                self.push(block, line, out);
            }
            start = next;
            if quote < start {
                quote = memchr(QUOTE, &block[start..]).map_or(block.len(), |at| start + at);
            }
        }
        let keeps_payload = !matches!(&self.key, KeyColumn::Bytes(rule) if !rule.keeps_payload());
        out.join(b'\n', whole && keeps_payload, start);
        Ok(start)
    }

    fn header(&self) -> Option<&[u8]> {
        self.header.as_deref()
    }

    fn pending(&self) -> u64 {
        self.dropping.as_ref().map_or(0, |(dropping, _)| dropping.len())
    }
}

fn broken(reason: String) -> BrokenInput {
    BrokenInput { format: "csv", number: 1, reason }
}

/// Finds the end of a row, and can go on in the next block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Scanner {
    /// At the first byte of a field: a quote here opens a quoted field.
    #[default]
    FieldStart,
    /// In a field without quotes, or behind the closing quote of one with them.
    Plain,
    /// Between quotes.
    Quoted,
    /// Behind a quote inside a quoted field: a second one makes it a quote of the text, anything else ends the field.
    Closing,
}

impl Scanner {
    /// Where the newline is that ends the row, as far as this block goes.
    fn row_end(&mut self, block: &[u8], delimiter: u8) -> Option<usize> {
        let mut at = 0;
        while at < block.len() {
            match self {
                Self::FieldStart | Self::Closing if block[at] == QUOTE => {
                    *self = Self::Quoted;
                    at += 1;
                }
                Self::FieldStart | Self::Closing => *self = Self::Plain,
                Self::Plain => {
                    at += memchr2(delimiter, b'\n', &block[at..])?;
                    if block[at] == b'\n' {
                        return Some(at);
                    }
                    *self = Self::FieldStart;
                    at += 1;
                }
                Self::Quoted => {
                    at += memchr(QUOTE, &block[at..])? + 1;
                    *self = Self::Closing;
                }
            }
        }
        None
    }

    /// Whether an end of the input here leaves a quote open.
    fn in_quotes(self) -> bool {
        self == Self::Quoted
    }
}

/// Where field `index` of a row lies, quotes included.
fn field(row: &[u8], delimiter: u8, index: usize) -> Option<Range<usize>> {
    let mut start = 0;
    for _ in 0..index {
        start = field_end(row, delimiter, start)? + 1;
    }
    Some(start..field_end(row, delimiter, start).unwrap_or(row.len()))
}

/// Where the delimiter is that ends the field beginning at `start`.
fn field_end(row: &[u8], delimiter: u8, start: usize) -> Option<usize> {
    let mut from = start;
    if row.get(start) == Some(&QUOTE) {
        from += 1;
        loop {
            from += memchr(QUOTE, &row[from..])? + 1;
            if row.get(from) != Some(&QUOTE) {
                break;
            }
            from += 1;
        }
    }
    memchr(delimiter, &row[from..]).map(|at| from + at)
}

/// A field's text: where it lies without its quotes, and what it stands for.
fn unquote(row: &[u8], range: Range<usize>) -> (Range<usize>, Cow<'_, [u8]>) {
    let text = &row[range.clone()];
    let [QUOTE, inner @ ..] = text else { return (range, Cow::Borrowed(text)) };
    let plain = memchr(QUOTE, inner).is_none_or(|at| at + 1 == inner.len());
    if plain {
        let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
        return (range.start + 1..range.start + 1 + inner.len(), Cow::Borrowed(inner));
    }
    let mut value = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(found) = memchr(QUOTE, &inner[at..]) {
        value.extend_from_slice(&inner[at..at + found]);
        at += found + 1;
        if inner.get(at) != Some(&QUOTE) {
            break;
        }
        value.push(QUOTE);
        at += 1;
    }
    // What follows a closing quote is kept as it is, as other readers do.
    value.extend_from_slice(&inner[at..]);
    let end = range.end - usize::from(inner.ends_with(b"\""));
    (range.start + 1..end, Cow::Owned(value))
}

fn names(header: &[u8], delimiter: u8) -> Vec<Cow<'_, [u8]>> {
    (0..).map_while(|index| field(header, delimiter, index)).map(|range| unquote(header, range).1).collect()
}

fn trim_return(row: &[u8]) -> &[u8] {
    row.strip_suffix(b"\r").unwrap_or(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn csv(column: &str, limit: usize) -> Csv {
        Csv::new(b',', KeyColumn::Named(Column::new(column)), None, None, limit)
    }

    fn rows(out: &Records, block: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (0..out.len()).map(|i| (text(out.key(block, i).unwrap()), text(out.payload(block, i)))).collect()
    }

    #[test]
    fn keys_by_column_name() {
        let block = b"id,name\r\n1,a\r\n2,\"b,\n\"\"c\"\"\"\n\n3\n4,d";
        let mut decoder = csv("name", 100);
        let mut out = Records::default();
        assert_eq!(decoder.decode(block, true, &mut out).unwrap(), block.len());
        assert_eq!(decoder.header(), Some(&b"id,name"[..]));
        let expected = [("a", "1,a"), ("b,\n\"c\"", "2,\"b,\n\"\"c\"\"\""), ("d", "4,d")];
        assert_eq!(rows(&out, block), expected.map(|(k, p)| (k.to_owned(), p.to_owned())));
        assert_eq!((out.refused[0].number, out.refused[0].after), (5, 2));
    }

    #[test]
    fn plain_rows_are_joined() {
        let mut decoder = csv("b", 100);
        let mut out = Records::default();
        decoder.decode(b"a,b\n1,2\n", false, &mut out).unwrap();
        assert_eq!(out.joined, None, "the header stands before them");
        out.clear();
        decoder.decode(b"3,4\n5,\"6\"\n", false, &mut out).unwrap();
        assert_eq!(out.joined, Some(b'\n'));
        assert_eq!(rows(&out, b"3,4\n5,\"6\"\n")[1].0, "6");
        assert!(!out.key_in_arena);
        out.clear();
        decoder.decode(b"3,4\r\n", false, &mut out).unwrap();
        assert_eq!(out.joined, None);
    }

    #[test]
    fn a_header_without_the_column_says_what_it_has() {
        let error = csv("c", 100).decode(b"\xef\xbb\xbfa,b\n", true, &mut Records::default()).unwrap_err();
        assert!(error.to_string().contains("no column `c`; it has a, b"), "{error}");
    }

    #[test]
    fn an_open_quote_takes_the_rest_as_one_row() {
        let block = b"a\n1\n\"2\n3\n";
        let mut out = Records::default();
        assert_eq!(csv("a", 100).decode(block, true, &mut out).unwrap(), block.len());
        assert_eq!((out.len(), out.refused.len(), out.refused[0].number), (1, 1, 3));
    }

    #[test]
    fn a_dropped_row_ends_where_it_would_have() {
        let mut decoder = csv("a", 4);
        let mut out = Records::default();
        assert_eq!(decoder.decode(b"a\n\"1234567\n", false, &mut out).unwrap(), 11);
        assert_eq!(decoder.decode(b"\"\"x\n", false, &mut out).unwrap(), 4);
        assert_eq!(decoder.decode(b"\"\n7\n", false, &mut out).unwrap(), 4);
        assert_eq!((out.refused.len(), out.len(), out.refused[0].number), (1, 1, 2));
    }

    #[test]
    fn no_header_in_an_empty_input() {
        let mut decoder = csv("a", 4);
        assert_eq!(decoder.decode(b"", true, &mut Records::default()).unwrap(), 0);
        assert_eq!(decoder.header(), None);
    }

    proptest! {
        /// What another implementation writes is read field by field as it meant it.
        #[test]
        fn reads_what_the_csv_crate_writes(table in prop::collection::vec(("[a,\"\n]{0,6}", "[a,\"\n\r]{0,6}"), 0..20)) {
            let mut writer = ::csv::Writer::from_writer(Vec::new());
            writer.write_record(["x", "y"]).unwrap();
            for (x, y) in &table {
                writer.write_record([x, y]).unwrap();
            }
            let block = writer.into_inner().unwrap();
            let mut out = Records::default();
            prop_assert_eq!(csv("y", 1000).decode(&block, true, &mut out).unwrap(), block.len());
            let keys: Vec<_> = rows(&out, &block).into_iter().map(|(key, _)| key).collect();
            let expected: Vec<_> = table.into_iter().map(|(_, y)| y).collect();
            prop_assert_eq!(keys, expected);
        }
    }
}
