//! Storing one block of records: what of it is refused, what has to wait, and how far the input is dealt with.
//!
//! The mark that goes with the records of a block says that all before it needs no second look. So what is refused is
//! kept before that mark is written, and where it ends the run the mark stands before it.

use std::time::Duration;

use anyhow::{Context, anyhow};

use super::LimitMode;
use super::again::Place;
use super::ahead::Block;
use super::run::Run;
use crate::cli::report::HintExt as _;
use crate::codec::Records;
use crate::codec::envelope::Rejected;

/// Why the run ends with a block: the first record of it that was refused.
#[derive(Debug, Clone)]
pub(super) struct Fatal {
    number: u64,
    reason: String,
}

/// A record that its decoder took, and that is refused all the same.
struct Overruled {
    index: usize,
    reason: String,
}

impl Run {
    /// Stores a block.
    pub(super) fn take(&mut self, block: &Block, place: &mut Place) -> anyhow::Result<()> {
        let bytes = block.bytes();
        let cut = self.judge(&block.input, bytes)?;
        let mut mark = String::new();
        if self.args.producer.is_some() && self.args.producer_position.is_none() {
            let settled = match cut {
                Some(cut) => Some(cut).filter(|&cut| cut > 0),
                None => bytes.len().checked_sub(block.pending as usize),
            };
            place.advance(bytes, settled);
            mark = place.mark(self.args.reading());
        }
        self.store(&block.input, bytes, mark.as_bytes())?;
        self.pass(bytes)
    }

    /// Deals with what of the decoded records is refused: it is kept, or it ends the run once those before it are
    /// stored. Then the answer is up to where the block is dealt with by that.
    pub(super) fn judge(&mut self, input: &str, block: &[u8]) -> anyhow::Result<Option<usize>> {
        let mut records = std::mem::take(&mut self.records);
        if self.is_replaying {
            // An earlier run has kept them before it stored anything behind them.
            records.refused.clear();
        }
        let overruled = self.overrule(block, &records);
        let outcome = if self.rejects.is_fatal() {
            Ok(self.cut(&mut records, &overruled))
        } else {
            self.keep(input, block, &mut records, &overruled).map(|()| None)
        };
        self.records = records;
        outcome
    }

    /// What cannot be told from one record alone.
    fn overrule(&mut self, block: &[u8], records: &Records) -> Vec<Overruled> {
        if !records.positions.is_empty() {
            let overruled = |index: usize| Overruled {
                index,
                reason: format!("its position {} is not above the one before it", records.positions[index]),
            };
            return self.producer.out_of_order(&records.positions).into_iter().map(overruled).collect();
        }
        let Some((LimitMode::Refuse, limits)) = &mut self.limits else { return Vec::new() };
        let now = self.producer.stream().system().clock.boot_us();
        let reason = "ProvisionedThroughputExceededException: the rate of its shard is used up";
        let over = self.producer.over_limit(limits, now, block, records);
        over.into_iter().map(|index| Overruled { index, reason: reason.to_owned() }).collect()
    }

    /// Leaves the records before the first refused one.
    fn cut(&mut self, records: &mut Records, overruled: &[Overruled]) -> Option<usize> {
        let refused = records.refused.first();
        let (after, fatal) = match overruled.first() {
            Some(first) if refused.is_none_or(|refused| refused.after > first.index) => {
                let number = records.numbers.get(first.index).copied().unwrap_or_default();
                (first.index, Fatal { number, reason: first.reason.clone() })
            }
            _ => refused.map(|r| (r.after, Fatal { number: r.number, reason: r.reason.clone() }))?,
        };
        self.fatal = Some(fatal);
        records.truncate(after);
        Some(records.ends.last().map_or(0, |&end| end as usize))
    }

