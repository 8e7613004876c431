//! Which records of each shard are in which object, and so which are delivered once an object is.
//!
//! The promise: from what is written down with a batch ([`Positions`]) a later run knows of every record whether it was
//! delivered, whatever object it was in, though objects of many partitions are closed at different times. Nothing is
//! asked of the stages for that: a record that would be given another partition the second time is still left out, for
//! it is known by its place and not by what became of it.
//!
//! ```text
//! shard     . . . . . [ a a b a b b a ] - - -     a: in an object that is delivered with this batch
//!           delivered  ^low         ^to unread     b: in one that is still open: "left"
//! ```

mod positions;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

pub use positions::{Among, Left, Positions, ShardPosition};

use super::chunk::Origin;
use crate::record::ShardId;

/// An object of this run, while it is open and until it is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u64);

impl ObjectId {
    /// No object: what is in it counts as delivered (a record that a filter left out, say).
    pub const NONE: Self = Self(0);
    /// An object that is never delivered: what is in it stays for a later run.
    pub const NEVER: Self = Self(u64::MAX);
}

/// Consecutive records of a shard that share their fate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    first: u64,
    count: u64,
    owner: Owner,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    Object(ObjectId),
    /// One record that was taken apart, and what was taken out of it: ranges of `sub`, each with its object.
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    first: u64,
    count: u64,
    object: ObjectId,
}

/// What is known of one shard.
#[derive(Debug, Default)]
struct Lane {
    stretches: VecDeque<Stretch>,
    /// The index of the first record that has not been read.
    to: u64,
    /// Whether all of the shard has been read.
    ended: bool,
    /// Records below `to` that a run before this one left undelivered: only these are still to be read below `resume`.
    old: Vec<Left>,
    /// Up to here this run reads what an earlier one had read, and takes only what is in `old`.
    resume: u64,
}

/// Keeps track of all shards of a delivery.
#[derive(Debug, Default)]
pub struct Tracker {
    lanes: BTreeMap<ShardId, Lane>,
    /// Objects that hold parts of the same record of a stage: they are delivered together.
    links: HashMap<ObjectId, BTreeSet<ObjectId>>,
    stretches: usize,
}

impl Tracker {
    /// Takes up a shard where the last commit left it. Answers the index to read from.
    pub fn begin(&mut self, shard: ShardId, position: &ShardPosition) -> u64 {
        let low = position.low();
        let lane = Lane {
            stretches: VecDeque::new(),
            to: low,
            ended: false,
            old: position.left.clone(),
            resume: position.to,
        };
        self.lanes.insert(shard, lane);
        low
    }

    /// Forgets a shard: another process reads it now.
    pub fn forget(&mut self, shard: ShardId) {
        if let Some(lane) = self.lanes.remove(&shard) {
            self.stretches -= lane.stretches.len();
        }
    }

    /// Whether every record of `first..first + count` is still to be delivered: nothing of it needs to be looked at one
    /// by one.
    pub fn is_new(&self, shard: ShardId, first: u64) -> bool {
        self.lanes.get(&shard).is_none_or(|lane| first >= lane.resume)
    }

    /// Whether a record, or this part of it, is still to be delivered.
    pub fn wants(&self, shard: ShardId, index: u64, sub: Option<u64>) -> bool {
        let Some(lane) = self.lanes.get(&shard) else { return true };
        if index >= lane.resume {
            return true;
        }
        positions::is_left(&lane.old, index, sub) != Among::No
    }

    /// Notes that `rows` rows from `origin` on are in an object.
    pub fn note(&mut self, origin: &Origin, rows: u64, object: ObjectId) {
        let lane = self.lanes.entry(origin.shard).or_default();
        let before = lane.stretches.len();
        match origin.sub {
            None => lane.add(origin.index, rows, object),
            Some(sub) => lane.add_part(origin.index, Part { first: sub, count: rows, object }),
        }
        self.stretches = self.stretches + lane.stretches.len() - before;
    }

    /// Notes that all before `index` has been read: what was not noted is gone or was delivered before.
    pub fn read_to(&mut self, shard: ShardId, index: u64) {
        let lane = self.lanes.entry(shard).or_default();
        lane.to = lane.to.max(index);
    }

    /// Whether all before `index` has been read.
    pub fn has_read(&self, shard: ShardId, index: u64) -> bool {
        self.lanes.get(&shard).is_some_and(|lane| lane.to >= index)
    }

    /// Notes that all of a shard has been read.
    pub fn ended(&mut self, shard: ShardId) {
        self.lanes.entry(shard).or_default().ended = true;
    }

    /// Notes that two objects hold what one record was made into.
    pub fn link(&mut self, a: ObjectId, b: ObjectId) {
        if a != b && a != ObjectId::NONE && b != ObjectId::NONE {
            self.links.entry(a).or_default().insert(b);
            self.links.entry(b).or_default().insert(a);
        }
    }

