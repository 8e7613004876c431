//! A stream as one sequence of bytes, for a pipe.
//!
//! ```text
//! {"kpipe":"dump","version":1}
//! {"part":"manifest","bytes":N}                     then N bytes: the manifest, as in the file
//! {"part":"segment","shard":S,"base":B,"bytes":N}   then N bytes: what counts of the segment; shard by shard, ascending
//! {"part":"gone","shard":S}                         in place of the segments of a closed shard that expired meanwhile
//! {"part":"consumer","name":"NAME","bytes":N}       then N bytes: its places
//! {"part":"end","parts":P,"crc32c":C}
//! ```
//!
//! Each head is one line of JSON that ends with a newline; what follows it has no separator. Manifest and segments
//! carry their own checksums; the last line has the number of parts before it and the CRC-32C of every byte before
//! it, so nothing can be missing, added or changed. Index files are derived and left out. A reader refuses a version,
//! or a part, that it does not know.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::moment::Moment;
use super::{Moved, OnProgress, consumers, io, open_left};
use crate::log::copy::{Cut, part_path, pass_on};
use crate::log::frame::Crc32c;
use crate::stream::error::{Error, InShard};
use crate::stream::{Manifest, Stream};

pub(super) const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
pub(super) struct Opening {
    pub(super) kpipe: String,
    pub(super) version: u32,
}

/// A part's line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "lowercase")]
pub(super) enum Head {
    Manifest { bytes: u64 },
    Segment { shard: u32, base: u64, bytes: u64 },
    Gone { shard: u32 },
    Consumer { name: String, bytes: u64 },
    End { parts: u64, crc32c: u32 },
}

/// Writes a stream out. What is written is verified on its way: damage ends it.
pub fn dump(stream: &Stream, out: &mut dyn Write, on: OnProgress<'_>) -> Result<Moved, Error> {
    let states = consumers(stream)?;
    let moment = Moment::now(stream)?;
    let mut moved = Moved::default();
    let mut dump = Dump { out, sum: Crc32c::default(), parts: 0 };
    dump.line(&Opening { kpipe: "dump".to_owned(), version: VERSION })?;
    let manifest = moment.manifest().encode()?;
    dump.head(&Head::Manifest { bytes: manifest.len() as u64 })?;
    dump.write(&manifest)?;
    for found in moment.shards() {
        let (info, cut) = found?;
        let Some(Cut { parts, .. }) = cut else {
            dump.head(&Head::Gone { shard: info.shard })?;
            continue;
        };
        moved.shards += 1;
        let log = stream.log_dir(&info);
        let before = moved.bytes;
        for (i, part) in parts.iter().enumerate() {
            let left = open_left(&log, &parts, i, moved.bytes - before).in_shard(info.id())?;
            let Some(mut bytes) = left else { continue };
            dump.head(&Head::Segment { shard: info.shard, base: part.base, bytes: part.bytes })?;
            let mut failed = None;
            let path = part_path(&log, part.base);
            let passed = pass_on(&mut bytes, part, (log.id, log.id), &path, &mut |bytes, _| {
                let told = on(0, bytes.len() as u64).map_err(io("write", OUT.as_ref()));
                told.and_then(|()| dump.write(bytes)).map_err(|error| {
                    // It comes back out of `pass_on` below.
                    failed = Some(error);
                    crate::log::Error::Empty { dir: path.clone() }
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            let records = passed.in_shard(info.id())?;
            on(records, 0).map_err(io("write", OUT.as_ref()))?;
            moved.records += records;
            moved.segments += 1;
            moved.bytes += part.bytes;
        }
    }
    for (name, state) in states {
        dump.head(&Head::Consumer { name, bytes: state.len() as u64 })?;
        dump.write(&state)?;
        moved.consumers += 1;
    }
    let (parts, crc32c) = (dump.parts, dump.sum.finish());
    dump.line(&Head::End { parts, crc32c })?;
    dump.out.flush().map_err(io("write", OUT.as_ref()))?;
    Ok(moved)
}

const OUT: &str = "the dump";

struct Dump<'a> {
    out: &'a mut dyn Write,
    sum: Crc32c,
    parts: u64,
}

impl Dump<'_> {
    fn head(&mut self, head: &Head) -> Result<(), Error> {
        self.parts += 1;
        self.line(head)
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let mut bytes = serde_json::to_vec(line).map_err(|e| Error::Invalid(format!("cannot write: {e}")))?;
        bytes.push(b'\n');
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sum.update(bytes);
        self.out.write_all(bytes).map_err(io("write", OUT.as_ref()))
    }
}

/// The bytes of a dumped manifest, back.
pub(super) fn manifest(
    system: &crate::sys::System,
    dir: &std::path::Path,
    bytes: &[u8],
) -> Result<Manifest, Error> {
    let path = Manifest::path(dir);
    system.disk.replace(&path, bytes).map_err(io("write", &path))?;
    Manifest::read(system, dir)
}
