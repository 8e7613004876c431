//! A stream moved whole: to a directory beside it (snapshot), into a pipe (dump) and out of it (load).
//!
//! # What a copy holds
//!
//! Consumers' places are read first; then, at one moment, the manifest and how far each log reaches (see `moment`). So a
//! place never points behind the records that are copied, a named producer's place in one shard never speaks of records
//! that are missing in another, every shard of the manifest has its records, and a shard that has ended is there whole:
//! its children, which are in the manifest too, have their parents. A shard that is open in the manifest is open in the
//! copy, even if its log has ended by the time it is read. A closed shard that retention took meanwhile is in neither.
//!
//! What was removed or refused (`rejects/`) and who is reading now (workers, leases) is not part of a copy; in a copy with
//! a UUID of its own, what was handed out for bookmarks is not either, for nobody could commit it.
//!
//! # Identity
//!
//! A copy with the stream's UUID is a backup: to be read, or to be put in the place of what was lost. Two streams that
//! live on under one UUID could pass off each other's bytes as their own, so a copy that will live on gets a new one,
//! and with it new checksums. Sequence numbers and times stay.

mod dump;
mod load;
mod moment;
mod snapshot;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use dump::dump;
pub use load::load;
pub use snapshot::snapshot;

use uuid::Uuid;

use super::building::Building;
use super::check::{CONSUMERS_NAME, STATE_BYTES_MAX, STATE_NAME};
use super::consumer::moved;
use super::error::Error;
use super::{LOCKS_NAME, MANIFEST_SLOT, Manifest, ShardInfo, Stream};
use crate::log::LogDir;
use crate::log::copy::{Part, open_part};

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

/// Opens a part of a cut that is not held. Nothing where retention has taken it since, and with it all before it.
fn open_left(
    log: &LogDir,
    parts: &[Part],
    i: usize,
    passed: u64,
) -> Result<Option<impl std::io::Read + use<>>, crate::log::Error> {
    match open_part(log, &parts[i]) {
        Err(crate::log::Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound && i + 1 < parts.len() && passed == 0 =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// Leaves a closed shard that has expired out of a stream that is being built.
fn leave_out(stream: &mut Stream, shard: &ShardInfo) -> Result<(), Error> {
    if shard.is_open() {
        return Err(Error::Invalid(format!("{} is open and cannot be left out", shard.id())));
    }
    let dir = stream.log_dir(shard).dir;
    stream.system.disk.remove_dir_all(&dir).map_err(io("remove", &dir))?;
    stream.manifest.shards.retain(|other| other.shard != shard.shard);
    Ok(())
}

/// A copy that is being built.
impl Building {
    /// The stream as it is being built, with this manifest.
    fn stream(&self, mut manifest: Manifest, as_new: bool) -> Result<Stream, Error> {
        if as_new {
            manifest.stream_id = Uuid::new_v4();
        }
        if let Some(name) = self.path().file_name().and_then(|n| n.to_str()) {
            name.clone_into(&mut manifest.name);
        }
        let stream = Stream { system: self.system().clone(), path: self.dir().to_owned(), manifest };
        for shard in &stream.manifest.shards {
            let dir = stream.log_dir(shard).dir;
            stream.system.disk.create_dir(&dir).map_err(io("create", &dir))?;
        }
        Ok(stream)
    }

    /// Adds a consumer. A state that does not hold stays as it is: to find it is up to a check.
    fn consumer(&self, name: &str, state: Vec<u8>, as_new: bool) -> Result<(), Error> {
        let disk = &self.system().disk;
        let all = self.dir().join(CONSUMERS_NAME);
        let dir = all.join(name);
        if !disk.exists(&all) {
            disk.create_dir(&all).map_err(io("create", &all))?;
        }
        disk.create_dir(&dir).map_err(io("create", &dir))?;
        let path = dir.join(STATE_NAME);
        let state = match moved(&path, state.clone(), as_new) {
            Err(Error::Manifest { .. }) => state,
            other => other?,
        };
        disk.replace(&path, &state).map_err(io("write", &path))?;
        disk.sync_dir(&all).map_err(io("sync", &all))
    }

    /// Makes all names durable, writes the manifest, and moves the stream to its place.
    fn complete(self, stream: &Stream) -> Result<(), Error> {
        let disk = &stream.system.disk;
        for shard in &stream.manifest.shards {
            let dir = stream.log_dir(shard).dir;
            disk.sync_dir(&dir).map_err(io("sync", &dir))?;
        }
        stream.write_manifest()?;
        disk.sync_dir(self.dir()).map_err(io("sync", self.dir()))?;
        self.finish()
    }
}
