//! Standard input or a file as blocks of bytes, read into one buffer that is used again and again.
//!
//! ```text
//! loop {
//!     match reader.fill(timeout)? {
//!         Filled::Data        => reader.consume(decode(reader.block())),   // an unfinished record stays for the next
//!         Filled::TimedOut    => flush what is in hand,
//!         Filled::Interrupted => finish it and end,
//!         Filled::Full        => the record in reader.block() is longer than the limit,
//!         Filled::Eof         => what is left in reader.block() is the last record; end,
//!     }
//! }
//! ```

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;

use super::output;
use super::signal::Shutdown;

/// How much is read at once.
pub const BLOCK_BYTES: usize = 256 << 10;

/// What [`BlockReader::fill`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// The block has grown.
    Data,
    /// The input has ended; the block holds what is left.
    Eof,
    /// Nothing came in the time given.
    TimedOut,
    /// A signal asked to finish. Bytes that wait in the pipe were left there.
    Interrupted,
    /// The block holds `limit` bytes and more, and none were consumed: a record without an end.
    Full,
}

/// Reads blocks; the bytes not consumed of one begin the next.
#[derive(Debug)]
pub struct BlockReader {
    file: File,
    /// A regular file is always ready: it is not polled.
    is_regular: bool,
    shutdown: Option<&'static Shutdown>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
    eof: bool,
    read: u64,
}

impl BlockReader {
    /// Standard input. `limit` is the longest record that must fit; with `shutdown` a signal ends the waiting.
    pub fn stdin(limit: usize, shutdown: Option<&'static Shutdown>) -> io::Result<Self> {
        Self::over(File::from(io::stdin().as_fd().try_clone_to_owned()?), limit, shutdown)
    }

    /// A file, a FIFO or a device.
    pub fn open(path: &Path, limit: usize, shutdown: Option<&'static Shutdown>) -> io::Result<Self> {
        // A FIFO that nobody writes to yet would be opened only when somebody does, whatever signal comes: it is opened
        // at once, and the first writer waited for as all that follows is.
        let waits = std::fs::metadata(path)?.file_type().is_fifo();
        let flags = if waits { OFlags::NONBLOCK } else { OFlags::empty() };
        let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
        Self::over(file, limit, shutdown)
    }

    /// An open file.
    pub fn over(file: File, limit: usize, shutdown: Option<&'static Shutdown>) -> io::Result<Self> {
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if kind.is_fifo() {
            // Refused beyond the user's share of pipe memory; a small pipe is only slower.
            let _ = rustix::pipe::fcntl_setpipe_size(&file, output::BLOCK_BYTES);
        }
        let buffer = vec![0; 2 * BLOCK_BYTES];
        Ok(Self {
            file,
            is_regular: kind.is_file(),
            shutdown,
            buffer,
            start: 0,
            end: 0,
            limit,
            eof: false,
            read: 0,
        })
    }

    /// Whether this is a regular file: all of it is there, and it can be read again.
    pub fn is_regular(&self) -> bool {
        self.is_regular
    }

    /// The file's length, where it has one: the total for a progress bar.
    pub fn len(&self) -> Option<u64> {
        self.file.metadata().ok().filter(|_| self.is_regular).map(|meta| meta.len())
    }

    /// Sets the longest record that must fit.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether nothing more will come behind the block.
    pub fn is_at_end(&self) -> bool {
        self.eof
    }

    /// Whether the block holds as much as it may.
    pub fn is_full(&self) -> bool {
        self.end - self.start >= self.limit.saturating_add(BLOCK_BYTES)
    }

    /// Whether nothing is held and nothing more will come.
    pub fn is_empty(&self) -> bool {
        self.eof && self.start == self.end
    }

    /// Where in the input the block begins: how many bytes were consumed so far.
    pub fn position(&self) -> u64 {
        self.read - (self.end - self.start) as u64
    }

