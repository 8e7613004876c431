//! A command that is given a batch: started, fed, waited for.

use std::io;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::cli::signal::{Interrupted, Shutdown};
use crate::stream::Worker;
use crate::sys::process::{describe, shell};

/// Once a signal has come, so often it is looked whether another did.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It exited 0.
    Well,
    /// It did not; this is how, in words.
    Badly(String),
}

/// Runs `sh -c COMMAND` in a process group of its own, with `input` on its standard input. It need not read all of it.
/// The first signal lets it finish, the second kills it.
pub(super) fn run(
    command: &str,
    variables: &[(&str, String)],
    input: &[&[u8]],
    worker: &Worker,
    shutdown: &Shutdown,
) -> anyhow::Result<Ended> {
    // It holds the worker's lock too: should it outlive this process, nobody reads its records meanwhile.
    worker.inherit(true)?;
    let spawned = shell(command)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .spawn();
    worker.inherit(false)?;
    let mut child = spawned.context("--exec: sh")?;
    worker.runs(Some(child.id()));
    let waited = feed_and_wait(&mut child, input, shutdown);
    worker.runs(None);
    let status = waited.context("--exec")?;
    Ok(if status.success() { Ended::Well } else { Ended::Badly(describe(status)) })
}

fn feed_and_wait(child: &mut Child, input: &[&[u8]], shutdown: &Shutdown) -> anyhow::Result<ExitStatus> {
    let group = Pid::from_child(child);
    let ended = pidfd_open(group, PidfdFlags::empty()).map_err(io::Error::from)?;
    let mut stdin = child.stdin.take();
    if let Some(pipe) = &stdin {
        rustix::io::ioctl_fionbio(pipe, true).map_err(io::Error::from)?;
        // Refused beyond the user's share of pipe memory; a small pipe is only slower.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
    }
    let mut parts = input.iter().copied().filter(|part| !part.is_empty()).peekable();
    loop {
        if parts.peek().is_none() {
            // The end of its input.
            stdin = None;
        }
        let asked = shutdown.requested();
        {
            let mut fds = vec![PollFd::new(&ended, PollFlags::IN)];
            if let Some(pipe) = &stdin {
                fds.push(PollFd::new(pipe, PollFlags::OUT));
            }
            if !asked {
                fds.push(PollFd::from_borrowed_fd(shutdown.fd(), PollFlags::IN));
            }
            match rustix::event::poll(&mut fds, asked.then_some(&GLANCE)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
            if !fds[0].revents().is_empty() {
                return Ok(child.wait()?);
            }
        }
        if asked && shutdown.again() {
            let _ = kill_process_group(group, Signal::KILL);
            child.wait()?;
            return Err(Interrupted.into());
        }
        if let (Some(pipe), Some(part)) = (&stdin, parts.peek_mut()) {
            match offer(pipe, part) {
                Some(written) if written == part.len() => drop(parts.next()),
                Some(written) => *part = &part[written..],
                // It reads no more, which is its own affair.
                None => while parts.next().is_some() {},
            }
        }
    }
}

/// Writes what the pipe takes; `None` where nobody reads it any more.
fn offer(pipe: &ChildStdin, bytes: &[u8]) -> Option<usize> {
    match rustix::io::write(pipe, bytes) {
        Ok(written) => Some(written),
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => None,
    }
}
