//! Formats as they are asked for: names, settings, and which go together.

use std::str::FromStr;
use std::sync::Arc;

use super::Format;
use super::arrow_ipc::{ArrowCompression, ArrowFormat, ArrowOptions};
use super::columns::Columns;
use super::compress::Compression;
use super::csv::{CsvFormat, CsvOptions};
use super::parquet::{ParquetFormat, ParquetOptions};
use super::text::{Layout, TextFormat};
use crate::table::{CsvRows, RowOptions, Schema};

/// A format of objects by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FormatName {
    /// Payloads back to back, with nothing added.
    Raw,
    /// Payloads with a delimiter behind each.
    Lines,
    /// JSON values, one on each line.
    Ndjson,
    /// Columns with commas between them.
    Csv,
    /// Columns with tabs between them.
    Tsv,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow's file format.
    Arrow,
    /// Apache Arrow's stream format.
    ArrowStream,
}

impl FormatName {
    /// What can be given to `--output`.
    pub const NAMES: &[&str] = &["raw", "lines", "ndjson", "csv", "tsv", "parquet", "arrow", "arrow-stream"];

    /// Every one, in the order of the names.
    pub const ALL: [Self; 8] = [
        Self::Raw,
        Self::Lines,
        Self::Ndjson,
        Self::Csv,
        Self::Tsv,
        Self::Parquet,
        Self::Arrow,
        Self::ArrowStream,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether records become rows of columns, so that there is a schema.
    pub fn has_columns(self) -> bool {
        !matches!(self, Self::Raw | Self::Lines | Self::Ndjson)
    }

    /// The format and the compression that an object of this name has, as `data.ndjson.gz`: the last one or two ends of
    /// the name count.
    pub fn of_object(name: &str) -> Option<(Self, Option<Compression>)> {
        let file = name.rsplit('/').next().unwrap_or(name);
        let (stem, end) = file.rsplit_once('.')?;
        let format = |end: &str| {
            Some(match end {
                "ndjson" | "jsonl" | "json" => Self::Ndjson,
                "csv" => Self::Csv,
                "tsv" => Self::Tsv,
                "txt" | "log" => Self::Lines,
                "parquet" => Self::Parquet,
                "arrow" | "feather" => Self::Arrow,
                "arrows" => Self::ArrowStream,
                _ => return None,
            })
        };
        if let Some(format) = format(end) {
            return Some((format, None));
        }
        let compression = match end {
            "gz" => "gzip",
            "zip" => "zip",
            "snappy" | "sz" => "snappy",
            "hsnappy" => "hadoop-snappy",
            "zst" => "zstd",
            "lz4" => "lz4",
            _ => return None,
        };
        let inner =
            stem.rsplit_once('.').and_then(|(_, end)| format(end)).filter(|inner| inner.is_compressible())?;
        Some((inner, compression.parse().ok()))
    }

    fn is_compressible(self) -> bool {
        !matches!(self, Self::Parquet | Self::Arrow | Self::ArrowStream)
    }
}

impl FromStr for FormatName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| {
            let hint = match name {
                "json" | "jsonl" => "; JSON values on lines are ndjson",
                "feather" | "ipc" => "; this one is arrow",
                "orc" => "; ORC is not written, parquet is read by the same programs",
                _ => "",
            };
            format!("`{name}` is not an output format: give one of {}{hint}", Self::NAMES.join(", "))
        })
    }
}

/// What is asked for, as flags give it.
#[derive(Debug, Clone, PartialEq)]
pub struct FormatSpec {
    /// The format.
    pub format: FormatName,
    /// How whole objects are compressed, as `--compression` has it; `None` where nothing was said.
    pub compression: Option<String>,
    /// What stands behind each payload of `lines`.
    pub delimiter: Vec<u8>,
    /// Settings of `csv` and `tsv`. With `tsv` the delimiter is a tab whatever stands here.
    pub csv: CsvOptions,
    /// Settings of `parquet`.
    pub parquet: ParquetOptions,
}

impl FormatSpec {
    /// The format with its own defaults.
    pub fn new(format: FormatName) -> Self {
        let (delimiter, csv, parquet) = (b"\n".to_vec(), CsvOptions::default(), ParquetOptions::default());
        Self { format, compression: None, delimiter, csv, parquet }
    }

