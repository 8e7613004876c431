//! Delivering from a stream, or from standard input.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use uuid::Uuid;

use super::report::{PROGRAM, Report};
use super::target::Target;
use super::{Run, file, formats, setup, stages, stdin};
use crate::cli::args::StreamArg;
use crate::cli::patience::Waiting;
use crate::cli::trouble::Trouble;
use crate::cli::value::{OnError, Position};
use crate::cli::{Outcome, about, put, stream_name};
use crate::codec::InputFormat;
use crate::codec::envelope::EnvelopeEncoder;
use crate::hose::cancel::Cancel;
use crate::hose::courier::{CourierError, ErrorOutput, Reach, Runtime};
use crate::hose::delivery::{self, Backup, Delivery, Settings};
use crate::hose::dest::objects::Objects;
use crate::hose::dest::{DeliveryError, Destination};
use crate::hose::format::Format;
use crate::hose::format::body::Scratch;
use crate::hose::ledger::{FOLDER, Ledger, Standing};
use crate::hose::naming::Signature;
use crate::hose::source::{Busy, Source, StreamSource};
use crate::hose::store::{Attributes, Location};
use crate::stream::{Consumer, NewStream, Stream};
use crate::sys::System;
use crate::table::Schema;

impl Run {
    /// Delivers a stream under its consumer's name.
    pub(super) fn stream(&self, source: &OsStr, many: bool) -> anyhow::Result<Outcome> {
        let stream = about::open_to_read(&StreamArg { stream: source.to_owned() })?;
        let path = stream.path().to_owned();
        self.deliver(&stream, many, None).with_context(|| stream_name::context(&path))
    }

    /// `filled` says that what fills the stream has ended, and the delivery with it.
    fn deliver(
        &self,
        stream: &Stream,
        _many: bool,
        filled: Option<Arc<AtomicBool>>,
    ) -> anyhow::Result<Outcome> {
        if let Target::File(place, name) = &self.target {
            return self.file(Some(stream), place, name);
        }
        let args = &self.args;
        let now_us = stream.system().clock.now_us();
        let name = self.consumer();
        let from = args.from.unwrap_or(Position::TrimHorizon);
        let until = file::until(args, now_us)?;
        let waiting = Arc::new(Waiting { program: PROGRAM, shutdown: self.shutdown });
        let consumer = Consumer::open_or_create(stream, &name, from.start(now_us), Some(waiting))?;
        let dir = consumer.dir().to_owned();
        let follow = args.follow.follow || filled.is_some();
        let joined = StreamSource::join(consumer, stream.clone(), follow, until, self.shutdown.fd());
        let source = match joined {
            Err(error) if error.is::<Busy>() => {
                setup::voice(args).note(stream.name(), &error.to_string());
                return Ok(Outcome::Done);
            }
            other => other?,
        };
        let source = match filled {
            Some(filled) => source.until_filled(filled),
            None => source,
        };
        let trouble = Trouble::new(PROGRAM, stream, args.on_error.clone().unwrap_or(OnError::Reject(None)));
        let about = About {
            name: stream.name().to_owned(),
            id: stream.manifest().stream_id,
            delivery: format!("{}.{name}", stream.name()),
            source: Some(stream.clone()),
            consumer_dir: Some(&dir),
            follow,
            trouble: Some(trouble),
            known: None,
            fingerprint: setup::fingerprint(args),
        };
        self.go(about, Box::new(source))
    }

    /// Delivers standard input.
    pub(super) fn stdin(&self) -> anyhow::Result<Outcome> {
        let system = System::real();
        let format = self.args.input.input.unwrap_or(InputFormat::Lines);
        if let Target::File(place, name) = &self.target {
            return self.file(None, place, name);
        }
        if let Some(spool) = &self.args.input.spool {
            return self.spooled(spool, format, &system);
        }
        let mut source = stdin::Stdin::open(format, &system, self.shutdown)?;
        let from = source.origin_of_first()?;
        if !source.has_places() {
            let text = "what is read and not delivered yet is lost when the program is killed, and a second run delivers \
                        again what is read again (--spool keeps it first)";
            setup::voice(&self.args).note("", text);
        }
        let about = About {
            delivery: format!("{}.{}", from.as_ref().map_or("stdin", |from| &from.0), self.consumer()),
            id: from.as_ref().map_or_else(Uuid::new_v4, |from| from.1),
            name: from.map_or_else(|| "stdin".to_owned(), |from| from.0),
            source: None,
            consumer_dir: None,
            follow: true,
            trouble: None,
            known: None,
            fingerprint: setup::fingerprint(&self.args),
        };
        self.go(about, Box::new(source))
    }

