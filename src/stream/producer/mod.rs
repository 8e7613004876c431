//! Producing: records to their shards, in order, acknowledged when they are on the disk.
//!
//! A [`Producer`] gathers records per shard, writes each gathering as one frame, and lets one thread wait for the disk
//! while the next records are gathered. What it acknowledges is durable. When a shard turns out to be closed, the
//! records that were meant for it go to its children, in their order.
//!
//! A *named* producer ([`Producer::open`] with a name) writes with each frame where its source stood (promise 10 of
//! the log), so that a later run of the same name can tell what is stored already: see [`resume`].

mod acks;
mod durable;
pub mod limits;
pub mod resume;
mod slots;
mod sync;
mod take;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use acks::Ack;
use acks::Acks;
use resume::{Mark, Named, Resume};
use slots::{BATCH_BYTES, Slot};
use sync::Syncer;

use super::error::Error;
use super::{Router, Stream};
use crate::hash::HashKey;
use crate::log::Codec;
use crate::sys::Locks;

/// When a producer makes what it has written durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Never: what was written is lost if the machine stops before the kernel has written it out.
    None,
    /// Once, at the end.
    End,
    /// Each record by itself, before the next is taken.
    Every,
    /// When this much has been written or this much time has passed, whichever is first, and at the end.
    Group {
        /// Bytes.
        bytes: u64,
        /// Microseconds.
        interval_us: i64,
    },
}

/// Eight megabytes take this kind of disk a few milliseconds, so that most of the time is spent writing and not in
/// waiting for the flush; 50 ms is what a person does not notice.
pub const GROUP_DEFAULT: Sync = Sync::Group { bytes: GROUP_BYTES, interval_us: 50_000 };
const GROUP_BYTES: u64 = 8 << 20;

/// Writes records to a stream.
pub struct Producer {
    stream: Stream,
    locks: Arc<dyn Locks>,
    router: Router,
    slots: Vec<Slot>,
    codec: Codec,
    sync: Sync,
    syncer: Syncer,
    named: Option<Named>,
    acks: Option<Acks>,
    batch_bytes: usize,
    /// Records taken so far, in the order of the source.
    ordinal: u64,
    unsynced_bytes: u64,
    oldest_unsynced_us: Option<i64>,
    next_unkeyed: usize,
    flushes: u64,
    written: Written,
    // Memory that is used again.
    hashes: Vec<HashKey>,
    lengths: Vec<u32>,
}

/// What a producer has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Records that an earlier run of the same name had stored already.
    pub skipped: u64,
}

impl Producer {
    /// A producer into all open shards. With `acks` each record is acknowledged ([`Producer::take_acks`]).
    pub fn open(mut stream: Stream, sync: Sync, acks: bool) -> Result<Self, Error> {
        if stream.manifest().pending.is_some() {
            stream.settle()?;
        }
        if sync != Sync::None {
            stream.make_manifest_durable()?;
        }
        let locks = stream.locks()?;
        let router = Router::new(stream.manifest());
        let codec = stream.manifest().compression.into();
        let mut producer = Self {
            stream,
            locks,
            slots: Vec::new(),
            router,
            codec,
            sync,
            syncer: Syncer::new(),
            named: None,
            acks: acks.then(Acks::default),
            batch_bytes: BATCH_BYTES,
            ordinal: 0,
            unsynced_bytes: 0,
            oldest_unsynced_us: None,
            next_unkeyed: 0,
            flushes: 0,
            written: Written::default(),
            hashes: Vec::new(),
            lengths: Vec::new(),
        };
        producer.build_slots();
        Ok(producer)
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What has been written so far.
    pub fn written(&self) -> Written {
        self.written
    }

    /// Takes over a producer's name: earlier runs are fenced, and what they stored is told.
    ///
    /// What is not known to be durable a later run holds in memory, so there is never more of it than the default syncs.
    pub fn claim(&mut self, name: &str) -> Result<Resume, Error> {
        if let Sync::Group { bytes, .. } = &mut self.sync {
            *bytes = (*bytes).min(GROUP_BYTES);
        }
        let resume = resume::claim(self, name)?;
        self.ordinal = resume.begin.0;
        Ok(resume)
    }

    /// Up to where each named producer has stored something, by name.
    pub fn places(&mut self) -> Result<BTreeMap<String, Mark>, Error> {
        resume::places(self)
    }

    /// Goes behind everything that earlier runs may have stored: for a source whose last part, which may be stored in
    /// part, is gone.
    pub fn pass_over(&mut self) {
        if let Some(named) = &self.named {
            self.ordinal = named.end_ordinal();
        }
    }

    /// Begins to count from 0 again: for a source that is read from its start and tells its places itself.
    pub fn rewind(&mut self) {
        self.ordinal = 0;
    }

    /// Whether each record's ordinal must be kept with it.
    fn counts(&self) -> bool {
        self.acks.is_some() || self.named.is_some()
    }
}
