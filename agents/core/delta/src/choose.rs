//! The cheapest way to the contents that a device lacks.

use crate::Content;
use crate::pack::Index;
use crate::ranges::{Range, ranges};
use serde::{Deserialize, Serialize};

/// What a request costs besides its bytes, counted as bytes: headers, and a round trip at some Mbit/s.
pub const REQUEST_BYTES: u64 = 16 << 10;
/// Nothing that a release is made of compresses better than this: below a patch of that size no pack can be.
const RATIO_MAX: u64 = 12;

/// What a device lacks, and what is offered.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Contents of the release, as its manifest lists them.
    pub contents: &'a [Content],
    /// For each whether it is missing.
    pub missing: &'a [bool],
    /// Bytes of the patch from what runs here that are not here yet; `None` where there is no such patch.
    pub patch_bytes: Option<u64>,
    /// The pack's index.
    pub index: Option<&'a Index>,
}

/// How contents are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Everything is here.
    Nothing,
    /// By the patch.
    Patch,
    /// By these pieces of the pack.
    Pack(Vec<Range>),
    /// One file for each content.
    Files,
}

/// Name of a way, for people and scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayName {
    /// Everything is here.
    Nothing,
    /// By the patch.
    Patch,
    /// By pieces of the pack.
    PackRanges,
    /// The pack as a whole.
    WholePack,
    /// One file for each content.
    Files,
}

/// What one way costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Which.
    pub way: WayName,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Requests.
    pub requests: u64,
}

impl Cost {
    /// What is compared: bytes, and [`REQUEST_BYTES`] for each request.
    pub const fn weight(self) -> u64 {
        self.bytes.saturating_add(self.requests.saturating_mul(REQUEST_BYTES))
    }
}

/// The choice, and what it was chosen from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The cheapest.
    pub way: Way,
    /// What it costs.
    pub cost: Cost,
    /// Every way there was, cheapest first.
    pub costs: Vec<Cost>,
    /// Contents that are missing.
    pub missing: u64,
    /// Their bytes, unpacked.
    pub missing_bytes: u64,
    /// Contents of the release.
    pub contents: u64,
}

/// True when the pack's index has to be read before [`choose`] can be right: nothing else is certainly
/// cheaper.
pub fn index_matters(question: &Question<'_>) -> bool {
    let (missing, bytes) = lacking(question);
    let least = bytes.checked_div(RATIO_MAX).unwrap_or(0).saturating_add(REQUEST_BYTES);
    missing > 0 && question.patch_bytes.is_none_or(|patch| patch > least)
}

/// Chooses. Of equal ones the first in the order patch, pack, files.
pub fn choose(question: &Question<'_>) -> Choice {
    let (missing, missing_bytes) = lacking(question);
    let contents = u64::try_from(question.contents.len()).unwrap_or(u64::MAX);
    let choice = |way, cost, costs| Choice { way, cost, costs, missing, missing_bytes, contents };
    if missing == 0 {
        let cost = Cost { way: WayName::Nothing, bytes: 0, requests: 0 };
        return choice(Way::Nothing, cost, vec![cost]);
    }
    let mut ways = Vec::new();
    if let Some(bytes) = question.patch_bytes {
        ways.push((Cost { way: WayName::Patch, bytes, requests: 1 }, Way::Patch));
    }
    if let Some(index) = question.index {
        let lacks = |ordinal: u32| {
            let place = usize::try_from(ordinal).unwrap_or(usize::MAX);
            question.missing.get(place).copied().unwrap_or(false)
        };
        let pieces = ranges(index, lacks);
        let bytes = pieces.iter().fold(0u64, |sum, piece| sum.saturating_add(piece.bytes));
        let all = pieces.iter().map(|piece| piece.frames.len()).fold(0, usize::saturating_add);
        let way = if all == index.frames.len() { WayName::WholePack } else { WayName::PackRanges };
        let requests = u64::try_from(pieces.len()).unwrap_or(u64::MAX);
        ways.push((Cost { way, bytes, requests }, Way::Pack(pieces)));
    }
    let files = Cost { way: WayName::Files, bytes: missing_bytes, requests: missing };
    ways.push((files, Way::Files));
    // The sort is stable.
    ways.sort_by_key(|(cost, _)| cost.weight());
    let costs = ways.iter().map(|(cost, _)| *cost).collect();
    match ways.into_iter().next() {
        Some((cost, way)) => choice(way, cost, costs),
        None => choice(Way::Files, files, costs),
    }
}

