//! Requests and answers as lines.
//!
//! Its promise: what is asked can be read by whatever reads JSON; of what is answered nothing is taken that does not
//! belong to a record that was asked.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::{Item, excerpt};
use super::TransformOptions;
use crate::hose::chunk::Origin;
use crate::hose::failure::{ErrorType, Failure};

/// The region in names that only look like the service's.
const REGION: &str = "local";
/// A record without its data, key and strings: names, numbers and punctuation, rounded up.
const RECORD_BYTES: usize = 512;
/// The same of a request without its records.
const HEAD_BYTES: usize = 512;

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok { data: Vec<u8>, partition_keys: Option<BTreeMap<String, String>> },
    Dropped,
    Failed(Failure),
}

impl Outcome {
    pub(super) fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(ErrorType::Processing, code, message))
    }

    /// The same at this attempt.
    pub(super) fn after(self, attempts: u32) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(Failure { attempts, ..failure }),
            other => other,
        }
    }
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// One outcome for each record, in their order.
    Records(Vec<Outcome>),
    /// The function says that it has failed.
    Raised(Failure),
    /// It is no answer to what was asked.
    OutOfStep(Failure),
}

/// A record's id: the same whenever it is asked about.
fn record_id(origin: Origin) -> String {
    format!("{}{:06}", origin.sequence(), origin.sub.unwrap_or(0))
}

/// More than [`request`] needs for a request without records.
pub(super) fn head_bytes_max(options: &TransformOptions) -> usize {
    let source = options.source_stream.as_ref().map_or(0, String::len);
    HEAD_BYTES + 6 * (options.delivery_stream.len() + source)
}

/// More than [`request`] needs for this record.
pub(super) fn record_bytes_max(item: &Item) -> usize {
    // A character of a key may be written as `\u0000`.
    RECORD_BYTES + item.data.len().div_ceil(3) * 4 + item.key.as_ref().map_or(0, |key| 6 * key.len())
}

/// The line that asks about these records.
pub(super) fn request(options: &TransformOptions, items: &[Item]) -> Vec<u8> {
    let most = head_bytes_max(options) + items.iter().map(record_bytes_max).sum::<usize>();
    let mut out = Vec::with_capacity(most);
    // A vector takes everything.
    let _ = write!(out, "{{\"invocationId\":\"{}\",\"deliveryStreamArn\":", Uuid::new_v4());
    let arn = |kind: &str, name: &str| format!("arn:aws:{kind}/{name}");
    push_text(&arn("firehose:local:000000000000:deliverystream", &options.delivery_stream), &mut out);
    if let Some(source) = &options.source_stream {
        out.extend_from_slice(b",\"sourceKinesisStreamArn\":");
        push_text(&arn("kinesis:local:000000000000:stream", source), &mut out);
    }
    let _ = write!(out, ",\"region\":\"{REGION}\",\"records\":[");
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_record(item, options.source_stream.is_some(), &mut out);
    }
    out.extend_from_slice(b"]}\n");
    debug_assert!(out.len() <= most, "a request grows to no more than is counted for it");
    out
}

fn push_record(item: &Item, from_stream: bool, out: &mut Vec<u8>) {
    let Origin { shard, sub, arrival_us, .. } = item.origin;
    let arrival_ms = arrival_us.div_euclid(1000);
    let id = record_id(item.origin);
    let _ = write!(out, "{{\"recordId\":\"{id}\",\"approximateArrivalTimestamp\":{arrival_ms},\"data\":\"");
    let start = out.len();
    out.resize(start + item.data.len().div_ceil(3) * 4, 0);
    // The place is as large as what is written.
    let written = STANDARD.encode_slice(&item.data, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
    if from_stream {
        let _ = write!(out, ",\"kinesisRecordMetadata\":{{\"shardId\":\"{shard}\",");
        if let Some(key) = &item.key {
            out.extend_from_slice(b"\"partitionKey\":");
            push_text(key, out);
            out.push(b',');
        }
        let sub = sub.map_or_else(String::new, |sub| sub.to_string());
        let sequence = item.origin.sequence();
        let _ = write!(
            out,
            "\"sequenceNumber\":\"{sequence}\",\"subsequenceNumber\":\"{sub}\",\"approximateArrivalTimestamp\":{arrival_ms}}}"
        );
    }
    out.push(b'}');
}

fn push_text(text: &str, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, text);
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    #[serde(borrow, default)]
    records: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    error_message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Id<'a> {
    #[serde(borrow)]
    record_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    result: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<Cow<'a, str>>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    partition_keys: Option<BTreeMap<String, String>>,
}

