//! The commits of a delivery held against the records of its stream.
//!
//! Each commit says where every shard stood then. What lies between that and the commit before it is what its batch
//! delivered, down to single records of an aggregate: so each record that is read has one batch, or none, and the counts
//! of both sides are compared batch by batch. A batch with records that retention has removed since cannot be compared,
//! and all others still can.

use std::collections::BTreeMap;

use crate::hose::ledger::{Entry, Totals};
use crate::hose::track::{Left, ShardPosition};

/// What one commit added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Added {
    /// The commit's number.
    pub number: u64,
    /// How many commits before it are missing: what they added is in this.
    pub missing: u64,
    /// By what the totals grew.
    pub totals: Totals,
    /// By shard: records in objects and in the error output.
    pub shards: BTreeMap<u32, u64>,
    /// By shard: records of the stream that are there to be compared.
    pub seen: BTreeMap<u32, u64>,
    /// Whether some of its records cannot be read any more.
    pub has_holes: bool,
    /// Whether its batch took records apart, so that rows and records are different things.
    pub takes_apart: bool,
}

impl Added {
    /// Records in objects, in the error output and left out.
    pub fn accounted(&self) -> u64 {
        self.totals.records + self.totals.failed + self.totals.dropped
    }

    /// Records of the stream.
    pub fn read(&self) -> u64 {
        self.seen.values().sum()
    }
}

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is not the delivery's business.
    Before,
    /// The commit at this place of the list delivered it.
    Commit(usize),
    /// It is not delivered.
    Nobody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u64,
    count: u64,
    owner: usize,
}

/// Ranges of parts: (first, count), in order, apart.
type Parts = Vec<(u64, u64)>;

/// What is known of one shard.
#[derive(Debug, Default)]
struct Lane {
    began: u64,
    position: ShardPosition,
    spans: Vec<Span>,
    /// Records that were delivered in parts: which parts of them by which commit.
    parts: BTreeMap<u64, Vec<(u64, u64, usize)>>,
    /// Where the reader is in `spans`.
    at: usize,
}

/// All commits of a delivery, ready to be held against its stream.
#[derive(Debug, Default)]
pub struct Tally {
    /// What each commit added, in their order.
    pub added: Vec<Added>,
    lanes: BTreeMap<u32, Lane>,
    /// Commits that stand behind the one before them, as (number, shard): records were delivered again.
    pub backwards: Vec<(u64, u32)>,
}

impl Tally {
    /// Takes the commits in their order.
    pub fn new(commits: &[Entry]) -> Self {
        let mut tally = Self::default();
        let (mut number, mut totals) = (0, Totals::default());
        for commit in commits {
            let owner = tally.added.len();
            let mut added = Added {
                number: commit.number,
                missing: commit.number.saturating_sub(number + 1),
                totals: commit.totals.since(totals),
                takes_apart: !commit.units.is_empty(),
                ..Added::default()
            };
            (number, totals) = (commit.number, commit.totals);
            for note in commit.objects.iter().chain(&commit.errors) {
                for (&shard, &(_, _, records)) in &note.shards {
                    *added.shards.entry(shard).or_default() += records;
                }
            }
            for (&shard, position) in &commit.positions {
                let began = commit.began.get(&shard).copied().unwrap_or(0);
                let fresh = || Lane {
                    began,
                    position: ShardPosition { to: began, ..ShardPosition::default() },
                    ..Lane::default()
                };
                let lane = tally.lanes.entry(shard).or_insert_with(fresh);
                if position.to < lane.position.to || position.low() < lane.position.low() {
                    tally.backwards.push((commit.number, shard));
                }
                lane.deliver(position, owner);
            }
            tally.added.push(added);
        }
        for lane in tally.lanes.values_mut() {
            lane.spans.sort_unstable_by_key(|span| span.first);
        }
        tally
    }

    /// The shards that were begun.
    pub fn shards(&self) -> impl Iterator<Item = u32> {
        self.lanes.keys().copied()
    }

    /// Where the delivery began in a shard, and where it stands.
    pub fn standing(&self, shard: u32) -> Option<(u64, &ShardPosition)> {
        self.lanes.get(&shard).map(|lane| (lane.began, &lane.position))
    }

    /// Counts a record, whose shard is read in order, as one that is there; answers whose it is. Of an aggregate `sub` is
    /// the place in it.
    pub fn see(&mut self, shard: u32, index: u64, sub: Option<u64>) -> Owner {
        let owner = self.lanes.get_mut(&shard).map_or(Owner::Nobody, |lane| lane.owner(index, sub));
        if let Owner::Commit(at) = owner {
            *self.added[at].seen.entry(shard).or_default() += 1;
        }
        owner
    }

