//! The error output: records that could not be delivered, with their reasons, so that one command puts them back.
//!
//! A line is the envelope that kget writes and kput reads, with the service's members for a failed record inside
//! `error`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use uuid::Uuid;

use super::failure::{ErrorType, Failure};
use super::gather::FailedRecord;
use super::homes::Homes;
use crate::codec::envelope::{EnvelopeEncoder, Rejection};
use crate::record::Record;

/// Writes failed records.
pub struct ErrorLines {
    encoder: EnvelopeEncoder,
    delivery: String,
    homes: Option<Homes>,
}

impl ErrorLines {
    /// For records of this stream, which a delivery of this name would have delivered.
    pub fn new(stream: &str, stream_id: Uuid, delivery: &str) -> Self {
        Self { encoder: EnvelopeEncoder::new(stream, stream_id), delivery: delivery.to_owned(), homes: None }
    }

    /// Of records that come from an error output themselves: they keep the place that they had in their stream.
    #[must_use]
    pub fn with_homes(self, homes: Homes) -> Self {
        Self { homes: Some(homes), ..self }
    }

    /// Appends a line. `now_us` is when it was given up, microseconds since the epoch.
    pub fn push(&self, failed: &FailedRecord, now_us: i64, out: &mut Vec<u8>) {
        let FailedRecord { origin, data, key, failure, details } = failed;
        let home = self.homes.as_ref().and_then(|homes| homes.of(origin));
        // What a stage has numbered is told by that; else it is what it was.
        let sub = origin.sub.or(home.as_ref().and_then(|home| home.sub));
        let sequence = home.as_ref().map_or_else(|| origin.sequence(), |home| home.sequence);
        let record = Record {
            sequence,
            sub_sequence: sub,
            arrival_us: origin.arrival_us,
            timestamp_us: None,
            key: key.as_deref(),
            explicit_hash: None,
            attributes: &[],
            payload: data,
        };
        let reason = format!("{}: {}", failure.code, failure.message);
        let mut more = members(origin.arrival_us, data, failure, details, now_us);
        if failure.error_type == ErrorType::FormatConversion {
            let _ = write!(more, ",\"sequenceNumber\":\"{sequence}\"");
            if let Some(sub) = sub {
                let _ = write!(more, ",\"subSequenceNumber\":{sub}");
            }
        }
        let delivery = home.as_ref().and_then(|home| home.from.delivery.as_ref()).unwrap_or(&self.delivery);
        let _ = write!(more, ",\"delivery\":{}", json_text(delivery));
        let rejection = Rejection { reason: &reason, more: &more, ..Rejection::default() };
        match &home {
            Some(home) => {
                let encoder = EnvelopeEncoder::new(&home.from.stream, home.from.stream_id);
                encoder.encode_rejected(&record, &rejection, out);
            }
            None => self.encoder.encode_rejected(&record, &rejection, out),
        }
    }
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// The service's members. Those of a conversion have names of their own there.
fn members(
    arrival_us: i64,
    data: &[u8],
    failure: &Failure,
    details: &[(&'static str, String)],
    now_us: i64,
) -> String {
    let last = if failure.error_type == ErrorType::FormatConversion { "lastError" } else { "error" };
    let mut json = String::new();
    let _ = write!(
        json,
        "\"errorOutputType\":{kind},\"attemptsMade\":{attempts},\
         \"arrivalTimestamp\":{arrival},\"{last}Code\":{code},\"{last}Message\":{message},\
         \"attemptEndingTimestamp\":{now},\"rawData\":\"{raw}\"",
        kind = json_text(failure.error_type.name()),
        attempts = failure.attempts,
        arrival = arrival_us / 1000,
        code = json_text(&failure.code),
        message = json_text(&failure.message),
        now = now_us / 1000,
        raw = BASE64_STANDARD.encode(data),
    );
    for (name, value) in details {
        let _ = write!(json, ",\"{name}\":{}", json_text(value));
    }
    json
}
