//! `kshard repair`.

use std::fmt::Write as _;

use serde_json::json;

use super::check::{document, line};
use super::print::{self, OutputArg};
use crate::cli::about::About;
use crate::cli::args::{CommonArgs, StreamArg};
use crate::cli::report::printable;
use crate::cli::{Outcome, stream_name};
use crate::stream::Error;
use crate::stream::repair::repair;
use crate::sys::System;

/// Mend what `kshard check` finds: keep every good record, and tell readers of the rest once
///
/// Damaged frames are replaced by a gap of the same length in a copy of their segment, a lost manifest is made anew
/// from the shards, index files are rebuilt. What is replaced is kept under STREAM/rejects/. Refuses to touch a shard
/// while a writer is at work in it, unless only index files are to be rebuilt. A second run finds nothing to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    output: OutputArg,

    #[command(flatten)]
    common: CommonArgs,
}

/// Mends it. What cannot be mended is told like damage.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let path = args.stream.resolve()?;
    let (mut lines, mut mended) = (String::new(), Vec::new());
    let verb = if args.dry_run { "to mend: " } else { "mended: " };
    let done = repair(&System::real(), &path, args.dry_run, &mut |problem| {
        let said = line(&path, problem);
        let said = said.strip_prefix("damage: ").or(said.strip_prefix("note: ")).unwrap_or(&said);
        let _ = writeln!(lines, "{verb}{}", printable(said));
        mended.push(document(&path, problem));
    });
    let json = args.output.is_json();
    if !args.common.quiet && !json {
        // What was mended was mended, whatever came then.
        print::text(&lines)?;
    }
    let (stream, keep, left) = match done {
        Err(Error::NotFound { .. }) => return Err(stream_name::missing(&path)),
        other => other.about(&path)?,
    };
    let kept = !mended.is_empty() && keep.exists();
    if kept && !args.dry_run {
        // For whoever finds the directory later.
        let note = format!("kshard repair replaced these files of {}:\n{lines}", path.display());
        let _ = std::fs::write(keep.join("note.txt"), note);
    }
    if json {
        print::json(&json!({
            "StreamName": stream.name(),
            "DryRun": args.dry_run,
            "Mended": mended,
            "Left": left.iter().map(|problem| document(&path, problem)).collect::<Vec<_>>(),
            "Kept": kept.then(|| keep.display().to_string()),
        }))?;
    } else {
        let rest = left.iter().map(|problem| printable(&line(&path, problem)) + "\n");
        print::text(&rest.collect::<String>())?;
        if mended.is_empty() {
            args.common.note("kshard", "nothing to mend");
        } else if kept {
            args.common.note("kshard", &format!("what was replaced is in {}", keep.display()));
        }
    }
    Ok(if left.is_empty() { Outcome::Done } else { Outcome::Refused })
}