    /// Holds the settings against each other, before anything is opened.
    ///
    /// # Errors
    /// As the end of a usage error: what does not go together, why, and what to give instead.
    pub fn check(&self) -> Result<(), String> {
        self.resolve().map(drop)
    }

    fn resolve(&self) -> Result<Resolved, String> {
        let text = self.compression.as_deref();
        Ok(match self.format {
            FormatName::Arrow | FormatName::ArrowStream => {
                let compression = text.map_or(Ok(ArrowCompression::default()), str::parse)?;
                Resolved::Arrow(ArrowOptions { compression, stream: self.format == FormatName::ArrowStream })
            }
            FormatName::Parquet => {
                match text.map(str::parse::<Compression>).transpose()? {
                    None | Some(Compression::None) => {}
                    Some(compression) => {
                        return Err(format!(
                            "{} around Parquet cannot be read in parts: leave it out, or give \
                             `--parquet-compression {}` for what is inside",
                            compression.name(),
                            match compression {
                                Compression::Gzip(_) | Compression::Zip(_) => "gzip",
                                Compression::Zstd(_) => "zstd",
                                Compression::Lz4 => "lz4_raw",
                                Compression::None | Compression::Snappy | Compression::HadoopSnappy =>
                                    "snappy",
                            }
                        ));
                    }
                }
                Resolved::Parquet(self.parquet.clone())
            }
            FormatName::Csv | FormatName::Tsv => {
                let mut options = self.csv.clone();
                if self.format == FormatName::Tsv {
                    options.delimiter = b'\t';
                }
                Resolved::Csv(options, compression(text)?)
            }
            FormatName::Raw => Resolved::Text(Layout::Raw, compression(text)?),
            FormatName::Lines => Resolved::Text(Layout::Lines(self.delimiter.clone()), compression(text)?),
            FormatName::Ndjson => Resolved::Text(Layout::Ndjson, compression(text)?),
        })
    }
}

fn compression(text: Option<&str>) -> Result<Compression, String> {
    text.map_or(Ok(Compression::None), str::parse)
}

enum Resolved {
    Text(Layout, Compression),
    Csv(CsvOptions, Compression),
    Parquet(ParquetOptions),
    Arrow(ArrowOptions),
}

/// Where the columns of formats that have some come from.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnSource {
    /// They are these, and other keys of a record are passed over.
    Fixed(Schema),
    /// They come out of the records. What is known of them already (nothing: `Schema::default()`) stays.
    Inferred(Schema),
}

/// The format that was asked for, ready to work. `source` and `rows` are for formats with columns, whose payloads are
/// JSON objects.
///
/// # Errors
/// As [`FormatSpec::check`], and where settings name columns that a fixed schema has not.
pub fn open_format(
    spec: &FormatSpec,
    source: ColumnSource,
    rows: RowOptions,
) -> Result<Arc<dyn Format>, String> {
    open(spec, source, rows, None)
}

/// The same for payloads that are rows of CSV.
///
/// # Errors
/// As [`open_format`].
pub fn open_format_of_csv(
    spec: &FormatSpec,
    source: ColumnSource,
    rows: RowOptions,
    csv: CsvRows,
) -> Result<Arc<dyn Format>, String> {
    open(spec, source, rows, Some(csv))
}

