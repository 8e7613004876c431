//! From records to partitions, and from partitions to the names of objects.
//!
//! The promise: a name is a function of what is in the object, so that whoever does a batch again comes to the same
//! names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::chunk::Origin;
use super::failure::{ErrorType, Failure};
use super::gather::{Extents, PartitionKey};
use super::homes::Homes;
use super::name::{
    Context, Extension, NameError, ObjectName, Partitioner, Span, Values, object_id, object_name,
};
use super::stage::PartitionKeys;
use crate::record::ShardId;

/// Partition keys of one record: names, and a value for each.
struct Named<'a> {
    names: &'a [String],
    values: &'a [Cow<'a, str>],
}

impl Values for Named<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let at = self.names.iter().position(|known| known == name)?;
        self.values.get(at).map(AsRef::as_ref)
    }
}

/// Who delivers, as it stands in names.
#[derive(Debug, Clone)]
pub struct Signature {
    /// The stream's name.
    pub stream: String,
    /// The stream's UUID.
    pub stream_id: Uuid,
    /// The delivery's name: two that put the same records into one place, changed in two ways, have objects of their own.
    pub delivery: String,
    /// The version of the settings.
    pub version: u64,
}

/// What every record has that arrives within a span: nothing about it needs to be asked.
struct Same {
    span: Span,
    shard: Option<ShardId>,
    partition: PartitionKey,
}

/// Names the objects of a delivery.
pub struct Namer {
    partitioner: Partitioner,
    query: Option<PartitionKeys>,
    extension: Extension,
    signature: Signature,
    /// One name for all: the destination is a file.
    fixed: Option<PartitionKey>,
    by_shard: bool,
    by_keys: bool,
    homes: Option<Homes>,
    same: Option<Same>,
    known: std::collections::HashSet<PartitionKey>,
    text: String,
}

/// What of a record tells its partition.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Where it came from.
    pub origin: &'a Origin,
    /// Its data.
    pub payload: &'a [u8],
    /// Partition keys that a transformation has given it.
    pub transform: Option<&'a BTreeMap<String, String>>,
}

/// Partition keys that are remembered, so that each is one text in memory.
const KNOWN_MAX: usize = 4096;

impl Namer {
    /// Names by a prefix.
    pub fn new(
        partitioner: Partitioner,
        query: Option<PartitionKeys>,
        extension: Extension,
        signature: Signature,
    ) -> Self {
        let uses = partitioner.prefix().uses();
        Self {
            by_shard: uses.shard,
            by_keys: !uses.query.is_empty() || !uses.transform.is_empty(),
            query: query.filter(|_| !uses.query.is_empty()),
            partitioner,
            extension,
            signature,
            fixed: None,
            homes: None,
            same: None,
            known: std::collections::HashSet::new(),
            text: String::new(),
        }
    }

    /// One object with this name.
    #[must_use]
    pub fn fixed(mut self, name: &str) -> Self {
        self.fixed = Some(Arc::from(name));
        self
    }

    /// Of records that come from an error output: `!{shard}` is where they stood before.
    #[must_use]
    pub fn with_homes(mut self, homes: Homes) -> Self {
        self.homes = Some(homes);
        self
    }

    /// The version of the settings, as it stands in names.
    pub fn set_version(&mut self, version: u64) {
        self.signature.version = version;
    }

    /// Whether records are told apart by what is in them.
    pub fn is_partitioned(&self) -> bool {
        self.by_keys
    }

    /// Whether partition keys cost so much that records are better asked many at once.
    pub fn asks_many(&self) -> bool {
        self.query.as_ref().is_some_and(|query| !query.are_paths())
    }

