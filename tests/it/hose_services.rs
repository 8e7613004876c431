//! Services take each record once where they can, and what they refuse is told: through the library, against receivers
//! that misbehave.

mod http;
mod opensearch;
mod splunk;

use std::time::Duration;

use kpipe::hose::chunk::{Chunk, Origin};
use kpipe::hose::dest::client::ClientOptions;
use kpipe::hose::dest::{Batch, DeliveryError, Destination, Parcel, Refused, RetryPolicy};
use kpipe::record::ShardId;

/// 2016-02-25T13:00:00Z, the time of the service's own examples.
const ARRIVAL_US: i64 = 1_456_405_200_000_000;

/// A policy for tests: many attempts in a second.
fn quick() -> RetryPolicy {
    RetryPolicy {
        duration: Duration::from_secs(1),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
    }
}

/// Connections that never leave the machine.
fn client() -> ClientOptions {
    ClientOptions { response_timeout: Duration::from_secs(20), proxies: false, ..ClientOptions::default() }
}

/// The same, and answers are waited for shortly.
fn hasty() -> ClientOptions {
    ClientOptions { response_timeout: Duration::from_millis(300), ..client() }
}

/// A batch of these payloads, in chunks of three.
fn batch<P: AsRef<[u8]>>(payloads: &[P]) -> Batch {
    let mut chunks: Vec<Chunk> = Vec::new();
    for (i, payload) in payloads.iter().enumerate() {
        if i % 3 == 0 {
            chunks.push(Chunk::default());
        }
        let shard = ShardId(2);
        let index = 40 + i as u64;
        let origin =
            Origin { shard, shard_created_s: 1_456_000_000, index, sub: None, arrival_us: ARRIVAL_US };
        chunks.last_mut().expect("one was pushed").push(origin, payload.as_ref());
    }
    let parcel = Parcel {
        name: "clicks".to_owned(),
        body: Vec::new().into(),
        records: payloads.len() as u64,
        chunks,
        oldest_us: ARRIVAL_US,
    };
    Batch { number: 1, id: uuid::Uuid::from_u128(0x1234), parcels: vec![parcel] }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

fn deliver(to: &mut dyn Destination, batch: &Batch) -> Result<Vec<Refused>, DeliveryError> {
    run(to.deliver(batch))
}

/// Which rows were refused, counted through the batch.
fn rows(refused: &[Refused]) -> Vec<usize> {
    refused.iter().map(|refused| refused.place.1 * 3 + refused.place.2).collect()
}

fn codes(refused: &[Refused]) -> Vec<&str> {
    refused.iter().map(|refused| refused.failure.code.as_str()).collect()
}
