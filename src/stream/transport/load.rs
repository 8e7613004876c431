//! A stream out of a pipe.

use std::io::{self, BufRead, Read};
use std::path::Path;

use super::dump::{Head, Opening, VERSION, manifest};
use super::{Building, Moved, OnProgress, is_name, leave_out};
use crate::log::frame::Crc32c;
use crate::log::verify::Depth;
use crate::log::{
    self,
    copy::{Part, write_part},
};
use crate::record::ShardId;
use crate::stream::Stream;
use crate::stream::check::{Problem, Told, check};
use crate::stream::error::{Error, InShard};
use crate::sys::System;

/// What errors call the input.
const INPUT: &str = "the dump";
/// No line of a dump is longer.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Reads a dump and makes the stream that it holds at `to`, under a new UUID unless `same_id`. It is there whole in
/// the end, all of it verified, or not at all.
pub fn load(
    system: &System,
    input: &mut dyn BufRead,
    to: &Path,
    same_id: bool,
    on: OnProgress<'_>,
) -> Result<Moved, Error> {
    let building = Building::begin(system, to)?;
    let mut input = Input { input, sum: Crc32c::default() };
    input.opening()?;
    let mut moved = Moved::default();
    let mut streams: Option<(Stream, Stream)> = None;
    let mut parts = 0;
    loop {
        let before = input.sum.finish();
        let head: Head = input.line()?;
        match (head, &streams) {
            (Head::Manifest { bytes }, None) => {
                let bytes = input.small(bytes)?;
                let from = manifest(system, building.dir(), &bytes)?;
                let to = building.stream(from.clone(), !same_id)?;
                moved.shards = from.shards.len() as u64;
                let from = Stream { system: system.clone(), path: to.path.clone(), manifest: from };
                streams = Some((from, to));
            }
            (Head::Segment { shard, base, bytes }, Some((from, to))) => {
                let id = ShardId(shard);
                let info = from.manifest.shard(id).ok_or(Error::NoShard(id))?;
                let part = Part { base, bytes, sealed: false, file: None };
                let written = write_part(
                    &mut input,
                    &part,
                    from.log_dir(info).id,
                    &to.log_dir(info),
                    &mut |records, bytes| {
                        moved.records += records;
                        on(records, bytes)
                    },
                );
                match written {
                    Err(log::Error::Damaged { offset, reason, .. }) => {
                        let at = format!("{id}, segment {base:020}, byte {offset}");
                        return Err(Error::Invalid(format!("{INPUT} does not hold: {at}: {reason}")));
                    }
                    other => other.in_shard(id)?,
                }
                moved.segments += 1;
                moved.bytes += bytes;
            }
            (Head::Gone { shard }, Some((_, to))) => {
                let id = ShardId(shard);
                let info = to.manifest.shard(id).ok_or(Error::NoShard(id))?.clone();
                let mut left = to.clone();
                leave_out(&mut left, &info)?;
                moved.shards -= 1;
                if let Some((_, to)) = &mut streams {
                    *to = left;
                }
            }
            (Head::Consumer { name, bytes }, Some(_)) => {
                if !is_name(&name) {
                    return Err(Error::Invalid(format!("{INPUT} names a consumer `{name}`")));
                }
                let state = input.small(bytes)?;
                building.consumer(&name, state, !same_id)?;
                moved.consumers += 1;
            }
            (Head::End { parts: said, crc32c }, Some((_, to))) => {
                if said != parts || crc32c != before {
                    return Err(Error::Invalid(format!("{INPUT} is damaged: its checksum does not hold")));
                }
                input.end()?;
                to.write_manifest()?;
                verify(to)?;
                let to = to.clone();
                building.complete(&to)?;
                return Ok(moved);
            }
            _ => return Err(Error::Invalid(format!("{INPUT} has its parts in the wrong order"))),
        }
        parts += 1;
    }
}

/// Frames were verified as they came; here it is what segments, shards and places say of each other.
fn verify(stream: &Stream) -> Result<(), Error> {
    let mut wrong = None;
    check(stream, Depth::Headers, &mut |told| {
        if let Told::Found(problem) = told
            && problem.is_damage()
        {
            wrong.get_or_insert(match problem {
                Problem::Log { shard, finding, .. } => format!("{shard}: {}", finding.flaw.text()),
                Problem::Stream { text, .. } => text,
            });
        }
    })?;
    match wrong {
        Some(wrong) => Err(Error::Invalid(format!("{INPUT} does not hold a whole stream: {wrong}"))),
        None => Ok(()),
    }
}

/// The input, summed as it is read.
struct Input<'a> {
    input: &'a mut dyn BufRead,
    sum: Crc32c,
}

impl Input<'_> {
    fn opening(&mut self) -> Result<(), Error> {
        let not_one = || Error::Invalid("standard input is no dump of a stream".to_owned());
        let line = self.text()?;
        let opening: Opening = serde_json::from_slice(&line).map_err(|_| not_one())?;
        if opening.kpipe != "dump" {
            return Err(not_one());
        }
        if opening.version != VERSION {
            let what = format!("dump version {}", opening.version);
            return Err(Error::Newer { path: INPUT.into(), what });
        }
        Ok(())
    }

    fn line(&mut self) -> Result<Head, Error> {
        let line = self.text()?;
        serde_json::from_slice(&line)
            .map_err(|e| Error::Invalid(format!("{INPUT} is damaged: a part's head does not hold: {e}")))
    }

    fn text(&mut self) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let read = io::Read::take(&mut self.input, LINE_BYTES_MAX).read_until(b'\n', &mut line);
        read.map_err(super::io("read", INPUT.as_ref()))?;
        if line.last() != Some(&b'\n') {
            return Err(Error::Invalid(format!("{INPUT} is cut short: nothing was kept of it")));
        }
        self.sum.update(&line);
        Ok(line)
    }

    /// There must be nothing behind the last line: two dumps in one file are not one stream.
    fn end(&mut self) -> Result<(), Error> {
        let rest = self.input.fill_buf().map_err(super::io("read", INPUT.as_ref()))?;
        if rest.is_empty() {
            return Ok(());
        }
        Err(Error::Invalid(format!("{INPUT} goes on behind its end: nothing was kept of it")))
    }

    fn small(&mut self, len: u64) -> Result<Vec<u8>, Error> {
        if len > super::STATE_BYTES_MAX as u64 {
            return Err(Error::Invalid(format!("{INPUT} has a part of {len} bytes that cannot be so large")));
        }
        let mut bytes = Vec::new();
        let got = io::Read::take(&mut self.input, len).read_to_end(&mut bytes);
        if got.map_err(super::io("read", INPUT.as_ref()))? as u64 != len {
            return Err(Error::Invalid(format!("{INPUT} is cut short: nothing was kept of it")));
        }
        self.sum.update(&bytes);
        Ok(bytes)
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(buf)?;
        self.sum.update(&buf[..got]);
        Ok(got)
    }
}
