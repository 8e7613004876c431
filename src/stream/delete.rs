//! The end of a stream.

use std::path::Path;

use uuid::Uuid;

use super::error::Error;
use super::{CONSUMERS_NAME, Stream};
use crate::sys::Locks;

impl Stream {
    /// The names of its consumers.
    pub fn consumer_names(&self) -> Result<Vec<String>, Error> {
        let path = self.path.join(CONSUMERS_NAME);
        let mut names = match self.system.disk.list(&path) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(Error::Io { doing: "list", path, source }),
        };
        names.retain(|name| !name.starts_with('.'));
        names.sort_unstable();
        Ok(names)
    }

    /// Removes the stream. One that has consumers, or that is being written to, stays unless it is forced.
    ///
    /// It is gone in one step, by another name; its files follow.
    pub fn delete(mut self, force: bool) -> Result<(), Error> {
        let locks = self.locked_for_change()?;
        if !force {
            self.refuse_in_use(&*locks)?;
        }
        let parent = self.path.parent().unwrap_or(Path::new("."));
        let gone = parent.join(format!(".{}.{}.deleted", self.name(), Uuid::new_v4().simple()));
        let io = |doing: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { doing, path, source }
        };
        let disk = &self.system.disk;
        disk.rename(&self.path, &gone).map_err(io("delete", &self.path))?;
        disk.sync_dir(parent).map_err(io("sync", parent))?;
        disk.remove_dir_all(&gone).map_err(io("remove", &gone))
    }

    fn refuse_in_use(&self, locks: &dyn Locks) -> Result<(), Error> {
        let consumers = self.consumer_names()?;
        if !consumers.is_empty() {
            return Err(Error::InUse(format!("it has consumers ({})", consumers.join(", "))));
        }
        // Held until it has its other name: a writer that comes meanwhile waits, and then finds no segment.
        match self.keep_writers_out(locks)? {
            None => Ok(()),
            Some(shard) => Err(Error::InUse(format!("a program is writing to {shard}"))),
        }
    }
}
