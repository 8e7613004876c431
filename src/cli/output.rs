//! Standard output: in lines to somebody who watches, in large blocks to everything else.
//!
//! When the reader has closed its end, writing fails with an error that [`is_closed`] knows and that ends a program
//! with status 0. When a signal asks to finish while the reader takes nothing, writing waits a little longer and then
//! gives up with [`Interrupted`], so that a stuck reader cannot keep a program alive.

use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;

use super::signal::{Interrupted, Shutdown};
use crate::sys;

/// What is gathered before it is written, and what a pipe of ours is asked to hold: the largest that an unprivileged
/// process may have.
pub const BLOCK_BYTES: usize = 1 << 20;

/// What is as large as this gains nothing by passing through the buffer.
const DIRECT_BYTES: usize = 64 << 10;

/// How long a reader that takes nothing is waited for once a signal has asked to finish.
const GRACE: Duration = Duration::from_secs(2);

/// The reader of standard output closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed by its reader")
    }
}

impl Error for Closed {}

/// The error of writing to a closed standard output.
pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, Closed)
}

/// Whether this error says that the reader of standard output went away. A pipe to a child that broke is another
/// matter: what was given to it may be lost.
pub fn is_closed(error: &(dyn Error + 'static)) -> bool {
    error.is::<Closed>()
        || error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(<dyn Error + Send + Sync>::is::<Closed>)
}

/// Whether standard output is a file, or `/dev/null`: nobody sees it as it is written.
pub fn is_kept_or_thrown_away() -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stdout()) else { return true };
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() || is_null(&stat)
}

/// Whether the program was started with its standard output closed. Rust opens `/dev/null` in its place, for reading
/// and writing; a shell's `> /dev/null` is for writing alone.
pub fn was_closed_at_start() -> bool {
    let both =
        rustix::fs::fcntl_getfl(io::stdout()).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR);
    both && rustix::fs::fstat(io::stdout()).is_ok_and(|stat| is_null(&stat))
}

fn is_null(stat: &rustix::fs::Stat) -> bool {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device() && (major, minor) == (1, 3)
}

/// When written bytes leave the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffering {
    /// With every end of a line.
    Lines,
    /// When a block is full, or on `flush`.
    Blocks,
}

/// Standard output, buffered here. `flush` it at the end: dropping it does not, for an error there would be lost.
#[derive(Debug)]
pub struct Stdout {
    file: File,
    /// Whether the writes cannot block, because the pipe could be opened anew.
    nonblocking: bool,
    is_pipe: bool,
    buffering: Buffering,
    buffer: Vec<u8>,
    shutdown: Option<&'static Shutdown>,
    /// Bytes that have left the program.
    written: u64,
}

impl Stdout {
    /// Lines to a terminal and when following, blocks otherwise.
    pub fn open(follow: bool, shutdown: Option<&'static Shutdown>) -> io::Result<Self> {
        let stdout = io::stdout();
        let lines = follow || stdout.is_terminal();
        let file = File::from(stdout.as_fd().try_clone_to_owned()?);
        Ok(Self::over(file, if lines { Buffering::Lines } else { Buffering::Blocks }, shutdown))
    }

    fn over(file: File, buffering: Buffering, shutdown: Option<&'static Shutdown>) -> Self {
        let is_pipe = file.metadata().is_ok_and(|meta| meta.file_type().is_fifo());
        let mut stdout = Self {
            file,
            nonblocking: false,
            is_pipe,
            buffering,
            buffer: Vec::with_capacity(BLOCK_BYTES),
            shutdown,
            written: 0,
        };
        if is_pipe {
            // Refused beyond the user's share of pipe memory; a small pipe is only slower.
            let _ = rustix::pipe::fcntl_setpipe_size(&stdout.file, BLOCK_BYTES);
            if shutdown.is_some() {
                stdout.reopen();
            }
        }
        stdout
    }

    /// Opens the pipe anew, so that `O_NONBLOCK` on it is ours alone: set on the inherited descriptor it would change
    /// the pipe for every process that shares it, the shell's included.
    fn reopen(&mut self) {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = OFlags::NONBLOCK.bits() as i32;
        if let Ok(file) = OpenOptions::new().write(true).custom_flags(flags).open(path) {
            self.file = file;
            self.nonblocking = true;
        }
    }

    /// How many written bytes the reader has not yet taken out of the pipe; `None` where that cannot be told.
    pub fn untaken(&self) -> Option<u64> {
        if self.is_pipe { rustix::io::ioctl_fionread(&self.file).ok() } else { None }
    }

