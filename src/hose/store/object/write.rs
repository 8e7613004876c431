//! How an object comes into a bucket.

use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::path::Path;
use object_store::{Attribute, ObjectStoreExt, PutOptions, PutPayload};
use tokio::sync::OwnedSemaphorePermit;

use super::super::super::format::body::Body;
use super::super::context::blocking;
use super::super::{Attributes, Store, StoreError};
use super::answer::Facts;
use super::transport::within;
use super::{BucketStore, Fault, IN_FLIGHT_MIB, Opened, SINGLE_BYTES, Service, head};

/// Bytes that are read at a time to compare an object with a body.
const COMPARE_BYTES: usize = 4 << 20;
/// Metadata above this is left out: S3 refuses the object otherwise.
const METADATA_BYTES_MAX: usize = 2 << 10;

/// How an object compares with a body.
enum Compared {
    Same,
    Different,
    Gone,
}

impl BucketStore {
    pub(super) fn attributes(&self, attributes: &Attributes) -> object_store::Attributes {
        let mut all = object_store::Attributes::new();
        let is_header =
            |value: &&String| !value.is_empty() && value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if let Some(value) = attributes.content_type.as_ref().filter(is_header) {
            all.insert(Attribute::ContentType, value.clone().into());
        }
        if let Some(value) = attributes.content_encoding.as_ref().filter(is_header) {
            all.insert(Attribute::ContentEncoding, value.clone().into());
        }
        let mut room = METADATA_BYTES_MAX;
        for (name, value) in &attributes.metadata {
            let (name, value) = (metadata_name(self.bucket.service, name), metadata_value(value));
            let Some(left) = room.checked_sub(name.len() + value.len()) else { continue };
            room = left;
            all.insert(Attribute::Metadata(name.into()), value.into());
        }
        all
    }

    /// The whole of a small body, with the right to have it in memory.
    async fn read_whole(&self, name: &str, body: &Body) -> Result<(PutPayload, OwnedSemaphorePermit), Fault> {
        let permit = self.reserve(body.len()).await;
        let bytes = self.read_part(name, body, 0, body.len()).await?;
        Ok((PutPayload::from(bytes), permit))
    }

    pub(super) async fn reserve(&self, bytes: u64) -> OwnedSemaphorePermit {
        let mib = (bytes.div_ceil(1 << 20) as u32).clamp(1, IN_FLIGHT_MIB);
        match self.memory.clone().acquire_many_owned(mib).await {
            Ok(permit) => permit,
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
    }

    pub(super) async fn read_part(
        &self,
        name: &str,
        body: &Body,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, Fault> {
        let body = body.clone();
        let read = match &body {
            Body::Bytes(_) => body.read(offset, len as usize),
            Body::File(..) => blocking(move || body.read(offset, len as usize)).await,
        };
        read.map_err(|error| self.failed(name, format!("what is to be sent cannot be read: {error}")))
    }

    pub(super) async fn overwrite(
        &self,
        opened: &Opened,
        name: &str,
        body: &Body,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let path = self.path(name)?;
        if body.len() > SINGLE_BYTES {
            return self.send_in_parts(opened, name, &path, body, attributes).await;
        }
        let (payload, _permit) = self.read_whole(name, body).await?;
        let options = PutOptions { attributes: self.attributes(attributes), ..PutOptions::default() };
        opened.client.put_opts(&path, payload, options).await?;
        Ok(())
    }

    pub(super) async fn create(
        &self,
        opened: &Opened,
        name: &str,
        body: &Body,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        /// A conflict that nobody has won is tried again so often.
        const CONFLICTS_MAX: u32 = 4;
        let path = self.path(name)?;
        if body.len() > SINGLE_BYTES {
            return Err(
                self.failed(name, format!("{} bytes are too many for a name that must be free", body.len()))
            );
        }
        let mut last = None;
        for conflict in 0..CONFLICTS_MAX {
            if conflict > 0 {
                tokio::time::sleep(Duration::from_millis(100 << conflict)).await;
            }
            let error = if self.is_unconditional.load(Ordering::SeqCst) {
                match self.compare(opened, &path, name, body).await? {
                    Compared::Gone => return self.overwrite(opened, name, body, attributes).await,
                    Compared::Same => return Ok(()),
                    Compared::Different => return Err(self.taken(name)),
                }
            } else {
                let (payload, _permit) = self.read_whole(name, body).await?;
                let options = PutOptions {
                    mode: object_store::PutMode::Create,
                    attributes: self.attributes(attributes),
                    ..PutOptions::default()
                };
                match opened.client.put_opts(&path, payload, options).await {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                }
            };
            let facts = Facts::of(&error);
            if facts.is_unknown_condition() || matches!(error, object_store::Error::NotImplemented { .. }) {
                self.is_unconditional.store(true, Ordering::SeqCst);
                self.context.tell_once(&format!(
                    "{}: the service knows no conditional writes: of two runs at the same moment it cannot tell which was first",
                    self.bucket.root_url()
                ));
            } else if facts.is_conflict() {
                match self.compare(opened, &path, name, body).await? {
                    Compared::Same => return Ok(()),
                    Compared::Different => return Err(self.taken(name)),
                    // Somebody was about to write it, and has not.
                    Compared::Gone => {}
                }
            } else {
                return Err(error.into());
            }
            last = Some(error);
        }
        Err(last.map_or_else(|| self.failed(name, "not written"), Fault::Service))
    }

    fn taken(&self, name: &str) -> Fault {
        Fault::Settled(StoreError::AlreadyExists { name: self.url(name) })
    }

    async fn compare(
        &self,
        opened: &Opened,
        path: &Path,
        name: &str,
        body: &Body,
    ) -> Result<Compared, Fault> {
        let Some(meta) = head(opened, path).await? else { return Ok(Compared::Gone) };
        if meta.size != body.len() {
            return Ok(Compared::Different);
        }
        let mut offset = 0;
        while offset < body.len() {
            let part = self.read_part(name, body, offset, COMPARE_BYTES as u64).await?;
            let end = offset + part.len() as u64;
            let there = within(part.len() as u64, opened.client.get_range(path, offset..end)).await;
            match there {
                Ok(there) if there == part => offset = end,
                Ok(_) => return Ok(Compared::Different),
                Err(error) if Facts::of(&error).status == Some(404) => return Ok(Compared::Gone),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Compared::Same)
    }
}

/// A name that a header can have: Azure takes identifiers only.
pub(super) fn metadata_name(service: Service, name: &str) -> String {
    let other = if service == Service::Azure { '_' } else { '-' };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { other };
    let name: String = name.chars().map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_lowercase()) { name } else { format!("x{name}") }
}

/// A value that a header can have: what it cannot is written with percent signs.
fn metadata_value(value: &str) -> String {
    let hex = |digit: u8| char::from(b"0123456789ABCDEF"[usize::from(digit)]);
    let mut text = String::with_capacity(value.len());
    for byte in value.trim().bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    text
}
