//! Reading under a name, to standard output: the checkpoint follows what the other side has taken.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::args::GetArgs;
use super::emit::{Emitter, each_record};
use super::ledger::{Entry, Ledger};
use super::member::Member;
use super::out::Out;
use super::{meter, outcome};
use crate::cli::Outcome;
use crate::cli::meter::Meter;
use crate::cli::output;
use crate::cli::report::HintExt;
use crate::cli::signal::Shutdown;
use crate::cli::trouble::Trouble;
use crate::codec::{Encode, EncodeOptions, encoder};
use crate::record::SequenceNumber;
use crate::stream::{self, Bookmark, Checkpoint, Polled, Progress, ShardCursor, Step, Stream, Until};

/// So often the checkpoint is written down.
const COMMIT: Duration = Duration::from_secs(1);
/// So often a pipe is looked at that is to become empty.
const GLANCE: Duration = Duration::from_millis(5);
/// So long a reader is waited for once a signal has asked to finish.
const GRACE: Duration = Duration::from_secs(2);
/// A writer stamps a record before it is visible; after this it is there or will be stamped later.
const STAMP_US: i64 = 1_000_000;

/// Reads for the consumer until there is nothing more that nobody else reads, or on and on.
pub(super) fn run(
    args: &GetArgs,
    name: &str,
    stream: Stream,
    shutdown: &'static Shutdown,
) -> anyhow::Result<Outcome> {
    if output::was_closed_at_start() {
        return Err(anyhow!("standard output is closed: what consumer `{name}` is given would be gone"))
            .hint("the same with > FILE, or with --exec COMMAND");
    }
    if let Some(file) = &args.consumer.bookmark {
        // Now, and not when records are reserved for it.
        Bookmark::check_place(stream.system(), file).context("bookmark")?;
    }
    let mut emitter = Emitter::new(&stream, &args.format(), !args.no_deaggregate, args.range.limit)?;
    let trouble = Trouble::new("kget", &stream, args.on_error());
    let mut out = Out::open(args.durable, shutdown)?;
    let mut ledger = Ledger::default();
    ledger.skip(emitter.begin(&mut out)?);
    let mut consuming = Consuming {
        args,
        member: Member::join(args, name, stream, shutdown)?,
        emitter,
        out,
        ledger,
        trouble,
        meter: meter(args),
        committed: Instant::now(),
        shutdown,
    };
    let read = consuming.read();
    // However it ended: what was taken is written down, and the shards are handed back.
    let settled = consuming.settle();
    let Consuming { member, trouble, meter, .. } = consuming;
    let left = member.worker.leave();
    let tally = meter.finish();
    outcome(args, &trouble, tally.records, read.and(settled).and(left.map_err(Into::into)))
}

struct Consuming<'a> {
    args: &'a GetArgs,
    member: Member,
    emitter: Emitter,
    out: Out,
    ledger: Ledger,
    trouble: Trouble,
    meter: Meter,
    committed: Instant,
    shutdown: &'static Shutdown,
}

