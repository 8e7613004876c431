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
    /// The writer dies inside its next write, at this operation from now.
    Die {
        writer: usize,
        after: u64,
    },
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
}

fn step() -> impl Strategy<Value = Step> {
    let writer = || 0usize..3;
    let codec = prop_oneof![3 => Just(Codec::None), 1 => Just(Codec::Lz4), 1 => Just(Codec::Zstd)];
    prop_oneof![
        20 => (writer(), proptest::collection::vec(1u64..8, 1..4), codec, prop::bool::weighted(0.2))
            .prop_map(|(writer, frames, codec, produced)| Step::Append { writer, frames, codec, produced }),
        6 => writer().prop_map(Step::Sync),
        2 => writer().prop_map(Step::SyncAll),
        2 => writer().prop_map(Step::Roll),
        4 => writer().prop_map(Step::Pause),
        3 => writer().prop_map(Step::Kill),
        2 => (writer(), 1u64..8).prop_map(|(writer, after)| Step::Die { writer, after }),
        3 => any::<u64>().prop_map(Step::Crash),
        4 => (-50i64..200).prop_map(Step::Tick),
        2 => any::<u8>().prop_map(Step::Expire),
        3 => any::<u8>().prop_map(Step::SeekIndex),
        3 => any::<u8>().prop_map(Step::SeekTime),
        1 => Just(Step::SeekEnd),
        5 => Just(Step::Follow),
        1 => Just(Step::Park),
        1 => Just(Step::LoseIndexes),
        1 => writer().prop_map(Step::End),
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
        }
    }

    /// The writer, alive; `None` if the shard has ended.
    fn writer(&mut self, which: usize) -> Option<&mut Writer> {
        if self.writers[which].is_none() {
            match open(&self.machine, TINY) {
                Ok(writer) => self.writers[which] = Some(writer),
                Err(Error::Closed(_)) => assert!(self.ended),
                // It died as it opened.
                Err(Error::Io { .. }) => assert!(self.machine.resume()),
                Err(error) => panic!("{error:?}"),
            }
        }
        self.writers[which].as_mut()
    }

    /// Notes what is in the log now: what is new there must be what `new` says, as far as it goes.
    fn learn(&mut self, new: &std::ops::Range<u64>) {
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
            Err(Error::Closed(_)) if self.ended => {}
            // The process dies here.
            Err(Error::Io { .. }) => {
                assert!(self.machine.resume());
                self.kill(which);
                self.learn(&numbers);
            }
            Err(error) => panic!("{error:?}"),
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
            ticket.wait().unwrap();
            writer.synced(&ticket);
        }
        let durable = writer.durable();
        // Acknowledged are this writer's own records, and with them all before.
        let own = self.written.partition_point(|got| Some(got.index) <= self.last[which]);
        let known = self.written.partition_point(|got| got.index < durable).min(written);
        assert!(known >= own, "what the writer has written is durable by its own word");
        self.acked = self.acked.max(known);
    }

    /// The power goes; then a writer recovers the log, and what is there is a prefix with all that was acknowledged.
    fn crash(&mut self, seed: u64) {
        self.writers = [None, None, None];
        self.last = [None; 3];
        self.machine.crash(seed);
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
        self.follower = reader(&self.machine);
        if let Some(next) = kept.min(self.followed).checked_sub(1) {
            self.follower.seek_index(self.written[next].index + 1).unwrap();
        }
        self.followed = kept.min(self.followed);
    }

    /// How many of the written were removed by retention, going by what a reader sees first.
    fn trimmed(&self, all: &All) -> usize {
        let first = all.records.first().map_or(u64::MAX, |got| got.index);
        match all.records.first() {
            Some(_) => self.written.partition_point(|got| got.index < first),
            None => {
                let base = segments(&log_on(&self.machine)).unwrap()[0].base;
                self.written.partition_point(|got| got.index < base)
            }
        }
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
            Step::Roll(writer) => match self.writer(writer).map(Writer::roll) {
                None | Some(Ok(())) => {}
                Some(Err(Error::Closed(_))) => assert!(self.ended),
                Some(Err(error)) => panic!("{error:?}"),
            },
            Step::Pause(writer) => {
                if let Some(mut gone) = self.writers[writer].take() {
                    gone.pause().unwrap();
                }
                self.last[writer] = None;
            }
            Step::Kill(writer) => self.kill(writer),
            Step::Die { writer, after } => {
                self.writer(writer);
                let stop_at = Some(self.machine.operations().0 + after);
                self.machine.fail(crate::sys::sim::Faults { stop_at, ..Default::default() });
                self.append(writer, &[3, 3], Codec::None, true);
                if self.machine.resume() {
                    self.kill(writer);
                }
            }
            Step::Crash(seed) => self.crash(seed),
            Step::Tick(us) => {
                self.now_us += us;
                self.machine.set_clock(self.now_us);
            }
            Step::Expire(part) => {
                let horizon_us = self.pick(part).map(|at| self.written[at].arrival_us);
                let before = self.trimmed(&read_all(&self.machine));
                expire(&log_on(&self.machine), horizon_us, None).unwrap();
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
            Step::Park => self.follower.park(),
            Step::LoseIndexes => {
                let disk = self.machine.system().disk;
                for name in disk.list(Path::new("/s/log")).unwrap() {
                    if Path::new(&name).extension().is_some_and(|end| end == "idx") {
                        disk.remove(&Path::new("/s/log").join(name)).unwrap();
                    }
                }
            }
            Step::End(writer) => {
                if let Some(writer) = self.writer(writer) {
                    writer.end(&end()).unwrap();
                    self.ended = true;
                    self.acked = self.written.len();
                    assert!(read_all(&self.machine).ended);
                }
            }
        }
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
        }
        world.compare(&read_all(&world.machine), false);
        world.follow();
    }
}
