//! Buckets of S3, Google Cloud Storage and Azure as a store.
//!
//! # What is promised
//!
//! What fits into one request is sent as one; what does not is sent in parts and appears when the last is there, or is
//! taken back. Memory is bounded by [`IN_FLIGHT_MIB`] for a whole store, however many puts there are at once. A request
//! has the time that its size needs, is tried a few times, and the error after that is whoever's who called.
//!
//! # A name that must be free
//!
//! The condition goes with the request (`If-None-Match`, `x-goog-if-generation-match`), so the service decides who was
//! first. An answer may be lost on the way: whoever tries again meets its own object, and so "it is taken" is believed
//! only after a look at the bytes. An endpoint that knows no conditions is told so once, and looked at before the write
//! instead: two writers at the very same moment are not told apart there.

pub(in super::super) mod answer;
mod azure;
mod multipart;
mod open;
pub(in super::super) mod transport;
mod write;

#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures_util::future::BoxFuture;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use tokio::sync::Semaphore;

use super::super::format::body::Body;
use super::credentials::aws::AwsKeys;
use super::local::behind_the_end;
use super::url::Bucket;
use super::{Attributes, Context, Listed, PutMode, Store, StoreError, check_name};
use crate::sys::failpoint::failpoint;
use answer::{Facts, Subject, store_error};
use transport::{Transport, within};

/// Bodies up to this are sent in one request, and objects that must be new are no larger.
pub const SINGLE_BYTES: u64 = 16 << 20;
/// Bytes of bodies that are in memory at once, for all puts of a store together.
pub const IN_FLIGHT_MIB: u32 = 64;
/// A part is at least so long: S3 asks for 5 MiB, and a failure costs no more than a part.
const PART_BYTES: u64 = 8 << 20;
/// The most parts that S3 and Google take.
const PARTS_MAX: u64 = 10_000;
/// Parts of one object that are on their way at once.
const PARTS_AT_ONCE: usize = 4;
/// A refusal has the credentials read again, but not more often than this: most refusals are meant.
const REFRESH_PAUSE_US: i64 = 10 * 1_000_000;
/// A page of a listing is about this long.
const PAGE_BYTES: u64 = 1 << 20;

/// Who keeps the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// S3, or what speaks like it.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

impl Service {
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }

    pub(super) fn bucket_word(self) -> &'static str {
        match self {
            Self::S3 | Self::Google => "bucket",
            Self::Azure => "container",
        }
    }

    /// Where its keys belong.
    pub(super) fn key_variables(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            Self::Google => "GOOGLE_APPLICATION_CREDENTIALS",
            Self::Azure => "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
        }
    }
}

/// What the library's clients can do that is used here.
trait Client: ObjectStore + PaginatedListStore {}
impl<T: ObjectStore + PaginatedListStore> Client for T {}

/// A client as the environment and the files have it.
struct Opened {
    client: Arc<dyn Client>,
    /// The credentials, where they are ours to renew. The other services' are renewed by opening anew.
    keys: Option<Arc<AwsKeys>>,
    /// The region in use, where there are regions.
    region: Option<String>,
    transport: Transport,
    /// Whether a listing can begin behind a name.
    lists_from: bool,
}

/// A prefix in a bucket. It needs a tokio runtime with its clock and network on.
pub struct BucketStore {
    bucket: Bucket,
    context: Context,
    opened: RwLock<Arc<Opened>>,
    /// When credentials were read again because of a refusal, by the clock that only goes forward.
    refreshed_us: Mutex<Option<i64>>,
    /// One for each MiB of a body in memory.
    memory: Arc<Semaphore>,
    /// The endpoint has said that it knows no conditional writes.
    is_unconditional: AtomicBool,
}

/// Why a put or a get came to nothing.
enum Fault {
    Service(object_store::Error),
    Settled(StoreError),
}

impl From<object_store::Error> for Fault {
    fn from(error: object_store::Error) -> Self {
        Self::Service(error)
    }
}

impl BucketStore {
    /// Reads settings; no request is made.
    pub(super) fn open(bucket: &Bucket, context: &Context) -> Result<Self, StoreError> {
        Ok(Self {
            opened: RwLock::new(Arc::new(open::open(bucket, context)?)),
            bucket: bucket.clone(),
            context: context.clone(),
            refreshed_us: Mutex::default(),
            memory: Arc::new(Semaphore::new(IN_FLIGHT_MIB as usize)),
            is_unconditional: AtomicBool::new(false),
        })
    }

