//! What the services have in common around a batch.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::super::cancel::Cancel;
use super::metrics::Metrics;
use super::rows::{self, Row};
use super::{Batch, DeliveryError, Refused};

/// A batch from its beginning to its end: what is under way when the run is asked to finish has its grace and no more.
pub(super) async fn whole(
    batch: &Batch,
    metrics: &Metrics,
    cancel: &Cancel,
    grace: Duration,
    work: impl Future<Output = Outcome>,
) -> Outcome {
    rows::check(batch)?;
    metrics.oldest_us.store(rows::oldest_us(batch), Relaxed);
    let done = cancel.within(grace, work).await.unwrap_or(Err(DeliveryError::Interrupted));
    metrics.oldest_us.store(0, Relaxed);
    if let Ok(refused) = &done {
        metrics.refused.fetch_add(refused.len() as u64, Relaxed);
    }
    done
}

/// What became of a group of records.
pub(super) type Outcome = Result<Vec<Refused>, DeliveryError>;

/// Delivers groups of records, so many at once; they are made when it is their turn.
pub(super) async fn concurrently<'a>(
    mut groups: impl Iterator<Item = Vec<Row<'a>>> + Send,
    at_once: usize,
    work: impl Fn(Vec<Row<'a>>) -> BoxFuture<'a, Outcome> + Send,
) -> Outcome {
    let mut running = FuturesUnordered::new();
    let mut refused = Vec::new();
    loop {
        while running.len() < at_once.max(1)
            && let Some(group) = groups.next()
        {
            running.push(work(group));
        }
        match running.next().await {
            Some(done) => refused.append(&mut done?),
            None => break,
        }
    }
    refused.sort_by_key(|refused: &Refused| refused.place);
    Ok(refused)
}

/// Waits before the next attempt. A run that was asked to finish does not wait for one.
pub(super) async fn pause(cancel: &Cancel, time: Duration) -> Result<(), DeliveryError> {
    if cancel.pause(time).await { Ok(()) } else { Err(DeliveryError::Interrupted) }
}
