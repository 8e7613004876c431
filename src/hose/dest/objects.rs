//! An object store, or a directory: each parcel is an object.
//!
//! Delivered a second time, a batch has the same names, which are overwritten: exactly once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Batch, DeliveryError, Destination, Refused, RetryPolicy};
use crate::hose::store::{Attributes, PutMode, Store, StoreError};

/// So many objects are on their way at once.
const AT_ONCE: usize = 8;

/// Puts objects into a store.
pub struct Objects {
    store: Arc<dyn Store>,
    policy: RetryPolicy,
    attributes: Attributes,
}

impl Objects {
    /// Objects with these attributes.
    pub fn new(store: Arc<dyn Store>, policy: RetryPolicy, attributes: Attributes) -> Self {
        Self { store, policy, attributes }
    }

    async fn put(&self, name: &str, body: &crate::hose::format::body::Body) -> Result<(), DeliveryError> {
        let begun = Instant::now();
        let mut pause = self.policy.first_pause;
        loop {
            match self.store.put(name, body, PutMode::Overwrite, &self.attributes).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() && begun.elapsed() < self.policy.duration => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.policy.longest_pause).max(Duration::from_millis(1));
                }
                Err(error) => return Err(failed(&error)),
            }
        }
    }
}

fn failed(error: &StoreError) -> DeliveryError {
    if error.is_transient() {
        DeliveryError::Transient(error.to_string())
    } else {
        DeliveryError::Permanent(error.to_string())
    }
}

impl Destination for Objects {
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>> {
        let this = &*self;
        Box::pin(async move {
            stream::iter(&batch.parcels)
                .map(|parcel| this.put(&parcel.name, &parcel.body))
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await?;
            Ok(Vec::new())
        })
    }
}
