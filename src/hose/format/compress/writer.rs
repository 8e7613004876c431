//! Blocks and plain bytes put together into one file.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Crc;

use super::super::body::{Body, BodyWriter, Scratch};
use super::block::{LZ4_END, SNAPPY_IDENTIFIER, lz4_header, zstd_frame};
use super::{Block, Compression, GATHER_BYTES, zip};

/// Magic, deflate, no flags, no time (the same records make the same object), no hint, system unknown.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block with nothing in it: what closes a deflate stream.
const DEFLATE_END: [u8; 2] = [3, 0];

/// How much smaller things have become in the run so far: what an object will have that is not compressed yet is told
/// from it.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Ratio(Arc<[AtomicU64; 2]>);

impl Ratio {
    /// Notes that `plain` bytes became `packed`.
    pub(in super::super) fn note(&self, plain: u64, packed: u64) {
        self.0[0].fetch_add(plain, Ordering::Relaxed);
        self.0[1].fetch_add(packed, Ordering::Relaxed);
    }

    /// About how many bytes will be made of `plain`; `guess` percent as long as nothing is known.
    pub(in super::super) fn of(&self, plain: u64, guess: u64) -> u64 {
        let [before, after] = [0, 1].map(|i| self.0[i].load(Ordering::Relaxed));
        if before == 0 {
            return plain * guess / 100;
        }
        (plain as f64 * (after as f64 / before as f64)) as u64
    }
}

/// What a chunk was made into.
pub(in super::super) enum Part {
    /// Too little to be compressed by itself, or not to be compressed at all.
    Plain(Vec<u8>),
    /// Compressed.
    Block(Block),
}

impl Part {
    /// Compresses `plain` if there is enough of it.
    pub(in super::super) fn new(compression: Compression, plain: Vec<u8>) -> io::Result<Self> {
        if compression == Compression::None || plain.len() < GATHER_BYTES {
            return Ok(Self::Plain(plain));
        }
        Block::new(compression, &plain).map(Self::Block)
    }
}

/// Writes one compressed file.
pub(in super::super) struct PackedWriter {
    compression: Compression,
    body: BodyWriter,
    /// Plain bytes that are not compressed yet.
    gathered: Vec<u8>,
    plain_bytes: u64,
    crc: Crc,
    ratio: Ratio,
    /// The name of the member of a zip archive.
    member: &'static str,
}

impl PackedWriter {
    pub(in super::super) fn new(
        compression: Compression,
        scratch: &Scratch,
        ratio: &Ratio,
        member: &'static str,
    ) -> io::Result<Self> {
        let mut body = scratch.begin();
        match compression {
            Compression::Gzip(_) => body.write_all(&GZIP_HEADER)?,
            Compression::Zip(_) => body.write_all(&zip::room_for_header(member))?,
            Compression::Snappy => body.write_all(SNAPPY_IDENTIFIER)?,
            Compression::Lz4 => body.write_all(&lz4_header()?)?,
            Compression::None | Compression::HadoopSnappy | Compression::Zstd(_) => {}
        }
        let (gathered, crc) = (Vec::new(), Crc::new());
        Ok(Self { compression, body, gathered, plain_bytes: 0, crc, ratio: ratio.clone(), member })
    }

    /// Takes the next bytes.
    pub(in super::super) fn put(&mut self, part: Part) -> io::Result<()> {
        match part {
            Part::Plain(plain) => self.put_plain(&plain),
            Part::Block(block) => {
                self.pack()?;
                self.put_block(&block)
            }
        }
    }

    pub(in super::super) fn put_plain(&mut self, plain: &[u8]) -> io::Result<()> {
        if self.compression == Compression::None {
            self.plain_bytes += plain.len() as u64;
            return self.body.write_all(plain);
        }
        self.gathered.extend_from_slice(plain);
        if self.gathered.len() >= GATHER_BYTES { self.pack() } else { Ok(()) }
    }

    fn put_block(&mut self, block: &Block) -> io::Result<()> {
        self.body.write_all(&block.packed)?;
        self.plain_bytes += block.plain_bytes;
        if let Some(crc) = &block.crc {
            self.crc.combine(crc);
        }
        self.ratio.note(block.plain_bytes, block.packed.len() as u64);
        Ok(())
    }

    /// Compresses what has been gathered.
    fn pack(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let block = Block::new(self.compression, &self.gathered)?;
        self.gathered.clear();
        self.put_block(&block)
    }

    pub(in super::super) fn size(&self) -> u64 {
        let end = match self.compression {
            Compression::Gzip(_) => 10,
            Compression::Zip(_) => zip::end_bytes(self.member),
            Compression::Lz4 => LZ4_END.len() as u64,
            _ => 0,
        };
        // JSON lines become about a fifth.
        self.body.len() + self.ratio.of(self.gathered.len() as u64, 20) + end
    }

    pub(in super::super) fn memory(&self) -> u64 {
        self.body.memory() + self.gathered.capacity() as u64
    }

    pub(in super::super) fn shrink(&mut self) -> io::Result<()> {
        // A block ends early: the next begins with an empty window.
        self.pack()?;
        self.gathered = Vec::new();
        self.body.shrink()
    }

    pub(in super::super) fn finish(mut self) -> io::Result<Body> {
        self.pack()?;
        match self.compression {
            Compression::Gzip(_) => {
                self.body.write_all(&DEFLATE_END)?;
                self.body.write_all(&self.crc.sum().to_le_bytes())?;
                self.body.write_all(&(self.plain_bytes as u32).to_le_bytes())?;
            }
            Compression::Zip(_) => {
                self.body.write_all(&DEFLATE_END)?;
                let packed_bytes = self.body.len() - zip::room_for_header(self.member).len() as u64;
                let member = zip::Member {
                    name: self.member,
                    crc: self.crc.sum(),
                    plain_bytes: self.plain_bytes,
                    packed_bytes,
                };
                self.body.patch(0, &member.header())?;
                let end = member.directory(self.body.len());
                self.body.write_all(&end)?;
            }
            Compression::Lz4 => self.body.write_all(LZ4_END)?,
            // A file without any frame is none to some readers.
            Compression::Zstd(level) if self.body.is_empty() => {
                self.body.write_all(&zstd_frame(level, &[])?)?;
            }
            Compression::None | Compression::Snappy | Compression::HadoopSnappy | Compression::Zstd(_) => {}
        }
        self.body.finish()
    }
}
