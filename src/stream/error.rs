//! What can go wrong with a stream, with the nouns that a person needs.

use std::io;
use std::path::PathBuf;

use crate::log;
use crate::record::ShardId;

/// A failure of a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no stream.
    #[error("no stream at {}", path.display())]
    NotFound {
        /// The resolved path.
        path: PathBuf,
    },
    /// It was there when it was opened.
    #[error("the stream was deleted")]
    Deleted,
    /// There is something already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The resolved path.
        path: PathBuf,
    },
    /// The manifest does not hold.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A later program made or changed the stream.
    #[error("{}: needs a later version of kpipe ({what})", path.display())]
    Newer {
        /// The manifest.
        path: PathBuf,
        /// What is not known.
        what: String,
    },
    /// The machine refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the machine said.
        #[source]
        source: io::Error,
    },
    /// A file system that several machines write to does not keep the promises that a log stands on.
    #[error("{} is on a network file system ({kind}), which does not keep a log's promises", path.display())]
    NetworkFileSystem {
        /// The stream.
        path: PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// The lock table is missing.
    #[error("{} is missing: without it two programs could write the same shard at once", path.display())]
    NoLocks {
        /// The table's file.
        path: PathBuf,
    },
    /// No such shard.
    #[error("there is no {0}")]
    NoShard(ShardId),
    /// The shard is closed.
    #[error("{0} is closed")]
    ShardClosed(ShardId),
    /// There is no such consumer.
    #[error("there is no consumer `{name}`")]
    NoConsumer {
        /// Its name.
        name: String,
    },
    /// The consumer is at work.
    #[error("consumer `{name}` is at work: process {pid} reads for it")]
    ConsumerBusy {
        /// Its name.
        name: String,
        /// A process that reads for it.
        pid: u32,
    },
    /// The range of a bookmark has been handed out again, or was never this consumer's.
    #[error("the bookmark is stale: {shard} was handed out again when its time was up")]
    StaleBookmark {
        /// The shard.
        shard: ShardId,
    },
    /// Somebody needs the stream that was to be removed.
    #[error("it is in use: {0}")]
    InUse(String),
    /// A request that the stream's state does not allow.
    #[error("{0}")]
    Invalid(String),
    /// A failure in one shard.
    #[error("{shard}")]
    Shard {
        /// The shard.
        shard: ShardId,
        /// What failed.
        #[source]
        source: log::Error,
    },
}

impl Error {
    /// Whether it may be otherwise later: the machine refused, or had no room. Nothing is wrong with the request.
    pub fn is_passing(&self) -> bool {
        use log::Error::{Condemned, DiskFull, Io};
        match self {
            Self::Io { .. } => true,
            Self::Shard { source, .. } => {
                matches!(source, Io { .. } | DiskFull { .. } | Condemned { .. })
            }
            _ => false,
        }
    }
}

/// A failure of one of two streams, where records or segments go from one to the other.
#[derive(Debug)]
pub enum Between {
    /// Of the one that is read.
    Source(Error),
    /// Of the one that is written.
    Target(Error),
}

/// Says which of two streams failed.
pub(crate) trait Side<T> {
    fn of_source(self) -> Result<T, Between>;
    fn of_target(self) -> Result<T, Between>;
}

impl<T> Side<T> for Result<T, Error> {
    fn of_source(self) -> Result<T, Between> {
        self.map_err(Between::Source)
    }

    fn of_target(self) -> Result<T, Between> {
        self.map_err(Between::Target)
    }
}

/// Names the shard in which a log failed.
pub(crate) trait InShard<T> {
    fn in_shard(self, shard: ShardId) -> Result<T, Error>;
}

impl<T> InShard<T> for Result<T, log::Error> {
    fn in_shard(self, shard: ShardId) -> Result<T, Error> {
        self.map_err(|source| Error::Shard { shard, source })
    }
}
