//! Which object of an error output has which indexes.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::hose::format::body::Body;
use crate::hose::ledger::{Ledger, LedgerError};
use crate::hose::store::{Attributes, PutMode, Store, StoreError};
use crate::hose::track::ShardPosition;

/// A part of the catalog may have this: an entry is a few hundred bytes.
const PART_BYTES_MAX: u64 = 1 << 30;
const READ_AT_ONCE: usize = 16;
const VERSION: u32 = 1;

/// An object that has its indexes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Indexed {
    /// Its name, from the root of the error output.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// The index of its first line.
    pub first: u64,
    /// Its lines.
    pub lines: u64,
}

impl Indexed {
    /// The index behind its last line.
    pub fn end(&self) -> u64 {
        self.first + self.lines
    }
}

#[derive(Serialize, Deserialize)]
struct Part {
    khose: u32,
    objects: Vec<Indexed>,
}

/// All objects that have indexes. Parts of it are written as they come, and never change.
pub struct Catalog {
    store: Arc<dyn Store>,
    dir: String,
    objects: Vec<Indexed>,
    by_name: BTreeMap<String, usize>,
    /// So many of them are written down.
    written: usize,
}

impl Catalog {
    /// Reads what is written down beside a ledger.
    pub async fn read(ledger: &Ledger) -> Result<Self, LedgerError> {
        let (store, dir) = (Arc::clone(ledger.store()), format!("{}/objects", ledger.dir()));
        let listed = store.list(&format!("{dir}/"), None).await?;
        // Boxed, or the compiler takes their borrows for more general than they are.
        let reads: Vec<BoxFuture<'_, _>> = listed
            .iter()
            .map(|part| Box::pin(store.get(&part.name, PART_BYTES_MAX)) as BoxFuture<'_, _>)
            .collect();
        let texts: Vec<Vec<u8>> = stream::iter(reads).buffered(READ_AT_ONCE).try_collect().await?;
        let mut catalog = Self {
            store: Arc::clone(&store),
            dir,
            objects: Vec::new(),
            by_name: BTreeMap::new(),
            written: 0,
        };
        for (part, text) in listed.iter().zip(texts) {
            let wrong = |reason: String| LedgerError::Entry { url: store.url(&part.name), reason };
            let Part { khose, objects } =
                serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
            if khose != VERSION {
                return Err(wrong(format!("its form is {khose}, and {VERSION} is known here")));
            }
            for object in objects {
                if object.first != catalog.end() {
                    let reason =
                        format!("it goes on at line {}, and {} are known", object.first, catalog.end());
                    return Err(wrong(reason));
                }
                catalog.push(object);
            }
        }
        catalog.written = catalog.objects.len();
        Ok(catalog)
    }

    fn push(&mut self, object: Indexed) {
        self.by_name.insert(object.name.clone(), self.objects.len());
        self.objects.push(object);
    }

    /// The objects, in the order of their indexes.
    pub fn objects(&self) -> &[Indexed] {
        &self.objects
    }

    /// The object of this name.
    pub fn get(&self, name: &str) -> Option<&Indexed> {
        self.by_name.get(name).map(|&at| &self.objects[at])
    }

    /// The index behind all.
    pub fn end(&self) -> u64 {
        self.objects.last().map_or(0, Indexed::end)
    }

    /// Objects of which every line was replayed, or has failed again, where the replay stands here.
    pub fn done<'a>(&'a self, position: &'a ShardPosition) -> impl Iterator<Item = &'a Indexed> {
        let is_left = |object: &Indexed| {
            position
                .left
                .iter()
                .any(|left| left.first < object.end() && object.first < left.first + left.count)
        };
        self.objects.iter().filter(move |object| object.end() <= position.to && !is_left(object))
    }

    /// Gives the next indexes to an object.
    pub fn add(&mut self, name: &str, bytes: u64, lines: u64) -> Indexed {
        let object = Indexed { name: name.to_owned(), bytes, first: self.end(), lines };
        self.push(object.clone());
        object
    }

    /// Writes down what is not yet. Nothing may be noted down about an index before.
    pub async fn write(&mut self) -> Result<(), LedgerError> {
        let fresh = &self.objects[self.written..];
        let Some(first) = fresh.first() else { return Ok(()) };
        let name = format!("{}/{:020}.json", self.dir, first.first);
        let part = Part { khose: VERSION, objects: fresh.to_vec() };
        let mut text = serde_json::to_vec(&part)
            .map_err(|error| LedgerError::Entry { url: self.store.url(&name), reason: error.to_string() })?;
        text.push(b'\n');
        let attributes =
            Attributes { content_type: Some("application/json".to_owned()), ..Attributes::default() };
        // The same text is as good as our own: it gives the same indexes to the same objects.
        match self.store.put(&name, &Body::from(text), PutMode::Create, &attributes).await {
            Err(StoreError::AlreadyExists { .. }) => {
                return Err(LedgerError::Fenced { url: self.store.url(&name) });
            }
            other => other?,
        }
        self.written = self.objects.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hose::courier::Runtime;
    use crate::hose::store::local::LocalStore;
    use crate::hose::track::Left;
    use crate::sys::System;

    #[test]
    fn what_is_written_is_read_and_two_do_not_write_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::new(&System::real(), dir.path()));
        let ledger = Ledger::new(store, "replay.x");
        let runtime = Runtime::new().unwrap();
        let read = || runtime.block_on(Catalog::read(&ledger)).unwrap();
        let mut one = read();
        let mut other = read();
        assert_eq!(one.end(), 0);
        runtime.block_on(one.write()).unwrap();
        assert_eq!(one.add("b", 10, 3), Indexed { name: "b".to_owned(), bytes: 10, first: 0, lines: 3 });
        one.add("a", 5, 2);
        runtime.block_on(one.write()).unwrap();
        runtime.block_on(one.write()).unwrap();
        one.add("c", 1, 1);
        runtime.block_on(one.write()).unwrap();
        other.add("a", 5, 2);
        assert!(matches!(runtime.block_on(other.write()), Err(LedgerError::Fenced { .. })));
        let again = read();
        assert_eq!(again.objects(), one.objects());
        assert_eq!((again.end(), again.get("a").unwrap().first), (6, 3));
        assert!(again.get("d").is_none());
        let left = vec![Left { first: 4, count: 1, parts: None }];
        let position = ShardPosition { to: 6, end: false, left };
        let done: Vec<&str> = again.done(&position).map(|object| object.name.as_str()).collect();
        assert_eq!(done, ["b", "c"]);
        assert!(runtime.block_on(Ledger::names(ledger.store().as_ref())).unwrap().is_empty());
    }
}
