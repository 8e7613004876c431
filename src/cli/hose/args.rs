//! What khose can be told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::cli::args::{CommonArgs, FollowArgs, OneOf};
use crate::cli::value::{self, OnError, Position, show_duration, show_size};
use crate::codec::InputFormat;
use crate::hose::dest::opensearch::Rotation;
use crate::hose::format::compress::Compression;
use crate::hose::format::csv::QuoteStyle;
use crate::hose::format::parquet::{BloomColumn, ParquetCompression, SortColumn};
use crate::hose::format::spec::FormatName;
use crate::hose::name::{Extension, Prefix, Role, Zone};
use crate::hose::stage::Compressed;
use crate::table::TimestampFormat;

/// Deliver streams, or standard input, to object stores and services, each record once
#[derive(Debug, Clone, Parser)]
#[command(name = "khose", max_term_width = 100, override_usage = USAGE)]
pub struct HoseArgs {
    /// The streams to read, or - for standard input; and last the destination: DIR/, s3://, gs://, az://, https://,
    /// opensearch://, splunk://, postgresql://, redshift://, kpipe:STREAM, a file, or - for standard output
    // Options may stand between the words: each of them is an occurrence of its own.
    #[arg(value_name = "SOURCE... DEST", num_args = 1..)]
    pub(super) words: Vec<OsString>,

    /// Take arguments from this TOML file, too: a key for each option, `source` and `destination`
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    #[command(flatten)]
    pub(super) follow: FollowArgs,

    /// Begin here, where nothing was delivered before: a position as of kget [default: trim-horizon]
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub(super) from: Option<Position>,

    /// End at this time, or at latest: what was there when khose began
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub(super) until: Option<Position>,

    /// The delivery's consumer in the stream [default: khose- and a hash of the destination]
    #[arg(long, value_name = "NAME", value_parser = value::name)]
    pub(super) consumer: Option<String>,

    /// Leave a file that would not change as it is, its time included: for a target of make
    #[arg(long)]
    pub(super) if_changed: bool,

    /// Pass what is read on to standard output, a line for each record
    #[arg(long)]
    pub(super) tee: bool,

    /// What becomes of damage in a stream: fail, skip, reject or reject=FILE [default: reject, for one file fail]
    #[arg(long, value_name = "ACTION")]
    pub(super) on_error: Option<OnError>,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    /// Keep what is measured in this file, for the textfile collector of Prometheus' node exporter
    #[arg(long, value_name = "FILE")]
    pub(super) metrics: Option<PathBuf>,

    /// Write messages as text
    #[arg(long, value_name = "FORM", value_enum, default_value_t, hide_possible_values = true)]
    #[arg(help = "Write messages as text, or as json: an object on a line, one for each batch as well")]
    pub(super) log: LogForm,

    #[command(flatten)]
    pub(super) mode: ModeArgs,

    #[command(flatten)]
    pub(super) input: InputArgs,

    #[command(flatten)]
    pub(super) stages: StageArgs,

    #[command(flatten)]
    pub(super) objects: ObjectArgs,

    #[command(flatten)]
    pub(super) table: TableArgs,

    #[command(flatten)]
    pub(super) service: ServiceArgs,
}

/// What to do instead of delivering.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Modes")]
pub(super) struct ModeArgs {
    /// Tell what would be delivered, and write nothing
    #[arg(long, conflicts_with_all = ["verify", "replay"])]
    pub(super) plan: bool,

    /// With --plan: look at so many records and no more [default: all]
    #[arg(short = 'n', long, value_name = "COUNT", requires = "plan")]
    pub(super) limit: Option<u64>,

    /// Compare the destination with the stream: counts, ranges, gaps, duplicates
    #[arg(long, conflicts_with = "replay")]
    pub(super) verify: bool,

    /// With --verify: do not count the rows of the objects
    #[arg(long, requires = "verify")]
    pub(super) quick: bool,

    /// Deliver failed records again, once: SOURCE is where an error output lies
    #[arg(long)]
    pub(super) replay: bool,

    /// With --replay: only records that failed like this, as format-conversion-failed, or with this error code; may be
    /// repeated
    #[arg(long, value_name = "TYPE|CODE", requires = "replay")]
    pub(super) error_type: Vec<String>,

    /// With --replay: only records that failed at this time or later, as -1d
    #[arg(long, value_name = "TIME", requires = "replay", allow_hyphen_values = true)]
    pub(super) since: Option<value::Time>,