    /// Notes that records of a shard cannot be read any more: `from..to`.
    pub fn hole(&mut self, shard: u32, from: u64, to: u64) {
        let Some(lane) = self.lanes.get(&shard) else { return };
        let first = lane.spans.partition_point(|span| span.first + span.count <= from);
        let spans = lane.spans[first..].iter().take_while(|span| span.first < to).map(|span| span.owner);
        let parts = lane.parts.range(from..to.max(from)).flat_map(|(_, parts)| parts).map(|part| part.2);
        let owners: Vec<usize> = spans.chain(parts).collect();
        for owner in owners {
            self.added[owner].has_holes = true;
        }
    }
}

impl Lane {
    /// Takes what lies between the last position and this one.
    fn deliver(&mut self, position: &ShardPosition, owner: usize) {
        let before = std::mem::replace(&mut self.position, position.clone());
        let mut open: Vec<Left> = before.left;
        if position.to > before.to {
            open.push(Left { first: before.to, count: position.to - before.to, parts: None });
        }
        let mut left = position.left.iter().peekable();
        for range in open {
            let end = range.first + range.count;
            let mut at = range.first;
            while at < end {
                while left.peek().is_some_and(|left| left.first + left.count <= at) {
                    left.next();
                }
                let next = left.peek().filter(|left| left.first < end);
                let free = next.map_or(end, |left| left.first.max(at));
                if free > at {
                    match &range.parts {
                        Some(parts) => self.deliver_parts(at, parts.clone(), owner),
                        None => self.spans.push(Span { first: at, count: free - at, owner }),
                    }
                }
                let Some(next) = next else { break };
                if let Some(still) = &next.parts {
                    let all = vec![(0, u64::MAX)];
                    let were = range.parts.as_ref().unwrap_or(&all);
                    self.deliver_parts(next.first, without(were, still), owner);
                }
                at = (next.first + next.count).min(end);
            }
        }
    }

    fn deliver_parts(&mut self, index: u64, parts: Parts, owner: usize) {
        let known = self.parts.entry(index).or_default();
        known.extend(parts.into_iter().map(|(first, count)| (first, count, owner)));
    }

    fn owner(&mut self, index: u64, sub: Option<u64>) -> Owner {
        if index < self.began {
            return Owner::Before;
        }
        if let Some(parts) = self.parts.get(&index) {
            let sub = sub.unwrap_or(0);
            let part = parts.iter().find(|&&(first, count, _)| first <= sub && sub - first < count);
            return part.map_or(Owner::Nobody, |&(_, _, owner)| Owner::Commit(owner));
        }
        // Records come in their order; somebody may begin anew.
        if self.spans.get(self.at).is_some_and(|span| span.first > index) {
            self.at = self.spans.partition_point(|span| span.first + span.count <= index);
        }
        while self.spans.get(self.at).is_some_and(|span| span.first + span.count <= index) {
            self.at += 1;
        }
        match self.spans.get(self.at) {
            Some(span) if span.first <= index => Owner::Commit(span.owner),
            _ => Owner::Nobody,
        }
    }
}

