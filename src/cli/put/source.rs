//! The input of a run as one sequence of bytes: standard input, or files one after the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::cli::input::{BlockReader, Filled};
use crate::cli::signal::Shutdown;

/// One input after the other.
pub(super) struct Source {
    names: std::vec::IntoIter<PathBuf>,
    reader: BlockReader,
    name: String,
    limit: usize,
    shutdown: &'static Shutdown,
}

/// What an input is called.
pub(super) fn show(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// Looks at all inputs before anything is stored: a misspelt name is found at once.
pub(super) fn look_at(files: &[PathBuf]) -> anyhow::Result<()> {
    for name in files.iter().filter(|name| *name != Path::new("-")) {
        let looked = std::fs::metadata(name).and_then(|meta| match meta.file_type() {
            kind if kind.is_dir() => Err(std::io::ErrorKind::IsADirectory.into()),
            // Whether it may be read. A FIFO would notice.
            kind if kind.is_file() => std::fs::File::open(name).map(drop),
            _ => Ok(()),
        });
        looked.with_context(|| format!("cannot read {}", name.display()))?;
    }
    Ok(())
}

/// Opens an input.
pub(super) fn open(
    path: &Path,
    limit: usize,
    shutdown: &'static Shutdown,
) -> anyhow::Result<(BlockReader, String)> {
    if path == Path::new("-") {
        let reader = BlockReader::stdin(limit, Some(shutdown)).context("cannot read standard input")?;
        return Ok((reader, show(path)));
    }
    let reader = BlockReader::open(path, limit, Some(shutdown))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok((reader, show(path)))
}

impl Source {
    /// The inputs that were named, standard input if none was. All of them are looked at first: a misspelt name is
    /// found before anything is stored.
    pub(super) fn open(files: &[PathBuf], limit: usize, shutdown: &'static Shutdown) -> anyhow::Result<Self> {
        let mut names = if files.is_empty() { vec![PathBuf::from("-")] } else { files.to_vec() };
        look_at(&names[1..])?;
        let first = names.remove(0);
        let (reader, name) = open(&first, limit, shutdown)?;
        Ok(Self { names: names.into_iter(), reader, name, limit, shutdown })
    }

    /// Whether the input can be mended and read again.
    pub(super) fn is_regular(&self) -> bool {
        self.reader.is_regular()
    }

    /// What the input that is read now is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The length of the input, where it has one.
    pub(super) fn total_bytes(&self) -> Option<u64> {
        let rest: Option<u64> =
            self.names.as_slice().iter().map(|name| std::fs::metadata(name).ok().map(|m| m.len())).sum();
        Some(self.reader.len()? + rest?)
    }

    /// Sets the longest record that must fit.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.reader.set_limit(limit);
    }

    /// Whether the input that is read now has ended: no more is to come behind the block.
    pub(super) fn is_at_end(&self) -> bool {
        self.reader.is_at_end()
    }

    /// Whether the block holds as much as it may.
    pub(super) fn is_full(&self) -> bool {
        self.reader.is_full()
    }

    /// The bytes read and not consumed.
    pub(super) fn block(&self) -> &[u8] {
        self.reader.block()
    }

    /// Gives up the first bytes of the block.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
    }

    /// Gives the buffer away with the first `used` bytes of the block in it, and goes on in `fresh`.
    pub(super) fn hand_over(&mut self, used: usize, fresh: Vec<u8>) -> (Vec<u8>, std::ops::Range<usize>) {
        self.reader.hand_over(used, fresh)
    }

    /// Reads on; [`Filled::Eof`] is the end of one input: see [`Source::next_input`].
    pub(super) fn fill(&mut self, timeout: Option<Duration>) -> anyhow::Result<Filled> {
        self.reader.fill(timeout).with_context(|| format!("cannot read {}", self.name))
    }

    /// Goes to the next input; `false` if there is none.
    pub(super) fn next_input(&mut self) -> anyhow::Result<bool> {
        let Some(name) = self.names.next() else { return Ok(false) };
        (self.reader, self.name) = open(&name, self.limit, self.shutdown)?;
        Ok(true)
    }
}
