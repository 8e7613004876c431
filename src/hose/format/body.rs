//! The bytes of an object before they are delivered: in memory while they are few, then in a file that nobody else
//! sees, so that a delivery can be tried again from its start however large it is.

use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::{File, System};

/// So many bytes stay in memory: objects of many small partitions never meet the disk, a large one costs little.
const MEMORY_BYTES: usize = 256 << 10;
/// Writes to the file are gathered up to this.
const WRITE_BYTES: usize = 256 << 10;

/// Where bodies are written that are too large for memory.
#[derive(Clone)]
pub struct Scratch {
    system: System,
    dir: PathBuf,
    /// Names that are different from those of every other process.
    stem: String,
    next: Arc<AtomicU64>,
}

impl Scratch {
    /// Files in `dir`, which is there. What a killed process left in it is removed by whoever owns the directory.
    pub fn new(system: &System, dir: &Path) -> Self {
        let stem = format!("{}.{}", std::process::id(), uuid::Uuid::new_v4().simple());
        Self { system: system.clone(), dir: dir.to_owned(), stem, next: Arc::default() }
    }

    /// The machine.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// An empty body.
    pub fn begin(&self) -> BodyWriter {
        BodyWriter { scratch: self.clone(), buffer: Vec::new(), spilled: None }
    }
}

/// A file of the scratch directory, removed when nobody needs it.
pub struct ScratchFile {
    system: System,
    /// The open file.
    pub file: Arc<dyn File>,
    /// Its name.
    pub path: PathBuf,
    /// Whether it still has that name.
    is_named: std::sync::atomic::AtomicBool,
}

impl ScratchFile {
    /// Gives it its final name, in one step, replacing what had that; its bytes are on the disk before.
    pub fn rename(&self, to: &Path) -> io::Result<()> {
        self.file.sync_data()?;
        self.system.disk.rename(&self.path, to)?;
        self.is_named.store(false, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        if *self.is_named.get_mut() {
            let _ = self.system.disk.remove(&self.path);
        }
    }
}

/// Bytes of an object, whole.
#[derive(Clone)]
pub enum Body {
    /// In memory.
    Bytes(Arc<Vec<u8>>),
    /// In a file of this length.
    File(Arc<ScratchFile>, u64),
}

impl Body {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `max` bytes at `offset`; fewer only at the end.
    pub fn read(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => {
                let start = (offset as usize).min(bytes.len());
                Ok(bytes[start..(start + max).min(bytes.len())].to_vec())
            }
            Self::File(file, len) => {
                let mut part = vec![0; max.min(len.saturating_sub(offset) as usize)];
                let got = file.file.read_at(&mut part, offset)?;
                if got < part.len() {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                Ok(part)
            }
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Arc::new(bytes))
    }
}

/// Writes a body.
pub struct BodyWriter {
    scratch: Scratch,
    buffer: Vec<u8>,
    spilled: Option<(ScratchFile, u64)>,
}

impl BodyWriter {
    /// How many bytes have been written.
    pub fn len(&self) -> u64 {
        self.buffer.len() as u64 + self.spilled.as_ref().map_or(0, |(_, len)| *len)
    }

    /// Whether none have.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them are in memory.
    pub fn memory(&self) -> u64 {
        self.buffer.capacity() as u64
    }

    /// Puts what is in memory into the file.
    pub fn spill(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.spilled.is_none() {
            let Scratch { system, dir, stem, next } = &self.scratch;
            let path = dir.join(format!(".{stem}.{}.tmp", next.fetch_add(1, Ordering::Relaxed)));
            let file = system.disk.create(&path)?;
            let is_named = std::sync::atomic::AtomicBool::new(true);
            self.spilled = Some((ScratchFile { system: system.clone(), file, path, is_named }, 0));
        }
        if let Some((file, len)) = &mut self.spilled {
            file.file.write_at(&[IoSlice::new(&self.buffer)], *len)?;
            *len += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// The whole.
    pub fn finish(mut self) -> io::Result<Body> {
        if self.spilled.is_some() {
            self.spill()?;
        }
        Ok(match self.spilled {
            Some((file, len)) => Body::File(Arc::new(file), len),
            None => Body::from(self.buffer),
        })
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        let full = if self.spilled.is_some() { WRITE_BYTES } else { MEMORY_BYTES };
        if self.buffer.len() >= full {
            self.spill()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