/// Parts that are among these and not among those.
fn without(these: &[(u64, u64)], those: &[(u64, u64)]) -> Parts {
    let mut rest = Vec::new();
    for &(first, count) in these {
        let (mut at, end) = (first, first.saturating_add(count));
        for &(first, count) in those {
            let stop = first.saturating_add(count);
            if stop <= at || first >= end {
                continue;
            }
            if first > at {
                rest.push((at, first - at));
            }
            at = stop;
        }
        if at < end {
            rest.push((at, end - at));
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::hose::chunk::Origin;
    use crate::hose::track::{ObjectId, Positions, Tracker};
    use crate::record::ShardId;

    fn entry(number: u64, positions: Positions, records: u64) -> Entry {
        Entry {
            khose: 1,
            number,
            id: Uuid::nil(),
            stream: "s".to_owned(),
            stream_id: Uuid::nil(),
            written_us: 0,
            oldest_us: 0,
            version: 1,
            settings: String::new(),
            units: String::new(),
            began: BTreeMap::from([(0, 0)]),
            positions,
            objects: Vec::new(),
            errors: Vec::new(),
            replaces: Vec::new(),
            error_names: Vec::new(),
            totals: Totals { records, ..Totals::default() },
        }
    }

    fn position(to: u64, left: Vec<Left>) -> Positions {
        BTreeMap::from([(0, ShardPosition { to, end: false, left })])
    }

    #[test]
    fn a_record_belongs_to_the_commit_that_delivered_it() {
        let left = |first, count, parts| Left { first, count, parts };
        let commits = [
            entry(1, position(10, vec![left(3, 2, None), left(7, 1, Some(vec![(0, 2), (5, 3)]))]), 0),
            entry(3, position(12, vec![left(4, 1, None), left(7, 1, Some(vec![(5, 3)]))]), 0),
            entry(4, position(12, Vec::new()), 0),
        ];
        let mut tally = Tally::new(&commits);
        let mut owners = String::new();
        for index in (0..14).filter(|index| *index != 7) {
            owners.push(match tally.see(0, index, None) {
                Owner::Commit(at) => char::from(b'a' + at as u8),
                Owner::Before => '<',
                Owner::Nobody => '-',
            });
        }
        assert_eq!(owners, "aaabcaaaabb--");
        let parts: Vec<Owner> = (0..9).map(|sub| tally.see(0, 7, Some(sub))).collect();
        let at = |at| Owner::Commit(at);
        assert_eq!(parts, [at(1), at(1), at(0), at(0), at(0), at(2), at(2), at(2), at(0)]);
        assert_eq!(tally.added.iter().map(Added::read).collect::<Vec<_>>(), [11, 5, 4]);
        assert_eq!(tally.added.iter().map(|added| added.missing).collect::<Vec<_>>(), [0, 1, 0]);
        tally.hole(0, 4, 5);
        assert_eq!(tally.added.iter().map(|added| added.has_holes).collect::<Vec<_>>(), [false, false, true]);
        tally.hole(0, 7, 8);
        assert!(tally.added.iter().all(|added| added.has_holes));
        assert_eq!(tally.see(9, 1, None), Owner::Nobody);
    }

    #[test]
    fn who_goes_back_is_seen() {
        let commits = [entry(1, position(10, Vec::new()), 10), entry(2, position(8, Vec::new()), 12)];
        assert_eq!(Tally::new(&commits).backwards, [(2, 0)]);
    }

    proptest! {
        /// Whatever the tracker notes down, each part of each record is found with the commit that delivered it.
        #[test]
        fn every_record_has_its_commit(
            subs in proptest::collection::vec(0u64..4, 1..40),
            choices in proptest::collection::vec(0u64..4, 200),
            steps in proptest::collection::vec((1usize..12, 1u64..4, any::<bool>()), 1..30),
        ) {
            let shard = ShardId(0);
            let mut delivered: BTreeMap<(u64, Option<u64>), usize> = BTreeMap::new();
            let mut commits: Vec<Entry> = Vec::new();
            let mut choice = choices.iter().cycle();
            let mut steps = steps.iter().cycle();
            let mut standing = ShardPosition::default();
            'runs: for _ in 0..30 {
                let mut tracker = Tracker::default();
                let mut index = tracker.begin(shard, &standing);
                let mut open: BTreeMap<u64, Vec<(u64, Option<u64>)>> = BTreeMap::new();
                for round in 0..12 {
                    let (count, object, killed) = steps.next().unwrap();
                    for _ in 0..*count {
                        let Some(&parts) = subs.get(index as usize) else { break };
                        let places: Vec<Option<u64>> = if parts == 0 { vec![None] } else { (0..parts).map(Some).collect() };
                        for sub in places {
                            if tracker.wants(shard, index, sub) {
                                let object = 1 + round * 10 + choice.next().unwrap();
                                let origin = Origin { shard, shard_created_s: 0, index, sub, arrival_us: 0 };
                                tracker.note(&origin, 1, ObjectId(object));
                                open.entry(object).or_default().push((index, sub));
                            }
                        }
                        index += 1;
                        tracker.read_to(shard, index);
                    }
                    let due: BTreeSet<ObjectId> =
                        open.keys().filter(|id| *id % 4 == *object).map(|&id| ObjectId(id)).collect();
                    standing = tracker.positions(&due)[&0].clone();
                    tracker.delivered(&due);
                    for id in due {
                        for place in open.remove(&id.0).unwrap() {
                            prop_assert_eq!(delivered.insert(place, commits.len()), None);
                        }
                    }
                    commits.push(entry(commits.len() as u64 + 1, BTreeMap::from([(0, standing.clone())]), 0));
                    if *killed { continue 'runs; }
                }
                break;
            }
            let mut tally = Tally::new(&commits);
            prop_assert!(tally.backwards.is_empty());
            for (index, &parts) in subs.iter().enumerate() {
                let places: Vec<Option<u64>> = if parts == 0 { vec![None] } else { (0..parts).map(Some).collect() };
                for sub in places {
                    let expected = delivered.get(&(index as u64, sub)).map_or(Owner::Nobody, |&at| Owner::Commit(at));
                    prop_assert_eq!(tally.see(0, index as u64, sub), expected, "{} {:?}", index, sub);
                }
            }
        }
    }
}
