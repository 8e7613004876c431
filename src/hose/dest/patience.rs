//! How long a database or a stream is tried.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::postgres::fault::Fault;
use super::retry::Backoff;
use super::{Batch, DeliveryError, Refused, RetryPolicy, flow, rows};
use crate::hose::cancel::Cancel;
use crate::hose::failure::Failure;

/// What is under way when the run is asked to finish has so long to end. Then it is given up, and with it the
/// transaction: the next run delivers the batch again.
const GRACE: Duration = Duration::from_secs(20);

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Which parcel, which of its chunks, which row.
    pub(super) place: (usize, usize, usize),
    pub(super) failure: Failure,
}

/// The attempts at one batch, and their counts.
pub(super) struct Patience<'a> {
    backoff: Backoff,
    cancel: &'a Cancel,
    metrics: &'a Metrics,
    records: u64,
    bytes: u64,
    /// When the present attempt began.
    begun: Instant,
}

impl<'a> Patience<'a> {
    /// The policy's time begins with the first attempt, as the service has it for databases.
    pub(super) fn new(batch: &Batch, policy: RetryPolicy, cancel: &'a Cancel, metrics: &'a Metrics) -> Self {
        metrics.oldest_us.store(rows::oldest_us(batch), Relaxed);
        let chunks = batch.parcels.iter().flat_map(|parcel| &parcel.chunks);
        // Its newline is not the record's.
        let bytes = chunks.map(|chunk| (chunk.bytes.len() - chunk.len()) as u64).sum();
        let records = batch.parcels.iter().map(|parcel| parcel.records).sum();
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let backoff = Backoff::from_first_attempt(policy, seed);
        Self { backoff, cancel, metrics, records, bytes, begun: Instant::now() }
    }

    /// Makes one attempt, which may take so long.
    pub(super) async fn attempt<T>(
        &mut self,
        limit: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Fault>, DeliveryError> {
        self.begun = Instant::now();
        self.metrics.attempt(self.records, self.bytes);
        let work = tokio::time::timeout(limit, work);
        match self.cancel.within(GRACE, work).await {
            None => Err(DeliveryError::Interrupted),
            Some(Err(_)) => Ok(Err(Fault::Transient(format!("no end within {} s", limit.as_secs())))),
            Some(Ok(outcome)) => Ok(outcome),
        }
    }

    /// Waits before the next attempt, if there is to be one.
    pub(super) async fn after(&mut self, fault: Fault) -> Result<(), DeliveryError> {
        let message = match fault {
            Fault::Transient(message) => message,
            Fault::Permanent(message) => return Err(DeliveryError::Permanent(message)),
            Fault::Data(misfit) => return Err(DeliveryError::Permanent(misfit.message)),
        };
        match self.backoff.failed(self.begun.elapsed(), None) {
            Some(pause) => flow::pause(self.cancel, pause).await,
            None => Err(DeliveryError::Transient(match self.backoff.attempts() {
                1 => message,
                attempts => format!("{message} (tried {attempts} times)"),
            })),
        }
    }

    /// It went well. What was left out, as it is told outside.
    pub(super) fn done(&self, left_out: Vec<LeftOut>, ended_us: i64) -> Vec<Refused> {
        let refused = left_out.len() as u64;
        self.metrics.success();
        self.metrics.delivered(self.records - refused.min(self.records), self.bytes);
        self.metrics.refused.fetch_add(refused, Relaxed);
        let each = left_out.into_iter().map(|LeftOut { place, mut failure }| {
            failure.attempts = self.backoff.attempts() + 1;
            Refused { place, failure, gave_up: false, ended_us, details: Vec::new() }
        });
        each.collect()
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        self.metrics.oldest_us.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        Batch { number: 1, id: uuid::Uuid::nil(), parcels: Vec::new() }
    }

    fn policy(duration_ms: u64) -> RetryPolicy {
        let ms = Duration::from_millis;
        RetryPolicy { duration: ms(duration_ms), first_pause: ms(5), longest_pause: ms(10) }
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    #[test]
    fn it_is_tried_until_the_time_is_up() {
        let cancel = Cancel::new();
        let metrics = Metrics::new("x");
        let mut patience = Patience::new(&batch(), policy(60), &cancel, &metrics);
        let error = run(async {
            loop {
                if let Err(error) = patience.after(Fault::Transient("away".to_owned())).await {
                    break error.to_string();
                }
            }
        });
        assert!(error.starts_with("away (tried ") && patience.backoff.attempts() > 3, "{error}");
    }

    #[test]
    fn what_will_not_work_is_not_tried_again() {
        let cancel = Cancel::new();
        let metrics = Metrics::new("x");
        let mut patience = Patience::new(&batch(), policy(3_600_000), &cancel, &metrics);
        let error = run(patience.after(Fault::Permanent("never".to_owned()))).unwrap_err();
        assert!(matches!(error, DeliveryError::Permanent(message) if message == "never"));
    }

    #[test]
    fn a_request_to_finish_ends_a_pause() {
        let cancel = Cancel::new();
        let hour = Duration::from_hours(1);
        let policy = RetryPolicy { duration: hour * 3, first_pause: hour, longest_pause: hour };
        let metrics = Metrics::new("x");
        let mut patience = Patience::new(&batch(), policy, &cancel, &metrics);
        cancel.cancel();
        let error = run(patience.after(Fault::Transient("away".to_owned()))).unwrap_err();
        assert!(matches!(error, DeliveryError::Interrupted));
    }
}
