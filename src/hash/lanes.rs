//! MD5 of sixteen short keys at a time, equal to the digest of each key alone.
//!
//! Every step of MD5 needs the result of the one before, so a processor that could do several things at once has
//! nothing to do but wait. Sixteen independent keys side by side give it work: word `w` of all sixteen messages lies in
//! one array, every step is a loop over the lanes, and the compiler turns the loop into vector instructions: one
//! register of AVX-512, two of AVX2 (whose chains overlap), four of the baseline. A key of up to 55 bytes is one block
//! of MD5 with its padding; the rare longer ones go through the ordinary implementation.

use super::HashKey;

/// Keys hashed side by side.
const LANES: usize = 16;

/// The longest key whose padding still fits in its own 64-byte block.
const SHORT_MAX: usize = 55;

/// Below this many keys the lanes cost more than hashing one by one.
const WORTH_IT: usize = 3;

/// Word `w` of lane `l` is `Words[w][l]`.
type Words = [[u32; LANES]; 16];

/// The four words of the digests, in the same arrangement.
type State = [[u32; LANES]; 4];

/// `floor(2^32 * |sin(i + 1)|)`, from RFC 1321.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// See [`HashKey::of_many`].
pub(super) fn of_many<'a>(mut keys: impl Iterator<Item = &'a [u8]>, out: &mut Vec<HashKey>) {
    out.reserve(keys.size_hint().0);
    let mut batch: [&[u8]; LANES] = [b""; LANES];
    loop {
        let mut count = 0;
        while count < LANES {
            let Some(key) = keys.next() else { break };
            batch[count] = key;
            count += 1;
        }
        if count < WORTH_IT {
            out.extend(batch[..count].iter().map(|key| HashKey::of(key)));
        } else {
            hash_batch(&batch[..count], out);
        }
        if count < LANES {
            return;
        }
    }
}

fn hash_batch(keys: &[&[u8]], out: &mut Vec<HashKey>) {
    let mut words: Words = [[0; LANES]; 16];
    for (lane, key) in keys.iter().enumerate() {
        if key.len() <= SHORT_MAX {
            set_lane(&mut words, lane, key);
        }
    }
    let digests = digest(&words);
    for (lane, key) in keys.iter().enumerate() {
        out.push(if key.len() <= SHORT_MAX { hash_key(&digests, lane) } else { HashKey::of(key) });
    }
}

/// Lays a key with its padding into a lane whose words are still zero.
#[inline(always)]
fn set_lane(words: &mut Words, lane: usize, key: &[u8]) {
    let mut chunks = key.chunks_exact(4);
    let mut word = 0;
    for chunk in &mut chunks {
        words[word][lane] = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        word += 1;
    }
    let mut tail = [0; 4];
    let rest = chunks.remainder();
    tail[..rest.len()].copy_from_slice(rest);
    tail[rest.len()] = 0x80;
    words[word][lane] = u32::from_le_bytes(tail);
    // At most 55 bytes: the low word of the length in bits is enough.
    words[14][lane] = key.len() as u32 * 8;
}

fn hash_key(digests: &State, lane: usize) -> HashKey {
    // A digest is its words in little-endian order, and a hash key is the digest read as one big-endian number.
    HashKey(digests.iter().fold(0, |sum, word| (sum << 32) | u128::from(word[lane].swap_bytes())))
}

#[cfg(target_arch = "x86_64")]
fn digest(words: &Words) -> State {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
        #[expect(unsafe_code, reason = "a function compiled for a processor feature can only be called so")]
        // SAFETY: the processor has been asked, just above, for every feature that the function enables.
        return unsafe { digest_avx512(words) };
    }
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a function compiled for a processor feature can only be called so")]
        // SAFETY: the processor has been asked, just above, for the feature that the function enables.
        return unsafe { digest_avx2(words) };
    }
    digest_lanes(words)
}