    fn opened(&self) -> Arc<Opened> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The whole name of an object, or of a beginning of names.
    fn key(&self, name: &str) -> String {
        match self.bucket.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    fn path(&self, name: &str) -> Result<Path, Fault> {
        let wrong = |reason: String| {
            Fault::Settled(StoreError::Permanent { name: self.url(&name.escape_debug().to_string()), reason })
        };
        self.check_name(name).map_err(wrong)?;
        Path::parse(self.key(name)).map_err(|error| wrong(error.to_string()))
    }

    fn error(&self, name: &str, fault: Fault) -> StoreError {
        match fault {
            Fault::Settled(error) => error,
            Fault::Service(error) => {
                let opened = self.opened();
                store_error(
                    &error,
                    Subject {
                        object: self.url(name),
                        bucket: self.bucket.root_url(),
                        region: opened.region.as_deref(),
                        bucket_region: opened.transport.bucket_region(),
                    },
                )
            }
        }
    }

    fn failed(&self, name: &str, reason: impl Into<String>) -> Fault {
        Fault::Settled(StoreError::Permanent { name: self.url(name), reason: reason.into() })
    }

    /// Does something, and once more where the service has refused it and there are other credentials now.
    async fn attempt<T, F>(
        &self,
        name: &str,
        work: impl Fn(Arc<Opened>) -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let opened = self.opened();
        let used = match &opened.keys {
            // An error here is the error of the work, which is told below.
            Some(keys) => keys.get().await.ok(),
            None => None,
        };
        match work(opened.clone()).await {
            Err(Fault::Service(error)) if Facts::of(&error).is_refusal() => {
                match self.renewed(&opened, used).await {
                    Some(newer) => work(newer).await,
                    None => Err(Fault::Service(error)),
                }
            }
            other => other,
        }
        .map_err(|fault| self.error(name, fault))
    }

    /// A client with other credentials than those that were refused, if there are any.
    async fn renewed(
        &self,
        refused: &Arc<Opened>,
        used: Option<Arc<object_store::aws::AwsCredential>>,
    ) -> Option<Arc<Opened>> {
        let opened = self.opened();
        if !Arc::ptr_eq(&opened, refused) {
            return Some(opened);
        }
        if let (Some(keys), Some(used)) = (&opened.keys, &used)
            && keys.get().await.ok()? != *used
        {
            return Some(opened);
        }
        {
            let now_us = self.context.system.clock.boot_us();
            let mut last_us = self.refreshed_us.lock().unwrap_or_else(PoisonError::into_inner);
            if last_us.is_some_and(|last_us| now_us - last_us < REFRESH_PAUSE_US) {
                return None;
            }
            *last_us = Some(now_us);
        }
        self.refresh_credentials();
        match (&opened.keys, used) {
            (Some(keys), used) => {
                let now = keys.get().await.ok()?;
                (Some(now) != used).then_some(opened)
            }
            (None, _) => Some(self.opened()).filter(|newer| !Arc::ptr_eq(newer, refused)),
        }
    }

    async fn list_all(
        &self,
        opened: &Opened,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<Listed>, Fault> {
        let (mut whole, root) = (self.key(prefix), self.key(""));
        // For Azure the library leaves out what is called like the prefix itself.
        if self.bucket.service == Service::Azure && !whole.ends_with('/') {
            whole.pop();
        }
        let mut options = PaginatedListOptions {
            offset: after.filter(|_| opened.lists_from).map(|after| self.key(after)),
            ..PaginatedListOptions::default()
        };
        let mut found = Vec::new();
        loop {
            let page = opened
                .client
                .list_paginated(Some(whole.as_str()).filter(|it| !it.is_empty()), options.clone());
            let page = within(PAGE_BYTES, page).await?;
            found.extend(page.result.objects.into_iter().filter_map(|meta| {
                let name = meta.location.as_ref().strip_prefix(&root)?;
                let is_meant = name.starts_with(prefix) && after.is_none_or(|after| name > after);
                is_meant.then(|| listed(name, &meta))
            }));
            options.page_token = page.page_token;
            if options.page_token.is_none() {
                break;
            }
        }
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        // What consoles make to show a directory: an empty object with a slash at its end, which is cut off on the way.
        let mut i = 0;
        found.retain({
            let names: Vec<String> = found.iter().map(|listed| listed.name.clone()).collect();
            move |listed| {
                i += 1;
                let below = format!("{}/", listed.name);
                let next = i + names[i..].partition_point(|name| *name < below);
                listed.size > 0 || names.get(next).is_none_or(|name| !name.starts_with(&below))
            }
        });
        Ok(found)
    }
}

async fn head(opened: &Opened, path: &Path) -> Result<Option<object_store::ObjectMeta>, Fault> {
    match opened.client.head(path).await {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if Facts::of(&error).status == Some(404) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn listed(name: &str, meta: &object_store::ObjectMeta) -> Listed {
    Listed {
        name: name.to_owned(),
        size: meta.size,
        modified_us: meta.last_modified.timestamp_micros(),
        etag: meta.e_tag.clone(),
    }
}

impl Store for BucketStore {
    fn url(&self, name: &str) -> String {
        format!("{}/{}", self.bucket.root_url(), self.key(name))
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        // The services count the whole of it.
        check_name(&self.key(name)).and_then(|()| check_name(name))
    }

    fn refresh_credentials(&self) {
        match &self.opened().keys {
            Some(keys) => keys.refresh(),
            None => match open::open(&self.bucket, &self.context) {
                Ok(newer) => {
                    *self.opened.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
                }
                Err(error) => self.context.tell_once(&format!("credentials cannot be read again: {error}")),
            },
        }
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        body: &'a Body,
        mode: PutMode,
        attributes: &'a Attributes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            failpoint("store.put.before");
            self.attempt(name, |opened| async move {
                match mode {
                    PutMode::Overwrite => self.overwrite(&opened, name, body, attributes).await,
                    PutMode::Create => self.create(&opened, name, body, attributes).await,
                }
            })
            .await?;
            failpoint("store.put.after");
            Ok(())
        })
    }

    fn get<'a>(&'a self, name: &'a str, max: u64) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(self.attempt(name, move |opened| async move {
            let path = self.path(name)?;
            let answer = opened.client.get_opts(&path, GetOptions::default()).await?;
            let len = answer.meta.size;
            if len > max {
                return Err(self.failed(name, format!("{len} bytes, at most {max} expected")));
            }
            Ok(within(len, answer.bytes()).await?.to_vec())
        }))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: std::ops::Range<u64>,
    ) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(self.attempt(name, move |opened| {
            let range = range.clone();
            async move {
                let path = self.path(name)?;
                if range.is_empty() {
                    return Ok(Vec::new());
                }
                let (start, len) = (range.start, range.end - range.start);
                let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
                let bytes = async { opened.client.get_opts(&path, options).await?.bytes().await };
                match within(len, bytes).await {
                    Ok(bytes) => Ok(bytes.to_vec()),
                    // Services say so in ways of their own, some with an answer that the library does not take.
                    Err(error) if Facts::of(&error).may_be_behind_the_end() => {
                        match head(&opened, &path).await? {
                            Some(meta) if meta.size <= start => {
                                Err(self.failed(name, behind_the_end(start, meta.size)))
                            }
                            _ => Err(error.into()),
                        }
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }))
    }

    fn head<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Listed>, StoreError>> {
        Box::pin(self.attempt(name, move |opened| async move {
            let path = self.path(name)?;
            Ok(head(&opened, &path).await?.map(|meta| listed(name, &meta)))
        }))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        Box::pin(
            self.attempt(prefix, move |opened| async move { self.list_all(&opened, prefix, after).await }),
        )
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.attempt(name, move |opened| async move {
            let path = self.path(name)?;
            match opened.client.delete(&path).await {
                // No bucket is an error, no object is what was wanted.
                Err(error) if is_gone(&error) => Ok(()),
                other => Ok(other?),
            }
        }))
    }
}

fn is_gone(error: &object_store::Error) -> bool {
    let facts = Facts::of(error);
    let no_bucket = ["NoSuchBucket", "ContainerNotFound"];
    let is_bucket = facts.code.as_deref().is_some_and(|code| no_bucket.contains(&code));
    !is_bucket && (facts.status == Some(404) || matches!(error, object_store::Error::NotFound { .. }))
}