impl Consuming<'_> {
    fn read(&mut self) -> anyhow::Result<()> {
        self.look()?;
        while !self.shutdown.requested() && !self.emitter.is_full() {
            if self.member.is_due() {
                self.look()?;
            }
            if self.committed.elapsed() >= COMMIT {
                self.commit()?;
            }
            if !self.step()? {
                break;
            }
        }
        Ok(())
    }

    /// Takes one step; whether there may be another.
    fn step(&mut self) -> anyhow::Result<bool> {
        let Self { member: Member { reader, within, .. }, emitter, out, .. } = self;
        let mut began = None;
        let polled = reader.poll(&mut |delivery| {
            let within = within.get(&delivery.shard).copied();
            let first = delivery.frame.header.first + delivery.skip as u64;
            began = Some((first, within, delivery.shard_created_s));
            emitter.emit(delivery, within, out)
        })?;
        match polled {
            Polled::Frame(shard, emitted) => {
                let emitted = emitted.inspect_err(|_| {
                    // Some of it may have been taken before the pipe broke.
                    if let Some((first, within, _)) = began {
                        self.ledger.broke(shard, first, within);
                    }
                })?;
                self.member.within.remove(&shard);
                self.meter.add(emitted.records, emitted.bytes);
                if let (Some(last), Some((first, within, created_s))) = (emitted.last, began) {
                    let sequence = stream::sequence(shard, created_s, last.index, last.arrival_us);
                    let to = Checkpoint::after(sequence, last.sub);
                    let progress = Progress { shard, to, records: emitted.records, bytes: emitted.payload };
                    self.ledger.wrote(emitted.bytes, first, within, progress);
                }
                self.out.read(shard, &mut self.member.reader)?;
            }
            Polled::ShardEnd(shard) => self.ledger.passed(shard, Checkpoint::ShardEnd),
            Polled::Damage(shard, damage) => {
                self.trouble.damage(shard, &damage, &self.meter)?;
                self.ledger.passed(shard, Checkpoint::Index { index: damage.next });
            }
            Polled::Missed(shard, missed) => {
                self.trouble.missed(shard, missed, &self.meter);
                self.ledger.passed(shard, Checkpoint::Index { index: missed.to });
            }
            Polled::Tail | Polled::End => return self.rest(),
        }
        Ok(true)
    }

    /// All that there is has been read; whether to go on.
    fn rest(&mut self) -> anyhow::Result<bool> {
        self.out.let_go(&mut self.member.reader)?;
        self.ledger.take(self.out.stdout().taken());
        if !self.args.follow.follow {
            self.drain()?;
            if self.args.consumer.bookmark.is_some() {
                // Children of what is only reserved wait until it is committed.
                return Ok(false);
            }
            self.commit()?;
            if self.look()? {
                return Ok(true);
            }
            let suspects = self.member.worker.suspects();
            if suspects {
                self.member.wait(None)?;
            }
            return Ok(suspects);
        }
        let now_us = self.member.reader.stream().system().clock.now_us();
        let over = matches!(self.member.until, Until::Time(end) if now_us > end.saturating_add(STAMP_US));
        if over || self.member.is_over() || self.out.stdout().is_closed() {
            return Ok(false);
        }
        if self.ledger.has_ends() {
            // Children wait for it.
            self.commit()?;
            self.look()?;
        }
        // A pipe says nothing when it is emptied.
        let most = (!self.ledger.is_empty()).then_some(COMMIT / 10);
        self.member.wait(most)?;
        Ok(true)
    }

    /// Looks at the leases; whether there is more to read.
    fn look(&mut self) -> anyhow::Result<bool> {
        let change = self.member.look(&mut self.trouble, &self.meter)?;
        for shard in change.lost {
            self.args.common.note("kget", &format!("{shard}: another worker has taken it over"));
            self.ledger.forget(shard);
        }
        Ok(change.more)
    }

    /// Writes down what was taken.
    fn commit(&mut self) -> anyhow::Result<()> {
        self.committed = Instant::now();
        if self.args.consumer.bookmark.is_some() {
            return Ok(());
        }
        if self.out.stdout().untaken().is_none() {
            // Nobody takes it from there but who reads a file later, or it is taken as it is written.
            self.out.let_go(&mut self.member.reader)?;
            self.out.stdout().sync().context("standard output")?;
        }
        self.ledger.take(self.out.stdout().taken());
        let progress = self.ledger.settle();
        for step in &progress {
            self.member.reader.make_durable(step.shard)?;
        }
        for shard in self.member.worker.commit(&progress)? {
            self.args.common.note("kget", &format!("{shard}: another worker has taken it over"));
            self.member.drop_shard(shard);
            self.ledger.forget(shard);
        }
        let ledger = &self.ledger;
        self.member.hand_back(|shard| ledger.holds(shard))?;
        Ok(())
    }

    /// Waits until the other side has taken all that was written, or takes no more.
    fn drain(&mut self) -> anyhow::Result<()> {
        let mut deadline = None;
        loop {
            let stdout = self.out.stdout();
            self.ledger.take(stdout.taken());
            if stdout.untaken().unwrap_or(0) == 0 || stdout.is_closed() {
                return Ok(());
            }
            if self.shutdown.requested() {
                let until = *deadline.get_or_insert_with(|| Instant::now() + GRACE);
                if Instant::now() >= until {
                    return Ok(());
                }
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Writes down what was taken, to the record.
    fn settle(&mut self) -> anyhow::Result<()> {
        let left = self.out.let_go(&mut self.member.reader);
        let noted = self.note_all();
        match left {
            Err(error) if !error.chain().any(output::is_closed) => Err(error),
            _ => noted,
        }
    }

    fn note_all(&mut self) -> anyhow::Result<()> {
        self.drain()?;
        let taken = self.out.stdout().taken();
        self.ledger.take(taken);
        if let Some((entry, bytes)) = self.ledger.torn(taken)
            && let Some(progress) = self.within_frame(&entry, bytes)?
        {
            self.ledger.note(progress);
        }
        let Some(file) = &self.args.consumer.bookmark else { return self.commit() };
        let progress = self.ledger.settle();
        for step in &progress {
            self.member.reader.make_durable(step.shard)?;
        }
        self.out.stdout().sync().context("standard output")?;
        let bookmark = self.member.worker.reserve(&progress, self.args.consumer.bookmark_timeout)?;
        bookmark.write(self.member.reader.stream().system(), file).context("bookmark")
    }

    /// How far the first `bytes` of an entry go: its frame is read and encoded once more.
    fn within_frame(&self, entry: &Entry, bytes: u64) -> anyhow::Result<Option<Progress>> {
        let stream = self.member.reader.stream();
        let shard = entry.progress.shard;
        let Some(info) = stream.manifest().shard(shard) else { return Ok(None) };
        let place = stream::Place::Index(entry.first);
        let mut cursor = ShardCursor::open(stream, info, place)?;
        let options =
            EncodeOptions { stream_name: stream.name().to_owned(), stream_id: stream.manifest().stream_id };
        let mut encoder = encoder(&self.args.format(), &options).map_err(anyhow::Error::msg)?;
        let step = cursor.step(&mut |frame, skip| {
            let take = frame.header.count as usize;
            let delivery = stream::Delivery { shard, shard_created_s: info.created_s(), frame, skip, take };
            whole_records(&delivery, &mut *encoder, !self.args.no_deaggregate, entry.within, bytes)
        })?;
        let Step::Frame(found) = step else { return Ok(None) };
        let (records, bytes, last) = found?;
        Ok(last.map(|(sequence, sub)| Progress {
            shard,
            to: Checkpoint::after(sequence, sub),
            records,
            bytes,
        }))
    }
}

/// How many of a frame's records are whole within the first `bytes` of their encoding, the bytes of their data, and the place of
/// the last.
#[expect(clippy::type_complexity, reason = "used once")]
fn whole_records(
    delivery: &stream::Delivery<'_>,
    encoder: &mut dyn Encode,
    deaggregate: bool,
    within: Option<(u64, u64)>,
    bytes: u64,
) -> anyhow::Result<(u64, u64, Option<(SequenceNumber, Option<u64>)>)> {
    let (mut records, mut payload, mut last, mut left, mut text) = (0, 0, None, bytes, Vec::new());
    each_record(delivery, deaggregate, within, &mut |record, spot| {
        text.clear();
        encoder.encode(record, &mut text);
        let whole = text.len() as u64 <= left;
        if whole {
            left -= text.len() as u64;
            records += 1;
            payload += record.payload.len() as u64;
            last = Some((record.sequence, spot.sub));
        }
        Ok(whole)
    })?;
    Ok((records, payload, last))
}
