//! `kput -f`: files as they grow, through rotation and restarts.
//!
//! Each followed name stands for a row of files, one after the other: what the name meant at first, what it means
//! now, and what it meant in between. Of each the stream itself keeps how far it is stored ([`table`]), in the same
//! frames as the records, so that a restart goes on exactly there. A producer's two marks leave one stretch of the
//! source in doubt; it must lie in one file, so everything is made durable before another file is read on.
//!
//! A file is known by its inode and by hashes of its first bytes and of those before its place ([`body`]); where it
//! went, and what came after it, is told by the names beside it ([`rotation`]). Events only wake: what counts is what
//! the disk says when it is looked at.

mod body;
mod names;
mod reading;
mod rotation;
mod table;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::run::Run;
use crate::cli::report::HintExt as _;
use crate::codec::Records;
use crate::stream::producer::resume::Resume;
use crate::sys::watch::Watch;
use names::{absolute, name_of, path_id};
use reading::{Reader, Reading, Step};
use rotation::After;
use table::{FILES_MAX, Table};

/// How long a renamed file is read on for, after its last growth, before its successor is begun: its writer may not
/// have seen the rename yet.
const GRACE: Duration = Duration::from_secs(1);
/// The same where its last line has no end yet.
const GRACE_UNFINISHED: Duration = Duration::from_secs(4);
/// How long it is looked at after that, for a writer that is later still.
const LINGER: Duration = Duration::from_mins(1);
/// What is read of one file before the others have their turn.
const TURN_STEPS: usize = 8;
/// How often the files are looked at when nothing wakes.
const POLL: Duration = Duration::from_secs(1);
/// The same while something is under way, or where no event can wake.
const POLL_OFTEN: Duration = Duration::from_millis(250);

/// A name that is followed.
struct Followed {
    path: PathBuf,
    shown: String,
    id: u32,
    current: Option<Reading>,
    /// Files that have had their turn, and may yet be written to by somebody who does not know.
    lingering: Vec<(Reading, Instant)>,
    /// Where it stood is gone; what comes after it was written to at this time (in seconds) or later.
    lost_since: Option<i64>,
    /// The current file is no longer what the name means; when that was seen, or when it last grew.
    leaving: Option<Instant>,
    /// Why there is nothing to read, as it was told.
    waiting: Option<String>,
}

impl Followed {
    /// Tells why there is nothing to read, once for each reason: a misspelt name would be waited for in silence.
    fn wait(&mut self, run: &Run, error: &io::Error) {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "it does not exist yet".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        if self.waiting.as_ref() != Some(&reason) {
            run.tell(&format!("waiting for {}: {reason}", self.shown));
            self.waiting = Some(reason);
        }
    }
}

