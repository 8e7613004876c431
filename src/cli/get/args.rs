//! What kget can be told.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::cli::args::{CommonArgs, FollowArgs, RangeArgs, StreamArg};
use crate::cli::value::{self, OnError, show_size};
use crate::codec::OutputFormat;
use crate::record::ShardId;
use crate::stream;

/// Read a stream: from trim-horizon, with -f from latest, with --consumer from its checkpoint
#[derive(Debug, Clone, Parser)]
pub struct GetArgs {
    #[command(flatten)]
    pub(super) stream: StreamArg,

    #[command(flatten)]
    pub(super) range: RangeArgs,

    #[command(flatten)]
    pub(super) follow: FollowArgs,

    /// Read only this shard, and none that goes on from it
    #[arg(long, value_name = "SHARD")]
    pub(super) shard: Option<ShardId>,

    /// Read the shards one after the other, or all of them by arrival time
    #[arg(long, value_name = "ORDER", value_enum, default_value_t)]
    #[arg(
        hide_possible_values = true,
        help = "The order over all shards: shard (one after the other) or arrival, with -f as near as can be"
    )]
    pub(super) order: ByOrder,

    /// Write records as lines, nul, framed, json, csv, base64, or a template such as '{seq} {payload}\n' [default:
    /// lines]
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<OutputFormat>,

    /// Write records as this template says, as '{key} {seq} {time} {payload}\n'
    #[arg(long, value_name = "TEXT", value_parser = OutputFormat::template, conflicts_with = "output")]
    template: Option<OutputFormat>,

    /// Show only what is on the disk, and sync first what is not yet
    #[arg(long)]
    pub(super) durable: bool,

    /// Leave records that the Kinesis Producer Library aggregated as they are
    #[arg(long)]
    pub(super) no_deaggregate: bool,

    /// Exit with status 1 if there was no record
    #[arg(long)]
    pub(super) fail_empty: bool,

    /// What becomes of damage: fail, skip, reject or reject=FILE [default: fail, with -f reject]
    #[arg(long, value_name = "ACTION")]
    on_error: Option<OnError>,

    // Before those of consumers, whose heading all that follows would stand under.
    #[command(flatten)]
    pub(super) common: CommonArgs,

    #[command(flatten)]
    pub(super) consumer: ConsumerArgs,
}

/// Reading under a name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Consumer options")]
pub(super) struct ConsumerArgs {
    /// Go on where this consumer was, and write down how far it comes; --from says where a new one begins
    #[arg(long = "consumer", value_name = "NAME", value_parser = value::name)]
    #[arg(conflicts_with_all = ["shard", "order"])]
    pub(super) name: Option<String>,

    /// Give each batch to this shell command's standard input, and commit it when the command exits 0
    #[arg(long, value_name = "COMMAND", requires = "name")]
    pub(super) exec: Option<String>,

    /// Give it at most so many records, or so many bytes (up to 24MiB), at once
    #[arg(long, value_name = "COUNT|SIZE", requires = "exec", default_value = "10000")]
    pub(super) batch_size: BatchSize,

    /// Wait so long for a batch to become full
    #[arg(long, value_name = "DURATION", requires = "exec", value_parser = value::duration, default_value = "0")]
    pub(super) batch_interval: Duration,

    /// Wait at most so long before a command that failed is tried again
    #[arg(long, value_name = "DURATION", requires = "exec", value_parser = value::duration, default_value = "1m")]
    pub(super) max_backoff: Duration,

    /// Take over from a worker that has been silent for so long; one that ended is taken over from at once
    #[arg(long, value_name = "DURATION", requires = "name", value_parser = failover, default_value = "10s")]
    pub(super) failover: Duration,

    /// Reserve what is handed out, and write a bookmark to this file for --commit
    #[arg(long, value_name = "FILE", requires = "name", conflicts_with_all = ["exec", "follow"])]
    pub(super) bookmark: Option<PathBuf>,

    /// Hand it out again when the bookmark has not been committed for so long
    #[arg(long, value_name = "DURATION", requires = "bookmark", value_parser = value::duration, default_value = "5m")]
    pub(super) bookmark_timeout: Duration,

    /// Commit a bookmark, and read nothing
    #[arg(long, value_name = "FILE", requires = "name")]
    #[arg(conflicts_with_all = ["exec", "bookmark", "follow", "from", "until", "limit"])]
    pub(super) commit: Option<PathBuf>,
}

/// When a batch is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchSize {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// What a function of the service is given at most.
const BATCH_BYTES: u64 = 6 << 20;

impl FromStr for BatchSize {
    type Err = String;

    /// A bare number is of records; with a unit it is a size.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("it must be above zero".to_owned()),
            Ok(records) => Ok(Self { records, bytes: BATCH_BYTES }),
            Err(_) => match value::size_above_zero(text)? {
                bytes if bytes > BATCH_BYTES_MAX => {
                    Err(format!("at most {} are kept for a command", show_size(BATCH_BYTES_MAX)))
                }
                bytes => Ok(Self { records: u64::MAX, bytes }),
            },
        }
    }
}

/// Kept in memory until the command has exited 0.
const BATCH_BYTES_MAX: u64 = 24 << 20;

fn failover(text: &str) -> Result<Duration, String> {
    let time = value::duration(text)?;
    if time < Duration::from_secs(1) { Err("it must be at least 1s".to_owned()) } else { Ok(time) }
}

/// In which order the shards are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ByOrder {
    #[default]
    Shard,
    Arrival,
}

impl GetArgs {
    /// The output format that was asked for.
    pub(super) fn format(&self) -> OutputFormat {
        self.template.as_ref().or(self.output.as_ref()).cloned().unwrap_or(OutputFormat::Lines)
    }

    /// The order in which a reader shall read. Nobody waits for a shard that has no end yet.
    pub(super) fn order(&self) -> stream::Order {
        match self.order {
            ByOrder::Arrival => stream::Order::Arrival,
            ByOrder::Shard if self.follow.follow => stream::Order::Turns,
            ByOrder::Shard => stream::Order::Shard,
        }
    }

    /// What becomes of damage.
    pub(super) fn on_error(&self) -> OnError {
        let default = if self.follow.follow { OnError::Reject(None) } else { OnError::Fail };
        self.on_error.clone().unwrap_or(default)
    }
}
