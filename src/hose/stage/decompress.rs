//! Records whose data is compressed.
//!
//! Its promise: what comes out is all that was compressed, checked against the checksum that came with it, and never more
//! than a limit: a record of some kilobytes may stand for gigabytes.
//!
//! gzip may have several members, one behind the other. Whatever stands behind the last one is a failure, so is a record
//! that is cut short. Error type and code are the service's for its GZIP processor.

use std::io::{self, Read};

use rayon::prelude::*;

use super::{Fate, Item, Stage};
use crate::hose::failure::{ErrorType, Failure};

/// A record comes to this at most. It is what the largest frame of a stream may hold, so that nothing grows beyond what
/// could have been a record; and with one record of each on two processors it is memory that is there.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Below this many compressed bytes in a batch one thread is as fast as many.
const PARALLEL_BYTES_MIN: usize = 64 << 10;

/// How records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressed {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Snappy: its framing format, or one bare block.
    Snappy,
    /// By what the data begins with: gzip, Zstandard or framed Snappy, and as it is where it begins with neither.
    Auto,
}

impl Compressed {
    /// What can be given by name.
    pub const NAMES: &[&str] = &["gzip", "zstd", "snappy", "auto"];
}

impl std::str::FromStr for Compressed {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            "snappy" => Self::Snappy,
            "auto" => Self::Auto,
            _ => {
                return Err(format!(
                    "`{name}` is not a compression of records: give one of {}",
                    Self::NAMES.join(", ")
                ));
            }
        })
    }
}

/// The stage that decompresses.
#[derive(Debug, Clone, Copy)]
pub struct Decompress {
    how: Compressed,
    record_bytes_max: usize,
}

impl Decompress {
    /// A stage for records that are compressed so.
    pub fn new(how: Compressed) -> Self {
        Self { how, record_bytes_max: RECORD_BYTES_MAX }
    }

    /// The same with another limit on what comes out of a record.
    #[must_use]
    pub fn with_record_bytes_max(self, record_bytes_max: usize) -> Self {
        Self { record_bytes_max, ..self }
    }

    fn one(self, mut item: Item) -> Fate {
        match self.expand(&item.data) {
            Ok(Some(data)) => {
                item.data = data;
                Fate::Kept(item)
            }
            Ok(None) => Fate::Kept(item),
            Err(why) => {
                let failure = Failure::new(ErrorType::Processing, "Decompression failed.", why);
                Fate::Failed(item, failure)
            }
        }
    }

    /// What the data stands for, or `None` where it is not compressed.
    fn expand(self, data: &[u8]) -> Result<Option<Vec<u8>>, String> {
        const GZIP: &[u8] = &[0x1f, 0x8b];
        const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
        const SNAPPY: &[u8] = b"\xff\x06\x00\x00sNaPpY";
        let is_framed = data.starts_with(SNAPPY);
        let how = match self.how {
            Compressed::Auto if data.starts_with(GZIP) => Compressed::Gzip,
            Compressed::Auto if data.starts_with(ZSTD) => Compressed::Zstd,
            Compressed::Auto if is_framed => Compressed::Snappy,
            Compressed::Auto => return Ok(None),
            how => how,
        };
        match how {
            Compressed::Gzip if !data.starts_with(GZIP) => Err("it is not gzip".to_owned()),
            Compressed::Zstd if !data.starts_with(ZSTD) => Err("it is not Zstandard".to_owned()),
            Compressed::Snappy if !is_framed => self.snappy_block(data),
            Compressed::Snappy => self.drain(snap::read::FrameDecoder::new(data), data.len()),
            Compressed::Zstd => {
                let reader = zstd::stream::read::Decoder::with_buffer(data)
                    .map_err(|error| format!("it is not valid Zstandard: {error}"))?;
                self.drain(reader, data.len())
            }
            Compressed::Gzip | Compressed::Auto => {
                self.drain(flate2::bufread::MultiGzDecoder::new(data), data.len())
            }
        }
        .map(Some)
    }

    /// A bare block says how long it will be.
    fn snappy_block(self, data: &[u8]) -> Result<Vec<u8>, String> {
        let invalid = |error: snap::Error| format!("it is not valid Snappy: {error}");
        if snap::raw::decompress_len(data).map_err(invalid)? > self.record_bytes_max {
            return Err(self.too_long());
        }
        snap::raw::Decoder::new().decompress_vec(data).map_err(invalid)
    }

    fn drain(self, reader: impl Read, compressed: usize) -> Result<Vec<u8>, String> {
        let most = self.record_bytes_max;
        let mut out = Vec::with_capacity((compressed * 4).min(most));
        reader.take(most as u64 + 1).read_to_end(&mut out).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "it is cut short".to_owned(),
            _ => format!("its compressed data is broken after {} bytes: {error}", out.len()),
        })?;
        if out.len() > most {
            return Err(self.too_long());
        }
        Ok(out)
    }

    fn too_long(self) -> String {
        format!("it comes to more than {} bytes", self.record_bytes_max)
    }
}