    /// The open file, to look at what it is.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The bytes read and not consumed.
    pub fn block(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Gives up the first `len` bytes of the block.
    pub fn consume(&mut self, len: usize) {
        assert!(len <= self.end - self.start, "consumed more than the block holds");
        self.start += len;
    }

    /// Gives the whole buffer away, of which the bytes in the range were the block, and goes on in `fresh` with what of
    /// the block lies behind its first `used` bytes: for a reader whose blocks are worked on elsewhere.
    pub fn hand_over(&mut self, used: usize, mut fresh: Vec<u8>) -> (Vec<u8>, std::ops::Range<usize>) {
        let rest = self.start + used..self.end;
        fresh.resize(fresh.len().max(rest.len() + 2 * BLOCK_BYTES), 0);
        fresh[..rest.len()].copy_from_slice(&self.buffer[rest.clone()]);
        let given = (std::mem::replace(&mut self.buffer, fresh), self.start..rest.start);
        (self.start, self.end) = (0, rest.len());
        given
    }

    /// Reads once, waiting at most `timeout` for something to read (for ever without one).
    pub fn fill(&mut self, timeout: Option<Duration>) -> io::Result<Filled> {
        if self.eof {
            return Ok(Filled::Eof);
        }
        if self.is_full() {
            return Ok(Filled::Full);
        }
        self.make_room();
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(other) = self.wait(deadline)? {
                return Ok(other);
            }
            match rustix::io::read(&self.file, &mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.eof = true;
                    return Ok(Filled::Eof);
                }
                Ok(len) => {
                    self.end += len;
                    self.read += len as u64;
                    return Ok(Filled::Data);
                }
                // AGAIN: another reader of the pipe was faster, or it is set not to block.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sees to it that a block fits behind what is held.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() - self.end >= BLOCK_BYTES {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() - self.end < BLOCK_BYTES {
            // Doubled, so that a long record is not copied once for every block of it.
            let most = self.limit.saturating_add(2 * BLOCK_BYTES);
            let len = (self.end + BLOCK_BYTES).max(self.buffer.len().saturating_mul(2).min(most));
            self.buffer.resize(len, 0);
        }
    }

    /// Waits for something to read; says what came instead, if something did.
    fn wait(&self, deadline: Option<Instant>) -> io::Result<Option<Filled>> {
        if self.shutdown.is_some_and(Shutdown::requested) {
            return Ok(Some(Filled::Interrupted));
        }
        if self.is_regular {
            return Ok(None);
        }
        let mut fds = Vec::with_capacity(2);
        fds.push(PollFd::new(&self.file, PollFlags::IN));
        fds.extend(self.shutdown.map(|shutdown| PollFd::from_borrowed_fd(shutdown.fd(), PollFlags::IN)));
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => Ok(Some(Filled::TimedOut)),
            Ok(_) if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) => Ok(Some(Filled::Interrupted)),
            Ok(_) => Ok(None),
            // A signal that is no request to finish, a child's end for one.
            Err(rustix::io::Errno::INTR) => self.wait(deadline),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn piped(limit: usize) -> (BlockReader, File) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (BlockReader::over(reader.into(), limit, None).unwrap(), writer.into())
    }

    const SOON: Option<Duration> = Some(Duration::from_millis(5));

    #[test]
    fn an_unfinished_tail_begins_the_next_block() {
        let (mut reader, mut writer) = piped(100);
        assert_eq!(reader.fill(SOON).unwrap(), Filled::TimedOut);
        writer.write_all(b"one\ntw").unwrap();
        assert_eq!(reader.fill(SOON).unwrap(), Filled::Data);
        reader.consume(4);
        assert_eq!((reader.block(), reader.position()), (&b"tw"[..], 4));
        writer.write_all(b"o\n").unwrap();
        drop(writer);
        assert_eq!(reader.fill(None).unwrap(), Filled::Data);
        assert_eq!(reader.block(), b"two\n");
        assert_eq!(reader.fill(None).unwrap(), Filled::Eof);
        assert_eq!(reader.block(), b"two\n", "what is held survives the end");
        reader.consume(4);
        assert!(reader.is_empty());
        assert_eq!(reader.fill(None).unwrap(), Filled::Eof);
    }

    #[test]
    fn a_record_without_end_stops_at_the_limit() {
        let (mut reader, mut writer) = piped(3 * BLOCK_BYTES);
        let filler = std::thread::spawn(move || while writer.write_all(&[b'x'; 8192]).is_ok() {});
        let last = loop {
            match reader.fill(None).unwrap() {
                Filled::Data => assert!(reader.buffer.len() <= 5 * BLOCK_BYTES, "{}", reader.buffer.len()),
                other => break other,
            }
        };
        assert_eq!(last, Filled::Full);
        assert!(reader.block().len() >= 3 * BLOCK_BYTES);
        reader.consume(reader.block().len());
        assert_eq!(reader.fill(None).unwrap(), Filled::Data, "and goes on once it was dealt with");
        drop(reader);
        filler.join().unwrap();
    }

    #[test]
    fn a_file_is_read_whole_in_any_steps() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        let mut reader = BlockReader::open(file.path(), 1 << 20, None).unwrap();
        assert!(reader.is_regular());
        assert_eq!(reader.len(), Some(3_000_000));
        let mut seen = Vec::new();
        while reader.fill(None).unwrap() != Filled::Eof {
            let take = reader.block().len() * 2 / 3;
            seen.extend_from_slice(&reader.block()[..take]);
            reader.consume(take);
        }
        seen.extend_from_slice(reader.block());
        assert!(seen == bytes);
        assert_eq!(
            BlockReader::open(Path::new("/"), 1, None).unwrap_err().kind(),
            io::ErrorKind::IsADirectory
        );
    }
}
