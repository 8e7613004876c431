//! Standard output, with what `--durable` adds.

use std::io::{self, Write};

use super::emit::Sink;
use crate::cli::output::Stdout;
use crate::cli::signal::Shutdown;
use crate::record::ShardId;
use crate::stream::StreamReader;
use crate::sys;

/// With `--durable`, so much is gathered between two syncs.
const DURABLE_BYTES: usize = 1 << 20;

/// Standard output, or with `--durable` what holds records back until they are on the disk.
pub(super) struct Out {
    stdout: Stdout,
    held: Option<Vec<u8>>,
    shards: Vec<ShardId>,
}

impl Out {
    /// In blocks, also when following: what is there when the tail is reached leaves then.
    pub(super) fn open(durable: bool, shutdown: &'static Shutdown) -> io::Result<Self> {
        let stdout = Stdout::open(false, Some(shutdown))?;
        Ok(Self { stdout, held: durable.then(Vec::new), shards: Vec::new() })
    }

    pub(super) fn stdout(&self) -> &Stdout {
        &self.stdout
    }

    /// Notes that a frame of a shard was written here.
    pub(super) fn read(&mut self, shard: ShardId, reader: &mut StreamReader) -> anyhow::Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let full = held.len() >= DURABLE_BYTES;
        if !self.shards.contains(&shard) {
            self.shards.push(shard);
        }
        if full { self.release(reader) } else { Ok(()) }
    }

    /// Makes what is held durable and lets it go, and all that was written with it.
    pub(super) fn let_go(&mut self, reader: &mut StreamReader) -> anyhow::Result<()> {
        self.release(reader)?;
        self.stdout.flush()?;
        Ok(())
    }

    fn release(&mut self, reader: &mut StreamReader) -> anyhow::Result<()> {
        let Some(held) = &mut self.held else { return Ok(()) };
        for &shard in &self.shards {
            reader.make_durable(shard)?;
        }
        // Not before: where one of them cannot be made durable nothing is let go, whoever asks again.
        self.shards.clear();
        self.stdout.write_all(held)?;
        held.clear();
        Ok(())
    }
}

impl Sink for Out {
    fn pass(&mut self, bytes: &[u8], file: &dyn sys::File, offset: u64) -> io::Result<()> {
        match &self.held {
            Some(_) => self.write_all(bytes),
            None => self.stdout.pass(bytes, file, offset),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.held {
            Some(held) => {
                held.extend_from_slice(bytes);
                Ok(())
            }
            None => self.stdout.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}
