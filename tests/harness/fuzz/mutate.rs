//! Seeds in, inputs out: a pure function of seed, iteration and corpus.

/// Changes of one input at most.
const CHANGES_MAX: u64 = 8;
/// Bytes inserted or copied at once at most.
const PIECE_BYTES_MAX: u64 = 64;
/// Values on which arithmetic goes wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];
/// Pieces of text on which parsers turn.
const WORDS: [&[u8]; 10] =
    [b"\"", b"{", b"}", b"[", b"]]", b"\n", b"'''", b"\\u0000", b"-1", b"1e999"];

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`; 0 for a limit of 0.
    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }

    fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}

pub(super) fn input(corpus: &[Vec<u8>], seed: u64, iteration: u64, bytes_max: usize) -> Vec<u8> {
    let whole = usize::try_from(iteration).ok().and_then(|index| corpus.get(index));
    if let Some(whole) = whole {
        return whole.clone();
    }
    let mut random = Random(seed ^ iteration.wrapping_mul(0xd134_2543_de82_ef95));
    let mut bytes = random.choose(corpus).cloned().unwrap_or_default();
    for _ in 0..=random.next() % CHANGES_MAX {
        change(&mut bytes, &mut random, corpus);
    }
    bytes.truncate(bytes_max);
    bytes
}

fn change(bytes: &mut Vec<u8>, random: &mut Random, corpus: &[Vec<u8>]) {
    let at = random.below(bytes.len());
    let length = (random.next() % PIECE_BYTES_MAX + 1) as usize;
    match random.next() % 9 {
        0 => {
            let bit = random.next() % 8;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        1 => {
            let value = (random.next() & 0xff) as u8;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        2 => {
            let number = random.choose(&NUMBERS).copied().unwrap_or(0).to_le_bytes();
            let width = [1, 2, 4, 8].get(random.below(4)).copied().unwrap_or(1);
            for (to, from) in bytes.iter_mut().skip(at).zip(number.iter().take(width)) {
                *to = *from;
            }
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..(at + length).min(bytes.len()))),
        5 => {
            let piece: Vec<u8> = bytes.iter().skip(at).take(length).copied().collect();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        6 => {
            let noise: Vec<u8> = (0..length).map(|_| (random.next() & 0xff) as u8).collect();
            bytes.splice(at..at, noise);
        }
        7 => {
            let word = random.choose(&WORDS).copied().unwrap_or_default();
            bytes.splice(at..at, word.iter().copied());
        }
        _ => {
            let other = random.choose(corpus).map(Vec::as_slice).unwrap_or_default();
            let from = random.below(other.len());
            let piece = other.iter().skip(from).copied();
            bytes.truncate(at);
            bytes.extend(piece);
        }
    }
}
