//! The bytes of a followed file, plain or compressed, and what tells it from others.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use xxhash_rust::xxh3::xxh3_64;

use super::table::Print;

/// How many bytes at its start, and before where it stands, tell a file from others.
pub(super) const PRINT_BYTES: usize = 256;

/// An open file.
pub(super) struct Body {
    file: File,
    gzip: Option<Gzip>,
    pub(super) dev: u64,
    pub(super) ino: u64,
}

struct Gzip {
    decoder: MultiGzDecoder<BufReader<File>>,
    position: u64,
}

impl Body {
    /// Opens a regular file; one that begins as gzip does is read as what it holds, if `name` says so too.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Looked at before it is opened: a FIFO would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("is not a regular file, and only such can be followed"));
        }
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let mut magic = [0; 2];
        let named = path.extension().is_some_and(|extension| extension == "gz");
        let gzip = if named && file.read_at(&mut magic, 0)? == 2 && magic == [0x1f, 0x8b] {
            Some(Gzip::new(&file)?)
        } else {
            None
        };
        Ok(Self { file, gzip, dev: meta.dev(), ino: meta.ino() })
    }

    /// The same file, to be read from another place.
    pub(super) fn reopen(other: &Self) -> io::Result<Self> {
        let file = other.file.try_clone()?;
        let gzip = if other.is_gzip() { Some(Gzip::new(&file)?) } else { None };
        Ok(Self { file, gzip, dev: other.dev, ino: other.ino })
    }

    pub(super) fn is_gzip(&self) -> bool {
        self.gzip.is_some()
    }

    /// When it was last written to.
    pub(super) fn modified(&self) -> io::Result<(i64, i64)> {
        let meta = self.file.metadata()?;
        Ok((meta.mtime(), meta.mtime_nsec()))
    }

    /// Reads at `offset` until `buffer` is full or the file ends.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut got = 0;
        while got < buffer.len() {
            let rest = &mut buffer[got..];
            let read = match &mut self.gzip {
                Some(gzip) => gzip.read_at(&self.file, rest, offset + got as u64),
                None => self.file.read_at(rest, offset + got as u64),
            };
            match read {
                Ok(0) => break,
                Ok(len) => got += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }

    /// `len` bytes from `offset` on; `None` if it ends before.
    pub(super) fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; len];
        let got = self.read_at(&mut bytes, offset)?;
        Ok((got == len).then_some(bytes))
    }

    /// The first and the last bytes before `offset`; `None` if it is shorter.
    pub(super) fn ends(&mut self, offset: u64) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let len = offset.min(PRINT_BYTES as u64) as usize;
        let Some(head) = self.bytes(0, len)? else { return Ok(None) };
        let tail = self.bytes(offset - len as u64, len)?;
        Ok(tail.map(|tail| (head, tail)))
    }

    /// What tells it from others before `offset`; `None` if it is shorter.
    pub(super) fn print(&mut self, offset: u64) -> io::Result<Option<Print>> {
        Ok(self.ends(offset)?.map(|(head, tail)| print(&head, &tail)))
    }
}

/// The hashes of the first and of the last bytes before an offset.
pub(super) fn print(head: &[u8], tail: &[u8]) -> Print {
    Print { head: xxh3_64(head), tail: xxh3_64(tail) as u32 }
}

impl Gzip {
    fn new(file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        Ok(Self { decoder: MultiGzDecoder::new(BufReader::new(file)), position: 0 })
    }

    fn read_at(&mut self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < self.position {
            *self = Self::new(file)?;
        }
        if self.position < offset {
            let skipped = io::copy(&mut (&mut self.decoder).take(offset - self.position), &mut io::sink())?;
            self.position += skipped;
            if self.position < offset {
                return Ok(0);
            }
        }
        let len = self.decoder.read(buffer)?;
        self.position += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_compressed_file_is_told_by_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..5000).flat_map(|i| format!("line {i}\n").into_bytes()).collect();
        let (plain, packed) = (dir.path().join("a.1"), dir.path().join("a.1.gz"));
        std::fs::write(&plain, &text).unwrap();
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::default());
        encoder.write_all(&text).unwrap();
        encoder.finish().unwrap();
        let (mut plain, mut packed) = (Body::open(&plain).unwrap(), Body::open(&packed).unwrap());
        assert!(packed.is_gzip() && !plain.is_gzip());
        for offset in [1, 300, 5000, text.len() as u64] {
            assert_eq!(plain.print(offset).unwrap(), packed.print(offset).unwrap());
            assert!(plain.print(offset).unwrap().is_some());
        }
        assert_eq!(packed.print(text.len() as u64 + 1).unwrap(), None);
        assert_ne!(plain.print(300).unwrap(), plain.print(301).unwrap());
        assert_eq!(packed.bytes(100, 50).unwrap().unwrap(), text[100..150]);
    }
}
