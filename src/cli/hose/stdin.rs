//! Standard input as a source of records.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::cli::input::{BlockReader, Filled};
use crate::cli::signal::Shutdown;
use crate::codec::envelope::Envelope;
use crate::codec::{self, Decode, DecodeOptions, InputFormat, Records};
use crate::hose::chunk::Origin;
use crate::hose::source::{Incoming, Sink, Source, Step};
use crate::hose::track::Positions;
use crate::record::ShardId;
use crate::sys::System;

/// The largest record of a pipe: what a stream may hold at most.
const RECORD_BYTES: usize = 64 << 20;
/// An envelope may take more room than its record; a decoder takes no more than this.
const LINE_BYTES: usize = 256 << 20;

/// Reads standard input.
pub(super) struct Stdin {
    reader: BlockReader,
    decoder: Box<dyn Decode>,
    records: Records,
    format: InputFormat,
    system: System,
    number: u64,
    ended: bool,
    /// Where envelopes have come from.
    places: Places,
    /// The names of CSV columns.
    header: Option<Vec<String>>,
    wait: Option<Duration>,
}

impl Stdin {
    pub(super) fn open(
        format: InputFormat,
        system: &System,
        shutdown: &'static Shutdown,
    ) -> anyhow::Result<Self> {
        // Envelopes are read by their lines: what a decoder of them answers has no places.
        let lines = if format == InputFormat::Json { InputFormat::Lines } else { format };
        let limit = if format == InputFormat::Json { LINE_BYTES } else { RECORD_BYTES };
        let reader =
            BlockReader::stdin(limit + (2 << 20), Some(shutdown)).context("cannot read standard input")?;
        let decoder = codec::decoder(lines, &DecodeOptions::new(limit)).map_err(|reason| anyhow!(reason))?;
        Ok(Self {
            reader,
            decoder,
            records: Records::default(),
            format,
            system: system.clone(),
            number: 0,
            ended: false,
            places: Places::default(),
            header: None,
            wait: None,
        })
    }

    /// The stream that envelopes come from, by the first of them: its name and UUID.
    pub(super) fn origin_of_first(&mut self) -> anyhow::Result<Option<(String, uuid::Uuid)>> {
        if self.format != InputFormat::Json {
            return Ok(None);
        }
        loop {
            let block = self.reader.block();
            let line = memchr::memchr(b'\n', block).map(|end| &block[..end]);
            if let Some(line) =
                line.or_else(|| (self.reader.is_at_end() && !block.is_empty()).then_some(block))
            {
                let envelope =
                    Envelope::parse(line).map_err(|reason| anyhow!("the first record: {reason}"))?;
                let id =
                    envelope.stream_id.context("the first envelope does not say of which stream it is")?;
                let name = envelope.stream.map_or_else(|| id.to_string(), std::borrow::Cow::into_owned);
                return Ok(Some((name, id)));
            }
            match self.reader.fill(None)? {
                Filled::Data => {}
                Filled::Eof if !self.reader.block().is_empty() => {}
                _ => return Ok(None),
            }
        }
    }

    /// Gives the whole records of the block.
    fn give(&mut self, last: bool, sink: &mut dyn Sink) -> anyhow::Result<()> {
        let now_us = self.system.clock.now_us();
        loop {
            self.records.clear();
            let used = self.decoder.decode(self.reader.block(), last, &mut self.records)?;
            if used == 0 && self.records.is_empty() && self.records.refused.is_empty() {
                return Ok(());
            }
            let block = self.reader.block();
            let mut refused = self.records.refused.iter().peekable();
            for i in 0..=self.records.len() {
                while let Some(bad) = refused.next_if(|bad| bad.after == i) {
                    let bytes: &[u8] = if bad.raw_in_arena { &self.records.arena } else { block };
                    let origin = origin(ShardId(0), self.number, now_us);
                    self.number += 1;
                    let payload = bad.raw.of(bytes).unwrap_or_default();
                    sink.refuse(
                        &incoming(origin, payload),
                        &format!("record {}: {}", bad.number, bad.reason),
                    )?;
                }
                if i == self.records.len() {
                    break;
                }
                let payload = self.records.payload(block, i);
                let at = origin(ShardId(0), self.number, now_us);
                self.number += 1;
                match self.format {
                    InputFormat::Json => self.places.give(payload, at, sink)?,
                    InputFormat::Csv { delimiter } => {
                        if self.header.is_none() {
                            let header = self.decoder.header().unwrap_or_default();
                            self.header = Some(
                                fields(header, delimiter).map_err(|reason| anyhow!("header: {reason}"))?,
                            );
                        }
                        match row(self.header.as_deref().unwrap_or_default(), payload, delimiter) {
                            Ok(json) => sink.take(&incoming(at, &json))?,
                            Err(reason) => sink.refuse(&incoming(at, payload), &reason)?,
                        }
                    }
                    _ => sink.take(&incoming(at, payload))?,
                }
            }
            self.reader.consume(used);
            if used == 0 {
                return Ok(());
            }
        }
    }
}