#[cfg(not(target_arch = "x86_64"))]
fn digest(words: &Words) -> State {
    digest_lanes(words)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn digest_avx512(words: &Words) -> State {
    digest_lanes(words)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn digest_avx2(words: &Words) -> State {
    digest_lanes(words)
}

/// One block of MD5 in every lane. Inlined into each caller, so that it is compiled for that caller's processor.
#[inline(always)]
fn digest_lanes(words: &Words) -> State {
    let mut state: State = START.map(|word| [word; LANES]);
    round::<0, 7, 12, 17, 22>(&mut state, words, |b, c, d| d ^ (b & (c ^ d)), |i| i);
    round::<1, 5, 9, 14, 20>(&mut state, words, |b, c, d| c ^ (d & (b ^ c)), |i| (5 * i + 1) % 16);
    round::<2, 4, 11, 16, 23>(&mut state, words, |b, c, d| b ^ c ^ d, |i| (3 * i + 5) % 16);
    round::<3, 6, 10, 15, 21>(&mut state, words, |b, c, d| c ^ (b | !d), |i| (7 * i) % 16);
    for (lanes, start) in state.iter_mut().zip(START) {
        for lane in lanes {
            *lane = lane.wrapping_add(start);
        }
    }
    state
}

/// The sixteen steps of one of the four rounds: `mix` is RFC 1321's F, G, H or I, `pick` the order of the words, and
/// the four constants how far the steps rotate.
#[inline(always)]
fn round<const ROUND: usize, const R0: u32, const R1: u32, const R2: u32, const R3: u32>(
    state: &mut State,
    words: &Words,
    mix: impl Fn(u32, u32, u32) -> u32,
    pick: impl Fn(usize) -> usize,
) {
    let [mut a, mut b, mut c, mut d] = *state;
    for at in (0..16).step_by(4) {
        step::<R0>(&mut a, &b, &c, &d, &words[pick(at)], SINES[ROUND * 16 + at], &mix);
        step::<R1>(&mut d, &a, &b, &c, &words[pick(at + 1)], SINES[ROUND * 16 + at + 1], &mix);
        step::<R2>(&mut c, &d, &a, &b, &words[pick(at + 2)], SINES[ROUND * 16 + at + 2], &mix);
        step::<R3>(&mut b, &c, &d, &a, &words[pick(at + 3)], SINES[ROUND * 16 + at + 3], &mix);
    }
    *state = [a, b, c, d];
}

type Lanes = [u32; LANES];

/// `a = b + rotate(a + mix(b, c, d) + word + sine)` in every lane.
#[inline(always)]
fn step<const ROTATE: u32>(
    a: &mut Lanes,
    b: &Lanes,
    c: &Lanes,
    d: &Lanes,
    word: &Lanes,
    sine: u32,
    mix: impl Fn(u32, u32, u32) -> u32,
) {
    for lane in 0..LANES {
        let sum =
            a[lane].wrapping_add(mix(b[lane], c[lane], d[lane])).wrapping_add(word[lane]).wrapping_add(sine);
        a[lane] = b[lane].wrapping_add(sum.rotate_left(ROTATE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_length_around_the_block_boundary() {
        let bytes: Vec<u8> = (0..200).collect();
        let keys: Vec<&[u8]> = (0..200).map(|len| &bytes[..len]).collect();
        let mut out = Vec::new();
        HashKey::of_many(keys.iter().copied(), &mut out);
        let alone: Vec<_> = keys.iter().map(|key| HashKey::of(key)).collect();
        assert_eq!(out, alone);
    }

    #[test]
    fn appends() {
        let mut out = vec![HashKey(1)];
        HashKey::of_many([&b"a"[..]], &mut out);
        HashKey::of_many([], &mut out);
        assert_eq!(out, [HashKey(1), HashKey::of(b"a")]);
    }

    /// The machine that runs the tests takes one path; the others must agree with it.
    #[test]
    fn the_portable_path_agrees() {
        let mut words = [[0; LANES]; 16];
        let keys: Vec<Vec<u8>> = (0..LANES).map(|n| vec![n as u8; n * 3]).collect();
        for (lane, key) in keys.iter().enumerate() {
            set_lane(&mut words, lane, key);
        }
        let portable = digest_lanes(&words);
        assert_eq!(portable, digest(&words));
        for (lane, key) in keys.iter().enumerate() {
            assert_eq!(hash_key(&portable, lane), HashKey::of(key));
        }
    }

    proptest! {
        #[test]
        fn many_are_as_one_by_one(keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..70)) {
            let mut out = Vec::new();
            HashKey::of_many(keys.iter().map(Vec::as_slice), &mut out);
            let alone: Vec<_> = keys.iter().map(|key| HashKey::of(key)).collect();
            prop_assert_eq!(out, alone);
        }
    }
}
