//! `khose --replay`: failed records into the delivery again.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use anyhow::{Context as _, anyhow};
use uuid::Uuid;

use super::deliver::{About, Parts};
use super::formats;
use super::report::Voice;
use super::target::Target;
use super::{Run, setup};
use crate::cli::Outcome;
use crate::cli::report::HintExt as _;
use crate::cli::value::show_count;
use crate::hose::cancel::Cancel;
use crate::hose::courier::{ErrorOutput, Runtime};
use crate::hose::errors::ErrorLines;
use crate::hose::ledger::{FOLDER, Ledger};
use crate::hose::name::object_id;
use crate::hose::replay::{ReplaySource, STREAM, Seen, Selection, Start};
use crate::hose::store::{Location, Store};
use crate::sys::{Locks, System};
use crate::table::Schema;

impl Run {
    /// Delivers the failed records that lie in this place.
    pub(super) fn replay(&self, source: &OsStr) -> anyhow::Result<Outcome> {
        let args = &self.args;
        let text = source.to_str().ok_or_else(|| anyhow!("{}: it is not UTF-8", source.display()))?;
        if args.follow.follow {
            return Err(anyhow!("--replay delivers what has failed so far, and does not follow"));
        }
        let slashed = if text.ends_with('/') { text.to_owned() } else { format!("{text}/") };
        let place = Location::parse(&slashed).map_err(|reason| anyhow!("error output: {reason}"))?;
        match &self.target {
            Target::Objects(location) if location.to_string() == place.to_string() => {
                return Err(anyhow!("{place}: the error output and the destination are one place"))
                    .with_hint(|| format!("{place}_errors/ for the error output"));
            }
            Target::File(..) => {
                return Err(anyhow!(
                    "{}: of one file nothing is written down, so that a replay could not be made once",
                    self.target.show()
                ));
            }
            _ => {}
        }
        let since_us = args.mode.since.map(|time| time.resolve(System::real().clock.now_us()));
        let selection = Selection::new(args.mode.error_type.clone(), since_us)
            .map_err(|reason| anyhow!("--error-type: {reason}"))?;
        let name = args.consumer.clone().unwrap_or_else(|| {
            let both = format!("{place} {}", self.target.show());
            format!("khose-{:016x}", xxhash_rust::xxh3::xxh3_64(both.as_bytes()))
        });
        let delivery = format!("{STREAM}.{name}");
        let voice = setup::voice(args);
        let Some(_lock) = self.lock(&delivery)? else {
            voice.note(text, "another khose replays it at this moment");
            return Ok(Outcome::Done);
        };
        self.replay_from(text, &place, &delivery, &selection)
    }

    fn replay_from(
        &self,
        text: &str,
        place: &Location,
        delivery: &str,
        selection: &Selection,
    ) -> anyhow::Result<Outcome> {
        let args = &self.args;
        let system = System::real();
        let id = object_id(Uuid::nil(), &place.to_string(), delivery.as_bytes());
        // The reading thread has connections of its own.
        let reading = Arc::new(Runtime::new()?);
        let failed = place.open(&self.context)?;
        let (ledger_store, destination) = match &self.target {
            Target::Objects(location) => {
                let store = location.open(&self.context)?;
                (Arc::clone(&store), Some(store))
            }
            // A service holds no ledger: it lies with the failed records.
            _ => (Arc::clone(&failed), None),
        };
        let ledger = Ledger::new(Arc::clone(&ledger_store), delivery);
        let mut ledgers: Vec<Arc<dyn Store>> = vec![Arc::clone(&failed)];
        ledgers.extend(destination.iter().cloned());
        let standing = reading.block_on(ledger.standing())?;
        // Only to learn which delivery it was: its columns are part of the settings.
        let own = format!("{}/schema.json", ledger.dir());
        let open = |fingerprint: Option<&str>| {
            ReplaySource::open(Start {
                runtime: Arc::clone(&reading),
                store: Arc::clone(&failed),
                ledger: &ledger,
                standing: &standing,
                selection: selection.clone(),
                fingerprint,
                ledgers: &ledgers,
            })
            .with_context(|| text.to_owned())
        };
        let known = match &destination {
            Some(store) if formats::infers(args)? => {
                let of = Self::delivery_of(&reading, store, || open(None)?.delivery())?;
                Some(Self::known_columns(&reading, store, of.as_deref(), &own)?)
            }
            _ => None,
        };
        let columns = known.as_ref().map(Schema::to_ddl).unwrap_or_default();
        let fingerprint = format!(
            "{:016x}",
            xxhash_rust::xxh3::xxh3_64(format!("{} {columns}", setup::fingerprint(args)).as_bytes())
        );
        let source = open(Some(&fingerprint).filter(|_| !args.mode.again).map(String::as_str))?;
        let (seen, homes) = (source.seen(), source.homes());
        let about = About {
            name: STREAM.to_owned(),
            id,
            delivery: delivery.to_owned(),
            source: None,
            consumer_dir: None,
            follow: false,
            trouble: None,
            known,
            fingerprint,
        };
        let signature = about.signature();
        let (cancel, runtime) = (Cancel::new(), Runtime::new()?);
        let parts = self.parts(&about, &signature, &system, &runtime, &cancel)?;
        // What fails again goes where it came from, unless told otherwise.
        let context = &self.context;
        let errors = setup::errors(args, context, None, &place.to_string(), &signature, delivery)?;
        let lines = ErrorLines::new(STREAM, id, delivery).with_homes(homes.clone());
        let ledger = match parts.ledger {
            Some(ledger) => ledger,
            None => Ledger::new(place.open(context)?, delivery),
        };
        let parts = Parts {
            errors: ErrorOutput { lines: Arc::new(lines), ..errors },
            ledger: Some(ledger),
            namer: parts.namer.with_homes(homes),
            ..parts
        };
        let outcome = self.run_with(about, Box::new(source), parts, runtime, cancel)?;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(tell(&seen, setup::voice(args), text, outcome))
    }

