//! kpipe: Amazon Kinesis as Unix pipes. Durable, sharded streams in a plain directory, with no server to run.
//!
//! `kput` stores what comes through a pipe, `kget` brings it out again, `kshard` looks after the stream. The programs
//! are thin; everything they do is here.
//!
//! # Layers
//!
//! ```text
//!  bin ──► cli ──► hose ──► table ──► stream ──► log ──► sys
//!           │       │                    │        │
//!         codec ────┴────────────────────┴────────┴────► record, hash
//! ```
//!
//! | module | is | does not know |
//! |---|---|---|
//! | [`record`], [`hash`] | the service's words as types | files, bytes on a disk |
//! | [`codec`] | bytes of a pipe to records and back | files, clocks, logs |
//! | [`sys`] | files, locks, clocks, wake-ups behind small traits | what a record is |
//! | [`log`] | one append-only log: frames, segments, recovery | partition keys, other shards |
//! | [`stream`] | a directory of logs: shards, routing, lineage, producers, consumers | terminals, arguments |
//! | `table` | records as Arrow batches: schemas, inference, rows out of JSON | files, destinations |
//! | `hose` | deliveries: stages, formats, destinations, plans and commits | terminals, arguments |
//! | [`cli`] | arguments, exit statuses, progress, signals | the bytes on the disk |
//!
//! Imports go along the arrows only; a test holds them against the code. Integers become disk bytes in [`log::frame`]
//! and nowhere else. Only [`sys`] reads the wall clock.
//!
//! # A record's way
//!
//! ```text
//! kput    stdin ─ codec::Decode ─► Records ─ stream::Router ─► log::Writer ─► frame ─► segment ─► fdatasync ─► ack
//! kget    Start ─► stream::StreamReader ─► log::Reader ─► frame ─► Record ─ codec::Encode ─► stdout
//! ```
//!
//! Without keys and with one shard a block of lines is not touched on the way: it goes from the pipe to the disk with
//! its newlines, behind a column of lengths and under one checksum, and comes back in one write.
//!
//! # Decisions that are expensive to change
//!
//! * *Locks are byte ranges of one permanent file per stream*, not a file per shard: a thousand shards need one
//!   descriptor, and a lock ends with its process however that ends ([`sys::lock`]).
//! * *Indexes are reserved by segment headers*, 2^32 each: a number that a power loss took is never given again, and a
//!   writer needs no file of its own for it ([`log`]).
//! * *Writers that wait for the disk share one sync*: one leads, and leaves a note for the others in the lock file. A
//!   note is a hint about bytes of one file under one boot and never part of the format (`log::sync`).
//! * *A reader writes one thing*: the mark beside a segment whose sync failed, if it is the one that was told. The kernel
//!   tells of a failed write once, and without the mark the next process would believe its own sync.
//! * *Whoever waits for the disk pauses behind the wait*: the mark of a clean end says that all before it is durable, so
//!   that damage in a small stream is told from a torn tail.
//! * *What a repair cannot save is a gap*, a frame that counts what is gone: it is named to every reader afterwards.
//! * *A copy is cut at one moment for all shards*: a named producer's frame may vouch for records of other shards.
//!
//! * *A delivery's ledger lies where it delivers* (`hose::ledger`): a plan before a batch, a commit behind it, and the
//!   consumer's checkpoint follows. What is lost with a machine is never more than what the destination knows.
//! * *Records are delivered by their places, not by their partitions* (`hose::track`): a commit says which records below
//!   its position wait in open objects, so that partitions end at different times and a stage may answer otherwise the
//!   second time.
//! * *Names of objects follow from what is in them* (`hose::naming`): a batch that is done again overwrites itself.
//! * *Asynchronous code runs on one thread of a delivery* and is entered in one file (`hose::courier`).
//!
//! # Where to begin
//!
//! [`log`] states what survives a crash and why; [`log::frame`] draws the bytes; [`stream::producer`] says what an
//! acknowledgement means, and [`stream::producer::resume`] how a killed producer goes on.

pub mod cli;
pub mod codec;
pub mod hash;
#[cfg(feature = "hose")]
pub mod hose;
pub mod log;
pub mod record;
pub mod stream;
pub mod sys;
#[cfg(feature = "hose")]
pub mod table;

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "kpipe counts bytes and records in u64 and holds them in usize: it is built for 64-bit targets only"
);
