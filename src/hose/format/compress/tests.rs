use std::io::{Read, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::hose::format::body::{Body, Scratch};
use crate::sys::System;

pub(in super::super) const ALL: [Compression; 9] = [
    Compression::None,
    Compression::Gzip(1),
    Compression::Gzip(6),
    Compression::Zip(3),
    Compression::Snappy,
    Compression::HadoopSnappy,
    Compression::Zstd(1),
    Compression::Zstd(19),
    Compression::Lz4,
];

/// What readers of other people make of the bytes.
pub(in super::super) fn unpack(compression: Compression, packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match compression {
        Compression::None => plain = packed.to_vec(),
        // This one stops behind the first member.
        Compression::Gzip(_) => {
            let mut reader = flate2::bufread::GzDecoder::new(packed);
            reader.read_to_end(&mut plain).unwrap();
            assert!(reader.into_inner().is_empty(), "more than one member");
        }
        Compression::Zip(_) => {
            let mut archive = ::zip::ZipArchive::new(std::io::Cursor::new(packed)).unwrap();
            assert_eq!(archive.len(), 1);
            archive.by_index(0).unwrap().read_to_end(&mut plain).unwrap();
            // From a pipe, where the directory at the end is not seen.
            let mut again = Vec::new();
            ::zip::read::read_zipfile_from_stream(&mut &packed[..])
                .unwrap()
                .unwrap()
                .read_to_end(&mut again)
                .unwrap();
            assert_eq!(again, plain);
        }
        Compression::Snappy => {
            snap::read::FrameDecoder::new(packed).read_to_end(&mut plain).unwrap();
        }
        Compression::HadoopSnappy => plain = from_hadoop(packed),
        Compression::Zstd(_) => plain = zstd::stream::decode_all(packed).unwrap(),
        Compression::Lz4 => {
            let mut reader = lz4_flex::frame::FrameDecoder::new(packed);
            reader.read_to_end(&mut plain).unwrap();
            assert!(reader.into_inner().is_empty(), "more than one frame");
        }
    }
    plain
}

/// As `BlockDecompressorStream` and `SnappyDecompressor` go about it, with their buffers of 256 KiB.
fn from_hadoop(mut packed: &[u8]) -> Vec<u8> {
    const BUFFER: usize = 256 << 10;
    let mut plain = Vec::new();
    let next = |packed: &mut &[u8]| {
        let (len, rest) = packed.split_at(4);
        *packed = rest;
        len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte))
    };
    while !packed.is_empty() {
        let expected = next(&mut packed) + plain.len();
        while plain.len() < expected {
            let len = next(&mut packed);
            assert!(len <= BUFFER, "a block of {len} bytes");
            let (block, rest) = packed.split_at(len);
            let block = snap::raw::Decoder::new().decompress_vec(block).unwrap();
            assert!(block.len() <= BUFFER);
            plain.extend(block);
            packed = rest;
        }
        assert_eq!(plain.len(), expected);
    }
    plain
}

pub(in super::super) fn bytes(body: &Body) -> Vec<u8> {
    body.read(0, body.len() as usize).unwrap()
}

fn scratch(dir: &tempfile::TempDir) -> Scratch {
    Scratch::new(&System::real(), dir.path())
}

fn pack(compression: Compression, parts: &[Vec<u8>], shrink_at: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = PackedWriter::new(compression, &scratch(&dir), &Ratio::default(), "records").unwrap();
    for (i, part) in parts.iter().enumerate() {
        writer.put(Part::new(compression, part.clone()).unwrap()).unwrap();
        if i == shrink_at {
            writer.shrink().unwrap();
            assert_eq!(writer.memory(), 0);
        }
    }
    bytes(&writer.finish().unwrap())
}

/// Something like JSON lines, so much of it.
pub(in super::super) fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut text = Vec::with_capacity(len + 100);
    while text.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (a, b) = (state >> 40, state >> 56);
        writeln!(text, "{{\"id\":{a},\"country\":\"c{}\",\"path\":\"/a/{b}\",\"ok\":true}}", b % 7).unwrap();
    }
    text.truncate(len);
    text
}

#[test]
fn names_and_levels() {
    for compression in ALL {
        assert_eq!(compression.to_string().parse(), Ok(compression));
        assert_eq!(compression.name().parse::<Compression>().unwrap().extension(), compression.extension());
    }
    assert_eq!("gzip:9".parse(), Ok(Compression::Gzip(9)));
    assert_eq!("gzip".parse(), Ok(Compression::Gzip(DEFLATE_LEVEL)));
    for (wrong, word) in [
        ("gzip:0", "1 to 9"),
        ("gzip:x", "1 to 9"),
        ("zstd:23", "1 to 22"),
        ("snappy:3", "no levels"),
        ("lzma", "hadoop-snappy"),
        ("", "one of none, gzip"),
    ] {
        assert!(wrong.parse::<Compression>().unwrap_err().contains(word), "{wrong}");
    }
}

