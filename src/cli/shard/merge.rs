//! `kshard merge`.

use super::print::OutputArg;
use super::split::children_out;
use crate::cli::Outcome;
use crate::cli::about::{self, About};
use crate::cli::args::StreamArg;
use crate::record::ShardId;

/// Merge two neighbouring shards and print the child
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// One shard
    #[arg(value_name = "SHARD")]
    shard: ShardId,

    /// The other, whose hash keys begin where the first one's end, or the other way round
    #[arg(value_name = "ADJACENT")]
    adjacent: ShardId,

    #[command(flatten)]
    output: OutputArg,
}

/// Merges them.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut stream = about::open(&args.stream)?;
    let path = stream.path().to_owned();
    let child = stream.merge(args.shard, args.adjacent).about(&path)?;
    children_out(&[child], args.output)?;
    Ok(Outcome::Done)
}
