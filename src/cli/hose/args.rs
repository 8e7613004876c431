//! What khose can be told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::cli::args::{CommonArgs, FollowArgs};
use crate::cli::value::{self, OnError, Position};

/// Deliver streams, or standard input, to object stores and services: in batches, converted, partitioned, each record
/// once
#[derive(Debug, Clone, Parser)]
pub struct HoseArgs {
    /// The streams to read, or - for standard input, and last the destination: a directory, s3://, gs://, az://,
    /// https://, opensearch://, splunk://, postgresql://, redshift://, kpipe:STREAM, a file, or - for standard output
    #[arg(value_name = "SOURCE... DEST", num_args = 2.., required_unless_present = "config")]
    pub(super) words: Vec<OsString>,

    /// Read arguments from this file: TOML, a key for each option, and `source` and `destination`
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    #[command(flatten)]
    pub(super) mode: ModeArgs,

    #[command(flatten)]
    pub(super) follow: FollowArgs,

    /// Begin here where nothing was delivered before: trim-horizon (the default), latest, or a time
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub(super) from: Option<Position>,

    /// End before this position
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub(super) until: Option<Position>,

    /// The consumer's name [default: made of the destination]
    #[arg(long, value_name = "NAME", value_parser = value::name)]
    pub(super) consumer: Option<String>,

    /// Write the file only if there is something that it has not: for a target of make
    #[arg(long)]
    pub(super) if_changed: bool,

    /// Print what is read, too, as it came
    #[arg(long)]
    pub(super) tee: bool,

    /// What becomes of damage in a stream: fail, skip, reject or reject=FILE [default: reject]
    #[arg(long, value_name = "ACTION")]
    pub(super) on_error: Option<OnError>,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    /// Write what is measured to this file, for the node exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    pub(super) metrics: Option<PathBuf>,

    /// Write messages as text or json
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub(super) log: LogForm,

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
#[group(multiple = false)]
pub(super) struct ModeArgs {
    /// Tell what would be delivered, and touch nothing
    #[arg(long)]
    pub(super) plan: bool,

    /// Compare the destination with the stream: counts, ranges, gaps, duplicates
    #[arg(long)]
    pub(super) verify: bool,

    /// Deliver failed records again: SOURCE is the place of an error output
    #[arg(long)]
    pub(super) replay: bool,
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
    /// Cut standard input as lines, ndjson, csv, tsv, nul, framed, base64 or json (envelopes) [default: lines]
    #[arg(short, long, value_name = "FORMAT")]
    pub(super) input: Option<crate::codec::InputFormat>,

    /// Keep standard input in a stream of its own first: durable before it is delivered
    #[arg(long, value_name = "STREAM")]
    pub(super) spool: Option<OsString>,
}

/// What is done to records.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Processing options")]
pub(super) struct StageArgs {
    /// Take several records out of one: json, or delimited=TEXT
    #[arg(long, value_name = "HOW")]
    pub(super) deaggregate: Option<String>,

    /// Decompress each record: gzip, zstd, snappy or auto
    #[arg(long, value_name = "FORMAT")]
    pub(super) decompress: Option<String>,

    /// Take the messages out of CloudWatch Logs records
    #[arg(long)]
    pub(super) cloudwatch: bool,

    /// Give records to this command as the service gives them to a Lambda function
    #[arg(long, value_name = "COMMAND")]
    pub(super) transform: Option<String>,

    /// Wait so long for the answer to a batch
    #[arg(long, value_name = "DURATION", requires = "transform", value_parser = value::duration, default_value = "5m")]
    pub(super) transform_timeout: Duration,

    /// Give a batch to it so often again when it failed
    #[arg(long, value_name = "COUNT", requires = "transform", default_value_t = 3)]
    pub(super) transform_retries: u32,

    /// Give records to this command, a line each, and deliver the lines that come out
    #[arg(long, value_name = "COMMAND")]
    pub(super) filter: Option<String>,

    /// Deliver what this jq expression makes of each record
    #[arg(long, value_name = "EXPR")]
    pub(super) jq: Option<String>,

    /// Partition keys, as a jq expression that makes an object of them
    #[arg(long, value_name = "EXPR")]
    pub(super) partition_query: Option<String>,
}

/// Objects and their names.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Object options")]
pub(super) struct ObjectArgs {
    /// Write raw, lines, ndjson, csv, tsv, parquet or arrow [default: the file's extension, else ndjson]
    #[arg(short, long, value_name = "FORMAT")]
    pub(super) output: Option<String>,

    /// Compress objects: none, gzip, zip, snappy, hadoop-snappy, zstd or lz4, with :LEVEL where there are levels
    #[arg(long, value_name = "FORMAT")]
    pub(super) compression: Option<String>,

    /// What names begin with, as 'dt=!{timestamp:yyyy-MM-dd}/' [default: !{timestamp:yyyy/MM/dd/HH/}]
    #[arg(long, value_name = "TEXT")]
    pub(super) prefix: Option<String>,

