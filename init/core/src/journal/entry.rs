//! What records say.

use goblin_core_types::LogLevel;
use std::fmt;
use std::str::FromStr;

/// The kernel's id of a boot, from `/proc/sys/kernel/random/boot_id`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub [u8; 16]);

/// The text is not 32 hexadecimal digits with dashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a boot id has 32 hexadecimal digits and dashes")]
pub struct ParseBootIdError;

impl FromStr for BootId {
    type Err = ParseBootIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut digits =
            text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16).ok_or(ParseBootIdError));
        let mut id = [0u8; 16];
        for byte in &mut id {
            let mut digit = || digits.next().unwrap_or(Err(ParseBootIdError));
            let (high, low) = (digit()?, digit()?);
            *byte = u8::try_from((high << 4) | low).map_err(|_| ParseBootIdError)?;
        }
        if digits.next().is_some() { Err(ParseBootIdError) } else { Ok(Self(id)) }
    }
}

/// As the kernel writes it: 8-4-4-4-12 digits.
impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The lines of a boot begin, or go on in another segment.
    Boot(BootEntry<'a>),
    /// A line.
    Line(LineEntry<'a>),
    /// Lines are missing here.
    Lost(LostEntry),
}

/// A boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootEntry<'a> {
    /// The kernel's id.
    pub boot: BootId,
    /// Number in the boot record; 0 where it is not known.
    pub number: u64,
    /// Milliseconds since the kernel started when this was written.
    pub at_ms: u64,
    /// Milliseconds since 1970 when this was written, by the board's clock.
    pub unix_ms: u64,
    /// Release that runs; empty where it is not known.
    pub version: &'a str,
}

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineEntry<'a> {
    /// Boot it belongs to.
    pub boot: BootId,
    /// Its number since PID 1 started.
    pub seq: u64,
    /// Milliseconds since the kernel started.
    pub at_ms: u64,
    /// Milliseconds since 1970, by the board's clock when the line was taken down.
    pub unix_ms: u64,
    /// Severity.
    pub level: LogLevel,
    /// Unit that wrote it.
    pub unit: &'a str,
    /// The text.
    pub text: &'a str,
}

/// Lines that never reached the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostEntry {
    /// Boot they belong to.
    pub boot: BootId,
    /// Number of the first.
    pub first_seq: u64,
    /// How many.
    pub count: u64,
    /// Milliseconds since the kernel started when the loss was noticed.
    pub at_ms: u64,
    /// Milliseconds since 1970 when the loss was noticed.
    pub unix_ms: u64,
    /// Why.
    pub why: WhyLost,
}

/// Why lines never reached the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyLost {
    /// PID 1's memory was overwritten before they were taken.
    Overrun,
    /// The disk took nothing for too long.
    Disk,
}

impl WhyLost {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overrun => "they came faster than they could be written down",
            Self::Disk => "STATE could not be written to",
        }
    }
}

const KIND_BOOT: u8 = 1;
const KIND_LINE: u8 = 2;
const KIND_LOST: u8 = 3;

/// Takes values off the front of a body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn boot(&mut self) -> Option<BootId> {
        self.bytes().map(BootId)
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(first).ok()
    }
}

impl<'a> Entry<'a> {
    /// Its kind, and its body behind what `out` holds. Texts that do not fit are cut.
    pub(super) fn write_body(&self, out: &mut Vec<u8>) -> u8 {
        let mut numbers = |boot: BootId, numbers: [u64; 3]| {
            out.extend_from_slice(&boot.0);
            numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        };
        match self {
            Self::Boot(BootEntry { boot, number, at_ms, unix_ms, version }) => {
                numbers(*boot, [*number, *at_ms, *unix_ms]);
                out.extend_from_slice(cut(version, usize::from(u8::MAX)).as_bytes());
                KIND_BOOT
            }
            Self::Line(LineEntry { boot, seq, at_ms, unix_ms, level, unit, text }) => {
                numbers(*boot, [*seq, *at_ms, *unix_ms]);
                let unit = cut(unit, usize::from(u8::MAX));
                out.extend([level_byte(*level), u8::try_from(unit.len()).unwrap_or(u8::MAX)]);
                out.extend_from_slice(unit.as_bytes());
                out.extend_from_slice(cut(text, TEXT_BYTES_MAX).as_bytes());
                KIND_LINE
            }
            Self::Lost(LostEntry { boot, first_seq, count, at_ms, unix_ms, why }) => {
                numbers(*boot, [*first_seq, *count, *at_ms]);
                out.extend_from_slice(&unix_ms.to_le_bytes());
                out.push(match why {
                    WhyLost::Overrun => 0,
                    WhyLost::Disk => 1,
                });
                KIND_LOST
            }
        }
    }

    /// What a body of this kind says; `None` for a kind or a word that is not known.
    pub(super) fn read_body(kind: u8, body: &'a [u8]) -> Option<Self> {
        let mut body = Body(body);
        let boot = body.boot()?;
        Some(match kind {
            KIND_BOOT => Self::Boot(BootEntry {
                boot,
                number: body.number()?,
                at_ms: body.number()?,
                unix_ms: body.number()?,
                version: body.text(body.0.len())?,
            }),
            KIND_LINE => {
                let (seq, at_ms, unix_ms) = (body.number()?, body.number()?, body.number()?);
                let level = level_of(body.byte()?)?;
                let unit_length = usize::from(body.byte()?);
                let (unit, text) = (body.text(unit_length)?, body.text(body.0.len())?);
                Self::Line(LineEntry { boot, seq, at_ms, unix_ms, level, unit, text })
            }
            KIND_LOST => Self::Lost(LostEntry {
                boot,
                first_seq: body.number()?,
                count: body.number()?,
                at_ms: body.number()?,
                unix_ms: body.number()?,
                why: match body.byte()? {
                    0 => WhyLost::Overrun,
                    1 => WhyLost::Disk,
                    _ => return None,
                },
            }),
            _ => return None,
        })
    }

    /// Boot it belongs to.
    pub const fn boot(&self) -> BootId {
        match self {
            Self::Boot(entry) => entry.boot,
            Self::Line(entry) => entry.boot,
            Self::Lost(entry) => entry.boot,
        }
    }
}

/// Longest text of a line in bytes: what a body holds besides the longest unit's name.
const TEXT_BYTES_MAX: usize = super::BODY_BYTES_MAX - LINE_FIXED_BYTES - u8::MAX as usize;
/// Bytes of a line's body besides its two texts.
const LINE_FIXED_BYTES: usize = 16 + 3 * 8 + 2;

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

const fn level_byte(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug => 0,
        LogLevel::Info => 1,
        LogLevel::Warn => 2,
        LogLevel::Error => 3,
    }
}

const fn level_of(byte: u8) -> Option<LogLevel> {
    match byte {
        0 => Some(LogLevel::Debug),
        1 => Some(LogLevel::Info),
        2 => Some(LogLevel::Warn),
        3 => Some(LogLevel::Error),
        _ => None,
    }
}
