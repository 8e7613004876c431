//! Where batches go.
//!
//! Each destination is a file here, behind [`Destination`]. What is guaranteed when a batch is delivered a second time,
//! because the run before was killed between delivery and commit, each states in its own first lines.

pub mod client;
mod flow;
pub mod http;
pub mod metrics;
pub mod objects;
pub mod opensearch;
mod patience;
pub mod postgres;
pub mod redshift;
pub mod retry;
mod rows;
pub mod secret;
pub mod splunk;
pub mod stdout;
pub mod stream;
mod watermark;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::chunk::Chunk;
use super::failure::Failure;
use super::format::body::Body;
use metrics::Metrics;

/// One object of a batch: for a store a file, for a service the body of a request or several.
pub struct Parcel {
    /// Its name, a function of its partition and its records.
    pub name: String,
    /// Its bytes, where the destination takes encoded objects.
    pub body: Body,
    /// Its records, where the destination takes these.
    pub chunks: Vec<Chunk>,
    /// How many records are in it.
    pub records: u64,
    /// When the oldest of them arrived, microseconds since the epoch.
    pub oldest_us: i64,
}

/// What is delivered together and committed together.
pub struct Batch {
    /// The number of its commit: one more than that of the batch before it.
    pub number: u64,
    /// The same for every attempt at this batch, and for no other batch.
    pub id: uuid::Uuid,
    /// The objects.
    pub parcels: Vec<Parcel>,
}

/// A record that was not delivered and will not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which parcel, which of its chunks, which row.
    pub place: (usize, usize, usize),
    /// Why.
    pub failure: Failure,
    /// Whether the destination was only tried for as long as the policy allows. Otherwise it said no to this record,
    /// and would say so again.
    pub gave_up: bool,
    /// When the last attempt ended, microseconds since the epoch.
    pub ended_us: i64,
    /// What the service has beside that in its failed records for this destination, as `esIndexName`.
    pub details: Vec<(&'static str, String)>,
}

/// Why a batch could not be delivered. What of it was delivered may be delivered again.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// It may work later.
    #[error("{0}")]
    Transient(String),
    /// It will not work like this.
    #[error("{0}")]
    Permanent(String),
    /// The run was asked to finish before the batch was through.
    #[error("interrupted before the batch was delivered")]
    Interrupted,
    /// Whoever read does not read any more: a normal end, not a fault.
    #[error("the reader has closed its end")]
    Closed,
}

/// Settings that a destination cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(pub String);

/// How long a destination is tried before its records go to the error output, or the run fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// From the first failed attempt on.
    pub duration: std::time::Duration,
    /// The pause before the second attempt; it doubles from then on.
    pub first_pause: std::time::Duration,
    /// The longest pause.
    pub longest_pause: std::time::Duration,
}

impl Default for RetryPolicy {
    /// The service's: 300 s in all; 1 s, doubled up to 120 s, give or take 15 %.
    fn default() -> Self {
        let seconds = std::time::Duration::from_secs;
        Self { duration: seconds(300), first_pause: seconds(1), longest_pause: seconds(120) }
    }
}

/// Takes batches.
pub trait Destination: Send {
    /// Delivers a batch, trying again as its policy says. Answers which records were not delivered, by their places.
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>>;

    /// Reads credentials again before they are next used: they have changed, somebody says.
    fn reload(&mut self) {}

    /// What it has done so far, where it counts that.
    fn metrics(&self) -> Option<Arc<Metrics>> {
        None
    }
}
