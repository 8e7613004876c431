//! What would be written, noted down.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::codec::envelope::Envelope;
use crate::hose::dest::{Batch, DeliveryError, Destination, Refused};
use crate::hose::format::body::Body;
use crate::hose::store::{Attributes, Listed, PutMode, Store, StoreError};

/// So many failed records of each kind are shown.
const EXAMPLES_MAX: usize = 3;
/// So much of each.
const EXAMPLE_CHARS: usize = 200;

/// An object that would be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// Its name, from the root of the destination.
    pub name: String,
    /// Its records.
    pub records: u64,
    /// Its bytes; of records that go to a service, those of their data.
    pub bytes: u64,
}

/// A failed record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Example {
    /// Its sequence number.
    pub sequence_number: Option<String>,
    /// Its shard.
    pub shard: Option<String>,
    /// What is wrong with it.
    pub message: String,
    /// The beginning of its data.
    pub data: String,
}

/// Records that would fail in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// How many.
    pub records: u64,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Batches.
    pub batches: u64,
    /// Objects, in the order of their batches.
    pub objects: Vec<Planned>,
    /// By error type and code.
    #[serde(skip)]
    pub failures: BTreeMap<(String, String), Failures>,
}

/// Takes what would be delivered, and what would be written to an error output. Clones are one sheet.
#[derive(Clone, Default)]
pub struct Sheet(Arc<Mutex<Preview>>);

impl Sheet {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is noted down.
    pub fn preview(&self) -> Preview {
        self.lock().clone()
    }

    /// A store that notes down what would be put into this one.
    pub fn instead_of(&self, store: &Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Instead { store: Arc::clone(store), sheet: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Preview> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Destination for Sheet {
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>> {
        let mut preview = self.lock();
        preview.batches += 1;
        for parcel in &batch.parcels {
            let data: u64 = parcel
                .chunks
                .iter()
                // Each payload has a newline behind it there.
                .map(|chunk| (chunk.bytes.len() - chunk.len()) as u64)
                .sum();
            preview.objects.push(Planned {
                name: parcel.name.clone(),
                records: parcel.records,
                bytes: if parcel.chunks.is_empty() { parcel.body.len() } else { data },
            });
        }
        drop(preview);
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// What the error output says of a record.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    error: Reason,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reason {
    #[serde(rename = "errorOutputType")]
    kind: String,
    #[serde(rename = "errorCode", alias = "lastErrorCode")]
    code: String,
    #[serde(rename = "errorMessage", alias = "lastErrorMessage")]
    message: String,
}

struct Instead {
    store: Arc<dyn Store>,
    sheet: Sheet,
}

impl Instead {
    fn note(&self, body: &Body) -> std::io::Result<()> {
        let text = body.read(0, body.len() as usize)?;
        let mut preview = self.sheet.lock();
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let Ok(Line { error }) = serde_json::from_slice(line) else { continue };
            let failures = preview.failures.entry((error.kind, error.code)).or_default();
            failures.records += 1;
            if failures.examples.len() < EXAMPLES_MAX {
                let envelope = Envelope::parse(line).ok();
                let data = envelope.as_ref().map(|envelope| &envelope.payload[..]).unwrap_or_default();
                failures.examples.push(Example {
                    sequence_number: envelope
                        .as_ref()
                        .and_then(|envelope| envelope.sequence)
                        .map(|n| n.to_string()),
                    shard: envelope
                        .as_ref()
                        .and_then(|envelope| envelope.shard)
                        .map(|shard| shard.to_string()),
                    message: error.message,
                    data: String::from_utf8_lossy(data).chars().take(EXAMPLE_CHARS).collect(),
                });
            }
        }
        Ok(())
    }
}

impl Store for Instead {
    fn url(&self, name: &str) -> String {
        self.store.url(name)
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        self.store.check_name(name)
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        body: &'a Body,
        _mode: PutMode,
        _attributes: &'a Attributes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let noted = self
            .note(body)
            .map_err(|error| StoreError::Permanent { name: name.to_owned(), reason: error.to_string() });
        Box::pin(std::future::ready(noted))
    }

    fn get<'a>(&'a self, name: &'a str, max: u64) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        self.store.get(name, max)
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        self.store.get_range(name, range)
    }

    fn head<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Listed>, StoreError>> {
        self.store.head(name)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        self.store.list(prefix, after)
    }

    fn delete<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        // What a run before this one left is that run's successor's to clear away.
        Box::pin(std::future::ready(Ok(())))
    }
}
