//! Places that hold objects by name: a directory, or a bucket.
//!
//! The promise: an object appears whole or not at all, and once [`Store::put`] has returned it is there to stay.
//!
//! [`Location::parse`] reads what a person typed, [`Location::open`] makes the store of it: [`local`] for directories,
//! [`object`] for S3, Google Cloud Storage and Azure. Where the keys come from is told in [`credentials`].

pub mod context;
pub mod credentials;
#[cfg(test)]
pub(crate) mod faulty;
pub mod local;
pub mod object;
pub mod url;

use futures_util::future::BoxFuture;

use super::format::body::Body;
pub use context::{Context, Environment};
pub use url::Location;

/// The longest name that every store takes, in bytes: S3 and Google have 1024 with the prefix of the destination.
const NAME_BYTES_MAX: usize = 1024;

/// Whether every store can hold an object of this name.
///
/// # Errors
/// What is wrong with it, as the end of a sentence about the name.
pub fn check_name(name: &str) -> Result<(), String> {
    let fault = if name.is_empty() {
        "an empty name"
    } else if name.len() > NAME_BYTES_MAX {
        return Err(format!("a name of {} bytes, at most {NAME_BYTES_MAX} are possible", name.len()));
    } else if name.starts_with('/') || name.ends_with('/') || name.contains("//") {
        "a name with an empty part"
    } else if name.split('/').any(|part| part == "." || part == "..") {
        "a name with a part that means another directory"
    } else if name.chars().any(|c| c.is_ascii_control()) {
        "a name with control characters"
    } else {
        return Ok(());
    };
    Err(fault.to_owned())
}

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
    /// The name must be free. A retry that meets the very same object of its own has succeeded: what is there with the
    /// same bytes counts as its own, so whoever must know which of two was first puts a mark of its own into them. For
    /// small objects: at most [`object::SINGLE_BYTES`].
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

    /// Whether an object of this name can be stored here, which [`Store::put`] would refuse for good otherwise: for
    /// whoever makes names of a record's values and has a place for the record if they do not fit.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence about the name.
    fn check_name(&self, name: &str) -> Result<(), String> {
        check_name(name)
    }

    /// Forgets the credentials in use: the next request reads them anew. Cheap, and never fails.
    fn refresh_credentials(&self) {}

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

    /// A range of an object's bytes: fewer where the object ends, and it is a permanent error to begin behind its end.
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
