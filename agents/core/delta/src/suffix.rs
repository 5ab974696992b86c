//! Suffix arrays by induced sorting (SA-IS: Nong, Zhang, Chan, "Two Efficient Algorithms for Linear Time
//! Suffix Array Construction", 2010), and the search for the longest match. Publisher only: it needs some
//! twenty bytes of memory for each byte of text.
// Indices are produced by the algorithm itself from the text's own length; bytes cannot lead outside.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Longest text in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 30;

const NONE: u32 = u32::MAX;

/// The starts of all suffixes of `text`, sorted. Empty for a text beyond [`TEXT_BYTES_MAX`].
pub fn suffix_array(text: &[u8]) -> Vec<u32> {
    if text.len() > TEXT_BYTES_MAX {
        return Vec::new();
    }
    sort(text, 255)
}

/// A text over some alphabet: bytes at the first level, names of substrings below.
trait Symbol: Copy + Ord {
    fn index(self) -> usize;
}

impl Symbol for u8 {
    fn index(self) -> usize {
        usize::from(self)
    }
}

impl Symbol for u32 {
    fn index(self) -> usize {
        self as usize
    }
}

fn sort<S: Symbol>(text: &[S], upper: usize) -> Vec<u32> {
    let n = text.len();
    match n {
        0 => return Vec::new(),
        1 => return vec![0],
        _ => {}
    }
    // True where the suffix is smaller than the one after it.
    let mut smaller = vec![false; n];
    for i in (0..n - 1).rev() {
        smaller[i] = if text[i] == text[i + 1] { smaller[i + 1] } else { text[i] < text[i + 1] };
    }
    let mut sum_l = vec![0u32; upper + 2];
    let mut sum_s = vec![0u32; upper + 2];
    for i in 0..n {
        if smaller[i] {
            sum_l[text[i].index() + 1] += 1;
        } else {
            sum_s[text[i].index()] += 1;
        }
    }
    for i in 0..=upper {
        sum_s[i] += sum_l[i];
        if i < upper {
            sum_l[i + 1] += sum_s[i];
        }
    }
    let buckets = Buckets { text, smaller: &smaller, sum_l: &sum_l, sum_s: &sum_s };
    let is_start = |i: usize| i > 0 && !smaller[i - 1] && smaller[i];
    let mut number = vec![NONE; n + 1];
    let mut starts = Vec::new();
    for i in (1..n).filter(|&i| is_start(i)) {
        number[i] = starts.len() as u32;
        starts.push(i as u32);
    }
    let m = starts.len();
    let mut sa = buckets.induce(&starts);
    if m == 0 {
        return sa;
    }
    let sorted: Vec<u32> = sa.iter().copied().filter(|&v| number[v as usize] != NONE).collect();
    let mut names = vec![0u32; m];
    let mut name = 0u32;
    for pair in sorted.windows(2) {
        let (left, right) = (pair[0] as usize, pair[1] as usize);
        let end = |at: usize| starts.get(number[at] as usize + 1).map_or(n, |&next| next as usize);
        let (end_left, end_right) = (end(left), end(right));
        let same = end_left - left == end_right - right
            && text[left..end_left] == text[right..end_right]
            && end_left < n
            && end_right < n
            && text[end_left] == text[end_right];
        name += u32::from(!same);
        names[number[right] as usize] = name;
    }
    drop(sa);
    let order = sort(&names, name as usize);
    let sorted: Vec<u32> = order.iter().map(|&i| starts[i as usize]).collect();
    sa = buckets.induce(&sorted);
    sa
}

struct Buckets<'a, S> {
    text: &'a [S],
    smaller: &'a [bool],
    sum_l: &'a [u32],
    sum_s: &'a [u32],
}

impl<S: Symbol> Buckets<'_, S> {
    /// Sorts all suffixes from those that begin a run, in the order given.
    fn induce(&self, starts: &[u32]) -> Vec<u32> {
        let (text, n) = (self.text, self.text.len());
        let mut sa = vec![NONE; n];
        let mut next = self.sum_s.to_vec();
        for &start in starts {
            let bucket = &mut next[text[start as usize].index()];
            sa[*bucket as usize] = start;
            *bucket += 1;
        }
        let mut next = self.sum_l.to_vec();
        let mut put = |sa: &mut [u32], v: usize| {
            let bucket = &mut next[text[v].index()];
            sa[*bucket as usize] = v as u32;
            *bucket += 1;
        };
        put(&mut sa, n - 1);
        for i in 0..n {
            let v = sa[i];
            if v != NONE && v >= 1 && !self.smaller[v as usize - 1] {
                put(&mut sa, v as usize - 1);
            }
        }
        let mut next = self.sum_l.to_vec();
        for i in (0..n).rev() {
            let v = sa[i];
            if v != NONE && v >= 1 && self.smaller[v as usize - 1] {
                let before = v as usize - 1;
                let bucket = &mut next[text[before].index() + 1];
                *bucket -= 1;
                sa[*bucket as usize] = before as u32;
            }
        }
        sa
    }
}

/// The longest prefix of `wanted` that occurs in `text`: `(position, length)`; the first of equal ones
/// that a binary search meets, so the answer is always the same.
pub fn longest_match(sa: &[u32], text: &[u8], wanted: &[u8]) -> (usize, usize) {
    let (mut low, mut high) = (0usize, sa.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if text[sa[middle] as usize..] < *wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let candidate = |index: usize| {
        sa.get(index).map_or((0, 0), |&at| (at as usize, common(&text[at as usize..], wanted)))
    };
    let (right, left) = (candidate(low), candidate(low.wrapping_sub(1)));
    if left.1 > right.1 { left } else { right }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &[u8]) {
        let mut wanted: Vec<u32> = (0..text.len() as u32).collect();
        wanted.sort_by_key(|&at| &text[at as usize..]);
        assert_eq!(suffix_array(text), wanted);
    }

    #[test]
    fn known_texts_are_sorted() {
        for text in ["", "a", "aa", "ab", "ba", "banana", "mississippi", "abababab", "cabbage"] {
            check(text.as_bytes());
        }
        check(&[0; 300]);
        check(&[255; 300]);
    }

    proptest! {
        #[test]
        fn any_text_is_sorted(text in proptest::collection::vec(0u8..4, 0..400)) {
            check(&text);
        }

        #[test]
        fn any_bytes_are_sorted(text: Vec<u8>) {
            check(&text);
        }

        #[test]
        fn no_longer_match_exists(
            text in proptest::collection::vec(0u8..3, 0..200),
            wanted in proptest::collection::vec(0u8..3, 0..20),
        ) {
            let sa = suffix_array(&text);
            let (at, length) = longest_match(&sa, &text, &wanted);
            prop_assert_eq!(&text[at..at + length], &wanted[..length]);
            let best = (0..text.len()).map(|i| common(&text[i..], &wanted)).max().unwrap_or(0);
            prop_assert_eq!(length, best);
        }
    }
}
