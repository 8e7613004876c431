//! From frames to the bytes of the output.

use std::io::{self, Write};

use anyhow::anyhow;
use memchr::memmem::Finder;

use crate::cli::output::Stdout;
use crate::codec::{Encode, EncodeOptions, OutputFormat, encoder, kpl};
use crate::record::Record;
use crate::stream::{self, Delivery, Stream};
use crate::sys;

/// Encoded records gather up to this before they go to the output.
const CHUNK_BYTES: usize = 128 << 10;

/// Where encoded records go.
pub(super) trait Sink: Write {
    /// Writes `bytes`, which lie in a file as well.
    fn pass(&mut self, bytes: &[u8], _file: &dyn sys::File, _offset: u64) -> io::Result<()> {
        self.write_all(bytes)
    }
}

impl Sink for Vec<u8> {}

impl Sink for Stdout {
    fn pass(&mut self, bytes: &[u8], file: &dyn sys::File, offset: u64) -> io::Result<()> {
        Stdout::pass(self, bytes, file, offset)
    }
}

/// Writes the records of frames in the output's format.
pub(super) struct Emitter {
    encoder: Box<dyn Encode>,
    /// What an aggregate begins with, where aggregates are to be taken apart.
    magic: Option<Finder<'static>>,
    /// How many records may still be written.
    left: u64,
    chunk: Vec<u8>,
}

/// How far a frame was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Emitted {
    /// Records written.
    pub(super) records: u64,
    /// Bytes written.
    pub(super) bytes: u64,
    /// Bytes of the data of these records.
    pub(super) payload: u64,
    /// The place of the last record written, if one was.
    pub(super) last: Option<Spot>,
}

/// The place of a record: its index in its shard, and in its aggregate if it is not the last of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) index: u64,
    pub(super) sub: Option<u64>,
    pub(super) arrival_us: i64,
}

/// A user record on its way, with its place.
pub(super) type Visit<'v> = dyn FnMut(&Record<'_>, Spot) -> io::Result<bool> + 'v;

impl Emitter {
    pub(super) fn new(
        stream: &Stream,
        format: &OutputFormat,
        deaggregate: bool,
        limit: Option<u64>,
    ) -> anyhow::Result<Self> {
        let options =
            EncodeOptions { stream_name: stream.name().to_owned(), stream_id: stream.manifest().stream_id };
        Ok(Self {
            encoder: encoder(format, &options).map_err(|reason| anyhow!("--template: {reason}"))?,
            magic: deaggregate.then(|| Finder::new(&kpl::MAGIC)),
            left: limit.unwrap_or(u64::MAX),
            chunk: Vec::with_capacity(CHUNK_BYTES),
        })
    }

    /// Whether as many records were written as were asked for.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Writes what stands before the first record, and answers how many bytes that are: a header is there even where
    /// records are not.
    pub(super) fn begin(&mut self, out: &mut dyn Sink) -> io::Result<u64> {
        self.encoder.begin(&mut self.chunk);
        let bytes = self.chunk.len() as u64;
        out.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(bytes)
    }

    /// Whether aggregates are taken apart.
    pub(super) fn deaggregates(&self) -> bool {
        self.magic.is_some()
    }

    /// Appends one record, if one more is wanted.
    pub(super) fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> bool {
        let wanted = self.left > 0;
        if wanted {
            self.left -= 1;
            self.encoder.encode(record, out);
        }
        wanted
    }

    /// Writes the records of a frame, those behind `after` in their aggregate only.
    pub(super) fn emit(
        &mut self,
        delivery: &Delivery<'_>,
        after: Option<(u64, u64)>,
        out: &mut dyn Sink,
    ) -> anyhow::Result<Emitted> {
        if let Some(block) = self.whole(delivery) {
            match delivery.frame.payloads_in_file() {
                Some((file, offset)) => out.pass(block, file, offset)?,
                None => out.write_all(block)?,
            }
            let header = &delivery.frame.header;
            let records = u64::from(header.count);
            self.left -= records;
            let last = Spot { index: header.end() - 1, sub: None, arrival_us: header.arrival_us };
            let bytes = block.len() as u64;
            // Each has its delimiter.
            return Ok(Emitted { records, bytes, payload: bytes - records, last: Some(last) });
        }
        let mut emitted = Emitted::default();
        let Self { encoder, chunk, left, magic, .. } = self;
        each_record(delivery, magic.is_some(), after, &mut |record, spot| {
            if *left == 0 {
                return Ok(false);
            }
            encoder.encode(record, chunk);
            *left -= 1;
            emitted.records += 1;
            emitted.payload += record.payload.len() as u64;
            emitted.last = Some(spot);
            if chunk.len() >= CHUNK_BYTES {
                emitted.bytes += chunk.len() as u64;
                out.write_all(chunk)?;
                chunk.clear();
                // After a record of unusual size.
                chunk.shrink_to(4 * CHUNK_BYTES);
            }
            Ok(true)
        })?;
        emitted.bytes += chunk.len() as u64;
        out.write_all(chunk)?;
        chunk.clear();
        Ok(emitted)
    }

    /// The frame's payloads as they lie, where they are just what is to be written: all of them are wanted, each
    /// stands with its delimiter, and none can be an aggregate.
    fn whole<'a>(&self, delivery: &Delivery<'a>) -> Option<&'a [u8]> {
        let header = &delivery.frame.header;
        let count = header.count as usize;
        if delivery.skip > 0 || delivery.take < count || self.left < count as u64 {
            return None;
        }
        let block = delivery.frame.joined(self.encoder.joined()?)?;
        match &self.magic {
            // The one byte is looked for faster than the four, and text has none of it.
            Some(magic) if memchr::memchr(kpl::MAGIC[0], block).is_some() && magic.find(block).is_some() => {
                None
            }
            _ => Some(block),
        }
    }
}

/// Visits the user records of a frame as long as `visit` says so. `after` is a place in an aggregate, its record's
/// index and the last place in it that is not wanted any more.
pub(super) fn each_record(
    delivery: &Delivery<'_>,
    deaggregate: bool,
    after: Option<(u64, u64)>,
    visit: &mut Visit<'_>,
) -> anyhow::Result<()> {
    let view = delivery.frame.records()?;
    let header = &delivery.frame.header;
    let arrival_us = header.arrival_us;
    let wanted = view.iter().enumerate().take(delivery.take).skip(delivery.skip);
    for (i, stored) in wanted {
        let index = header.first + i as u64;
        let whole = Record {
            sequence: stream::sequence(delivery.shard, delivery.shard_created_s, index, arrival_us),
            sub_sequence: None,
            arrival_us,
            timestamp_us: stored.timestamp_us,
            key: stored.key,
            explicit_hash: stored.explicit_hash,
            attributes: stored.attributes,
            payload: stored.payload,
        };
        let spot = Spot { index, sub: None, arrival_us };
        let Some(aggregate) = deaggregate.then(|| kpl::deaggregate(stored.payload)).flatten() else {
            if !visit(&whole, spot)? {
                return Ok(());
            }
            continue;
        };
        let last = aggregate.len() as u64 - 1;
        for (user, sub) in aggregate.iter().zip(0..) {
            if after.is_some_and(|(at, done)| at == index && sub <= done) {
                continue;
            }
            let record = Record {
                sub_sequence: Some(sub),
                key: Some(user.key),
                explicit_hash: user.explicit_hash,
                payload: user.data,
                ..whole
            };
            if !visit(&record, Spot { sub: (sub < last).then_some(sub), ..spot })? {
                return Ok(());
            }
        }
    }
    Ok(())
}
