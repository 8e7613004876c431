//! The end of a stream.

use std::path::Path;
use std::sync::Arc;

use super::building::{beside, parent};
use super::error::{Error, InShard};
use super::manifest::ShardInfo;
use super::{CONSUMERS_NAME, LOCKS_NAME, Stream};
use crate::log::{EndOfShard, Writer, append_slot, live_slot};
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

    /// Removes the stream. One that has consumers, or that is being written to, stays unless it is forced; then its
    /// writers fail with [`Error::Deleted`] and acknowledge no more.
    ///
    /// It is gone in one step, by another name; its files follow.
    pub fn delete(mut self, force: bool) -> Result<(), Error> {
        let locks = self.locked_for_change()?;
        if !force {
            self.refuse_in_use(&*locks)?;
        }
        let gone = beside(&self.path, "deleted");
        let io = |doing: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { doing, path, source }
        };
        let disk = Arc::clone(&self.system.disk);
        disk.rename(&self.path, &gone).map_err(io("delete", &self.path))?;
        let synced = disk.sync_dir(parent(&self.path)).map_err(io("sync", parent(&self.path)));
        self.path.clone_from(&gone);
        let stopped = if force { self.stop_writers(&locks) } else { Ok(()) };
        match disk.remove_dir_all(&gone) {
            // Another program swept it away.
            Err(_) if !disk.exists(&gone) => {}
            other => other.map_err(io("remove", &gone))?,
        }
        synced.and(stopped)
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

    /// Ends the shards that are being written to, without children: their writers hold files that have no name any
    /// more, and would go on acknowledging into them. The stream has its other name by now, so that whoever asks for
    /// the children finds that it is gone.
    fn stop_writers(&self, locks: &Arc<dyn Locks>) -> Result<(), Error> {
        let io = |source| Error::Io { doing: "lock", path: self.path.join(LOCKS_NAME), source };
        let mut left = Vec::new();
        for shard in self.manifest.shards.iter().filter(|shard| shard.is_open()) {
            // Both are held to the end: a writer that comes meanwhile waits, and then finds no segment.
            locks.lock(append_slot(shard.shard), true).map_err(io)?;
            if !locks.try_lock(live_slot(shard.shard), true).map_err(io)? {
                // Damaged, or the disk is full: then its writers fail by themselves as like as not.
                left.extend(self.end_for_good(shard, locks).is_err().then(|| shard.id().to_string()));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let shards = left.join(" and ");
        Err(Error::Invalid(format!(
            "it is deleted, but what is writing to {shards} could not be told: end it"
        )))
    }

    fn end_for_good(&self, shard: &ShardInfo, locks: &Arc<dyn Locks>) -> Result<(), Error> {
        let log = self.log_dir(shard);
        let opened = Writer::open(log, Arc::clone(locks), self.roll(), shard.range());
        let end = EndOfShard { children: Vec::new(), parents: Vec::new() };
        opened.and_then(|mut writer| writer.end(&end)).map(drop).in_shard(shard.id())
    }
}