    /// What names of failed records begin with, or a URL for them [default: _errors/!{firehose:error-output-type}/]
    #[arg(long, value_name = "TEXT|URL")]
    pub(super) errors: Option<String>,

    /// The time zone of timestamps in names
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(super) time_zone: String,

    /// What names end with [default: what the format has]
    #[arg(long, value_name = "TEXT")]
    pub(super) extension: Option<String>,

    /// End an object, or a batch, at this size [default: 128MiB, for services 5MiB]
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero)]
    pub(super) buffer_size: Option<u64>,

    /// End an object at this age
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "5m")]
    pub(super) buffer_interval: Duration,

    /// Keep so many partitions open; the oldest is delivered when there are more
    #[arg(long, value_name = "COUNT", default_value_t = 500)]
    pub(super) partitions_max: usize,

    /// Hold about so much in memory for open objects
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero, default_value = "64MiB")]
    pub(super) memory: u64,

    /// Keep a copy of the source records here: failed=URL or all=URL
    #[arg(long, value_name = "WHICH=URL")]
    pub(super) backup: Option<String>,
}

/// Rows and columns.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Table options")]
pub(super) struct TableArgs {
    /// The columns: a JSON file, or text such as 'id bigint, at timestamp' [default: inferred, and kept]
    #[arg(long, value_name = "FILE|TEXT")]
    pub(super) schema: Option<String>,

    /// Tell keys apart that differ in case only
    #[arg(long)]
    pub(super) case_sensitive: bool,

    /// Write dots in keys as underscores
    #[arg(long)]
    pub(super) dots_to_underscores: bool,

    /// Fill this column from that key
    #[arg(long, value_name = "COLUMN=KEY")]
    pub(super) map: Vec<String>,

    /// Read timestamps as this: a Java pattern, seconds or millis; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(super) timestamp_format: Vec<String>,

    /// Let columns of text take numbers and the rest, and columns of numbers take text that spells one
    #[arg(long)]
    pub(super) coerce: bool,

    /// Compress Parquet pages: zstd, snappy, gzip, lz4 or none, with :LEVEL where there are levels [default: zstd]
    #[arg(long, value_name = "FORMAT")]
    pub(super) parquet_compression: Option<String>,

    /// End a row group at this size
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero)]
    pub(super) row_group_size: Option<u64>,

    /// End a page at this size
    #[arg(long, value_name = "SIZE", value_parser = value::size_above_zero)]
    pub(super) page_size: Option<u64>,

    /// Write no dictionaries, or none for this column
    #[arg(long, value_name = "COLUMN", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    pub(super) no_dictionary: Vec<String>,

    /// Write a Bloom filter for this column, with this rate of false positives
    #[arg(long, value_name = "COLUMN[:RATE]")]
    pub(super) bloom: Vec<String>,

    /// Sort the rows of each row group by this column
    #[arg(long, value_name = "COLUMN[:desc]")]
    pub(super) sort: Vec<String>,

    /// Write Parquet that Spark 3 and old Hive read
    #[arg(long)]
    pub(super) parquet_compat: bool,

    /// Write CSV without a header
    #[arg(long)]
    pub(super) no_header: bool,

    /// Write this for null in CSV
    #[arg(long, value_name = "TEXT")]
    pub(super) csv_null: Option<String>,

    /// Quote in CSV: necessary, always, nonnumeric or never
    #[arg(long, value_name = "STYLE")]
    pub(super) csv_quote: Option<String>,
}

/// Services.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Service options")]
pub(super) struct ServiceArgs {
    /// Try again for so long before records go to the error output, or the run fails [default: 5m, Redshift 1h]
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub(super) retry_duration: Option<Duration>,

    /// Wait so long for an answer
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "3m")]
    pub(super) timeout: Duration,

    /// The file with the access key, token or password
    #[arg(long, value_name = "FILE")]
    pub(super) access_key_file: Option<PathBuf>,

    /// An attribute that each request carries
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) common: Vec<String>,

    /// Compress requests
    #[arg(long)]
    pub(super) gzip: bool,

    /// Begin a new index each hour, day, week or month, or none
    #[arg(long, value_name = "PERIOD")]
    pub(super) index_rotation: Option<String>,

    /// The index, where it is not the last part of the URL
    #[arg(long, value_name = "NAME")]
    pub(super) index: Option<String>,

    /// Give documents without @timestamp their arrival time
    #[arg(long)]
    pub(super) add_timestamp: bool,

    /// What the access key is to OpenSearch: basic (user:password), api-key or bearer
    #[arg(long, value_name = "KIND", requires = "access_key_file")]
    pub(super) auth: Option<String>,

    /// Send records to Splunk as lines of text, and not as events
    #[arg(long)]
    pub(super) splunk_raw: bool,

    /// Do not wait for Splunk's acknowledgements
    #[arg(long)]
    pub(super) splunk_no_ack: bool,

    /// Trust these certificates (PEM) too
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
}
