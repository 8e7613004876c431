//! CSV output: one row per record under a header, quoted where RFC 4180 asks for it.
//!
//! The payload stands as it is in `data`: bytes that are not UTF-8 pass unchanged, since CSV knows no bytes but these.
//! An absent partition key is an empty field, as an empty one is; the envelope tells them apart.

use csv_core::{WriteResult, Writer};

use super::Encode;
use super::instant::{push_epoch, push_rfc3339};
use crate::record::Record;

/// Encodes `csv`.
#[derive(Debug, Default)]
pub(super) struct TableEncoder;

impl Encode for TableEncoder {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"shardId,sequenceNumber,partitionKey,approximateArrivalTimestamp,data\n");
    }

    fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        // The first two fields and the moment never need quotes.
        out.extend_from_slice(record.sequence.shard.to_string().as_bytes());
        out.push(b',');
        let mut digits = [0; 58];
        let len = record.sequence.write_decimal(&mut digits);
        out.extend_from_slice(&digits[..len]);
        out.push(b',');
        push_field(record.key.unwrap_or_default().as_bytes(), out);
        out.push(b',');
        if !push_rfc3339(record.arrival_us, out) {
            push_epoch(record.arrival_us, out);
        }
        out.push(b',');
        push_field(record.payload, out);
        out.push(b'\n');
    }
}

fn push_field(bytes: &[u8], out: &mut Vec<u8>) {
    // The writer would quote it, to tell a row of one empty field from an empty line; these rows have five.
    if bytes.is_empty() {
        return;
    }
    let mut writer = Writer::new();
    let start = out.len();
    // Every byte a quote, and a quote before and behind.
    out.resize(start + 2 * bytes.len() + 2, 0);
    let (result, _, written) = writer.field(bytes, &mut out[start..]);
    let (ended, closing) = writer.finish(&mut out[start + written..]);
    debug_assert!(
        result == WriteResult::InputEmpty && ended == WriteResult::InputEmpty,
        "the room was enough"
    );
    out.truncate(start + written + closing);
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::record;
    use super::*;
    use proptest::prelude::*;

    fn encode(records: &[Record<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        TableEncoder.begin(&mut out);
        for record in records {
            TableEncoder.encode(record, &mut out);
        }
        out
    }

    #[test]
    fn a_header_and_quoted_fields() {
        let text = encode(&[Record { key: Some("k,1"), ..record(b"a \"b\"\n") }, record(b"")]);
        let number = record(b"").sequence;
        let expected = format!(
            "shardId,sequenceNumber,partitionKey,approximateArrivalTimestamp,data\n\
             shardId-000000000004,{number},\"k,1\",1970-01-01T00:00:03.000001Z,\"a \"\"b\"\"\n\"\n\
             shardId-000000000004,{number},,1970-01-01T00:00:03.000001Z,\n"
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn other_readers_read_the_same_bytes(payloads in prop::collection::vec(any::<Vec<u8>>(), 0..8), key in ".*") {
            let records: Vec<_> =
                payloads.iter().map(|payload| Record { key: Some(&key), ..record(payload) }).collect();
            let text = encode(&records);
            let mut reader = ::csv::Reader::from_reader(&text[..]);
            let read: Vec<_> = reader.byte_records().map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), payloads.len());
            for (row, payload) in read.iter().zip(&payloads) {
                prop_assert_eq!(&row[2], key.as_bytes());
                prop_assert_eq!(&row[4], &payload[..]);
            }
        }
    }
}
