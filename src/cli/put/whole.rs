//! `kput --whole`: each file is one record.

use std::path::Path;

use anyhow::Context;

use super::again::Place;
use super::run::Run;
use super::source;
use crate::cli::input::Filled;
use crate::codec::Refused;
use crate::record::Span;

/// How much of a file that is too long is kept to show.
const HEAD_BYTES: usize = 4096;

impl Run {
    /// Stores the files that were named. All were looked at before the first is stored.
    pub(super) fn put_files(&mut self) -> anyhow::Result<()> {
        let files = self.args.files.clone();
        let mut place = Place::default();
        let mut stored = 0;
        if let Some(name) = self.args.producer.clone() {
            let resume = self.producer.claim(&name).with_context(|| self.context.clone())?;
            if !resume.is_fresh() {
                place = self.check_files(&files, &name, &resume)?;
                stored = resume.begin.0;
            }
        }
        for (i, path) in files.iter().enumerate() {
            self.shutdown.check()?;
            let shown = source::show(path);
            let key = self.args.key.key_value.clone();
            self.records.clear();
            let (bytes, is_whole) = self.read_file(path)?;
            if !is_whole {
                let reason = "it is longer than a record of this stream may be".to_owned();
                let raw = Span::new(0, bytes.len());
                // Only its start is there, as of a line that was dropped as it came.
                self.records.arena.clone_from(&bytes);
                self.records.refused.push(Refused {
                    after: 0,
                    raw,
                    raw_in_arena: true,
                    number: i as u64 + 1,
                    reason,
                });
                self.judge(&shown, &bytes)?;
                self.end_if_fatal(&shown)?;
                continue;
            }
            if stored > 0 {
                stored -= 1;
                self.pass(&bytes)?;
                continue;
            }
            self.records.push_whole(bytes.len(), key.as_deref());
            self.records.numbers.extend(self.records.is_numbered.then_some(i as u64 + 1));
            place.advance(&bytes, Some(bytes.len()));
            let mark = place.mark(self.args.reading());
            self.judge(&shown, &bytes)?;
            self.store(&shown, &bytes, mark.as_bytes())?;
            self.pass(&bytes)?;
            self.tick()?;
        }
        Ok(())
    }

    /// A file as one record; `None` if it is too long for that.
    pub(super) fn read_whole(&self, path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
        self.read_file(path).map(|(bytes, is_whole)| is_whole.then_some(bytes))
    }

    /// What a file holds, or, with `false`, its start where it is too long for a record.
    fn read_file(&self, path: &Path) -> anyhow::Result<(Vec<u8>, bool)> {
        let limit = self.producer.stream().manifest().record_bytes_max;
        let key_bytes = self.args.key.key_value.as_ref().map_or(0, String::len) as u64;
        let most = usize::try_from(limit.saturating_sub(key_bytes)).unwrap_or(usize::MAX);
        let (mut reader, name) = source::open(path, most, self.shutdown)?;
        // Not by its length: a pipe has none, and a file may grow meanwhile.
        loop {
            match reader.fill(None).with_context(|| format!("cannot read {name}"))? {
                Filled::Interrupted => return Err(self.interrupted()),
                _ if reader.block().len() > most => {
                    return Ok((reader.block()[..HEAD_BYTES.min(most)].to_vec(), false));
                }
                Filled::Eof => return Ok((reader.block().to_vec(), true)),
                Filled::Data | Filled::TimedOut | Filled::Full => {}
            }
        }
    }
}
