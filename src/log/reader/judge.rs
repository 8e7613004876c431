//! What stands at the reader's place: a frame, the tail, the segment's end, or damage?

use super::super::error::Error;
use super::super::frame::{FrameHeader, HEADER_BYTES, Invalid, Kind};
use super::super::segment::{Bound, Walk};
use super::{Damage, Reader};

/// What stands at a place.
pub(super) enum Head {
    /// A frame whose header holds, with the CRC-32C that its stored bytes must have.
    Frame(FrameHeader, u32),
    /// Nothing yet.
    Wait,
    /// The segment is at its end; this is the base of the next.
    Over(u64),
    /// Damage.
    Damage(Damage),
}

impl Reader {
    /// What stands at the reader's place; the body of a frame that is returned holds too, where a reader needs it.
    pub(super) fn whole_head(&mut self) -> Result<Head, Error> {
        loop {
            let head = self.head()?;
            let Head::Frame(header, crc) = head else { return Ok(head) };
            if !matches!(header.kind, Kind::Records | Kind::End) {
                return Ok(head);
            }
            if self.has_body(&header, crc)? {
                return Ok(if self.makes_sense(&header) { head } else { self.nonsense(&header)? });
            }
            let judged = self.judge_body(&header, crc)?;
            // Else it holds by now.
            if !matches!(judged, Head::Frame(..)) {
                return Ok(judged);
            }
        }
    }

    /// Checksums hold and the body is not what its header says: it was written like that, so it is damage at the tail
    /// too, and will not get better.
    fn nonsense(&self, header: &FrameHeader) -> Result<Head, Error> {
        let Some(segment) = &self.segment else { return Err(self.empty()) };
        Ok(Head::Damage(Damage {
            path: segment.path.clone(),
            offset: self.offset,
            until: self.offset + header.frame_bytes(),
            first: header.first,
            next: header.end(),
            reason: "a frame's body is not what its header says",
        }))
    }

    /// What stands at the reader's place.
    pub(super) fn head(&mut self) -> Result<Head, Error> {
        if let Some(head) = self.valid_head()? {
            return Ok(head);
        }
        // The tail, a write that is going on, or damage. What follows the segment is looked at first, and then the
        // place once more: a segment that is followed by another does not change any more.
        let successor = self.successor()?;
        self.filled = 0;
        if let Some(head) = self.valid_head()? {
            return Ok(head);
        }
        self.judge(successor, self.offset, "a frame's header does not hold")
    }

    /// The frame at the reader's place, if its header holds and it stands where its index says.
    pub(super) fn valid_head(&mut self) -> Result<Option<Head>, Error> {
        if self.limit.is_some_and(|limit| self.offset >= limit) || !self.fill(HEADER_BYTES)? {
            return Ok(None);
        }
        let Some(segment) = &self.segment else { return Ok(None) };
        let start = (self.offset - self.buffer_at) as usize;
        match FrameHeader::decode(&self.buffer[start..self.filled], &segment.identity) {
            Ok((header, crc)) if header.first == self.next => match header.kind {
                Kind::Seal => {
                    self.durable = self.durable.max(header.durable);
                    Ok(Some(self.successor()?.map_or(Head::Wait, |(base, _)| Head::Over(base))))
                }
                Kind::Condemned => Ok(None),
                _ => Ok(Some(Head::Frame(header, crc))),
            },
            Ok(_) | Err(Invalid::Checksum) => Ok(None),
            Err(Invalid::Newer(what)) => Err(Error::Newer { path: segment.path.clone(), what }),
        }
    }

    /// The next segment, if there is one, and where this one ends.
    pub(super) fn successor(&self) -> Result<Option<(u64, Option<Bound>)>, Error> {
        self.segment.as_ref().map_or(Ok(None), |segment| segment.follower(&self.log))
    }

    /// Nothing valid stands at the reader's place: the tail, the end of what counts, or damage? A search for what is
    /// valid behind it begins at `from`.
    pub(super) fn judge(
        &mut self,
        successor: Option<(u64, Option<Bound>)>,
        from: u64,
        reason: &'static str,
    ) -> Result<Head, Error> {
        let Some(segment) = &self.segment else { return Err(self.empty()) };
        let len = segment.len()?;
        let damage = |until, next| {
            let (path, offset, first) = (segment.path.clone(), self.offset, self.next);
            Head::Damage(Damage { path, offset, until, first, next, reason })
        };
        match successor {
            Some((_, Some(bound)))
                if bound.said.is_none() && self.offset >= bound.bytes && self.next < bound.end =>
            {
                // Cut short, and there is nobody to say by how much: by a frame at least.
                Ok(damage(self.offset + HEADER_BYTES as u64, bound.end))
            }
            Some((base, Some(bound))) if self.offset >= bound.bytes => {
                if let Some(end) = bound.gave_up_from().filter(|&end| self.next > end) {
                    self.given_up.get_or_insert((end, segment.path.clone()));
                }
                self.next = self.next.max(bound.end);
                Ok(Head::Over(base))
            }
            Some((_, Some(bound))) => {
                let found = Walk::new(segment, bound.bytes.min(len)).resync(from, self.next)?;
                Ok(found.map_or(damage(bound.bytes, bound.end.max(self.next)), |(at, header)| {
                    damage(at, header.first)
                }))
            }
            // Retention has taken both while this one was read: where it ends nobody says any more.
            Some((base, None)) => Ok(Head::Over(base)),
            None if self.looked == Some((self.offset, len)) => Ok(Head::Wait),
            None => {
                let behind = Walk::new(segment, len).behind(from, self.next, self.durable)?;
                if let Some((at, header)) = behind {
                    let damage = damage(at, header.first);
                    // The place was being written when it was looked at, and what is behind it has been written since?
                    // A frame stands behind it only once it is whole, so another look decides.
                    self.filled = 0;
                    return match self.valid_head()? {
                        Some(Head::Frame(now, crc)) if self.has_body(&now, crc)? => Ok(Head::Frame(now, crc)),
                        Some(head @ (Head::Over(_) | Head::Wait)) => Ok(head),
                        _ => Ok(damage),
                    };
                }
                self.looked = Some((self.offset, len));
                Ok(Head::Wait)
            }
        }
    }

    /// The header at the reader's place holds and the body does not.
    pub(super) fn judge_body(&mut self, header: &FrameHeader, crc: u32) -> Result<Head, Error> {
        let successor = self.successor()?;
        self.filled = 0;
        // The header too is read again: what was there before may have been cut off, and something else written.
        match self.valid_head()? {
            Some(Head::Frame(again, its_crc)) if again == *header && its_crc == crc => {}
            Some(head) => return Ok(head),
            None => return self.judge(successor, self.offset, "a frame's header does not hold"),
        }
        if self.has_body(header, crc)? {
            return Ok(Head::Frame(*header, crc));
        }
        let Some(segment) = &self.segment else { return Err(self.empty()) };
        let until = self.offset + header.frame_bytes();
        let counts = match successor {
            Some((_, Some(bound))) => bound.bytes >= until,
            _ => {
                segment.len()? >= until
                    && self.durable.max(header.durable) >= header.end()
                    && header.count > 0
            }
        };
        let reason = "a frame's body does not hold";
        if counts {
            let (path, offset) = (segment.path.clone(), self.offset);
            let (first, next) = (header.first, header.end());
            return Ok(Head::Damage(Damage { path, offset, until, first, next, reason }));
        }
        self.judge(successor, self.offset, reason)
    }
}
