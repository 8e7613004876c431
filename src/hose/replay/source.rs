//! An error output as a source of records.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use uuid::Uuid;

use super::batches::{Batches, Judged};
use super::catalog::{Catalog, Indexed};
use super::line::{FailedLine, Selection};
use crate::hose::chunk::Origin;
use crate::hose::courier::Runtime;
use crate::hose::format::compress::Compression;
use crate::hose::homes::{From, Home, Homes};
use crate::hose::ledger::{Entry, FOLDER, Ledger, Standing};
use crate::hose::source::{Incoming, Sink, Source, Step};
use crate::hose::store::{Listed, Store};
use crate::hose::track::{Among, Positions, ShardPosition};
use crate::hose::unpack::{ObjectReader, store_error, unpacked};
use crate::hose::verify::REPLAYED;
use crate::hose::verify::names::last_part;
use crate::record::ShardId;
use crate::sys::failpoint::failpoint;

/// All lines are in one shard.
const SHARD: ShardId = ShardId(0);
/// Lines are given in lots of about this size: between them the delivery looks at what is due.
const LOT_BYTES: usize = 1 << 20;
/// An object that is no larger is read once, and kept from its first reading to its second.
const KEPT_BYTES: usize = 8 << 20;
/// No line is longer: a record of 64 MiB, twice, in base64 or with every byte escaped.
const LINE_BYTES_MAX: u64 = 512 << 20;
/// So many faults are told one by one.
const TOLD_MAX: usize = 20;

/// What was seen on the way, for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Objects that were read.
    pub objects: u64,
    /// Objects of batches that are not finished.
    pub unfinished: u64,
    /// Objects of records that have failed again under these options.
    pub failed_again: u64,
    /// Records that were passed over.
    pub passed_over: u64,
    /// Lines that are no failed records, and objects that cannot be read.
    pub bad: u64,
    /// The first of these.
    pub told: Vec<String>,
}

impl Seen {
    fn bad(&mut self, lines: u64, text: String) {
        self.bad += lines;
        if self.told.len() < TOLD_MAX {
            self.told.push(text);
        }
    }
}

/// An object that is being given.
struct Open {
    object: Indexed,
    /// The next line.
    line: u64,
    text: Box<dyn BufRead>,
}

/// Reads an error output.
pub struct ReplaySource {
    runtime: Arc<Runtime>,
    store: Arc<dyn Store>,
    catalog: Catalog,
    selection: Selection,
    standing: Option<ShardPosition>,
    /// Where the batch ends that is done again.
    redo: Option<ShardPosition>,
    /// What lies there, of what is in the catalog already.
    there: HashMap<String, Listed>,
    /// What is not.
    fresh: VecDeque<Listed>,
    /// Objects of the catalog that are to be looked at.
    known: VecDeque<Indexed>,
    open: Option<Open>,
    begun: bool,
    taken_up: bool,
    paused: bool,
    homes: Homes,
    froms: HashMap<(String, Uuid, Option<String>), Arc<From>>,
    seen: Arc<Mutex<Seen>>,
    line: Vec<u8>,
}

/// What is known before anything is read.
pub struct Start<'a> {
    /// Runs what is asynchronous in the thread that reads.
    pub runtime: Arc<Runtime>,
    /// The error output.
    pub store: Arc<dyn Store>,
    /// The replay's ledger.
    pub ledger: &'a Ledger,
    /// Where it stands.
    pub standing: &'a Standing,
    /// Which records are wanted.
    pub selection: Selection,
    /// The settings, shortened: what has failed under them is left alone. None where it is not.
    pub fingerprint: Option<&'a str>,
    /// Where ledgers may be that know whether a batch is finished.
    pub ledgers: &'a [Arc<dyn Store>],
}

