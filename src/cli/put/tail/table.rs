//! Where each followed file stands, as the text that is stored with every batch.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::stream::producer::resume::MARK_BYTES_MAX;

/// The longest text of one entry, its blank included.
const ENTRY_BYTES_MAX: usize = 72;

/// How many files fit into a mark.
pub(super) const FILES_MAX: usize = (MARK_BYTES_MAX - 48) / ENTRY_BYTES_MAX;

/// What tells a file from others: hashes of the first and of the last bytes before an offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Print {
    pub(super) head: u64,
    pub(super) tail: u32,
}

/// How far one file has been stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// A hash of the path under which it is followed.
    pub(super) path: u32,
    pub(super) dev: u64,
    pub(super) ino: u64,
    /// All before this byte is stored.
    pub(super) offset: u64,
    pub(super) print: Print,
}

/// All followed files. Each has a number of its own, which no other file ever has: a name is used again when a file is
/// rotated, an inode when one is removed, and both when one is truncated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// How the files are cut and keyed.
    pub(super) reading: u64,
    /// When it was written, seconds since the epoch.
    pub(super) time: u64,
    pub(super) entries: BTreeMap<u64, Entry>,
}

impl Table {
    /// As text on one line.
    pub(super) fn text(&self) -> String {
        let mut text = format!("follow {:x} {:x}", self.reading, self.time);
        for (number, e) in &self.entries {
            let _ = write!(
                text,
                " {number:x}.{:x}.{:x}.{:x}.{:x}.{:x}.{:x}",
                e.path, e.dev, e.ino, e.offset, e.print.head, e.print.tail
            );
        }
        text
    }

    /// Reads the text; `None` if it is something else.
    pub(super) fn parse(mark: &[u8]) -> Option<Self> {
        let hex = |word: &str| u64::from_str_radix(word, 16).ok();
        let mut words = std::str::from_utf8(mark).ok()?.split(' ');
        if words.next()? != "follow" {
            return None;
        }
        let (reading, time) = (hex(words.next()?)?, hex(words.next()?)?);
        let mut entries = BTreeMap::new();
        for word in words {
            let numbers: Option<Vec<u64>> = word.split('.').map(hex).collect();
            let &[number, path, dev, ino, offset, head, tail] = &numbers?[..] else { return None };
            let print = Print { head, tail: tail as u32 };
            entries.insert(number, Entry { path: path as u32, dev, ino, offset, print });
        }
        Some(Self { reading, time, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_survives_and_fits() {
        let mut table = Table { reading: u64::MAX, time: 1 << 33, ..Table::default() };
        let print = Print { head: u64::MAX, tail: u32::MAX };
        for i in 0..FILES_MAX as u64 {
            let entry = Entry { path: u32::MAX, dev: 0xfffff, ino: 1 << 40, offset: 1 << 40, print };
            table.entries.insert((1 << 20) + i, entry);
        }
        let text = table.text();
        assert!(text.len() <= MARK_BYTES_MAX, "{}", text.len());
        assert_eq!(Table::parse(text.as_bytes()), Some(table));
        assert_eq!(Table::parse(b"input 3 4 5"), None);
        assert_eq!(Table::parse(b"follow 1 2 3.4"), None);
    }
}
