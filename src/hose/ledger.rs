//! What a delivery has done, kept where its batches go: plans before they are carried out, commits behind them.
//!
//! ```text
//! DEST/_khose/NAME/
//!     00000000000000000041.json         the commit of batch 41: what is delivered, and where each shard stands
//!     00000000000000000042.plan.json    batch 42 is being delivered, or its run was killed on the way
//!     latest.json                       a batch that has been committed, to look behind; a hint
//! ```
//!
//! The promise: what a commit says is at the destination, whole and for good; and whatever else of this delivery is
//! there, the plan behind the last commit names it. A commit is put under a name that must be free, so that of two runs
//! that do not know of each other one is told.
//!
//! Names beginning with `_` are passed over by Spark, Hive and pyarrow when they look for data.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::format::body::Body;
use super::store::{Attributes, PutMode, Store, StoreError};
use super::track::Positions;

/// The folder of all deliveries' ledgers below a destination.
pub const FOLDER: &str = "_khose";
/// What a plan or a commit may have: a thousand shards and ten thousand objects are well below a hundredth of it.
const ENTRY_BYTES_MAX: u64 = 1 << 30;
/// After so many commits the hint is written anew: a listing behind it stays short.
const HINT_EVERY: u64 = 64;
const VERSION: u32 = 1;
/// Commits are read so many at once.
const READ_AT_ONCE: usize = 16;
/// A plan that is gone when it is read is looked for this often: each time another batch has been committed meanwhile.
const TRIES_MAX: u32 = 16;

/// What a ledger cannot do.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store would not.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// An entry is not what it should be.
    #[error("{url}: {reason}")]
    Entry {
        /// The entry.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A commit is there that this run did not write.
    #[error("{url} was written by another run: two deliveries write to one place under one name")]
    Fenced {
        /// The entry.
        url: String,
    },
}

/// An object of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectNote {
    /// Its name, from the root of the destination.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its records.
    pub records: u64,
    /// By shard number: the first and the last index that it has records of, and how many.
    pub shards: BTreeMap<u32, (u64, u64, u64)>,
}

/// What has been delivered from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Records in objects.
    pub records: u64,
    /// Bytes of the objects.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
    /// Records in the error output.
    pub failed: u64,
    /// Records that were left out on purpose.
    pub dropped: u64,
}

impl Totals {
    /// By how much they have grown since then.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            records: self.records.saturating_sub(before.records),
            bytes: self.bytes.saturating_sub(before.bytes),
            objects: self.objects.saturating_sub(before.objects),
            failed: self.failed.saturating_sub(before.failed),
            dropped: self.dropped.saturating_sub(before.dropped),
        }
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.objects += other.objects;
        self.failed += other.failed;
        self.dropped += other.dropped;
    }
}

/// A plan, or a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The form, 1.
    pub khose: u32,
    /// Which batch.
    pub number: u64,
    /// The same in a batch's plan and in its commit.
    pub id: Uuid,
    /// The stream's name.
    pub stream: String,
    /// The stream's UUID.
    pub stream_id: Uuid,
    /// When it was written, microseconds since the epoch.
    pub written_us: i64,
    /// When the oldest record of the batch arrived, microseconds since the epoch.
    pub oldest_us: i64,
    /// The version of the settings: it rises when they change, as in the service.
    pub version: u64,
    /// What the settings were, shortened.
    pub settings: String,
    /// How records are taken apart: what is left in part can only be gone on with in the same way.
    #[serde(default)]
    pub units: String,
    /// Where the delivery began in each shard: the index of the first record that is its business.
    pub began: BTreeMap<u32, u64>,
    /// Where each shard stands once the batch is delivered.
    pub positions: Positions,
    /// The objects of the batch.
    pub objects: Vec<ObjectNote>,
    /// The objects of the error output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ObjectNote>,
    /// In a plan: objects that earlier attempts at this batch may have left, under names that this one does not write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// In a plan: where any attempt at this batch may have written failed records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_names: Vec<String>,
    /// All that has been delivered, this batch included.
    pub totals: Totals,
}

