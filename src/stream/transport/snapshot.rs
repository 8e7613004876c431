//! A consistent copy while writers run.

use std::path::Path;

use super::moment::Moment;
use super::{Building, Moved, OnProgress, consumers, io, leave_out, open_left};
use crate::log::{
    self,
    copy::{Cut, link_part, write_part},
};
use crate::stream::error::{Between, InShard, Side};
use crate::stream::{ShardInfo, Stream};

/// Copies a stream to `to`, which is there whole in the end or not at all. Sealed segments are linked where both are
/// on one file system, unless the copy is one that will live on (`as_new`).
pub fn snapshot(stream: &Stream, to: &Path, as_new: bool, on: OnProgress<'_>) -> Result<Moved, Between> {
    let states = consumers(stream).of_source()?;
    let moment = Moment::now(stream).of_source()?;
    let building = Building::begin(stream.system(), to).of_target()?;
    let mut copy = building.stream(moment.manifest().clone(), as_new).of_target()?;
    let mut moved = Moved::default();
    for found in moment.shards() {
        let (info, cut) = found.of_source()?;
        if let Some(cut) = cut {
            shard(stream, &copy, &info, cut, as_new, &mut moved, on)?;
            moved.shards += 1;
        } else {
            leave_out(&mut copy, &info).of_target()?;
        }
    }
    for (name, state) in states {
        building.consumer(&name, state, as_new).of_target()?;
        moved.consumers += 1;
    }
    building.complete(&copy).of_target()?;
    Ok(moved)
}

fn shard(
    source: &Stream,
    copy: &Stream,
    info: &ShardInfo,
    Cut { parts, .. }: Cut,
    as_new: bool,
    moved: &mut Moved,
    on: OnProgress<'_>,
) -> Result<(), Between> {
    let (from, to) = (source.log_dir(info), copy.log_dir(info));
    let mut bytes = 0;
    for (i, part) in parts.iter().enumerate() {
        let linked = part.sealed && !as_new && link_part(&from, part, &to).in_shard(info.id()).of_target()?;
        if linked {
            moved.linked += 1;
            on(0, part.bytes).map_err(io("write", copy.path())).of_target()?;
        } else {
            let left = open_left(&from, &parts, i, bytes).in_shard(info.id()).of_source()?;
            let Some(mut source) = left else { continue };
            let written = write_part(&mut source, part, from.id, &to, &mut |records, bytes| {
                moved.records += records;
                on(records, bytes)
            });
            // What it refuses to pass on are bytes of the source.
            let damaged = matches!(written, Err(log::Error::Damaged { .. } | log::Error::Foreign { .. }));
            let written = written.in_shard(info.id());
            if damaged { written.of_source() } else { written.of_target() }?;
        }
        bytes += part.bytes;
        moved.segments += 1;
    }
    moved.bytes += bytes;
    Ok(())
}
