//! The seal of a file on a disk: TOML has no end mark, so a write that was cut off between two tables
//! would leave a shorter file that still reads well, such as one without its data disks.
//!
//! Shape: `# sealed BYTES DIGEST`, newline, then exactly `BYTES` bytes of TOML whose blake3 digest is
//! `DIGEST`, then newlines only. The line is a comment to every TOML reader. A file without the line is
//! taken as it is: people may write one by hand.

use crate::{PROVISION_BYTES_MAX, ProvisionError, parse};

/// What the first line of a sealed file begins with.
const MARK: &str = "# sealed ";

/// Checks `text` and turns it into the bytes for the room reserved on the ESP: sealed, and padded with
/// newlines to exactly [`PROVISION_BYTES_MAX`].
///
/// # Errors
/// As [`parse`], and [`ProvisionError::TooLong`] when text and seal do not fit together.
pub fn seal(text: &str) -> Result<Vec<u8>, ProvisionError> {
    parse(text)?;
    let body = unsealed(text);
    let digest = blake3::hash(body.as_bytes()).to_hex();
    let mut room = format!("{MARK}{} {digest}\n{body}", body.len()).into_bytes();
    if room.len() > PROVISION_BYTES_MAX {
        return Err(ProvisionError::TooLong { got: room.len() });
    }
    room.resize(PROVISION_BYTES_MAX, b'\n');
    Ok(room)
}

/// Refuses a file whose seal does not match.
pub(crate) fn check_seal(text: &str) -> Result<(), ProvisionError> {
    let Some(rest) = text.strip_prefix(MARK) else { return Ok(()) };
    let matches = || {
        let (line, after) = rest.split_once('\n')?;
        let (bytes, digest) = line.split_once(' ')?;
        let (body, padding) = after.split_at_checked(bytes.parse().ok()?)?;
        let same = blake3::hash(body.as_bytes()).to_hex().as_str() == digest;
        (same && padding.bytes().all(|byte| byte == b'\n')).then_some(())
    };
    matches().ok_or(ProvisionError::SealBroken)
}

/// The text without a seal it may carry already, and without its padding.
fn unsealed(text: &str) -> &str {
    match text.strip_prefix(MARK).and_then(|rest| rest.split_once('\n')) {
        Some((_, body)) => body.trim_end_matches('\n'),
        None => text,
    }
}
