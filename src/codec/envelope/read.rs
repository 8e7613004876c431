//! Reading envelopes: what they say, or why a line is not one.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::base64_lines::{BASE64, decode_into};
use super::super::columns::{Place, check_key, check_size};
use super::super::instant::{parse_epoch, parse_rfc3339};
use super::super::ndjson::KeyField;
use super::super::split::{Line, Splitter, without_bom};
use super::super::{BrokenInput, Decode, Records, Span};
use super::MARKER;
use crate::hash::HashKey;
use crate::record::{Attribute, SequenceNumber, ShardId};

/// The longest attribute name in bytes.
const NAME_BYTES_MAX: usize = 65_535;

/// Room in a line for all but payload and key.
const MEMBERS_BYTES: usize = 1 << 20;

/// What one envelope says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The stream's name.
    pub stream: Option<Cow<'a, str>>,
    /// The stream's UUID.
    pub stream_id: Option<Uuid>,
    /// The shard it was read from.
    pub shard: Option<ShardId>,
    /// Where it stood there.
    pub sequence: Option<SequenceNumber>,
    /// Its place in a KPL aggregate.
    pub sub_sequence: Option<u64>,
    /// The partition key; absent and `null` are no key, which is not the empty one.
    pub key: Option<Cow<'a, str>>,
    /// The explicit hash key.
    pub explicit_hash: Option<HashKey>,
    /// Microseconds since the epoch at which the log took it.
    pub arrival_us: Option<i64>,
    /// Microseconds since the epoch that its producer gave.
    pub timestamp_us: Option<i64>,
    /// Attributes, in their order.
    pub attributes: Vec<Attribute>,
    /// The payload.
    pub payload: Cow<'a, [u8]>,
}

/// The members as they stand in the line.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    kpipe: Option<Text<'a>>,
    #[serde(borrow)]
    stream: Option<Text<'a>>,
    stream_id: Option<Uuid>,
    #[serde(borrow)]
    shard_id: Option<Text<'a>>,
    #[serde(borrow)]
    sequence_number: Option<Text<'a>>,
    sub_sequence_number: Option<u64>,
    #[serde(borrow)]
    partition_key: Option<Text<'a>>,
    #[serde(borrow)]
    explicit_hash_key: Option<&'a RawValue>,
    #[serde(borrow)]
    approximate_arrival_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    attributes: Option<Attributes>,
    #[serde(borrow, default, deserialize_with = "present")]
    json: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    base64: Option<Text<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// What of the reason of a rejection matters to who puts the record back.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    truncated: bool,
}

/// A string that is copied only where it has escapes. (In an `Option`, serde copies a bare `Cow` always.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The payload `null` is a payload, not the absence of one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Envelope<'a> {
    /// Reads one line.
    ///
    /// # Errors
    /// Why it is not an envelope, as the end of a sentence that begins with its place.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        let members: Members<'a> =
            serde_json::from_slice(line).map_err(|error| format!("it is not an envelope: {error}"))?;
        match members.kpipe {
            Some(Text(marker)) if marker == MARKER => {}
            Some(Text(marker)) => return Err(format!("its form `{marker}` is not one this program knows")),
            None => {
                return Err(format!(
                    "it is not an envelope: \"kpipe\":\"{MARKER}\" is missing; for plain JSON give ndjson as the format"
                ));
            }
        }
        let told = members.error.and_then(|error| serde_json::from_str::<Told>(error.get()).ok());
        if told.is_some_and(|told| told.truncated) {
            return Err("it was rejected, and only its start was kept (error.truncated)".to_owned());
        }
        let payload = match (members.json, members.text, members.base64) {
            (Some(json), None, None) => Cow::Borrowed(json.get().as_bytes()),
            (None, Some(Text(Cow::Borrowed(text))), None) => Cow::Borrowed(text.as_bytes()),
            (None, Some(Text(Cow::Owned(text))), None) => Cow::Owned(text.into_bytes()),
            (None, None, Some(Text(text))) => {
                let mut bytes = Vec::new();
                decode_into(text.as_bytes(), &mut bytes).map_err(|reason| format!("`base64`: {reason}"))?;
                Cow::Owned(bytes)
            }
            _ => return Err("an envelope has exactly one of `json`, `text` and `base64`".to_owned()),
        };
        Ok(Self {
            stream: members.stream.map(|text| text.0),
            stream_id: members.stream_id,
            shard: members.shard_id.map(|text| text.0.parse()).transpose()?,
            sequence: members.sequence_number.map(|text| text.0.parse()).transpose()?,
            sub_sequence: members.sub_sequence_number,
            key: members.partition_key.map(|text| text.0),
            explicit_hash: members
                .explicit_hash_key
                .map(|raw| raw.get().trim_matches('"').parse())
                .transpose()?,
            arrival_us: members.approximate_arrival_timestamp.map(moment).transpose()?,
            timestamp_us: members.timestamp.map(moment).transpose()?,
            attributes: members.attributes.map(|attributes| attributes.0).unwrap_or_default(),
            payload,
        })
    }
}