    /// Puts standard input into a stream of its own, and delivers that.
    fn spooled(&self, spool: &OsStr, format: InputFormat, system: &System) -> anyhow::Result<Outcome> {
        let arg = StreamArg { stream: spool.to_owned() };
        let path = arg.resolve()?;
        let stream = match Stream::open(system, &path) {
            Err(crate::stream::Error::NotFound { .. }) => {
                Stream::create(system, &path, &NewStream::default())
                    .with_context(|| stream_name::context(&path))?
            }
            other => other.with_context(|| stream_name::context(&path))?,
        };
        let words = ["kput", "--quiet", "--progress=never", "-i", format.name(), "--"];
        let words = words.into_iter().map(OsString::from).chain([path.clone().into_os_string()]);
        let put = put::Args::try_parse_from(words)?;
        let filled = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let theirs = Arc::clone(&filled);
            let putting = scope.spawn(move || {
                let outcome = put::run(put);
                theirs.store(true, Ordering::SeqCst);
                outcome
            });
            let delivered =
                self.deliver(&stream, false, Some(filled)).with_context(|| stream_name::context(&path));
            let put = putting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What is in the spool is safe, and the next run delivers it.
            match (put, delivered) {
                (Err(error), _) | (Ok(_), Err(error)) => Err(error),
                (Ok(put), Ok(delivered)) => Ok(super::worse(put, delivered)),
            }
        })
    }

    /// Where what is read is passed on.
    pub(super) fn tee(&self) -> anyhow::Result<Option<Box<dyn std::io::Write>>> {
        if !self.args.tee {
            return Ok(None);
        }
        let out = crate::cli::output::Stdout::open(self.args.follow.follow, Some(self.shutdown));
        Ok(Some(Box::new(out.context("standard output")?)))
    }

    /// The consumer's name: given, or made of the destination.
    pub(super) fn consumer(&self) -> String {
        self.args.consumer.clone().unwrap_or_else(|| {
            let mut place = self.target.identity();
            place.extend(self.args.service.index.iter().map(|index| format!(" {index}")));
            format!("khose-{:016x}", xxhash_rust::xxh3::xxh3_64(place.as_bytes()))
        })
    }

    fn go(&self, about: About<'_>, source: Box<dyn Source>) -> anyhow::Result<Outcome> {
        let signature = about.signature();
        let (cancel, runtime) = (Cancel::new(), Runtime::new()?);
        let parts = self.parts(&about, &signature, &System::real(), &runtime, &cancel)?;
        self.run_with(about, source, parts, runtime, cancel)
    }

    /// Delivers what a source gives, with the parts of its destination.
    pub(super) fn run_with(
        &self,
        about: About<'_>,
        source: Box<dyn Source>,
        parts: Parts,
        runtime: Runtime,
        cancel: Cancel,
    ) -> anyhow::Result<Outcome> {
        let args = &self.args;
        let system = System::real();
        let signature = about.signature();
        let ledger = parts.ledger.filter(|_| source.has_places());
        let standing = match &ledger {
            Some(ledger) => runtime.block_on(ledger.standing())?,
            None => Standing::default(),
        };
        if let Some(other) =
            standing.last.iter().chain(&standing.pending).find(|other| other.stream_id != about.id)
        {
            return Err(anyhow!(
                "{}: another stream `{}` ({}) was delivered there under this name; this one is {}",
                self.target.show(),
                other.stream,
                other.stream_id,
                about.id
            ));
        }
        let reach = Reach {
            system: system.clone(),
            destination: parts.destination,
            ledger,
            errors: parts.errors,
            persistent: about.follow && about.trouble.is_some(),
            backup: setup::backup(args, &self.context, &signature)?,
            gives_up: args.objects.errors.is_some() || args.objects.backup.is_some(),
        };
        let settings = Settings {
            system: system.clone(),
            stream: (about.name.clone(), about.id),
            name: about.delivery.clone(),
            follow: about.follow,
            hints: setup::hints(args, &self.target),
            format: parts.format,
            schema: parts.schema,
            one_object: None,
            backup: args
                .objects
                .backup
                .as_ref()
                .filter(|text| text.starts_with("all="))
                .map(|_| Backup::new(EnvelopeEncoder::new(&about.name, about.id), parts.scratch.clone())),
            tee: self.tee()?,
            units: setup::units(args),
            fingerprint: about.fingerprint,
            scratch: parts.scratch,
        };
        let mut report = Report {
            delivery: about.name.clone(),
            destination: self.target.show(),
            voice: setup::voice(args),
            trouble: about.trouble,
            meter: args.common.meter(PROGRAM, None),
            shutdown: self.shutdown,
            metrics: self.metrics.clone(),
            written: Instant::now(),
            system,
        };
        let chain = stages::chain(args, &about.name)?;
        let namer = parts.namer;
        let parts = delivery::Parts { chain, namer, source, reach, standing, runtime, cancel };
        let delivery = Delivery::begin(settings, parts, &mut report)?;
        match delivery.run() {
            // Whoever read standard output has had enough: a normal end.
            Err(error) if error.chain().any(is_closed) => Ok(Outcome::Done),
            metrics => report.end(metrics),
        }
    }

    /// What depends on the destination.
    pub(super) fn parts(
        &self,
        about: &About<'_>,
        signature: &Signature,
        system: &System,
        runtime: &Runtime,
        cancel: &Cancel,
    ) -> anyhow::Result<Parts> {
        match &self.target {
            Target::Objects(location) => {
                self.object_parts(about, signature, system, runtime, cancel, location)
            }
            Target::Service(service, url) => {
                self.service_parts(about, signature, system, cancel, *service, url)
            }
            Target::Stream(name) => self.stream_parts(about, signature, system, cancel, name),
            Target::Stdout => self.stdout_parts(about, signature, system, cancel, runtime),
            Target::File(..) => Err(anyhow!("{}: one file is written whole", self.target.show())),
        }
    }

    fn object_parts(
        &self,
        about: &About<'_>,
        signature: &Signature,
        system: &System,
        runtime: &Runtime,
        cancel: &Cancel,
        location: &Location,
    ) -> anyhow::Result<Parts> {
        let args = &self.args;
        let store = location.open(&self.context)?;
        let ledger = Ledger::new(Arc::clone(&store), &about.delivery);
        let schema = format!("{}/schema.json", ledger.dir());
        let opened = match &about.known {
            Some(known) => formats::open_with(args, known.clone(), None)?,
            None => formats::open(args, Some((runtime, &store, &schema)), None)?,
        };
        let scratch = match location.local_path() {
            Some(root) => {
                let dir = root.join(FOLDER).join(&about.delivery).join(".tmp");
                std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
                sweep(&dir);
                Scratch::new(system, &dir)
            }
            None => setup::scratch(system),
        };
        let errors =
            setup::errors(args, &self.context, Some((location, &store)), "", signature, &about.delivery)?;
        let namer = setup::namer(args, signature, &opened.extension, Some(location))?;
        let attributes = Attributes {
            content_type: Some(opened.format.content_type().to_owned()),
            ..Attributes::default()
        };
        let destination = Box::new(Objects::new(store, setup::policy(args), attributes, cancel));
        Ok(Parts {
            destination,
            ledger: Some(ledger),
            errors,
            namer,
            schema: opened.inferred.then_some(schema),
            format: Some(opened.format),
            scratch,
        })
    }
}

