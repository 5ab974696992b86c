//! Error numbers as they travel in `Rlerror`: Linux's, on every machine.

use std::fmt;
use std::io;

/// A Linux error number; `Rlerror` carries it as `ecode[4]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub u32);

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Errno {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The symbolic name and one plain sentence, where the number is one this crate knows.
            pub const fn describe(self) -> Option<(&'static str, &'static str)> {
                match self.0 {
                    $($number => Some((stringify!($name), $text)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    /// Not allowed, whoever asks.
    EPERM = 1, "operation not permitted";
    /// No such name.
    ENOENT = 2, "no such file or directory";
    /// Cancelled by the client.
    EINTR = 4, "interrupted";
    /// The disk or the peer failed.
    EIO = 5, "input or output error";
    /// A value is larger than its reader can take.
    E2BIG = 7, "argument list too long";
    /// Not an open file.
    EBADF = 9, "bad file handle";
    /// Try again.
    EAGAIN = 11, "temporarily unavailable";
    /// Out of memory.
    ENOMEM = 12, "out of memory";
    /// Permission denied.
    EACCES = 13, "permission denied";
    /// In use.
    EBUSY = 16, "in use";
    /// The name exists.
    EEXIST = 17, "file exists";
    /// Crosses file systems.
    EXDEV = 18, "cross-device link";
    /// Not a directory.
    ENOTDIR = 20, "not a directory";
    /// Is a directory.
    EISDIR = 21, "is a directory";
    /// An argument makes no sense.
    EINVAL = 22, "invalid argument";
    /// System-wide file limit.
    ENFILE = 23, "too many open files in the system";
    /// Process-wide file limit, and this crate's limit of fids.
    EMFILE = 24, "too many open files";
    /// Too large.
    EFBIG = 27, "file too large";
    /// Disk full.
    ENOSPC = 28, "no space left on device";
    /// Not seekable, or out of order.
    ESPIPE = 29, "illegal seek";
    /// Read-only.
    EROFS = 30, "read-only file system";
    /// The reader is gone.
    EPIPE = 32, "broken pipe";
    /// Out of range.
    ERANGE = 34, "result out of range";
    /// Too many locks, or waiting for them.
    ENOLCK = 37, "no locks available";
    /// A name longer than 255 bytes.
    ENAMETOOLONG = 36, "file name too long";
    /// Not built.
    ENOSYS = 38, "function not implemented";
    /// Directory not empty.
    ENOTEMPTY = 39, "directory not empty";
    /// A symbolic link where none is followed.
    ELOOP = 40, "too many levels of symbolic links";
    /// No such attribute.
    ENODATA = 61, "no data available";
    /// The peer broke the protocol.
    EPROTO = 71, "protocol error";
    /// Larger than the field or msize allows.
    EMSGSIZE = 90, "message too long";
    /// Not offered by this server.
    EOPNOTSUPP = 95, "operation not supported";
    /// The connection was cut.
    ECONNRESET = 104, "connection reset by peer";
    /// No answer in time.
    ETIMEDOUT = 110, "timed out";
    /// Nobody listens.
    ECONNREFUSED = 111, "connection refused";
    /// The other board is not there.
    EHOSTDOWN = 112, "host is down";
    /// No way to the other board.
    EHOSTUNREACH = 113, "no route to host";
    /// Handle of a file that is gone.
    ESTALE = 116, "stale file handle";
    /// Quota exceeded.
    EDQUOT = 122, "disk quota exceeded";
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.describe() {
            Some((name, text)) => write!(f, "{text} ({name})"),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.describe() {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl std::error::Error for Errno {}

/// Keeps the system's number where there is one; kinds without a number become the nearest one, and
/// `EIO` at last.
impl From<io::Error> for Errno {
    fn from(err: io::Error) -> Self {
        if let Some(number) = err.raw_os_error().and_then(|n| u32::try_from(n).ok()) {
            return Self(number);
        }
        match err.kind() {
            io::ErrorKind::NotFound => Self::ENOENT,
            io::ErrorKind::PermissionDenied => Self::EACCES,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::ETIMEDOUT,
            io::ErrorKind::ConnectionRefused => Self::ECONNREFUSED,
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Self::ECONNRESET,
            io::ErrorKind::BrokenPipe => Self::EPIPE,
            io::ErrorKind::InvalidInput => Self::EINVAL,
            io::ErrorKind::Interrupted => Self::EINTR,
            _ => Self::EIO,
        }
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        i32::try_from(errno.0).map_or_else(|_| Self::other(errno), Self::from_raw_os_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_numbers_survive_the_way_through_io_errors() {
        let err = io::Error::from(Errno::ENOSPC);
        assert_eq!(Errno::from(err), Errno::ENOSPC);
    }

    #[test]
    fn unknown_numbers_are_printed_as_numbers() {
        assert_eq!(Errno(9999).to_string(), "error 9999");
    }
}