    /// With --replay: also records that have failed again in a replay with the same options
    #[arg(long, requires = "replay")]
    pub(super) again: bool,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum LogForm {
    /// Lines for a person.
    #[default]
    Text,
    /// An object per line.
    Json,
}

/// Standard input.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Input options")]
pub(super) struct InputArgs {
    /// Format of standard input: lines, ndjson, csv, tsv, nul, framed, base64 or json (what kget -o json writes)
    /// [default: lines]
    #[arg(short, long, value_name = "FORMAT", value_parser = OneOf(InputFormat::NAMES, str::parse::<InputFormat>), hide_possible_values = true)]
    pub(super) input: Option<InputFormat>,

    /// Keep standard input in this stream first, where no kill can take it; it is created if there is none
    #[arg(long, value_name = "STREAM")]
    pub(super) spool: Option<OsString>,
}

/// What is done to records.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Processing options")]
pub(super) struct StageArgs {
    /// Take several records out of one: json (one value behind the other), or delimited=TEXT
    #[arg(long, value_name = "HOW", value_parser = deaggregate)]
    pub(super) deaggregate: Option<String>,

    /// Decompress each record: gzip, zstd, snappy or auto (by how it begins, or as it is)
    #[arg(long, value_name = "FORMAT", value_parser = OneOf(Compressed::NAMES, word::<Compressed>), hide_possible_values = true)]
    pub(super) decompress: Option<String>,

    /// Take the messages out of CloudWatch Logs records (with --decompress gzip)
    #[arg(long)]
    pub(super) cloudwatch: bool,

    /// Give records to this command in the protocol of the service's Lambda functions, and deliver what it answers
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    pub(super) transform: Option<String>,

    /// Wait so long for its answer to a batch
    #[arg(long, value_name = "DURATION", requires = "transform", value_parser = above_zero, default_value = "5m")]
    pub(super) transform_timeout: Duration,

    /// Give it a batch that failed so often again
    #[arg(long, value_name = "COUNT", requires = "transform", default_value_t = 3)]
    pub(super) transform_retries: u32,

    /// Give records to this command, a line each, and deliver the lines that it prints
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    pub(super) filter: Option<String>,

    /// Deliver what this jq expression makes of each record
    #[arg(long, value_name = "EXPR")]
    pub(super) jq: Option<String>,

    /// Make partition keys with this jq expression: an object, as '{country: .geo.country}'
    #[arg(long, value_name = "EXPR")]
    pub(super) partition_query: Option<String>,
}

/// Objects and their names.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Object options")]
pub(super) struct ObjectArgs {
    /// Format of objects: raw, lines, ndjson, csv, tsv, parquet, arrow or arrow-stream [default: by the file's name,
    /// else ndjson]
    #[arg(short, long, value_name = "FORMAT", value_parser = OneOf(FormatName::NAMES, word::<FormatName>), hide_possible_values = true)]
    pub(super) output: Option<String>,

    /// Compress objects: none, gzip[:1-9], zip[:1-9], snappy, hadoop-snappy, zstd[:1-22] or lz4 [default: by the
    /// file's name, else none; of arrow lz4]
    #[arg(long, value_name = "FORMAT", value_parser = OneOf(Compression::NAMES, word::<Compression>), hide_possible_values = true)]
    pub(super) compression: Option<String>,

    /// What names of objects begin with, as 'dt=!{timestamp:yyyy-MM-dd}/' [default: !{timestamp:yyyy/MM/dd/HH/}]
    #[arg(long, value_name = "TEXT", value_parser = prefix)]
    pub(super) prefix: Option<String>,

    /// Where failed records go: a prefix at the destination, or a place of its own [default:
    /// _errors/!{firehose:error-output-type}/; for a service STREAM/rejects/khose/]
    #[arg(long, value_name = "TEXT|URL")]
    pub(super) errors: Option<String>,

