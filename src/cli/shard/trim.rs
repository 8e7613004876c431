//! `kshard trim`.

use serde_json::json;

use super::print::{self, OutputArg};
use crate::cli::Outcome;
use crate::cli::about::{self, About};
use crate::cli::args::StreamArg;
use crate::cli::value::about_size;

/// Remove what has expired and print what was freed
///
/// Writers remove expired segments when they begin a new one. This reaches what they do not: shards to which nobody
/// writes, and closed shards. It is meant for crontab.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    #[command(flatten)]
    output: OutputArg,
}

/// Removes it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut stream = about::open(&args.stream)?;
    let path = stream.path().to_owned();
    let freed = stream.trim().about(&path)?;
    if args.output.is_json() {
        let names =
            |shards: &[crate::record::ShardId]| shards.iter().map(ToString::to_string).collect::<Vec<_>>();
        print::json(&json!({
            "FreedBytes": freed.bytes,
            "FreedSegments": freed.segments,
            "ExpiredShards": names(&freed.shards),
            "RolledShards": names(&freed.rolled),
        }))?;
    } else {
        let shards = match freed.shards.len() {
            0 => String::new(),
            1 => ", one closed shard".to_owned(),
            n => format!(", {n} closed shards"),
        };
        print::text(&format!("{} freed: {} segments{shards}\n", about_size(freed.bytes), freed.segments))?;
    }
    Ok(Outcome::Done)
}
