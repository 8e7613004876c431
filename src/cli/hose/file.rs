//! One file, written whole: a target of make.

use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use uuid::Uuid;

use super::args::HoseArgs;
use super::report::{PROGRAM, Report};
use super::{Run, formats, setup, stages, stdin};
use crate::cli::Outcome;
use crate::cli::report::HintExt;
use crate::cli::trouble::Trouble;
use crate::cli::value::{OnError, Position};
use crate::codec::InputFormat;
use crate::hose::cancel::Cancel;
use crate::hose::courier::{Reach, Runtime};
use crate::hose::delivery::{ColumnsChanged, Delivery, Parts, Settings};
use crate::hose::dest::objects::{IfSame, Objects};
use crate::hose::format::body::Scratch;
use crate::hose::gather::Hints;
use crate::hose::ledger::Standing;
use crate::hose::naming::{Namer, Signature};
use crate::hose::source::{RangeSource, Source};
use crate::hose::store::{Attributes, Location};
use crate::stream::{Stream, Until};
use crate::sys::System;
use crate::table::Schema;

impl Run {
    /// Writes one object from a range of the stream, or from standard input. Nothing is remembered.
    pub(super) fn file(
        &self,
        stream: Option<&Stream>,
        place: &Location,
        name: &str,
    ) -> anyhow::Result<Outcome> {
        let mut columns = Schema::default();
        loop {
            match self.file_of(stream.cloned(), place, name, &columns) {
                Err(error) if error.is::<ColumnsChanged>() => {
                    let Some(ColumnsChanged(changed)) = error.downcast_ref() else { return Err(error) };
                    if stream.is_none() {
                        let ddl = changed.to_ddl();
                        let error = error.context("standard input cannot be read again");
                        return Err(error).with_hint(|| format!("--schema '{ddl}'"));
                    }
                    // They only ever grow, so that this ends.
                    columns = Schema::clone(changed);
                }
                other => return other,
            }
        }
    }

    fn file_of(
        &self,
        stream: Option<Stream>,
        place: &Location,
        name: &str,
        columns: &Schema,
    ) -> anyhow::Result<Outcome> {
        let args = &self.args;
        if args.follow.follow {
            return Err(anyhow!(
                "{name} is one file, which is written whole: a following delivery needs a directory"
            ));
        }
        let system = System::real();
        let now_us = system.clock.now_us();
        let trouble = stream
            .as_ref()
            .map(|stream| Trouble::new(PROGRAM, stream, args.on_error.clone().unwrap_or(OnError::Fail)));
        let (delivery, id) = match &stream {
            Some(stream) => (stream.name().to_owned(), stream.manifest().stream_id),
            None => ("stdin".to_owned(), Uuid::new_v4()),
        };
        let (source, follow): (Box<dyn Source>, bool) = if let Some(stream) = stream {
            let from = args.from.unwrap_or(Position::TrimHorizon).start(now_us);
            (Box::new(RangeSource::open(stream, from, until(args, now_us)?)?), false)
        } else {
            let format = args.input.input.unwrap_or(InputFormat::Lines);
            (Box::new(stdin::Stdin::open(format, &system, self.shutdown)?), true)
        };
        let cancel = Cancel::new();
        let store = place.open(&self.context)?;
        let scratch = match place.local_path() {
            Some(root) => Scratch::new(&system, root),
            None => setup::scratch(&system),
        };
        let signature =
            Signature { stream: delivery.clone(), stream_id: id, delivery: delivery.clone(), version: 1 };
        let opened = formats::open_with(args, columns.clone(), Some(name))?;
        let fallback = rejects_of(place, name);
        let errors = setup::errors(args, &self.context, None, &fallback, &signature, &delivery)?;
        let namer: Namer = setup::namer(args, &signature, &opened.extension, Some(place))?.fixed(name);
        let attributes = Attributes {
            content_type: Some(opened.format.content_type().to_owned()),
            ..Attributes::default()
        };
        let same = if args.if_changed { IfSame::Keep } else { IfSame::Write };
        let destination =
            Objects::new(Arc::clone(&store), setup::policy(args), attributes, &cancel).when_same(same);
        let hints = Hints { size: u64::MAX, interval: setup::NEVER, ..setup::hints(args, &self.target) };
        let settings = Settings {
            system: system.clone(),
            stream: (delivery.clone(), id),
            name: delivery.clone(),
            follow,
            hints,
            format: Some(opened.format),
            schema: None,
            one_object: Some(name.to_owned()),
            backup: None,
            tee: self.tee()?,
            units: String::new(),
            fingerprint: String::new(),
            scratch,
        };
        let reach = Reach {
            system: system.clone(),
            destination: Box::new(destination),
            ledger: None,
            errors,
            persistent: false,
            backup: None,
            gives_up: false,
        };
        let mut report = Report {
            delivery: delivery.clone(),
            destination: self.target.show(),
            voice: setup::voice(args),
            trouble,
            meter: args.common.meter(PROGRAM, None),
            shutdown: self.shutdown,
            metrics: self.metrics.clone(),
            written: Instant::now(),
            system,
        };
        let chain = stages::chain(args, &delivery)?;
        let parts = Parts {
            chain,
            namer,
            source,
            reach,
            standing: Standing::default(),
            runtime: Runtime::new()?,
            cancel,
        };
        let delivery = Delivery::begin(settings, parts, &mut report)?;
        let metrics = delivery.run();
        report.end(metrics)
    }
}

/// Where a read ends.
pub(super) fn until(args: &HoseArgs, now_us: i64) -> anyhow::Result<Until> {
    Ok(match args.until {
        None => Until::Never,
        Some(Position::Time(time)) => Until::Time(time.resolve(now_us)),
        Some(Position::Latest) => Until::Time(now_us.saturating_add(1)),
        Some(_) => return Err(anyhow!("--until: a delivery ends at a time, or at `latest`")),
    })
}

/// Where the failed records of a file go: beside it.
pub(super) fn rejects_of(place: &Location, name: &str) -> String {
    format!("{place}{name}.errors/")
}
