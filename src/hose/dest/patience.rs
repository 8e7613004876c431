//! How long a database is tried.

use std::time::Duration;

use tokio::time::Instant;

use super::postgres::fault::Fault;
use super::{DeliveryError, Refused, RetryPolicy};

/// The attempts at one batch.
pub(super) struct Patience {
    policy: RetryPolicy,
    attempts: u32,
    first_failure: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, attempts: 1, first_failure: None, pause: policy.first_pause }
    }

    /// Waits before the next attempt, if there is to be one.
    pub(super) async fn after(&mut self, fault: Fault) -> Result<(), DeliveryError> {
        let message = match fault {
            Fault::Transient(message) => message,
            Fault::Permanent(message) => return Err(DeliveryError::Permanent(message)),
            Fault::Data(misfit) => return Err(DeliveryError::Permanent(misfit.message)),
        };
        let first = *self.first_failure.get_or_insert_with(Instant::now);
        // Give or take 15 %, so that those who failed together do not come back together.
        let jitter = 85 + u32::from(uuid::Uuid::new_v4().as_bytes()[0]) % 31;
        let pause = self.pause * jitter / 100;
        if first.elapsed() + pause > self.policy.duration {
            let attempts = self.attempts;
            return Err(DeliveryError::Transient(match attempts {
                1 => message,
                _ => format!("{message} (tried {attempts} times)"),
            }));
        }
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(self.policy.longest_pause);
        self.attempts += 1;
        Ok(())
    }

    /// Says with each refused record how often it was tried.
    pub(super) fn count(&self, mut refused: Vec<Refused>) -> Vec<Refused> {
        refused.iter_mut().for_each(|refused| refused.failure.attempts = self.attempts);
        refused
    }
}
