//! Stored objects, read again: range by range, and out of what they were compressed with.
//!
//! The promise: an object is read in constant memory, whatever its size; and what is cut short or damaged is an error,
//! never an early end.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::courier::Runtime;
use super::format::compress::Compression;
use super::store::{Store, StoreError};

/// So much is asked for at once: a request to a bucket takes some milliseconds whatever its size, and for four megabytes
/// they hardly count.
const RANGE_BYTES: u64 = 4 << 20;
/// Blocks of Hadoop's codec say how large they are; its own are at most 256 KiB.
const BLOCK_BYTES_MAX: usize = 64 << 20;

/// Reads an object of a store.
pub struct ObjectReader {
    runtime: Arc<Runtime>,
    store: Arc<dyn Store>,
    name: String,
    size: u64,
    at: u64,
    /// What was asked for last, and where it stands in the object.
    range: Vec<u8>,
    range_at: u64,
}

impl ObjectReader {
    /// Reads an object of this size.
    pub fn new(runtime: &Arc<Runtime>, store: &Arc<dyn Store>, name: &str, size: u64) -> Self {
        let (runtime, store) = (Arc::clone(runtime), Arc::clone(store));
        Self { runtime, store, name: name.to_owned(), size, at: 0, range: Vec::new(), range_at: 0 }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || out.is_empty() {
            return Ok(0);
        }
        if self.at < self.range_at || self.at - self.range_at >= self.range.len() as u64 {
            let end = self.size.min(self.at + RANGE_BYTES);
            self.range = self
                .runtime
                .block_on(self.store.get_range(&self.name, self.at..end))
                .map_err(io::Error::other)?;
            self.range_at = self.at;
            if self.range.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
        let have = &self.range[(self.at - self.range_at) as usize..];
        let count = have.len().min(out.len());
        out[..count].copy_from_slice(&have[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// What a store said where a read of one of its objects failed; `None` where the object itself is at fault.
pub fn store_error(error: &io::Error) -> Option<&StoreError> {
    error.get_ref()?.downcast_ref()
}

/// The plain bytes of what was compressed like this.
///
/// # Errors
/// Where the beginning of a zip archive is none.
pub fn unpacked<'a>(packed: impl Read + 'a, compression: Compression) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip(_) => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Compression::Zip(_) => Box::new(zip_member(packed)?),
        Compression::Snappy => Box::new(snap::read::FrameDecoder::new(packed)),
        Compression::HadoopSnappy => {
            Box::new(HadoopSnappy { packed, plain: Vec::new(), used: 0, left: 0, buffer: Vec::new() })
        }
        Compression::Zstd(_) => Box::new(zstd::stream::read::Decoder::new(packed)?),
        Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(packed)),
    })
}

/// The first member of a zip archive.
fn zip_member<R: Read>(mut packed: R) -> io::Result<flate2::read::DeflateDecoder<R>> {
    let mut header = [0; 30];
    packed.read_exact(&mut header)?;
    let field = |at: usize| u64::from(header[at]) | u64::from(header[at + 1]) << 8;
    if !header.starts_with(b"PK\x03\x04") || field(8) != 8 {
        return Err(invalid("no zip archive with a deflated member"));
    }
    let (name, extra) = (field(26), field(28));
    io::copy(&mut packed.by_ref().take(name + extra), &mut io::sink())?;
    Ok(flate2::read::DeflateDecoder::new(packed))
}

/// Blocks of: the length of what is in it, and then pieces of raw Snappy, each behind its length.
struct HadoopSnappy<R> {
    packed: R,
    plain: Vec<u8>,
    used: usize,
    /// Bytes of the block that are in pieces to come.
    left: usize,
    buffer: Vec<u8>,
}

impl<R: Read> HadoopSnappy<R> {
    /// A big-endian number; `None` at the end.
    fn number(&mut self) -> io::Result<Option<usize>> {
        let mut bytes = [0; 4];
        if self.packed.read(&mut bytes[..1])? == 0 {
            return Ok(None);
        }
        self.packed.read_exact(&mut bytes[1..])?;
        let number = bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
        if number > BLOCK_BYTES_MAX {
            return Err(invalid("a block that is larger than any"));
        }
        Ok(Some(number))
    }

    /// Unpacks the next piece; `false` at the end.
    fn advance(&mut self) -> io::Result<bool> {
        while self.left == 0 {
            match self.number()? {
                Some(plain) => self.left = plain,
                None => return Ok(false),
            }
        }
        let len = self.number()?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.buffer.resize(len, 0);
        self.packed.read_exact(&mut self.buffer)?;
        let plain_bytes = snap::raw::decompress_len(&self.buffer).map_err(|_| invalid("a damaged block"))?;
        if plain_bytes > self.left {
            return Err(invalid("a block with more in it than it says"));
        }
        self.plain.resize(plain_bytes, 0);
        snap::raw::Decoder::new()
            .decompress(&self.buffer, &mut self.plain)
            .map_err(|_| invalid("a damaged block"))?;
        self.left -= plain_bytes;
        self.used = 0;
        Ok(true)
    }
}

