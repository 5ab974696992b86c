//! Unfinished copies: their names, and where they go on.

/// Beginning of the name of every unfinished copy.
pub(super) const PREFIX: &str = ".goblin-part-";
/// A long copy is brought to the disk at each multiple of so many bytes, before it goes on.
pub(super) const STEP_BYTES: u64 = 32 << 20;

/// What is copied: the same one again continues an unfinished copy, any other starts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    /// Who copies, and from where.
    pub who: &'a [u8],
    /// The file's own number on its file system.
    pub file: u64,
    /// Bytes.
    pub size: u64,
    /// Last change, seconds and nanoseconds.
    pub changed: (u64, u64),
}

/// Names of the unfinished copy of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartName {
    /// Its name.
    pub name: String,
    /// What the names of unfinished copies to the same name begin with, where they can be told apart: those are
    /// left over from another content.
    pub others: Option<String>,
}

/// The name of the unfinished copy to `name`. Only long ones go on after an interruption and so need to tell what
/// they are of; for the others one name is used again and again, so that none stays behind for good. Names are of a
/// fixed length: `name` itself may fill the longest there is.
pub(super) fn part_name(name: &[u8], origin: &Origin<'_>) -> PartName {
    let target = digest(&[origin.who, name]);
    if origin.size <= STEP_BYTES {
        return PartName { name: format!("{PREFIX}{target}"), others: None };
    }
    let numbers = [origin.file, origin.size, origin.changed.0, origin.changed.1];
    let parts = numbers.map(u64::to_le_bytes);
    let content = digest(&[&parts.concat()]);
    let others = format!("{PREFIX}{target}-");
    PartName { name: format!("{others}{content}"), others: Some(others) }
}

/// Whether a name is that of an unfinished copy.
pub(super) fn is_part(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// Sixteen characters; the length of each piece goes in, so that no two lists of pieces are one.
fn digest(pieces: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for piece in pieces {
        hasher.update(&u64::try_from(piece.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(piece);
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// Bytes at the beginning of an unfinished copy of `here` bytes that are surely on the disk: it was brought there at
/// each step before a byte beyond was written.
pub(super) const fn sure_bytes(here: u64, size: u64) -> u64 {
    if here > size {
        // Longer than its source: not what it is said to be.
        return 0;
    }
    match here.saturating_sub(1).checked_div(STEP_BYTES) {
        Some(steps) => steps.saturating_mul(STEP_BYTES),
        None => 0,
    }
}

/// Bytes until the next step.
pub(super) const fn until_step(offset: u64) -> u64 {
    match offset.checked_rem(STEP_BYTES) {
        Some(over) => STEP_BYTES.saturating_sub(over),
        None => STEP_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(size: u64, changed: u64) -> Origin<'static> {
        Origin { who: b"pc", file: 7, size, changed: (changed, 0) }
    }

    #[test]
    fn a_short_copy_has_one_name_and_a_long_one_tells_its_content() {
        let short = part_name(b"a", &origin(10, 1));
        assert_eq!(short, part_name(b"a", &origin(11, 2)));
        assert_ne!(short, part_name(b"b", &origin(10, 1)));
        let (one, two) =
            (part_name(b"a", &origin(1 << 30, 1)), part_name(b"a", &origin(1 << 30, 2)));
        assert_ne!(one.name, two.name);
        assert_eq!(one.others, two.others);
        assert!(two.name.starts_with(&one.others.unwrap()));
        assert!(part_name(&[b'x'; 255], &origin(1 << 40, 1)).name.len() < 64);
    }

    proptest! {
        #[test]
        fn only_what_was_synced_is_gone_on_from(here in any::<u64>(), size in any::<u64>()) {
            let sure = sure_bytes(here, size);
            prop_assert!(sure <= here && sure <= size);
            prop_assert_eq!(sure % STEP_BYTES, 0);
            // A step is synced before a byte beyond it is written.
            prop_assert!(sure == 0 || sure < here);
        }

        #[test]
        fn steps_are_met_exactly(offset in any::<u64>()) {
            let left = until_step(offset);
            prop_assert!(left > 0 && left <= STEP_BYTES);
            prop_assert_eq!((u128::from(offset) + u128::from(left)) % u128::from(STEP_BYTES), 0);
        }
    }
}
