//! Reading one followed file on, and storing what it holds with where it stands.

use std::time::Instant;

use anyhow::{Context, bail};

use super::super::run::Run;
use super::Followed;
use super::body::{self, Body, PRINT_BYTES};
use super::table::{Entry, Print, Table};
use crate::cli::output::BLOCK_BYTES;
use crate::codec::{Decode, InputFormat, Records};

/// A header row is no longer than this.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// A file that is read.
pub(super) struct Reading {
    pub(super) body: Body,
    /// Its number in the table.
    pub(super) number: u64,
    path: u32,
    /// What it is called in messages.
    name: String,
    /// All before this byte has been put.
    pub(super) offset: u64,
    print: Print,
    /// What is read next. Only behind `offset` while a record that is too long is dropped as it comes.
    position: u64,
    /// The first bytes of the file, and those before `position`.
    head: Vec<u8>,
    context: Vec<u8>,
    decoder: Box<dyn Decode>,
    /// How much there was when it was last looked at.
    pub(super) size: u64,
    /// When it last grew.
    pub(super) grown: Instant,
    /// Files before it that leave the table when something of this one is stored.
    pub(super) predecessors: Vec<u64>,
    /// It is a copy, or compressed: nobody writes to it.
    is_finished: bool,
    /// It cannot be read.
    is_unreadable: bool,
}

impl Reading {
    /// Nobody writes to it any more.
    pub(super) fn finished(mut self) -> Self {
        self.is_finished = true;
        self
    }

    pub(super) fn may_grow(&self) -> bool {
        !self.is_finished && !self.body.is_gzip() && !self.is_unreadable
    }

    /// Whether bytes are there that are no whole record yet.
    pub(super) fn is_unfinished(&self) -> bool {
        self.size > self.offset
    }

    /// What the table says of it.
    pub(super) fn entry(&self, path: u32) -> Entry {
        Entry { path, dev: self.body.dev, ino: self.body.ino, offset: self.offset, print: self.print }
    }
}

/// What reading a file on has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Something; there may be more.
    More,
    /// All that is there has been read.
    End,
    /// What was read is no longer in it: it was truncated or overwritten.
    Replaced,
}

/// What all readings share.
pub(super) struct Reader {
    /// The producer's.
    pub(super) name: String,
    pub(super) table: Table,
    pub(super) next_number: u64,
    format: InputFormat,
    /// The file that was last put from.
    last: Option<u64>,
    buffer: Vec<u8>,
    buffer_max: usize,
}

impl Reader {
    pub(super) fn new(run: &Run, name: String) -> Self {
        Self {
            name,
            table: Table { reading: run.args.reading(), ..Table::default() },
            next_number: 0,
            format: run.args.format(),
            last: None,
            buffer: vec![0; BLOCK_BYTES],
            buffer_max: run.buffer_bytes(),
        }
    }

    /// A file that has never been read.
    pub(super) fn begin(
        &mut self,
        run: &Run,
        file: &Followed,
        body: Body,
        is_unreadable: bool,
    ) -> anyhow::Result<Reading> {
        let number = self.next_number;
        self.next_number += 1;
        let mut reading = self.resume(run, file, number, 0, body)?;
        reading.is_unreadable = is_unreadable;
        Ok(reading)
    }

    /// A file that was read up to `offset`.
    pub(super) fn resume(
        &mut self,
        run: &Run,
        file: &Followed,
        number: u64,
        offset: u64,
        mut body: Body,
    ) -> anyhow::Result<Reading> {
        let cannot = || format!("cannot read {}", file.shown);
        let mut decoder = run.new_decoder()?;
        if offset > 0 && matches!(self.format, InputFormat::Csv { .. }) {
            read_header(&mut body, decoder.as_mut()).with_context(cannot)?;
        }
        let Some((head, context)) = body.ends(offset).with_context(cannot)? else {
            bail!("{}: has become shorter than the {offset} bytes that were stored of it", file.shown);
        };
        let name =
            if offset == 0 { file.shown.clone() } else { format!("{} (from byte {offset})", file.shown) };
        let reading = Reading {
            number,
            path: file.id,
            name,
            offset,
            print: body::print(&head, &context),
            position: offset,
            head,
            context,
            decoder,
            size: offset,
            grown: Instant::now(),
            predecessors: Vec::new(),
            is_finished: false,
            is_unreadable: false,
            body,
        };
        Ok(reading)
    }

