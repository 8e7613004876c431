//! Streams come whole and go whole: one is built beside its place and moved there, and moved aside before it is removed.
//!
//! Meanwhile it has a name of its own, `.NAME.ID.new` or `.NAME.ID.deleted`, and who builds or removes it holds the
//! stream's own lock in it. One that nobody holds is what a killed program left, and the next program that makes or
//! removes a stream of that name sweeps it away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::error::Error;
use super::{LOCKS_NAME, MANIFEST_SLOT};
use crate::sys::{Locks, System};

/// The directory that a stream lies in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("stream")
}

/// A new name beside a stream, for what is built or removed there.
pub(super) fn beside(path: &Path, what: &str) -> PathBuf {
    path.with_file_name(format!(".{}.{}.{what}", name(path), Uuid::new_v4().simple()))
}

/// Of which stream a name tells that it is being built or removed.
pub fn unfinished(name: &str) -> Option<&str> {
    let rest = name.strip_prefix('.')?;
    let rest = rest.strip_suffix(".new").or_else(|| rest.strip_suffix(".deleted"))?;
    let (stream, id) = rest.rsplit_once('.')?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(stream)
}

/// Removes what killed programs left beside the place of a stream.
pub fn sweep(system: &System, path: &Path) {
    let disk = &system.disk;
    for found in disk.list(parent(path)).unwrap_or_default() {
        if unfinished(&found) != Some(name(path)) {
            continue;
        }
        let dir = path.with_file_name(&found);
        let table = dir.join(LOCKS_NAME);
        // Of one that is being removed the lock table may be gone before the rest. In one that is built it comes first,
        // and its builder sees whether it was faster.
        let gone = found.ends_with(".deleted") && !disk.exists(&table);
        let locks = if gone { None } else { disk.create_locks(&table).ok() };
        if gone || locks.as_ref().is_some_and(|locks| locks.try_lock(MANIFEST_SLOT, true).unwrap_or(false)) {
            let _ = disk.remove_dir_all(&dir);
        }
    }
}

/// A stream that is being built. It is gone when this is dropped before [`Building::finish`].
pub(super) struct Building {
    system: System,
    path: PathBuf,
    dir: PathBuf,
    /// Held until it is in its place.
    builder: Option<Arc<dyn Locks>>,
    finished: bool,
}

impl Building {
    /// Begins to build the stream that is to be at `path`.
    pub(super) fn begin(system: &System, path: &Path) -> Result<Self, Error> {
        if system.disk.exists(path) {
            return Err(Error::Exists { path: path.to_owned() });
        }
        if name(path).starts_with('.') {
            let reason =
                "a stream's name cannot begin with a dot: such names are of what is being made or removed";
            return Err(Error::Invalid(reason.to_owned()));
        }
        sweep(system, path);
        loop {
            let dir = beside(path, "new");
            let io = |source| Error::Io { doing: "create", path: path.to_owned(), source };
            system.disk.create_dir(&dir).map_err(io)?;
            let mut built =
                Self { system: system.clone(), path: path.to_owned(), dir, builder: None, finished: false };
            if let Some(kind) = system.disk.network_kind(&built.dir) {
                return Err(Error::NetworkFileSystem { path: path.to_owned(), kind });
            }
            let locked = system.disk.create_locks(&built.dir.join(LOCKS_NAME)).and_then(|locks| {
                locks.lock(MANIFEST_SLOT, true)?;
                Ok(locks)
            });
            match locked {
                Ok(locks) if system.disk.exists(&built.dir) => {
                    built.builder = Some(locks);
                    return Ok(built);
                }
                // A sweep was faster than the lock.
                Ok(_) => {}
                Err(_) if !system.disk.exists(&built.dir) => {}
                Err(source) => return Err(io(source)),
            }
        }
    }

    /// The machine.
    pub(super) fn system(&self) -> &System {
        &self.system
    }

    /// Where it is built.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it will be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to its place.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let disk = &self.system.disk;
        // A stream that came into being meanwhile is not empty, so it is not replaced.
        disk.rename(&self.dir, &self.path).map_err(|source| match source.kind() {
            std::io::ErrorKind::DirectoryNotEmpty
            | std::io::ErrorKind::AlreadyExists
            | std::io::ErrorKind::NotADirectory => Error::Exists { path: self.path.clone() },
            _ => Error::Io { doing: "create", path: self.path.clone(), source },
        })?;
        self.finished = true;
        let parent = parent(&self.path);
        disk.sync_dir(parent).map_err(|source| Error::Io { doing: "sync", path: parent.to_owned(), source })
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.system.disk.remove_dir_all(&self.dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_is_not_finished() {
        for what in ["new", "deleted"] {
            let path = beside(Path::new("/srv/clicks.2026"), what);
            assert_eq!(unfinished(name(&path)), Some("clicks.2026"), "{}", path.display());
        }
        for other in [".clicks.new", ".clicks.1.new", "clicks", ".manifest.json.77.tmp", "..new"] {
            assert_eq!(unfinished(other), None, "{other}");
        }
    }

    /// What a killed create, load, snapshot or delete left stayed for ever.
    #[test]
    fn what_nobody_holds_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (system, path) = (System::real(), dir.path().join("s"));
        let names = || {
            let mut names = system.disk.list(dir.path()).unwrap();
            names.sort();
            names
        };
        let building = Building::begin(&system, &path).unwrap();
        let other = beside(&dir.path().join("other"), "new");
        std::fs::create_dir(&other).unwrap();
        for what in ["new", "deleted"] {
            let dead = beside(&path, what);
            std::fs::create_dir(&dead).unwrap();
            std::fs::write(dead.join("x"), "x").unwrap();
        }
        assert_eq!(names().len(), 4);
        sweep(&system, &path);
        let mut left = [building.dir(), &other].map(|path| name(path).to_owned());
        left.sort();
        assert_eq!(names(), left);
        drop(building);
        assert_eq!(names(), [name(&other)]);
    }
}