    /// Gives the partition of each record to `each`, with its number, in their order.
    pub fn partitions(
        &mut self,
        records: &[Asked<'_>],
        each: &mut dyn FnMut(usize, Result<PartitionKey, Failure>),
    ) -> anyhow::Result<()> {
        let Some(query) = self.query.take().filter(|_| self.fixed.is_none()) else {
            for (number, record) in records.iter().enumerate() {
                each(number, self.partition(record, &()));
            }
            return Ok(());
        };
        let payloads: Vec<&[u8]> = records.iter().map(|record| record.payload).collect();
        let asked = query.extract(&payloads, |number, values| {
            let partition = values
                .and_then(|values| self.partition(&records[number], &Named { names: query.names(), values }));
            each(number, partition);
        });
        self.query = Some(query);
        asked
    }

    /// The partition of one record.
    pub fn partition_of(&mut self, record: &Asked<'_>) -> anyhow::Result<Result<PartitionKey, Failure>> {
        if self.query.is_none() {
            return Ok(self.partition(record, &()));
        }
        let mut found = None;
        self.partitions(std::slice::from_ref(record), &mut |_, partition| found = Some(partition))?;
        found.ok_or_else(|| anyhow::anyhow!("a record was not asked for its partition keys"))
    }

    fn partition(&mut self, record: &Asked<'_>, query: &dyn Values) -> Result<PartitionKey, Failure> {
        let origin = record.origin;
        if let Some(fixed) = &self.fixed {
            return Ok(Arc::clone(fixed));
        }
        let shard = match &self.homes {
            Some(homes) if self.by_shard => homes.shard(origin),
            _ => origin.shard,
        };
        if let Some(same) = &self.same
            && same.span.contains(origin.arrival_us)
            && same.shard.is_none_or(|same| same == shard)
        {
            return Ok(Arc::clone(&same.partition));
        }
        let context = Context {
            arrival_us: origin.arrival_us,
            shard,
            query,
            transform: &record.transform,
            error_type: None,
        };
        self.partitioner.partition(&context, &mut self.text).map_err(|error| name_failure(&error))?;
        let partition = if let Some(known) = self.known.get(self.text.as_str()) {
            Arc::clone(known)
        } else {
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            let new: PartitionKey = Arc::from(self.text.as_str());
            self.known.insert(Arc::clone(&new));
            new
        };
        if !self.by_keys {
            let span = self.partitioner.span(origin.arrival_us);
            let shard = self.by_shard.then_some(shard);
            self.same = Some(Same { span, shard, partition: Arc::clone(&partition) });
        }
        Ok(partition)
    }

    /// The name of an object.
    pub fn object(
        &self,
        partition: &PartitionKey,
        first: &Origin,
        oldest_us: i64,
        shards: &Extents,
    ) -> Result<String, NameError> {
        if self.fixed.is_some() {
            return Ok(partition.to_string());
        }
        let delivery = &self.signature.delivery;
        let ranges = format!("{delivery} {:?} {:?} {shards:?}", first.shard, (first.index, first.sub));
        let id = object_id(self.signature.stream_id, partition, ranges.as_bytes());
        named(&self.partitioner, &self.signature, &self.extension, partition, oldest_us, id)
    }
}

fn named(
    partitioner: &Partitioner,
    signature: &Signature,
    extension: &Extension,
    partition: &str,
    oldest_us: i64,
    id: Uuid,
) -> Result<String, NameError> {
    let prefix = partitioner.complete(partition, oldest_us, id)?;
    let Signature { stream, version, .. } = signature;
    object_name(
        &prefix,
        partitioner.zone(),
        &ObjectName { stream, version: *version, oldest_us, id, extension },
    )
}

fn name_failure(error: &NameError) -> Failure {
    Failure::new(ErrorType::MetadataExtraction, "DynamicPartitioning.InvalidPrefix", error.to_string())
}

/// Names the objects of an error output.
pub struct ErrorNames {
    partitioner: Partitioner,
    signature: Signature,
}

impl ErrorNames {
    /// Names by a prefix for errors.
    pub fn new(partitioner: Partitioner, signature: Signature) -> Self {
        Self { partitioner, signature }
    }

    /// The name of what a batch has of this kind: the same for every attempt at the batch.
    pub fn name(&self, kind: ErrorType, batch: Uuid, oldest_us: i64) -> Result<String, NameError> {
        let context = Context { error_type: Some(kind), ..Context::plain(ShardId(0), oldest_us) };
        let mut text = String::new();
        let mut partitioner = self.partitioner.clone();
        partitioner.partition(&context, &mut text)?;
        let id = object_id(batch, &text, kind.name().as_bytes());
        named(&partitioner, &self.signature, &Extension::default(), &text, oldest_us, id)
    }

    /// The name of the copies of what was read for a batch.
    pub fn batch(&self, batch: Uuid, oldest_us: i64) -> Result<String, NameError> {
        let mut text = String::new();
        let mut partitioner = self.partitioner.clone();
        partitioner.partition(&Context::plain(ShardId(0), oldest_us), &mut text)?;
        let id = object_id(batch, &text, b"backup");
        named(&partitioner, &self.signature, &Extension::default(), &text, oldest_us, id)
    }
}
