//! Reading without a name: nothing is remembered.

use super::args::GetArgs;
use super::emit::Emitter;

use super::out::Out;
use super::{meter, outcome, until};
use crate::cli::Outcome;
use crate::cli::meter::Meter;
use crate::cli::signal::Shutdown;
use crate::cli::trouble::Trouble;
use crate::cli::value::Position;
use crate::stream::{Polled, Stream, StreamReader, Until, Waiter};

/// A writer stamps a record before it is visible; after this it is there or will be stamped later.
const STAMP_US: i64 = 1_000_000;

/// Reads the stream to its end, or on and on.
pub(super) fn run(args: &GetArgs, stream: Stream, shutdown: &'static Shutdown) -> anyhow::Result<Outcome> {
    let follow = args.follow.follow;
    let now_us = stream.system().clock.now_us();
    let from = args.range.from.unwrap_or(if follow { Position::Latest } else { Position::TrimHorizon });
    let until = until(args.range.until, now_us)?;
    let trouble = Trouble::new("kget", &stream, args.on_error());
    let emitter = Emitter::new(&stream, &args.format(), !args.no_deaggregate, args.range.limit)?;
    let waiter = follow.then(|| Waiter::new(&stream));
    let reader = StreamReader::open(stream, from.start(now_us), until, args.order(), args.shard)?;
    let mut reading = Reading {
        within: from.within(),
        emitter,
        waiter,
        reader,
        until,
        trouble,
        out: Out::open(args.durable, shutdown)?,
        meter: meter(args),
        shutdown,
    };
    let read = reading.read();
    // However it ended: what was read before it is good.
    let left = reading.out.let_go(&mut reading.reader);
    let Reading { trouble, meter, .. } = reading;
    let tally = meter.finish();
    outcome(args, &trouble, tally.records, read.and(left))
}

struct Reading {
    /// Where it begins inside an aggregate: its index and the last of its records that is not wanted.
    within: Option<(u64, u64)>,
    emitter: Emitter,
    waiter: Option<Waiter>,
    reader: StreamReader,
    until: Until,
    trouble: Trouble,
    out: Out,
    meter: Meter,
    shutdown: &'static Shutdown,
}

impl Reading {
    fn read(&mut self) -> anyhow::Result<()> {
        let Self { emitter, reader, out, trouble, meter, .. } = self;
        let mut within = self.within;
        emitter.begin(out)?;
        while !self.shutdown.requested() && !emitter.is_full() {
            let polled = reader.poll(&mut |delivery| emitter.emit(delivery, within.take(), out))?;
            match polled {
                Polled::Frame(shard, emitted) => {
                    let emitted = emitted?;
                    meter.add(emitted.records, emitted.bytes);
                    out.read(shard, reader)?;
                }
                Polled::ShardEnd(_) => {}
                Polled::Damage(shard, damage) => trouble.damage(shard, &damage, meter)?,
                Polled::Missed(shard, missed) => trouble.missed(shard, missed, meter),
                Polled::End => break,
                Polled::Tail => {
                    out.let_go(reader)?;
                    let Some(waiter) = &mut self.waiter else { break };
                    let now_us = reader.stream().system().clock.now_us();
                    let over =
                        matches!(self.until, Until::Time(end) if now_us > end.saturating_add(STAMP_US));
                    if over || out.stdout().is_closed() {
                        break;
                    }
                    waiter.wait(reader, self.shutdown.fd(), None)?;
                }
            }
        }
        Ok(())
    }
}