/// What is known when a delivery begins.
#[derive(Debug, Default)]
pub struct Standing {
    /// The last commit.
    pub last: Option<Entry>,
    /// A plan that no commit follows.
    pub pending: Option<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Hint {
    committed: u64,
}

/// The ledger of one delivery.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    dir: String,
}

impl Ledger {
    /// The ledger of delivery `name` in a store.
    pub fn new(store: Arc<dyn Store>, name: &str) -> Self {
        Self { store, dir: format!("{FOLDER}/{name}") }
    }

    /// The deliveries that have a ledger in a store.
    pub async fn names(store: &dyn Store) -> Result<Vec<String>, StoreError> {
        let listed = store.list(&format!("{FOLDER}/"), None).await?;
        let mut names: Vec<String> = listed
            .iter()
            .filter_map(|object| {
                let (name, entry) = object.name.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?;
                number_of(entry).map(|_| name.to_owned())
            })
            .collect();
        names.dedup();
        Ok(names)
    }

    /// The folder of this ledger, for what else a delivery keeps there.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// The store it is in.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn commit_name(&self, number: u64) -> String {
        format!("{}/{number:020}.json", self.dir)
    }

    fn plan_name(&self, number: u64) -> String {
        format!("{}/{number:020}.plan.json", self.dir)
    }

    fn hint_name(&self) -> String {
        format!("{}/latest.json", self.dir)
    }

    /// Where the delivery stands.
    pub async fn standing(&self) -> Result<Standing, LedgerError> {
        // What is before a commit that is known to be there need not be listed. Its own name is listed again.
        let known = match self.store.get(&self.hint_name(), 4096).await {
            Ok(bytes) => serde_json::from_slice::<Hint>(&bytes).ok().map(|hint| hint.committed),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let after = known.filter(|&number| number > 0).map(|number| self.plan_name(number - 1));
        let mut standing = self.standing_after(after.as_deref()).await?;
        if standing.last.is_none() && known.is_some() {
            // The hint speaks of what is not there any more.
            standing = self.standing_after(None).await?;
        }
        Ok(standing)
    }

    async fn standing_after(&self, after: Option<&str>) -> Result<Standing, LedgerError> {
        let mut tries = 1;
        loop {
            match self.listed_after(after).await {
                // A plan that was listed was committed at this moment: its commit is in the next list.
                Err(LedgerError::Store(StoreError::NotFound { .. })) if tries < TRIES_MAX => tries += 1,
                other => return other,
            }
        }
    }

    async fn listed_after(&self, after: Option<&str>) -> Result<Standing, LedgerError> {
        let listed = self.store.list(&format!("{}/", self.dir), after).await?;
        let (mut committed, mut planned) = (None, None);
        for object in &listed {
            let Some(entry) = object.name.get(self.dir.len() + 1..) else { continue };
            match number_of(entry) {
                Some((number, false)) => committed = committed.max(Some(number)),
                Some((number, true)) => planned = planned.max(Some(number)),
                None => {}
            }
        }
        let last = match committed {
            Some(number) => Some(self.read(&self.commit_name(number)).await?),
            None => None,
        };
        let pending = match planned.filter(|&number| committed.is_none_or(|committed| number > committed)) {
            Some(number) => Some(self.read(&self.plan_name(number)).await?),
            None => None,
        };
        Ok(Standing { last, pending })
    }

    /// Every commit, in order: for whoever looks after what has been delivered.
    pub async fn commits(&self) -> Result<Vec<Entry>, LedgerError> {
        Ok(self.since(None).await?.0)
    }

    /// Every commit behind this one, in order, and the plan that none follows.
    pub async fn since(&self, number: Option<u64>) -> Result<(Vec<Entry>, Option<Entry>), LedgerError> {
        let after = number.map(|number| self.commit_name(number));
        let listed = self.store.list(&format!("{}/", self.dir), after.as_deref()).await?;
        let (mut names, mut planned) = (Vec::new(), None);
        for object in listed {
            match object.name.get(self.dir.len() + 1..).and_then(number_of) {
                Some((_, false)) => names.push(object.name),
                Some((of, true)) if number.is_none_or(|number| of > number) => {
                    planned = planned.max(Some((of, object.name)));
                }
                _ => {}
            }
        }
        // Boxed, or the compiler takes their borrows for more general than they are.
        let reads: Vec<BoxFuture<'_, _>> =
            names.iter().map(|name| Box::pin(self.read(name)) as BoxFuture<'_, _>).collect();
        let commits: Vec<Entry> = stream::iter(reads).buffered(READ_AT_ONCE).try_collect().await?;
        let last = commits.last().map(|commit| commit.number).max(number);
        let pending = match planned.filter(|(number, _)| Some(*number) > last) {
            Some((_, name)) => match self.read(&name).await {
                // It was committed at this moment, and its commit is behind what was listed.
                Err(LedgerError::Store(StoreError::NotFound { .. })) => None,
                other => Some(other?),
            },
            None => None,
        };
        Ok((commits, pending))
    }

    async fn read(&self, name: &str) -> Result<Entry, LedgerError> {
        let bytes = self.store.get(name, ENTRY_BYTES_MAX).await?;
        let wrong = |reason: String| LedgerError::Entry { url: self.store.url(name), reason };
        let entry: Entry = serde_json::from_slice(&bytes).map_err(|error| {
            let later = serde_json::from_slice::<serde_json::Value>(&bytes)
                .is_ok_and(|value| value["khose"].as_u64().is_some_and(|form| form > u64::from(VERSION)));
            if later { wrong("needs a later version of kpipe".to_owned()) } else { wrong(error.to_string()) }
        })?;
        if entry.khose != VERSION {
            return Err(wrong(format!("its form is {}, and {VERSION} is known here", entry.khose)));
        }
        Ok(entry)
    }

    /// Writes a plan. `again` replaces that of a run that was killed.
    pub async fn plan(&self, entry: &Entry, again: bool) -> Result<(), LedgerError> {
        let mode = if again { PutMode::Overwrite } else { PutMode::Create };
        self.write(&self.plan_name(entry.number), entry, mode).await
    }

    /// Writes a commit, and clears its plan away.
    pub async fn commit(&self, entry: &Entry) -> Result<(), LedgerError> {
        let name = self.commit_name(entry.number);
        match self.write(&name, entry, PutMode::Create).await {
            Err(LedgerError::Fenced { url }) => {
                // An answer may have been lost on the way: then it is our own.
                if self.read(&name).await?.id != entry.id {
                    return Err(LedgerError::Fenced { url });
                }
            }
            other => other?,
        }
        // From here on it is done: a plan that stays is known to be old by its number.
        let _ = self.store.delete(&self.plan_name(entry.number)).await;
        if entry.number.is_multiple_of(HINT_EVERY) {
            let hint = serde_json::to_vec(&Hint { committed: entry.number }).unwrap_or_default();
            let body = Body::from(hint);
            let _ = self.store.put(&self.hint_name(), &body, PutMode::Overwrite, &json()).await;
        }
        Ok(())
    }

    async fn write(&self, name: &str, entry: &Entry, mode: PutMode) -> Result<(), LedgerError> {
        let wrong = |reason: String| LedgerError::Entry { url: self.store.url(name), reason };
        let mut bytes = serde_json::to_vec(entry).map_err(|error| wrong(error.to_string()))?;
        bytes.push(b'\n');
        match self.store.put(name, &Body::from(bytes), mode, &json()).await {
            Err(StoreError::AlreadyExists { .. }) => Err(LedgerError::Fenced { url: self.store.url(name) }),
            other => Ok(other?),
        }
    }
}

/// The number of an entry's file, and whether it is a plan.
fn number_of(file: &str) -> Option<(u64, bool)> {
    let stem = file.strip_suffix(".json")?;
    let (digits, is_plan) = match stem.strip_suffix(".plan") {
        Some(digits) => (digits, true),
        None => (stem, false),
    };
    (digits.len() == 20).then(|| digits.parse().ok()).flatten().map(|number| (number, is_plan))
}

fn json() -> Attributes {
    Attributes { content_type: Some("application/json".to_owned()), ..Attributes::default() }
}

/// The form of entries that are written.
pub const FORM: u32 = VERSION;