impl ReplaySource {
    /// Looks what there is to be replayed.
    pub fn open(start: Start<'_>) -> anyhow::Result<Self> {
        let Start { runtime, store, ledger, standing, selection, fingerprint, ledgers } = start;
        // First, so that a batch that is finished meanwhile is known to be.
        let listed = runtime.block_on(store.list("", None))?;
        let catalog = runtime.block_on(Catalog::read(ledger))?;
        let mut known = Batches::default();
        for place in ledgers {
            for name in runtime.block_on(Ledger::names(place.as_ref()))? {
                let other = Ledger::new(Arc::clone(place), &name);
                let (commits, plan) = runtime.block_on(other.since(None))?;
                let is_own = place.url(other.dir()) == ledger.store().url(ledger.dir());
                known.add(&commits, plan.as_ref(), fingerprint.filter(|_| is_own));
            }
        }
        let mut seen = Seen::default();
        let (mut there, mut fresh) = (HashMap::new(), VecDeque::new());
        for object in listed {
            if object.name.split('/').any(|part| part == FOLDER || part.starts_with('.')) {
                continue;
            }
            if catalog.get(&object.name).is_some() {
                there.insert(object.name.clone(), object);
                continue;
            }
            match known.judge(&object.name) {
                Judged::Replay => fresh.push_back(object),
                Judged::Unfinished => seen.unfinished += 1,
                Judged::FailedAgain => seen.failed_again += 1,
            }
        }
        Ok(Self {
            runtime,
            store,
            catalog,
            selection,
            standing: position(standing.last.as_ref()),
            redo: position(standing.pending.as_ref()),
            there,
            fresh,
            known: VecDeque::new(),
            open: None,
            begun: false,
            taken_up: false,
            paused: false,
            homes: Homes::new(),
            froms: HashMap::new(),
            seen: Arc::new(Mutex::new(seen)),
            line: Vec::new(),
        })
    }

    /// Where records first came from, for names and for the error output.
    pub fn homes(&self) -> Homes {
        self.homes.clone()
    }

    /// What was seen, up to now and from now on.
    pub fn seen(&self) -> Arc<Mutex<Seen>> {
        Arc::clone(&self.seen)
    }

    /// The delivery that gave up the first record that there is to be replayed.
    pub fn delivery(&self) -> anyhow::Result<Option<String>> {
        let names = self.there.values().chain(&self.fresh);
        for object in names {
            let mut text = self.text(&object.name, object.size)?;
            let mut line = Vec::new();
            if read_line(&mut text, &mut line).is_ok_and(|read| read)
                && let Ok(FailedLine { delivery: Some(delivery), .. }) =
                    FailedLine::parse(&line, &object.name)
            {
                return Ok(Some(delivery));
            }
        }
        Ok(None)
    }

    fn note(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self, name: &str, size: u64) -> io::Result<BufReader<Box<dyn Read>>> {
        let object = ObjectReader::new(&self.runtime, &self.store, name, size);
        Ok(BufReader::new(unpacked(object, compression(name))?))
    }

    /// Counts the lines of an object, and what of it is wanted. What is small is kept.
    fn survey(&self, name: &str, size: u64) -> io::Result<Survey> {
        let mut text = self.text(name, size)?;
        let mut survey = Survey { lines: 0, records: 0, wanted: 0, kept: Some(Vec::new()), reason: None };
        let mut line = Vec::new();
        while read_line(&mut text, &mut line)? {
            survey.lines += 1;
            if let Some(kept) = survey.kept.as_mut().filter(|kept| kept.len() + line.len() < KEPT_BYTES) {
                kept.extend_from_slice(&line);
                kept.push(b'\n');
            } else {
                survey.kept = None;
            }
            match FailedLine::parse(&line, name) {
                Ok(failed) => {
                    survey.records += 1;
                    survey.wanted += u64::from(self.selection.wants(&failed));
                }
                Err(reason) if !line.is_empty() => {
                    survey.reason.get_or_insert(reason);
                }
                Err(_) => {}
            }
        }
        Ok(survey)
    }

