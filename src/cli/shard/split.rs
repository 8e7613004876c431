//! `kshard split`.

use serde_json::json;

use super::print::{self, OutputArg};
use crate::cli::Outcome;
use crate::cli::about::{self, About};
use crate::cli::args::StreamArg;
use crate::hash::HashKey;
use crate::record::ShardId;

/// Split a shard in two and print the children
///
/// The lower child keeps the hash keys below the cut, the upper one those from it on. The shard itself takes no more
/// records and is read to its end before its children are.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// The shard, in full (shardId-000000000003) or by its number (3)
    #[arg(value_name = "SHARD")]
    shard: ShardId,

    /// Where the upper child begins; without it in the middle
    #[arg(long, value_name = "HASHKEY")]
    at: Option<HashKey>,

    #[command(flatten)]
    output: OutputArg,
}

/// Splits it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut stream = about::open(&args.stream)?;
    let path = stream.path().to_owned();
    let children = stream.split(args.shard, args.at).about(&path)?;
    children_out(&children, args.output)?;
    Ok(Outcome::Done)
}

/// Prints the shards that a split or merge began, one on a line.
pub(super) fn children_out(children: &[ShardId], output: OutputArg) -> anyhow::Result<()> {
    let names: Vec<String> = children.iter().map(ToString::to_string).collect();
    if output.is_json() {
        print::json(&json!({"Children": names}))
    } else {
        print::text(&(names.join("\n") + "\n"))
    }
}