/// Reads the answer to a request about these records.
pub(super) fn read(line: &[u8], items: &[Item]) -> Answer {
    let out_of_step =
        |code: &str, message: String| Answer::OutOfStep(Failure::new(ErrorType::Processing, code, message));
    let no_json = |error: serde_json::Error| {
        let begin = excerpt(&String::from_utf8_lossy(&line[..line.len().min(80)]));
        out_of_step(
            "Lambda.JsonProcessingException",
            format!("the answer is not `{{\"records\":[...]}}`: {error}: `{begin}`"),
        )
    };
    if line.trim_ascii_start().first() != Some(&b'{') {
        return no_json(serde::de::Error::custom("it is no object"));
    }
    let response: Response<'_> = match serde_json::from_slice(line) {
        Ok(response) => response,
        Err(error) => return no_json(error),
    };
    if let (None, Some(error)) = (&response.records, response.error_message) {
        let text = serde_json::from_str::<String>(error.get()).unwrap_or_else(|_| error.get().to_owned());
        let message = format!("the function failed: {}", excerpt(&text));
        return Answer::Raised(Failure::new(ErrorType::Processing, "Lambda.FunctionError", message));
    }
    let places: HashMap<String, usize> =
        items.iter().enumerate().map(|(i, item)| (record_id(item.origin), i)).collect();
    let mut outcomes: Vec<Option<Outcome>> = items.iter().map(|_| None).collect();
    for raw in response.records.unwrap_or_default() {
        let id = serde_json::from_str::<Id<'_>>(raw.get()).map(|id| id.record_id);
        let Some(&place) = id.as_ref().ok().and_then(|id| places.get(&**id)) else {
            let which =
                id.map_or_else(|_| "without a recordId".to_owned(), |id| format!("`{}`", excerpt(&id)));
            return out_of_step(
                "Lambda.UnknownRecordId",
                format!("a record came back that was not given: {which}"),
            );
        };
        outcomes[place] = Some(if outcomes[place].is_some() {
            Outcome::failed(
                "Lambda.DuplicatedRecordId",
                "Multiple records were returned with the same record Id: each must come back once",
            )
        } else {
            outcome(raw.get())
        });
    }
    let missing = || {
        Outcome::failed("Lambda.MissingRecordId", "The record Id was not returned: each must come back once")
    };
    Answer::Records(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect())
}