    /// The delivery whose columns count: the only one, or the one that gave up the records.
    fn delivery_of(
        runtime: &Runtime,
        store: &Arc<dyn Store>,
        told: impl FnOnce() -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<Option<String>> {
        let own = format!("{STREAM}.");
        let mut names = runtime.block_on(Ledger::names(store.as_ref()))?;
        names.retain(|name| !name.starts_with(&own));
        if names.len() == 1 {
            return Ok(names.pop());
        }
        Ok(told()?.filter(|told| names.contains(told)))
    }

    /// The columns that the delivery has, and those that replays have added.
    fn known_columns(
        runtime: &Runtime,
        store: &Arc<dyn Store>,
        delivery: Option<&str>,
        own: &str,
    ) -> anyhow::Result<Schema> {
        let theirs = match delivery {
            Some(name) => formats::known(runtime, store, &format!("{FOLDER}/{name}/schema.json"))?,
            None => Schema::default(),
        };
        let ours = formats::known(runtime, store, own)?;
        let mut columns = theirs.columns().to_vec();
        let is_new = |name: &str| theirs.columns().iter().all(|column| column.name != name);
        columns.extend(ours.columns().iter().filter(|column| is_new(&column.name)).cloned());
        // Names may differ in case only, as the two inferred them.
        Ok(Schema::new(columns).unwrap_or(theirs))
    }

    /// Held while a replay is at work on this machine; `None` where another has it. Elsewhere the ledger tells.
    fn lock(&self, delivery: &str) -> anyhow::Result<Option<Arc<dyn Locks>>> {
        let path = match &self.target {
            Target::Objects(location) if let Some(root) = location.local_path() => {
                root.join(FOLDER).join(delivery).join(".lock")
            }
            _ => state_dir()?.join(format!("{delivery}.lock")),
        };
        let dir = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        let lock = System::real().disk.create_locks(&path).with_context(|| format!("{}", path.display()))?;
        Ok(lock.try_lock(0, true)?.then_some(lock))
    }
}

/// Where locks are that belong to no place on this machine.
fn state_dir() -> anyhow::Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state =
        std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()).or_else(home);
    let state = state.context("neither XDG_STATE_HOME nor HOME is set: there is no place for a lock")?;
    Ok(state.join("kpipe"))
}

/// Tells what was seen, and how the run ended with that.
fn tell(seen: &Seen, voice: Voice, text: &str, outcome: Outcome) -> Outcome {
    let objects = |count: u64| format!("{} object{}", show_count(count), if count == 1 { "" } else { "s" });
    if seen.passed_over > 0 {
        voice.note(
            text,
            &format!("{} records were passed over, for a later run", show_count(seen.passed_over)),
        );
    }
    if seen.unfinished > 0 {
        let of = objects(seen.unfinished);
        voice.note(
            text,
            &format!("{of} of a batch that is not finished: for a run behind the one that does it again"),
        );
    }
    if seen.failed_again > 0 {
        let of = objects(seen.failed_again);
        voice.note(
            text,
            &format!(
                "{of} of records that have failed again with these options (--again tries them once more)"
            ),
        );
    }
    if seen == &Seen::default() {
        voice.note(text, "there is nothing that was not replayed before");
    }
    for fault in &seen.told {
        voice.warn("", fault);
    }
    if seen.bad > seen.told.len() as u64 {
        voice.warn(text, &format!("{} lines or objects in all are no failed records", show_count(seen.bad)));
    }
    if seen.bad > 0 && outcome == Outcome::Done { Outcome::Refused } else { outcome }
}
