//! Reading under a name, for a command: batch by batch, each committed when the command has exited 0.
//!
//! Batches are of one shard each. A batch on which the command fails is tried again, later and later; meanwhile the
//! other shards go on.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::args::{BatchSize, GetArgs};
use super::emit::{Emitter, Spot, each_record};
use super::handler::{self, Ended};
use super::member::Member;
use super::{meter, outcome};
use crate::cli::Outcome;
use crate::cli::meter::Meter;
use crate::cli::report;
use crate::cli::signal::Shutdown;
use crate::cli::trouble::{Trouble, records};
use crate::cli::value::show_duration;
use crate::record::{SequenceNumber, ShardId};
use crate::stream::{Checkpoint, Delivery, Failure, Polled, Progress, Stream, Until};

/// Records of all shards wait in this many bytes at most, their places included, and one frame beyond that. What holds
/// them may have grown to twice as much.
const WAITING_BYTES_MAX: usize = 24 << 20;
/// The first wait after a failure.
const BACKOFF: Duration = Duration::from_millis(200);
/// A writer stamps a record before it is visible; after this it is there or will be stamped later.
const STAMP_US: i64 = 1_000_000;

/// Reads for the consumer and gives what it reads to the command.
pub(super) fn run(
    args: &GetArgs,
    name: &str,
    command: &str,
    stream: Stream,
    shutdown: &'static Shutdown,
) -> anyhow::Result<Outcome> {
    let mut emitter = Emitter::new(&stream, &args.format(), !args.no_deaggregate, args.range.limit)?;
    let mut head = Vec::new();
    emitter.begin(&mut head)?;
    let mut executing = Executing {
        args,
        command,
        head,
        trouble: Trouble::new("kget", &stream, args.on_error()),
        broken: None,
        member: Member::join(args, name, stream, shutdown)?,
        emitter,
        queues: BTreeMap::new(),
        meter: meter(args),
        shutdown,
    };
    let read = executing.read();
    let Executing { member, trouble, meter, .. } = executing;
    let left = member.worker.leave();
    let tally = meter.finish();
    outcome(args, &trouble, tally.records, read.and(left.map_err(Into::into)))
}

struct Executing<'a> {
    args: &'a GetArgs,
    command: &'a str,
    /// What stands before the records of each batch.
    head: Vec<u8>,
    member: Member,
    emitter: Emitter,
    queues: BTreeMap<ShardId, Queue>,
    trouble: Trouble,
    /// Damage that must not be passed over.
    broken: Option<anyhow::Error>,
    meter: Meter,
    shutdown: &'static Shutdown,
}

/// Encoded records of a shard that wait for the command.
struct Queue {
    bytes: Vec<u8>,
    marks: VecDeque<Mark>,
    /// Bytes that were handed over before `bytes` begins.
    gone: u64,
    /// Since when the first of them waits.
    since: Instant,
    /// Whether there was no more in the shard when it was last looked at.
    at_tail: bool,
    /// Whether the shard ends behind them.
    ended: bool,
    /// How often the command failed on the first of them, and when it is tried again.
    failed: u32,
    again: Instant,
}

/// Where a record ends, and which it is.
#[derive(Clone, Copy)]
struct Mark {
    end: u64,
    /// Bytes of its data.
    payload: u64,
    sequence: SequenceNumber,
    /// Its place in its aggregate, and whether it is the last of that.
    sub: Option<u64>,
    is_last: bool,
}

impl Mark {
    /// The place behind it.
    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::after(self.sequence, self.sub.filter(|_| !self.is_last))
    }
}

impl Queue {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            bytes: Vec::new(),
            marks: VecDeque::new(),
            gone: 0,
            since: now,
            at_tail: false,
            ended: false,
            failed: 0,
            again: now,
        }
    }

    /// How many records the next batch has: as many as fit, one at least.
    fn batch(&self, size: BatchSize) -> usize {
        let within = self.marks.partition_point(|mark| mark.end - self.gone <= size.bytes);
        within.max(1).min(size.records as usize).min(self.marks.len())
    }

    fn is_full(&self, size: BatchSize) -> bool {
        self.marks.len() as u64 >= size.records || self.bytes.len() as u64 >= size.bytes
    }

    /// How much memory what waits takes.
    fn weight(&self) -> usize {
        self.bytes.len() + self.marks.len() * size_of::<Mark>()
    }

    fn drop_first(&mut self, count: usize) {
        let end = self.marks[count - 1].end;
        self.marks.drain(..count);
        self.bytes.drain(..(end - self.gone) as usize);
        self.gone = end;
        self.failed = 0;
        self.since = Instant::now();
        // After a record of unusual size.
        self.bytes.shrink_to((self.bytes.len() * 2).max(1 << 20));
        self.marks.shrink_to((self.marks.len() * 2).max(1 << 14));
    }
}

