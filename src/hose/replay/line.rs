//! One line of an error output.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use uuid::Uuid;

use crate::codec::envelope::Envelope;
use crate::hose::failure::ErrorType;
use crate::record::{Attribute, SequenceNumber};

/// A failed record, as it stands in an error output: in our own form, an envelope with an `error`, or in the service's.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedLine<'a> {
    /// Its data, as they were before the stage that it failed at.
    pub payload: Cow<'a, [u8]>,
    /// Its partition key.
    pub key: Option<Cow<'a, str>>,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// When its producer made it, microseconds since the epoch.
    pub timestamp_us: Option<i64>,
    /// The stream's name, and its UUID.
    pub stream: Option<(String, Uuid)>,
    /// Where it stood there.
    pub sequence: Option<SequenceNumber>,
    /// Where in its aggregate.
    pub sub: Option<u64>,
    /// When it arrived, microseconds since the epoch.
    pub arrival_us: Option<i64>,
    /// When it was given up, microseconds since the epoch.
    pub failed_us: Option<i64>,
    /// What `!{firehose:error-output-type}` says of it.
    pub error_type: Option<Cow<'static, str>>,
    /// The code of its error.
    pub code: Option<String>,
    /// The delivery that gave it up.
    pub delivery: Option<String>,
}

/// What is told of a failure, in `error` of an envelope or beside the data.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    error_output_type: Option<String>,
    error_code: Option<String>,
    last_error_code: Option<String>,
    /// Milliseconds, or text in some of the service's outputs.
    arrival_timestamp: Option<serde_json::Value>,
    attempt_ending_timestamp: Option<serde_json::Value>,
    delivery: Option<String>,
    raw_data: Option<String>,
    sequence_number: Option<String>,
    #[serde(alias = "subsequenceNumber")]
    sub_sequence_number: Option<serde_json::Value>,
    es_index_name: Option<serde_json::Value>,
    os_index_name: Option<serde_json::Value>,
    #[serde(rename = "EventId")]
    event_id: Option<serde_json::Value>,
    lambda_arn: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Marked {
    kpipe: Option<serde_json::Value>,
    error: Option<Told>,
}

impl<'a> FailedLine<'a> {
    /// Reads a line of the object of this name.
    ///
    /// # Errors
    /// Why it is no failed record, as the end of a sentence.
    pub fn parse(line: &'a [u8], object: &str) -> Result<Self, String> {
        let marked: Marked =
            serde_json::from_slice(line).map_err(|error| format!("it is no failed record: {error}"))?;
        if marked.kpipe.is_none() {
            return Self::service(line, object);
        }
        let Some(told) = marked.error else {
            return Err("it is a record, and nothing says that it failed: `error` is missing".to_owned());
        };
        let envelope = Envelope::parse(line)?;
        let stream_id = envelope.stream_id;
        Ok(Self {
            error_type: told.kind(object),
            code: told.code(),
            failed_us: told.attempt_ending_timestamp.as_ref().and_then(millis),
            arrival_us: envelope.arrival_us.or_else(|| told.arrival_timestamp.as_ref().and_then(millis)),
            delivery: told.delivery,
            stream: envelope.stream.map(|name| (name.into_owned(), stream_id.unwrap_or(Uuid::nil()))),
            sequence: envelope.sequence,
            sub: envelope.sub_sequence,
            key: envelope.key,
            attributes: envelope.attributes,
            timestamp_us: envelope.timestamp_us,
            payload: envelope.payload,
        })
    }

    /// The service's own form.
    fn service(line: &[u8], object: &str) -> Result<Self, String> {
        let told: Told =
            serde_json::from_slice(line).map_err(|error| format!("it is no failed record: {error}"))?;
        let Some(raw) = told.raw_data.as_ref().filter(|_| told.code().is_some()) else {
            return Err(
                "it is no failed record: neither an envelope, nor `rawData` and `errorCode`".to_owned()
            );
        };
        let payload = BASE64_STANDARD.decode(raw).map_err(|reason| format!("`rawData`: {reason}"))?;
        // Elsewhere it may be a number of another kind.
        let sequence = told.sequence_number.as_ref().and_then(|text| text.parse().ok());
        let sub = told.sub_sequence_number.as_ref().and_then(|value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        });
        Ok(Self {
            error_type: told.kind(object),
            code: told.code(),
            failed_us: told.attempt_ending_timestamp.as_ref().and_then(millis),
            arrival_us: told.arrival_timestamp.as_ref().and_then(millis),
            payload: Cow::Owned(payload),
            key: None,
            attributes: Vec::new(),
            timestamp_us: None,
            stream: None,
            sequence,
            sub,
            delivery: None,
        })
    }
}

