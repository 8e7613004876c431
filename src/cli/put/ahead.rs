//! Reading and cutting into records on a thread of their own, one block ahead of storing.
//!
//! Blocks come in the order of the input, each with what was decoded of it. Three buffers go round: one is filled and
//! decoded, one waits, one is stored.

use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::source::Source;
use crate::cli::input::{BLOCK_BYTES, Filled};
use crate::codec::{Decode, Records};

/// A buffer that had to grow beyond this for a long record is not used again.
const BUFFER_KEPT_BYTES: usize = 4 * BLOCK_BYTES;

/// What came next.
pub(super) enum Event {
    /// Records.
    Block(Box<Block>),
    /// Nothing waits to be read.
    Idle,
    /// One input has ended and the next begins.
    NextInput,
    /// All inputs have ended.
    End,
    /// A signal asked to finish.
    Interrupted,
    /// The input cannot be read on.
    Failed(anyhow::Error),
}

/// A block and what was decoded of it.
pub(super) struct Block {
    /// The name of the input.
    pub(super) input: String,
    buffer: Vec<u8>,
    used: Range<usize>,
    /// The records.
    pub(super) records: Records,
    /// How many of the bytes up to the end of this block belong to a record whose end has not been seen.
    pub(super) pending: u64,
}

impl Block {
    /// The bytes that were decoded.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.used.clone()]
    }
}

/// The reading thread, seen from the storing one.
pub(super) struct Ahead {
    events: Receiver<Event>,
    spare: std::sync::mpsc::Sender<(Vec<u8>, Records)>,
}

type Spare = (Vec<u8>, Records);

impl Ahead {
    /// Begins to read; with `numbered`, each record is told which of its input it is. `renew` makes a decoder for each input after the first.
    pub(super) fn start(
        source: Source,
        decoder: Box<dyn Decode>,
        numbered: bool,
        renew: impl Fn() -> Result<Box<dyn Decode>, String> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (sender, events) = sync_channel(1);
        let (spare, used) = channel();
        let body = move || {
            let mut reading = Reading { source, decoder, numbered, sender, spare: used };
            if let Err(error) = reading.run(&renew) {
                let _ = reading.sender.send(Event::Failed(error));
            }
        };
        thread::Builder::new().name("read".to_owned()).spawn(body).context("cannot start a thread")?;
        Ok(Self { events, spare })
    }

    /// What comes next, or `None` if nothing does in that time.
    pub(super) fn next(&self, patience: Option<Duration>) -> Option<Event> {
        let Some(patience) = patience else { return Some(self.events.recv().unwrap_or(Event::End)) };
        match self.events.recv_timeout(patience) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::End),
        }
    }

    /// Gives a block's memory back.
    pub(super) fn recycle(&self, block: Box<Block>) {
        let block = *block;
        if block.buffer.len() <= BUFFER_KEPT_BYTES {
            let _ = self.spare.send((block.buffer, block.records));
        }
    }
}

struct Reading {
    source: Source,
    decoder: Box<dyn Decode>,
    numbered: bool,
    sender: SyncSender<Event>,
    spare: Receiver<Spare>,
}

impl Reading {
    /// Reads to the end. An error is the last event; that nobody listens any more is the end, too.
    fn run(&mut self, renew: &dyn Fn() -> Result<Box<dyn Decode>, String>) -> anyhow::Result<()> {
        // What is in the block already is decoded before more is read: the named producer leaves some there.
        loop {
            let filled = match self.source.fill(Some(Duration::ZERO))? {
                Filled::TimedOut => {
                    if self.sender.send(Event::Idle).is_err() {
                        return Ok(());
                    }
                    self.source.fill(None)?
                }
                filled => filled,
            };
            let event = match filled {
                Filled::TimedOut => continue,
                Filled::Interrupted => Event::Interrupted,
                Filled::Data | Filled::Full => {
                    if !self.decode(false)? {
                        return Ok(());
                    }
                    continue;
                }
                Filled::Eof => {
                    if !self.decode(true)? {
                        return Ok(());
                    }
                    if self.source.next_input()? {
                        // A CSV file has a header of its own, and numbers begin anew.
                        self.decoder = renew().map_err(|e| anyhow!(e))?;
                        Event::NextInput
                    } else {
                        Event::End
                    }
                }
            };
            let last = !matches!(event, Event::NextInput);
            if self.sender.send(event).is_err() || last {
                return Ok(());
            }
        }
    }

    /// Decodes the block and sends it; `false` if nobody listens any more.
    fn decode(&mut self, last: bool) -> anyhow::Result<bool> {
        let block = self.source.block();
        // At the end there may be nothing left and yet something to say: of a record that was dropped as it came.
        if block.is_empty() && !last {
            return Ok(true);
        }
        let (fresh, mut records) = self.spare.try_recv().unwrap_or_default();
        records.clear();
        records.is_numbered = self.numbered;
        let decoded = self.decoder.decode(block, last, &mut records);
        let used = match &decoded {
            Ok(used) => *used,
            // What stands before the break is stored.
            Err(_) => records.ends.last().map_or(0, |&end| end as usize),
        };
        if used == 0 && decoded.is_ok() && self.source.is_full() {
            anyhow::bail!(
                "{}: a record is longer than the stream's limit and has no end",
                self.source.name()
            );
        }
        let empty = used == 0 && records.is_empty() && records.refused.is_empty();
        if !empty {
            let input = self.source.name().to_owned();
            let (buffer, used) = self.source.hand_over(used, fresh);
            let block = Block { input, buffer, used, records, pending: self.decoder.pending() };
            if self.sender.send(Event::Block(Box::new(block))).is_err() {
                return Ok(false);
            }
        }
        decoded.with_context(|| self.source.name().to_owned())?;
        Ok(true)
    }
}
