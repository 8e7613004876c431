//! `kshard copy`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::about::{self, About};
use crate::cli::args::{CommonArgs, FollowArgs, StreamArg};
use crate::cli::report::HintExt;
use crate::cli::signal::Shutdown;
use crate::cli::value::{about_size, show_count};
use crate::cli::{Outcome, report, signal, stream_name};
use crate::log;
use crate::stream::copy::{Copier, Copying, like};
use crate::stream::{Between, Error, Stream};
use crate::sys::System;
use crate::sys::watch::Watch;

/// Copy records into another stream, each once
///
/// Keys, explicit hash keys, timestamps and attributes stay; sequence numbers and arrival times are the target's. The
/// target remembers how far each shard was copied, so a copy that was killed goes on where it was, and a later one
/// brings what is new. Records that were damaged, or gone before they were copied, are told of, and the exit status is 1.
/// A target that does not exist is made like the source, with as many shards as are open there.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: StreamArg,

    /// The stream to copy into: a name or a path, as for STREAM
    #[arg(value_name = "TARGET")]
    to: OsString,

    #[command(flatten)]
    follow: FollowArgs,

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
    let mut lost = false;
    let mut on = |what| {
        match what {
            Copying::Progress(records, bytes) => meter.add(records, bytes),
            Copying::Missed(shard, missed) => {
                lost = true;
                meter.aside(|| {
                    let count = show_count(missed.to - missed.from);
                    let text = format!("{shard}: up to {count} records were gone before they were copied");
                    report::say("kshard", &text, None);
                });
            }
            Copying::Gone(shard, index) => {
                lost = true;
                meter.aside(|| {
                    let text = format!(
                        "{shard}: has expired: what came in it from index {index} on, if anything did, was gone before \
                         it was copied"
                    );
                    report::say("kshard", &text, None);
                });
            }
            Copying::Damage(shard, damage) => {
                lost = true;
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
    };
    let source_path = source.path().to_owned();
    let done = Copier::open(&mut source, &to).and_then(|mut copier| {
        let mut waiter = Waiter::new();
        loop {
            waiter.watch(copier.source());
            copier.round(&mut on)?;
            if !args.follow.follow || shutdown.requested() {
                return copier.finish();
            }
            waiter.wait(shutdown);
        }
    });
    meter.finish();
    let another =
        matches!(done, Err(Between::Target(Error::Shard { source: log::Error::Fenced { .. }, .. })));
    let done = match about::between(done, &source_path, &path) {
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
    Ok(if lost { Outcome::Refused } else { Outcome::Done })
}

/// The longest time between two looks where the kernel tells of changes.
const LOOK: Duration = Duration::from_secs(1);
/// And where it cannot.
const LOOK_BLIND: Duration = Duration::from_millis(250);

/// Waits until the source may have more.
struct Waiter {
    watch: Watch,
    watched: BTreeSet<PathBuf>,
}

impl Waiter {
    fn new() -> Self {
        Self { watch: Watch::new(), watched: BTreeSet::new() }
    }

    /// Watches what is not watched yet, before it is looked at: what comes meanwhile ends the next wait.
    fn watch(&mut self, stream: &Stream) {
        let shards = stream.manifest().shards.iter().filter(|shard| shard.is_open());
        let dirs = shards.map(|shard| stream.log_dir(shard).dir).chain([stream.path().to_owned()]);
        for dir in dirs {
            if !self.watched.contains(&dir) {
                self.watch.add(&dir);
                self.watched.insert(dir);
            }
        }
    }

    fn wait(&self, shutdown: &Shutdown) {
        let look = if self.watch.is_blind() { LOOK_BLIND } else { LOOK };
        // Where waiting fails it is time to look.
        let _ = self.watch.wait(look, Some(shutdown.fd()));
    }
}
