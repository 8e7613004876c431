//! Random histories of a shard, held against a plain list.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{expire, segments};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Frames of so many records each, by one of three writers.
    Append {
        writer: usize,
        frames: Vec<u64>,
        codec: Codec,
        produced: bool,
    },
    Sync(usize),
    SyncAll(usize),
    Roll(usize),
    Pause(usize),
    Kill(usize),
    Crash(u64),
    Tick(i64),
    /// Removes what arrived before the record at this part (of 256) of what is left.
    Expire(u8),
    SeekIndex(u8),
    SeekTime(u8),
    SeekEnd,
    Follow,
    Park,
    LoseIndexes,
    End(usize),
    /// The follower makes durable what it has read.
    MakeDurable,
    In(Trouble, Box<Step>),
}

/// What goes wrong in a step.
#[derive(Debug, Clone)]
enum Trouble {
    /// The process that does it dies at this operation from now.
    Death(u64),
    /// The power goes there.
    Power(u64, u64),
    /// This sync from now fails.
    Sync(u64),
    /// The disk has so many bytes left.
    Full(u64),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        4 => (1u64..10).prop_map(Trouble::Death),
        4 => (1u64..10, any::<u64>()).prop_map(|(after, seed)| Trouble::Power(after, seed)),
        3 => (1u64..4).prop_map(Trouble::Sync),
        2 => (0u64..3000).prop_map(Trouble::Full),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => calm(),
        1 => (trouble(), work()).prop_map(|(trouble, step)| Step::In(trouble, Box::new(step))),
    ]
}

/// What changes the log, or waits for it.
fn work() -> impl Strategy<Value = Step> {
    let writer = || 0usize..3;
    let codec = prop_oneof![3 => Just(Codec::None), 1 => Just(Codec::Lz4), 1 => Just(Codec::Zstd)];
    prop_oneof![
        20 => (writer(), proptest::collection::vec(1u64..8, 1..4), codec, prop::bool::weighted(0.2))
            .prop_map(|(writer, frames, codec, produced)| Step::Append { writer, frames, codec, produced }),
        6 => writer().prop_map(Step::Sync),
        2 => writer().prop_map(Step::SyncAll),
        2 => writer().prop_map(Step::Roll),
        4 => writer().prop_map(Step::Pause),
        2 => any::<u8>().prop_map(Step::Expire),
        1 => writer().prop_map(Step::End),
        3 => Just(Step::MakeDurable),
    ]
}

fn calm() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => work(),
        3 => (0usize..3).prop_map(Step::Kill),
        3 => any::<u64>().prop_map(Step::Crash),
        4 => (-50i64..200).prop_map(Step::Tick),
        3 => any::<u8>().prop_map(Step::SeekIndex),
        3 => any::<u8>().prop_map(Step::SeekTime),
        1 => Just(Step::SeekEnd),
        5 => Just(Step::Follow),
        1 => Just(Step::Park),
        1 => Just(Step::LoseIndexes),
    ]
}

struct World {
    machine: Machine,
    writers: [Option<Writer>; 3],
    now_us: i64,
    numbers: u64,
    /// Everything that is in the log, in order.
    written: Vec<Got>,
    /// How many of those have been acknowledged.
    acked: usize,
    /// The index behind the last record of each writer.
    last: [Option<u64>; 3],
    /// Which record ever had an index.
    used: BTreeMap<u64, u64>,
    follower: Reader,
    /// How many of the written the follower has seen.
    followed: usize,
    ended: bool,
    /// The records of the append that was cut short.
    flying: std::ops::Range<u64>,
    /// A sync has failed: what was not acknowledged may be given up.
    failed: bool,
    parked: bool,
    /// The follower has come to the end of the shard.
    follow_ended: bool,
    /// Something goes wrong in this step.
    troubled: bool,
}

impl World {
    fn new() -> Self {
        let machine = machine();
        Self {
            follower: reader(&machine),
            machine,
            writers: [None, None, None],
            now_us: 1_700_000_000_000_000,
            numbers: 0,
            written: Vec::new(),
            acked: 0,
            last: [None; 3],
            used: BTreeMap::new(),
            followed: 0,
            ended: false,
            flying: 0..0,
            failed: false,
            follow_ended: false,
            parked: false,
            troubled: false,
        }
    }

