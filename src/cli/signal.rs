//! SIGINT, SIGTERM and SIGHUP as a request to finish.
//!
//! The first signal sets a flag and wakes whoever waits on [`Shutdown::fd`]: the batch in hand is finished, the
//! checkpoint stays true, the exit status tells which signal it was. The second ends the process at once; what was
//! acknowledged is on the disk already. A signal that was ignored when the program started stays ignored: `nohup`, and
//! SIGINT for what a shell put in the background. SIGPIPE is ignored by Rust's runtime: a closed pipe is an error to
//! handle, which leaves time to keep the checkpoint true.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// A signal that asked the program to finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// The exit status that tells of it: 129, 130 or 143.
    pub fn status(self) -> u8 {
        128 + self.0 as u8
    }
}

/// Whether a request to finish has come, and a way to be woken by it.
#[derive(Debug)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
    /// Set when the second signal has been seen, where the program itself looks for it.
    again: Option<Arc<AtomicBool>>,
    signal: Arc<AtomicUsize>,
    /// Becomes readable with the first signal and stays so: it is never drained.
    wake: UnixStream,
}

static INSTALLED: OnceLock<Shutdown> = OnceLock::new();

/// Set by SIGHUP where that asks to read credentials again.
static RELOAD: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// [`install`] for a program that may run for weeks with nobody watching: there SIGHUP does not end it, and
/// [`reload_requested`] tells of it. Where standard error is a terminal SIGHUP says that it is gone, and ends the program
/// as it ends every other. `children` is for a program that [has some](install_with_children).
pub fn install_to_stay(children: bool) -> anyhow::Result<&'static Shutdown> {
    if INSTALLED.get().is_none() {
        let reload = (!std::io::stderr().is_terminal()).then(|| Arc::new(AtomicBool::new(false)));
        let again = children.then(|| Arc::new(AtomicBool::new(false)));
        let shutdown = register(again, reload.as_ref()).context("signal handlers")?;
        if let Some(reload) = reload {
            let _ = RELOAD.set(reload);
        }
        let _ = INSTALLED.set(shutdown);
    }
    INSTALLED.get().context("signal handlers")
}

/// Whether SIGHUP has come since this was last asked.
pub fn reload_requested() -> bool {
    RELOAD.get().is_some_and(|reload| reload.swap(false, Ordering::Relaxed))
}

/// [`install`] for a program that has others to end when the second signal comes: it looks at [`Shutdown::again`] and
/// ends by itself. The third ends it at once.
pub fn install_with_children() -> anyhow::Result<&'static Shutdown> {
    if INSTALLED.get().is_none() {
        let again = Arc::new(AtomicBool::new(false));
        let shutdown = register(Some(again), None).context("signal handlers")?;
        let _ = INSTALLED.set(shutdown);
    }
    INSTALLED.get().context("signal handlers")
}

/// Takes over the signals; from then on they end the program only where it looks. Call it once, before threads start.
pub fn install() -> anyhow::Result<&'static Shutdown> {
    if INSTALLED.get().is_none() {
        let shutdown = register(None, None).context("signal handlers")?;
        // Lost only to another thread that installed the same.
        let _ = INSTALLED.set(shutdown);
    }
    INSTALLED.get().context("signal handlers")
}

/// The signal that asked to finish, if handlers were installed and one came.
pub fn received() -> Option<Signal> {
    INSTALLED.get().and_then(Shutdown::signal)
}

fn register(again: Option<Arc<AtomicBool>>, reload: Option<&Arc<AtomicBool>>) -> io::Result<Shutdown> {
    let (wake, waker) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    let requested = Arc::new(AtomicBool::new(false));
    let signal = Arc::new(AtomicUsize::new(0));
    let ignored = ignored_signals();
    for number in [SIGINT, SIGTERM, SIGHUP] {
        if ignored & (1 << (number - 1)) != 0 {
            continue;
        }
        if let Some(reload) = reload.filter(|_| number == SIGHUP) {
            flag::register(number, Arc::clone(reload))?;
            continue;
        }
        // The order is the point: the second signal must find the flag that the first one set below.
        flag::register_conditional_shutdown(
            number,
            i32::from(Signal(number).status()),
            Arc::clone(again.as_ref().unwrap_or(&requested)),
        )?;
        flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        flag::register(number, Arc::clone(&requested))?;
        low_level::pipe::register(number, waker.try_clone()?)?;
    }
    // The pair lives as long as the process: closed, it would read as woken.
    std::mem::forget(waker);
    Ok(Shutdown { requested, again, signal, wake })
}

/// The signals this process was started to ignore, as a bit each from SIGHUP = bit 0. None where it cannot be told.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

impl Shutdown {
    /// Whether to finish. Cheap enough for every batch.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Whether a second signal has come. Only where [`install_with_children`] was called can anybody live to see it.
    pub fn again(&self) -> bool {
        // A byte for each signal, never drained.
        let again = rustix::io::ioctl_fionread(&self.wake).is_ok_and(|signals| signals >= 2);
        if let Some(flag) = self.again.as_ref().filter(|_| again) {
            flag.store(true, Ordering::SeqCst);
        }
        again
    }

    /// The signal that asked.
    pub fn signal(&self) -> Option<Signal> {
        // The flag is set after the number.
        if !self.requested.load(Ordering::SeqCst) {
            return None;
        }
        Some(Signal(self.signal.load(Ordering::SeqCst) as i32))
    }

    /// Readable once a request has come: to be polled beside whatever is waited for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Sleeps; true, and at once, where a request to finish has come.
    pub fn sleep(&self, length: Duration) -> bool {
        let timeout = Timespec { tv_sec: length.as_secs() as i64, tv_nsec: length.subsec_nanos().into() };
        // Woken early by another signal it has slept less, which whoever looks at the clock anyway does not mind.
        let _ =
            rustix::event::poll(&mut [PollFd::from_borrowed_fd(self.fd(), PollFlags::IN)], Some(&timeout));
        self.requested()
    }

    /// An error that ends the run with the signal's exit status and prints nothing.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.requested() { Err(Interrupted) } else { Ok(()) }
    }
}

/// A request to finish cut the work short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted by a signal")
    }
}

impl Error for Interrupted {}

impl From<Interrupted> for io::Error {
    fn from(interrupted: Interrupted) -> Self {
        // Not ErrorKind::Interrupted: the standard library's loops would try again.
        Self::other(interrupted)
    }
}

/// Whether this error, one of a chain, is an interruption of ours.
pub(super) fn is_interruption(error: &(dyn Error + 'static)) -> bool {
    error.is::<Interrupted>()
        || error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(<dyn Error + Send + Sync>::is::<Interrupted>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_the_shells_status() {
        assert_eq!([SIGHUP, SIGINT, SIGTERM].map(|number| Signal(number).status()), [129, 130, 143]);
    }

    #[test]
    fn an_interruption_is_found_inside_an_io_error() {
        let error = anyhow::Error::new(io::Error::from(Interrupted)).context("standard output");
        assert!(error.chain().any(is_interruption));
        assert!(
            !anyhow::Error::new(io::Error::from(io::ErrorKind::Interrupted)).chain().any(is_interruption)
        );
    }

    #[test]
    fn rusts_runtime_ignores_sigpipe_and_we_can_see_it() {
        assert_ne!(ignored_signals() & (1 << (signal_hook::consts::SIGPIPE - 1)), 0);
    }
}
