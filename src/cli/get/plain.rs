//! Reading without a name: nothing is remembered.

use super::args::GetArgs;
use super::emit::Emitter;
use super::follow::Waiter;
use super::out::Out;
use super::trouble::Trouble;
use super::{outcome, until};
use crate::cli::Outcome;
use crate::cli::signal::Shutdown;
use crate::cli::value::Position;
use crate::stream::{Polled, Stream, StreamReader, Until};

/// A writer stamps a record before it is visible; after this it is there or will be stamped later.
const STAMP_US: i64 = 1_000_000;

/// Reads the stream to its end, or on and on.
pub(super) fn run(args: &GetArgs, stream: Stream, shutdown: &'static Shutdown) -> anyhow::Result<Outcome> {
    let follow = args.follow.follow;
    let clock = stream.system().clock.clone();
    let (system_now, path) = (clock.now_us(), stream.path().to_owned());
    let from = args.range.from.unwrap_or(if follow { Position::Latest } else { Position::TrimHorizon });
    let until = until(args.range.until, system_now);
    let mut emitter = Emitter::new(&stream, &args.format(), !args.no_deaggregate, args.range.limit)?;
    let mut waiter = follow.then(|| Waiter::new(&stream));
    let mut reader = StreamReader::open(stream, from.start(system_now), until, args.order(), args.shard)?;
    let mut trouble = Trouble::new(&path, args.on_error());
    let mut out = Out::open(args.durable, shutdown)?;
    let meter = args.common.meter("kget", None);
    emitter.begin(&mut out)?;
    while !shutdown.requested() && !emitter.is_full() {
        let polled = reader.poll(&mut |delivery| emitter.emit(delivery, None, &mut out))?;
        match polled {
            Polled::Frame(shard, emitted) => {
                let emitted = emitted?;
                meter.add(emitted.records, emitted.bytes);
                out.read(shard, &mut reader)?;
            }
            Polled::ShardEnd(_) => {}
            Polled::Damage(shard, damage) => trouble.damage(shard, &damage, &meter)?,
            Polled::Missed(shard, missed) => trouble.missed(shard, missed, &meter),
            Polled::End => break,
            Polled::Tail => {
                out.let_go(&mut reader)?;
                let Some(waiter) = &mut waiter else { break };
                let over = matches!(until, Until::Time(end) if clock.now_us() > end.saturating_add(STAMP_US));
                if over || out.stdout().is_closed() {
                    break;
                }
                waiter.wait(&mut reader, shutdown.fd(), None)?;
            }
        }
    }
    out.let_go(&mut reader)?;
    let read = meter.finish();
    Ok(outcome(args, &trouble, read.records))
}
