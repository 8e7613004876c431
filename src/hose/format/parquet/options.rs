//! How Parquet is written.

use std::fmt;
use std::str::FromStr;

use parquet::basic::{self, GzipLevel, ZstdLevel};

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParquetCompression {
    /// Not at all.
    None,
    /// Snappy.
    Snappy,
    /// Gzip, of this level.
    Gzip(u32),
    /// Zstandard, of this level.
    Zstd(i32),
    /// LZ4 without frames.
    Lz4Raw,
}

impl ParquetCompression {
    /// What can be given to `--parquet-compression`.
    pub const NAMES: &[&str] = &["none", "snappy", "gzip", "zstd", "lz4_raw"];

    pub(super) fn to_parquet(self) -> Result<basic::Compression, String> {
        Ok(match self {
            Self::None => basic::Compression::UNCOMPRESSED,
            Self::Snappy => basic::Compression::SNAPPY,
            Self::Gzip(level) => {
                basic::Compression::GZIP(GzipLevel::try_new(level).map_err(|e| e.to_string())?)
            }
            Self::Zstd(level) => {
                basic::Compression::ZSTD(ZstdLevel::try_new(level).map_err(|e| e.to_string())?)
            }
            Self::Lz4Raw => basic::Compression::LZ4_RAW,
        })
    }

    /// About how many of a hundred bytes of pages are left, as long as nothing better is known.
    pub(super) fn guess(self) -> u64 {
        match self {
            Self::None => 100,
            Self::Snappy | Self::Lz4Raw => 65,
            Self::Gzip(_) | Self::Zstd(_) => 45,
        }
    }
}

impl fmt::Display for ParquetCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Snappy => f.write_str("snappy"),
            Self::Gzip(level) => write!(f, "gzip:{level}"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::Lz4Raw => f.write_str("lz4_raw"),
        }
    }
}

impl FromStr for ParquetCompression {
    type Err = String;

    /// `NAME` or `NAME:LEVEL`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let of = |default: i32, most: i32| match level {
            None => Ok(default),
            Some(level) => level
                .parse()
                .ok()
                .filter(|level| (1..=most).contains(level))
                .ok_or_else(|| format!("`{level}` is not a level of {name}: give 1 to {most}")),
        };
        let plain = |compression| match level {
            None => Ok(compression),
            Some(_) => Err(format!("{name} has no levels: give `{name}`")),
        };
        match name {
            "none" => plain(Self::None),
            "snappy" => plain(Self::Snappy),
            "gzip" => Ok(Self::Gzip(of(6, 9)? as u32)),
            "zstd" => Ok(Self::Zstd(of(1, 22)?)),
            "lz4_raw" | "lz4" => plain(Self::Lz4Raw),
            _ => Err(format!(
                "`{name}` is not a compression of Parquet: give one of {}",
                Self::NAMES.join(", ")
            )),
        }
    }
}

/// A column with a bloom filter: which values it has not can be told without reading it.
#[derive(Debug, Clone, PartialEq)]
pub struct BloomColumn {
    /// Its name, with dots where it is inside another.
    pub column: String,
    /// How often the filter may be wrong.
    pub fpp: f64,
}

impl FromStr for BloomColumn {
    type Err = String;

    /// `COLUMN` or `COLUMN:PROBABILITY`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (column, fpp) = match text.rsplit_once(':') {
            None => (text, 0.01),
            Some((column, fpp)) => {
                let fpp = fpp.parse().ok().filter(|fpp| *fpp > 0.0 && *fpp < 1.0);
                (
                    column,
                    fpp.ok_or_else(|| {
                        format!("`{text}`: the part behind the colon is a probability, as 0.01")
                    })?,
                )
            }
        };
        if column.is_empty() {
            return Err("a bloom filter needs a column".to_owned());
        }
        Ok(Self { column: column.to_owned(), fpp })
    }
}

/// A column that the rows of each row group are in the order of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortColumn {
    /// Its name.
    pub column: String,
    /// Whether the largest come first.
    pub descending: bool,
}

impl FromStr for SortColumn {
    type Err = String;

    /// `COLUMN`, `COLUMN:asc` or `COLUMN:desc`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (column, descending) = match text.rsplit_once(':') {
            None | Some((_, "")) => (text, false),
            Some((column, "asc")) => (column, false),
            Some((column, "desc")) => (column, true),
            Some((_, order)) => return Err(format!("`{order}` is not an order: give asc or desc")),
        };
        if column.is_empty() || column.ends_with(':') {
            return Err(format!("`{text}` names no column to sort by"));
        }
        Ok(Self { column: column.to_owned(), descending })
    }
}

/// Settings of Parquet.
#[derive(Debug, Clone, PartialEq)]
pub struct ParquetOptions {
    /// How pages are compressed. `None`: `zstd:1`, or `snappy` with `compat`.
    pub compression: Option<ParquetCompression>,
    /// About how many bytes a row group has, as it lies in the file.
    pub row_group_bytes: u64,
    /// How many rows it has at most.
    pub row_group_rows: usize,
    /// Bytes of a page before compression.
    pub page_bytes: usize,
    /// Whether columns have a dictionary as long as it is small.
    pub dictionary: bool,
    /// Columns that have none nevertheless.
    pub no_dictionary: Vec<String>,
    /// Columns with a bloom filter.
    pub bloom: Vec<BloomColumn>,
    /// Whether the smallest and largest values of row groups and pages are written.
    pub statistics: bool,
    /// Whether it is written where each page begins, so that single ones can be read.
    pub page_index: bool,
    /// What the rows of each row group are sorted by. Nulls come last.
    pub sort: Vec<SortColumn>,
    /// Whether it must be read by Spark 3 and old Hive: see the module.
    pub compat: bool,
}

/// What readers expect: large enough that a scan is one long read, small enough that several fit in a reader's memory.
const ROW_GROUP_BYTES: u64 = 128 << 20;
const ROW_GROUP_ROWS: usize = 1 << 20;
/// The smallest row group that can be asked for: below it a file would be mostly about itself.
const ROW_GROUP_BYTES_MIN: u64 = 64 << 10;
const PAGE_BYTES: usize = 1 << 20;

impl Default for ParquetOptions {
    fn default() -> Self {
        Self {
            compression: None,
            row_group_bytes: ROW_GROUP_BYTES,
            row_group_rows: ROW_GROUP_ROWS,
            page_bytes: PAGE_BYTES,
            dictionary: true,
            no_dictionary: Vec::new(),
            bloom: Vec::new(),
            statistics: true,
            page_index: true,
            sort: Vec::new(),
            compat: false,
        }
    }
}

impl ParquetOptions {
    /// How pages are compressed.
    pub fn compression(&self) -> ParquetCompression {
        let default = if self.compat { ParquetCompression::Snappy } else { ParquetCompression::Zstd(1) };
        self.compression.unwrap_or(default)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.row_group_bytes < ROW_GROUP_BYTES_MIN {
            return Err(format!(
                "a row group of {} bytes is below {ROW_GROUP_BYTES_MIN}",
                self.row_group_bytes
            ));
        }
        if self.row_group_rows == 0 {
            return Err("a row group has at least one row".to_owned());
        }
        if !(1 << 10..=1 << 30).contains(&self.page_bytes) {
            return Err(format!("a page of {} bytes: give 1 KiB to 1 GiB", self.page_bytes));
        }
        if self.compat && self.compression() == ParquetCompression::Lz4Raw {
            return Err("Spark before 3.5 and Hive before 4 cannot read lz4_raw: give snappy, gzip or zstd"
                .to_owned());
        }
        self.compression().to_parquet().map(drop)
    }
}
