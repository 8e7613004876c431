//! The stream that a command is about, opened, with errors that name it.

use std::path::Path;

use anyhow::Context;

use crate::cli::args::StreamArg;
use crate::cli::stream_name;
use crate::stream::{Error, Stream};
use crate::sys::System;

/// Opens the stream that was named.
pub(crate) fn open(arg: &StreamArg) -> anyhow::Result<Stream> {
    open_or(arg, stream_name::unknown)
}

/// The same for one who only reads.
pub(crate) fn open_to_read(arg: &StreamArg) -> anyhow::Result<Stream> {
    open_or(arg, stream_name::unknown_to_reader)
}

fn open_or(arg: &StreamArg, missing: fn(&Path) -> anyhow::Error) -> anyhow::Result<Stream> {
    let path = arg.resolve()?;
    match Stream::open(&System::real(), &path) {
        Err(Error::NotFound { .. }) => Err(missing(&path)),
        other => other.about(&path),
    }
}

/// Adds the stream to an error.
pub(crate) trait About<T> {
    fn about(self, path: &Path) -> anyhow::Result<T>;
}

impl<T> About<T> for Result<T, Error> {
    fn about(self, path: &Path) -> anyhow::Result<T> {
        self.with_context(|| stream_name::context(path))
    }
}