#[test]
fn nothing_is_a_whole_file_too() {
    for compression in ALL {
        let packed = pack(compression, &[], 0);
        assert!(unpack(compression, &packed).is_empty());
        // An empty file is one without records where there is no frame.
        let is_framed = !matches!(compression, Compression::None | Compression::HadoopSnappy);
        assert_eq!(!packed.is_empty(), is_framed, "{compression}");
    }
}

#[test]
fn a_huge_row_and_bytes_that_do_not_compress() {
    let mut noise = vec![0_u8; 1 << 20];
    let mut state = 1_u64;
    noise.iter_mut().for_each(|byte| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    });
    for compression in ALL {
        let parts = [noise.clone(), vec![b'x'; 5 << 20], noise[..1000].to_vec()];
        assert!(unpack(compression, &pack(compression, &parts, 9)) == parts.concat(), "{compression}");
    }
}

#[test]
fn small_chunks_do_not_cost_the_ratio() {
    let whole = text(2 << 20, 7);
    // The highest levels only take longer.
    for compression in ALL.into_iter().filter(|c| !matches!(c, Compression::None | Compression::Zstd(19))) {
        let of = |bytes: usize| {
            let parts: Vec<Vec<u8>> = whole.chunks(bytes).map(<[u8]>::to_vec).collect();
            pack(compression, &parts, usize::MAX).len() as f64
        };
        let (large, small) = (of(1 << 20), of(500));
        assert!(small < large * 1.06, "{compression}: {large} and {small}");
    }
}

#[test]
fn the_size_is_told_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    for compression in ALL {
        let ratio = Ratio::default();
        for parts in [400, 40] {
            let mut writer = PackedWriter::new(compression, &scratch(&dir), &ratio, "records").unwrap();
            for i in 0..parts {
                writer.put(Part::new(compression, text(5_000, i + 1)).unwrap()).unwrap();
            }
            let told = writer.size() as f64;
            let is = writer.finish().unwrap().len() as f64;
            assert!((told / is - 1.0).abs() < 0.05, "{compression}: {told} and {is}");
        }
    }
}

#[test]
fn zip_above_four_gibibytes_says_so() {
    let (plain_bytes, packed_bytes) = (5 << 32, 6 << 30);
    let member = super::zip::Member { name: "records", crc: 0x1234_5678, plain_bytes, packed_bytes };
    let header = member.header();
    assert_eq!(header.len(), super::zip::room_for_header("records").len());
    // The crate reads the directory where it lies: everything before it is a hole in a file.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.zip");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&header).unwrap();
    let offset = header.len() as u64 + packed_bytes;
    file.set_len(offset).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    file.write_all(&member.directory(offset)).unwrap();
    let mut archive = ::zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    let found = archive.by_index_raw(0).unwrap();
    assert_eq!(
        (found.size(), found.compressed_size(), found.crc32()),
        (plain_bytes, packed_bytes, 0x1234_5678)
    );
    assert_eq!(found.name().unwrap(), "records");
}

/// The programs that people read such files with, where they are installed.
#[test]
fn other_programs_read_it() {
    let plain = [text(3 << 20, 3), text(100, 4), text(2 << 20, 5)];
    let checks: [(Compression, &[&str]); 4] = [
        (Compression::Gzip(1), &["gzip", "-dc"]),
        (
            Compression::Gzip(6),
            &[
                "python3",
                "-c",
                "import sys,gzip; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))",
            ],
        ),
        (Compression::Zstd(3), &["zstd", "-dcq"]),
        (Compression::Lz4, &["lz4", "-dcq"]),
    ];
    for (compression, command) in checks {
        let packed = pack(compression, &plain, 1);
        let Some(read) = through(command, packed) else { continue };
        assert!(read == plain.concat(), "{command:?}");
    }
    let script = "import sys,io,zipfile; z=zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())); assert z.testzip() is None; sys.stdout.buffer.write(z.read(z.namelist()[0]))";
    if let Some(read) = through(&["python3", "-c", script], pack(Compression::Zip(6), &plain, 1)) {
        assert!(read == plain.concat(), "zipfile");
    }
}

fn through(command: &[&str], input: Vec<u8>) -> Option<Vec<u8>> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    Some(output.stdout)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_parts_come_back(
        lens in prop::collection::vec((0_usize..3000, any::<bool>(), any::<u64>()), 0..6),
        shrink_at in 0_usize..6,
        which in 0..ALL.len(),
    ) {
        let parts: Vec<Vec<u8>> =
            lens.iter().map(|(len, large, seed)| text(if *large { len * 100 } else { *len }, *seed)).collect();
        let packed = pack(ALL[which], &parts, shrink_at);
        prop_assert!(unpack(ALL[which], &packed) == parts.concat());
        prop_assert!(packed == pack(ALL[which], &parts, shrink_at));
    }
}
