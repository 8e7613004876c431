//! `kput`: read, cut into records, store, acknowledge.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::again::Place;
use super::ahead::{Ahead, Event};
use super::rejects::Rejects;
use super::source::{self, Source};
use super::store::Fatal;
use super::{Args, LimitMode, tail};
use crate::cli::meter::{Meter, Progress};
use crate::cli::output::{self, Stdout};
use crate::cli::report::{self, HintExt as _};
use crate::cli::signal::{self, Interrupted, Shutdown};
use crate::cli::value::OnError;
use crate::cli::{Outcome, stream_name};
use crate::codec::{self, Decode, InputFormat, Records};
use crate::stream::producer::limits::Limits;
use crate::stream::producer::{Producer, Sync};
use crate::stream::{Error as StreamError, NewStream, Stream};
use crate::sys::System;

/// The name under which this program speaks.
const PROGRAM: &str = "kput";

/// A record is decoded from a block that holds it whole, so the buffer must take the longest line of the format.
fn buffer_bytes(format: InputFormat, record_bytes: u64) -> usize {
    let factor = match format {
        // An envelope writes each byte of a record as up to six.
        InputFormat::Json => 6,
        InputFormat::Base64 => 2,
        _ => 1,
    };
    (record_bytes as usize).saturating_mul(factor).saturating_add(2 << 20)
}

/// Runs `kput`.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    args.check()?;
    let path = args.stream.resolve()?;
    let sync = args.sync()?;
    let system = System::real();
    let shutdown = signal::install()?;
    // Standard output stays a normal descriptor of this program; a wrong argument must not create a stream.
    let options = args.decode_options(0);
    codec::decoder(args.format(), &options).map_err(|e| anyhow!(e))?;
    let mut source = if args.whole || args.follow {
        if args.whole {
            source::look_at(&args.files)?;
        }
        None
    } else {
        Some(Source::open(
            &args.files,
            buffer_bytes(args.format(), crate::stream::RECORD_BYTES_DEFAULT),
            shutdown,
        )?)
    };
    let regular = args.whole || source.as_ref().is_some_and(Source::is_regular);
    let rejects = Rejects::new(args.on_error.action(regular && !args.follow), &path)?;
    let stream = open_stream(&system, &path, args.create)?;
    let context = stream_name::context(&path);
    let record_bytes = usize::try_from(stream.manifest().record_bytes_max).unwrap_or(usize::MAX);
    if let Some(source) = &mut source {
        source.set_limit(buffer_bytes(args.format(), stream.manifest().record_bytes_max));
    }
    let producer = Producer::open(stream, sync, args.ack).with_context(|| context.clone())?;
    let is_numbered = args.producer_position.is_some() || args.enforce_limits == Some(LimitMode::Refuse);
    let meter = meter(&args, source.as_ref().and_then(Source::total_bytes));
    let mut run = Run {
        rejects,
        out: (args.ack || args.tee).then(|| Stdout::open(false, Some(shutdown))).transpose()?,
        limits: args.enforce_limits.map(|mode| (mode, Limits::default())),
        decoder: codec::decoder(args.format(), &args.decode_options(record_bytes)).map_err(|e| anyhow!(e))?,
        records: Records { is_numbered, ..Records::default() },
        is_replaying: false,
        fatal: None,
        last_pause: None,
        args,
        producer,
        shutdown,
        meter,
        context,
        incomplete: false,
    };
    let outcome = match source {
        Some(source) => run.put_source(source),
        None if run.args.follow => tail::follow(&mut run),
        None => run.put_files(),
    };
    run.end(outcome)
}

/// Shows progress, unless what is printed on the same terminal would be written into the picture.
fn meter(args: &Args, total_bytes: Option<u64>) -> Meter {
    let mut common = args.common.clone();
    if common.progress == Progress::Auto && (args.ack || args.tee) && std::io::stdout().is_terminal() {
        common.progress = Progress::Never;
    }
    common.meter(PROGRAM, total_bytes)
}

