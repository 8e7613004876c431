//! What can go wrong with a log, with the nouns that a person needs.

use std::io;
use std::path::{Path, PathBuf};

use super::frame::EndOfShard;

/// A failure of the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the machine said.
        #[source]
        source: io::Error,
    },
    /// The disk has no room for a frame. What was there before is untouched.
    #[error("disk full: no room for {bytes} bytes in {}", path.display())]
    DiskFull {
        /// The segment.
        path: PathBuf,
        /// The frame's size.
        bytes: u64,
    },
    /// Bytes that were once durable are not what they were.
    #[error("{}: damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How one can tell.
        reason: &'static str,
    },
    /// A file of another stream or shard lies where this log's segment should be.
    #[error("{}: is a segment of another stream or shard", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Something a later program wrote.
    #[error("{}: has {what} that this version of kpipe does not know", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Writers are alive, and what was asked must not be done beside them.
    #[error("{}: a writer is at work", dir.display())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The shard takes no more records; its children do.
    #[error("the shard is closed")]
    Closed(EndOfShard),
    /// A later run of the same producer has taken over.
    #[error("producer `{producer}`: run {epoch} is fenced, run {later} has taken over")]
    Fenced {
        /// The producer.
        producer: String,
        /// The run that was refused.
        epoch: u64,
        /// The run that goes on.
        later: u64,
    },
    /// A sync failed: what was written and not yet acknowledged may be lost.
    #[error("{}: a sync of this segment failed; what it had not acknowledged may be lost", path.display())]
    Condemned {
        /// The segment.
        path: PathBuf,
        /// What the machine said, where it was this process that asked.
        #[source]
        source: Option<io::Error>,
    },
    /// There is no segment where one must be.
    #[error("{}: holds no segment", dir.display())]
    Empty {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A frame that could never be stored.
    #[error("a batch of {bytes} bytes is above the limit of 64 MiB")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
}

/// Adds what was tried, and on what, to an error of the machine.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing, path: path.to_owned(), source })
    }
}
