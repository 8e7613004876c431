//! A stream moved whole: to a directory beside it (snapshot), into a pipe (dump) and out of it (load).
//!
//! # What a copy holds
//!
//! Consumers' places are read first, then the manifest, then each log is cut where it ends by then. So a place never
//! points behind the records that are copied, every shard of the manifest has its records, and a shard that has ended
//! is there whole: its children, which are in the manifest too, have their parents. A shard that is open in the
//! manifest is open in the copy, even if its log ends by the time it is cut. Per shard a copy is a prefix of the
//! source; between shards it is no moment in time, as there is none.
//!
//! What was removed or refused (`rejects/`) and who is reading now (leases) is not part of a copy.
//!
//! # Identity
//!
//! A copy with the stream's UUID is a backup: to be read, or to be put in the place of what was lost. Two streams that
//! live on under one UUID could pass off each other's bytes as their own, so a copy that will live on gets a new one,
//! and with it new checksums. Sequence numbers and times stay.

mod dump;
mod load;
mod snapshot;

use std::path::{Path, PathBuf};

pub use dump::dump;
pub use load::load;
pub use snapshot::snapshot;

use uuid::Uuid;

use super::check::{CONSUMERS_NAME, STATE_BYTES_MAX, STATE_NAME};
use super::error::Error;
use super::{Manifest, Stream};
use crate::sys::System;

/// What went into a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Shards.
    pub shards: u64,
    /// Segments.
    pub segments: u64,
    /// Of those, linked and not copied.
    pub linked: u64,
    /// Bytes of segments.
    pub bytes: u64,
    /// Records that were verified on their way: all but those in linked segments.
    pub records: u64,
    /// Consumers.
    pub consumers: u64,
}

/// Told how many more records and bytes went by. An error ends the work, which leaves nothing behind.
pub type OnProgress<'a> = &'a mut dyn FnMut(u64, u64) -> std::io::Result<()>;

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}

/// The places of all consumers, as they are now.
fn consumers(stream: &Stream) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let disk = &stream.system().disk;
    let dir = stream.path().join(CONSUMERS_NAME);
    if !disk.exists(&dir) {
        return Ok(Vec::new());
    }
    let mut states = Vec::new();
    let mut names = disk.list(&dir).map_err(io("list", &dir))?;
    names.sort_unstable();
    for name in names.into_iter().filter(|name| is_name(name)) {
        let path = dir.join(&name).join(STATE_NAME);
        match disk.read(&path, STATE_BYTES_MAX) {
            Ok(bytes) => states.push((name, bytes)),
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(Error::Io { doing: "read", path, source }),
        }
    }
    Ok(states)
}

/// Whether a name from a directory or a dump may become one.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// The stream, with nothing half done in its manifest.
fn settled(stream: &Stream) -> Result<Stream, Error> {
    let mut stream = stream.clone();
    stream.reload()?;
    if stream.manifest().pending.is_some() {
        stream.settle()?;
    }
    Ok(stream)
}

/// A stream that is being built beside its place. It is gone when this is dropped before [`Building::finish`].
struct Building {
    system: System,
    path: PathBuf,
    place: PathBuf,
    finished: bool,
}

impl Building {
    fn begin(system: &System, path: &Path) -> Result<Self, Error> {
        if system.disk.exists(path) {
            return Err(Error::Exists { path: path.to_owned() });
        }
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("stream");
        let building = path.with_file_name(format!(".{name}.{}.new", Uuid::new_v4().simple()));
        system.disk.create_dir(&building).map_err(io("create", path))?;
        let built = Self { system: system.clone(), path: path.to_owned(), place: building, finished: false };
        if let Some(kind) = system.disk.network_kind(&built.place) {
            return Err(Error::NetworkFileSystem { path: path.to_owned(), kind });
        }
        Ok(built)
    }

    /// The stream as it is being built, with this manifest.
    fn stream(&self, mut manifest: Manifest, as_new: bool) -> Result<Stream, Error> {
        if as_new {
            manifest.stream_id = Uuid::new_v4();
        }
        if let Some(name) = self.path.file_name().and_then(|n| n.to_str()) {
            name.clone_into(&mut manifest.name);
        }
        let stream = Stream { system: self.system.clone(), path: self.place.clone(), manifest };
        drop(stream.create_locks()?);
        for shard in &stream.manifest.shards {
            let dir = stream.log_dir(shard).dir;
            self.system.disk.create_dir(&dir).map_err(io("create", &dir))?;
        }
        Ok(stream)
    }

    fn consumer(&self, name: &str, state: &[u8]) -> Result<(), Error> {
        let disk = &self.system.disk;
        let (all, dir) = (self.place.join(CONSUMERS_NAME), self.place.join(CONSUMERS_NAME).join(name));
        if !disk.exists(&all) {
            disk.create_dir(&all).map_err(io("create", &all))?;
        }
        disk.create_dir(&dir).map_err(io("create", &dir))?;
        let path = dir.join(STATE_NAME);
        disk.replace(&path, state).map_err(io("write", &path))?;
        disk.sync_dir(&all).map_err(io("sync", &all))
    }

    /// Makes all names durable, writes the manifest, and moves the stream to its place.
    fn finish(mut self, stream: &Stream) -> Result<(), Error> {
        let disk = &self.system.disk;
        for shard in &stream.manifest.shards {
            let dir = stream.log_dir(shard).dir;
            disk.sync_dir(&dir).map_err(io("sync", &dir))?;
        }
        stream.write_manifest()?;
        disk.sync_dir(&self.place).map_err(io("sync", &self.place))?;
        disk.rename(&self.place, &self.path).map_err(|source| match source.kind() {
            std::io::ErrorKind::DirectoryNotEmpty
            | std::io::ErrorKind::AlreadyExists
            | std::io::ErrorKind::NotADirectory => Error::Exists { path: self.path.clone() },
            _ => Error::Io { doing: "create", path: self.path.clone(), source },
        })?;
        self.finished = true;
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        disk.sync_dir(parent).map_err(io("sync", parent))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.system.disk.remove_dir_all(&self.place);
        }
    }
}
