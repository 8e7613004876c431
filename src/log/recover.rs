//! Finding the end of a log, and telling a torn tail from damage.

use super::LogDir;
use super::error::{Doing, Error};
use super::frame::control::{decode_pause, decode_seal};
use super::frame::segment::SEGMENT_HEADER_BYTES;
use super::frame::{EndOfShard, FrameHeader, HEADER_BYTES, Kind, SegmentHeader, crc32c};
use super::index::IndexReader;
use super::segment::{At, Segment, Walk};

/// The end of a segment as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Where the next frame goes.
    pub(crate) offset: u64,
    /// The next record's index.
    pub(crate) next: u64,
    /// No record may arrive before this.
    pub(crate) arrival_us: i64,
    /// Every record below this index is on the disk.
    pub(crate) durable: u64,
    /// Where the last frame begins.
    pub(crate) last_frame: Option<u64>,
    /// Whether the segment tells of producers.
    pub(crate) provenance_seen: bool,
    /// What the last frame is.
    pub(crate) last: Option<Kind>,
}

/// How a segment ends, going by its last frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a whole frame, or with nothing.
    Open,
    /// With the mark of writers that left in order, under this boot id.
    Paused(u64),
    /// With a seal that names the next segment.
    Sealed(u64),
    /// With the end of the shard.
    Closed(EndOfShard),
    /// With the note that a sync failed.
    Condemned,
    /// With bytes that are no whole frame, from the tail's offset on.
    Torn,
}

impl Tail {
    /// The tail of a segment in which nothing has been read yet.
    pub(crate) fn start(header: &SegmentHeader) -> Self {
        Self {
            offset: SEGMENT_HEADER_BYTES as u64,
            next: header.base,
            arrival_us: header.created_us,
            // All that came before the segment is on the disk, or was given up.
            durable: header.base,
            last_frame: None,
            provenance_seen: false,
            last: None,
        }
    }

    /// A place near the end to follow from: the last frame that the index knows, if it is what the index says.
    pub(crate) fn near_end(log: &LogDir, segment: &Segment, len: u64) -> Result<Self, Error> {
        let start = Self::start(&segment.header);
        let Some(entry) = IndexReader::open(log, &segment.header).last() else { return Ok(start) };
        match Walk::new(segment, len).at(entry.offset)? {
            At::Frame(header, _) if header.first == entry.first && header.arrival_us == entry.arrival_us => {
                Ok(Self {
                    offset: entry.offset,
                    next: entry.first,
                    arrival_us: entry.arrival_us,
                    durable: start.durable.max(header.durable),
                    // It is in the index already; the exact place before it does not matter.
                    last_frame: Some(entry.offset),
                    provenance_seen: header.provenance_seen,
                    ..start
                })
            }
            _ => Ok(start),
        }
    }

    /// Follows the frames up to `len` by their headers. `each` sees every frame with its offset.
    pub(crate) fn follow(
        &mut self,
        segment: &Segment,
        len: u64,
        mut each: impl FnMut(u64, &FrameHeader),
    ) -> Result<Ending, Error> {
        let mut walk = Walk::new(segment, len);
        let mut last = None;
        loop {
            match walk.at(self.offset)? {
                At::Frame(header, crc) if header.first == self.next => {
                    each(self.offset, &header);
                    self.step(&header);
                    last = Some((header, crc));
                    if matches!(header.kind, Kind::Seal | Kind::End | Kind::Condemned) {
                        break;
                    }
                }
                At::End => break,
                At::Frame(..) | At::Cut | At::Invalid => {
                    // Damage if anything behind it says that this was once durable: then the log goes on there.
                    match walk.behind(self.offset, self.next, self.durable)? {
                        Some((offset, header)) => {
                            self.offset = offset;
                            self.next = header.first;
                        }
                        None => return Ok(Ending::Torn),
                    }
                }
            }
        }
        let Some((header, crc)) = last else { return Ok(Ending::Open) };
        if header.kind == Kind::Records {
            return Ok(Ending::Open);
        }
        let at = self.offset - u64::from(header.stored_bytes);
        let body = walk.bytes(at, header.stored_bytes as usize)?;
        if crc32c(body) != crc {
            // Power was lost before it was whole.
            self.offset = at - HEADER_BYTES as u64;
            self.last = None;
            return Ok(Ending::Torn);
        }
        let ending = match header.kind {
            Kind::Records | Kind::Producers | Kind::Gap => Some(Ending::Open),
            Kind::Pause => decode_pause(body).map(Ending::Paused),
            // It names the place right behind itself, or it would send the log where others are.
            Kind::Seal => decode_seal(body)
                .filter(|&(_, base)| base == self.next && base > segment.header.base)
                .map(|(_, base)| Ending::Sealed(base)),
            Kind::End => EndOfShard::decode(body).map(Ending::Closed),
            Kind::Condemned => Some(Ending::Condemned),
        };
        ending.ok_or_else(|| Error::Damaged {
            path: segment.path.clone(),
            offset: at - HEADER_BYTES as u64,
            reason: "the segment's last frame does not hold",
        })
    }

