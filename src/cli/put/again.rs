//! `kput --producer`, run again: the same input is recognised, and gone through to where it was left.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use xxhash_rust::xxh3::Xxh3;

use super::run::Run;
use super::source::Source;
use crate::cli::input::Filled;
use crate::cli::report::HintExt as _;
use crate::codec::Records;
use crate::stream::producer::resume::Resume;

/// Where a named producer's input stands: how much of it was read, and a hash of that. The *settled* place is behind
/// the last record that was dealt with whole, and the only one that a later run may go on from.
#[derive(Default)]
pub(super) struct Place {
    pub(super) offset: u64,
    hasher: Xxh3,
    settled: Option<(u64, u128)>,
}

impl Place {
    /// Goes behind `bytes`, the first `settled` of which are dealt with; without it none of them.
    pub(super) fn advance(&mut self, bytes: &[u8], settled: Option<usize>) {
        if let Some(settled) = settled {
            self.add(&bytes[..settled]);
            self.settled = Some((self.offset, self.hasher.digest128()));
            self.add(&bytes[settled..]);
        } else {
            self.add(bytes);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
    }

    /// The same place, where all before it is settled.
    fn copy(&self) -> Self {
        Self { offset: self.offset, hasher: self.hasher.clone(), settled: self.settled }
    }

    /// A mark of the settled place for the producer: the offset, the hash, and how the input was read.
    pub(super) fn mark(&self, reading: u64) -> String {
        let (offset, hash) = self.settled.unwrap_or_else(|| (0, Xxh3::new().digest128()));
        format!("input {offset} {hash:032x} {reading:016x}")
    }
}

/// A mark as an earlier run left it.
struct Stored {
    offset: u64,
    hash: u128,
    reading: u64,
}

fn parse_mark(mark: &[u8]) -> Option<Stored> {
    let mut words = std::str::from_utf8(mark).ok()?.split(' ');
    if words.next()? != "input" {
        return None;
    }
    Some(Stored {
        offset: words.next()?.parse().ok()?,
        hash: u128::from_str_radix(words.next()?, 16).ok()?,
        reading: u64::from_str_radix(words.next()?, 16).ok()?,
    })
}

impl Run {
    /// Goes to where an earlier run of the same producer stood, making sure that this is the same input.
    pub(super) fn go_to(
        &mut self,
        source: &mut Source,
        place: &mut Place,
        name: &str,
        resume: &Resume,
    ) -> anyhow::Result<()> {
        let foreign = || anyhow!("producer `{name}` was used for something other than this kind of input");
        let reading = self.args.reading();
        let marks = [&resume.begin, &resume.end].map(|(ordinal, mark)| {
            if *ordinal == 0 && mark.is_empty() {
                Some(Stored { offset: 0, hash: Xxh3::new().digest128(), reading })
            } else {
                parse_mark(mark)
            }
        });
        let [Some(begin), Some(end)] = marks else {
            return Err(foreign()).hint("kput --producer with another name");
        };
        if begin.reading != reading || end.reading != reading {
            return Err(anyhow!("producer `{name}` read this input with other options for format or key"))
                .hint("kput with the options of the first run, or --producer with another name");
        }
        // All before the begin mark is stored: it is only read, to see that it is the same.
        while place.offset < begin.offset {
            self.read_more(source, place, end.offset, name)?;
            let left = (begin.offset - place.offset) as usize;
            let block = &source.block()[..left.min(source.block().len())];
            self.records.clear();
            let used = self.decoder.decode(block, false, &mut self.records)?;
            // The mark stands behind a whole record, or at the end of an input.
            let used = if used == 0 && (block.len() == left || source.is_at_end()) {
                self.decoder.decode(block, true, &mut self.records)?
            } else {
                used
            };
            let block = source.block()[..used].to_vec();
            place.advance(&block, Some(used));
            source.consume(used);
            self.pass(&block)?;
        }
        let differs = || {
            Err(anyhow!(
                "the input differs from what producer `{name}` has stored of it ({} records, {} bytes): nothing was \
                 stored",
                resume.end.0,
                end.offset
            ))
            .hint("kput --producer with another name, if this is another input")
        };
        if place.hasher.digest128() != begin.hash {
            return differs();
        }
        self.end_pending()?;
        // From there to the end mark some is stored and some is not. It is small, and it is read whole before any of
        // it is stored, because only then is it known to be the same.
        let mut window = Vec::with_capacity(end.offset.saturating_sub(place.offset) as usize);
        let mut ahead = place.copy();
        while ahead.offset < end.offset {
            self.read_more(source, &ahead, end.offset, name)?;
            let left = (end.offset - ahead.offset) as usize;
            let block = &source.block()[..left.min(source.block().len())];
            window.extend_from_slice(block);
            ahead.advance(block, None);
            let used = block.len();
            source.consume(used);
        }
        if ahead.hasher.digest128() != end.hash {
            return differs();
        }
        let cut = self.cut_window(&window)?;
        let count: u64 = cut.iter().map(|(records, _)| records.len() as u64).sum();
        if resume.begin.0 + count != resume.end.0 {
            return Err(anyhow!(
                "the input cannot be cut where producer `{name}` had cut it: {count} records where there were {}",
                resume.end.0 - resume.begin.0
            ))
            .hint("kput --producer with another name, if this is another input");
        }
        let input = source.name().to_owned();
        let mut rest = &window[..];
        for (mut records, used) in cut {
            // What was refused was kept before anything behind it was stored.
            records.refused.clear();
            self.records = records;
            place.advance(&rest[..used], Some(used));
            let mark = place.mark(reading);
            self.store(&input, rest, mark.as_bytes())?;
            self.pass(&rest[..used])?;
            rest = &rest[used..];
        }
        // The input may have ended there in the middle of a line that has grown since, and would be cut in another way
        // if it were read again from before that place.
        self.producer.sync_now().with_context(|| self.context.clone())
    }