fn is_closed(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(CourierError::Delivery(DeliveryError::Closed)))
        || matches!(error.downcast_ref(), Some(DeliveryError::Closed))
}

/// What a killed run left of the objects that it was writing. Who holds the consumer's lock is alone here.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// Whose records are delivered.
pub(super) struct About<'a> {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) delivery: String,
    /// The stream, where it is one.
    pub(super) source: Option<Stream>,
    /// Where a consumer's own files lie.
    pub(super) consumer_dir: Option<&'a Path>,
    pub(super) follow: bool,
    pub(super) trouble: Option<Trouble>,
    /// What is known of the columns, where they are inferred and not kept by an earlier run of this delivery.
    pub(super) known: Option<Schema>,
    /// What the settings are beside the arguments.
    pub(super) fingerprint: String,
}

impl About<'_> {
    /// As it stands in names.
    pub(super) fn signature(&self) -> Signature {
        let (stream, delivery) = (self.name.clone(), self.delivery.clone());
        Signature { stream, stream_id: self.id, delivery, version: 1 }
    }
}

/// What depends on the destination.
pub(super) struct Parts {
    pub(super) destination: Box<dyn Destination>,
    pub(super) ledger: Option<Ledger>,
    pub(super) errors: ErrorOutput,
    pub(super) namer: crate::hose::naming::Namer,
    pub(super) format: Option<Arc<dyn Format>>,
    /// Where an inferred schema is kept.
    pub(super) schema: Option<String>,
    pub(super) scratch: Scratch,
}
