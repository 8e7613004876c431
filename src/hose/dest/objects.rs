//! An object store, or a directory: each parcel is an object.
//!
//! Delivered a second time, a batch has the same names, which are overwritten: exactly once.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};

use xxhash_rust::xxh3::xxh3_64;

use super::retry::Backoff;
use super::{Batch, DeliveryError, Destination, Refused, RetryPolicy};
use crate::hose::cancel::Cancel;
use crate::hose::format::body::Body;
use crate::hose::store::{Attributes, PutMode, Store, StoreError};

/// So many objects are on their way at once.
const AT_ONCE: usize = 8;
/// Bytes are compared in pieces of this size.
const COMPARED_BYTES: u64 = 1 << 20;

/// What becomes of an object that is there already with the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfSame {
    /// It is written all the same.
    #[default]
    Write,
    /// It stays, and its time with it: for a target of make.
    Keep,
}

/// Puts objects into a store.
pub struct Objects {
    store: Arc<dyn Store>,
    policy: RetryPolicy,
    attributes: Attributes,
    if_same: IfSame,
    cancel: Cancel,
}

impl Objects {
    /// Objects with these attributes.
    pub fn new(store: Arc<dyn Store>, policy: RetryPolicy, attributes: Attributes, cancel: &Cancel) -> Self {
        Self { store, policy, attributes, if_same: IfSame::default(), cancel: cancel.clone() }
    }

    /// What becomes of an object that is there already with the same bytes.
    #[must_use]
    pub fn when_same(self, if_same: IfSame) -> Self {
        Self { if_same, ..self }
    }

    /// Whether an object is there with just these bytes.
    async fn is_there(&self, name: &str, body: &Body) -> Result<bool, StoreError> {
        if self.store.head(name).await?.is_none_or(|found| found.size != body.len()) {
            return Ok(false);
        }
        let mut at = 0;
        while at < body.len() {
            let end = (at + COMPARED_BYTES).min(body.len());
            let mine = body.read(at, (end - at) as usize);
            if mine.is_err() || self.store.get_range(name, at..end).await? != mine.unwrap_or_default() {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }

    async fn put(&self, name: &str, body: &Body) -> Result<(), DeliveryError> {
        if self.if_same == IfSame::Keep && self.is_there(name, body).await.map_err(|error| failed(&error))? {
            return Ok(());
        }
        let mut backoff = Backoff::from_first_failure(self.policy, xxh3_64(name.as_bytes()));
        loop {
            let begun = Instant::now();
            match self.store.put(name, body, PutMode::Overwrite, &self.attributes).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => {
                    let Some(pause) = backoff.failed(begun.elapsed(), None) else {
                        return Err(failed(&error));
                    };
                    if !self.cancel.pause(pause).await {
                        return Err(DeliveryError::Interrupted);
                    }
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
            // Boxed, or the compiler takes their borrows for more general than they are.
            let puts: Vec<BoxFuture<'_, _>> = batch
                .parcels
                .iter()
                .map(|parcel| Box::pin(this.put(&parcel.name, &parcel.body)) as BoxFuture<'_, _>)
                .collect();
            stream::iter(puts).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
            Ok(Vec::new())
        })
    }
}