/// What an answer says of one record.
fn outcome(raw: &str) -> Outcome {
    let invalid = |message: String| Outcome::failed("Lambda.InvalidReturnFormat", message);
    let record: Record<'_> = match serde_json::from_str(raw) {
        Ok(record) => record,
        Err(error) => return invalid(format!("the record that came back is not as it should be: {error}")),
    };
    match record.result.as_deref() {
        Some("Dropped") => return Outcome::Dropped,
        Some("ProcessingFailed") => {
            return Outcome::failed(
                "Lambda.ProcessingFailedStatus",
                "ProcessingFailed status set for record",
            );
        }
        Some("Ok") => {}
        Some(other) => {
            let other = excerpt(other);
            return invalid(format!("the result must be Ok, Dropped or ProcessingFailed, not `{other}`"));
        }
        None => return invalid("the record that came back has no result".to_owned()),
    }
    let Some(data) = record.data else {
        return invalid("the data cannot be null when the result is Ok".to_owned());
    };
    match STANDARD.decode(&*data) {
        Ok(data) => {
            Outcome::Ok { data, partition_keys: record.metadata.and_then(|metadata| metadata.partition_keys) }
        }
        Err(error) => invalid(format!("the data that came back is not base64: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::testing::{item, items, origin};
    use super::*;

    #[test]
    fn a_request_is_the_services() {
        let mut record = item(5, b"hello \xff");
        record.key = Some("k\"\u{1}é".into());
        record.origin.sub = Some(7);
        let options =
            TransformOptions { source_stream: Some("clicks".to_owned()), ..TransformOptions::new("x") };
        let line = request(&options, &[record.clone(), Item { key: None, ..item(6, "") }]);
        assert_eq!(memchr::memchr(b'\n', &line), Some(line.len() - 1));
        let asked: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let sequence = record.origin.sequence().to_string();
        assert_eq!(asked["deliveryStreamArn"], "arn:aws:firehose:local:000000000000:deliverystream/khose");
        assert_eq!(asked["sourceKinesisStreamArn"], "arn:aws:kinesis:local:000000000000:stream/clicks");
        assert_eq!(
            asked["records"][0],
            serde_json::json!({
                "recordId": format!("{sequence}000007"), "approximateArrivalTimestamp": 1_700_000_100_000i64, "data": "aGVsbG8g/w==",
                "kinesisRecordMetadata": {
                    "shardId": "shardId-000000000003", "partitionKey": "k\"\u{1}é", "sequenceNumber": sequence,
                    "subsequenceNumber": "7", "approximateArrivalTimestamp": 1_700_000_100_000i64,
                },
            })
        );
        let second = &asked["records"][1];
        assert_eq!(
            (&second["data"], &second["kinesisRecordMetadata"]["subsequenceNumber"]),
            (&"".into(), &"".into())
        );
        assert!(second["kinesisRecordMetadata"].get("partitionKey").is_none());
        // Of a pipe there is no stream to tell of.
        let asked: serde_json::Value =
            serde_json::from_slice(&request(&TransformOptions::new("x"), &[record])).unwrap();
        assert!(asked["records"][0].get("kinesisRecordMetadata").is_none());
        assert!(asked.get("sourceKinesisStreamArn").is_none());
    }

    proptest! {
        #[test]
        fn what_is_asked_comes_back(records in prop::collection::vec((any::<Vec<u8>>(), prop::option::of(".{0,4}"), 0u64..3), 0..12)) {
            let items: Vec<Item> = records
                .iter()
                .enumerate()
                .map(|(i, (data, key, sub))| Item {
                    origin: Origin { sub: (*sub > 0).then_some(*sub), ..origin(i as u64) },
                    key: key.as_deref().map(Into::into),
                    data: data.clone(),
                    partition_keys: None,
                })
                .collect();
            let options = TransformOptions { source_stream: Some("s".to_owned()), ..TransformOptions::new("x") };
            let line = request(&options, &items);
            let most = head_bytes_max(&options) + items.iter().map(record_bytes_max).sum::<usize>();
            prop_assert!(line.len() <= most);
            let asked: serde_json::Value = serde_json::from_slice(&line).unwrap();
            let mut answers: Vec<serde_json::Value> = asked["records"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| serde_json::json!({ "recordId": r["recordId"], "result": "Ok", "data": r["data"] }))
                .collect();
            answers.reverse();
            let answer = serde_json::json!({ "records": answers }).to_string();
            let Answer::Records(outcomes) = read(answer.as_bytes(), &items) else { panic!() };
            for (outcome, item) in outcomes.iter().zip(&items) {
                prop_assert_eq!(outcome, &Outcome::Ok { data: item.data.clone(), partition_keys: None });
            }
        }

        #[test]
        fn no_answer_breaks_the_reader(mut answer in prop::collection::vec(any::<u8>(), 0..80), place: prop::sample::Index, byte: u8) {
            let items = items(["a", "b"]);
            let _ = read(&answer, &items);
            let asked: serde_json::Value = serde_json::from_slice(&request(&TransformOptions::new("x"), &items)).unwrap();
            answer = asked.to_string().into_bytes();
            let place = place.index(answer.len());
            answer[place] = byte;
            if let Answer::Records(outcomes) = read(&answer, &items) {
                prop_assert_eq!(outcomes.len(), 2);
            }
        }
    }
}
