//! What a log holds that nobody writes to any more.

use super::LogDir;
use super::error::Error;
use super::frame::{EndOfShard, ProducerState};
use super::recover::{Ending, Tail, is_ended_on_device};
use super::segment::{Segment, list};
use super::writer::read_producers;
use crate::hash::HashRange;

/// The end of a log, as a look at its last segment tells it.
#[derive(Debug, Clone)]
pub struct AtRest {
    /// The index after the last record.
    pub next: u64,
    /// When the last record arrived, or the segment was created.
    pub arrival_us: i64,
    /// Where all producers stand.
    pub producers: Vec<ProducerState>,
    /// The closing frame, if the shard has ended.
    pub end: Option<EndOfShard>,
}

/// Looks at the end of a log without a lock: exact where nobody writes, a moment's view elsewhere.
pub fn at_rest(log: &LogDir, range: HashRange) -> Result<AtRest, Error> {
    let base = *list(log)?.last().ok_or_else(|| Error::Empty { dir: log.dir.clone() })?;
    let segment = Segment::open(log, base, false)?;
    let len = segment.len()?;
    let mut tail = Tail::near_end(log, &segment, len)?;
    let ending = tail.follow(&segment, len, |_, _| {})?;
    let producers = if tail.provenance_seen {
        read_producers(&segment, tail.offset, range)?.into_values().flatten().collect()
    } else {
        Vec::new()
    };
    let end = match ending {
        Ending::Closed(end) => Some(end),
        _ => None,
    };
    Ok(AtRest { next: tail.next, arrival_us: tail.arrival_us, producers, end })
}

/// Makes all that is in a log durable, whoever wrote it: everything before the last segment is so already.
///
/// # Errors
/// [`Error::Condemned`] if that failed. No process acknowledges what is in that segment afterwards.
pub fn make_durable(log: &LogDir) -> Result<(), Error> {
    let base = *list(log)?.last().ok_or_else(|| Error::Empty { dir: log.dir.clone() })?;
    let segment = Segment::open(log, base, false)?;
    match segment.sync(&*log.system.disk) {
        // Where the shard has ended there is nothing to go on in, only what the device gives back.
        Err(Error::Condemned { .. }) if is_ended_on_device(&segment, log)? => Ok(()),
        other => other,
    }
}
