//! Which of the writes after the last flush reached the disk when the power went: pure.
//!
//! A disk keeps what was flushed. Of the rest it may have written anything: all of it, a beginning, some
//! requests out of order, requests up to some sector. For each stretch between two flushes this file
//! names the cuts to look at: every prefix, torn requests, lost and overtaking ones, and seeded choices.

use super::disk::Piece;
use serde::Serialize;

/// Stretches that change at most this many sectors are cut in every possible way, sampled and in full.
const EXHAUSTIVE_SECTORS_MAX: (u32, u32) = (6, 10);
/// Requests of a stretch that a sampled run cuts at; the first and last of it are always among them.
const SAMPLED_CUTS_MAX: usize = 16;
/// Seeded choices for each stretch, sampled and in full.
const CHOICES: (u32, u32) = (16, 200);
/// Tears of each request, sampled and in full.
const TEARS: (u32, u32) = (2, 12);

/// A request that matters, after the last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Number of the log entry.
    pub(super) entry: usize,
    /// Its sectors.
    pub(super) sector_count: u64,
    /// Those of them, ascending, that change something: the only places where a tear shows.
    pub(super) changed: Vec<u64>,
    /// It changes names, tables or the record, not the content of a large file.
    pub(super) is_metadata: bool,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// A few hundred states.
    Sample,
    /// Every prefix, more choices.
    Full,
}

impl Depth {
    fn of(self, (sample, full): (u32, u32)) -> u32 {
        match self {
            Self::Sample => sample,
            Self::Full => full,
        }
    }
}

/// One way the power went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// What happened, in words.
    pub(super) how: How,
    /// What was written after the last flush, in order.
    pub(super) pieces: Vec<Piece>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum How {
    /// Every request up to one was written.
    Prefix,
    /// The last request was written in part.
    Torn,
    /// One request was lost, all others were written.
    Lost,
    /// One request overtook all others.
    Overtaking,
    /// A seeded choice of requests.
    Chosen,
    /// One of all subsets of the sectors.
    Subset,
}

/// A small generator: xorshift64*, the same choice for the same seed on every machine.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self((seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// A number below `end`; 0 when there is none.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }
}

/// All of a request.
pub(super) fn whole(request: &Request) -> Piece {
    Piece { entry: request.entry, sectors: 0..request.sector_count }
}

/// The cuts of one stretch, besides the state before its first request.
pub(super) fn cuts(requests: &[Request], depth: Depth, dice: &mut Dice) -> Vec<Cut> {
    let sectors: usize = requests.iter().map(|request| request.changed.len()).sum();
    let mut cuts = Vec::new();
    for index in places(requests, depth) {
        cut_at(requests, index, depth, dice, &mut cuts);
    }
    if sectors <= depth.of(EXHAUSTIVE_SECTORS_MAX) as usize {
        subsets(requests, &mut cuts);
    } else {
        for _ in 0..depth.of(CHOICES) {
            cuts.push(choice(requests, dice));
        }
    }
    cuts
}

/// Indices of the requests to cut at.
fn places(requests: &[Request], depth: Depth) -> Vec<usize> {
    let all: Vec<usize> = (0..requests.len()).collect();
    if depth == Depth::Full {
        return all;
    }
    let is_edge = |index: usize| {
        let near = |at: usize| requests.get(at).is_some_and(|request| request.is_metadata);
        // What precedes metadata is as telling as what follows it.
        near(index) || near(index + 1) || index == 0 || index + 1 == requests.len()
    };
    let mut places = thinned(all.iter().copied().filter(|&index| is_edge(index)).collect());
    places.extend(thinned(all.into_iter().filter(|&index| !is_edge(index)).collect()));
    places.sort_unstable();
    places
}

fn thinned(all: Vec<usize>) -> Vec<usize> {
    let step = all.len().div_ceil(SAMPLED_CUTS_MAX).max(1);
    let last = all.last().copied();
    let mut some: Vec<usize> = all.into_iter().step_by(step).collect();
    if some.last().copied() != last {
        some.extend(last);
    }
    some
}

