//! Stores for tests: one in memory, and one that fails when it is told to.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;

use super::super::format::body::Body;
use super::local::behind_the_end;
use super::{Attributes, Listed, PutMode, Store, StoreError};

type Objects = BTreeMap<String, (Vec<u8>, Attributes)>;

/// Objects in memory. Clones are the same store.
#[derive(Clone, Default)]
pub(crate) struct MemoryStore(Arc<Mutex<Objects>>);

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an object carries beside its bytes.
    pub(crate) fn attributes(&self, name: &str) -> Option<Attributes> {
        self.objects().get(name).map(|(_, attributes)| attributes.clone())
    }

    /// All of them.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.objects().iter().map(|(name, (bytes, _))| (name.clone(), bytes.clone())).collect()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let not_found = || StoreError::NotFound { name: self.url(name) };
        self.objects().get(name).map(|(bytes, _)| bytes.clone()).ok_or_else(not_found)
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

fn listed(name: &str, bytes: &[u8]) -> Listed {
    Listed { name: name.to_owned(), size: bytes.len() as u64, modified_us: 0, etag: None }
}

impl Store for MemoryStore {
    fn url(&self, name: &str) -> String {
        format!("memory://{name}")
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        body: &'a Body,
        mode: PutMode,
        attributes: &'a Attributes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let put = || {
            let failed = |reason: String| StoreError::Permanent { name: self.url(name), reason };
            self.check_name(name).map_err(failed)?;
            let bytes = body.read(0, body.len() as usize).map_err(|error| failed(error.to_string()))?;
            let mut objects = self.objects();
            match objects.get(name) {
                Some((there, _)) if mode == PutMode::Create && *there != bytes => {
                    return Err(StoreError::AlreadyExists { name: self.url(name) });
                }
                _ => objects.insert(name.to_owned(), (bytes, attributes.clone())),
            };
            Ok(())
        };
        ready(put())
    }

    fn get<'a>(&'a self, name: &'a str, max: u64) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        ready(self.read(name).and_then(|bytes| match bytes.len() as u64 {
            len if len > max => Err(StoreError::Permanent {
                name: self.url(name),
                reason: format!("{len} bytes, at most {max} expected"),
            }),
            _ => Ok(bytes),
        }))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: std::ops::Range<u64>,
    ) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        ready(self.read(name).and_then(|bytes| {
            let len = bytes.len() as u64;
            if range.start >= len && !range.is_empty() {
                let reason = behind_the_end(range.start, len);
                return Err(StoreError::Permanent { name: self.url(name), reason });
            }
            let start = range.start.min(len);
            Ok(bytes[start as usize..range.end.clamp(start, len) as usize].to_vec())
        }))
    }

    fn head<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Listed>, StoreError>> {
        ready(Ok(self.objects().get(name).map(|(bytes, _)| listed(name, bytes))))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let objects = self.objects();
        let from = objects.range::<str, _>((behind, Bound::Unbounded));
        let found =
            from.filter(|(name, _)| name.starts_with(prefix)).map(|(name, (bytes, _))| listed(name, bytes));
        ready(Ok(found.collect()))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.objects().remove(name);
        ready(Ok(()))
    }
}

/// What a store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Put,
    Get,
    Head,
    List,
    Delete,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Nothing has happened, and it may work later.
    Before,
    /// It has happened, and the answer is lost: what is told is the same as for [`Wrong::Before`].
    AnswerLost,
    /// Nothing has happened, and it never will.
    ForGood,
    /// The keys are no longer good.
    Denied,
    /// It never ends.
    Hangs,
}

struct Fault {
    call: Option<Call>,
    /// Only for names that have this in them.
    part: String,
    /// Calls like this that go well before it.
    left: u64,
    /// How many then go wrong.
    times: u64,
    wrong: Wrong,
}

/// A store whose calls go wrong when that was asked for.
pub(crate) struct FaultyStore<S> {
    inner: S,
    faults: Mutex<Vec<Fault>>,
    calls: Mutex<Vec<(Call, String)>>,
}

