//! The index of a segment: where to begin reading for an index or a time. Derived, optional, never evidence.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use super::INDEX_STRETCH;
use super::LogDir;
use super::frame::entry::ENTRY_BYTES;
use super::frame::{IndexEntry, SegmentHeader};
use super::segment::segment_name;
use crate::sys::File;

/// Whether a frame at `offset` gets an entry, given where the frame before it began.
pub(crate) fn is_indexed(offset: u64, before: Option<u64>) -> bool {
    before.is_none_or(|before| before / INDEX_STRETCH != offset / INDEX_STRETCH)
}

/// The index file of a segment.
pub(crate) fn path(log: &LogDir, base: u64) -> PathBuf {
    log.dir.join(segment_name(base)).with_extension("idx")
}

/// Appends entries to a segment's index. Failures are swallowed: an entry that is missing costs a longer search.
pub(crate) struct IndexWriter {
    file: Option<Arc<dyn File>>,
}

impl IndexWriter {
    pub(crate) fn open(log: &LogDir, base: u64) -> Self {
        let path = path(log, base);
        let disk = &log.system.disk;
        Self { file: disk.open_writable(&path).or_else(|_| disk.create(&path)).ok() }
    }

    /// Adds an entry; the caller holds the append lock.
    pub(crate) fn add(&self, header: &SegmentHeader, entry: &IndexEntry) {
        let Some(file) = &self.file else { return };
        let Ok(len) = file.len() else { return };
        // A writer that died may have left part of an entry: overwrite it.
        let at = len - len % ENTRY_BYTES as u64;
        let _ = file.write_at(&[IoSlice::new(&entry.encode(&header.identity()))], at);
    }
}

/// Looks up entries.
pub(crate) struct IndexReader {
    entries: Vec<u8>,
    header: SegmentHeader,
}

/// More than any index that this program writes; a larger file is not one.
pub(crate) const INDEX_BYTES_MAX: usize = 64 << 20;

impl IndexReader {
    /// Reads the index of a segment; an index that cannot be read is empty.
    pub(crate) fn open(log: &LogDir, header: &SegmentHeader) -> Self {
        let entries = log.system.disk.read(&path(log, header.base), INDEX_BYTES_MAX).unwrap_or_default();
        Self { entries, header: *header }
    }

    fn entry(&self, i: usize) -> Option<IndexEntry> {
        IndexEntry::decode(self.entries.get(i * ENTRY_BYTES..(i + 1) * ENTRY_BYTES)?, &self.header.identity())
    }

    /// The last entry for which `before` holds; `before` holds for a prefix of the log. Invalid entries are stepped
    /// over backwards: an earlier entry is always a right answer, only a slower one.
    pub(crate) fn last_where(&self, before: impl Fn(&IndexEntry) -> bool) -> Option<IndexEntry> {
        let (mut low, mut high) = (0, self.entries.len() / ENTRY_BYTES);
        let mut best = None;
        while low < high {
            let middle = usize::midpoint(low, high);
            let nearest = (low..=middle).rev().find_map(|i| self.entry(i).map(|entry| (i, entry)));
            match nearest {
                Some((_, entry)) if before(&entry) => {
                    best = Some(entry);
                    low = middle + 1;
                }
                Some((i, _)) => high = i,
                None => low = middle + 1,
            }
        }
        best
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<IndexEntry> {
        self.last_where(|_| true)
    }
}
