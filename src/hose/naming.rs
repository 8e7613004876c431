//! From records to partitions, and from partitions to names.
//!
//! A name is a function of what is in the object: whoever does a batch again comes to the same names.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::chunk::Origin;
use super::failure::{ErrorType, Failure};
use super::gather::PartitionKey;

/// Names the objects of a delivery.
#[derive(Clone)]
pub struct Namer {
    stream: String,
    version: u64,
    extension: String,
    whole: PartitionKey,
}

impl Namer {
    /// For objects of this stream.
    pub fn new(stream: &str, extension: &str) -> Self {
        Self { stream: stream.to_owned(), version: 1, extension: extension.to_owned(), whole: Arc::from("") }
    }

    /// The version of the settings, as it stands in names.
    pub fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    /// The partition of a record.
    pub fn partition(
        &mut self,
        _origin: &Origin,
        _payload: &[u8],
        _keys: Option<&BTreeMap<String, String>>,
    ) -> Result<PartitionKey, Failure> {
        Ok(Arc::clone(&self.whole))
    }

    /// The name of an object.
    pub fn object(
        &self,
        partition: &PartitionKey,
        first: &Origin,
        oldest_us: i64,
        shards: &BTreeMap<u32, (u64, u64, u64)>,
    ) -> anyhow::Result<String> {
        let seed = format!("{partition}|{first:?}|{oldest_us}|{shards:?}");
        let id = xxhash_rust::xxh3::xxh3_128(seed.as_bytes());
        Ok(format!("{partition}{}-{}-{}{}", self.stream, self.version, Uuid::from_u128(id), self.extension))
    }
}

/// Names the objects of an error output.
pub struct ErrorNames {
    prefix: String,
}

impl ErrorNames {
    /// Below this prefix.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The name of what a batch has of this kind.
    pub fn name(&self, kind: ErrorType, batch: Uuid, _oldest_us: i64) -> String {
        format!("{}{kind}/{batch}", self.prefix)
    }
}