impl<S: Store> FaultyStore<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, faults: Mutex::default(), calls: Mutex::default() }
    }

    /// The store behind it.
    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }

    /// From the `nth` call on (1 is the next) of this kind (any, if none is given), `times` of them go wrong. Only calls
    /// about names with `part` in them count.
    pub(crate) fn fail(&self, call: Option<Call>, part: &str, nth: u64, times: u64, wrong: Wrong) {
        let fault = Fault { call, part: part.to_owned(), left: nth.saturating_sub(1), times, wrong };
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// What has been asked for so far.
    pub(crate) fn calls(&self) -> Vec<(Call, String)> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn next(&self, call: Call, name: &str) -> Option<Wrong> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push((call, name.to_owned()));
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wrong = None;
        for fault in faults.iter_mut() {
            let is_meant = fault.call.is_none_or(|meant| meant == call) && name.contains(&fault.part);
            if !is_meant || fault.times == 0 {
                continue;
            }
            if fault.left > 0 {
                fault.left -= 1;
            } else {
                fault.times -= 1;
                wrong = wrong.or(Some(fault.wrong));
            }
        }
        wrong
    }

    async fn through<T>(
        &self,
        call: Call,
        name: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let name_of = || self.inner.url(name);
        let wrong = self.next(call, name);
        match wrong {
            None => work.await,
            Some(Wrong::Before) => {
                Err(StoreError::Transient { name: name_of(), reason: "failed as asked".to_owned() })
            }
            Some(Wrong::AnswerLost) => {
                let _ = work.await;
                Err(StoreError::Transient { name: name_of(), reason: "failed as asked".to_owned() })
            }
            Some(Wrong::ForGood) => {
                Err(StoreError::Permanent { name: name_of(), reason: "failed as asked".to_owned() })
            }
            Some(Wrong::Denied) => {
                Err(StoreError::Denied { name: name_of(), reason: "failed as asked".to_owned() })
            }
            Some(Wrong::Hangs) => std::future::pending().await,
        }
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn url(&self, name: &str) -> String {
        self.inner.url(name)
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        self.inner.check_name(name)
    }

    fn refresh_credentials(&self) {
        self.inner.refresh_credentials();
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        body: &'a Body,
        mode: PutMode,
        attributes: &'a Attributes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.through(
            Call::Put,
            name,
            async move { self.inner.put(name, body, mode, attributes).await },
        ))
    }

    fn get<'a>(&'a self, name: &'a str, max: u64) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(self.through(Call::Get, name, async move { self.inner.get(name, max).await }))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: std::ops::Range<u64>,
    ) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(self.through(Call::Get, name, async move { self.inner.get_range(name, range).await }))
    }

    fn head<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Listed>, StoreError>> {
        Box::pin(self.through(Call::Head, name, async move { self.inner.head(name).await }))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        Box::pin(self.through(Call::List, prefix, async move { self.inner.list(prefix, after).await }))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.through(Call::Delete, name, async move { self.inner.delete(name).await }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn an_answer_that_is_lost() {
        let store = FaultyStore::new(MemoryStore::default());
        let put = |name: &str, text: &str| {
            run(store.put(
                name,
                &Body::from(text.as_bytes().to_vec()),
                PutMode::Create,
                &Attributes::default(),
            ))
        };
        store.fail(Some(Call::Put), "c/", 2, 1, Wrong::AnswerLost);
        store.fail(Some(Call::Put), "d/", 1, 2, Wrong::Before);
        put("c/1", "a").unwrap();
        assert!(put("c/2", "b").unwrap_err().is_transient());
        put("c/2", "b").unwrap();
        assert!(matches!(put("c/2", "x"), Err(StoreError::AlreadyExists { .. })));
        assert!(put("d/1", "a").is_err() && put("d/1", "a").is_err() && put("d/1", "a").is_ok());
        assert_eq!(store.inner().contents().keys().collect::<Vec<_>>(), ["c/1", "c/2", "d/1"]);
        assert_eq!(run(store.list("c/", Some("c/1"))).unwrap().len(), 1);
        assert_eq!(run(store.get_range("c/1", 0..9)).unwrap(), b"a");
        assert_eq!(store.calls().len(), 9);
        assert_eq!(store.inner().attributes("c/1"), Some(Attributes::default()));
        store.fail(Some(Call::Get), "", 1, 1, Wrong::ForGood);
        store.fail(None, "d/", 1, 1, Wrong::Denied);
        store.fail(Some(Call::Get), "d/", 3, 1, Wrong::Hangs);
        assert!(matches!(run(store.get("c/1", 1)), Err(StoreError::Permanent { .. })));
        assert!(matches!(run(store.head("d/1")), Err(StoreError::Denied { .. })));
        run(store.get("d/1", 1)).unwrap();
        run(store.get("d/1", 1)).unwrap();
        let short = std::time::Duration::from_millis(20);
        assert!(run(async { tokio::time::timeout(short, store.get("d/1", 1)).await }).is_err());
        run(store.delete("c/1")).unwrap();
        assert!(run(store.head("c/1")).unwrap().is_none() && run(store.get("c/1", 1)).is_err());
    }
}
