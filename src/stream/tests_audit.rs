//! What is in a stream's logs, held against what was written, acknowledged and removed: the plain model beside which
//! the histories of `tests_model` run.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::log::verify::{Depth, Event, Flaw, Severity, verify};
use crate::log::{Found, Reader};

/// Records are numbered by where they come from: this many for each.
pub(super) const ORIGIN: u64 = 1_000_000;
/// The source of the named producer, which any number of runs read.
pub(super) const SOURCE: u64 = 2;

/// The key that a number stands for; a fifth of the records have none. Whatever has one key comes from one place, in
/// the order of the numbers.
pub(super) fn key(number: u64) -> Option<String> {
    (!number.is_multiple_of(5)).then(|| format!("{}-{}", number / ORIGIN, number % 5))
}

/// The payload that a number stands for.
pub(super) fn payload(number: u64) -> Vec<u8> {
    let mut bytes = format!("{number:08}").into_bytes();
    bytes.resize(8 + (number as usize * 37) % 190, b'x');
    bytes
}

/// The number of a payload, which must be whole.
pub(super) fn number(bytes: &[u8]) -> u64 {
    let number = std::str::from_utf8(&bytes[..8]).unwrap().parse().unwrap();
    assert_eq!(bytes, payload(number));
    number
}

/// A record where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) index: u64,
    pub(super) number: u64,
    pub(super) arrival_us: i64,
}

/// What may have happened since the last look.
pub(super) struct Allowed {
    /// The records that a process without a name was writing.
    pub(super) flying: std::ops::Range<u64>,
    /// How many records the source of the named producer has.
    pub(super) source: u64,
    /// Retention was allowed to take what arrived before this.
    pub(super) horizon_us: Option<i64>,
}

/// All that is known of a stream.
#[derive(Default)]
pub(super) struct Audit {
    /// What is in each shard, in order, and what retention has taken of its start.
    pub(super) shards: BTreeMap<u32, Vec<Got>>,
    /// How many of a shard's records retention has taken.
    pub(super) gone: BTreeMap<u32, usize>,
    /// Records that their producer was told are on the disk.
    pub(super) acknowledged: BTreeSet<u64>,
    /// Places that consumers have written down to be done.
    pub(super) committed: BTreeSet<(u32, u64)>,
    /// Where a record was that was lost again, never acknowledged.
    pub(super) lost: BTreeSet<(u32, u64)>,
    /// Which record ever had an index.
    used: BTreeMap<(u32, u64), u64>,
    /// Shards of which a tail that was not acknowledged may be lost: the power went, or a sync failed, and nobody has
    /// written since.
    pub(super) loose: BTreeSet<u32>,
}

