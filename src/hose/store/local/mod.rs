//! A directory as a store.
//!
//! # What is promised
//!
//! An object is written under a name that begins with a dot, made durable, and only then given its own name, in one
//! step; the directory is made durable behind it, and so is every directory above that was made for it. Who reads the
//! directory at any moment, after a loss of power too, finds each object whole or not at all.
//!
//! # Who else is on the machine
//!
//! The directory itself is the user's word, and links on the way to it are followed. Below it nothing is: a directory
//! that is a symbolic link is refused, and a link in an object's place is replaced, never written through. Otherwise
//! whoever may write in some directory of the destination could choose a file of the user's anywhere to be overwritten.
//! Directories are entered one by one and held open, so that exchanging one meanwhile gains nothing. Modes are what the
//! umask makes of them.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::super::format::body::Body;
use super::context::blocking;
use super::{Attributes, Listed, PutMode, Store, StoreError, check_name};
use crate::sys::failpoint::failpoint;
use crate::sys::{Dir, Kind, System};

/// Bytes that are copied or compared at a time.
const COPY_BYTES: usize = 1 << 20;
/// Linux takes no longer name for one file.
const PART_BYTES_MAX: usize = 255;
/// The directories that are known to be durable are forgotten when they are so many: it costs a sync to learn it again.
const SETTLED_MAX: usize = 65_536;
/// What begins like this and ends in `.tmp` is an object that is being written.
const TEMPORARY: &str = ".khose-";
/// What is older than this was left by a process that was killed: no object takes so long to copy.
const LEFT_BEHIND_US: i64 = 24 * 3600 * 1_000_000;

/// Objects are the files below a directory. Names that begin with a dot, in any of their parts, are not seen.
#[derive(Clone)]
pub struct LocalStore(Arc<Inner>);

struct Inner {
    system: System,
    root: PathBuf,
    /// Directories whose names, and those above them, are known to be durable.
    settled: Mutex<HashSet<String>>,
}

/// Where an object lies: its directory, held open, and its last name.
struct Place {
    dir: Dir,
    path: PathBuf,
}

impl LocalStore {
    /// The store below `root`, which is made when the first object is put.
    pub fn new(system: &System, root: &Path) -> Self {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self(Arc::new(Inner { system: system.clone(), root, settled: Mutex::default() }))
    }

    /// Runs on a thread that may wait for the disk.
    fn with<'a, T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Inner, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let (inner, name) = (self.0.clone(), name.to_owned());
        Box::pin(blocking(move || work(&inner, &name)))
    }
}