impl Told {
    fn code(&self) -> Option<String> {
        self.error_code.clone().or_else(|| self.last_error_code.clone())
    }

    /// The type of the error: told, or by what only one type tells, or by the folder.
    fn kind(&self, object: &str) -> Option<Cow<'static, str>> {
        if let Some(told) = &self.error_output_type {
            return Some(Cow::Owned(told.clone()));
        }
        let code = self.error_code.as_deref().unwrap_or_default();
        let kind = if self.last_error_code.is_some() {
            ErrorType::FormatConversion
        } else if self.es_index_name.is_some() || self.os_index_name.is_some() {
            ErrorType::OpenSearch
        } else if self.event_id.is_some() || code.starts_with("Splunk.") {
            ErrorType::Splunk
        } else if self.lambda_arn.is_some() || code.starts_with("Lambda.") {
            ErrorType::Processing
        } else if code.starts_with("HttpEndpoint.") {
            ErrorType::HttpEndpoint
        } else if code.starts_with("DynamicPartitioning.") {
            ErrorType::MetadataExtraction
        } else {
            let folder = |kind: &ErrorType| object.split('/').any(|part| part == kind.name());
            ErrorType::ALL.into_iter().find(folder)?
        };
        Some(Cow::Borrowed(kind.name()))
    }
}

/// Milliseconds since the epoch, as a number or as text, in microseconds.
fn millis(value: &serde_json::Value) -> Option<i64> {
    let millis = match value {
        serde_json::Value::String(text) => text.parse().ok()?,
        value => value.as_i64()?,
    };
    millis.checked_mul(1000)
}

/// Which failed records are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Types of errors, or codes; empty for all.
    pub kinds: Vec<String>,
    /// Only those that failed at this time or later, microseconds since the epoch.
    pub since_us: Option<i64>,
}

impl Selection {
    /// Takes types and codes as they are typed.
    ///
    /// # Errors
    /// What is neither.
    pub fn new(kinds: Vec<String>, since_us: Option<i64>) -> Result<Self, String> {
        for kind in &kinds {
            // Codes have a point in them, as `Lambda.FunctionTimedOut`.
            if !kind.contains('.') && ErrorType::ALL.iter().all(|known| known.name() != kind) {
                let known: Vec<&str> = ErrorType::ALL.iter().map(|kind| kind.name()).collect();
                return Err(format!(
                    "`{kind}` is neither a type of errors nor a code: give one of {}, or a code as \
                     DataFormatConversion.ParseError",
                    known.join(", ")
                ));
            }
        }
        Ok(Self { kinds, since_us })
    }

