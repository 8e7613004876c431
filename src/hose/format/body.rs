//! The bytes of an object before they are delivered: in memory while they are few, then in a file that nobody else
//! sees, so that a delivery can be tried again from its start however large it is.

use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
    /// Whether files keep their names, so that they can be given others.
    keeps_names: bool,
}

impl Scratch {
    /// Files in `dir`, which is there. What a killed process left in it is removed by whoever owns the directory.
    pub fn new(system: &System, dir: &Path) -> Self {
        let stem = format!("{}.{}", std::process::id(), uuid::Uuid::new_v4().simple());
        Self { system: system.clone(), dir: dir.to_owned(), stem, next: Arc::default(), keeps_names: true }
    }

    /// The same without names: of a process that is killed nothing stays.
    #[must_use]
    pub fn unnamed(self) -> Self {
        Self { keeps_names: false, ..self }
    }

    /// The machine.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// An empty body.
    pub fn begin(&self) -> BodyWriter {
        BodyWriter { scratch: self.clone(), buffer: Vec::new(), spilled: None }
    }

    /// An error of a file here, with the directory, which a person may not know of.
    fn at(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("scratch file in {}: {error}", self.dir.display()))
    }

    /// An empty file.
    pub fn file(&self) -> io::Result<ScratchFile> {
        let Self { system, dir, stem, next, .. } = self;
        // A name as a store in a directory has them: there it is removed when it is old.
        let path = dir.join(format!(".khose-{stem}.{}.tmp", next.fetch_add(1, Ordering::Relaxed)));
        let file = system.disk.create(&path).map_err(|error| self.at(&error))?;
        let is_named = self.keeps_names || system.disk.remove(&path).is_err();
        Ok(ScratchFile { system: system.clone(), file, path, is_named: AtomicBool::new(is_named) })
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
    is_named: AtomicBool,
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

    /// Puts what is in memory into the file, and gives the memory back.
    pub fn shrink(&mut self) -> io::Result<()> {
        self.spill(&[])?;
        self.buffer = Vec::new();
        Ok(())
    }

    /// Replaces bytes that have been written: a header that tells what came behind it.
    pub fn patch(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let in_file = self.spilled.as_ref().map_or(0, |(_, len)| *len);
        let cut = (in_file.saturating_sub(offset) as usize).min(bytes.len());
        let (first, rest) = bytes.split_at(cut);
        if let Some((file, _)) = &self.spilled
            && !first.is_empty()
        {
            file.file.write_at(&[IoSlice::new(first)], offset)?;
        }
        let start = (offset + cut as u64 - in_file.min(offset + cut as u64)) as usize;
        let there = start.checked_add(rest.len()).and_then(|end| self.buffer.get_mut(start..end));
        there.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?.copy_from_slice(rest);
        Ok(())
    }

    /// Puts what is in memory, and `more`, into the file.
    fn spill(&mut self, more: &[u8]) -> io::Result<()> {
        if self.buffer.is_empty() && more.is_empty() {
            return Ok(());
        }
        if self.spilled.is_none() {
            self.spilled = Some((self.scratch.file()?, 0));
        }
        if let Some((file, len)) = &mut self.spilled {
            let written = file.file.write_at(&[IoSlice::new(&self.buffer), IoSlice::new(more)], *len);
            written.map_err(|error| self.scratch.at(&error))?;
            *len += (self.buffer.len() + more.len()) as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// The whole.
    pub fn finish(mut self) -> io::Result<Body> {
        if self.spilled.is_some() {
            self.spill(&[])?;
        }
        Ok(match self.spilled {
            Some((file, len)) => Body::File(Arc::new(file), len),
            None => Body::from(self.buffer),
        })
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let full = if self.spilled.is_some() { WRITE_BYTES } else { MEMORY_BYTES };
        if self.buffer.len() + bytes.len() >= full {
            // Not copied first: a piece may be much larger than the buffer.
            self.spill(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(body: &Body) -> Vec<u8> {
        body.read(0, usize::MAX >> 1).unwrap()
    }

    #[test]
    fn a_body_is_the_same_in_memory_and_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(&System::real(), dir.path());
        for parts in [vec![3, 4], vec![MEMORY_BYTES - 1, 1, 5], vec![MEMORY_BYTES * 3, 7, WRITE_BYTES]] {
            let mut writer = scratch.begin();
            let mut expected = Vec::new();
            for (i, len) in parts.iter().enumerate() {
                let part = vec![b'a' + i as u8; *len];
                writer.write_all(&part).unwrap();
                expected.extend_from_slice(&part);
                assert_eq!(writer.len(), expected.len() as u64);
            }
            let body = writer.finish().unwrap();
            assert_eq!(bytes(&body), expected);
            assert_eq!(body.read(2, 3).unwrap(), expected[2..5]);
            assert_eq!(body.is_empty(), expected.is_empty());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "scratch files go with their bodies");
    }

    #[test]
    fn a_patch_lands_in_the_file_in_memory_and_across_both() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(&System::real(), dir.path());
        let mut writer = scratch.begin();
        writer.write_all(b"0123456789").unwrap();
        writer.patch(2, b"ab").unwrap();
        writer.shrink().unwrap();
        assert_eq!(writer.memory(), 0);
        writer.write_all(b"0123456789").unwrap();
        writer.patch(4, b"cd").unwrap();
        writer.patch(8, b"efgh").unwrap();
        writer.patch(18, b"ij").unwrap();
        writer.patch(0, b"").unwrap();
        assert!(writer.patch(19, b"xy").is_err());
        assert_eq!(bytes(&writer.finish().unwrap()), b"01abcd67efgh234567ij");
    }
}
