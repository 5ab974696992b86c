//! Variable-length numbers: seven bits a byte, low bits first, the top bit set on all but the last.

use std::io::{self, Read};

/// Longest encoding of a `u64` in bytes.
const NUMBER_BYTES_MAX: u32 = 10;

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes().first().copied().unwrap_or(0) & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a signed number, zigzag: 0, -1, 1, -2, ...
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, value.wrapping_shl(1).cast_unsigned() ^ (value >> 63).cast_unsigned());
}

/// Reads a number from a stream; `InvalidData` for one that does not fit or is not in its shortest form.
pub(crate) fn read(from: &mut dyn Read) -> io::Result<u64> {
    let mut value = 0u64;
    for index in 0..NUMBER_BYTES_MAX {
        let mut byte = [0u8];
        from.read_exact(&mut byte)?;
        let [byte] = byte;
        let bits = u64::from(byte & 0x7f);
        let shift = index.saturating_mul(7);
        let placed = bits.checked_shl(shift).filter(|placed| placed.wrapping_shr(shift) == bits);
        value |= placed.ok_or_else(overflow)?;
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(overflow());
            }
            return Ok(value);
        }
    }
    Err(overflow())
}

/// Reads a signed number.
pub(crate) fn read_signed(from: &mut dyn Read) -> io::Result<i64> {
    let raw = read(from)?;
    Ok((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
}

fn overflow() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a number is out of range")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put(&mut out, value);
            put_signed(&mut out, signed);
            let mut from = &out[..];
            prop_assert_eq!(read(&mut from).unwrap(), value);
            prop_assert_eq!(read_signed(&mut from).unwrap(), signed);
            prop_assert!(from.is_empty());
        }

        #[test]
        fn any_bytes_are_answered_and_each_number_has_one_form(bytes: [u8; 12]) {
            let mut from = &bytes[..];
            if let Ok(value) = read(&mut from) {
                let mut out = Vec::new();
                put(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - from.len()]);
            }
        }
    }
}