    /// The time zone of timestamps in names
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = word::<Zone>)]
    pub(super) time_zone: String,

    /// What names of objects end with [default: what the format and the compression have]
    #[arg(long, value_name = "TEXT", value_parser = word::<Extension>)]
    pub(super) extension: Option<String>,

    /// Deliver an object, or a batch, when it has this size, as it will lie there [default: 128MiB; of services 5MiB]
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero)]
    pub(super) buffer_size: Option<u64>,

    /// Deliver an object when it is so old (0: at once)
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "5m")]
    pub(super) buffer_interval: Duration,

    /// Keep so many partitions open; when there are more the oldest is delivered
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = count)]
    pub(super) partitions_max: usize,

    /// Hold about this much of open objects in memory
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "64MiB")]
    pub(super) memory: u64,

    /// Keep copies of source records, as they were read: all=URL, or failed=URL (the same as --errors URL)
    #[arg(long, value_name = "WHICH=URL", value_parser = backup)]
    pub(super) backup: Option<String>,
}

/// Rows and columns.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Table options")]
pub(super) struct TableArgs {
    /// The columns: a file (DDL or JSON), or text as 'id bigint, at timestamp' [default: inferred, and kept at the
    /// destination]
    #[arg(long, value_name = "FILE|TEXT")]
    pub(super) schema: Option<String>,

    /// Tell keys apart that differ in case only
    #[arg(long)]
    pub(super) case_sensitive: bool,

    /// Write dots in keys as underscores
    #[arg(long)]
    pub(super) dots_to_underscores: bool,

    /// Fill this column from that key; may be repeated
    #[arg(long, value_name = "COLUMN=KEY", value_parser = pair)]
    pub(super) map: Vec<String>,

    /// Read timestamps as this: a Java pattern, seconds or millis; may be repeated [default: RFC 3339 and the like,
    /// and epoch numbers by their size]
    #[arg(long, value_name = "PATTERN", value_parser = timestamp_format)]
    pub(super) timestamp_format: Vec<String>,

    /// Let columns of text take any value, and columns of numbers text that spells one
    #[arg(long)]
    pub(super) coerce: bool,

    /// Compress Parquet's pages: none, snappy, gzip[:1-9], zstd[:1-22] or lz4 [default: zstd:1; with
    /// --parquet-compat snappy]
    #[arg(long, value_name = "FORMAT", value_parser = OneOf(ParquetCompression::NAMES, word::<ParquetCompression>), hide_possible_values = true)]
    pub(super) parquet_compression: Option<String>,

    /// End Parquet's row groups at this size, from 64KiB on [default: 128MiB]
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero)]
    pub(super) row_group_size: Option<u64>,

    /// End Parquet's pages at this size, before compression, 1KiB to 1GiB [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero)]
    pub(super) page_size: Option<u64>,

    /// Write no dictionaries into Parquet, or none for this column; may be repeated
    #[arg(long, value_name = "COLUMN", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    pub(super) no_dictionary: Vec<String>,

    /// Write a Bloom filter for this column of Parquet; may be repeated [default rate of false positives: 0.01]
    #[arg(long, value_name = "COLUMN[:RATE]", value_parser = word::<BloomColumn>)]
    pub(super) bloom: Vec<String>,

    /// Sort the rows of each of Parquet's row groups by this column; may be repeated
    #[arg(long, value_name = "COLUMN[:desc]", value_parser = word::<SortColumn>)]
    pub(super) sort: Vec<String>,

    /// Write Parquet that Spark 3 and old Hive read
    #[arg(long)]
    pub(super) parquet_compat: bool,

    /// Write CSV without a header
    #[arg(long)]
    pub(super) no_header: bool,

    /// Write this for null in CSV [default: nothing]
    #[arg(long, value_name = "TEXT")]
    pub(super) csv_null: Option<String>,

    /// Quote in CSV: necessary, always, nonnumeric or never [default: necessary]
    #[arg(long, value_name = "STYLE", value_parser = OneOf(QuoteStyle::NAMES, word::<QuoteStyle>), hide_possible_values = true)]
    pub(super) csv_quote: Option<String>,
}

/// Services.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Service options")]
pub(super) struct ServiceArgs {
    /// Try a destination that fails again for so long, up to 24h [default: 5m; of Redshift 1h]
    #[arg(long, value_name = "DURATION", value_parser = retry_duration)]
    pub(super) retry_duration: Option<Duration>,

    /// Wait so long for an answer over HTTP, 1s to 1h; for Splunk's acknowledgements 3m or longer
    #[arg(long, value_name = "DURATION", value_parser = answer_timeout, default_value = "3m")]
    pub(super) timeout: Duration,

    /// The file with the access key of an HTTP endpoint, Splunk's token, or what --auth says
    #[arg(long, value_name = "FILE")]
    pub(super) access_key_file: Option<PathBuf>,

