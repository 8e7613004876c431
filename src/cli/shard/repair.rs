//! `kshard repair`.

use std::fmt::Write as _;

use super::check::line;
use super::print;
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
    common: CommonArgs,
}

/// Mends it. What cannot be mended is told like damage.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let path = args.stream.resolve()?;
    let (mut lines, mut mended) = (String::new(), 0u64);
    let verb = if args.dry_run { "to mend: " } else { "mended: " };
    let done = repair(&System::real(), &path, args.dry_run, &mut |stream, problem| {
        mended += 1;
        let said = line(stream, problem);
        let said = said.strip_prefix("damage: ").or(said.strip_prefix("note: ")).unwrap_or(&said);
        let _ = writeln!(lines, "{verb}{}", printable(said));
    });
    if !args.common.quiet {
        print::text(&lines)?;
    }
    let (stream, keep, left) = match done {
        Err(Error::NotFound { .. }) => return Err(stream_name::unknown(&path)),
        other => other.about(&path)?,
    };
    let mut rest = String::new();
    for problem in &left {
        let _ = writeln!(rest, "{}", printable(&line(&stream, problem)));
    }
    print::text(&rest)?;
    if mended == 0 {
        args.common.note("kshard", "nothing to mend");
    } else if keep.exists() {
        args.common.note("kshard", &format!("what was replaced is in {}", keep.display()));
        if !args.dry_run {
            // For whoever finds the directory later.
            let note = format!("kshard repair replaced these files of {}:\n{lines}", path.display());
            let _ = std::fs::write(keep.join("note.txt"), note);
        }
    }
    Ok(if left.is_empty() { Outcome::Done } else { Outcome::Refused })
}
