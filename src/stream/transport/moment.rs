//! A stream at one moment, over all its shards.
//!
//! A named producer's frame says up to where *everything* was durable when it was written, in whatever shard. A copy that
//! has the frame and not all of that would have a later run of the producer pass over records that it does not hold. So
//! all shards are cut at one moment: the stream's lock is shared, which keeps splits, merges and trims out, then every
//! open shard's append lock, in the order of their numbers, and while all are held it is noted how far each log reaches.
//! Nobody waits for the disk meanwhile. Closed shards do not change and need no lock.
//!
//! What retention takes after the moment stays readable as far as files can be held open for it; a closed shard that has
//! gone before it was come to is left out, as one that has expired.

use super::{Error, LOCKS_NAME, MANIFEST_SLOT, Stream, io};
use crate::log::{
    append_slot,
    copy::{Cut, Reach, reach},
};
use crate::stream::error::InShard;
use crate::stream::{Manifest, ShardInfo};
use crate::sys::Locks;

/// So many segments are held open that the writers still append to, and as many others.
const HELD_MAX: usize = if cfg!(test) { 1 } else { 256 };

/// A stream as it was.
pub(super) struct Moment {
    stream: Stream,
    logs: Vec<Reach>,
}

impl Moment {
    /// The stream as it is now, with nothing half done in its manifest.
    pub(super) fn now(stream: &Stream) -> Result<Self, Error> {
        let mut stream = stream.clone();
        let path = stream.path().join(LOCKS_NAME);
        loop {
            let locks = match stream.system().disk.shared_locks(&path) {
                Ok(locks) => locks,
                // Where the stream was deleted meanwhile, that says it all.
                Err(error) => {
                    return Err(match (stream.reload(), error.kind()) {
                        (Err(gone), _) => gone,
                        (Ok(_), std::io::ErrorKind::NotFound) => Error::NoLocks { path },
                        (Ok(_), _) => io("open", &path)(error),
                    });
                }
            };
            locks.lock(MANIFEST_SLOT, false).map_err(io("lock", &path))?;
            stream.reload()?;
            if stream.manifest().pending.is_none() {
                let logs = logs(&stream, &*locks)?;
                return Ok(Self { stream, logs });
            }
            drop(locks);
            stream.settle()?;
        }
    }

    /// What it was.
    pub(super) fn manifest(&self) -> &Manifest {
        self.stream.manifest()
    }

    /// Its shards, each cut where it was. Of one that has gone since there is no cut.
    pub(super) fn shards(self) -> impl Iterator<Item = Result<(ShardInfo, Option<Cut>), Error>> {
        let Self { stream, logs } = self;
        let shards = stream.manifest().shards.clone();
        shards.into_iter().zip(logs).map(move |(info, reach)| {
            let cut = reach.cut(&stream.log_dir(&info), !info.is_open()).in_shard(info.id())?;
            if cut.is_none() && info.is_open() {
                let text = format!("retention took all of {} before it could be copied", info.id());
                return Err(Error::Invalid(text));
            }
            Ok((info, cut))
        })
    }
}

fn logs(stream: &Stream, locks: &dyn Locks) -> Result<Vec<Reach>, Error> {
    let path = stream.path().join(LOCKS_NAME);
    let shards = &stream.manifest().shards;
    for shard in shards.iter().filter(|shard| shard.is_open()) {
        locks.lock(append_slot(shard.shard), false).map_err(io("lock", &path))?;
    }
    let (mut logs, mut active) = (Vec::new(), 0);
    for shard in shards {
        active += usize::from(shard.is_open());
        let hold = shard.is_open() && active <= HELD_MAX;
        logs.push(reach(&stream.log_dir(shard), hold).in_shard(shard.id())?);
    }
    for shard in shards.iter().filter(|shard| shard.is_open()) {
        locks.unlock(append_slot(shard.shard)).map_err(io("unlock", &path))?;
    }
    // No shard goes as long as the stream's lock is held.
    let mut room = HELD_MAX;
    for (shard, reach) in shards.iter().zip(&mut logs) {
        reach.hold(&stream.log_dir(shard), &mut room);
    }
    Ok(logs)
}