    /// Cuts a window that ends behind a whole record into records: each part with the bytes it used.
    fn cut_window(&mut self, window: &[u8]) -> anyhow::Result<Vec<(Records, usize)>> {
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < window.len() {
            let mut records = Records::default();
            let mut used = self.decoder.decode(&window[at..], false, &mut records)?;
            if used == 0 {
                // The last of an input may have no delimiter.
                used = self.decoder.decode(&window[at..], true, &mut records)?;
            }
            if used == 0 {
                break;
            }
            parts.push((records, used));
            at += used;
        }
        self.end_pending()?;
        Ok(parts)
    }

    /// A record that was too long and had no delimiter ends where an earlier run saw the end of the input.
    fn end_pending(&mut self) -> anyhow::Result<()> {
        if self.decoder.pending() > 0 {
            self.records.clear();
            self.decoder.decode(&[], true, &mut self.records)?;
            self.records.clear();
        }
        Ok(())
    }

    /// Reads on, towards a place that an earlier run has reached.
    fn read_more(&mut self, source: &mut Source, place: &Place, aim: u64, name: &str) -> anyhow::Result<()> {
        let short = || {
            Err(anyhow!(
                "the input ends after {} bytes, and producer `{name}` had stored {aim} bytes of it: it is not the \
                 same input",
                place.offset
            ))
            .hint("kput --producer with another name, if this is another input")
        };
        loop {
            match source.fill(None)? {
                Filled::Data | Filled::Full => return Ok(()),
                Filled::TimedOut => {}
                Filled::Interrupted => return Err(self.interrupted()),
                Filled::Eof if !source.block().is_empty() => return Ok(()),
                Filled::Eof => {
                    if !source.next_input()? {
                        return short();
                    }
                    self.renew_decoder()?;
                }
            }
        }
    }

    /// Makes sure that these are the files that an earlier run of the same producer stored, before any is stored;
    /// answers with the place behind those that are stored for sure.
    pub(super) fn check_files(
        &self,
        files: &[PathBuf],
        name: &str,
        resume: &Resume,
    ) -> anyhow::Result<Place> {
        let reading = self.args.reading();
        let mut place = Place::default();
        let mut begin = Place::default();
        let mut wanted: Vec<_> = [&resume.begin, &resume.end].into_iter().filter(|mark| mark.0 > 0).collect();
        let mut number = 0;
        for path in files {
            let Some(bytes) = self.read_whole(path)? else { continue };
            place.advance(&bytes, Some(bytes.len()));
            number += 1;
            wanted.retain(|(ordinal, mark)| *ordinal != number || *mark != place.mark(reading).into_bytes());
            if number == resume.begin.0 {
                begin = place.copy();
            }
        }
        if wanted.is_empty() {
            return Ok(begin);
        }
        Err(anyhow!(
            "the files differ from what producer `{name}` has stored of them ({} records): nothing was stored",
            resume.end.0
        ))
        .hint("kput --producer with another name, if these are other files")
    }
}
