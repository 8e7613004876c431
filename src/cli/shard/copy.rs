//! `kshard copy`.

use std::ffi::OsString;

use crate::cli::about::{self, About};
use crate::cli::args::{CommonArgs, StreamArg};
use crate::cli::report::HintExt;
use crate::cli::value::{about_size, show_count};
use crate::cli::{Outcome, report, signal, stream_name};
use crate::log;
use crate::stream::copy::{Copying, copy, like};
use crate::stream::{Between, Error, Stream};
use crate::sys::System;

/// Copy records into another stream, each once
///
/// Keys, explicit hash keys, timestamps and attributes stay; sequence numbers and arrival times are the target's. The
/// target remembers how far each shard was copied, so a copy that was killed goes on where it was, and a later one
/// brings what is new. A target that does not exist is made like the source, with as many shards as are open there.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// The stream to copy into: a name or a path, as for STREAM
    #[arg(value_name = "TARGET")]
    to: OsString,

    #[command(flatten)]
    common: CommonArgs,
}

/// Copies.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let shutdown = signal::install()?;
    let mut source = about::open(&args.stream)?;
    let path = stream_name::resolve(&args.to)?;
    let system = System::real();
    let to = match Stream::open(&system, &path) {
        Err(Error::NotFound { .. }) => match Stream::create(&system, &path, &like(&source)) {
            // Another copy was faster.
            Err(Error::Exists { .. }) => Stream::open(&system, &path),
            other => other,
        },
        other => other,
    };
    let to = to.about(&path)?;
    let meter = args.common.meter("kshard", None);
    let mut damaged = false;
    let done = copy(&mut source, &to, &mut |what| {
        match what {
            Copying::Progress(records, bytes) => meter.add(records, bytes),
            Copying::Missed(shard, missed) => meter.aside(|| {
                let count = show_count(missed.to - missed.from);
                let text = format!("{shard}: up to {count} records were gone before they were copied");
                report::say("kshard", &text, None);
            }),
            Copying::Damage(shard, damage) => {
                damaged = true;
                meter.aside(|| {
                    let text = format!(
                        "{shard}: {}: damaged at byte {}: {}: left out",
                        damage.path.display(),
                        damage.offset,
                        damage.reason
                    );
                    report::say("kshard", &text, Some("kshard check"));
                });
            }
        }
        Ok(shutdown.check()?)
    });
    meter.finish();
    let another =
        matches!(done, Err(Between::Target(Error::Shard { source: log::Error::Fenced { .. }, .. })));
    let done = match about::between(done, source.path(), &path) {
        // The name of the producer is none that was typed.
        Err(error) if another => return Err(error).hint("one kshard copy at a time into one stream"),
        other => other?,
    };
    let text = format!(
        "copied {} records, {}, to {}",
        show_count(done.records),
        about_size(done.bytes),
        path.display()
    );
    args.common.note("kshard", &text);
    Ok(if damaged { Outcome::Refused } else { Outcome::Done })
}
