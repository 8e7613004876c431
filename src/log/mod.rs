//! One append-only log in one directory: what is acknowledged is there again after any crash, in order, once.
//!
//! # Layout
//!
//! ```text
//! shardId-000000000000/
//!     00000000000000000000.seg     a segment: 128-byte header, then frames (see `frame`)
//!     00000000000000000000.idx     its index: a 32-byte entry for each frame of records that is the first in its 256 KiB
//!     00000000004294967296.seg     the next segment, named by the first index that it may hold
//!     00000000004294967296.bad     a mark: a sync of that segment failed
//! ```
//!
//! # Invariants
//!
//! 1. Frames stand one behind the other. A frame's first index is the previous frame's end index.
//! 2. A segment's header and its name are durable before a record goes in; with it the indexes from `base` up to
//!    `ceiling` are reserved. After an unclean end the log goes on in a new segment at the ceiling, so no index is
//!    used twice, not even one that a power loss took. A pause is a clean end under its own boot only: a power loss may
//!    have taken what was written behind it, and left no trace.
//! 3. A segment that is followed by another never changes again. The follower's header says how many bytes of it are
//!    valid and which index it ends at; it was synced up to there before the follower took a record. Where the follower
//!    cannot say so any more, all bytes of the segment count.
//! 4. `durable` (in frames: durable-through) is a promise about the past: each record below it was on the disk when
//!    the frame was written. Invalid bytes below any known durable-through are damage and are named; above it they
//!    are a torn tail and are set aside.
//! 5. Arrival times never go backwards.
//! 6. Index files are derived. Missing, short or wrong ones cost time and nothing else.
//! 7. Only a repair replaces a segment, while no writer is alive, and by one of the same bytes but for gaps where frames
//!    did not hold (see `repair`). What others say of the segment stays true.
//!
//! # Locks
//!
//! Three slots per shard in the stream's lock table. `append` is held exclusively while a writer finds the tail, assigns
//! indexes and writes; never while it waits for the disk, except to seal a segment. `live` is held shared by every
//! open writer; whoever gets it exclusively knows that no other writer is alive, and may recover the tail or mark a
//! clean end. `sync` is held by the one that waits for the disk on behalf of all who wait (see `sync`).
//!
//! # What a crash leaves, case by case
//!
//! * *A writer is killed between two frames.* The file ends with a whole frame and no pause. If other writers are
//!   alive they just go on behind it. Else the next one finds `live` free and no pause, verifies everything above the
//!   last durable-through, syncs it, and goes on in a new segment at the ceiling.
//! * *A writer is killed inside a write.* The same, and the half frame is set aside: the new segment's header says that
//!   its predecessor ends before it. A writer that is alive finds the half frame under the lock, where none may be,
//!   and does the same.
//! * *Power is lost.* Of what was not synced, any part may be there, and in any order. Recovery stops at the first
//!   frame that is not whole; what is whole behind it was never acknowledged (else a durable-through would cover the
//!   hole, and it would be damage) and is set aside with it.
//! * *Power is lost around a roll.* Before the rename there is no new segment and the seal at the end of the old one
//!   says where it will go, if all before the seal is whole; after it, invariant 3 holds already. Whoever finds a
//!   segment without records makes its name durable first: its creator may have been killed before.
//! * *The disk is full.* The failed write is cut off again under the lock; nothing else is touched. If a whole frame of
//!   it was there for a moment, one byte stays: a torn tail, so that indexes which a reader may have seen are not used
//!   again.
//! * *A sync fails.* What the kernel still holds may never reach the disk, whatever later syncs say. The segment is
//!   condemned, whoever asked for the sync: a mark file, and a frame that makes its length change for every process that has it open. Then its
//!   valid part is read back from the device, and the log goes on in a new segment. Whoever wrote or read records that
//!   were not there is told so: a writer by its next call, a reader when it wants them durable. A process may be killed
//!   before it could make the mark: so whoever recovers a log reads it back from the device first.
//! * *The shard ends.* All before the end is synced before it is written, so that what does not hold before it is damage
//!   and never a reason to open the shard again. Whoever finds an end syncs it before it is believed.
//!
//! # What is assumed of the disk
//!
//! What `fdatasync` covered survives. A rename is atomic, and durable after a sync of its directory. A write that was
//! not synced may survive in any part, and torn anywhere. What was written stays in memory as long as the machine runs:
//! no file system vanishes and comes back under one boot. Reading back gives what was written, or an error, or bytes
//! that a CRC-32C tells apart.

pub mod copy;
mod error;
pub mod frame;
mod index;
mod reader;
mod recover;
pub mod repair;
mod rest;
mod retain;
mod segment;
mod sync;
#[cfg(test)]
mod tests;
pub mod verify;
mod writer;

pub use error::Error;
pub use frame::{Batch, BatchView, Child, Codec, Draft, EndOfShard, Fresh, LogId, ProducerState, Stored};
pub use reader::{Damage, Found, FrameRef, Missed, Reader};
pub use rest::{AtRest, at_rest, make_durable};
pub use retain::{SegmentInfo, expire, segments};
pub use segment::create_log;
pub use sync::SyncTicket;
pub use writer::{Appended, Claim, Writer};
pub(crate) use writer::{append_slot, live_slot};

use std::path::PathBuf;

use crate::sys::System;

/// Which log, where, and on what machine.
#[derive(Clone)]
pub struct LogDir {
    /// The machine.
    pub system: System,
    /// The log's directory.
    pub dir: PathBuf,
    /// What goes under its checksums.
    pub id: LogId,
    /// When the shard was created, seconds since the epoch.
    pub shard_created_s: u64,
}

/// When segments are closed and new ones begun.
#[derive(Debug, Clone, Copy)]
pub struct Roll {
    /// A segment takes no further frame beyond this many bytes (one frame always fits).
    pub bytes: u64,
    /// A segment takes no further frame when it is this old, in microseconds.
    pub age_us: i64,
}

/// A frame gets an index entry if it is the first to begin in its stretch of this many bytes: coarse enough that the
/// index of a full segment stays at 128 KiB, fine enough that a seek reads one chunk.
pub(crate) const INDEX_STRETCH: u64 = if cfg!(test) { 512 } else { 256 << 10 };

/// Indexes reserved by each segment header. 2^31 unclean ends would be needed to use up a shard's 2^63.
pub const RESERVE: u64 = 1 << 32;