fn origin(shard: ShardId, index: u64, arrival_us: i64) -> Origin {
    Origin { shard, shard_created_s: 0, index, sub: None, arrival_us }
}

fn incoming(origin: Origin, payload: &[u8]) -> Incoming<'_> {
    Incoming { origin, key: None, timestamp_us: None, attributes: &[], payload }
}

/// Where envelopes have come from so far.
#[derive(Default)]
struct Places {
    stream: Option<uuid::Uuid>,
    /// The last record of each shard.
    last: BTreeMap<ShardId, (u64, Option<u64>)>,
}

impl Places {
    /// Gives the record that an envelope holds, at the place that it tells.
    fn give(&mut self, line: &[u8], at: Origin, sink: &mut dyn Sink) -> anyhow::Result<()> {
        let envelope = match Envelope::parse(line) {
            Ok(envelope) => envelope,
            Err(reason) => return sink.refuse(&incoming(at, line), &reason),
        };
        let (Some(sequence), Some(id)) = (envelope.sequence, envelope.stream_id) else {
            let reason = "it does not tell its place: sequenceNumber or streamId is missing";
            return sink.refuse(&incoming(at, line), reason);
        };
        if *self.stream.get_or_insert(id) != id {
            return sink.refuse(&incoming(at, line), "it is of another stream than those before it");
        }
        let place = (sequence.index, envelope.sub_sequence);
        if let Some(last) = self.last.insert(sequence.shard, place)
            && last >= place
        {
            // What a later run is told to pass over would be passed over by this one already.
            anyhow::bail!(
                "envelopes of {} are out of order: index {} comes behind {}",
                sequence.shard,
                place.0,
                last.0
            );
        }
        let origin = Origin {
            shard: sequence.shard,
            shard_created_s: sequence.shard_created_s,
            index: sequence.index,
            sub: envelope.sub_sequence,
            arrival_us: envelope.arrival_us.unwrap_or(at.arrival_us),
        };
        if sink.wants(origin.shard, origin.index, origin.sub) {
            sink.take(&Incoming {
                origin,
                key: envelope.key.as_deref(),
                timestamp_us: envelope.timestamp_us,
                attributes: &envelope.attributes,
                payload: &envelope.payload,
            })?;
        }
        Ok(())
    }
}

/// The fields of a row.
fn fields(row: &[u8], delimiter: u8) -> Result<Vec<String>, String> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(row);
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).map_err(|error| error.to_string())?;
    Ok(record.iter().map(str::to_owned).collect())
}

/// A row as a JSON object: what reads as a JSON number or boolean is one, nothing is null, all else is text.
fn row(header: &[String], row: &[u8], delimiter: u8) -> Result<Vec<u8>, String> {
    let fields = fields(row, delimiter)?;
    if fields.len() != header.len() {
        return Err(format!("it has {} fields, and the header {}", fields.len(), header.len()));
    }
    let mut json = Vec::with_capacity(2 * row.len());
    for (i, (name, field)) in header.iter().zip(&fields).enumerate() {
        json.push(if i == 0 { b'{' } else { b',' });
        serde_json::to_writer(&mut json, name).map_err(|error| error.to_string())?;
        json.push(b':');
        match field.as_str() {
            "" => json.extend_from_slice(b"null"),
            text if is_literal(text) => json.extend_from_slice(text.as_bytes()),
            text => serde_json::to_writer(&mut json, text).map_err(|error| error.to_string())?,
        }
    }
    json.extend_from_slice(if header.is_empty() { b"{}" } else { b"}" });
    Ok(json)
}

fn is_literal(text: &str) -> bool {
    let number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok_and(|raw| raw.get() == text);
    number || matches!(text, "true" | "false")
}

impl Source for Stdin {
    fn poll(&mut self, sink: &mut dyn Sink) -> anyhow::Result<Step> {
        if self.ended {
            return Ok(Step::End);
        }
        let filled = self.reader.fill(Some(self.wait.take().unwrap_or(Duration::ZERO)))?;
        match filled {
            Filled::Data => self.give(false, sink)?,
            Filled::Eof => {
                self.give(true, sink)?;
                self.ended = true;
            }
            Filled::TimedOut => return Ok(Step::Tail),
            Filled::Interrupted => {
                self.ended = true;
                return Ok(Step::End);
            }
            Filled::Full => {
                anyhow::bail!("record {}: it is longer than {RECORD_BYTES} bytes", self.number + 1)
            }
        }
        Ok(Step::Read)
    }

    fn wait(&mut self, most: Option<Duration>) -> anyhow::Result<()> {
        // The next poll waits: it is woken by data too.
        self.wait = Some(most.unwrap_or(Duration::from_secs(1)));
        Ok(())
    }

    fn begin(&mut self, _shard: ShardId, _index: u64) -> anyhow::Result<()> {
        Ok(())
    }

    fn pause(&mut self, _shard: ShardId) {}

    fn make_durable(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn commit(&mut self, _positions: &Positions) -> anyhow::Result<()> {
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn tells_shards(&self) -> bool {
        false
    }

    fn has_places(&self) -> bool {
        self.format == InputFormat::Json
    }

    fn leave(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}
