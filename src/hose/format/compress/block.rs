//! One block compressed so that it can stand behind any other.

use std::cell::RefCell;
use std::io::{self, Write};

use flate2::{Compress, Crc, FlushCompress};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::Compression;

/// The first bytes of a file of Snappy chunks; where it stands again later, readers pass over it.
pub(super) const SNAPPY_IDENTIFIER: &[u8] = b"\xff\x06\x00\x00sNaPpY";
/// What ends an LZ4 frame without a checksum over its contents.
pub(super) const LZ4_END: &[u8] = &[0; 4];
/// Hadoop's default for `io.compression.codec.snappy.buffersize`, which its reader uses for both sides of a block.
const HADOOP_BUFFER_BYTES: usize = 256 << 10;
/// Its writer keeps blocks so small that they fit in that buffer even where Snappy makes them longer.
const HADOOP_BLOCK_BYTES: usize = HADOOP_BUFFER_BYTES - HADOOP_BUFFER_BYTES / 6 - 32;

/// Compressed bytes, and what the trailers of some formats need to know of the plain ones.
pub(in super::super) struct Block {
    pub(super) packed: Vec<u8>,
    pub(super) plain_bytes: u64,
    /// The checksum of the plain bytes, for gzip and zip.
    pub(super) crc: Option<Crc>,
}

impl Block {
    /// Compresses `plain`.
    pub(in super::super) fn new(compression: Compression, plain: &[u8]) -> io::Result<Self> {
        let mut crc = None;
        let packed = match compression {
            Compression::None => plain.to_vec(),
            Compression::Gzip(level) | Compression::Zip(level) => {
                let mut sum = Crc::new();
                sum.update(plain);
                crc = Some(sum);
                deflate(level, plain)?
            }
            Compression::Snappy => snappy(plain)?,
            Compression::HadoopSnappy => hadoop_snappy(plain)?,
            Compression::Zstd(level) => zstd_frame(level, plain)?,
            Compression::Lz4 => lz4(plain)?,
        };
        Ok(Self { packed, plain_bytes: plain.len() as u64, crc })
    }
}

thread_local! {
    /// A compressor is a quarter of a megabyte of tables: each thread keeps the last it had.
    static DEFLATE: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
    static ZSTD: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
}

/// Deflate blocks that end on a byte and of which none is the last of a stream.
fn deflate(level: u32, plain: &[u8]) -> io::Result<Vec<u8>> {
    DEFLATE.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some((of, compressor)) if *of == level => {
                compressor.reset();
                compressor
            }
            kept => &mut kept.insert((level, Compress::new(flate2::Compression::new(level), false))).1,
        };
        let mut packed = Vec::with_capacity(plain.len() / 3 + 1024);
        loop {
            let rest = &plain[compressor.total_in() as usize..];
            compressor.compress_vec(rest, &mut packed, FlushCompress::Sync).map_err(io::Error::other)?;
            // With room left behind the output all of the flush is in it.
            if packed.len() < packed.capacity() {
                return Ok(packed);
            }
            packed.reserve(packed.capacity() / 2);
        }
    })
}

/// Snappy chunks without the identifier before them.
fn snappy(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::with_capacity(plain.len() / 2 + 64));
    encoder.write_all(plain)?;
    let mut packed = encoder.into_inner().map_err(|e| io::Error::other(e.to_string()))?;
    if packed.starts_with(SNAPPY_IDENTIFIER) {
        packed.drain(..SNAPPY_IDENTIFIER.len());
    }
    Ok(packed)
}

/// Blocks of: the length of what is in it, the length of what follows, one piece of raw Snappy.
#[expect(clippy::big_endian_bytes, reason = "Hadoop's lengths are big-endian")]
fn hadoop_snappy(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let mut packed = Vec::with_capacity(plain.len() / 2 + 64);
    let mut buffer = vec![0; snap::raw::max_compress_len(plain.len().min(HADOOP_BLOCK_BYTES))];
    for block in plain.chunks(HADOOP_BLOCK_BYTES) {
        let len = encoder.compress(block, &mut buffer).map_err(io::Error::other)?;
        packed.extend_from_slice(&(block.len() as u32).to_be_bytes());
        packed.extend_from_slice(&(len as u32).to_be_bytes());
        packed.extend_from_slice(&buffer[..len]);
    }
    Ok(packed)
}

/// One frame with a checksum.
///
/// It does not tell its length: readers that look at nothing but the first frame of a file then say that they do not
/// know how long it is, where they would stop behind a megabyte without a word.
pub(super) fn zstd_frame(level: i32, plain: &[u8]) -> io::Result<Vec<u8>> {
    ZSTD.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some((of, compressor)) if *of == level => compressor,
            kept => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.include_checksum(true)?;
                compressor.include_contentsize(false)?;
                &mut kept.insert((level, compressor)).1
            }
        };
        compressor.compress(plain)
    })
}

fn lz4_info() -> FrameInfo {
    // The checksum is over each block: one over the contents would have to be made in their order.
    FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max256KB)
        .block_checksums(true)
        .content_checksum(false)
}

/// The first bytes of a frame.
pub(super) fn lz4_header() -> io::Result<Vec<u8>> {
    let mut empty =
        FrameEncoder::with_frame_info(lz4_info(), Vec::new()).finish().map_err(io::Error::other)?;
    empty.truncate(empty.len() - LZ4_END.len());
    Ok(empty)
}

/// Blocks of a frame, without its ends.
fn lz4(plain: &[u8]) -> io::Result<Vec<u8>> {
    let header = lz4_header()?.len();
    let mut encoder = FrameEncoder::with_frame_info(lz4_info(), Vec::with_capacity(plain.len() / 2 + 64));
    encoder.write_all(plain)?;
    let mut packed = encoder.finish().map_err(io::Error::other)?;
    packed.truncate(packed.len() - LZ4_END.len());
    packed.drain(..header);
    Ok(packed)
}