    /// The writer, alive; `None` if the shard has ended.
    fn writer(&mut self, which: usize) -> Option<&mut Writer> {
        if self.writers[which].is_none() {
            match open(&self.machine, TINY) {
                Ok(writer) => self.writers[which] = Some(writer),
                Err(error) => self.refused(&error),
            }
        }
        self.writers[which].as_mut()
    }

    /// An attempt has failed. It must have had a reason to.
    fn refused(&self, error: &Error) {
        let expected = match error {
            Error::Closed(_) => self.ended || self.troubled,
            Error::Condemned { .. } => self.failed || self.machine.is_stopped(),
            _ => self.troubled,
        };
        assert!(expected, "{error:?}");
    }

    /// Notes what is in the log now: what is new there must be what `new` says, as far as it goes.
    fn learn(&mut self) {
        let new = std::mem::take(&mut self.flying);
        let all = read_all(&self.machine);
        let at = all.records.iter().position(|got| got.number == new.start).unwrap_or(all.records.len());
        for (got, number) in all.records[at..].iter().zip(new.clone()) {
            assert_eq!(got.number, number);
            self.note(*got);
        }
    }

    fn note(&mut self, got: Got) {
        assert!(self.written.last().is_none_or(|last| last.index < got.index));
        assert_eq!(*self.used.entry(got.index).or_insert(got.number), got.number, "index used twice");
        self.written.push(got);
    }

    fn append(&mut self, which: usize, frames: &[u64], codec: Codec, produced: bool) {
        let (mut batches, first) = (Vec::new(), self.numbers);
        for count in frames {
            batches.push(batch(self.numbers..self.numbers + count));
            self.numbers += count;
        }
        let provenance = provenance("p", 1, self.numbers);
        let drafts: Vec<Draft<'_>> =
            batches.iter_mut().map(|batch| batch.draft(codec, produced.then_some(&provenance))).collect();
        let numbers = first..self.numbers;
        let Some(writer) = self.writer(which) else { return };
        match writer.append(&drafts) {
            Ok(Appended { first, arrival_us }) => {
                for (number, index) in numbers.zip(first..) {
                    self.note(Got { index, number, arrival_us });
                    self.last[which] = Some(index);
                }
            }
            Err(error) => {
                self.refused(&error);
                // On a full disk nothing is left of it, and the writer goes on.
                let full = matches!(&error, Error::DiskFull { .. }) && !self.machine.is_stopped();
                // After a power loss what was cut off may be there again.
                self.flying = numbers;
                if !full && !matches!(error, Error::Closed(_)) {
                    self.kill(which);
                }
            }
        }
    }

    fn kill(&mut self, which: usize) {
        self.writers[which] = None;
        self.last[which] = None;
    }

    fn sync(&mut self, which: usize, all: bool) {
        let written = self.written.len();
        let Some(writer) = &mut self.writers[which] else { return };
        let ticket = if all { Some(writer.full_ticket()) } else { writer.ticket() };
        if let Some(ticket) = ticket {
            if let Err(failure) = ticket.wait() {
                let error =
                    if self.machine.is_stopped() { failure } else { writer.condemn(&ticket, failure) };
                self.refused(&error);
                return self.kill(which);
            }
            writer.synced(&ticket);
        }
        let durable = writer.durable();
        // Acknowledged are this writer's own records, and with them all before.
        let own = self.written.partition_point(|got| Some(got.index) <= self.last[which]);
        let known = self.written.partition_point(|got| got.index < durable).min(written);
        assert!(known >= own, "what the writer has written is durable by its own word");
        self.acked = self.acked.max(known);
    }

    /// A sync has failed once: what was not acknowledged may have been given up, and whoever has read it is told.
    fn give_up(&mut self) {
        let all = read_all(&self.machine);
        // Not by what is seen first: that may be what came behind all that was given up.
        let base = segments(&log_on(&self.machine)).unwrap()[0].base;
        let start = self.written.partition_point(|got| got.index < base);
        let same = self.written[start..].iter().zip(&all.records).take_while(|(a, b)| a == b).count();
        let (kept, behind) = (start + same, &all.records[same..]);
        if kept < self.written.len() {
            assert!(kept >= self.acked, "acknowledged and given up: {kept} of {}", self.acked);
            assert!(
                behind.iter().all(|got| self.written[kept..].contains(got)),
                "{behind:?} were not written"
            );
            self.written.splice(kept.., behind.iter().copied());
        }
        let given_up = self.followed > kept;
        // Where it was parked it is not told: it cannot say any more from which segment it has read.
        if given_up && !self.parked {
            let told = self.follower.make_durable();
            assert!(matches!(told, Err(Error::Condemned { .. })), "{told:?}");
        }
        if given_up || self.follow_ended && !all.ended {
            self.follow_from(kept.min(self.followed));
        }
        self.ended &= all.ended;
        self.compare(&all, false);
    }

