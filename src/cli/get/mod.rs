//! `kget`: a stream to standard output.

mod args;
mod consume;
mod emit;
mod exec;
mod handler;
mod ledger;
mod member;
mod out;
mod page;
mod plain;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use args::ConsumerArgs;
pub use args::GetArgs;
pub use page::PAGE;

use super::meter::{Meter, Progress};
use super::patience::Waiting;
use super::report::HintExt;
use super::stream_name::quote;
use super::value::Position;
use super::{Outcome, about, output, signal, stream_name};
use crate::stream::{self, Bookmark, Consumer, MANIFEST_NAME, Stream, Until};
use crate::sys::System;

/// Reads a stream as the arguments say.
#[expect(clippy::needless_pass_by_value, reason = "what every program's run looks like")]
pub fn run(args: GetArgs) -> anyhow::Result<Outcome> {
    let shutdown = match args.consumer.exec {
        Some(_) => signal::install_with_children()?,
        None => signal::install()?,
    };
    let stream = about::open_to_read(&args.stream)?;
    let (path, id) = (stream.path().to_owned(), stream.manifest().stream_id);
    let ConsumerArgs { name, exec, commit, .. } = &args.consumer;
    let done = match (name, exec, commit) {
        (None, ..) => plain::run(&args, stream, shutdown),
        (Some(name), _, Some(bookmark)) => commit_bookmark(&stream, name, bookmark, shutdown),
        (Some(name), Some(command), None) => exec::run(&args, name, command, stream, shutdown),
        (Some(name), None, None) => consume::run(&args, name, stream, shutdown),
    };
    let done = match done {
        // Whatever it was that was missed first.
        Err(error) if is_gone(&path, id) && !error.chain().any(output::is_closed) => {
            Err(anyhow!("it is gone: it was deleted or moved while it was read"))
        }
        done => done,
    };
    done.with_context(|| stream_name::context(&path))
}

/// Whether there is no stream any more where one was read, or another one.
fn is_gone(path: &Path, id: uuid::Uuid) -> bool {
    match Stream::open(&System::real(), path) {
        Ok(there) => there.manifest().stream_id != id,
        Err(_) => !path.join(MANIFEST_NAME).exists(),
    }
}

/// Commits what was handed out for a bookmark.
fn commit_bookmark(
    stream: &Stream,
    name: &str,
    file: &Path,
    shutdown: &'static signal::Shutdown,
) -> anyhow::Result<Outcome> {
    let bookmark = Bookmark::read(stream.system(), file).context("bookmark")?;
    let consumers = || format!("kshard consumers {}", quote(&stream.path().to_string_lossy()));
    Consumer::open(stream, name)
        .with_hint(consumers)?
        .patient(Arc::new(Waiting { program: "kget", shutdown }))
        .commit(&bookmark)
        .with_context(|| format!("bookmark {}", file.display()))?;
    Ok(Outcome::Done)
}

/// How it ended, once all was read that could be. What is missing is told by the exit status too where the reader
/// closed the pipe: a checkpoint may have moved past it.
fn outcome(
    args: &GetArgs,
    trouble: &crate::cli::trouble::Trouble,
    records: u64,
    read: anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    match read {
        Err(error) if !(trouble.met() && error.chain().any(output::is_closed)) => Err(error),
        _ if trouble.met() => Ok(Outcome::Refused),
        _ if args.fail_empty && records == 0 => Ok(Outcome::Empty),
        _ => Ok(Outcome::Done),
    }
}

/// Shows progress where it is asked for, or where it stands in nobody's way: not over records on the same terminal, nor
/// over what the next program in the pipeline says there, nor for ever.
fn meter(args: &GetArgs) -> Meter {
    let shows = !args.follow.follow && output::is_kept_or_thrown_away();
    let progress = match args.common.progress {
        Progress::Auto if !shows => Progress::Never,
        progress => progress,
    };
    Meter::start("kget", progress, args.common.quiet, None)
}

/// Where the read ends, as of now. A record that is named is not included; the one before `after:` is.
fn until(position: Option<Position>, now_us: i64) -> Result<Until, stream::Error> {
    Ok(match position {
        None => Until::Never,
        Some(Position::TrimHorizon) => Until::Time(i64::MIN),
        Some(Position::Latest) => Until::Time(now_us.saturating_add(1)),
        Some(Position::Time(time)) => Until::Time(time.resolve(now_us)),
        Some(Position::At(sequence, None)) => Until::At(sequence),
        Some(Position::After(sequence, None)) => Until::After(sequence),
        Some(Position::At(_, Some(_)) | Position::After(_, Some(_))) => {
            let reason =
                "--until ends between records of the stream: not within one, at a sub-sequence number";
            return Err(stream::Error::Invalid(reason.to_owned()));
        }
    })
}