impl Inner {
    fn shown(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    fn error(&self, name: &str, error: &io::Error) -> StoreError {
        let (name, reason) = (self.shown(name), error.to_string());
        match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound { name },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::Denied { name, reason }
            }
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::ResourceBusy
            | io::ErrorKind::StaleNetworkFileHandle => StoreError::Transient { name, reason },
            _ => StoreError::Permanent { name, reason },
        }
    }

    fn check(&self, name: &str) -> Result<(), StoreError> {
        check_local_name(name).map_err(|reason| StoreError::Permanent {
            name: self.shown(&name.trim_start_matches('/').escape_debug().to_string()),
            reason,
        })
    }

    /// Enters the directory of an object.
    fn place(&self, name: &str, make: bool) -> Result<Place, StoreError> {
        self.check(name)?;
        let (dir, last) = name.rsplit_once('/').unwrap_or(("", name));
        let dir = self.enter(dir, make)?;
        Ok(Place { path: dir.path().join(last), dir })
    }

    /// Enters a directory; with `make` it is there afterwards, durably.
    fn enter(&self, dir: &str, make: bool) -> Result<Dir, StoreError> {
        let disk = &self.system.disk;
        let is_new = make && self.is_unsettled("");
        if is_new {
            self.make_root().map_err(|error| self.error("", &error))?;
        }
        let mut here = disk.descend(&self.root, ".", false).map_err(|error| self.error("", &error))?;
        if is_new {
            self.settle("", &here);
        }
        for (end, part) in parts(dir) {
            let so_far = &dir[..end];
            let below = disk.descend(here.path(), part, make).map_err(|error| match error.kind() {
                io::ErrorKind::NotADirectory => match disk.stat(&here.path().join(part)) {
                    Ok(stat) if stat.kind == Kind::Link => StoreError::Permanent {
                        name: self.shown(so_far),
                        reason: "a symbolic link, and below a destination none is followed".to_owned(),
                    },
                    // Without `make`: what lies below a file is not there.
                    _ if !make => StoreError::NotFound { name: self.shown(dir) },
                    _ => self.error(so_far, &error),
                },
                _ => self.error(so_far, &error),
            })?;
            if make && self.is_unsettled(so_far) {
                self.sync_dir(here.path()).map_err(|error| self.error(so_far, &error))?;
                self.settle(so_far, &below);
            }
            here = below;
        }
        Ok(here)
    }

    /// Makes the root and what is missing above it.
    fn make_root(&self) -> io::Result<()> {
        let disk = &self.system.disk;
        let missing: Vec<&Path> = self.root.ancestors().take_while(|dir| !disk.exists(dir)).collect();
        for dir in missing.into_iter().rev() {
            match disk.create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => disk.sync_dir(dir.parent().unwrap_or(Path::new("/")))?,
            }
        }
        // Whoever made it may have been killed before its name was durable.
        self.root.parent().map_or(Ok(()), |above| self.sync_dir(above))
    }

    /// Makes the names in a directory durable. One that may not be read is another's: its names are not ours to make.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.system.disk.sync_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        }
    }

    fn is_unsettled(&self, dir: &str) -> bool {
        !self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(dir)
    }

    /// Notes that a directory is durable, and removes what killed processes left in it.
    fn settle(&self, dir: &str, held: &Dir) {
        {
            let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
            if settled.len() >= SETTLED_MAX {
                settled.clear();
            }
            settled.insert(dir.to_owned());
        }
        let System { disk, clock } = &self.system;
        let old = clock.now_us() - LEFT_BEHIND_US;
        for name in disk.list(held.path()).unwrap_or_default() {
            let path = held.path().join(&name);
            let is_left = name.starts_with(TEMPORARY)
                && name.strip_suffix(".tmp").is_some()
                && disk.stat(&path).is_ok_and(|stat| stat.kind == Kind::File && stat.modified_us < old);
            if is_left {
                let _ = disk.remove(&path);
            }
        }
    }

    fn put(&self, name: &str, body: &Body, mode: PutMode) -> Result<(), StoreError> {
        failpoint("store.put.before");
        let place = self.place(name, true)?;
        let taken = || StoreError::AlreadyExists { name: self.shown(name) };
        match mode {
            PutMode::Overwrite => self.replace(&place, body).map_err(|error| self.error(name, &error))?,
            PutMode::Create => match self.create(&place, body) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !self.is_same(&place, body).map_err(|error| self.error(name, &error))? {
                        return Err(taken());
                    }
                }
                other => other.map_err(|error| self.error(name, &error))?,
            },
        }
        failpoint("store.put.named");
        self.system.disk.sync_dir(place.dir.path()).map_err(|error| self.error(name, &error))?;
        failpoint("store.put.after");
        Ok(())
    }

    fn replace(&self, place: &Place, body: &Body) -> io::Result<()> {
        if let Body::File(file, _) = body {
            // Such an error is final whatever its kind: the kernel tells of it once, a second sync finds nothing wrong.
            file.file
                .sync_data()
                .map_err(|error| io::Error::other(format!("the disk has lost it: {error}")))?;
            match file.rename(&place.path) {
                // Another file system, or an attempt before this one has given it its name already.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::NotFound) => {}
                other => return other,
            }
        }
        self.written(place, body, |temporary| self.system.disk.rename(temporary, &place.path))
    }

    fn create(&self, place: &Place, body: &Body) -> io::Result<()> {
        self.written(place, body, |temporary| self.system.disk.rename_new(temporary, &place.path))
    }

    /// Writes a body under a hidden name, durably, for `name_it` to give it its own.
    fn written(
        &self,
        place: &Place,
        body: &Body,
        name_it: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let disk = &self.system.disk;
        let temporary = place.dir.path().join(format!("{TEMPORARY}{}.tmp", uuid::Uuid::new_v4().simple()));
        let file = disk.create(&temporary)?;
        let write = || {
            let mut offset = 0;
            while offset < body.len() {
                let part = body.read(offset, COPY_BYTES)?;
                file.write_at(&[IoSlice::new(&part)], offset)?;
                offset += part.len() as u64;
            }
            file.sync_data()?;
            failpoint("store.put.written");
            name_it(&temporary)
        };
        write().inspect_err(|_| {
            let _ = disk.remove(&temporary);
        })
    }

    /// Whether what has the name already is this body.
    fn is_same(&self, place: &Place, body: &Body) -> io::Result<bool> {
        let file = match self.system.disk.open_plain(&place.path) {
            // A directory, a link: not an object of ours.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
            other => other?,
        };
        if file.len()? != body.len() {
            return Ok(false);
        }
        let (mut offset, mut there) = (0, vec![0; COPY_BYTES]);
        while offset < body.len() {
            let part = body.read(offset, COPY_BYTES)?;
            let got = file.read_at(&mut there[..part.len()], offset)?;
            if got < part.len() || there[..got] != part[..] {
                return Ok(false);
            }
            offset += part.len() as u64;
        }
        // Its bytes may be younger than the last sync where it was not written by us.
        file.sync_data()?;
        Ok(true)
    }

    /// Reads from `start` up to `len` bytes, or refuses by the object's length.
    fn read(
        &self,
        name: &str,
        range: impl FnOnce(u64) -> Result<(u64, u64), String>,
    ) -> Result<Vec<u8>, StoreError> {
        let place = self.place(name, false)?;
        let of_disk = |error: &io::Error| match error.kind() {
            io::ErrorKind::InvalidInput => {
                StoreError::Permanent { name: self.shown(name), reason: "not a plain file".to_owned() }
            }
            _ => self.error(name, error),
        };
        let file = self.system.disk.open_plain(&place.path).map_err(|error| of_disk(&error))?;
        let len = file.len().map_err(|error| of_disk(&error))?;
        let (start, wanted) =
            range(len).map_err(|reason| StoreError::Permanent { name: self.shown(name), reason })?;
        let mut bytes = vec![0; wanted as usize];
        let got = file.read_at(&mut bytes, start).map_err(|error| of_disk(&error))?;
        bytes.truncate(got);
        Ok(bytes)
    }

    fn head(&self, name: &str) -> Result<Option<Listed>, StoreError> {
        let place = match self.place(name, false) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        match self.system.disk.stat(&place.path) {
            Ok(stat) if stat.kind == Kind::File => Ok(Some(Listed {
                name: name.to_owned(),
                size: stat.len,
                modified_us: stat.modified_us,
                etag: None,
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(name, &error)),
        }
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        let (dir, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        if dir.split('/').any(is_hidden) && !dir.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        match self.enter(dir, false) {
            Ok(held) => self.gather(dir, &held, prefix, after.unwrap_or(""), &mut found)?,
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    fn gather(
        &self,
        dir: &str,
        held: &Dir,
        prefix: &str,
        after: &str,
        found: &mut Vec<Listed>,
    ) -> Result<(), StoreError> {
        let disk = &self.system.disk;
        // What goes away meanwhile is as if it had gone before.
        let gone = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        };
        let names = match disk.list(held.path()) {
            Err(error) if gone(&error) => return Ok(()),
            other => other.map_err(|error| self.error(dir, &error))?,
        };
        for last in names.into_iter().filter(|last| !is_hidden(last)) {
            let name = if dir.is_empty() { last.clone() } else { format!("{dir}/{last}") };
            let stat = match disk.stat(&held.path().join(&last)) {
                Err(error) if gone(&error) => continue,
                other => other.map_err(|error| self.error(&name, &error))?,
            };
            match stat.kind {
                Kind::File if name.starts_with(prefix) && name.as_str() > after => {
                    found.push(Listed { name, size: stat.len, modified_us: stat.modified_us, etag: None });
                }
                Kind::Directory => {
                    let below = format!("{name}/");
                    let may_match = below.starts_with(prefix) || prefix.starts_with(&below);
                    let may_follow = below.as_str() > after || after.starts_with(&below);
                    if !may_match || !may_follow {
                        continue;
                    }
                    match disk.descend(held.path(), &last, false) {
                        Err(error) if gone(&error) => {}
                        other => {
                            let held = other.map_err(|error| self.error(&name, &error))?;
                            self.gather(&name, &held, prefix, after, found)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let place = match self.place(name, false) {
            Err(StoreError::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        match self.system.disk.remove(&place.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|error| self.error(name, &error))?,
        }
        self.system.disk.sync_dir(place.dir.path()).map_err(|error| self.error(name, &error))
    }
}

/// The parts of a directory's name, each with where it ends.
fn parts(dir: &str) -> impl Iterator<Item = (usize, &str)> {
    dir.split('/').filter(|part| !part.is_empty()).map(move |part| {
        let start = part.as_ptr() as usize - dir.as_ptr() as usize;
        (start + part.len(), part)
    })
}

fn is_hidden(part: &str) -> bool {
    part.starts_with('.')
}

fn check_local_name(name: &str) -> Result<(), String> {
    check_name(name)?;
    if name.split('/').any(is_hidden) {
        return Err("a name with a part that begins with a dot: no reader would see it".to_owned());
    }
    if name.split('/').any(|part| part.len() > PART_BYTES_MAX) {
        return Err(format!("a name with a part of more than {PART_BYTES_MAX} bytes"));
    }
    Ok(())
}

impl Store for LocalStore {
    fn url(&self, name: &str) -> String {
        self.0.shown(name)
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        check_local_name(name)
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        body: &'a Body,
        mode: PutMode,
        _attributes: &'a Attributes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let body = body.clone();
        self.with(name, move |inner, name| inner.put(name, &body, mode))
    }

    fn get<'a>(&'a self, name: &'a str, max: u64) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        self.with(name, move |inner, name| {
            inner.read(name, |len| match len {
                len if len > max => Err(format!("{len} bytes, at most {max} expected")),
                len => Ok((0, len)),
            })
        })
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: std::ops::Range<u64>,
    ) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        self.with(name, move |inner, name| {
            inner.read(name, |len| match range.start {
                start if start >= len && !range.is_empty() => Err(behind_the_end(start, len)),
                start => Ok((start, range.end.min(len).saturating_sub(start))),
            })
        })
    }

    fn head<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Listed>, StoreError>> {
        self.with(name, Inner::head)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let after = after.map(str::to_owned);
        self.with(prefix, move |inner, prefix| inner.list(prefix, after.as_deref()))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.with(name, Inner::delete)
    }
}

/// What a read that begins behind the end is refused with.
pub(super) fn behind_the_end(start: u64, len: u64) -> String {
    format!("it has {len} bytes, and byte {start} was asked for")
}
