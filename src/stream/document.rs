//! Small files that are replaced whole: one line of JSON that names the format and carries the CRC-32C of all that
//! follows, and then one JSON object, as the manifest has it.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::log::frame::crc32c;

#[derive(Serialize, Deserialize)]
struct Head {
    kpipe: String,
    version: u32,
    crc32c: u32,
}

/// The bytes of a file of this kind.
pub(super) fn encode<T: Serialize>(kind: &str, version: u32, value: &T) -> Result<Vec<u8>, Error> {
    let failed = |e: serde_json::Error| Error::Invalid(format!("cannot write a {kind}: {e}"));
    let mut body = serde_json::to_vec_pretty(value).map_err(failed)?;
    body.push(b'\n');
    let head = Head { kpipe: kind.to_owned(), version, crc32c: crc32c(&body) };
    let mut bytes = serde_json::to_vec(&head).map_err(failed)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The inverse; `path` is for the message.
pub(super) fn decode<T: DeserializeOwned>(
    kind: &str,
    version: u32,
    path: &Path,
    bytes: &[u8],
) -> Result<T, Error> {
    let damaged = |reason: String| Error::Manifest { path: path.to_owned(), reason };
    let split = memchr::memchr(b'\n', bytes)
        .ok_or_else(|| damaged(format!("is not a {kind}: it has no first line")))?;
    let (head, body) = (&bytes[..split], &bytes[split + 1..]);
    let head: Head = serde_json::from_slice(head)
        .map_err(|e| damaged(format!("is not a {kind}: its first line is not right: {e}")))?;
    if head.kpipe != kind {
        return Err(damaged(format!("is not a {kind}")));
    }
    if head.version > version {
        return Err(Error::Newer { path: path.to_owned(), what: format!("{kind} version {}", head.version) });
    }
    if crc32c(body) != head.crc32c {
        return Err(damaged("is damaged: its checksum does not hold".to_owned()));
    }
    serde_json::from_slice(body).map_err(|e| damaged(format!("is damaged: its body is not right: {e}")))
}

/// A sequence number as JSON has it: a decimal string, for it has 186 bits.
pub(super) mod decimal_sequence {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::record::SequenceNumber;

    pub(in super::super) fn serialize<S: Serializer>(
        value: &SequenceNumber,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SequenceNumber, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
