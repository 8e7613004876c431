//! `kshard route`.

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, anyhow};
use serde_json::json;

use super::print::OutputArg;
use crate::cli::Outcome;
use crate::cli::about;
use crate::cli::args::StreamArg;
use crate::cli::output::Stdout;
use crate::hash::HashKey;
use crate::stream::Router;

/// Tell to which shard a record with a key goes
///
/// Prints the key, its hash key and the shard, apart by tabs, for each key given or else for each line of standard
/// input.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// Partition keys; without any the lines of standard input
    #[arg(value_name = "KEY")]
    keys: Vec<OsString>,

    /// The keys are explicit hash keys, decimal
    #[arg(long)]
    explicit: bool,

    #[command(flatten)]
    output: OutputArg,
}

/// Tells it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stream = about::open(&args.stream)?;
    let router = Router::new(stream.manifest());
    let mut out = Stdout::open(false, None).context("standard output")?;
    let mut tell = |key: &[u8], place: &dyn Fn() -> String| -> anyhow::Result<()> {
        let hash = if args.explicit {
            let text = String::from_utf8_lossy(key);
            text.parse::<HashKey>().map_err(|error| anyhow!("{}{error}", place()))?
        } else {
            HashKey::of(key)
        };
        let shard = router.shard(hash);
        if args.output.is_json() {
            let line = json!({
                "PartitionKey": if args.explicit { None } else { Some(String::from_utf8_lossy(key)) },
                "HashKey": hash.to_string(),
                "ShardId": shard.to_string(),
            });
            writeln!(out, "{line}").context("standard output")
        } else {
            out.write_all(key).and_then(|()| writeln!(out, "\t{hash}\t{shard}")).context("standard output")
        }
    };
    if args.keys.is_empty() {
        let mut input = io::stdin().lock();
        let (mut line, mut number) = (Vec::new(), 0u64);
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line).context("standard input")? == 0 {
                break;
            }
            number += 1;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            tell(&line, &|| format!("standard input: line {number}: "))?;
        }
    } else {
        for key in &args.keys {
            tell(key.as_bytes(), &String::new)?;
        }
    }
    out.flush().context("standard output")?;
    Ok(Outcome::Done)
}