    /// Give an HTTP endpoint this common attribute; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) common: Vec<String>,

    /// Compress requests over HTTP with gzip
    #[arg(long)]
    pub(super) gzip: bool,

    /// Begin a new index each hour, day, week or month of arrival, in UTC [default: none]
    #[arg(long, value_name = "PERIOD", value_parser = OneOf(Rotation::NAMES, word::<Rotation>), hide_possible_values = true)]
    pub(super) index_rotation: Option<String>,

    /// OpenSearch's index, where it is not the last part of the URL
    #[arg(long, value_name = "NAME")]
    pub(super) index: Option<String>,

    /// Give OpenSearch's documents without @timestamp their arrival time
    #[arg(long)]
    pub(super) add_timestamp: bool,

    /// What the file of --access-key-file holds for OpenSearch: basic (user:password), api-key or bearer [default:
    /// basic]
    #[arg(long, value_name = "KIND", requires = "access_key_file", value_parser = OneOf(AUTH_NAMES, auth), hide_possible_values = true)]
    pub(super) auth: Option<String>,

    /// Send records to Splunk as lines of text, where they are no events
    #[arg(long)]
    pub(super) splunk_raw: bool,

    /// Do not wait for Splunk's acknowledgements: a crash of the indexer may lose what it has received
    #[arg(long)]
    pub(super) splunk_no_ack: bool,

    /// Trust these certificates (PEM), too, over HTTP
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
}

/// The forms of a call. With `--config` the words may be in the file.
const USAGE: &str =
    "khose [OPTIONS] SOURCE... DEST\n       khose [OPTIONS] - DEST\n       khose [OPTIONS] --config FILE";

/// The kinds of `--auth`.
pub(super) const AUTH_NAMES: &[&str] = &["basic", "api-key", "bearer"];

/// What the service allows for most destinations is two hours; its buckets have a day.
const RETRY_MAX: Duration = Duration::from_hours(24);
/// Below this nothing answers, above it nobody waits.
const TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));
/// With less than a block of each object there would be objects of a block.
const MEMORY_MIN: u64 = 1 << 20;

/// A word that `T` is made of later, looked at now.
fn word<T: FromStr>(text: &str) -> Result<String, String>
where
    T::Err: ToString,
{
    text.parse::<T>().map(|_| text.to_owned()).map_err(|reason| reason.to_string())
}

fn prefix(text: &str) -> Result<String, String> {
    Prefix::parse(text, Role::Data).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn timestamp_format(text: &str) -> Result<String, String> {
    TimestampFormat::parse(text).map(|_| text.to_owned())
}

fn deaggregate(text: &str) -> Result<String, String> {
    match text.strip_prefix("delimited=") {
        None if text == "json" => Ok(text.to_owned()),
        Some(delimiter) if !delimiter.is_empty() => Ok(text.to_owned()),
        _ => Err("give `json`, or `delimited=TEXT`".to_owned()),
    }
}

/// A command that does nothing would leave every record out.
fn command(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("a command is missing".to_owned()) } else { Ok(text.to_owned()) }
}

fn pair(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("a name, `=` and a value are wanted".to_owned()),
    }
}

fn backup(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("all" | "failed", url)) if !url.is_empty() => Ok(text.to_owned()),
        _ => Err("give `all=URL` or `failed=URL`".to_owned()),
    }
}

fn auth(text: &str) -> Result<String, String> {
    if AUTH_NAMES.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("give one of {}", AUTH_NAMES.join(", ")))
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be above zero".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("a whole number is wanted".to_owned()),
    }
}

fn memory(text: &str) -> Result<u64, String> {
    let size = value::size(text)?;
    if size < MEMORY_MIN { Err(format!("at least {}", show_size(MEMORY_MIN))) } else { Ok(size) }
}

fn above_zero(text: &str) -> Result<Duration, String> {
    let length = value::duration(text)?;
    if length.is_zero() { Err("it must be above zero".to_owned()) } else { Ok(length) }
}

fn retry_duration(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO, RETRY_MAX)
}

fn answer_timeout(text: &str) -> Result<Duration, String> {
    within(text, TIMEOUT.0, TIMEOUT.1)
}

fn within(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let length = value::duration(text)?;
    if (least..=most).contains(&length) {
        return Ok(length);
    }
    Err(format!("{} to {} are possible", show_duration(least), show_duration(most)))
}
