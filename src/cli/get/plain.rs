//! Reading without a name: nothing is remembered.

use std::io::Write;

use super::args::GetArgs;
use super::emit::Emitter;
use super::follow::Waiter;
use super::trouble::Trouble;
use super::{start, until};
use crate::cli::Outcome;
use crate::cli::output::Stdout;
use crate::cli::signal::Shutdown;
use crate::cli::value::Position;
use crate::record::ShardId;
use crate::stream::{Polled, Stream, StreamReader, Until};

/// A writer stamps a record before it is visible; after this it is there or will be stamped later.
const STAMP_US: i64 = 1_000_000;
/// With `--durable`, so much is gathered between two syncs.
const DURABLE_BYTES: usize = 1 << 20;

/// Reads the stream to its end, or on and on.
pub(super) fn run(args: &GetArgs, stream: Stream, shutdown: &'static Shutdown) -> anyhow::Result<Outcome> {
    let follow = args.follow.follow;
    let clock = stream.system().clock.clone();
    let (system_now, path) = (clock.now_us(), stream.path().to_owned());
    let from = args.range.from.unwrap_or(if follow { Position::Latest } else { Position::TrimHorizon });
    let until = until(args.range.until, system_now);
    let mut emitter = Emitter::new(&stream, &args.format(), !args.no_deaggregate, args.range.limit)?;
    let mut waiter = follow.then(|| Waiter::new(&stream));
    let mut reader = StreamReader::open(stream, start(from, system_now), until, args.order(), args.shard)?;
    let mut trouble = Trouble::new(&path, args.on_error());
    // Lines leave at the tail, so that a burst goes out in blocks.
    let mut out = Durable::new(Stdout::open(false, Some(shutdown))?, args.durable);
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
                out.release(&mut reader)?;
                out.flush()?;
                let Some(waiter) = &mut waiter else { break };
                let over = matches!(until, Until::Time(end) if clock.now_us() > end.saturating_add(STAMP_US));
                if over || out.stdout.is_closed() {
                    break;
                }
                if waiter.watch(&reader) {
                    reader.refresh()?;
                    continue;
                }
                waiter.wait(shutdown.fd(), None)?;
                reader.refresh()?;
            }
        }
    }
    out.release(&mut reader)?;
    out.flush()?;
    let read = meter.finish();
    Ok(match () {
        () if trouble.met() => Outcome::Refused,
        () if args.fail_empty && read.records == 0 => Outcome::Empty,
        () => Outcome::Done,
    })
}

/// Standard output, or with `--durable` what holds records back until they are on the disk.
struct Durable {
    stdout: Stdout,
    held: Option<Vec<u8>>,
    shards: Vec<ShardId>,
}

impl Durable {
    fn new(stdout: Stdout, durable: bool) -> Self {
        Self { stdout, held: durable.then(Vec::new), shards: Vec::new() }
    }

    /// Notes that a frame of a shard was written here.
    fn read(&mut self, shard: ShardId, reader: &mut StreamReader) -> anyhow::Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let full = held.len() >= DURABLE_BYTES;
        if !self.shards.contains(&shard) {
            self.shards.push(shard);
        }
        if full { self.release(reader) } else { Ok(()) }
    }

    /// Makes what is held durable and lets it go.
    fn release(&mut self, reader: &mut StreamReader) -> anyhow::Result<()> {
        let Some(held) = &mut self.held else { return Ok(()) };
        for shard in self.shards.drain(..) {
            reader.make_durable(shard)?;
        }
        self.stdout.write_all(held)?;
        held.clear();
        Ok(())
    }
}

impl Write for Durable {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.held {
            Some(held) => {
                held.extend_from_slice(bytes);
                Ok(())
            }
            None => self.stdout.write_all(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stdout.flush()
    }
}