fn moment(raw: &RawValue) -> Result<i64, String> {
    let text = raw.get();
    let read = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => parse_rfc3339(inner),
        None => parse_epoch(text),
    };
    read.ok_or_else(|| format!("{text} is not a time: give RFC 3339 or seconds since the epoch"))
}

/// See the module's page for the two forms.
struct Attributes(Vec<Attribute>);

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both;
        impl<'de> Visitor<'de> for Both {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("attributes: an object, or a list of pairs of name and value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
                let mut all = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    all.push(attribute(name, value)?);
                }
                Ok(Attributes(all))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Attributes, A::Error> {
                let mut all = Vec::new();
                while let Some((name, value)) = seq.next_element::<(String, Value)>()? {
                    all.push(attribute(name, value)?);
                }
                Ok(Attributes(all))
            }
        }
        deserializer.deserialize_any(Both)
    }
}

fn attribute<E: de::Error>(name: String, value: Value) -> Result<Attribute, E> {
    if name.len() > NAME_BYTES_MAX {
        return Err(E::custom(format!(
            "an attribute's name is {} bytes, above {NAME_BYTES_MAX}",
            name.len()
        )));
    }
    let value = match value {
        Value::Text(text) => text.into_bytes(),
        Value::Bytes { base64 } => base64::Engine::decode(&BASE64, &base64).map_err(E::custom)?,
    };
    Ok(Attribute { name, value })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes { base64: String },
}

/// Decodes `json`.
#[derive(Debug)]
pub(in super::super) struct EnvelopeDecoder {
    /// Where the key comes from of a record that brings none.
    key: KeyField,
    record_bytes: usize,
    splitter: Splitter,
}

impl EnvelopeDecoder {
    pub(in super::super) fn new(key: KeyField, record_bytes: usize) -> Self {
        // Every byte of a text may have been written as `\u0000`.
        let line_bytes = 6 * record_bytes + MEMBERS_BYTES;
        Self { key, record_bytes, splitter: Splitter::new(b'\n', line_bytes, record_bytes) }
    }
}

impl Decode for EnvelopeDecoder {
    fn decode(&mut self, block: &[u8], last: bool, out: &mut Records) -> Result<usize, BrokenInput> {
        let (key, limit) = (&self.key, self.record_bytes);
        Ok(self.splitter.split(block, last, out, |line, out| {
            let text = block[line.start..line.end].trim_ascii();
            let text = without_bom(line, text);
            if text.is_empty() {
                return;
            }
            if let Err(reason) = push(block, text, line, key, limit, out) {
                out.refuse(line.number, line.start, line.end, reason);
            }
        }))
    }

    fn pending(&self) -> u64 {
        self.splitter.pending()
    }
}

fn push(
    block: &[u8],
    text: &[u8],
    line: Line,
    rule: &KeyField,
    limit: usize,
    out: &mut Records,
) -> Result<(), String> {
    let mut envelope = Envelope::parse(text)?;
    let key = match envelope.key.take() {
        Some(Cow::Borrowed(key)) => Some(Cow::Borrowed(key.as_bytes())),
        Some(Cow::Owned(key)) => Some(Cow::Owned(key.into_bytes())),
        None => rule.take_from(&mut envelope.payload)?.map(Cow::Owned),
    };
    let key = key.as_deref();
    check_size(envelope.payload.len(), key.map_or(0, <[u8]>::len), limit)?;
    let before = out.payloads.len();
    if let Some(key) = key {
        check_key(key)?;
        out.keys.resize(before, Span::NONE);
        let key = out.store(key);
        out.push_key(block, Place::Arena(key));
    } else if !out.keys.is_empty() {
        out.keys.push(Span::NONE);
    }
    push_sparse(&mut out.hashes, before, envelope.explicit_hash);
    push_sparse(&mut out.timestamps, before, envelope.timestamp_us);
    if !envelope.attributes.is_empty() || !out.attributes.is_empty() {
        out.attributes.resize_with(before, Vec::new);
        out.attributes.push(envelope.attributes);
    }
    // Some payloads have to be made, and one flag says where all of them are.
    let payload = out.store(&envelope.payload);
    out.payload_in_arena = true;
    out.payloads.push(payload);
    out.push_end(line);
    Ok(())
}

/// Pushes to a column that stays empty until a record has a value for it.
fn push_sparse<T: Copy>(column: &mut Vec<Option<T>>, before: usize, value: Option<T>) {
    if value.is_some() || !column.is_empty() {
        column.resize(before, None);
        column.push(value);
    }
}
