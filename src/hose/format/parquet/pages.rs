//! Finished pages of a row group, in memory while they are few.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parquet::arrow::arrow_writer::{PageKey, PageStore, PageStoreArgs, PageStoreFactory};
use parquet::errors::{ParquetError, Result};

use super::super::body::{Scratch, ScratchFile};

/// So many bytes of pages of one object stay in memory.
const MEMORY_BYTES: u64 = 4 << 20;
/// Smaller ones always stay (headers of pages are some fifty bytes): reading them back would cost more than they do.
const SMALL_BYTES: usize = 1 << 10;

/// Where the pages of a row group are, those of all columns together.
pub(super) struct Pages {
    scratch: Scratch,
    file: OnceLock<io::Result<ScratchFile>>,
    /// How long the file is.
    end: AtomicU64,
    in_memory: AtomicU64,
    total: AtomicU64,
}

impl Pages {
    pub(super) fn new(scratch: &Scratch) -> Arc<Self> {
        let (end, in_memory, total) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { scratch: scratch.clone(), file: OnceLock::new(), end, in_memory, total })
    }

    /// Bytes of all pages that have been put here.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    fn file(&self) -> Result<&ScratchFile> {
        let file = self.file.get_or_init(|| self.scratch.file());
        file.as_ref().map_err(|e| ParquetError::General(format!("scratch file: {e}")))
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("total", &self.total()).finish_non_exhaustive()
    }
}

/// Gives each column its store.
#[derive(Debug)]
pub(super) struct Stores(pub(super) Arc<Pages>);

impl PageStoreFactory for Stores {
    fn create(&self, _column: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>> {
        Ok(Box::new(Store { pages: self.0.clone(), places: Vec::new(), in_memory: 0 }))
    }
}

enum Place {
    Memory(Bytes),
    File(u64, usize),
    Taken,
}

struct Store {
    pages: Arc<Pages>,
    places: Vec<Place>,
    in_memory: usize,
}

impl PageStore for Store {
    fn put(&mut self, page: Bytes) -> Result<PageKey> {
        let Pages { end, in_memory, total, .. } = &*self.pages;
        let len = page.len() as u64;
        total.fetch_add(len, Ordering::Relaxed);
        let place = if page.len() <= SMALL_BYTES || in_memory.load(Ordering::Relaxed) + len <= MEMORY_BYTES {
            in_memory.fetch_add(len, Ordering::Relaxed);
            self.in_memory += page.len();
            Place::Memory(page)
        } else {
            let file = self.pages.file()?;
            let offset = end.fetch_add(len, Ordering::Relaxed);
            file.file.write_at(&[IoSlice::new(&page)], offset)?;
            Place::File(offset, page.len())
        };
        self.places.push(place);
        Ok(PageKey::new(self.places.len() as u64 - 1))
    }

    fn take(&mut self, key: PageKey) -> Result<Bytes> {
        let place = self.places.get_mut(key.get() as usize);
        match place.map(|place| std::mem::replace(place, Place::Taken)) {
            Some(Place::Memory(page)) => {
                self.in_memory -= page.len();
                self.pages.in_memory.fetch_sub(page.len() as u64, Ordering::Relaxed);
                Ok(page)
            }
            Some(Place::File(offset, len)) => {
                let mut page = vec![0; len];
                let got = self.pages.file()?.file.read_at(&mut page, offset)?;
                if got < len {
                    return Err(ParquetError::EOF("scratch file: a page ends early".to_owned()));
                }
                Ok(page.into())
            }
            Some(Place::Taken) | None => Err(ParquetError::General("a page that is not there".to_owned())),
        }
    }

    fn memory_size(&self) -> usize {
        self.in_memory
    }
}
