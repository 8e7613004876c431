//! The stream that a command is about, opened, with errors that name it.

use std::path::Path;

use anyhow::Context;

use crate::cli::args::StreamArg;
use crate::cli::stream_name;
use crate::stream::{Between, Error, Stream};
use crate::sys::System;

/// Opens the stream that was named.
pub(crate) fn open(arg: &StreamArg) -> anyhow::Result<Stream> {
    open_or(arg, stream_name::unknown)
}

/// The same for one who only reads.
pub(crate) fn open_to_read(arg: &StreamArg) -> anyhow::Result<Stream> {
    open_or(arg, stream_name::missing)
}

fn open_or(arg: &StreamArg, missing: fn(&Path) -> anyhow::Error) -> anyhow::Result<Stream> {
    let path = arg.resolve()?;
    match Stream::open(&System::real(), &path) {
        Err(Error::NotFound { .. }) => Err(missing(&path)),
        other => other.about(&path),
    }
}

/// Adds to an error of two streams the one that it is of.
pub(crate) fn between<T>(result: Result<T, Between>, source: &Path, target: &Path) -> anyhow::Result<T> {
    result.or_else(|error| match error {
        Between::Source(error) => Err(error).about(source),
        Between::Target(error) => Err(error).about(target),
    })
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
