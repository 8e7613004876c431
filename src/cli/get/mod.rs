//! `kget`: a stream to standard output.

mod args;
mod consume;
mod emit;
mod exec;
mod follow;
mod handler;
mod ledger;
mod member;
mod out;
mod page;
mod plain;
mod trouble;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use args::ConsumerArgs;
pub use args::GetArgs;
pub use page::PAGE;

use super::value::Position;
use super::{Outcome, about, signal, stream_name};
use crate::record::ShardId;
use crate::stream::{Bookmark, Consumer, Stream, Until};

/// Reads a stream as the arguments say.
#[expect(clippy::needless_pass_by_value, reason = "what every program's run looks like")]
pub fn run(args: GetArgs) -> anyhow::Result<Outcome> {
    let shutdown = match args.consumer.exec {
        Some(_) => signal::install_with_children()?,
        None => signal::install()?,
    };
    let stream = about::open(&args.stream)?;
    let path = stream.path().to_owned();
    let ConsumerArgs { name, exec, commit, .. } = &args.consumer;
    let done = match (name, exec, commit) {
        (None, ..) => plain::run(&args, stream, shutdown),
        (Some(name), _, Some(bookmark)) => commit_bookmark(&stream, name, bookmark, shutdown),
        (Some(name), Some(command), None) => exec::run(&args, name, command, stream, shutdown),
        (Some(name), None, None) => consume::run(&args, name, stream, shutdown),
    };
    done.with_context(|| stream_name::context(&path))
}

/// Commits what was handed out for a bookmark.
fn commit_bookmark(
    stream: &Stream,
    name: &str,
    file: &Path,
    shutdown: &'static signal::Shutdown,
) -> anyhow::Result<Outcome> {
    let bookmark = Bookmark::read(stream.system(), file).context("bookmark")?;
    Consumer::open(stream, name)?
        .patient(Arc::new(member::Waiting(shutdown)))
        .commit(&bookmark)
        .with_context(|| format!("bookmark {}", file.display()))?;
    Ok(Outcome::Done)
}

/// How it ended, once all was read.
fn outcome(args: &GetArgs, trouble: &trouble::Trouble, records: u64) -> Outcome {
    match () {
        () if trouble.met() => Outcome::Refused,
        () if args.fail_empty && records == 0 => Outcome::Empty,
        () => Outcome::Done,
    }
}

/// Where the read ends, as of now. A record that is named is not included; the one before `after:` is.
fn until(position: Option<Position>, now_us: i64) -> Until {
    let index = |shard: ShardId, index| Until::Index(shard, index);
    match position {
        None => Until::Never,
        Some(Position::TrimHorizon) => Until::Time(i64::MIN),
        Some(Position::Latest) => Until::Time(now_us.saturating_add(1)),
        Some(Position::Time(time)) => Until::Time(time.resolve(now_us)),
        Some(Position::At(sequence)) => index(sequence.shard, sequence.index),
        Some(Position::After(sequence)) => index(sequence.shard, sequence.index + 1),
    }
}