    /// A new follower that has seen so many of the written.
    fn follow_from(&mut self, seen: usize) {
        self.follower = reader(&self.machine);
        if let Some(last) = seen.checked_sub(1) {
            self.follower.seek_index(self.written[last].index + 1).unwrap();
        }
        (self.followed, self.follow_ended, self.parked) = (seen, false, false);
    }

    /// The power goes; then a writer recovers the log, and what is there is a prefix with all that was acknowledged.
    fn crash(&mut self, seed: u64) {
        self.writers = [None, None, None];
        self.last = [None; 3];
        self.machine.crash(seed);
        self.learn();
        // What is shown before the recovery is part of what was written, too.
        self.compare(&read_all(&self.machine), true);
        self.writer((seed % 3) as usize);
        let all = read_all(&self.machine);
        self.compare(&all, true);
        let last = all.records.last().map(|got| got.index);
        let kept = self.written.partition_point(|got| Some(got.index) <= last).max(self.trimmed(&all));
        assert!(kept >= self.acked, "acknowledged and lost: {} of {}", kept, self.acked);
        self.written.truncate(kept);
        self.acked = kept;
        self.ended = all.ended;
        self.follow_from(kept.min(self.followed));
    }

    /// How many of the written were removed by retention, going by what a reader sees first.
    fn trimmed(&self, all: &All) -> usize {
        let oldest = all.records.first().map(|got| got.index);
        let first = oldest.unwrap_or_else(|| segments(&log_on(&self.machine)).unwrap()[0].base);
        self.written.partition_point(|got| got.index < first)
    }

    /// What a reader saw from the start is what was written, but for what retention removed.
    fn compare(&self, all: &All, prefix: bool) {
        let written = &self.written[self.trimmed(all)..];
        let end = if prefix { all.records.len().min(written.len()) } else { written.len() };
        assert_eq!(all.records, written[..end]);
        assert_eq!(all.missed, []);
    }

    fn pick(&self, part: u8) -> Option<usize> {
        (!self.written.is_empty()).then(|| self.written.len() * usize::from(part) / 256)
    }

    /// A new reader, sought by `seek`, sees everything from the frame that `from` is in, or what is left of it.
    fn seek(&self, seek: impl Fn(&mut Reader), from: usize, exact: bool) {
        let start = self.trimmed(&read_all(&self.machine));
        let mut reader = reader(&self.machine);
        seek(&mut reader);
        let all = read(&mut reader).unwrap();
        let wanted = &self.written[from.max(start)..];
        assert!(all.records.ends_with(wanted), "sought {wanted:?}, got {all:?}");
        assert!(all.damage.is_empty());
        // A frame has at most seven records.
        let extra = all.records.len() - wanted.len();
        assert!(extra == 0 || !exact && extra < 8, "sought {wanted:?}, got {all:?}");
        assert_eq!(all.missed.is_empty(), from >= start || exact, "{all:?}");
    }