fn open(
    spec: &FormatSpec,
    source: ColumnSource,
    rows: RowOptions,
    csv: Option<CsvRows>,
) -> Result<Arc<dyn Format>, String> {
    let resolved = spec.resolve()?;
    if let Resolved::Text(layout, compression) = resolved {
        return Ok(Arc::new(TextFormat::new(layout, compression)));
    }
    let is_fixed = matches!(source, ColumnSource::Fixed(_));
    let columns = match source {
        ColumnSource::Fixed(schema) => Columns::fixed(schema, rows),
        ColumnSource::Inferred(schema) => Columns::evolving(schema, rows),
    };
    let columns = match csv {
        None => columns,
        Some(csv) => columns.and_then(|columns| columns.with_csv(csv)),
    };
    let columns = Arc::new(columns.map_err(|e| e.to_string())?);
    Ok(match resolved {
        Resolved::Text(layout, compression) => Arc::new(TextFormat::new(layout, compression)),
        Resolved::Csv(options, compression) => Arc::new(CsvFormat::new(options, compression, columns)?),
        Resolved::Parquet(options) => Arc::new(ParquetFormat::new(options, columns, is_fixed)?),
        Resolved::Arrow(options) => Arc::new(ArrowFormat::new(options, columns)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(format: &str, compression: Option<&str>) -> FormatSpec {
        FormatSpec { compression: compression.map(str::to_owned), ..FormatSpec::new(format.parse().unwrap()) }
    }

    fn open(spec: &FormatSpec) -> Result<Arc<dyn Format>, String> {
        let schema = Schema::parse("id bigint, tags array<string>").unwrap();
        open_format(spec, ColumnSource::Fixed(schema), RowOptions::default())
    }

    #[test]
    fn names_and_ends_of_names() {
        for (name, compression, end) in [
            ("raw", None, ""),
            ("raw", Some("hadoop-snappy"), ".hsnappy"),
            ("lines", Some("snappy"), ".snappy"),
            ("ndjson", Some("gzip:9"), ".ndjson.gz"),
            ("csv", Some("zip"), ".csv.zip"),
            ("tsv", Some("zstd:3"), ".tsv.zst"),
            ("parquet", None, ".parquet"),
            ("parquet", Some("none"), ".parquet"),
            ("arrow", Some("zstd"), ".arrow"),
            ("arrow-stream", None, ".arrows"),
        ] {
            let spec = spec(name, compression);
            assert_eq!(spec.format.name(), name);
            assert_eq!(open(&spec).unwrap().extension(), end);
            assert_eq!(open(&spec).unwrap().columns().is_some(), spec.format.has_columns());
        }
    }

    #[test]
    fn rows_of_csv_become_columns_too() {
        let csv = CsvRows::new(b"a,b", b',').unwrap();
        let source = ColumnSource::Inferred(Schema::default());
        let format = open_format_of_csv(&spec("parquet", None), source, RowOptions::default(), csv).unwrap();
        let prepared = format.prepare(&super::super::text::tests::chunk(&["1,x", "2,y"]));
        assert_eq!((prepared.rows, prepared.bad.len()), (2, 0));
        assert_eq!(format.columns().unwrap().schema().to_ddl(), "a bigint, b string");
    }

    #[test]
    fn what_does_not_go_together_says_what_would() {
        for (name, compression, words) in [
            ("parquet", "gzip:9", "--parquet-compression gzip"),
            ("parquet", "zip", "--parquet-compression gzip"),
            ("parquet", "lz4", "lz4_raw"),
            ("parquet", "lzma", "is not a compression"),
            ("arrow", "gzip", "with one of none, lz4, zstd"),
            ("arrow", "lz4:3", "no levels"),
            ("arrow", "x", "is not a compression of Arrow"),
            ("ndjson", "gzip:11", "1 to 9"),
            ("csv", "brotli", "one of none, gzip"),
        ] {
            let error = spec(name, Some(compression)).check().unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{name} {compression}: {error}");
        }
        for (name, words) in [("json", "ndjson"), ("orc", "parquet"), ("", "raw, lines")] {
            assert!(name.parse::<FormatName>().unwrap_err().contains(words));
        }
        let mut parquet = spec("parquet", None);
        parquet.parquet.sort = vec!["nowhere:desc".parse().unwrap()];
        assert!(open(&parquet).err().unwrap().contains("only id, tags"));
        parquet.parquet.sort = vec!["tags".parse().unwrap()];
        assert!(open(&parquet).err().unwrap().contains("array<string> has no order"));
        parquet.parquet.sort = Vec::new();
        parquet.parquet.bloom = vec!["tag:0.1".parse().unwrap()];
        assert!(open(&parquet).err().unwrap().contains("a bloom filter for `tag`"));
        parquet.parquet.bloom = vec!["tags:0.1".parse().unwrap()];
        open(&parquet).unwrap();
    }

    #[test]
    fn objects_tell_their_format() {
        let of = |name: &str| {
            FormatName::of_object(name)
                .map(|(format, compression)| (format.name(), compression.map(Compression::name)))
        };
        assert_eq!(of("a/b/hits.parquet"), Some(("parquet", None)));
        assert_eq!(of("x.ndjson.gz"), Some(("ndjson", Some("gzip"))));
        assert_eq!(of("x.csv.zst"), Some(("csv", Some("zstd"))));
        assert_eq!(of("x.tsv"), Some(("tsv", None)));
        for name in ["a.parquet/", "x", "x.gz", "x.parquet.gz", "dir.csv/x", ".gz", "x.exe"] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