    /// Whether a record is wanted.
    pub fn wants(&self, line: &FailedLine<'_>) -> bool {
        let is_kind =
            |kind: &String| line.error_type.as_deref() == Some(kind) || line.code.as_deref() == Some(kind);
        let when = line.failed_us.or(line.arrival_us);
        (self.kinds.is_empty() || self.kinds.iter().any(is_kind))
            && self.since_us.is_none_or(|since| when.is_some_and(|when| when >= since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hose::chunk::Origin;
    use crate::hose::errors::ErrorLines;
    use crate::hose::failure::Failure;
    use crate::hose::gather::FailedRecord;
    use crate::record::ShardId;

    #[test]
    fn our_own_lines_are_read_as_they_were() {
        let id = Uuid::from_u128(7);
        let lines = ErrorLines::new("clicks", id, "clicks.lake");
        let origin = Origin {
            shard: ShardId(3),
            shard_created_s: 1_700_000_000,
            index: 42,
            sub: Some(5),
            arrival_us: 1_700_000_100_000_001,
        };
        for data in [b"{\"a\":1}".to_vec(), b"no json".to_vec(), vec![0, 255, 10], Vec::new()] {
            for kind in ErrorType::ALL {
                let failed = FailedRecord {
                    origin,
                    data: data.clone(),
                    key: Some("k".into()),
                    failure: Failure::new(kind, "Some.Code", "it is \"wrong\""),
                    details: vec![("esIndexName", "logs".to_owned())],
                };
                let mut text = Vec::new();
                lines.push(&failed, 1_700_000_200_000_000, &mut text);
                let read = FailedLine::parse(text.strip_suffix(b"\n").unwrap(), "x").unwrap();
                assert_eq!(read.payload, data);
                assert_eq!(read.key.as_deref(), Some("k"));
                assert_eq!(read.stream, Some(("clicks".to_owned(), id)));
                assert_eq!((read.sequence, read.sub), (Some(origin.sequence()), Some(5)));
                assert_eq!(read.arrival_us, Some(origin.arrival_us));
                assert_eq!(read.failed_us, Some(1_700_000_200_000_000));
                assert_eq!(read.error_type.as_deref(), Some(kind.name()));
                assert_eq!(read.code.as_deref(), Some("Some.Code"));
                assert_eq!(read.delivery.as_deref(), Some("clicks.lake"));
            }
        }
    }

    #[test]
    fn the_services_lines_are_read_too() {
        let line = br#"{"attemptsMade":4,"arrivalTimestamp":1492100000000,"errorCode":"Lambda.FunctionTimedOut","errorMessage":"m","attemptEndingTimestamp":1492100300000,"rawData":"aGVsbG8=","lambdaArn":"arn:x"}"#;
        let read = FailedLine::parse(line, "x").unwrap();
        assert_eq!(read.payload, &b"hello"[..]);
        assert_eq!(read.error_type.as_deref(), Some("processing-failed"));
        assert_eq!(read.arrival_us, Some(1_492_100_000_000_000));
        assert_eq!(read.failed_us, Some(1_492_100_300_000_000));
        for (members, object, kind) in [
            (
                r#""lastErrorCode":"x","sequenceNumber":"123","subSequenceNumber":0"#,
                "",
                "format-conversion-failed",
            ),
            (
                r#""errorCode":"HttpEndpoint.DestinationException","subsequenceNumber":"7""#,
                "",
                "http-endpoint-failed",
            ),
            (r#""errorCode":"400","esIndexName":"i""#, "", "AmazonOpenSearchService-failed"),
            (r#""errorCode":"Splunk.AckTimeout","EventId":"1.2""#, "", "splunk-failed"),
            (r#""errorCode":"DynamicPartitioning.X""#, "", "metadata-extraction-failed"),
            (r#""errorCode":"x""#, "a/database-failed/b", "database-failed"),
        ] {
            let line = format!("{{{members},\"rawData\":\"aA==\"}}");
            let read = FailedLine::parse(line.as_bytes(), object).unwrap();
            assert_eq!(read.error_type.as_deref(), Some(kind), "{members}");
        }
    }

    #[test]
    fn what_is_no_failed_record_says_why() {
        for (line, why) in [
            ("", "no failed record"),
            ("{}", "neither an envelope"),
            ("[1]", "no failed record"),
            (r#"{"rawData":"aA=="}"#, "neither an envelope"),
            (r#"{"errorCode":"x","rawData":"!"}"#, "`rawData`"),
            (r#"{"kpipe":"record","json":1}"#, "nothing says that it failed"),
            (r#"{"kpipe":"record","text":"ab","error":{"truncated":true}}"#, "only its start"),
        ] {
            let said = FailedLine::parse(line.as_bytes(), "x").unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }

    #[test]
    fn selections() {
        let line = |code: &str, at: u64| {
            format!("{{\"errorCode\":\"{code}\",\"attemptEndingTimestamp\":{at},\"rawData\":\"\"}}")
        };
        let wants = |kinds: &[&str], since_us, text: &str| {
            let kinds = kinds.iter().map(|&kind| kind.to_owned()).collect();
            let line = FailedLine::parse(text.as_bytes(), "x").unwrap();
            Selection::new(kinds, since_us).unwrap().wants(&line)
        };
        let splunk = line("Splunk.AckTimeout", 5);
        assert!(wants(&[], None, &splunk) && wants(&["splunk-failed"], None, &splunk));
        assert!(wants(&["x.y", "Splunk.AckTimeout"], Some(5000), &splunk));
        assert!(!wants(&["processing-failed"], None, &splunk) && !wants(&[], Some(5001), &splunk));
        let untold = r#"{"errorCode":"x","rawData":""}"#;
        assert!(!wants(&[], Some(0), untold) && !wants(&["splunk-failed"], None, untold));
        assert!(Selection::new(vec!["splunk-faild".to_owned()], None).unwrap_err().contains("splunk-failed"));
    }
}
