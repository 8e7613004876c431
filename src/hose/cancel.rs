//! A request to finish, for waits that would otherwise go on for minutes.
//!
//! Its promise: whoever waits through a [`Cancel`] is awake as soon as the request is made, on whichever thread.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::watch;

/// Whether the run has been asked to finish. All clones are one.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// Not asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks. Any thread may, inside of a runtime or not, and as often as it likes.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was asked.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it was asked.
    pub async fn cancelled(&self) {
        // The sender lives as long as this value: there is no other error.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }

    /// Waits for this long; `false` where it was asked before the end.
    pub async fn pause(&self, time: Duration) -> bool {
        if self.is_cancelled() {
            return false;
        }
        let asked = pin!(self.cancelled());
        matches!(select(asked, pin!(tokio::time::sleep(time))).await, Either::Right(_))
    }

    /// Does this work, which may go on for `grace` after it was asked; `None` where that was not enough.
    pub async fn within<T>(&self, grace: Duration, work: impl Future<Output = T>) -> Option<T> {
        let over = pin!(async {
            self.cancelled().await;
            tokio::time::sleep(grace).await;
        });
        match select(pin!(work), over).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    #[test]
    fn a_pause_ends_with_its_time_or_with_the_request() {
        let cancel = Cancel::new();
        assert!(run(cancel.pause(Duration::from_millis(2))));
        let asks = cancel.clone();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            asks.cancel();
        });
        assert!(!run(cancel.pause(Duration::from_hours(1))));
        other.join().unwrap();
        assert!(cancel.is_cancelled());
        assert!(!run(cancel.pause(Duration::ZERO)));
    }

    #[test]
    fn work_has_its_grace_and_no_more() {
        let cancel = Cancel::new();
        cancel.cancel();
        let short = tokio_sleep(1);
        assert_eq!(run(cancel.within(Duration::from_mins(1), short)), Some(1));
        assert_eq!(run(cancel.within(Duration::from_millis(5), tokio_sleep(3_600_000))), None);
    }

    async fn tokio_sleep(ms: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        ms
    }
}
