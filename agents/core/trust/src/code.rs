//! The one-time code that a person reads on the box and types at a PC.
//!
//! ```text
//!   7KQ2M-9XTDA      slot[2] secret[7] check[1], symbols of five bits
//! ```
//!
//! The slot is no secret: it tells the box which waiting code is meant. The secret's 35 bits are enough
//! because nobody can try them offline ([`crate::pake`]) and the box allows few tries ([`crate::door`]).

use std::fmt;

/// Crockford's base 32: no letter that looks like a digit or like another.
const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SLOT_CHARS: usize = 2;
const CODE_CHARS: usize = 10;
/// Bits of a code that are secret.
pub const SECRET_BITS: u32 = 35;
/// Longest text that is looked at, blanks and hyphens included.
const TEXT_BYTES_MAX: usize = 64;

/// A one-time code. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    slot: u16,
    secret: u64,
}

/// Why a text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// Too few or too many symbols.
    #[error("a code has {CODE_CHARS} letters and digits, like 7KQ2M-9XTDA; this has {got}")]
    Length {
        /// Symbols found.
        got: usize,
    },
    /// A character that no code has.
    #[error("`{found}` is in no code")]
    Symbol {
        /// The character.
        found: char,
    },
    /// A typing mistake.
    #[error("the code is mistyped: compare it with the screen")]
    Checksum,
}

impl Code {
    /// A code out of eight random bytes.
    pub const fn from_random(random: [u8; 8]) -> Self {
        let value = u64::from_le_bytes(random);
        Self { slot: (value & 0x3ff) as u16, secret: (value >> 10) & ((1 << SECRET_BITS) - 1) }
    }

    /// Reads what a person typed: any case, with or without hyphens and blanks, `O` for zero, `I` or `L`
    /// for one.
    ///
    /// # Errors
    /// [`CodeError`], before anything is sent.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(CodeError::Length { got: text.len() });
        }
        let mut symbols = [0u8; CODE_CHARS];
        let mut got = 0usize;
        for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let symbol = symbol(c).ok_or(CodeError::Symbol { found: c })?;
            if let Some(place) = symbols.get_mut(got) {
                *place = symbol;
            }
            got = got.saturating_add(1);
        }
        if got != CODE_CHARS {
            return Err(CodeError::Length { got });
        }
        let (check, body) = symbols.split_last().ok_or(CodeError::Checksum)?;
        if checksum(body) != *check {
            return Err(CodeError::Checksum);
        }
        let (slot, secret) = body.split_at(SLOT_CHARS);
        let join = |part: &[u8]| part.iter().fold(0u64, |sum, s| (sum << 5) | u64::from(*s));
        Ok(Self { slot: u16::try_from(join(slot)).unwrap_or(0), secret: join(secret) })
    }

    /// Which of the waiting codes; below 1024, and no secret.
    pub const fn slot(&self) -> u16 {
        self.slot
    }

    /// What both ends must know, for the exchange.
    pub const fn secret(&self) -> [u8; 8] {
        self.secret.to_be_bytes()
    }

    fn symbols(&self) -> [u8; CODE_CHARS] {
        let mut symbols = [0u8; CODE_CHARS];
        let mut value = (u64::from(self.slot) << SECRET_BITS) | self.secret;
        let (_, body) = symbols.split_last_mut().unwrap_or((&mut 0, &mut []));
        for place in body.iter_mut().rev() {
            *place = (value & 31) as u8;
            value >>= 5;
        }
        let check = checksum(body);
        if let Some(last) = symbols.last_mut() {
            *last = check;
        }
        symbols
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, symbol) in self.symbols().into_iter().enumerate() {
            let text = SYMBOLS.get(usize::from(symbol)).copied().unwrap_or(b'0');
            if index == 5 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(text))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("slot", &self.slot).finish_non_exhaustive()
    }
}

fn symbol(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        'U' => 'V',
        c => c,
    };
    let byte = u8::try_from(c).ok()?;
    SYMBOLS.iter().position(|s| *s == byte).and_then(|index| u8::try_from(index).ok())
}

/// Sum of each symbol times a power of its own in GF(32): one wrong symbol, or two swapped ones, always
/// change it.
fn checksum(body: &[u8]) -> u8 {
    let mut weight = 1;
    body.iter().fold(0, |sum, symbol| {
        weight = times(weight, 2);
        sum ^ times(*symbol, weight)
    })
}

/// Product in GF(2^5) by x^5 + x^2 + 1, in which 2 generates everything but zero.
const fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = if a & 16 != 0 { ((a & 15) << 1) ^ 5 } else { a << 1 };
        b >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_shown_can_be_typed(random: [u8; 8]) {
            let code = Code::from_random(random);
            let text = code.to_string();
            prop_assert_eq!(text.len(), 11);
            prop_assert_eq!(Code::parse(&text), Ok(code.clone()));
            let sloppy = format!(" {} ", text.to_lowercase().replace('-', " ").replace('0', "o"));
            prop_assert_eq!(Code::parse(&sloppy), Ok(code));
        }

        #[test]
        fn one_wrong_symbol_is_noticed(random: [u8; 8], at in 0usize..10, add in 1u8..32) {
            let mut symbols = Code::from_random(random).symbols();
            symbols[at] = (symbols[at] + add) % 32;
            prop_assert_eq!(Code::parse(&spell(symbols)), Err(CodeError::Checksum));
        }

        #[test]
        fn two_swapped_symbols_are_noticed(random: [u8; 8], at in 0usize..9) {
            let mut symbols = Code::from_random(random).symbols();
            prop_assume!(symbols[at] != symbols[at + 1]);
            symbols.swap(at, at + 1);
            // The check itself weighs one; a body symbol never does.
            prop_assert_eq!(Code::parse(&spell(symbols)), Err(CodeError::Checksum));
        }

        #[test]
        fn any_text_is_a_code_or_an_error(text in "\\PC{0,80}") {
            let _ = Code::parse(&text);
        }
    }

    fn spell(symbols: [u8; CODE_CHARS]) -> String {
        symbols.iter().map(|s| char::from(SYMBOLS[usize::from(*s)])).collect()
    }

    #[test]
    fn the_secret_is_not_printed() {
        let code = Code::parse(&Code::from_random([9; 8]).to_string()).unwrap();
        let shown = format!("{code:?}");
        assert!(!shown.contains(&code.to_string()), "{shown}");
        assert!(!shown.contains(&u64::from_be_bytes(code.secret()).to_string()), "{shown}");
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(Code::parse("7KQ2M"), Err(CodeError::Length { got: 5 }));
        assert_eq!(Code::parse("7KQ2M-9XT*A"), Err(CodeError::Symbol { found: '*' }));
    }
}
