//! Finding the end of the log, whatever its last writers left there, and going from one segment to the next. The
//! append lock is held throughout.

use std::sync::Arc;

use super::super::error::{Doing, Error};
use super::super::frame::control::encode_producers;
use super::super::frame::{EndOfShard, Fate, FrameHeader, Kind, Predecessor, ProducerState};
use super::super::recover::{Ending, Tail, whole};
use super::super::segment::{Segment, Walk, control_frame, list, next_header};
use super::super::{LogDir, Roll};
use super::producers::{Producers, learn};
use super::{Writer, live_slot};
use crate::hash::HashRange;
use crate::sys::Locks;

impl Writer {
    pub(super) fn open_locked(
        log: LogDir,
        locks: Arc<dyn Locks>,
        roll: Roll,
        range: HashRange,
    ) -> Result<Self, Error> {
        let slot = live_slot(log.id.shard);
        let alone = locks.try_lock(slot, true).doing("lock", &log.dir)?;
        if !alone {
            // Nobody holds it exclusively outside the append lock, which is ours.
            locks.lock(slot, false).doing("lock", &log.dir)?;
        }
        let last = match list(&log) {
            Ok(bases) => bases.last().copied().ok_or_else(|| Error::Empty { dir: log.dir.clone() }),
            Err(error) => Err(error),
        };
        let opened = last.and_then(|base| {
            let segment = Segment::open(&log, base, true)?;
            let len = segment.len()?;
            let tail = Tail::near_end(&log, &segment, len)?;
            Ok((segment, tail, len))
        });
        let (segment, tail, len) = opened.inspect_err(|_| {
            let _ = locks.unlock(slot);
        })?;
        let mut writer = Self {
            log,
            locks,
            roll,
            range,
            segment: Arc::new(segment),
            index: None,
            written: 0,
            synced_bytes: 0,
            tail,
            producers: None,
            live: true,
        };
        // From here on dropping the writer gives the live slot back.
        let mut ending = writer.tail.follow(&writer.segment, len, |_, _| {})?;
        if alone && !writer.is_at_rest(&ending) && !writer.segment.is_condemned(&*writer.log.system.disk) {
            ending = writer.read_back()?;
        }
        if writer.tail.next == writer.segment.header.base {
            // Whoever created the segment may have been killed before its name was durable.
            writer.sync_names()?;
        }
        writer.settle(ending, alone)?;
        if alone {
            writer.locks.lock(slot, false).doing("lock", &writer.log.dir)?;
        }
        Ok(writer)
    }

    /// Whether the last writers left in order, and nothing in memory was lost since.
    fn is_at_rest(&self, ending: &Ending) -> bool {
        *ending == Ending::Paused(self.log.system.clock.boot_id())
    }

    /// Looks at the end of the segment again, as the device has it. Whoever wrote it is gone and may have been killed
    /// between a sync that failed and the mark that says so: memory would show what no later sync brings to the disk.
    fn read_back(&mut self) -> Result<Ending, Error> {
        self.sync_segment()?;
        self.segment.file.forget_cache().doing("read back", &self.segment.path)?;
        let len = self.segment.len()?;
        self.tail = Tail::near_end(&self.log, &self.segment, len)?;
        self.tail.follow(&self.segment, len, |_, _| {})
    }

    /// Brings the log into a state in which frames can be appended, whatever its last writers left.
    pub(super) fn settle(&mut self, ending: Ending, alone: bool) -> Result<(), Error> {
        if self.segment.is_condemned(&*self.log.system.disk) {
            // Whoever found out came no further than the mark.
            return self.go_on_after_condemned();
        }
        match ending {
            Ending::Closed(end) => Err(self.closed(end)),
            Ending::Condemned => self.go_on_after_condemned(),
            Ending::Sealed(base) if !alone || self.is_whole()? => self.finish_roll(base),
            Ending::Open | Ending::Paused(_) if !alone => Ok(()),
            Ending::Paused(_) if self.is_at_rest(&ending) && self.is_as_the_pause_says()? => Ok(()),
            // A pause of another boot says nothing: what was written behind it may be lost without a trace, and its
            // indexes have been seen.
            Ending::Open | Ending::Paused(_) | Ending::Sealed(_) | Ending::Torn => self.recover(),
        }
    }

    /// A pause behind a wait says that all before it is on the disk. A frame without records that stands at its index may
    /// not hold all the same, and nothing written behind it would leave it a torn tail.
    fn is_as_the_pause_says(&self) -> Result<bool, Error> {
        Ok(self.tail.durable < self.tail.next || self.is_whole()?)
    }

    pub(super) fn is_whole(&self) -> Result<bool, Error> {
        Ok(whole(&self.log, &self.segment, &self.tail)?.offset == self.tail.offset)
    }

    pub(super) fn sync_names(&self) -> Result<(), Error> {
        self.log.system.disk.sync_dir(&self.log.dir).doing("sync", &self.log.dir)
    }

