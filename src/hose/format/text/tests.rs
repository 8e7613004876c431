use proptest::prelude::*;

use super::super::compress::tests::{ALL, bytes, unpack};
use super::*;
use crate::hose::chunk::Origin;
use crate::record::ShardId;
use crate::sys::System;

pub(in super::super) fn chunk(payloads: &[impl AsRef<[u8]>]) -> Chunk {
    let mut chunk = Chunk::default();
    for (index, payload) in payloads.iter().enumerate() {
        let origin =
            Origin { shard: ShardId(0), shard_created_s: 0, index: index as u64, sub: None, arrival_us: 0 };
        chunk.push(origin, payload.as_ref());
    }
    chunk
}

/// One object of these chunks, and the bad rows of each.
fn object(format: &TextFormat, chunks: &[Chunk]) -> (Vec<u8>, Vec<Vec<BadRow>>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = format.open(&Scratch::new(&System::real(), dir.path())).unwrap();
    let (mut bad, mut rows) = (Vec::new(), 0);
    for chunk in chunks {
        let prepared = format.prepare(chunk);
        bad.push(prepared.bad);
        rows += prepared.rows;
        assert!(writer.append(prepared.piece).unwrap().is_none());
    }
    (bytes(&writer.finish(&[]).unwrap()), bad, rows)
}

fn plain(layout: Layout, payloads: &[&[u8]]) -> Vec<u8> {
    object(&TextFormat::new(layout, Compression::None), &[chunk(payloads)]).0
}

#[test]
fn raw_adds_nothing() {
    assert_eq!(plain(Layout::Raw, &[b"a\n", b"", b"\0b"]), b"a\n\0b");
}

#[test]
fn lines_get_one_delimiter() {
    let newline = || Layout::Lines(b"\n".to_vec());
    assert_eq!(plain(newline(), &[b"a", b"", b"b c"]), b"a\n\nb c\n");
    assert_eq!(plain(newline(), &[b"a\n", b"b\n\n", b"c\r\n", b"d\ne"]), b"a\nb\n\nc\r\nd\ne\n");
    assert_eq!(plain(Layout::Lines(b"||".to_vec()), &[b"a", b"b||", b"c|"]), b"a||b||c|||");
    assert_eq!(plain(Layout::Lines(b"\0".to_vec()), &[b"a\n", b""]), b"a\n\0\0");
}

#[test]
fn bad_rows_of_ndjson_are_left_out_with_their_reasons() {
    let format = TextFormat::new(Layout::Ndjson, Compression::Gzip(6));
    let chunks = [chunk(&["{\"a\":1}", "{", "", "2 3", "[\n4\n]"]), chunk(&["x"]), chunk(&[""; 0])];
    let (packed, bad, rows) = object(&format, &chunks);
    assert_eq!(unpack(Compression::Gzip(6), &packed), b"{\"a\":1}\n2\n3\n[4]\n");
    assert_eq!(rows, 3);
    let numbers: Vec<Vec<usize>> = bad.iter().map(|bad| bad.iter().map(|row| row.row).collect()).collect();
    assert_eq!(numbers, [vec![1, 2], vec![0], vec![]]);
    let failure = &bad[0][1].failure;
    assert_eq!(failure.error_type.name(), "format-conversion-failed");
    assert_eq!(failure.code, "DataFormatConversion.ParseError");
    assert!(failure.message.contains("empty"));
}

#[test]
fn names_tell_what_is_in_them() {
    let format = |layout, compression| TextFormat::new(layout, compression);
    assert_eq!(format(Layout::Ndjson, Compression::Gzip(1)).extension(), ".ndjson.gz");
    assert_eq!(format(Layout::Raw, Compression::HadoopSnappy).extension(), ".hsnappy");
    assert_eq!(format(Layout::Ndjson, Compression::None).content_type(), "application/x-ndjson");
    assert_eq!(format(Layout::Ndjson, Compression::Zstd(1)).content_type(), "application/zstd");
}

#[test]
fn five_hundred_open_objects_are_small() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(&System::real(), dir.path());
    for compression in ALL {
        let format = TextFormat::new(Layout::Ndjson, compression);
        let rows: Vec<String> = (0..50).map(|i| format!("{{\"i\":{i},\"text\":\"some of it\"}}")).collect();
        let chunk = chunk(&rows);
        let mut writers: Vec<_> = (0..500).map(|_| format.open(&scratch).unwrap()).collect();
        for writer in &mut writers {
            writer.append(format.prepare(&chunk).piece).unwrap();
        }
        let memory: u64 = writers.iter().map(|writer| writer.memory()).sum();
        assert!(memory < 500 * 2 * chunk.bytes.len() as u64, "{compression}: {memory}");
        for writer in &mut writers {
            writer.shrink().unwrap();
            assert_eq!(writer.memory(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// However payloads are cut into chunks, the object says the same.
    #[test]
    fn chunks_leave_no_trace(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        which in 0..ALL.len(),
        layout in prop_oneof![Just(Layout::Raw), Just(Layout::Lines(b"\n".to_vec())), Just(Layout::Lines(b"a".to_vec()))],
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payloads.len() + 1)).collect();
        cuts.extend([0, payloads.len()]);
        cuts.sort_unstable();
        let chunks: Vec<Chunk> = cuts.windows(2).map(|cut| chunk(&payloads[cut[0]..cut[1]])).collect();
        let expected: Vec<u8> = payloads.iter().flat_map(|payload| {
            let mut line = payload.clone();
            if let Layout::Lines(delimiter) = &layout && !payload.ends_with(delimiter) {
                line.extend_from_slice(delimiter);
            }
            line
        }).collect();
        let (packed, bad, rows) = object(&TextFormat::new(layout, ALL[which]), &chunks);
        prop_assert!(unpack(ALL[which], &packed) == expected);
        prop_assert_eq!((bad.iter().flatten().count(), rows), (0, payloads.len() as u64));
    }
}
