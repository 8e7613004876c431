//! Places that hold objects by name: a directory, or a bucket.
//!
//! The promise: an object appears whole or not at all, and once [`Store::put`] has returned it is there to stay.

use futures_util::future::BoxFuture;

use super::format::body::Body;

/// What a store tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, from the root of the store.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written, microseconds since the epoch.
    pub modified_us: i64,
    /// The store's own mark of its contents, where it has one.
    pub etag: Option<String>,
}

/// Whether a put may replace what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// It may.
    Overwrite,
    /// The name must be free. A retry that meets the very same object of its own has succeeded.
    Create,
}

/// What an object carries beside its bytes, where the store can hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The media type.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// The user's own metadata.
    pub metadata: Vec<(String, String)>,
}

/// What a store says when it cannot do as it is told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// [`PutMode::Create`], and the name is taken by something else.
    #[error("{name}: it is there already")]
    AlreadyExists {
        /// The object.
        name: String,
    },
    /// No such object, or no such bucket.
    #[error("{name}: it is not there")]
    NotFound {
        /// The object.
        name: String,
    },
    /// The credentials do not permit it, or there are none.
    #[error("{name}: not permitted: {reason}")]
    Denied {
        /// The object.
        name: String,
        /// What the store said.
        reason: String,
    },
    /// It may work later: the network, a time-out, a throttle, a failing server.
    #[error("{name}: {reason}")]
    Transient {
        /// The object.
        name: String,
        /// What happened.
        reason: String,
    },
    /// It will not work like this.
    #[error("{name}: {reason}")]
    Permanent {
        /// The object.
        name: String,
        /// What happened.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }
}

/// Holds objects by name. Names are relative to the place that the store was opened for, with `/` between their parts.
pub trait Store: Send + Sync {
    /// The URL of an object, for a person: never with credentials in it.
    fn url(&self, name: &str) -> String;

    /// Stores an object, durably.
    fn put<'a>(
        &'a self,
        name: &'a str,
        body: &'a Body,
        mode: PutMode,
        attributes: &'a Attributes,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The whole of an object of at most `max` bytes.
    fn get<'a>(&'a self, name: &'a str, max: u64) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;

    /// A range of an object's bytes.
    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: std::ops::Range<u64>,
    ) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;

    /// What is known of an object; `None` where it is not there.
    fn head<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Listed>, StoreError>>;

    /// The objects whose names begin with `prefix` and come behind `after`, in the order of their names.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>>;

    /// Removes an object; it is well if it is not there.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;
}
