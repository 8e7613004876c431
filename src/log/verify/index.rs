//! Holding an index file against its segment. Both are read in order, side by side.

use super::finding::{Finding, Flaw};
use crate::log::LogDir;
use crate::log::frame::entry::ENTRY_BYTES;
use crate::log::frame::{FrameHeader, Identity, IndexEntry, Kind, SegmentHeader};
use crate::log::index::{INDEX_BYTES_MAX, is_indexed, path};

pub(super) struct IndexCheck {
    path: std::path::PathBuf,
    identity: Identity,
    entries: Option<Vec<u8>>,
    at: usize,
    next: Option<IndexEntry>,
    flaw: Option<(usize, &'static str)>,
    /// How many frames should have an entry.
    wanted: u64,
}

impl IndexCheck {
    pub(super) fn open(log: &LogDir, header: &SegmentHeader) -> Self {
        let path = path(log, header.base);
        let entries = log.system.disk.read(&path, INDEX_BYTES_MAX).ok();
        let mut check =
            Self { path, identity: header.identity(), entries, at: 0, next: None, flaw: None, wanted: 0 };
        check.next = check.load();
        check
    }

    fn load(&mut self) -> Option<IndexEntry> {
        let entries = self.entries.as_ref()?;
        // Part of an entry at the end is a writer at work, or one that died: the next one overwrites it.
        let bytes = entries.get(self.at * ENTRY_BYTES..(self.at + 1) * ENTRY_BYTES)?;
        let entry = IndexEntry::decode(bytes, &self.identity);
        if entry.is_none() {
            self.flaw.get_or_insert((self.at, "an entry of the index does not hold"));
        }
        entry
    }

    /// Takes the next frame.
    pub(super) fn see(&mut self, offset: u64, before: Option<u64>, header: &FrameHeader) {
        if header.kind == Kind::Records && is_indexed(offset, before) {
            self.wanted += 1;
        }
        while let Some(entry) = self.next {
            if entry.offset > offset {
                return;
            }
            if entry.offset < offset || entry.first != header.first || entry.arrival_us != header.arrival_us {
                self.flaw.get_or_insert((self.at, "an entry of the index points at no such frame"));
            }
            self.at += 1;
            self.next = self.load();
        }
    }

    /// Steps over a stretch that does not hold, and over what points into it.
    pub(super) fn skip(&mut self, until: u64) {
        while self.next.is_some_and(|entry| entry.offset < until) {
            self.at += 1;
            self.next = self.load();
        }
    }

    /// What was wrong, now that the frames end at `end`. Entries behind it are what a power loss left of frames that
    /// it took: they are stepped over by every reader.
    pub(super) fn finish(self) -> Option<Finding> {
        if let Some((at, reason)) = self.flaw {
            let offset = (at * ENTRY_BYTES) as u64;
            return Some(Finding::new(Flaw::Index(reason), self.path, offset, offset + ENTRY_BYTES as u64));
        }
        (self.entries.is_none() && self.wanted > 0).then(|| Finding::new(Flaw::IndexMissing, self.path, 0, 0))
    }
}