    fn step(&mut self, header: &FrameHeader) {
        self.last_frame = Some(self.offset);
        self.offset += header.frame_bytes();
        self.next = header.end();
        self.arrival_us = self.arrival_us.max(header.arrival_us);
        self.durable = self.durable.max(header.durable);
        self.provenance_seen |= header.provenance_seen;
        self.last = Some(header.kind);
    }

    /// Whether nothing may stand behind the last frame.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.last, Some(Kind::Seal | Kind::End | Kind::Condemned))
    }
}

/// The end of what is whole in a segment: verifies the body of every frame that is not known to be durable, and stops
/// at the first that does not hold. `tail` is where the headers end.
pub(crate) fn whole(log: &LogDir, segment: &Segment, tail: &Tail) -> Result<Tail, Error> {
    let len = tail.offset;
    let mut at = Tail::start(&segment.header);
    // A frame that begins below what is durable was synced, and all before it. Of one that begins right there neither
    // is known: a pause that the power took may stand before it.
    if let Some(entry) =
        IndexReader::open(log, &segment.header).last_where(|entry| entry.first < tail.durable)
        && entry.offset < len
    {
        at.offset = entry.offset;
        at.next = entry.first;
    }
    let mut walk = Walk::new(segment, len);
    let mut stored = Vec::new();
    loop {
        match walk.at(at.offset)? {
            // It stands behind what counts.
            At::Frame(header, _) if header.kind == Kind::Condemned => break,
            At::Frame(header, crc) if header.first == at.next => {
                // A frame without records is judged by the place at which it stands.
                let above = header.end() > tail.durable || header.first >= tail.durable;
                if above && !segment.stored(at.offset, &header, crc, &mut stored)? {
                    break;
                }
                at.step(&header);
            }
            At::End => break,
            At::Frame(..) | At::Cut | At::Invalid => match walk.behind(at.offset, at.next, tail.durable)? {
                Some((offset, header)) => {
                    at.offset = offset;
                    at.next = header.first;
                }
                None => break,
            },
        }
    }
    at.durable = tail.durable.min(at.next).max(at.durable);
    at.arrival_us = at.arrival_us.max(tail.arrival_us);
    Ok(at)
}

/// Whether the device has the whole of a condemned segment up to the end of the shard. No successor can say so: whoever
/// condemned it found the end, and wrote no more.
pub(crate) fn is_ended_on_device(segment: &Segment, log: &LogDir) -> Result<bool, Error> {
    let ended = || -> Result<Option<Tail>, Error> {
        let mut tail = Tail::start(&segment.header);
        let ending = tail.follow(segment, segment.len()?, |_, _| {})?;
        Ok(matches!(ending, Ending::Closed(_)).then_some(tail))
    };
    // Where it goes on it is for its writers to say what is given up.
    if ended()?.is_none() {
        return Ok(false);
    }
    // As where a segment is condemned: what is still dirty is written or given up, and what was given up is forgotten.
    let _ = segment.file.sync_data();
    segment.file.forget_cache().doing("read back", &segment.path)?;
    match ended()? {
        Some(tail) => Ok(whole(log, segment, &tail)?.offset == tail.offset),
        None => Ok(false),
    }
}