    /// Keeps what was refused, and leaves the others.
    fn keep(
        &mut self,
        input: &str,
        block: &[u8],
        records: &mut Records,
        overruled: &[Overruled],
    ) -> anyhow::Result<()> {
        for (i, refused) in records.refused.iter().enumerate() {
            let record = Rejected { payload: records.refused_raw(block, i), ..Rejected::default() };
            self.rejects.keep(input, refused.number, &refused.reason, &record, refused.raw_in_arena);
        }
        for Overruled { index, reason } in overruled {
            let i = *index;
            let record = Rejected {
                key: records.key(block, i).and_then(|key| std::str::from_utf8(key).ok()),
                explicit_hash: records.hashes.get(i).copied().flatten(),
                timestamp_us: records.timestamps.get(i).copied().flatten(),
                attributes: records.attributes.get(i).map_or(&[], Vec::as_slice),
                payload: records.payload(block, i),
            };
            let number = records.numbers.get(i).copied().unwrap_or_default();
            self.rejects.keep(input, number, reason, &record, false);
        }
        if !overruled.is_empty() {
            records.retain(|i| overruled.binary_search_by_key(&i, |one| one.index).is_err());
        }
        if records.refused.is_empty() && overruled.is_empty() {
            return Ok(());
        }
        // A later run goes on behind the mark of this block as soon as any frame with it is on the disk.
        self.rejects.flush(self.args.producer.is_some() || self.args.follow)
    }

    /// Stores what [`Run::judge`] has left of a block.
    pub(super) fn store(&mut self, input: &str, block: &[u8], mark: &[u8]) -> anyhow::Result<()> {
        let records = std::mem::take(&mut self.records);
        let outcome = if matches!(self.limits, Some((LimitMode::Wait, _))) {
            self.store_slowly(block, &records, mark)
        } else {
            self.producer.put_marked(block, &records, mark).with_context(|| self.context.clone())
        };
        self.meter.add(records.len() as u64, records.ends.last().map_or(0, |&end| u64::from(end)));
        self.records = records;
        outcome?;
        self.end_if_fatal(input)
    }

    /// All before the record that ends the run is stored.
    pub(super) fn end_if_fatal(&mut self, input: &str) -> anyhow::Result<()> {
        match self.fatal.take() {
            Some(fatal) => Err(anyhow!("{input}: record {}: {}", fatal.number, fatal.reason))
                .hint("kput --on-error reject, which keeps such records and stores the others"),
            None => Ok(()),
        }
    }

    /// As fast as the service would take them. Whoever waits for a record's acknowledgement does not wait for those
    /// behind it.
    fn store_slowly(&mut self, block: &[u8], records: &Records, mark: &[u8]) -> anyhow::Result<()> {
        self.producer.begin_marked(records, mark);
        let mut at = 0;
        while at < records.len() {
            let Some((_, limits)) = &mut self.limits else { break };
            let now = self.producer.stream().system().clock.boot_us();
            let (count, wait_us) = self.producer.admitted(limits, now, block, records, at);
            self.producer.put_part(block, records, at..at + count).with_context(|| self.context.clone())?;
            at += count;
            if wait_us > 0 {
                self.pause(Duration::from_micros(wait_us as u64))?;
            }
        }
        self.producer.end_marked();
        Ok(())
    }

    /// Waits, with all that was gathered on the disk and acknowledged; a signal ends it.
    fn pause(&mut self, length: Duration) -> anyhow::Result<()> {
        // One record's time is a millisecond: not worth a sync each.
        if length >= SYNC_WORTH || self.last_pause.is_none_or(|last| last.elapsed() >= SYNC_WORTH) {
            self.producer.sync_now().with_context(|| self.context.clone())?;
            self.idle()?;
            self.last_pause = Some(std::time::Instant::now());
        }
        if self.shutdown.sleep(length) {
            return Err(self.interrupted());
        }
        Ok(())
    }
}

/// While a block waits, what was gathered of it is synced this often at least.
const SYNC_WORTH: Duration = Duration::from_millis(50);
