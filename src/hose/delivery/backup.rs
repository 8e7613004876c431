//! Copies of source records, as they were read.

use std::io::Write as _;

use crate::codec::Encode as _;
use crate::codec::envelope::EnvelopeEncoder;
use crate::hose::format::body::{Body, BodyWriter, Scratch};
use crate::hose::source::Incoming;
use crate::record::Record;

/// Copies of what is read, on their way to a place of their own.
pub struct Backup {
    /// The envelopes.
    pub encoder: EnvelopeEncoder,
    /// Where they gather.
    pub scratch: Scratch,
    writer: Option<BodyWriter>,
    line: Vec<u8>,
    records: u64,
}

impl Backup {
    /// Nothing yet.
    pub fn new(encoder: EnvelopeEncoder, scratch: Scratch) -> Self {
        Self { encoder, scratch, writer: None, line: Vec::new(), records: 0 }
    }

    pub(super) fn add(&mut self, record: &Incoming<'_>) -> std::io::Result<()> {
        self.line.clear();
        self.encoder.encode(
            &Record {
                sequence: record.origin.sequence(),
                sub_sequence: record.origin.sub,
                arrival_us: record.origin.arrival_us,
                timestamp_us: record.timestamp_us,
                key: record.key,
                explicit_hash: None,
                attributes: record.attributes,
                payload: record.payload,
            },
            &mut self.line,
        );
        self.records += 1;
        self.writer.get_or_insert_with(|| self.scratch.begin()).write_all(&self.line)
    }

    pub(super) fn take(&mut self) -> std::io::Result<Option<(Body, u64)>> {
        let records = std::mem::take(&mut self.records);
        self.writer.take().map(|writer| Ok((writer.finish()?, records))).transpose()
    }
}