    /// Opens the next object that has something to give; `false` where there is none.
    fn next_object(&mut self, sink: &mut dyn Sink) -> anyhow::Result<bool> {
        while let Some(object) = self.known.pop_front() {
            if !(object.first..object.end()).any(|index| sink.wants(SHARD, index, None)) {
                sink.read_to(SHARD, object.end());
                continue;
            }
            let url = self.store.url(&object.name);
            let is_planned = self.redo.as_ref().is_some_and(|to| {
                (object.first..object.end().min(to.to)).any(|index| to.is_left(index, None) != Among::Yes)
            });
            match self.there.get(&object.name) {
                Some(listed) if listed.size == object.bytes => {
                    let text = self.text(&object.name, object.bytes).with_context(|| url)?;
                    self.begin_object(object, Box::new(text));
                    return Ok(true);
                }
                // Of a batch that was planned some may be delivered already.
                Some(_) if is_planned => {
                    anyhow::bail!("{url} has changed, and a batch that is not finished has records of it")
                }
                None if is_planned => {
                    anyhow::bail!("{url} is gone, and a batch that is not finished has records of it")
                }
                Some(listed) => {
                    let text = format!(
                        "{url} has changed since a part of it was replayed: it had {} bytes and has {}",
                        object.bytes, listed.size
                    );
                    self.note().bad(1, text);
                    for index in object.first..object.end() {
                        if sink.wants(SHARD, index, None) {
                            sink.leave(&line_origin(index, 0));
                        }
                    }
                    sink.read_to(SHARD, object.end());
                }
                None => sink.read_to(SHARD, object.end()),
            }
        }
        if self.redo.is_some() {
            return Ok(false);
        }
        while let Some(listed) = self.fresh.pop_front() {
            let url = self.store.url(&listed.name);
            let survey = match self.survey(&listed.name, listed.size) {
                Ok(survey) => survey,
                Err(error) if store_error(&error).is_some() => return Err(error).context(url),
                Err(error) => {
                    self.note().bad(1, format!("{url} cannot be read: {error}"));
                    continue;
                }
            };
            if survey.records == 0 {
                if let Some(reason) = survey.reason {
                    self.note().bad(1, format!("{url} has no failed records: {reason}"));
                }
                continue;
            }
            if survey.wanted == 0 {
                self.note().passed_over += survey.records;
                continue;
            }
            let object = self.catalog.add(&listed.name, listed.size, survey.lines);
            let text: Box<dyn BufRead> = match survey.kept {
                Some(kept) => Box::new(Cursor::new(kept)),
                None => Box::new(self.text(&listed.name, listed.size).with_context(|| url)?),
            };
            self.begin_object(object, text);
            return Ok(true);
        }
        Ok(false)
    }

    fn begin_object(&mut self, object: Indexed, text: Box<dyn BufRead>) {
        self.note().objects += 1;
        self.open = Some(Open { object, line: 0, text });
    }

    /// Gives some lines of the open object; `false` where there are no more.
    fn give(&mut self, open: &mut Open, sink: &mut dyn Sink) -> anyhow::Result<bool> {
        let mut bytes = 0;
        let mut line = std::mem::take(&mut self.line);
        let url = self.store.url(&open.object.name);
        while bytes < LOT_BYTES {
            if !read_line(&mut open.text, &mut line).with_context(|| url.clone())? {
                let Open { object, line, .. } = open;
                anyhow::ensure!(*line == object.lines, "{url} has {line} lines, and had {}", object.lines);
                sink.read_to(SHARD, object.end());
                return Ok(false);
            }
            anyhow::ensure!(open.line < open.object.lines, "{url} has more lines than it had");
            bytes += line.len() + 1;
            let index = open.object.first + open.line;
            open.line += 1;
            if sink.wants(SHARD, index, None) {
                self.give_line(&line, index, open, &url, sink)?;
            }
            sink.read_to(SHARD, index + 1);
        }
        self.line = line;
        Ok(true)
    }

