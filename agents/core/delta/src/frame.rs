//! Frames of a pack: one zstd frame (RFC 8878) each, decoded with bounded memory.

use std::io::{self, BufReader, Read};

/// Largest window in bits: 8 MiB, which is what decoding a frame costs in memory.
pub const WINDOW_LOG: u32 = 23;
/// Bytes read from the network at once.
const READ_BYTES: usize = 64 << 10;

/// How hard the publisher tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For tests: seconds.
    Quick,
    /// For releases: as small as it gets.
    Best,
}

impl Effort {
    const fn level(self) -> i32 {
        match self {
            Self::Quick => 9,
            Self::Best => 22,
        }
    }
}

/// Compresses contents one after the other into one frame. Publisher only.
///
/// # Errors
/// zstd's, for want of memory.
pub fn compress(contents: &[&[u8]], effort: Effort) -> io::Result<Vec<u8>> {
    use io::Write;
    use zstd::zstd_safe::CParameter;
    let size: usize = contents.iter().map(|content| content.len()).fold(0, usize::saturating_add);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), effort.level())?;
    encoder.set_pledged_src_size(Some(u64::try_from(size).unwrap_or(u64::MAX)))?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    // Every content is checked by blake3.
    encoder.include_checksum(false)?;
    for content in contents {
        encoder.write_all(content)?;
    }
    encoder.finish()
}

/// Gives the contents of the frame that `from` holds; reads at most its end.
///
/// # Errors
/// `InvalidData` from the reader for what is no frame, or one with a larger window.
pub fn open<R: Read>(from: R) -> io::Result<impl Read> {
    let mut decoder =
        zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(READ_BYTES, from))?
            .single_frame();
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_back(a: Vec<u8>, b: Vec<u8>) {
            let frame = compress(&[&a, &b], Effort::Quick).unwrap();
            let mut out = Vec::new();
            open(&frame[..]).unwrap().read_to_end(&mut out).unwrap();
            prop_assert_eq!(out, [a, b].concat());
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let mut out = Vec::new();
            let _ = open(&bytes[..]).map(|frame| frame.take(1 << 16).read_to_end(&mut out));
        }
    }
}
