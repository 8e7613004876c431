//! Waiting for another process that holds a consumer's lock.

use std::io;

use super::report;
use super::signal::Shutdown;
use crate::stream::Patience;

/// Whoever waits for the consumer's lock says so, and ends when a signal asks for it.
pub(super) struct Waiting {
    /// The program that speaks.
    pub(super) program: &'static str,
    pub(super) shutdown: &'static Shutdown,
}

impl Patience for Waiting {
    fn check(&self) -> io::Result<()> {
        self.shutdown.check().map_err(Into::into)
    }

    fn tell(&self, text: &str) {
        report::say(self.program, text, None);
    }
}
