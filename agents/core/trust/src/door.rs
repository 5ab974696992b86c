//! Codes that wait to be used: how long, how often, how fast.

use crate::Code;

/// How long a code is good for, in milliseconds.
pub const CODE_LIFE_MS: u64 = 10 * 60 * 1000;
/// Tries of one code before it is void.
pub const TRIES_MAX: u32 = 5;
/// Codes that wait at one time.
pub const CODES_MAX: usize = 16;
/// Tries of all peers together that may follow each other at once.
pub const BURST_MAX: u32 = 6;
/// One more try is allowed after so many milliseconds.
pub const PAUSE_MS: u64 = 10_000;

/// What a code is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Name the client gets; `None` for the one it proposes.
    pub name: Option<String>,
    /// The user the client stands for; `None` for its name.
    pub user: Option<String>,
}

/// Why a code cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Too many wait.
    #[error("{CODES_MAX} codes wait already: use them, or wait until they expire")]
    Full,
    /// Another waiting code has the same slot: make another.
    #[error("another code has the same beginning")]
    SameSlot,
}

/// What a try meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Try {
    /// Run the exchange with this secret, then tell [`Door::passed`].
    Code {
        /// The secret of the waiting code.
        secret: [u8; 8],
    },
    /// No such code waits. Run the exchange with a random secret all the same, so that the peer cannot tell.
    Nothing,
    /// Refuse at once.
    Busy,
}

struct Waiting {
    code: Code,
    invitation: Invitation,
    until_ms: u64,
    tries_left: u32,
}

/// The codes that wait. Times are milliseconds of one clock that never goes back.
pub struct Door {
    waiting: Vec<Waiting>,
    /// Tries that may be made now.
    tokens: u32,
    /// When the last token was added.
    filled_ms: u64,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Default for Door {
    fn default() -> Self {
        Self { waiting: Vec::new(), tokens: BURST_MAX, filled_ms: 0 }
    }
}

impl Door {
    /// Lets a code wait.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait(
        &mut self,
        code: Code,
        invitation: Invitation,
        now_ms: u64,
    ) -> Result<(), WaitError> {
        self.expire(now_ms);
        if self.waiting.len() >= CODES_MAX {
            return Err(WaitError::Full);
        }
        if self.waiting.iter().any(|waiting| waiting.code.slot() == code.slot()) {
            return Err(WaitError::SameSlot);
        }
        let until_ms = now_ms.saturating_add(CODE_LIFE_MS);
        self.waiting.push(Waiting { code, invitation, until_ms, tries_left: TRIES_MAX });
        Ok(())
    }

    /// A peer begins a try; it counts, however it ends.
    pub fn begin(&mut self, slot: u16, now_ms: u64) -> Try {
        self.expire(now_ms);
        self.fill(now_ms);
        let Some(left) = self.tokens.checked_sub(1) else { return Try::Busy };
        self.tokens = left;
        let Some(index) = self.waiting.iter().position(|waiting| waiting.code.slot() == slot)
        else {
            return Try::Nothing;
        };
        let Some(waiting) = self.waiting.get_mut(index) else { return Try::Nothing };
        let Some(left) = waiting.tries_left.checked_sub(1) else {
            return Try::Nothing;
        };
        waiting.tries_left = left;
        Try::Code { secret: waiting.code.secret() }
    }

    /// A peer proved that it knows the code: takes the code away. `None` when another peer was faster, or
    /// time ran out meanwhile.
    pub fn passed(&mut self, slot: u16, secret: &[u8; 8], now_ms: u64) -> Option<Invitation> {
        self.expire(now_ms);
        let index = self
            .waiting
            .iter()
            .position(|one| one.code.slot() == slot && one.code.secret() == *secret)?;
        // The pauses are for guesses; a household that enrols its PCs in a row makes none.
        self.tokens = self.tokens.saturating_add(1).min(BURST_MAX);
        Some(self.waiting.swap_remove(index).invitation)
    }

    /// Codes that wait.
    pub fn count(&mut self, now_ms: u64) -> usize {
        self.expire(now_ms);
        self.waiting.len()
    }

    fn expire(&mut self, now_ms: u64) {
        self.waiting.retain(|waiting| waiting.until_ms > now_ms);
    }

    fn fill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.filled_ms);
        let more = passed.checked_div(PAUSE_MS).unwrap_or(0);
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(more).min(BURST_MAX);
            self.filled_ms = now_ms.saturating_sub(passed.checked_rem(PAUSE_MS).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(n: u8) -> Code {
        Code::from_random([n, 0, 1, 2, 3, 4, 5, 6])
    }

    fn invitation() -> Invitation {
        Invitation { name: None, user: None }
    }

    #[test]
    fn a_code_passes_once() {
        let mut door = Door::default();
        door.wait(code(1), invitation(), 0).unwrap();
        assert_eq!(door.wait(code(1), invitation(), 0), Err(WaitError::SameSlot));
        let Try::Code { secret } = door.begin(1, 5) else { panic!() };
        assert_eq!(door.passed(1, &secret, 6), Some(invitation()));
        assert_eq!(door.passed(1, &secret, 7), None);
        assert_eq!(door.begin(1, 8), Try::Nothing);
    }

    #[test]
    fn a_code_expires_also_between_the_messages() {
        let mut door = Door::default();
        door.wait(code(1), invitation(), 0).unwrap();
        let Try::Code { secret } = door.begin(1, CODE_LIFE_MS - 1) else { panic!() };
        assert_eq!(door.passed(1, &secret, CODE_LIFE_MS), None);
        assert_eq!(door.begin(1, CODE_LIFE_MS), Try::Nothing);
    }

    #[test]
    fn a_code_that_was_guessed_at_is_void() {
        let mut door = Door::default();
        door.wait(code(1), invitation(), 0).unwrap();
        for n in 0..u64::from(TRIES_MAX) {
            assert!(matches!(door.begin(1, n * PAUSE_MS), Try::Code { .. }));
        }
        assert_eq!(door.begin(1, 10 * PAUSE_MS), Try::Nothing);
    }

    proptest! {
        #[test]
        fn guesses_are_few_whatever_the_timing(steps in proptest::collection::vec(0u64..30_000, 0..300)) {
            let mut door = Door::default();
            let (mut now, mut tries) = (0, 0u64);
            for step in steps {
                now += step;
                if door.begin(1, now) != Try::Busy {
                    tries += 1;
                }
                prop_assert!(tries <= u64::from(BURST_MAX) + now / PAUSE_MS);
            }
        }
    }
}