fn cut_at(requests: &[Request], index: usize, depth: Depth, dice: &mut Dice, cuts: &mut Vec<Cut>) {
    let Some((last, before)) = requests.get(..=index).and_then(<[Request]>::split_last) else {
        return;
    };
    let prefix: Vec<Piece> = before.iter().map(whole).collect();
    let with = |piece: Piece| prefix.iter().cloned().chain([piece]).collect::<Vec<_>>();
    cuts.push(Cut { how: How::Prefix, pieces: with(whole(last)) });
    for _ in 0..depth.of(TEARS) {
        let Some(middle) = tear(last, dice) else { break };
        let sectors = if dice.below(2) == 0 { 0..middle } else { middle..last.sector_count };
        cuts.push(Cut { how: How::Torn, pieces: with(Piece { entry: last.entry, sectors }) });
    }
    if requests.len() > 1 {
        cuts.push(Cut { how: How::Overtaking, pieces: vec![whole(last)] });
        let others = requests.iter().filter(|request| request.entry != last.entry);
        cuts.push(Cut { how: How::Lost, pieces: others.map(whole).collect() });
    }
}

/// A sector, not the first that changes something, before which a request tears.
fn tear(request: &Request, dice: &mut Dice) -> Option<u64> {
    let later = request.changed.get(1..)?;
    later.get(usize::try_from(dice.below(later.len() as u64)).ok()?).copied()
}

/// Each request of a random prefix is kept, lost or torn.
fn choice(requests: &[Request], dice: &mut Dice) -> Cut {
    let end = usize::try_from(1 + dice.below(requests.len() as u64)).unwrap_or(usize::MAX);
    // Sometimes nearly everything is kept, sometimes nearly nothing.
    let kept_of_8 = 1 + dice.below(7);
    let mut pieces = Vec::new();
    for request in requests.iter().take(end) {
        if dice.below(8) >= kept_of_8 {
            continue;
        }
        let mut piece = whole(request);
        if dice.below(4) == 0
            && let Some(middle) = tear(request, dice)
        {
            piece.sectors.end = middle;
        }
        pieces.push(piece);
    }
    Cut { how: How::Chosen, pieces }
}

fn subsets(requests: &[Request], cuts: &mut Vec<Cut>) {
    let sectors: Vec<Piece> = requests
        .iter()
        .flat_map(|request| {
            let piece = |at| Piece { entry: request.entry, sectors: at..at + 1 };
            request.changed.iter().copied().map(piece)
        })
        .collect();
    for bits in 1..1u64 << sectors.len() {
        let chosen =
            |(index, piece): (usize, &Piece)| (bits >> index & 1 == 1).then(|| piece.clone());
        let pieces = sectors.iter().enumerate().filter_map(chosen).collect();
        cuts.push(Cut { how: How::Subset, pieces });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(counts: &[u64]) -> Vec<Request> {
        let request = |(entry, &sector_count)| Request {
            entry,
            sector_count,
            changed: (0..sector_count).collect(),
            is_metadata: sector_count < 8,
        };
        counts.iter().enumerate().map(request).collect()
    }

    #[test]
    fn a_few_sectors_are_cut_in_every_way() {
        let all = cuts(&requests(&[1, 2]), Depth::Sample, &mut Dice::new(1, 1));
        let subsets: Vec<_> = all.iter().filter(|cut| cut.how == How::Subset).collect();
        assert_eq!(subsets.len(), 7);
    }

    #[test]
    fn a_full_run_has_every_prefix_and_a_sampled_one_all_metadata() {
        let mut counts = vec![256; 100];
        counts[50] = 1;
        let prefixes = |depth| {
            let all = cuts(&requests(&counts), depth, &mut Dice::new(7, 1));
            let ends = all.into_iter().filter(|cut| cut.how == How::Prefix);
            ends.map(|cut| cut.pieces.len()).collect::<Vec<_>>()
        };
        assert_eq!(prefixes(Depth::Full).len(), 100);
        let sampled = prefixes(Depth::Sample);
        assert!(sampled.len() < 40 && [1, 50, 51, 100].iter().all(|end| sampled.contains(end)));
    }

    #[test]
    fn pieces_lie_within_their_requests_and_seeds_repeat() {
        let some = requests(&[9, 1, 300, 40]);
        let all = cuts(&some, Depth::Full, &mut Dice::new(3, 5));
        for piece in all.iter().flat_map(|cut| &cut.pieces) {
            assert!(piece.sectors.start < piece.sectors.end);
            assert!(piece.sectors.end <= some[piece.entry].sector_count);
        }
        assert_eq!(all, cuts(&some, Depth::Full, &mut Dice::new(3, 5)));
    }
}
