//! Primitives of the codec: integers are little-endian, strings carry a 2-byte length, data a 4-byte one.
//!
//! Source: "9P2000.L protocol", section "Definition", and plan 9's `intro(5)`. Names are bytes: the
//! protocol asks for UTF-8, Linux's file systems do not, and a name that exists must stay reachable.

use crate::Qid;

/// Why bytes are not a message. Always the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A field reaches beyond the end of the message.
    #[error("the message ends {missing} bytes too early")]
    Truncated {
        /// Bytes that were not there.
        missing: usize,
    },
    /// Bytes follow the last field.
    #[error("{extra} bytes follow the last field")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// `size[4]` does not match the bytes at hand, or is below the 7 bytes of a header.
    #[error("the message says it has {says} bytes, {got} are there")]
    Size {
        /// Announced.
        says: u32,
        /// Present.
        got: usize,
    },
    /// No message of this type exists in 9P2000.L.
    #[error("message type {kind} does not exist in 9P2000.L")]
    UnknownType {
        /// `type[1]`.
        kind: u8,
    },
    /// More names or qids in a walk than the protocol allows.
    #[error("a walk of {got} names; at most {max} are allowed")]
    TooManyNames {
        /// Announced.
        got: u16,
        /// [`crate::WALK_NAMES_MAX`].
        max: usize,
    },
}

/// Reads fields off the front of a message.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`]; nothing is consumed.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(WireError::Truncated { missing: count.saturating_sub(self.rest.len()) });
        };
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(WireError::Truncated { missing: N.saturating_sub(self.rest.len()) });
        };
        self.rest = rest;
        Ok(*head)
    }

    /// Any field.
    ///
    /// # Errors
    /// [`WireError`] of the field.
    pub fn get<F: Field<'a>>(&mut self) -> Result<F, WireError> {
        F::get(self)
    }

    /// The message must end here.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub const fn end(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(WireError::Trailing { extra }),
        }
    }
}

/// Something with one shape on the wire.
pub trait Field<'a>: Sized {
    /// Appends the field.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads the field.
    ///
    /// # Errors
    /// [`WireError`] when the bytes do not hold one.
    fn get(from: &mut Reader<'a>) -> Result<Self, WireError>;
}

macro_rules! integer_field {
    ($($kind:ty)*) => {$(
        impl<'a> Field<'a> for $kind {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
                from.array().map(Self::from_le_bytes)
            }
        }
    )*};
}

integer_field!(u8 u16 u32 u64);

/// A string: `length[2] bytes[length]`. Longer ones are cut at 65,535 bytes on writing; every name
/// that reaches an encoder here is bounded far below.
impl<'a> Field<'a> for &'a [u8] {
    fn put(&self, out: &mut Vec<u8>) {
        let length = u16::try_from(self.len()).unwrap_or(u16::MAX);
        length.put(out);
        out.extend_from_slice(self.get(..usize::from(length)).unwrap_or(self));
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let length: u16 = from.get()?;
        from.take(usize::from(length))
    }
}

/// Counted data: `count[4] data[count]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a>(pub &'a [u8]);

impl<'a> Field<'a> for Data<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self.0);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let count: u32 = from.get()?;
        from.take(usize::try_from(count).unwrap_or(usize::MAX)).map(Self)
    }
}

/// Everything up to the end of the message, without a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest<'a>(pub &'a [u8]);

impl<'a> Field<'a> for Rest<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        from.take(from.rest().len()).map(Self)
    }
}

impl<'a> Field<'a> for Qid {
    fn put(&self, out: &mut Vec<u8>) {
        self.kind.put(out);
        self.version.put(out);
        self.path.put(out);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self { kind: from.get()?, version: from.get()?, path: from.get()? })
    }
}

/// A trailing 4-byte field that old clients leave out (`datasync` of `Tfsync`): absent is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LateU32(pub u32);

impl<'a> Field<'a> for LateU32 {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        if from.rest().is_empty() { Ok(Self(0)) } else { from.get().map(Self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_string_says_how_much_is_missing() {
        let mut reader = Reader::new(&[5, 0, b'a', b'b']);
        assert_eq!(reader.get::<&[u8]>(), Err(WireError::Truncated { missing: 3 }));
    }

    #[test]
    fn integers_are_little_endian() {
        let mut out = Vec::new();
        0x0102_0304u32.put(&mut out);
        assert_eq!(out, [4, 3, 2, 1]);
    }
}
