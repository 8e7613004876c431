//! Failed records, mended, into the delivery again: once.
//!
//! An error output is read as if it were a stream: its objects never change once their batch is committed, so that each
//! line has a place for ever. The first time that an object is read it is given the next indexes of one long shard, a line
//! each, and that is written down in the replay's own ledger before any plan speaks of these indexes ([`Catalog`]). From
//! there on it is a delivery like any other: plans, commits, and a run that was killed is done again.
//!
//! ```text
//! DEST/_khose/replay.NAME/
//!     objects/00000000000000000000.json    which object of the error output has which indexes
//!     00000000000000000001.json            commits and plans, as of every delivery
//! ```
//!
//! The promise: a line that was replayed is not replayed again, by no run and whatever its options, and a line that was
//! passed over (by `--error-type`, by `--since`) stays for a later run. A record that fails again is in the error output
//! again, as a new line of a new object; a run reads what was there when it began, so that it does not chase its own
//! failures, and a later run with the same options leaves them alone, for they would fail again.
//!
//! Objects whose batch is not committed are left for later: the run that does it again writes them anew. That can be
//! known where the ledger of their delivery is at the destination, or in the error output.

mod batches;
mod catalog;
mod line;
mod source;

pub use catalog::{Catalog, Indexed};
pub use line::{FailedLine, Selection};
pub use source::{ReplaySource, STREAM, Seen, Start};