/// Follows the files that were named, until a signal asks to finish.
pub(super) fn follow(run: &mut Run) -> anyhow::Result<()> {
    let mut paths = Vec::new();
    for path in &run.args.files {
        let path = absolute(path)?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    if paths.len() > FILES_MAX {
        return Err(anyhow!(
            "{} files are too many for one kput: where they stand must fit into a frame, and that is {FILES_MAX} files",
            paths.len()
        ))
        .hint("several kput -f, each with some of the files");
    }
    let name = match &run.args.producer {
        Some(name) => name.clone(),
        None => name_of(run, &paths)?,
    };
    let resume = run.producer.claim(&name).with_context(|| run.context.clone())?;
    let reader = Reader::new(run, name);
    let files = paths
        .into_iter()
        .map(|path| Followed {
            shown: path.display().to_string(),
            id: path_id(&path),
            path,
            current: None,
            lingering: Vec::new(),
            lost_since: None,
            leaving: None,
            waiting: None,
        })
        .collect();
    let mut tail = Tail { files, reader, watch: Watch::new() };
    tail.watch();
    tail.restore(run, &resume)?;
    tail.run(run)
}

struct Tail {
    files: Vec<Followed>,
    reader: Reader,
    watch: Watch,
}

impl Tail {
    /// Watches the directories that the names, and what they link to, lie in.
    fn watch(&mut self) {
        for file in &self.files {
            for path in [Some(file.path.clone()), file.path.canonicalize().ok()].into_iter().flatten() {
                if let Some(dir) = path.parent() {
                    self.watch.add(dir);
                }
            }
        }
    }

    fn run(&mut self, run: &mut Run) -> anyhow::Result<()> {
        while !run.shutdown.requested() {
            let mut files = std::mem::take(&mut self.files);
            let mut moved = false;
            for file in &mut files {
                moved |= self.turn(run, file)?;
                run.tick()?;
            }
            if let Some(news) = run.rejects.news() {
                run.tell(&news);
            }
            self.files = files;
            if !moved {
                run.idle()?;
                self.wait(run)?;
            }
        }
        Ok(())
    }

    fn wait(&mut self, run: &Run) -> anyhow::Result<()> {
        let busy = self.files.iter().any(|file| file.leaving.is_some() || file.current.is_none());
        let poll = if busy || self.watch.is_blind() { POLL_OFTEN } else { POLL };
        let patience = run.patience().map_or(poll, |patience| patience.min(poll));
        self.watch.wait(patience, Some(run.shutdown.fd())).context("cannot wait for the files")?;
        Ok(())
    }

    /// Reads one name on; says whether there was something to do.
    fn turn(&mut self, run: &mut Run, file: &mut Followed) -> anyhow::Result<bool> {
        let mut moved = self.turn_lingering(run, file)?;
        if file.current.is_none() && !self.open_next(run, file, None)? {
            return Ok(moved);
        }
        let Some(mut current) = file.current.take() else { return Ok(moved) };
        for _ in 0..TURN_STEPS {
            match self.reader.read_on(run, &mut current)? {
                Step::More => moved = true,
                Step::End => return Ok(self.at_end(run, file, current)? || moved),
                Step::Replaced => {
                    file.current = self.replaced(run, file, &current);
                    return Ok(true);
                }
            }
            if run.shutdown.requested() {
                break;
            }
        }
        file.current = Some(current);
        Ok(true)
    }

    /// Looks whether somebody still wrote to files that were left.
    fn turn_lingering(&mut self, run: &mut Run, file: &mut Followed) -> anyhow::Result<bool> {
        let mut moved = false;
        for (mut reading, until) in std::mem::take(&mut file.lingering) {
            let step = loop {
                match self.reader.read_on(run, &mut reading)? {
                    Step::More => moved = true,
                    other => break other,
                }
            };
            if step == Step::End && reading.may_grow() && until > Instant::now() {
                file.lingering.push((reading, until));
            } else {
                self.reader.finish(run, &mut reading)?;
                self.forget(file, reading.number);
            }
        }
        Ok(moved)
    }

    /// All of the current file is read. Goes to the next one if its name means another file by now; says whether it
    /// did.
    fn at_end(&mut self, run: &mut Run, file: &mut Followed, mut current: Reading) -> anyhow::Result<bool> {
        let is_live = std::fs::metadata(&file.path).is_ok_and(|meta| {
            use std::os::unix::fs::MetadataExt;
            (meta.dev(), meta.ino()) == (current.body.dev, current.body.ino)
        });
        let next = if is_live { None } else { Self::next_of(file, &current) };
        let Some(next) = next else {
            file.leaving = None;
            file.current = Some(current);
            return Ok(false);
        };
        // Only what was renamed last can still have a writer.
        if next.age == rotation::Age::Live && current.may_grow() {
            let grace = if current.is_unfinished() { GRACE_UNFINISHED } else { GRACE };
            let seen = *file.leaving.get_or_insert_with(Instant::now);
            if seen.max(current.grown).elapsed() < grace {
                file.current = Some(current);
                return Ok(false);
            }
        }
        self.reader.finish(run, &mut current)?;
        file.leaving = None;
        self.open_next(run, file, Some(&current))?;
        if file.current.is_none() {
            file.current = Some(current);
            return Ok(false);
        }
        if current.may_grow() {
            file.lingering.push((current, Instant::now() + LINGER));
            if self.reader.table.entries.len() > FILES_MAX {
                let (oldest, _) = file.lingering.remove(0);
                self.forget(file, oldest.number);
            }
        } else {
            self.forget(file, current.number);
        }
        Ok(true)
    }

    /// Takes a file out of the table that was read to its end. It stays there while nothing is known of the file behind
    /// it but its name: after a restart that file is found from this one.
    fn forget(&mut self, file: &mut Followed, number: u64) {
        match &mut file.current {
            Some(current) if current.offset > 0 => _ = self.reader.table.entries.remove(&number),
            Some(current) => current.predecessors.push(number),
            None => {}
        }
    }

    fn next_of(file: &Followed, current: &Reading) -> Option<rotation::Sibling> {
        let list = rotation::siblings(&file.path);
        let except: Vec<_> = file.lingering.iter().map(|(r, _)| (r.body.dev, r.body.ino)).collect();
        if list.iter().any(|sibling| sibling.is(&current.body)) {
            return rotation::next(&list, &After::File(&current.body), &except);
        }
        // It was compressed, or removed, while it was open here.
        let entry = current.entry(file.id);
        let found = if entry.offset > 0 { rotation::locate(&file.path, &entry, None) } else { None };
        let body = found.as_ref().unwrap_or(&current.body);
        rotation::next(&rotation::siblings(&file.path), &After::File(body), &except)
    }

    /// Opens what comes after `current`, or what is to be read first; says whether there is such a file.
    fn open_next(
        &mut self,
        run: &mut Run,
        file: &mut Followed,
        current: Option<&Reading>,
    ) -> anyhow::Result<bool> {
        let except: Vec<_> = file.lingering.iter().map(|(r, _)| (r.body.dev, r.body.ino)).collect();
        let next = match (current, file.lost_since) {
            (Some(current), _) => Self::next_of(file, current),
            (None, Some(time)) => {
                rotation::next(&rotation::siblings(&file.path), &After::Time(time), &except)
            }
            (None, None) => rotation::siblings(&file.path)
                .into_iter()
                .find(|s| s.age == rotation::Age::Live && !except.contains(&(s.dev, s.ino))),
        };
        let Some(next) = next else {
            if current.is_none() {
                match std::fs::metadata(&file.path) {
                    Ok(meta) if meta.is_file() => {}
                    Ok(_) => file.wait(run, &io::Error::other("it is not a regular file")),
                    Err(error) => file.wait(run, &error),
                }
            }
            return Ok(false);
        };
        let body = match next.open() {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(false),
            Err(error) => {
                file.wait(run, &error);
                return Ok(false);
            }
        };
        if next.is_unreadable() {
            run.lose(&format!(
                "{}: is compressed in a way that kput does not read: it was left out",
                next.path.display()
            ));
        }
        let reading = self.reader.begin(run, file, body, next.is_unreadable())?;
        file.current = Some(reading);
        file.lost_since = None;
        file.waiting = None;
        self.watch();
        Ok(true)
    }

    /// The current file was truncated, or overwritten, in its place. If it was copied before, the rest of it is read
    /// from the copy.
    fn replaced(&mut self, run: &mut Run, file: &Followed, current: &Reading) -> Option<Reading> {
        let entry = current.entry(file.id);
        let own = (current.body.dev, current.body.ino);
        let copy = if entry.offset > 0 { rotation::locate(&file.path, &entry, Some(own)) } else { None };
        if let Some(body) = copy {
            match self.reader.resume(run, file, current.number, entry.offset, body) {
                Ok(reading) => return Some(reading.finished()),
                Err(error) => run.lose(&format!("{}: cannot read its copy: {error:#}", file.shown)),
            }
        }
        if current.size > current.offset {
            run.lose(&format!(
                "{}: was truncated before all of it was read: bytes {} to {} are in no copy beside it",
                file.shown, current.offset, current.size
            ));
        }
        self.reader.table.entries.remove(&current.number);
        None
    }

    /// Finds the files where an earlier run left them, and stores what it had not stored whole.
    fn restore(&mut self, run: &mut Run, resume: &Resume) -> anyhow::Result<()> {
        let reading = self.reader.table.reading;
        let name = self.reader.name.clone();
        let [begin, end] = [&resume.begin, &resume.end].map(|(ordinal, mark)| {
            if *ordinal == 0 && mark.is_empty() {
                Some(Table { reading, ..Table::default() })
            } else {
                Table::parse(mark)
            }
        });
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(anyhow!("producer `{name}` was used for something other than following files"))
                .hint("kput -f --producer with another name");
        };
        if begin.reading != reading || end.reading != reading {
            return Err(anyhow!("producer `{name}` followed with other options for format or key"))
                .hint("kput -f with the options of the first run, or --producer with another name");
        }
        self.reader.next_number = end.entries.keys().chain(begin.entries.keys()).max().map_or(0, |n| n + 1);
        self.reader.table = Table { time: end.time, ..begin.clone() };
        self.replay(run, resume, &begin, &end)?;
        self.reader.table = end;
        let ids: Vec<u32> = self.files.iter().map(|file| file.id).collect();
        self.reader.table.entries.retain(|_, entry| ids.contains(&entry.path));
        let mut files = std::mem::take(&mut self.files);
        for file in &mut files {
            self.restore_file(run, file)?;
        }
        self.files = files;
        Ok(())
    }

    fn restore_file(&mut self, run: &mut Run, file: &mut Followed) -> anyhow::Result<()> {
        let entries: Vec<_> = self
            .reader
            .table
            .entries
            .iter()
            .filter(|(_, e)| e.path == file.id)
            .map(|(n, e)| (*n, *e))
            .collect();
        for (i, (number, entry)) in entries.iter().enumerate() {
            let is_last = i + 1 == entries.len();
            if let Some(body) = rotation::locate(&file.path, entry, None) {
                let in_place = rotation::siblings(&file.path)
                    .iter()
                    .any(|s| s.is(&body) && s.age == rotation::Age::Live);
                let is_copy = (body.dev, body.ino) != (entry.dev, entry.ino) && !in_place;
                let mut reading = self.reader.resume(run, file, *number, entry.offset, body)?;
                if is_copy {
                    reading = reading.finished();
                }
                if is_last {
                    file.current = Some(reading);
                } else {
                    file.lingering.push((reading, Instant::now() + LINGER));
                }
                continue;
            }
            self.reader.table.entries.remove(number);
            if is_last {
                file.lost_since = Some(self.reader.table.time as i64);
                run.lose(&format!(
                    "{}: the file that was read up to byte {} is gone; what it held behind that was not stored",
                    file.shown, entry.offset
                ));
            }
        }
        Ok(())
    }

    /// Stores what an earlier run may have stored in part: it is read again, and the producer leaves out what is
    /// there.
    fn replay(&mut self, run: &mut Run, resume: &Resume, begin: &Table, end: &Table) -> anyhow::Result<()> {
        let expected = resume.end.0 - resume.begin.0;
        if expected == 0 {
            return Ok(());
        }
        let from = |number: &u64| begin.entries.get(number).map_or(0, |entry| entry.offset);
        let advanced: Vec<_> = end.entries.iter().filter(|(number, e)| e.offset > from(number)).collect();
        let mut doubt = Vec::new();
        let mut done = false;
        for &(number, entry) in &advanced {
            let start = from(number);
            let file = self.files.iter().find(|file| file.id == entry.path);
            let Some(file) = file else {
                return Err(anyhow!(
                    "producer `{}` followed a file that is not named now, and part of it may not be stored",
                    self.reader.name
                ))
                .hint("kput -f with the files of the first run, once");
            };
            let body = rotation::locate(&file.path, entry, None);
            if let (Some(body), 1) = (body, advanced.len()) {
                done = self.reader.replay(run, file, (*number, entry), start, body, expected)?;
            }
            doubt.push(format!("bytes {start} to {} of {}", entry.offset, file.shown));
        }
        if done {
            return Ok(());
        }
        run.lose(&format!(
            "what an earlier run had read last is gone, and may be stored in part: {}",
            doubt.join(", ")
        ));
        run.producer.pass_over();
        let mark = end.text();
        run.producer
            .put_marked(&[], &Records::default(), mark.as_bytes())
            .and_then(|()| run.producer.sync_now())
            .and_then(|()| run.producer.tell_place())
            .with_context(|| run.context.clone())
    }
}
