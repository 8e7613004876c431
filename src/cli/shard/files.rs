//! What a stream takes up: names and sizes of its segments, without opening any.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;

use crate::record::ShardId;
use crate::stream::{ShardInfo, Stream};

/// The segments of one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// How many.
    pub(super) segments: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// So many shards are looked at by one thread: less is done before another one has begun.
const SHARDS_PER_THREAD: usize = 64;

/// The segments of every shard, in the order of the manifest.
pub(super) fn of(stream: &Stream) -> anyhow::Result<Vec<(ShardId, Files)>> {
    let shards = &stream.manifest().shards;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let chunk = shards.len().div_ceil(threads).max(SHARDS_PER_THREAD);
    let look = |shards: &[ShardInfo]| -> anyhow::Result<Vec<(ShardId, Files)>> {
        shards
            .iter()
            .map(|shard| {
                let dir = stream.path().join(shard.id().to_string());
                let files = in_dir(&dir).with_context(|| format!("cannot look at {}", dir.display()))?;
                Ok((shard.id(), files))
            })
            .collect()
    };
    std::thread::scope(|scope| {
        let mut chunks = shards.chunks(chunk);
        let first = chunks.next().unwrap_or_default();
        let others: Vec<_> = chunks.map(|chunk| scope.spawn(move || look(chunk))).collect();
        let mut files = look(first)?;
        for other in others {
            files.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(files)
    })
}

/// Whether a file is one of these.
pub(super) fn is(name: impl AsRef<Path>, kind: &str) -> bool {
    name.as_ref().extension().is_some_and(|extension| extension == kind)
}

/// Sums the segments of a directory; one that retention has taken is empty.
fn in_dir(dir: &Path) -> io::Result<Files> {
    let mut files = Files::default();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        // What is being made has a name that begins with a dot and ends otherwise.
        if !is(entry.file_name(), "seg") {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) => {
                files.segments += 1;
                files.bytes += metadata.len();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}