fn open_stream(system: &System, path: &std::path::Path, create: Option<u32>) -> anyhow::Result<Stream> {
    match (Stream::open(system, path), create) {
        (Err(StreamError::NotFound { .. }), Some(shards)) => {
            let new = NewStream { shards, ..NewStream::default() };
            match Stream::create(system, path, &new) {
                // Somebody else was faster, and that is the stream then; or it is something else.
                Err(StreamError::Exists { .. }) => match Stream::open(system, path) {
                    Err(StreamError::NotFound { .. }) => Err(stream_name::unknown(path)),
                    other => other.with_context(|| stream_name::context(path)),
                },
                other => other.with_context(|| stream_name::context(path)),
            }
        }
        (Err(StreamError::NotFound { .. }), None) => Err(stream_name::unknown(path)),
        (other, _) => other.with_context(|| stream_name::context(path)),
    }
}

/// One run.
pub(super) struct Run {
    pub(super) args: Args,
    pub(super) producer: Producer,
    pub(super) rejects: Rejects,
    pub(super) shutdown: &'static Shutdown,
    pub(super) meter: Meter,
    pub(super) records: Records,
    /// What stream it is about, for errors.
    pub(super) context: stream_name::About,
    pub(super) decoder: Box<dyn Decode>,
    /// What each shard takes, where it is held to that.
    pub(super) limits: Option<(LimitMode, Limits)>,
    /// What is read was read by an earlier run, and may be stored in part.
    pub(super) is_replaying: bool,
    /// Why the run ends once what stands before it is stored.
    pub(super) fatal: Option<Fatal>,
    /// When it last waited for a shard to take more.
    pub(super) last_pause: Option<Instant>,
    /// Standard output, where it was asked for and still has a reader.
    out: Option<Stdout>,
    /// Whether something of the input was not stored, and not refused either.
    incomplete: bool,
}

impl Run {
    /// Stores standard input, or files one after the other.
    fn put_source(&mut self, mut source: Source) -> anyhow::Result<()> {
        let mut place = Place::default();
        if let Some(name) = self.args.producer.clone() {
            let resume = self.producer.claim(&name).with_context(|| self.context.clone())?;
            if self.args.producer_position.is_some() {
                if !resume.end.1.is_empty() {
                    return Err(anyhow!(
                        "producer `{name}` counted its input by itself, without --producer-position"
                    ))
                    .hint("kput --producer with another name");
                }
                self.producer.rewind();
            } else if !resume.is_fresh() {
                self.go_to(&mut source, &mut place, &name, &resume)?;
            }
        }
        let record_bytes = self.record_bytes();
        let (format, options) = (self.args.format(), self.args.decode_options(record_bytes));
        let renew = move || codec::decoder(format, &options);
        let decoder = std::mem::replace(&mut self.decoder, renew().map_err(|e| anyhow!(e))?);
        let ahead = Ahead::start(source, decoder, self.records.is_numbered, renew)?;
        loop {
            match ahead.next(self.patience()) {
                // The time for a sync has come and nothing else to do: its acknowledgements are not left waiting.
                None => {
                    self.tick()?;
                    self.idle()?;
                }
                // Nothing waits in the pipe: whoever reads the stream shall see what came so far.
                Some(Event::Idle) => self.idle()?,
                Some(Event::Block(mut block)) => {
                    self.records = std::mem::take(&mut block.records);
                    let outcome = self.take(&block, &mut place);
                    block.records = std::mem::take(&mut self.records);
                    ahead.recycle(block);
                    outcome?;
                }
                Some(Event::NextInput) => {
                    if self.args.producer.is_some() {
                        // What a later run has to hold in memory is of one input only.
                        self.producer.sync_now().with_context(|| self.context.clone())?;
                    }
                }
                Some(Event::End | Event::Interrupted) => return Ok(()),
                Some(Event::Failed(error)) => return Err(error),
            }
            self.tick()?;
        }
    }

    fn record_bytes(&self) -> usize {
        usize::try_from(self.producer.stream().manifest().record_bytes_max).unwrap_or(usize::MAX)
    }

    pub(super) fn renew_decoder(&mut self) -> anyhow::Result<()> {
        self.decoder = self.new_decoder()?;
        Ok(())
    }

    /// A decoder for the start of an input.
    pub(super) fn new_decoder(&self) -> anyhow::Result<Box<dyn Decode>> {
        codec::decoder(self.args.format(), &self.args.decode_options(self.record_bytes()))
            .map_err(|e| anyhow!(e))
    }

    /// The largest block that a record may need.
    pub(super) fn buffer_bytes(&self) -> usize {
        buffer_bytes(self.args.format(), self.record_bytes() as u64)
    }

    /// Tells at once that something of the input cannot be stored; the run goes on, and ends with status 1.
    pub(super) fn lose(&mut self, text: &str) {
        self.incomplete = true;
        self.tell(text);
    }

