//! `kshard delete`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, anyhow};

use crate::cli::about::About;
use crate::cli::args::{CommonArgs, StreamArg};
use crate::cli::report::HintExt;
use crate::cli::stream_name::quote;
use crate::cli::{Outcome, stream_name};
use crate::stream::{Error, Stream, sweep};
use crate::sys::System;

/// Remove a stream and all that is in it
///
/// Nothing is asked. A stream that has named consumers, or to which a program is writing, is removed with --force only; the writers fail then. A symbolic link to a stream is refused: delete what it
/// points to.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// Even if it has consumers or is being written to
    #[arg(long, visible_alias = "enforce-consumer-deletion")]
    force: bool,

    /// Be content with a stream that is not there
    #[arg(long)]
    if_exists: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// Removes it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    // Without a slash at its end, which would look through a link.
    let path: PathBuf = args.stream.resolve()?.components().collect();
    if let Ok(target) = fs::read_link(&path) {
        let target = path.with_file_name("").join(target);
        return Err(anyhow!("is a symbolic link to {}, and only that could be deleted", target.display()))
            .context(stream_name::context(&path))
            .hint(format!("kshard delete {}", quote(&target.to_string_lossy())));
    }
    let system = System::real();
    let stream = match Stream::open(&system, &path) {
        Err(Error::NotFound { .. }) => {
            // A run that was killed may have come so far.
            sweep(&system, &path);
            if args.if_exists && !path.exists() {
                return Ok(Outcome::Done);
            }
            return Err(stream_name::missing(&path));
        }
        other => other.about(&path)?,
    };
    stream.delete(args.force).about(&path)?;
    sweep(&system, &path);
    args.common.note("kshard", &format!("deleted {}", path.display()));
    Ok(Outcome::Done)
}
