//! The command: a line in, a line out.
//!
//! Its promise: nothing the command does blocks whoever waits for it beyond the deadline he gives, and no line grows
//! beyond what is allowed.
//!
//! Two threads stand between: one writes what is asked, so that a command that writes before it has read all does not
//! find nobody reading; one reads. The one that reads has also started the command and stays until that is over, for the
//! command is killed when the thread that started it ends.

use std::io::{self, ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::process::{dies_with_this_thread, ends_by, kill_group_of, shell};

/// Lines that have been read and are not looked at yet. A command that writes without being asked waits then.
const LINES_MAX: usize = 4;
/// So long a command may still answer that does not read any more: what it has read before.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// It wrote a line.
    Line(Vec<u8>),
    /// It wrote one that was too long, and that has been passed over.
    TooLong,
    /// It has closed its output; part of a line is none.
    Ended,
    /// It has closed its input, and said nothing more.
    Unwritable,
    /// It did nothing in time.
    TimedOut,
}

/// A running command.
pub(super) struct Running {
    child: Child,
    /// Whether it has been waited for: its number may be another's.
    over: bool,
    requests: Option<Sender<Vec<u8>>>,
    events: Receiver<Event>,
    unwritable: bool,
    /// The thread that started the command goes when this does.
    _hold: SyncSender<()>,
}

impl Running {
    pub(super) fn start(
        command: &str,
        variables: &[(String, String)],
        line_bytes_max: usize,
    ) -> io::Result<Self> {
        let mut shell = shell(command);
        dies_with_this_thread(&mut shell);
        shell
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let (told, events) = mpsc::sync_channel(LINES_MAX);
        let (hold, held) = mpsc::sync_channel::<()>(0);
        let (started, starting) = mpsc::sync_channel(1);
        let teller = told.clone();
        let reads = thread::Builder::new().name("transform-out".to_owned());
        reads.spawn(move || {
            let mut spawned = shell.spawn();
            let stdout = spawned.as_mut().ok().and_then(|child| child.stdout.take());
            if started.send(spawned).is_ok()
                && let Some(stdout) = stdout
            {
                read_lines(stdout, line_bytes_max, &told);
                // Until it is over.
                let _ = held.recv();
            }
        })?;
        let mut child = starting.recv().map_err(io::Error::other)??;
        let stdin = child.stdin.take();
        let (requests, asked) = mpsc::channel();
        let running =
            Self { child, over: false, requests: Some(requests), events, unwritable: false, _hold: hold };
        if let Some(stdin) = stdin {
            let writes = thread::Builder::new().name("transform-in".to_owned());
            writes.spawn(move || write_lines(stdin, &asked, &teller))?;
        }
        Ok(running)
    }

    /// Lets it have a line, its newline included.
    pub(super) fn ask(&self, line: Vec<u8>) {
        if let Some(requests) = &self.requests {
            // Where nobody writes any more an event says so.
            let _ = requests.send(line);
        }
    }

    /// Whether it has done anything that nobody has waited for.
    pub(super) fn has_stirred(&self) -> bool {
        self.unwritable || !matches!(self.events.try_recv(), Err(TryRecvError::Empty))
    }

    /// What it does next.
    pub(super) fn wait(&mut self, deadline: Instant) -> Event {
        loop {
            let last_words = Instant::now() + LAST_WORDS;
            let until = if self.unwritable { deadline.min(last_words) } else { deadline };
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Unwritable) => self.unwritable = true,
                Ok(event) => return event,
                Err(RecvTimeoutError::Timeout) if self.unwritable => return Event::Unwritable,
                Err(RecvTimeoutError::Timeout) => return Event::TimedOut,
                Err(RecvTimeoutError::Disconnected) => return Event::Ended,
            }
        }
    }

    /// Kills it after `patience`, and all that it has started at once then; how it ended, where it did so by itself.
    pub(super) fn stop(mut self, patience: Duration) -> Option<ExitStatus> {
        self.requests = None;
        self.end(Instant::now() + patience)
    }

    /// Closes its input and waits for its end; how it ended, where it did so by itself.
    pub(super) fn finish(mut self, deadline: Instant) -> Option<ExitStatus> {
        self.requests = None;
        // It may write until then, and must not wait for somebody to read that.
        while Instant::now() < deadline && self.wait(deadline) != Event::Ended {}
        self.end(deadline)
    }

    fn end(&mut self, deadline: Instant) -> Option<ExitStatus> {
        let by_itself = ends_by(&self.child, deadline).unwrap_or(false);
        // Its number is its own until it is waited for, and so is that of its group.
        kill_group_of(&self.child);
        self.over = true;
        self.child.wait().ok().filter(|_| by_itself)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.end(Instant::now());
        }
    }
}

fn write_lines(mut stdin: ChildStdin, asked: &Receiver<Vec<u8>>, told: &SyncSender<Event>) {
    for line in asked {
        if stdin.write_all(&line).is_err() {
            let _ = told.send(Event::Unwritable);
            return;
        }
    }
}

fn read_lines(mut stdout: ChildStdout, line_bytes_max: usize, told: &SyncSender<Event>) {
    let (mut line, mut too_long) = (Vec::new(), false);
    let mut block = vec![0; 64 << 10];
    loop {
        let mut rest = match stdout.read(&mut block) {
            Ok(0) => break,
            Ok(len) => &block[..len],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            too_long |= line.len() + part.len() > line_bytes_max;
            if too_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(part);
            }
            let Some(end) = end else { break };
            rest = &rest[end + 1..];
            let whole = std::mem::take(&mut line);
            let event = if too_long { Event::TooLong } else { Event::Line(whole) };
            too_long = false;
            if matches!(&event, Event::Line(line) if line.trim_ascii().is_empty()) {
                continue;
            }
            if told.send(event).is_err() {
                return;
            }
        }
    }
    let _ = told.send(Event::Ended);
}