    fn follow(&mut self) {
        let all = read(&mut self.follower).unwrap();
        assert_eq!(all.damage, []);
        self.follow_ended |= all.ended;
        self.parked = false;
        // One that has read nothing yet begins at what is left, and misses nothing.
        let begun = if self.followed == 0 { self.trimmed(&all) } else { 0 };
        let seen =
            |got: &&Got| !all.missed.iter().any(|missed| (missed.from..missed.to).contains(&got.index));
        let wanted: Vec<Got> =
            self.written[self.followed.max(begun)..].iter().filter(seen).copied().collect();
        assert_eq!(all.records, wanted, "{:?}", all.missed);
        let left = self.trimmed(&read_all(&self.machine));
        let oldest = self.written.get(left).map_or(u64::MAX, |got| got.index);
        assert!(all.missed.iter().all(|missed| missed.to <= oldest), "{:?}", all.missed);
        self.followed = self.written.len();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { writer, frames, codec, produced } => self.append(writer, &frames, codec, produced),
            Step::Sync(writer) => self.sync(writer, false),
            Step::SyncAll(writer) => self.sync(writer, true),
            Step::Roll(writer) => {
                if let Some(Err(error)) = self.writer(writer).map(Writer::roll) {
                    self.refused(&error);
                    self.kill(writer);
                }
            }
            Step::Pause(writer) => {
                if let Some(Err(error)) = self.writers[writer].take().map(|mut gone| gone.pause()) {
                    self.refused(&error);
                }
                self.last[writer] = None;
            }
            Step::Kill(writer) => self.kill(writer),
            Step::Crash(seed) => self.crash(seed),
            Step::Tick(us) => {
                self.now_us += us;
                self.machine.set_clock(self.now_us);
            }
            Step::Expire(part) => {
                let horizon_us = self.pick(part).map(|at| self.written[at].arrival_us);
                let before = self.trimmed(&read_all(&self.machine));
                if let Err(error) = expire(&log_on(&self.machine), horizon_us, None) {
                    self.refused(&error);
                    if self.machine.is_stopped() {
                        return;
                    }
                }
                let all = read_all(&self.machine);
                let after = self.trimmed(&all);
                assert!(self.written[before..after].iter().all(|got| Some(got.arrival_us) < horizon_us));
                self.acked = self.acked.max(after);
                self.compare(&all, false);
            }
            Step::SeekIndex(part) => {
                if let Some(at) = self.pick(part) {
                    let index = self.written[at].index;
                    self.seek(|reader| reader.seek_index(index).unwrap(), at, false);
                }
            }
            Step::SeekTime(part) => {
                if let Some(at) = self.pick(part) {
                    let time = self.written[at].arrival_us;
                    let first = self.written.partition_point(|got| got.arrival_us < time);
                    self.seek(|reader| reader.seek_time(time).unwrap(), first, true);
                }
            }
            Step::SeekEnd => self.seek(|reader| reader.seek_end().unwrap(), self.written.len(), true),
            Step::Follow => self.follow(),
            Step::Park => {
                self.follower.park();
                self.parked = true;
            }
            Step::LoseIndexes => {
                let disk = self.machine.system().disk;
                for name in disk.list(Path::new("/s/log")).unwrap() {
                    if Path::new(&name).extension().is_some_and(|end| end == "idx") {
                        disk.remove(&Path::new("/s/log").join(name)).unwrap();
                    }
                }
            }
            Step::End(writer) => {
                match self.writer(writer).map(|writer| writer.end(&end())) {
                    None => {}
                    Some(Ok(_)) => {
                        self.ended = true;
                        // On its way it may have given up what another had written where a sync failed.
                        if self.failed {
                            self.give_up();
                        }
                        self.acked = self.written.len();
                        assert!(read_all(&self.machine).ended);
                    }
                    Some(Err(error)) => {
                        self.refused(&error);
                        self.kill(writer);
                    }
                }
            }
            Step::MakeDurable => match self.follower.make_durable() {
                Ok(()) => self.acked = self.acked.max(self.followed),
                Err(error) => self.refused(&error),
            },
            Step::In(trouble, step) => self.within(&trouble, *step),
        }
    }

    /// A process that was stopped is gone; what it left is there.
    fn restart(&mut self) {
        if self.machine.resume() {
            self.learn();
            // It may have been about to end the shard.
            self.ended |= read_all(&self.machine).ended;
        }
    }

    fn within(&mut self, trouble: &Trouble, step: Step) {
        self.troubled = true;
        self.flying = 0..0;
        let mut faults = crate::sys::sim::Faults::default();
        match *trouble {
            Trouble::Death(after) | Trouble::Power(after, _) => {
                faults.stop_at = Some(self.machine.operations().0 + after);
            }
            Trouble::Sync(which) => (faults.sync_fails, self.failed) = (Some(which), true),
            Trouble::Full(bytes) => faults.capacity = Some(self.machine.used() + bytes),
        }
        self.machine.fail(faults);
        let reads = matches!(step, Step::MakeDurable);
        self.step(step);
        let died = self.machine.is_stopped();
        if let Trouble::Power(_, seed) = *trouble
            && self.machine.is_stopped()
        {
            self.machine.crash(seed);
            self.learn();
            self.crash(seed);
        }
        self.restart();
        self.machine.resume();
        if died && reads {
            self.follow_from(self.followed);
        }
        self.troubled = false;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), failure_persistence: None, ..ProptestConfig::default() })]

    /// Three writers, a follower, retention, deaths and power losses, in any order.
    #[test]
    fn any_history_agrees_with_a_list(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            if world.failed {
                world.give_up();
            }
        }
        world.compare(&read_all(&world.machine), false);
        world.follow();
    }
}
