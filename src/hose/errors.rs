//! The error output: records that could not be delivered, with their reasons, so that one command puts them back.
//!
//! A line is the envelope that kget writes and kput reads, with the service's members for a failed record inside
//! `error`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use uuid::Uuid;

use super::chunk::Origin;
use super::failure::{ErrorType, Failure};
use super::gather::FailedRecord;
use crate::codec::envelope::{EnvelopeEncoder, Rejection};
use crate::record::Record;

/// Writes failed records.
pub struct ErrorLines {
    encoder: EnvelopeEncoder,
    delivery: String,
}

impl ErrorLines {
    /// For records of this stream, which a delivery of this name would have delivered.
    pub fn new(stream: &str, stream_id: Uuid, delivery: &str) -> Self {
        Self { encoder: EnvelopeEncoder::new(stream, stream_id), delivery: delivery.to_owned() }
    }

    /// Appends a line. `now_us` is when it was given up, microseconds since the epoch.
    pub fn push(&self, failed: &FailedRecord, now_us: i64, out: &mut Vec<u8>) {
        let FailedRecord { origin, data, key, failure, details } = failed;
        let record = Record {
            sequence: origin.sequence(),
            sub_sequence: origin.sub,
            arrival_us: origin.arrival_us,
            timestamp_us: None,
            key: key.as_deref(),
            explicit_hash: None,
            attributes: &[],
            payload: data,
        };
        let reason = format!("{}: {}", failure.code, failure.message);
        let more = self.members(origin, data, failure, details, now_us);
        let rejection = Rejection { reason: &reason, more: &more, ..Rejection::default() };
        self.encoder.encode_rejected(&record, &rejection, out);
    }

    /// The service's members. Those of a conversion have names of their own there.
    fn members(
        &self,
        origin: &Origin,
        data: &[u8],
        failure: &Failure,
        details: &[(&'static str, String)],
        now_us: i64,
    ) -> String {
        let last = if failure.error_type == ErrorType::FormatConversion { "lastError" } else { "error" };
        let mut json = String::new();
        let text = |text: &str| serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned());
        let _ = write!(
            json,
            "\"errorOutputType\":{kind},\"attemptsMade\":{attempts},\
             \"arrivalTimestamp\":{arrival},\"{last}Code\":{code},\"{last}Message\":{message},\
             \"attemptEndingTimestamp\":{now},\"rawData\":\"{raw}\",\"delivery\":{delivery}",
            kind = text(failure.error_type.name()),
            attempts = failure.attempts,
            arrival = origin.arrival_us / 1000,
            code = text(&failure.code),
            message = text(&failure.message),
            now = now_us / 1000,
            raw = BASE64_STANDARD.encode(data),
            delivery = text(&self.delivery),
        );
        if failure.error_type == ErrorType::FormatConversion {
            let _ = write!(json, ",\"sequenceNumber\":\"{}\"", origin.sequence());
            if let Some(sub) = origin.sub {
                let _ = write!(json, ",\"subSequenceNumber\":{sub}");
            }
        }
        for (name, value) in details {
            let _ = write!(json, ",\"{name}\":{}", text(value));
        }
        json
    }
}