    fn give_line(
        &mut self,
        line: &[u8],
        index: u64,
        open: &Open,
        url: &str,
        sink: &mut dyn Sink,
    ) -> anyhow::Result<()> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let failed = match FailedLine::parse(line, &open.object.name) {
            Ok(failed) => failed,
            Err(reason) => {
                // It stays: whoever mends the line, or knows a newer form, finds it.
                self.note().bad(1, format!("{url}: line {}: {reason}", open.line));
                sink.leave(&line_origin(index, 0));
                return Ok(());
            }
        };
        let is_wanted = match &self.redo {
            Some(to) => index < to.to && to.is_left(index, None) != Among::Yes,
            None => self.selection.wants(&failed),
        };
        let modified_us = self.there.get(&open.object.name).map_or(0, |listed| listed.modified_us);
        let origin = line_origin(index, failed.arrival_us.or(failed.failed_us).unwrap_or(modified_us));
        if !is_wanted {
            self.note().passed_over += 1;
            sink.leave(&origin);
            return Ok(());
        }
        if let (Some((stream, id)), Some(sequence)) = (&failed.stream, failed.sequence) {
            let from = (stream.clone(), *id, failed.delivery.clone());
            let from = self.froms.entry(from).or_insert_with_key(|(stream, id, delivery)| {
                Arc::new(From { stream: stream.clone(), stream_id: *id, delivery: delivery.clone() })
            });
            self.homes.note(index, Home { from: Arc::clone(from), sequence, sub: failed.sub });
        }
        sink.take(&Incoming {
            origin,
            key: failed.key.as_deref(),
            timestamp_us: failed.timestamp_us,
            attributes: &failed.attributes,
            payload: &failed.payload,
        })
    }
}

impl Source for ReplaySource {
    fn poll(&mut self, sink: &mut dyn Sink) -> anyhow::Result<Step> {
        if !self.begun {
            self.begun = true;
            return Ok(Step::Begun(SHARD, self.standing.clone().unwrap_or_default()));
        }
        if self.paused {
            return Ok(Step::Tail);
        }
        let open = match self.open.take() {
            Some(open) => Some(open),
            None if self.next_object(sink)? => self.open.take(),
            None => None,
        };
        let Some(mut open) = open else { return Ok(Step::Tail) };
        if self.give(&mut open, sink)? {
            self.open = Some(open);
        }
        Ok(Step::Read)
    }

    fn wait(&mut self, _most: Option<Duration>) -> anyhow::Result<()> {
        Ok(())
    }

    fn begin(&mut self, _shard: ShardId, index: u64) -> anyhow::Result<()> {
        if std::mem::replace(&mut self.taken_up, true) {
            // The batch is done again, and this is behind it.
            self.redo = None;
        }
        self.paused = false;
        self.open = None;
        self.homes.clear();
        self.known = self.catalog.objects().iter().filter(|object| object.end() > index).cloned().collect();
        Ok(())
    }

    fn pause(&mut self, _shard: ShardId) {
        self.paused = true;
        self.open = None;
    }

    fn make_durable(&mut self) -> anyhow::Result<()> {
        self.runtime.block_on(self.catalog.write())?;
        failpoint("catalog.after");
        Ok(())
    }

    fn commit(&mut self, positions: &Positions) -> anyhow::Result<()> {
        if let Some(position) = positions.get(&SHARD.0) {
            self.homes.delivered(position);
        }
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<bool> {
        // What has failed again lies there by now, and is for another run.
        Ok(false)
    }

    fn has_places(&self) -> bool {
        true
    }

    fn leave(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What an object has in it.
struct Survey {
    lines: u64,
    records: u64,
    wanted: u64,
    kept: Option<Vec<u8>>,
    /// Why the first line that is no failed record is none.
    reason: Option<String>,
}

fn line_origin(index: u64, arrival_us: i64) -> Origin {
    Origin { shard: SHARD, shard_created_s: 0, index, sub: None, arrival_us }
}

fn position(entry: Option<&Entry>) -> Option<ShardPosition> {
    entry?.positions.get(&SHARD.0).cloned()
}

/// How an object is compressed, by the end of its name.
fn compression(name: &str) -> Compression {
    let text = match last_part(name).rsplit_once('.').map(|(_, end)| end) {
        Some("gz") => "gzip",
        Some("zip") => "zip",
        Some("snappy" | "sz") => "snappy",
        Some("hsnappy") => "hadoop-snappy",
        Some("zst") => "zstd",
        Some("lz4") => "lz4",
        _ => "none",
    };
    text.parse().unwrap_or_default()
}

/// Reads a line without its end; `false` at the end.
fn read_line(text: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if text.take(LINE_BYTES_MAX).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == LINE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line that is longer than any"));
    }
    Ok(true)
}

/// The stream that a replay is named as.
pub const STREAM: &str = REPLAYED;