impl Stage for Decompress {
    fn name(&self) -> &'static str {
        "decompress"
    }

    fn process(&mut self, items: Vec<Item>) -> anyhow::Result<Vec<Fate>> {
        let stage = *self;
        let bytes: usize = items.iter().map(|item| item.data.len()).sum();
        Ok(if bytes < PARALLEL_BYTES_MIN {
            items.into_iter().map(|item| stage.one(item)).collect()
        } else {
            items.into_par_iter().map(|item| stage.one(item)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::testing::{items, told};
    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn framed(data: &[u8]) -> Vec<u8> {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(data).unwrap();
        encoder.into_inner().unwrap()
    }

    fn why(stage: Decompress, data: &[u8]) -> String {
        stage.expand(data).unwrap_err()
    }

    #[test]
    fn every_kind_and_several_members() {
        let block = snap::raw::Encoder::new().compress_vec(b"block").unwrap();
        let two = [gzip(b"one "), gzip(b"two")].concat();
        let cases = [
            (Compressed::Gzip, two.clone(), "one two"),
            (Compressed::Gzip, gzip(b""), ""),
            (Compressed::Zstd, zstd::encode_all(&b"z"[..], 1).unwrap(), "z"),
            (Compressed::Snappy, framed(b"framed"), "framed"),
            (Compressed::Snappy, block, "block"),
            (Compressed::Auto, two, "one two"),
            (Compressed::Auto, zstd::encode_all(&b"z"[..], 1).unwrap(), "z"),
            (Compressed::Auto, framed(b"framed"), "framed"),
            (Compressed::Auto, b"{\"plain\":1}".to_vec(), "{\"plain\":1}"),
            (Compressed::Auto, Vec::new(), ""),
        ];
        for (how, data, plain) in cases {
            let fates = Decompress::new(how).process(items([data])).unwrap();
            assert_eq!(told(&fates), [format!("0 kept {plain}")], "{how:?}");
        }
    }

    #[test]
    fn broken_records_fail_alone() {
        let good = gzip(&b"good".repeat(1000));
        let mut flipped = good.clone();
        let at = flipped.len() - 5;
        flipped[at] ^= 1;
        let behind = [&good[..], b"more"].concat();
        let records =
            [good.clone(), good[..20].to_vec(), flipped, b"plain".to_vec(), Vec::new(), behind, good];
        let fates = Decompress::new(Compressed::Gzip).process(items(&records)).unwrap();
        let told = told(&fates);
        assert!(told[0].starts_with("0 kept good") && told[6].starts_with("6 kept good"));
        for (i, fate) in fates[1..6].iter().enumerate() {
            let Fate::Failed(item, failure) = fate else { panic!("{fate:?}") };
            assert_eq!(item.data, records[i + 1]);
            assert_eq!(
                (failure.error_type, &*failure.code),
                (ErrorType::Processing, "Decompression failed.")
            );
        }
        for kind in [Compressed::Zstd, Compressed::Snappy] {
            assert!(Decompress::new(kind).expand(b"no such thing").is_err());
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 5 << 20];
        let block = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
        for data in [gzip(&zeros), zstd::encode_all(&zeros[..], 1).unwrap(), framed(&zeros)] {
            let stage = Decompress::new(Compressed::Auto).with_record_bytes_max(5 << 20);
            assert_eq!(stage.expand(&data).unwrap().unwrap().len(), 5 << 20);
            let stage = stage.with_record_bytes_max((5 << 20) - 1);
            assert_eq!(why(stage, &data), "it comes to more than 5242879 bytes");
        }
        let stage = Decompress::new(Compressed::Snappy).with_record_bytes_max(100);
        assert_eq!(why(stage, &block), "it comes to more than 100 bytes");
        // A length that is a lie.
        assert!(why(Decompress::new(Compressed::Snappy), b"\xff\xff\xff\xff\x0fx").contains("more than"));
    }

    #[test]
    fn many_at_once_keep_their_order() {
        let records: Vec<_> =
            (0..200).map(|i| gzip(format!("{i} {}", "x".repeat(i * 50)).as_bytes())).collect();
        let noise = |i: u64| ((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_pow(3) >> 40) as u8;
        let random: Vec<u8> = (0..PARALLEL_BYTES_MIN as u64 * 2).map(noise).collect();
        let mut all = records;
        all.push(gzip(&random));
        let fates = Decompress::new(Compressed::Gzip).process(items(&all)).unwrap();
        for (i, fate) in fates[..200].iter().enumerate() {
            let Fate::Kept(item) = fate else { panic!("{fate:?}") };
            assert!(item.data.starts_with(format!("{i} ").as_bytes()));
        }
    }
}
