//! Amazon Data Firehose as a library: records of a stream, or of a pipe, delivered in batches to object stores and
//! services, each once.
//!
//! # The way of a record
//!
//! ```text
//! source ─► de-aggregate ─► decompress ─► transform ─► partition ─► buffer ─► convert, encode ─► deliver ─► commit
//!              └───────────────┴── a failure at any stage ──┴──────────────────┴──► error output
//! ```
//!
//! The order is the service's. One bad record never takes its batch along.
//!
//! # Exactly once
//!
//! A batch is the set of records that its plan names, by shard and index. The plan is durable before anything of it can
//! be seen at the destination, the names of its objects follow from it, and the batch counts as delivered from the
//! moment its commit is there. Who was killed between the two is followed by a run that does the same plan again: the
//! same names, overwritten, and those that it does not produce any more removed.

pub mod cancel;
pub mod chunk;
pub mod courier;
pub mod delivery;
pub mod dest;
pub mod errors;
pub mod failure;
pub mod format;
pub mod gather;
pub mod homes;
pub mod ledger;
pub mod metrics;
pub mod name;
pub mod naming;
pub mod preview;
pub mod replay;
pub mod source;
pub mod stage;
pub mod store;
pub mod track;
pub mod unpack;
pub mod verify;