    /// Reads a file on, a block of it.
    pub(super) fn read_on(&mut self, run: &mut Run, reading: &mut Reading) -> anyhow::Result<Step> {
        self.step(run, reading, false)
    }

    /// Takes what is left of a file that nobody writes to any more: its last line may have no end.
    pub(super) fn finish(&mut self, run: &mut Run, reading: &mut Reading) -> anyhow::Result<()> {
        while self.step(run, reading, true)? == Step::More {}
        if self.last == Some(reading.number) {
            // If its last line goes on after all, it would be cut in another way when it is read again.
            run.producer.sync_now().with_context(|| run.context.clone())?;
        }
        Ok(())
    }

    fn step(&mut self, run: &mut Run, reading: &mut Reading, last: bool) -> anyhow::Result<Step> {
        if reading.is_unreadable {
            return Ok(Step::End);
        }
        let back = reading.context.len();
        let from = reading.position - back as u64;
        let got = match reading.body.read_at(&mut self.buffer, from) {
            Ok(got) => got,
            Err(error) if reading.body.is_gzip() => {
                run.lose(&format!(
                    "{}: cannot be read behind byte {}: {error}",
                    reading.name, reading.offset
                ));
                reading.is_unreadable = true;
                return Ok(Step::End);
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", reading.name)),
        };
        if got < back || self.buffer[..back] != reading.context {
            return Ok(Step::Replaced);
        }
        let size = from + got as u64;
        if size < reading.size {
            run.lose(&format!(
                "{}: was cut before all of it was read: bytes {size} to {} are gone",
                reading.name, reading.size
            ));
        }
        if size != reading.size {
            reading.grown = Instant::now();
        }
        reading.size = size;
        // At the very end there may be nothing more and yet something to say: of a record that is too long.
        if got == back && !last {
            return Ok(Step::End);
        }
        let is_full = got == self.buffer.len();
        let buffer = std::mem::take(&mut self.buffer);
        let used = self.store(run, reading, &buffer[..got], last && !is_full);
        self.buffer = buffer;
        match used? {
            0 if is_full && self.buffer.len() >= self.buffer_max => {
                bail!("{}: a record is longer than the stream's limit and has no end", reading.name)
            }
            0 if is_full => {
                let len = (self.buffer.len() * 2).min(self.buffer_max);
                self.buffer.resize(len, 0);
                Ok(Step::More)
            }
            0 => Ok(Step::End),
            _ => {
                if self.buffer.len() > 4 * BLOCK_BYTES {
                    self.buffer = vec![0; BLOCK_BYTES];
                }
                Ok(Step::More)
            }
        }
    }

    /// Stores the whole records of a buffer that begins with the reading's context; answers with the bytes used.
    fn store(
        &mut self,
        run: &mut Run,
        reading: &mut Reading,
        buffer: &[u8],
        last: bool,
    ) -> anyhow::Result<usize> {
        let back = reading.context.len();
        let block = &buffer[back..];
        run.records.clear();
        let decoded = reading.decoder.decode(block, last, &mut run.records);
        let used = match &decoded {
            Ok(used) => *used,
            // What stands before the break is stored.
            Err(_) => run.records.ends.last().map_or(0, |&end| end as usize),
        };
        let is_news = used > 0 || !run.records.is_empty() || !run.records.refused.is_empty();
        let cut = run.judge(&reading.name, block)?;
        // A later run must begin with the record that ends this one, or whose end has not been seen.
        let settled = match cut {
            Some(cut) => reading.position + cut as u64,
            None => reading.position + used as u64 - reading.decoder.pending(),
        };
        Self::advance(reading, buffer, used, settled);
        if is_news {
            if self.last.is_some_and(|number| number != reading.number) {
                // What is in doubt after a crash must lie in one file.
                run.producer.sync_now().with_context(|| run.context.clone())?;
            }
            self.last = Some(reading.number);
            self.table.time = (run.producer.stream().system().clock.now_us() / 1_000_000) as u64;
            if reading.offset > 0 {
                self.table.entries.insert(reading.number, reading.entry(reading.path));
                for number in reading.predecessors.drain(..) {
                    self.table.entries.remove(&number);
                }
            }
            run.store(&reading.name, block, self.table.text().as_bytes())?;
        }
        decoded.with_context(|| reading.name.clone())?;
        run.pass(&block[..used])?;
        Ok(used)
    }

    /// Moves the reading's place behind `used` bytes. All before the byte `settled` of the file is dealt with.
    fn advance(reading: &mut Reading, buffer: &[u8], used: usize, settled: u64) {
        let back = reading.context.len();
        let end = back + used;
        let missing = (PRINT_BYTES - reading.head.len()).min(used);
        reading.head.extend_from_slice(&buffer[back..back + missing]);
        if settled > reading.offset {
            reading.offset = settled;
            let len = reading.offset.min(PRINT_BYTES as u64) as usize;
            let at = back + (settled - reading.position) as usize;
            let tail = &buffer[at.saturating_sub(len)..at];
            reading.print = body::print(&reading.head[..len], tail);
        }
        reading.position += used as u64;
        reading.context = buffer[end.saturating_sub(PRINT_BYTES)..end].to_vec();
    }

    /// Reads a stretch again that an earlier run may have stored in part; `false` if it does not hold as many records
    /// as it did.
    pub(super) fn replay(
        &mut self,
        run: &mut Run,
        file: &Followed,
        (number, entry): (u64, &Entry),
        start: u64,
        body: Body,
        expected: u64,
    ) -> anyhow::Result<bool> {
        let mut reading = self.resume(run, file, number, start, body)?;
        let len = (entry.offset - start) as usize;
        let Some(window) =
            reading.body.bytes(start, len).with_context(|| format!("cannot read {}", file.shown))?
        else {
            return Ok(false);
        };
        // It is known to be the same only when all of it was cut into records.
        let mut counting = self.resume(run, file, number, start, Body::reopen(&reading.body)?)?;
        let mut records = Records::default();
        let (mut at, mut count) = (0, 0);
        while at < len {
            let used = decode_all(counting.decoder.as_mut(), &window[at..], &mut records)?;
            count += records.len() as u64;
            if used == 0 {
                return Ok(false);
            }
            at += used;
        }
        if count != expected {
            return Ok(false);
        }
        let mut buffer = reading.context.clone();
        buffer.extend_from_slice(&window);
        run.is_replaying = true;
        let outcome = self.replay_window(run, &mut reading, &buffer, entry.offset);
        run.is_replaying = false;
        outcome
    }

    /// Stores what lies in a buffer that begins with the reading's context and ends at the offset `end`.
    fn replay_window(
        &mut self,
        run: &mut Run,
        reading: &mut Reading,
        buffer: &[u8],
        end: u64,
    ) -> anyhow::Result<bool> {
        while reading.position < end {
            let at = buffer.len() - (end - reading.position) as usize;
            let rest = &buffer[at - reading.context.len()..];
            if self.store(run, reading, rest, false)? == 0 && self.store(run, reading, rest, true)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Decodes what can be decoded; where that is nothing, what there is is the last record.
fn decode_all(decoder: &mut dyn Decode, block: &[u8], records: &mut Records) -> anyhow::Result<usize> {
    for last in [false, true] {
        records.clear();
        let used = decoder.decode(block, last, records)?;
        if used > 0 {
            return Ok(used);
        }
    }
    Ok(0)
}

/// Lets a decoder read the header row, and nothing else.
fn read_header(body: &mut Body, decoder: &mut dyn Decode) -> anyhow::Result<()> {
    let mut bytes = vec![0; HEADER_BYTES_MAX];
    let got = body.read_at(&mut bytes, 0)?;
    let mut records = Records::default();
    for end in memchr::memchr_iter(b'\n', &bytes[..got]) {
        decoder.decode(&bytes[..=end], false, &mut records)?;
        if decoder.header().is_some() {
            return Ok(());
        }
    }
    bail!("its header row has no end")
}