fn lacking(question: &Question<'_>) -> (u64, u64) {
    let lacking = question.contents.iter().zip(question.missing).filter(|(_, missing)| **missing);
    lacking.fold((0u64, 0u64), |(count, bytes), (content, _)| {
        (count.saturating_add(1), bytes.saturating_add(content.size))
    })
}

impl Cost {
    fn name(self) -> &'static str {
        match self.way {
            WayName::Nothing => "nothing to fetch",
            WayName::Patch => "the patch from the running release",
            WayName::PackRanges => "pieces of the pack",
            WayName::WholePack => "the whole pack",
            WayName::Files => "a file for each content",
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let requests = if self.requests == 1 { "request" } else { "requests" };
        write!(f, "{}: {} bytes in {} {requests}", self.name(), self.bytes, self.requests)
    }
}

impl Choice {
    /// Why this way, in plain words; one fact a line.
    pub fn explain(&self) -> String {
        let mut text = format!(
            "{} of {} contents are here already; {} are missing, {} bytes unpacked",
            self.contents.saturating_sub(self.missing),
            self.contents,
            self.missing,
            self.missing_bytes
        );
        let others = self.costs.iter().filter(|cost| cost.way != self.cost.way);
        text.push_str(&format!("\nchosen: {}", self.cost));
        for cost in others {
            text.push_str(&format!("\ndearer: {cost}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::Digest;

    fn contents(sizes: &[u64]) -> Vec<Content> {
        let digest = |i: usize| Digest([u8::try_from(i).unwrap(); 32]);
        sizes
            .iter()
            .enumerate()
            .map(|(i, size)| Content { digest: digest(i), size: *size })
            .collect()
    }

    fn ask(patch: Option<u64>, missing: [bool; 3]) -> Choice {
        let contents = contents(&[1_000_000, 2_000_000, 4_000_000]);
        let frames = vec![(400_000, vec![2]), (300_000, vec![0]), (900_000, vec![1])];
        let (index, _) = Index::new(frames).unwrap();
        let question = Question {
            contents: &contents,
            missing: &missing,
            patch_bytes: patch,
            index: Some(&index),
        };
        choose(&question)
    }

    #[test]
    fn cheapest_way_is_chosen() {
        assert_eq!(ask(Some(100_000), [true; 3]).cost.way, WayName::Patch);
        assert_eq!(ask(None, [true; 3]).cost.way, WayName::WholePack);
        assert_eq!(ask(Some(500_000), [true, false, false]).cost.way, WayName::PackRanges);
        assert_eq!(ask(Some(1), [false; 3]).way, Way::Nothing);
        // What an interrupted download brought makes the patch the dearer one.
        assert_eq!(ask(Some(500_000), [true; 3]).cost.way, WayName::Patch);
    }

    #[test]
    fn index_is_not_asked_for_when_it_cannot_matter() {
        let contents = contents(&[60_000_000]);
        let ask = |patch_bytes| {
            index_matters(&Question {
                contents: &contents,
                missing: &[true],
                patch_bytes,
                index: None,
            })
        };
        assert!(!ask(Some(2_000_000)));
        assert!(ask(Some(20_000_000)));
        assert!(ask(None));
    }

    #[test]
    fn explanation_names_every_way_with_its_cost() {
        let text = ask(Some(100_000), [true, true, false]).explain();
        assert_eq!(
            text,
            "1 of 3 contents are here already; 2 are missing, 3000000 bytes unpacked\n\
             chosen: the patch from the running release: 100000 bytes in 1 request\n\
             dearer: pieces of the pack: 1200000 bytes in 1 request\n\
             dearer: a file for each content: 3000000 bytes in 2 requests"
        );
    }
}
