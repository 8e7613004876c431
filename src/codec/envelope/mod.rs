//! The envelope (`json`): a record and all that is known about it as one line of JSON, read back without loss.
//!
//! ```json
//! {"kpipe":"record","stream":"clicks","streamId":"6e58…","shardId":"shardId-000000000000","sequenceNumber":"4959…",
//!  "partitionKey":"u1","approximateArrivalTimestamp":"2026-11-23T13:48:35.000001Z","json":{"page":"/"}}
//! ```
//!
//! - It is marked by `"kpipe":"record"`, which kpipe writes as its first member. A form that this program could not
//!   read would carry another word there, and is refused.
//! - The payload is exactly one of `json` (the payload's own bytes: valid JSON on one line with no white space around
//!   it), `text` (any other UTF-8) and `base64` (anything else).
//! - Members without a value are left out: `subSequenceNumber`, `partitionKey`, `explicitHashKey`, the producer's
//!   `timestamp`, `attributes`.
//! - `attributes` is an object from name to value, or where a name repeats a list of `[name, value]`; a value is a
//!   string, or `{"base64":"…"}` where it is not UTF-8.
//! - Moments are RFC 3339 in UTC with microseconds; seconds since the epoch, as the AWS CLI prints them, are read too,
//!   and written for the years that RFC 3339 does not have.
//! - Members not named here are ignored when it is read. A rejected record is an envelope with an `error` object, so
//!   that it can be put back as it is.

mod read;
mod write;

pub use read::Envelope;
pub use write::{EnvelopeEncoder, Rejected, Rejection, write_rejected};

pub(super) use read::EnvelopeDecoder;

/// The value of the member `kpipe`.
const MARKER: &str = "record";

#[cfg(test)]
mod tests;