    /// Writes `bytes`, which lie in `file` at `offset` as well: into a pipe they go without being copied.
    pub fn pass(&mut self, bytes: &[u8], file: &dyn sys::File, offset: u64) -> io::Result<()> {
        if !self.is_pipe || bytes.len() < DIRECT_BYTES {
            return self.write_all(bytes);
        }
        self.flush()?;
        let (mut done, mut deadline) = (0, None);
        while done < bytes.len() {
            let sent = file.splice_into(offset + done as u64, bytes.len() - done, self.file.as_fd());
            match sent.map_err(|error| (rustix::io::Errno::from_io_error(&error), error)) {
                Ok(Some(sent)) if sent > 0 => {
                    done += sent;
                    self.written += sent as u64;
                    deadline = None;
                }
                Ok(_) => return self.write_all(&bytes[done..]),
                Err((Some(rustix::io::Errno::INTR), _)) => {}
                Err((Some(rustix::io::Errno::AGAIN), _)) => {
                    wait_writable(&self.file, self.shutdown, &mut deadline)?;
                }
                Err((Some(rustix::io::Errno::PIPE), _)) => return Err(closed()),
                Err((_, error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many bytes have left the program.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many of the bytes that left the program the other side is known to have taken: those that are no longer in
    /// the pipe; where it is no pipe, all. Other writers of the same pipe make it look fuller than it is, never emptier.
    pub fn taken(&self) -> u64 {
        self.written.saturating_sub(self.untaken().unwrap_or(0))
    }

    /// Makes what was written durable, where it went to a file.
    pub fn sync(&self) -> io::Result<()> {
        if self.file.metadata()?.is_file() { self.file.sync_data() } else { Ok(()) }
    }

    /// Whether the reader has closed its end: found out without writing, for a follower that has nothing to write.
    pub fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(&self.file, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.is_pipe
            && rustix::event::poll(&mut fds, Some(&at_once)).is_ok()
            && fds[0].revents().contains(PollFlags::ERR)
    }

    /// Becomes readable-with-error when the reader goes away: to be polled for nothing but POLLERR.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes all of `self.buffer[..len]` and keeps the rest.
    fn drain(&mut self, len: usize) -> io::Result<()> {
        let mut done = 0;
        let result = write_to(&self.file, &self.buffer[..len], &mut done, self.shutdown);
        // After an error what was written is gone from the buffer all the same: it is never written twice.
        self.buffer.drain(..done);
        self.written += done as u64;
        result
    }
}

/// Writes all of `bytes`, counting in `done`; waits where the pipe is full.
fn write_to(
    file: &File,
    bytes: &[u8],
    done: &mut usize,
    shutdown: Option<&'static Shutdown>,
) -> io::Result<()> {
    let mut deadline = None;
    while *done < bytes.len() {
        match rustix::io::write(file, &bytes[*done..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                *done += written;
                deadline = None;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_writable(file, shutdown, &mut deadline)?,
            Err(rustix::io::Errno::PIPE) => return Err(closed()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until `file` takes bytes; from the request to finish on, no longer than [`GRACE`].
fn wait_writable(
    file: &File,
    shutdown: Option<&'static Shutdown>,
    deadline: &mut Option<Instant>,
) -> io::Result<()> {
    let mut fds = vec![PollFd::new(file, PollFlags::OUT)];
    let mut timeout = None;
    if let Some(shutdown) = shutdown {
        if shutdown.requested() {
            let left = deadline
                .get_or_insert_with(|| Instant::now() + GRACE)
                .saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Interrupted.into());
            }
            timeout = Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        } else {
            fds.push(PollFd::from_borrowed_fd(shutdown.fd(), PollFlags::IN));
        }
    }
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BLOCK_BYTES || bytes.len() >= DIRECT_BYTES {
            self.flush()?;
            if bytes.len() >= DIRECT_BYTES {
                let mut done = 0;
                let result = write_to(&self.file, bytes, &mut done, self.shutdown);
                self.written += done as u64;
                return result;
            }
        }
        let before = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        if self.buffering == Buffering::Lines
            && let Some(end) = memchr::memrchr(b'\n', bytes)
        {
            return self.drain(before + end + 1);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain(self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn piped(buffering: Buffering) -> (Stdout, File) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (Stdout::over(writer.into(), buffering, None), reader.into())
    }

    fn taken(reader: &mut File, len: usize) -> String {
        let mut bytes = vec![0; len];
        reader.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_leave_with_their_end() {
        let (mut out, mut reader) = piped(Buffering::Lines);
        out.write_all(b"one").unwrap();
        assert_eq!(out.untaken(), Some(0));
        out.write_all(b" more\ntwo\nthr").unwrap();
        assert_eq!(out.untaken(), Some(13));
        assert_eq!(taken(&mut reader, 13), "one more\ntwo\n");
        out.write_all(b"ee\n").unwrap();
        assert_eq!(taken(&mut reader, 6), "three\n");
    }

    #[test]
    fn blocks_leave_when_full_or_flushed() {
        let (mut out, mut reader) = piped(Buffering::Blocks);
        out.write_all(b"one\n").unwrap();
        assert_eq!(out.untaken(), Some(0));
        out.flush().unwrap();
        assert_eq!(taken(&mut reader, 4), "one\n");
        let whole = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let mut sent = Vec::new();
        for (i, len) in [1, BLOCK_BYTES - 1, 7, BLOCK_BYTES, 3 * BLOCK_BYTES + 5, 100].into_iter().enumerate()
        {
            let piece = vec![i as u8; len];
            out.write_all(&piece).unwrap();
            sent.extend(piece);
        }
        out.flush().unwrap();
        drop(out);
        assert!(whole.join().unwrap() == sent);
    }

    #[test]
    fn a_reopened_pipe_waits_for_a_slow_reader() {
        let (mut out, mut reader) = piped(Buffering::Blocks);
        out.reopen();
        let whole = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes.len()
        });
        out.write_all(&vec![7; 5 << 20]).unwrap();
        drop(out);
        assert_eq!(whole.join().unwrap(), 5 << 20);
    }

    #[test]
    fn a_reader_that_went_away_is_told_from_other_errors() {
        let (mut out, reader) = piped(Buffering::Lines);
        assert!(!out.is_closed());
        drop(reader);
        assert!(out.is_closed());
        let error = out.write_all(b"x\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(anyhow::Error::new(error).context("shard 3").chain().any(is_closed));
        assert!(!is_closed(&io::Error::from(io::ErrorKind::BrokenPipe)));
    }
}