    /// Tells something at once.
    pub(super) fn tell(&self, text: &str) {
        self.meter.aside(|| report::say(PROGRAM, &report::printable(text), None));
    }

    pub(super) fn interrupted(&self) -> anyhow::Error {
        match self.shutdown.check() {
            Err(interrupted) => interrupted.into(),
            Ok(()) => anyhow!("interrupted"),
        }
    }

    /// How long to wait for input.
    pub(super) fn patience(&self) -> Option<Duration> {
        if self.producer.is_syncing() {
            // Somebody may wait for the acknowledgement.
            return Some(Duration::from_millis(1));
        }
        let now = self.producer.stream().system().clock.boot_us();
        self.producer.deadline_us().map(|deadline| Duration::from_micros((deadline - now).max(0) as u64))
    }

    /// There is nothing to read for the moment: what came so far becomes visible, and is acknowledged.
    pub(super) fn idle(&mut self) -> anyhow::Result<()> {
        self.producer.flush().with_context(|| self.context.clone())?;
        if self.producer.is_syncing() {
            self.producer.wait().with_context(|| self.context.clone())?;
        }
        self.tick()?;
        if let Some(out) = &mut self.out
            && let Err(error) = out.flush()
        {
            self.lost_reader(error)?;
        }
        Ok(())
    }

    /// Syncs if it is time, and prints what has been acknowledged.
    pub(super) fn tick(&mut self) -> anyhow::Result<()> {
        self.producer.tick().with_context(|| self.context.clone())?;
        self.acknowledge()
    }

    fn acknowledge(&mut self) -> anyhow::Result<()> {
        if !self.args.ack {
            return Ok(());
        }
        let mut lines = String::new();
        while let Some(acks) = self.producer.take_acks() {
            lines.clear();
            for ack in &acks {
                if let Some(sequence) = self.producer.sequence(ack) {
                    use std::fmt::Write as _;
                    let _ = writeln!(
                        lines,
                        "{{\"number\":{},\"shardId\":\"{}\",\"sequenceNumber\":\"{sequence}\"}}",
                        ack.number, ack.shard
                    );
                }
            }
            self.print(lines.as_bytes())?;
        }
        Ok(())
    }

    /// Passes input through, where that was asked for.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.args.tee { self.print(bytes) } else { Ok(()) }
    }

    fn print(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        match out.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) => self.lost_reader(error),
        }
    }

    /// Storing goes on when nobody reads what is printed about it.
    fn lost_reader(&mut self, error: std::io::Error) -> anyhow::Result<()> {
        if output::is_closed(&error) {
            self.out = None;
            return Ok(());
        }
        Err(error).context("cannot write to standard output")
    }

    /// The last steps of every run, also of one that failed: what was read before the failure is stored.
    fn end(mut self, outcome: anyhow::Result<()>) -> anyhow::Result<Outcome> {
        let finished = self.finish();
        let written = self.producer.written();
        self.meter.finish();
        if let Some((text, hint)) = self.rejects.summary()
            && !(self.args.common.quiet && self.args.on_error.on_error == Some(OnError::Skip))
        {
            report::say(PROGRAM, &report::printable(&text), hint.as_deref());
        }
        match (outcome, finished) {
            (Err(error), Ok(())) => {
                let stored = match self.args.sync {
                    Sync::None => "written",
                    _ => "stored",
                };
                match written.records + written.skipped {
                    0 => Err(error),
                    1 => Err(error.context(format!("1 record {stored} before this"))),
                    count => Err(error.context(format!("{count} records {stored} before this"))),
                }
            }
            (Err(error), Err(_)) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(())) => {
                self.shutdown.check().map_err(|interrupted: Interrupted| anyhow::Error::from(interrupted))?;
                Ok(if self.rejects.count() > 0 || self.incomplete { Outcome::Refused } else { Outcome::Done })
            }
        }
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        // First what was refused: the producer's last words are that all before them is dealt with.
        let kept = self.rejects.flush(true);
        if kept.is_ok() { self.producer.finish() } else { self.producer.sync_now() }
            .with_context(|| self.context.clone())?;
        kept?;
        self.acknowledge()?;
        if let Some(out) = &mut self.out
            && let Err(error) = out.flush()
        {
            self.lost_reader(error)?;
        }
        Ok(())
    }
}
