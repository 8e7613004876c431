//! Bookmarks: what a script was handed out, in a file of its own until it says that the work is done.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::checkpoint::Checkpoint;
use super::super::document;
use super::super::error::Error;
use super::{STATE_BYTES_MAX, VERSION};
use crate::sys::System;

const BOOKMARK_KIND: &str = "bookmark";

/// What a bookmark file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bookmark {
    /// The stream.
    pub stream_id: Uuid,
    /// The consumer.
    pub consumer: String,
    /// Which reservation it stands for.
    pub token: Uuid,
    /// When its time is up, microseconds since the epoch.
    pub until_us: i64,
    /// The shards of which records were handed out.
    pub shards: Vec<u32>,
    /// The checkpoints once it is committed, in the order of the shards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<Checkpoint>,
    /// How many records.
    pub records: u64,
}

impl Bookmark {
    /// Whether it could be written to this file: what is handed out for a bookmark that cannot be kept is in nobody's
    /// hands until its time is up.
    pub fn check_place(system: &System, path: &Path) -> Result<(), Error> {
        let path = in_directory(path);
        let trial = path.with_file_name(format!(".{}.new", Uuid::new_v4().simple()));
        let made = match system.disk.list(&path) {
            Ok(_) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            Err(_) => system.disk.create(&trial).and_then(|_| system.disk.remove(&trial)),
        };
        made.map_err(|source| Error::Io { doing: "write", path, source })
    }

    /// Writes it to a file, which holds the whole of it or is not there.
    pub fn write(&self, system: &System, path: &Path) -> Result<(), Error> {
        let bytes = document::encode(BOOKMARK_KIND, VERSION, self)?;
        let path = in_directory(path);
        system.disk.replace(&path, &bytes).map_err(|source| Error::Io { doing: "write", path, source })
    }

    /// Reads it.
    pub fn read(system: &System, path: &Path) -> Result<Self, Error> {
        let bytes = system.disk.read(path, STATE_BYTES_MAX).map_err(|source| Error::Io {
            doing: "read",
            path: path.to_owned(),
            source,
        })?;
        document::decode(BOOKMARK_KIND, VERSION, path, &bytes)
    }
}

/// A bare name with its directory.
fn in_directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new(".").join(path),
        _ => path.to_owned(),
    }
}

/// What committing a bookmark came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It was done now.
    Now,
    /// It had been done before.
    Before,
}
