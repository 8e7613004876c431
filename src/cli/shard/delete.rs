//! `kshard delete`.

use crate::cli::Outcome;
use crate::cli::about::{self, About};
use crate::cli::args::{CommonArgs, StreamArg};

/// Remove a stream and all that is in it
///
/// Nothing is asked. A stream that has named consumers, or to which a program is writing, is removed with --force only.
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
    let path = args.stream.resolve()?;
    if args.if_exists && !path.exists() {
        return Ok(Outcome::Done);
    }
    let stream = about::open(&args.stream)?;
    stream.delete(args.force).about(&path)?;
    args.common.note("kshard", &format!("deleted {}", path.display()));
    Ok(Outcome::Done)
}
