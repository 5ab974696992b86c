//! Little-endian fields in byte buffers, alignment, and bounded copying.

use std::io::{self, Read, Write};

/// Size in bytes of the buffer that contents pass through.
pub(crate) const COPY_BYTES: usize = 64 * 1024;
static ZEROES: [u8; 4096] = [0; 4096];

/// The smallest multiple of `align` that is at least `value`; saturates.
pub(crate) fn align_up(value: u64, align: u64) -> u64 {
    let align = align.max(1);
    value.div_ceil(align).saturating_mul(align)
}

/// Bytes missing from `value` to the next multiple of `align`.
pub(crate) fn padding(value: u64, align: u64) -> u64 {
    align_up(value, align).saturating_sub(value)
}

/// A length as it is counted on disk.
pub(crate) fn len64(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

/// `N` bytes at `at`, or nothing when the buffer is too short.
pub(crate) fn get<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    buf.get(at..)?.first_chunk::<N>().copied()
}

pub(crate) fn get_u16(buf: &[u8], at: usize) -> Option<u16> {
    get(buf, at).map(u16::from_le_bytes)
}

pub(crate) fn get_u32(buf: &[u8], at: usize) -> Option<u32> {
    get(buf, at).map(u32::from_le_bytes)
}

pub(crate) fn get_u64(buf: &[u8], at: usize) -> Option<u64> {
    get(buf, at).map(u64::from_le_bytes)
}

/// Copies `bytes` to `at`. Only called with offsets the caller laid out itself; one that does not
/// fit is a mistake of this crate and is caught in debug builds.
pub(crate) fn put(buf: &mut [u8], at: usize, bytes: &[u8]) {
    let end = at.saturating_add(bytes.len());
    debug_assert!(end <= buf.len(), "field beyond the buffer");
    if let Some(target) = buf.get_mut(at..end) {
        target.copy_from_slice(bytes);
    }
}

/// Writes `count` zero bytes.
pub(crate) fn write_zeroes<W: Write + ?Sized>(out: &mut W, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let take = count.min(len64(&ZEROES));
        out.write_all(ZEROES.get(..take as usize).unwrap_or(&ZEROES))?;
        count = count.saturating_sub(take);
    }
    Ok(())
}

/// Reads until `buf` is full or the source ends; the number of bytes read.
pub(crate) fn read_full<R: Read + ?Sized>(source: &mut R, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0usize;
    while let Some(rest) = buf.get_mut(filled..) {
        if rest.is_empty() {
            break;
        }
        match source.read(rest) {
            Ok(0) => break,
            Ok(n) => filled = filled.saturating_add(n),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(filled)
}

/// A writer that counts what passed through it.
#[derive(Debug)]
pub(crate) struct Counted<'a, W: Write + ?Sized> {
    out: &'a mut W,
    pub(crate) count: u64,
}

impl<'a, W: Write + ?Sized> Counted<'a, W> {
    pub(crate) fn new(out: &'a mut W) -> Self {
        Self { out, count: 0 }
    }

    /// Zeroes up to the next multiple of `align`.
    pub(crate) fn pad(&mut self, align: u64) -> io::Result<()> {
        let missing = padding(self.count, align);
        write_zeroes(self, missing)
    }
}

impl<W: Write + ?Sized> Write for Counted<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.count = self.count.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A writer that hashes what passed through it.
#[derive(Debug)]
pub(crate) struct Hashed<'a, W: Write + ?Sized> {
    out: &'a mut W,
    hasher: blake3::Hasher,
}

impl<'a, W: Write + ?Sized> Hashed<'a, W> {
    pub(crate) fn new(out: &'a mut W) -> Self {
        Self { out, hasher: blake3::Hasher::new() }
    }

    pub(crate) fn digest(&self) -> goblin_core_types::Digest {
        goblin_core_types::Digest(*self.hasher.finalize().as_bytes())
    }
}

impl<W: Write + ?Sized> Write for Hashed<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.hasher.update(buf.get(..n).unwrap_or(buf));
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