    /// The shard has ended. Its children may take records as soon as this is known, so it is durable before.
    pub(super) fn closed(&mut self, end: EndOfShard) -> Error {
        self.sync_segment().err().unwrap_or(Error::Closed(end))
    }

    /// Keeps what is whole, makes it durable, and goes on in a new segment at the ceiling.
    pub(super) fn recover(&mut self) -> Result<(), Error> {
        let whole = whole(&self.log, &self.segment, &self.tail)?;
        self.sync_segment()?;
        self.begin_at_ceiling(&whole, Fate::Recovered)
    }

    pub(super) fn begin_at_ceiling(&mut self, whole: &Tail, fate: Fate) -> Result<(), Error> {
        let producers =
            if self.tail.provenance_seen { self.read_producers(whole.offset)? } else { Producers::new() };
        let predecessor =
            Predecessor { base: self.segment.header.base, bytes: whole.offset, end: whole.next, fate };
        let base = self.segment.header.ceiling;
        self.begin(base, predecessor, &producers)
    }

    /// Creates the next segment and goes there.
    pub(super) fn begin(
        &mut self,
        base: u64,
        predecessor: Predecessor,
        producers: &Producers,
    ) -> Result<(), Error> {
        let created_us = self.log.system.clock.now_us().max(self.tail.arrival_us);
        let header = next_header(&self.log, base, created_us, Some(predecessor));
        let states: Vec<ProducerState> = producers.values().flatten().cloned().collect();
        let frames = if states.is_empty() {
            Vec::new()
        } else {
            let head = FrameHeader {
                provenance_seen: true,
                ..FrameHeader::of(Kind::Producers, base, created_us, base)
            };
            control_frame(&header.identity(), head, &encode_producers(&states))
        };
        let segment = Segment::create(&self.log, header, &frames)?;
        self.enter(segment)
    }

    /// Goes on in another segment, from its start.
    ///
    /// # Errors
    /// [`Error::Condemned`], once, if records that this process had written were given up on the way.
    pub(super) fn enter(&mut self, segment: Segment) -> Result<(), Error> {
        let arrival_us = self.tail.arrival_us;
        let left = self.segment.header.base;
        let lost = segment.header.predecessor.is_some_and(|p| p.base == left && p.end < self.written);
        let path = self.segment.path.clone();
        self.written = 0;
        self.synced_bytes = 0;
        self.tail = Tail::start(&segment.header);
        self.tail.arrival_us = self.tail.arrival_us.max(arrival_us);
        self.segment = Arc::new(segment);
        self.index = None;
        // What producers this process knew is carried into the new segment's own list; it is read again when needed.
        self.producers = None;
        let len = self.segment.len()?;
        let ending = self.follow(len)?;
        let arrived = self.arrive(ending);
        if lost { Err(Error::Condemned { path, source: None }) } else { arrived }
    }

    pub(super) fn follow(&mut self, len: u64) -> Result<Ending, Error> {
        let mut tellers = Vec::new();
        let wanted = self.producers.is_some();
        let ending = self.tail.follow(&self.segment, len, |offset, header| {
            if wanted && (header.provenance_bytes > 0 || header.kind == Kind::Producers) {
                tellers.push(offset);
            }
        })?;
        if let Some(mut producers) = self.producers.take() {
            let mut walk = Walk::new(&self.segment, len);
            for offset in tellers {
                learn(&self.segment, &mut walk, offset, self.range, &mut producers)?;
            }
            self.producers = Some(producers);
        }
        Ok(ending)
    }

    /// Learns what other processes have appended since the last look. The append lock is held.
    pub(super) fn catch_up(&mut self) -> Result<(), Error> {
        let len = self.segment.len()?;
        if len == self.tail.offset {
            if !self.tail.is_over() {
                return Ok(());
            }
            // This process wrote the last frame and came no further: whatever it says still has to be done.
            self.tail.offset -= self.tail.last_frame.map_or(0, |last| len - last);
        }
        if len < self.tail.offset {
            return Err(Error::Damaged {
                path: self.segment.path.clone(),
                offset: len,
                reason: "the segment has become shorter",
            });
        }
        let ending = self.follow(len)?;
        self.arrive(ending)
    }

    /// Goes where the end of the segment says, while other writers may be alive.
    pub(super) fn arrive(&mut self, ending: Ending) -> Result<(), Error> {
        match ending {
            Ending::Open | Ending::Paused(_) => Ok(()),
            Ending::Closed(end) => Err(self.closed(end)),
            Ending::Sealed(_) | Ending::Condemned | Ending::Torn => {
                let base = self.segment.header.base;
                match (list(&self.log)?.into_iter().find(|&other| other > base), ending) {
                    (Some(next), _) => {
                        let segment = Segment::open(&self.log, next, true)?;
                        // Whoever created it may have been killed before its name was durable.
                        self.sync_names()?;
                        self.enter(segment)
                    }
                    (None, Ending::Sealed(next)) => self.finish_roll(next),
                    (None, Ending::Condemned) => self.go_on_after_condemned(),
                    // A writer died inside a write.
                    (None, _) => self.recover(),
                }
            }
        }
    }
}