impl<R: Read> Read for HadoopSnappy<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.used == self.plain.len() {
            if out.is_empty() || !self.advance()? {
                return Ok(0);
            }
        }
        let count = out.len().min(self.plain.len() - self.used);
        out[..count].copy_from_slice(&self.plain[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hose::chunk::{Chunk, Origin};
    use crate::hose::format::body::{Body, Scratch};
    use crate::hose::format::{Format, text::Layout, text::TextFormat};
    use crate::hose::store::local::LocalStore;
    use crate::hose::store::{Attributes, PutMode};
    use crate::record::ShardId;
    use crate::sys::System;

    /// An object of lines, compressed as khose does it.
    fn packed(compression: &str, lines: u64) -> (Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let format = TextFormat::new(Layout::Lines(b"\n".to_vec()), compression.parse().unwrap());
        let mut writer = format.open(&Scratch::new(&System::real(), dir.path())).unwrap();
        let mut plain = Vec::new();
        for first in (0..lines).step_by(1000) {
            let mut chunk = Chunk::default();
            for index in first..lines.min(first + 1000) {
                let payload = format!("{{\"n\":{index},\"s\":\"{}\"}}", "x".repeat((index % 200) as usize));
                let origin =
                    Origin { shard: ShardId(0), shard_created_s: 0, index, sub: None, arrival_us: 0 };
                chunk.push(origin, payload.as_bytes());
            }
            plain.extend_from_slice(&chunk.bytes);
            assert!(writer.append(format.prepare(&chunk).piece).unwrap().is_none());
        }
        (writer.finish(&[]).unwrap().read(0, usize::MAX >> 1).unwrap(), plain)
    }

    #[test]
    fn what_was_packed_is_unpacked_and_a_cut_is_seen() {
        for compression in ["none", "gzip", "zip", "snappy", "hadoop-snappy", "zstd", "lz4"] {
            for lines in [0, 1, 20_000] {
                let (object, plain) = packed(compression, lines);
                let how = compression.parse().unwrap();
                let mut out = Vec::new();
                unpacked(&object[..], how).and_then(|mut reader| reader.read_to_end(&mut out)).unwrap();
                assert!(out == plain, "{compression} {lines}");
                if lines > 1 && how != Compression::None {
                    // In the middle of a block: some formats have no end of their own.
                    let cut = &object[..object.len() / 3];
                    let mut out = Vec::new();
                    let read = unpacked(cut, how).and_then(|mut reader| reader.read_to_end(&mut out));
                    assert!(read.is_err() || out.len() < plain.len(), "{compression}");
                }
            }
        }
    }

    #[test]
    fn ranges_of_an_object_are_read_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::new(&System::real(), dir.path()));
        let runtime = Arc::new(Runtime::new().unwrap());
        let bytes: Vec<u8> = (0..RANGE_BYTES * 2 + 77).map(|i| (i % 251) as u8).collect();
        let body = Body::from(bytes.clone());
        runtime.block_on(store.put("a/b", &body, PutMode::Overwrite, &Attributes::default())).unwrap();
        let mut reader = ObjectReader::new(&runtime, &store, "a/b", bytes.len() as u64);
        let mut out = Vec::new();
        reader.read_to_end(&mut out).unwrap();
        assert!(out == bytes);
        let mut ten = [0; 10];
        for at in [5, RANGE_BYTES - 3, RANGE_BYTES * 2 + 60, 0] {
            reader.seek(SeekFrom::Start(at)).unwrap();
            reader.read_exact(&mut ten).unwrap();
            assert_eq!(ten, bytes[at as usize..at as usize + 10]);
        }
        assert_eq!(reader.seek(SeekFrom::End(-3)).unwrap(), bytes.len() as u64 - 3);
        assert_eq!(reader.read(&mut ten).unwrap(), 3);
        assert!(reader.seek(SeekFrom::End(i64::MIN)).is_err());
        let mut gone = ObjectReader::new(&runtime, &store, "a/c", 5);
        let error = gone.read(&mut ten).unwrap_err();
        assert!(matches!(store_error(&error), Some(StoreError::NotFound { .. })));
    }

    #[test]
    fn what_is_no_archive_says_so() {
        assert!(unpacked(&b"PK\x05\x06"[..], Compression::Zip(3)).is_err());
        let mut out = Vec::new();
        let hadoop = unpacked(&[0xff; 12][..], Compression::HadoopSnappy);
        assert!(hadoop.unwrap().read_to_end(&mut out).is_err());
    }
}
