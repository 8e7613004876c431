//! What a file and a directory hold: what processes see, what a power loss cannot take, and what lies between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The unit in which a disk writes: within one, a write happens or does not.
const SECTOR: u64 = 512;

/// Numbers that are the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `SplitMix64`.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What a file has been told since its last sync.
#[derive(Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

impl Change {
    pub(super) fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let start = *offset as usize;
                let end = start + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[start..end].copy_from_slice(bytes);
            }
            Self::Length(len) => to.resize(*len as usize, 0),
        }
    }
}

#[derive(Default)]
pub(super) struct Inode {
    /// What every process sees.
    pub(super) live: Vec<u8>,
    /// What a power loss cannot take.
    pub(super) durable: Vec<u8>,
    /// What stands between the two, unless a sync has failed.
    pub(super) dirty: Vec<Change>,
}

impl Inode {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.dirty.push(change);
    }

    /// What the file holds when the power comes back.
    pub(super) fn survive(&mut self, random: &mut Random) {
        let chance = [0, 30, 80, 100][random.below(4) as usize];
        let mut bytes = self.durable.clone();
        let mut lengths = vec![bytes.len(), self.live.len()];
        let mut shape = self.durable.clone();
        for change in &self.dirty {
            change.apply(&mut shape);
            lengths.push(shape.len());
            match change {
                Change::Write { offset, bytes: written } => {
                    let end = offset + written.len() as u64;
                    let mut at = *offset;
                    while at < end {
                        let until = (at / SECTOR + 1).saturating_mul(SECTOR).min(end);
                        let part = &written[(at - offset) as usize..(until - offset) as usize];
                        if random.percent(chance) {
                            Change::Write { offset: at, bytes: part.to_vec() }.apply(&mut bytes);
                        } else if until as usize > bytes.len() && random.percent(50) {
                            let garbage = part.iter().map(|_| random.next() as u8).collect();
                            Change::Write { offset: at, bytes: garbage }.apply(&mut bytes);
                        }
                        at = until;
                    }
                }
                Change::Length(len) => {
                    if random.percent(chance) {
                        bytes.resize(*len as usize, 0);
                    }
                }
            }
        }
        let shortest = self.dirty.iter().fold(self.durable.len(), |low, change| match change {
            Change::Length(len) => low.min(*len as usize),
            Change::Write { .. } => low,
        });
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let len = match random.below(3) {
            0 => bytes.len(),
            1 => lengths[random.below(lengths.len() as u64) as usize],
            _ => shortest + random.below((longest - shortest) as u64 + 1) as usize,
        };
        bytes.resize(len.max(shortest), 0);
        self.live.clone_from(&bytes);
        self.durable = bytes;
        self.dirty.clear();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    File(u64),
}

/// What a directory has been told since its last sync.
#[derive(Clone)]
pub(super) enum NameChange {
    Add(PathBuf, Entry),
    Remove(PathBuf),
    Rename { from: PathBuf, to: PathBuf, entry: Entry },
}

impl NameChange {
    pub(super) fn dir(&self) -> &Path {
        let (Self::Add(path, _) | Self::Remove(path) | Self::Rename { to: path, .. }) = self;
        path.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            Self::Add(path, entry) => drop(names.insert(path.clone(), *entry)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Rename { from, to, entry } => {
                names.remove(from);
                names.insert(to.clone(), *entry);
            }
        }
    }
}
