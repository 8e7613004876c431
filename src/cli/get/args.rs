//! What kget can be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::cli::args::{CommonArgs, FollowArgs, OnErrorArgs, RangeArgs, StreamArg};
use crate::cli::value::{self, OnError};
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
        help = "The order over all shards: shard (one after the other) or arrival"
    )]
    pub(super) order: ByOrder,

    /// Write records as raw, nul, framed, json, csv, base64, or a template such as '{seq} {payload}\n' [default: raw]
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<OutputFormat>,

    /// Write records as this template says, as '{key} {seq} {time} {payload}\n'
    #[arg(long, value_name = "TEXT", conflicts_with = "output")]
    template: Option<String>,

    /// Show only what is on the disk, and sync first what is not yet
    #[arg(long)]
    pub(super) durable: bool,

    /// Leave records that the Kinesis Producer Library aggregated as they are
    #[arg(long)]
    pub(super) no_deaggregate: bool,

    /// Exit with status 1 if there was no record
    #[arg(long)]
    pub(super) fail_empty: bool,

    #[command(flatten)]
    pub(super) on_error: OnErrorArgs,

    #[command(flatten)]
    pub(super) common: CommonArgs,
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
        let template = self.template.clone().map(OutputFormat::Template);
        template.or_else(|| self.output.clone()).unwrap_or(OutputFormat::Lines)
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
        self.on_error.action(!self.follow.follow)
    }
}
