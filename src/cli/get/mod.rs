//! `kget`: a stream to standard output.

mod args;
mod emit;
mod follow;
mod page;
mod plain;
mod trouble;

use anyhow::Context;

pub use args::GetArgs;
pub use page::PAGE;

use super::value::Position;
use super::{Outcome, signal, stream_name};
use crate::record::ShardId;
use crate::stream::{self, Start, Stream, Until};
use crate::sys::System;

/// Reads a stream as the arguments say.
pub fn run(args: GetArgs) -> anyhow::Result<Outcome> {
    let path = args.stream.resolve()?;
    let shutdown = signal::install()?;
    let stream = match Stream::open(&System::real(), &path) {
        Err(stream::Error::NotFound { .. }) => return Err(stream_name::unknown(&path)),
        opened => opened.with_context(|| stream_name::context(&path))?,
    };
    plain::run(&args, stream, shutdown).with_context(|| stream_name::context(&path))
}

/// Where the read begins, as of now.
fn start(position: Position, now_us: i64) -> Start {
    match position {
        Position::TrimHorizon => Start::TrimHorizon,
        Position::Latest => Start::Latest,
        Position::Time(time) => Start::Time(time.resolve(now_us)),
        Position::At(sequence) => Start::At(sequence),
        Position::After(sequence) => Start::After(sequence),
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