    /// These objects and all that must be delivered with them.
    pub fn together(&self, objects: impl IntoIterator<Item = ObjectId>) -> BTreeSet<ObjectId> {
        let mut all = BTreeSet::new();
        let mut next: Vec<ObjectId> = objects.into_iter().collect();
        while let Some(object) = next.pop() {
            if all.insert(object) {
                next.extend(self.links.get(&object).into_iter().flatten());
            }
        }
        all
    }

    /// How many stretches are kept in memory.
    pub fn stretches(&self) -> usize {
        self.stretches
    }

    /// Where each shard stands once `objects` are delivered.
    pub fn positions(&self, objects: &BTreeSet<ObjectId>) -> Positions {
        let done = |object: ObjectId| object == ObjectId::NONE || objects.contains(&object);
        self.lanes.iter().map(|(&shard, lane)| (shard.0, lane.position(&done))).collect()
    }

    /// Whether all that was read is delivered once `objects` are, and something is new: a commit would say more than
    /// the last one.
    pub fn delivered(&mut self, objects: &BTreeSet<ObjectId>) {
        for lane in self.lanes.values_mut() {
            let before = lane.stretches.len();
            lane.settle(objects);
            self.stretches = self.stretches + lane.stretches.len() - before;
        }
        for object in objects {
            for other in self.links.remove(object).into_iter().flatten() {
                if let Some(others) = self.links.get_mut(&other) {
                    others.remove(object);
                }
            }
        }
    }
}

impl Lane {
    fn add(&mut self, first: u64, count: u64, object: ObjectId) {
        self.to = self.to.max(first + count);
        if let Some(Stretch { first: before, count: so_far, owner: Owner::Object(owner) }) =
            self.stretches.back_mut()
            && *owner == object
            && *before + *so_far == first
        {
            *so_far += count;
            return;
        }
        self.stretches.push_back(Stretch { first, count, owner: Owner::Object(object) });
    }

    fn add_part(&mut self, index: u64, part: Part) {
        self.to = self.to.max(index + 1);
        if let Some(Stretch { first, owner: Owner::Parts(parts), .. }) = self.stretches.back_mut()
            && *first == index
        {
            match parts.last_mut() {
                Some(last) if last.object == part.object && last.first + last.count == part.first => {
                    last.count += part.count;
                }
                _ => parts.push(part),
            }
            return;
        }
        self.stretches.push_back(Stretch { first: index, count: 1, owner: Owner::Parts(vec![part]) });
    }

    /// What is delivered with these objects is not in any from now on.
    fn settle(&mut self, objects: &BTreeSet<ObjectId>) {
        let old = std::mem::take(&mut self.stretches);
        let is_done = |object: ObjectId| object == ObjectId::NONE || objects.contains(&object);
        for mut stretch in old {
            let delivered = match &mut stretch.owner {
                Owner::Object(object) => is_done(*object),
                Owner::Parts(parts) => {
                    for part in parts.iter_mut().filter(|part| is_done(part.object)) {
                        part.object = ObjectId::NONE;
                    }
                    parts.iter().all(|part| part.object == ObjectId::NONE)
                }
            };
            if !delivered {
                self.stretches.push_back(stretch);
            }
        }
        if self.stretches.capacity() > 4 * self.stretches.len() + 1024 {
            self.stretches.shrink_to_fit();
        }
    }

    fn position(&self, done: &dyn Fn(ObjectId) -> bool) -> ShardPosition {
        let mut left: Vec<Left> = Vec::new();
        for stretch in &self.stretches {
            let parts = match &stretch.owner {
                Owner::Object(object) if done(*object) => continue,
                Owner::Object(_) => None,
                Owner::Parts(parts) if parts.iter().all(|part| done(part.object)) => continue,
                Owner::Parts(parts) => {
                    let open = parts.iter().filter(|part| !done(part.object));
                    Some(open.map(|part| (part.first, part.count)).collect::<Vec<_>>())
                }
            };
            match left.last_mut() {
                Some(last)
                    if last.parts.is_none()
                        && parts.is_none()
                        && last.first + last.count == stretch.first =>
                {
                    last.count += stretch.count;
                }
                _ => left.push(Left { first: stretch.first, count: stretch.count, parts }),
            }
        }
        // What an earlier run left and this one has not come to yet.
        for old in &self.old {
            let unread = old.first + old.count;
            if unread > self.to {
                let first = old.first.max(self.to);
                left.push(Left { first, count: unread - first, parts: old.parts.clone() });
            }
        }
        ShardPosition { to: self.to.max(self.resume), end: self.ended, left }
    }
}

#[cfg(test)]
mod tests;