impl Executing<'_> {
    fn size(&self) -> BatchSize {
        self.args.consumer.batch_size
    }

    fn read(&mut self) -> anyhow::Result<()> {
        self.look()?;
        while !self.shutdown.requested() {
            if self.member.is_due() {
                self.look()?;
            }
            if let Some(shard) = self.ripe() {
                self.hand_over(shard)?;
                continue;
            }
            if !self.step()? {
                break;
            }
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Whether so much waits that nothing more is read until some of it has been handed over.
    fn is_crowded(&self) -> bool {
        self.queues.values().map(Queue::weight).sum::<usize>() >= WAITING_BYTES_MAX
    }

    /// Whether nothing more is read at all.
    fn is_over(&self) -> bool {
        self.emitter.is_full() || self.broken.is_some()
    }

    /// A shard whose next batch is to be handed over now.
    fn ripe(&self) -> Option<ShardId> {
        let now = Instant::now();
        let crowded = self.is_crowded();
        let over = self.is_over();
        let patience = self.args.consumer.batch_interval;
        let ready = |queue: &Queue| {
            let waited = !self.args.follow.follow || now - queue.since >= patience;
            let closed = queue.is_full(self.size()) || queue.ended || crowded || over;
            !queue.marks.is_empty() && queue.again <= now && (closed || queue.at_tail && waited)
        };
        // The one that waits longest.
        let ripe = self.queues.iter().filter(|(_, queue)| ready(queue));
        ripe.min_by_key(|(_, queue)| queue.since).map(|(&shard, _)| shard)
    }

    /// Reads one frame into its shard's queue, or waits; whether there is more to do.
    fn step(&mut self) -> anyhow::Result<bool> {
        if self.is_over() || self.is_crowded() {
            return self.rest();
        }
        let Self { member, emitter, queues, .. } = self;
        let within = &member.within;
        let polled = member.reader.poll(&mut |delivery| {
            let queue = queues.entry(delivery.shard).or_insert_with(Queue::new);
            fill(queue, emitter, delivery, within.get(&delivery.shard).copied())
        })?;
        match polled {
            Polled::Frame(shard, filled) => {
                filled?;
                self.member.within.remove(&shard);
                let full = self.queues.get(&shard).is_some_and(|queue| queue.is_full(self.size()));
                self.member.reader.hold(shard, full);
            }
            Polled::ShardEnd(shard) => self.pass(shard, Checkpoint::ShardEnd)?,
            Polled::Damage(shard, damage) => {
                // What waits before it is handed over all the same.
                match self.trouble.damage(shard, &damage, &self.meter) {
                    Ok(()) => self.pass(shard, Checkpoint::Index { index: damage.next })?,
                    Err(error) => self.broken = Some(error),
                }
            }
            Polled::Missed(shard, missed) => {
                self.trouble.missed(shard, missed, &self.meter);
                self.pass(shard, Checkpoint::Index { index: missed.to })?;
            }
            Polled::Tail | Polled::End => return self.rest(),
        }
        Ok(true)
    }

    /// A shard's place moved where there is nothing to hand over. What waits before that place goes first.
    fn pass(&mut self, shard: ShardId, to: Checkpoint) -> anyhow::Result<()> {
        match self.queues.get_mut(&shard).filter(|queue| !queue.marks.is_empty()) {
            Some(queue) => queue.ended |= to.is_end(),
            None => self.commit(Progress { shard, to, records: 0, bytes: 0 })?,
        }
        Ok(())
    }

    /// All that there is has been read, or all that there is room for; whether to go on.
    fn rest(&mut self) -> anyhow::Result<bool> {
        let crowded = self.is_crowded();
        let mut fresh = false;
        for queue in self.queues.values_mut().filter(|queue| !crowded && !queue.marks.is_empty()) {
            fresh |= !queue.at_tail;
            queue.at_tail = true;
        }
        if fresh {
            return Ok(true);
        }
        let queues = &self.queues;
        self.member.hand_back(|shard| queues.get(&shard).is_some_and(|queue| !queue.marks.is_empty()))?;
        let now = Instant::now();
        let patience = if crowded { Duration::ZERO } else { self.args.consumer.batch_interval };
        let waiting = self.queues.values().filter(|queue| !queue.marks.is_empty());
        let next = waiting.map(|queue| queue.again.max(queue.since + patience)).min();
        if next.is_none() && self.is_over() {
            return Ok(false);
        }
        if next.is_none() && !self.args.follow.follow {
            let more = self.look()?;
            if !more && self.member.worker.suspects() {
                self.member.wait(None)?;
                return Ok(true);
            }
            return Ok(more);
        }
        let now_us = self.member.reader.stream().system().clock.now_us();
        let over = matches!(self.member.until, Until::Time(end) if now_us > end.saturating_add(STAMP_US));
        if next.is_none() && (over || self.member.is_over()) {
            return Ok(false);
        }
        self.member.wait(next.map(|next| next.saturating_duration_since(now)))?;
        Ok(true)
    }

    /// Looks at the leases; whether there is more to read.
    fn look(&mut self) -> anyhow::Result<bool> {
        let change = self.member.look(&mut self.trouble, &self.meter)?;
        for shard in change.lost {
            // The reader has left it already, and has it anew if it came back at once.
            self.forget(shard);
        }
        let queues = &self.queues;
        self.member.hand_back(|shard| queues.get(&shard).is_some_and(|queue| !queue.marks.is_empty()))?;
        Ok(change.more)
    }

    /// What waits of a shard that another has taken over is the other's.
    fn forget(&mut self, shard: ShardId) {
        self.args.common.note("kget", &format!("{shard}: another worker has taken it over"));
        self.queues.remove(&shard);
    }

    /// Gives the next batch of a shard to the command.
    fn hand_over(&mut self, shard: ShardId) -> anyhow::Result<()> {
        // What it does cannot be undone by a power loss here.
        self.member.reader.make_durable(shard)?;
        if self.member.worker.was_silent() {
            // It was stopped, here or before: another may have these records by now.
            self.look()?;
        }
        let size = self.size();
        let Some(queue) = self.queues.get(&shard) else { return Ok(()) };
        let count = queue.batch(size);
        let (first, last) = (queue.marks[0], queue.marks[count - 1]);
        let attempt = queue.failed + 1;
        let stream = self.member.reader.stream();
        let sub = |mark: Mark| mark.sub.map_or_else(String::new, |sub| sub.to_string());
        let variables = [
            ("KPIPE_STREAM", stream.path().to_string_lossy().into_owned()),
            ("KPIPE_SHARD", shard.to_string()),
            ("KPIPE_FIRST_SEQUENCE", first.sequence.to_string()),
            ("KPIPE_FIRST_SUBSEQUENCE", sub(first)),
            ("KPIPE_LAST_SEQUENCE", last.sequence.to_string()),
            ("KPIPE_LAST_SUBSEQUENCE", sub(last)),
            ("KPIPE_CONSUMER", self.member.worker.consumer().name().to_owned()),
            ("KPIPE_ATTEMPT", attempt.to_string()),
        ];
        let body = &queue.bytes[..(last.end - queue.gone) as usize];
        let len = body.len() as u64;
        let input = [&self.head[..], body];
        let ended = handler::run(self.command, &variables, &input, &self.member.worker, self.shutdown)?;
        let Some(queue) = self.queues.get_mut(&shard) else { return Ok(()) };
        match ended {
            Ended::Well => {
                let bytes = queue.marks.iter().take(count).map(|mark| mark.payload).sum();
                queue.drop_first(count);
                let done = queue.marks.is_empty();
                let end = done && queue.ended;
                let to = if end { Checkpoint::ShardEnd } else { last.checkpoint() };
                self.meter.add(count as u64, len);
                self.member.reader.hold(shard, queue.is_full(size));
                if done {
                    self.queues.remove(&shard);
                }
                self.commit(Progress { shard, to, records: count as u64, bytes })
            }
            Ended::Badly(status) => self.retry(shard, count, attempt, status),
        }
    }

    /// Lets the command try again later.
    fn retry(&mut self, shard: ShardId, count: usize, attempt: u32, status: String) -> anyhow::Result<()> {
        let most = self.args.consumer.max_backoff;
        let doubled = BACKOFF.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(most);
        // Between a half and the whole of it: workers that failed together do not come back together.
        let wait = doubled.mul_f64(0.5 + 0.5 * random());
        if let Some(queue) = self.queues.get_mut(&shard) {
            queue.failed = attempt;
            queue.again = Instant::now() + wait;
        }
        let wait = Duration::from_millis(wait.as_millis() as u64);
        let text = format!(
            "{shard}: the command ended with {status} on {}, attempt {attempt}: again in {}",
            records(count as u64),
            show_duration(wait)
        );
        self.meter.aside(|| report::say("kget", &text, None));
        let at_us = self.member.reader.stream().system().clock.now_us();
        self.member.worker.note_failure(shard, &Failure { status, attempts: attempt, at_us })?;
        Ok(())
    }

    fn commit(&mut self, progress: Progress) -> anyhow::Result<()> {
        self.member.reader.make_durable(progress.shard)?;
        for shard in self.member.worker.commit(&[progress])? {
            self.member.drop_shard(shard);
            self.forget(shard);
        }
        if progress.to.is_end() {
            // Its children may be free now.
            self.look()?;
        }
        Ok(())
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}

/// Encodes a frame into its shard's queue, each record with its end and its place.
fn fill(
    queue: &mut Queue,
    emitter: &mut Emitter,
    delivery: &Delivery<'_>,
    within: Option<(u64, u64)>,
) -> anyhow::Result<()> {
    if queue.marks.is_empty() {
        queue.since = Instant::now();
    }
    queue.at_tail = false;
    let deaggregate = emitter.deaggregates();
    each_record(delivery, deaggregate, within, &mut |record, Spot { sub, .. }| {
        let is_last = sub.is_none();
        if !emitter.encode(record, &mut queue.bytes) {
            return Ok(false);
        }
        let end = queue.gone + queue.bytes.len() as u64;
        let payload = record.payload.len() as u64;
        let sub = record.sub_sequence;
        queue.marks.push_back(Mark { end, payload, sequence: record.sequence, sub, is_last });
        Ok(true)
    })
}
