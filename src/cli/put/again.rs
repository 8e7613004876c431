//! `kput --producer`, run again: the same input is recognised, and gone through to where it was left.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use xxhash_rust::xxh3::Xxh3;

use super::run::Run;
use super::source::Source;
use crate::cli::input::Filled;
use crate::cli::report::HintExt as _;
use crate::stream::producer::resume::Resume;

/// Where a named producer's input stands: how much of it was read, and a hash of that.
#[derive(Default)]
pub(super) struct Place {
    pub(super) offset: u64,
    hasher: Xxh3,
}

impl Place {
    pub(super) fn advance(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
    }

    /// A mark for the producer: the offset, the hash, and how the input was read.
    pub(super) fn mark(&self, reading: u64) -> String {
        format!("input {} {:032x} {reading:016x}", self.offset, self.hasher.digest128())
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
            self.read_more(source, place, begin.offset, name)?;
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
            place.advance(&block);
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
        // From there to the end mark some is stored and some is not. It is small, and it is read whole before any of
        // it is stored, because only then is it known to be the same.
        let mut window = Vec::with_capacity(end.offset.saturating_sub(place.offset) as usize);
        let mut ahead = Place { offset: place.offset, hasher: place.hasher.clone() };
        while ahead.offset < end.offset {
            self.read_more(source, &ahead, end.offset, name)?;
            let left = (end.offset - ahead.offset) as usize;
            let block = &source.block()[..left.min(source.block().len())];
            window.extend_from_slice(block);
            ahead.advance(block);
            let used = block.len();
            source.consume(used);
        }
        if ahead.hasher.digest128() != end.hash {
            return differs();
        }
        let end_number = resume.end.0;
        let mut at = 0;
        let mut number = resume.begin.0;
        while at < window.len() {
            self.records.clear();
            let rest = &window[at..];
            let mut used = self.decoder.decode(rest, false, &mut self.records)?;
            if used == 0 {
                // The end mark stands behind a whole record: the last of an input may have no delimiter.
                used = self.decoder.decode(rest, true, &mut self.records)?;
            }
            if used == 0 {
                bail!("the input cannot be cut where producer `{name}` had cut it");
            }
            number += self.records.len() as u64;
            place.advance(&rest[..used]);
            let mark = place.mark(reading);
            let input = source.name().to_owned();
            self.store(&input, rest, mark.as_bytes())?;
            self.pass(&window[at..at + used])?;
            at += used;
        }
        if number != end_number {
            bail!("the input cannot be cut where producer `{name}` had cut it");
        }
        // The input may have ended there in the middle of a line that has grown since, and would be cut in another way
        // if it were read again from before that place.
        self.producer.sync_now().with_context(|| self.context.clone())
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
            place.advance(&bytes);
            number += 1;
            wanted.retain(|(ordinal, mark)| *ordinal != number || *mark != place.mark(reading).into_bytes());
            if number == resume.begin.0 {
                begin = Place { offset: place.offset, hasher: place.hasher.clone() };
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
