//! Extended attributes by 9P's way: a fid that is read or written.

use super::mux::Mux;
use goblin_core_ninep::wire::Data;
use goblin_core_ninep::{Errno, Names, Reply, Request};

/// Largest value, and longest list of names, in bytes (XATTR_SIZE_MAX and XATTR_LIST_MAX of Linux).
const BYTES_MAX: u64 = 65_536;
/// `XATTR_REPLACE` of `setxattr(2)`: with an empty value the attribute is removed.
const REPLACE: u32 = 2;

/// Whether the box is worth asking. The kernel looks for `security.capability` before every write.
fn is_kept(name: &[u8]) -> Result<(), Errno> {
    if name.is_empty() || name.starts_with(b"user.") || name.starts_with(b"system.") {
        return Ok(());
    }
    Err(if name == b"security.capability" { Errno::ENODATA } else { Errno::EOPNOTSUPP })
}

/// The value of an attribute; for an empty name all names, each with a NUL.
///
/// # Errors
/// `ENODATA` and the like; `E2BIG` for a value that Linux cannot have.
pub fn get(mux: &Mux, node: u32, name: &[u8]) -> Result<Vec<u8>, Errno> {
    is_kept(name)?;
    let newfid = mux.new_fid();
    let request = Request::Xattrwalk { fid: node, newfid, name };
    let size = mux.ask(&request, |reply| match reply {
        Reply::Xattrwalk { size } => Some(*size),
        _ => None,
    });
    let size = size.inspect_err(|_| mux.free_fid(newfid))?;
    let value = if size > BYTES_MAX { Err(Errno::E2BIG) } else { read(mux, newfid, size) };
    let _ = mux.clunk(newfid);
    value
}

fn read(mux: &Mux, fid: u32, size: u64) -> Result<Vec<u8>, Errno> {
    let mut value = Vec::new();
    mux.in_parts(size, |offset, count| {
        let request = Request::Read { fid, offset, count };
        mux.ask(&request, |reply| match reply {
            Reply::Read { data } => {
                value.extend_from_slice(data.0);
                u32::try_from(data.0.len()).ok()
            }
            _ => None,
        })
    })?;
    Ok(value)
}

/// Sets an attribute; `flags` are those of `setxattr(2)`.
///
/// # Errors
/// The box's.
pub fn set(mux: &Mux, node: u32, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
    is_kept(name)?;
    let fid = mux.new_fid();
    let walk = Request::Walk { fid: node, newfid: fid, names: Names::NONE };
    let walked = mux.ask(&walk, |reply| matches!(reply, Reply::Walk { .. }).then_some(()));
    walked.inspect_err(|_| mux.free_fid(fid))?;
    let size = u64::try_from(value.len()).unwrap_or(u64::MAX);
    let create = Request::Xattrcreate { fid, name, size, flags };
    let made = mux.ask(&create, |reply| matches!(reply, Reply::Xattrcreate {}).then_some(()));
    let written = made.and_then(|()| write(mux, fid, value));
    // It is set when the fid is let go of.
    let set = mux.clunk(fid);
    written.and(set)
}

fn write(mux: &Mux, fid: u32, value: &[u8]) -> Result<(), Errno> {
    let size = u64::try_from(value.len()).unwrap_or(u64::MAX);
    let done = mux.in_parts(size, |offset, count| {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = value.get(at..).unwrap_or(&[]);
        let part = rest.get(..usize::try_from(count).unwrap_or(0)).unwrap_or(rest);
        mux.ask(&Request::Write { fid, offset, data: Data(part) }, |reply| match reply {
            Reply::Write { count } => Some(*count),
            _ => None,
        })
    })?;
    if done == size { Ok(()) } else { Err(Errno::EIO) }
}

/// Removes an attribute.
///
/// # Errors
/// `ENODATA` when it is not there.
pub fn remove(mux: &Mux, node: u32, name: &[u8]) -> Result<(), Errno> {
    // Setting nothing at all is no error at the box where nothing is.
    get(mux, node, name)?;
    set(mux, node, name, &[], REPLACE)
}
