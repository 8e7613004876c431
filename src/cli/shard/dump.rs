//! `kshard dump`.

use std::io::IsTerminal;

use anyhow::Context;

use super::{files, moved};
use crate::cli::about::{self, About};
use crate::cli::args::{CommonArgs, StreamArg};
use crate::cli::output::Stdout;
use crate::cli::report::HintExt;
use crate::cli::{Outcome, signal};
use crate::stream::transport::dump;

/// Write a whole stream to standard output, for `kshard load`
///
/// Records with their sequence numbers and times, shards with their lineage, settings, tags, producers' and consumers'
/// places, all as they are at one moment. Writers may run meanwhile. All of it is verified on its way.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    #[command(flatten)]
    common: CommonArgs,
}

/// Writes it out.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    if std::io::stdout().is_terminal() {
        let hint = "kshard dump STREAM >stream.dump";
        return Err(anyhow::anyhow!("a dump is not for a terminal")).hint(hint);
    }
    let shutdown = signal::install()?;
    let stream = about::open(&args.stream)?;
    let total = files::of(&stream)?.iter().map(|(_, files)| files.bytes).sum();
    let meter = args.common.meter("kshard", Some(total));
    let mut out = Stdout::open(false, Some(shutdown)).context("standard output")?;
    let done = dump(&stream, &mut out, &mut |records, bytes| {
        meter.add(records, bytes);
        Ok(shutdown.check()?)
    });
    meter.finish();
    let done = done.about(stream.path())?;
    args.common.note("kshard", &format!("dumped {}", moved(&done)));
    Ok(Outcome::Done)
}