impl Audit {
    /// The records that are there, with their shards; parents come before children.
    pub(super) fn present(&self) -> impl Iterator<Item = (u32, Got)> + '_ {
        self.shards.iter().flat_map(|(&shard, all)| {
            all[self.gone.get(&shard).copied().unwrap_or(0)..].iter().map(move |got| (shard, *got))
        })
    }

    /// Looks at everything, and takes it for what is there from now on.
    pub(super) fn look(&mut self, stream: &Stream, allowed: &Allowed) {
        let manifest = stream.manifest();
        for info in &manifest.shards {
            self.look_at(stream, info, allowed);
        }
        // Whole shards go only when all in them has expired.
        for (shard, all) in &self.shards {
            // A manifest that was not yet durable is that of before: then its children are still to be finished.
            let pending = manifest.pending.iter().flat_map(|reshard| &reshard.children);
            let hidden = pending.into_iter().any(|child| child.shard == *shard);
            if manifest.shard(ShardId(*shard)).is_none() && !hidden {
                let gone = self.gone.entry(*shard).or_insert(0);
                let expired = |got: &Got| Some(got.arrival_us) < allowed.horizon_us;
                assert!(all[*gone..].iter().all(expired), "{shard}: gone, and not expired");
                *gone = all.len();
            }
        }
        self.compare(stream);
    }

    fn look_at(&mut self, stream: &Stream, info: &ShardInfo, allowed: &Allowed) {
        let shard = info.shard;
        let log = stream.log_dir(info);
        let (found, ended) = read(&log);
        let segments = log::segments(&log).unwrap();
        let (base, last) = (segments[0].base, segments[segments.len() - 1].base);
        let marked = log.system.disk.exists(&log.dir.join(format!("{last:020}.bad")));
        let all = self.shards.entry(shard).or_default();
        let gone = all.partition_point(|got| got.index < base);
        let before = self.gone.insert(shard, gone).unwrap_or(0);
        let taken = all.get(before..gone).unwrap_or(&[]);
        assert!(
            taken.iter().all(|got| Some(got.arrival_us) < allowed.horizon_us),
            "{shard}: {taken:?} are gone, and had not expired by {:?}",
            allowed.horizon_us
        );
        let same = all[gone..].iter().zip(&found).take_while(|(a, b)| a == b).count();
        let lost = all.split_off(gone + same);
        if !lost.is_empty() {
            assert!(self.loose.contains(&shard), "{shard}: {lost:?} are lost, and nothing has happened");
            let kept = lost.iter().find(|got| self.acknowledged.contains(&got.number));
            assert_eq!(kept, None, "{shard}: acknowledged and lost");
            let committed = lost.iter().find(|got| self.committed.contains(&(shard, got.index)));
            assert_eq!(committed, None, "{shard}: a checkpoint lies beyond it, and it is lost");
            self.lost.extend(lost.iter().map(|got| (shard, got.index)));
        }
        for got in &found[same..] {
            let named = got.number >= SOURCE * ORIGIN && got.number < SOURCE * ORIGIN + allowed.source;
            assert!(named || allowed.flying.contains(&got.number), "{shard}: {got:?} was not written now");
            let first = *self.used.entry((shard, got.index)).or_insert(got.number);
            assert!(
                first == got.number && !self.lost.contains(&(shard, got.index)),
                "{shard}: index {} was that of {first}, and is that of {}",
                got.index,
                got.number
            );
            all.push(*got);
            // In a segment that is marked, what comes is given up too.
            if !marked {
                self.loose.remove(&shard);
            }
        }
        assert!(info.is_open() || ended, "{shard}: closed in the manifest alone");
        // A child's first record comes after its parents' ends.
        if !all.is_empty() {
            for parent in info.parents.iter().filter_map(|&parent| stream.manifest().shard(ShardId(parent))) {
                assert!(read(&stream.log_dir(parent)).1, "{shard} has records, and {} is open", parent.shard);
            }
        }
    }

    /// What must hold of all shards together.
    fn compare(&self, stream: &Stream) {
        let mut seen = BTreeSet::new();
        let mut last = BTreeMap::new();
        for (shard, all) in &self.shards {
            for pair in all.windows(2) {
                assert!(pair[0].index < pair[1].index && pair[0].arrival_us <= pair[1].arrival_us, "{shard}");
            }
            for got in all {
                assert!(seen.insert(got.number), "{} is there twice", got.number);
                if let Some(key) = key(got.number) {
                    let before = last.insert(key, got.number);
                    assert!(before < Some(got.number), "{} comes after {before:?}", got.number);
                }
            }
        }
        let missing: Vec<&u64> = self.acknowledged.difference(&seen).collect();
        assert!(missing.is_empty(), "acknowledged, and not there: {missing:?}");
        // What a split that is under way has made holds no record.
        for child in stream.manifest().pending.iter().flat_map(|reshard| &reshard.children) {
            let dir = stream.path().join(ShardId(child.shard).to_string());
            let log = LogDir {
                dir,
                id: LogId { shard: child.shard, stream: *stream.manifest().stream_id.as_bytes() },
                ..stream.log_dir(&stream.manifest().shards[0])
            };
            if log::segments(&log).is_ok_and(|segments| !segments.is_empty()) {
                let known = self.shards.get(&child.shard).map_or(&[][..], Vec::as_slice);
                let all = read(&log).0;
                assert!(known.starts_with(&all), "{}: has {all:?} before it is in the manifest", child.shard);
            }
        }
    }

    /// No check finds damage.
    pub(super) fn verify(&self, stream: &Stream) {
        for info in &stream.manifest().shards {
            let mut found = Vec::new();
            let verified = verify(&stream.log_dir(info), Depth::All, &mut |event| {
                if let Event::Found(finding) = event {
                    found.push(finding);
                }
            });
            // An index is derived and never synced: after a power loss it may hold anything.
            let damage: Vec<_> = found
                .iter()
                .filter(|finding| finding.flaw.severity() == Severity::Damage)
                .filter(|finding| !matches!(finding.flaw, Flaw::Index(_)))
                .collect();
            assert!(damage.is_empty(), "{}: {damage:?}", info.shard);
            let there = self.present().filter(|(shard, _)| *shard == info.shard).count();
            assert_eq!(verified.unwrap().records, there as u64, "{}", info.shard);
        }
    }
}

/// All that is in a log, and whether it has ended. There must be no damage.
fn read(log: &LogDir) -> (Vec<Got>, bool) {
    let mut reader = Reader::new(log.clone());
    reader.seek_start().unwrap();
    let mut all = Vec::new();
    loop {
        match reader.read().unwrap() {
            Found::Frame(frame) => {
                for (record, index) in frame.records().unwrap().iter().zip(frame.header.first..) {
                    let number = number(record.payload);
                    assert_eq!(record.key.map(str::to_owned), key(number), "{number}");
                    all.push(Got { index, number, arrival_us: frame.header.arrival_us });
                }
            }
            Found::Tail => return (all, false),
            Found::End(_) => return (all, true),
            Found::Damage(damage) => panic!("{damage:?}"),
            Found::Missed(missed) => panic!("nobody reads here but this: {missed:?}"),
        }
    }
}
