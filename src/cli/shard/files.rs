//! What a stream takes up: names and sizes of its segments, without opening any.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;

use crate::record::ShardId;
use crate::stream::Stream;

/// The segments of one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// How many.
    pub(super) segments: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// The segments of every shard, in the order of the manifest.
pub(super) fn of(stream: &Stream) -> anyhow::Result<Vec<(ShardId, Files)>> {
    let shards = stream.manifest().shards.iter();
    shards
        .map(|shard| {
            let dir = stream.path().join(shard.id().to_string());
            let files = in_dir(&dir).with_context(|| format!("cannot look at {}", dir.display()))?;
            Ok((shard.id(), files))
        })
        .collect()
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
        let name = entry.file_name();
        if !name.as_encoded_bytes().ends_with(b".seg") || name.as_encoded_bytes().starts_with(b".") {
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
