//! The file server's first word: `bytes[4] LE, JSON[bytes]`, then 9P. It tells a client that its key was
//! admitted, what it may use, and which run of the server it speaks to.

use goblin_core_ninep::Stream;
use goblin_core_types::{GREETING_BYTES_MAX, Greeting};
use std::io;

/// Says it.
///
/// # Errors
/// The stream's.
pub fn send(stream: &impl Stream, greeting: &Greeting) -> io::Result<()> {
    let json = serde_json::to_vec(greeting)?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "the greeting is too long");
    let bytes = u32::try_from(json.len()).map_err(|_| too_long())?;
    if json.len() > GREETING_BYTES_MAX {
        return Err(too_long());
    }
    stream.write_all(&[&bytes.to_le_bytes()[..], &json].concat())
}

/// Hears it.
///
/// # Errors
/// The stream's; `InvalidData` for what is no greeting.
pub fn receive(stream: &impl Stream) -> io::Result<Greeting> {
    let mut bytes = [0; 4];
    read_exact(stream, &mut bytes)?;
    let length = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
    if length > GREETING_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the greeting is too long"));
    }
    let mut json = vec![0; length];
    read_exact(stream, &mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Reads exactly so many bytes.
///
/// # Errors
/// The stream's; `UnexpectedEof` when it ends before.
pub fn read_exact(stream: &impl Stream, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        let got = stream.read(into)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into = into.get_mut(got..).unwrap_or_default();
    }
    Ok(())
}
