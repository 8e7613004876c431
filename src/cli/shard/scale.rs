//! `kshard scale`.

use anyhow::anyhow;
use serde_json::json;

use super::print::{self, OutputArg};
use crate::cli::Outcome;
use crate::cli::about::{self, About};
use crate::cli::args::StreamArg;
use crate::cli::report::HintExt;
use crate::stream::SHARDS_MAX;

/// Make the stream one of COUNT equal shards
///
/// It is done by splits and merges, as the service's `UpdateShardCount` does it, and can be done again after it was
/// killed. It prints how many were done; on a stream that has COUNT equal shards already, 0.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// How many open shards there shall be
    #[arg(value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(SHARDS_MAX)))]
    count: u32,

    /// Refuse more than double or less than half, as the service does
    #[arg(long)]
    enforce_limits: bool,

    #[command(flatten)]
    output: OutputArg,
}

/// Scales it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut stream = about::open(&args.stream)?;
    let path = stream.path().to_owned();
    let before = stream.manifest().open_shards().len() as u32;
    if args.enforce_limits && (args.count > before * 2 || args.count < before.div_ceil(2)) {
        let nearest = if args.count > before { before * 2 } else { before.div_ceil(2) };
        return Err(anyhow!(
            "from {before} shards the service goes to {} at least and {} at most in one step, not to {}",
            before.div_ceil(2),
            before * 2,
            args.count
        ))
        .hint(format!(
            "kshard scale {} {nearest}",
            crate::cli::stream_name::quote(&args.stream.stream.to_string_lossy())
        ));
    }
    let steps = stream.scale(args.count).about(&path)?;
    if args.output.is_json() {
        print::json(&json!({
            "StreamName": stream.name(),
            "CurrentShardCount": before,
            "TargetShardCount": args.count,
            "Steps": steps,
        }))?;
    } else {
        print::text(&format!("{steps} splits and merges: {before} shards became {}\n", args.count))?;
    }
    Ok(Outcome::Done)
}
