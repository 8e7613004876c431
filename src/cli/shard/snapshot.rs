//! `kshard snapshot`.

use std::ffi::OsString;

use super::{files, moved};
use crate::cli::about;
use crate::cli::args::{CommonArgs, StreamArg};
use crate::cli::{Outcome, signal, stream_name};
use crate::stream::transport::snapshot;

/// Copy a stream as it is at one moment, while writers run
///
/// Sealed segments are linked where DEST is on the same file system, the rest is copied up to the last whole frame.
/// The copy has the stream's UUID: it is a backup, to be read or to be put in the place of what was lost. One that
/// will live on beside its source needs --as-new.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// The copy: a name or a path, as for STREAM; it must not exist
    #[arg(value_name = "DEST")]
    to: OsString,

    /// Make it a stream of its own: a new UUID under all checksums; nothing is linked
    #[arg(long)]
    as_new: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// Copies it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let shutdown = signal::install()?;
    let stream = about::open(&args.stream)?;
    let to = stream_name::resolve(&args.to)?;
    let total = files::of(&stream)?.iter().map(|(_, files)| files.bytes).sum();
    let meter = args.common.meter("kshard", Some(total));
    let done = snapshot(&stream, &to, args.as_new, &mut |records, bytes| {
        meter.add(records, bytes);
        Ok(shutdown.check()?)
    });
    meter.finish();
    let done = about::between(done, stream.path(), &to)?;
    args.common.note("kshard", &format!("copied {} to {}", moved(&done), to.display()));
    Ok(Outcome::Done)
}
