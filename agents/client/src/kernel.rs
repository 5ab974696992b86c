//! A share mounted by the kernel's own 9P client, over a relay.

use crate::dial::DialError;
use crate::relay::{Dial, Listener, Owner, Patience, Relay};
use goblin_core_types::{Greeting, May};
use goblin_sys::mount::{self, MountFlags};
use goblin_sys::socket::Socket;
use goblin_tls::TlsStream;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest 9P message asked for, in bytes: 24 of header and 127 pages, so that reads stay aligned. Linux before 6.19 has a
/// message in one piece of memory, a power of two of pages: with 128 pages in it, it would take twice the room.
pub(crate) const MSIZE_BYTES: u32 = 24 + 127 * 4096;

/// Why a share is not mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelMountError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The box has no such share for this user.
    #[error("the box has no share `{share}` for {user}; it has {}", shown(have))]
    NoShare {
        /// As it was asked for.
        share: String,
        /// The user.
        user: String,
        /// Those it has.
        have: Vec<String>,
    },
    /// The kernel has no 9P client.
    #[error(
        "this kernel has no 9P client: load it with `modprobe 9p`, or install a kernel that has it \
         (Debian's `cloud` kernels have not); or mount with --fuse"
    )]
    NoClient,
    /// Only root mounts.
    #[error(
        "only root may mount: use `sudo goblin mount` after `sudo goblin login`, or mount with --fuse"
    )]
    NotRoot,
    /// The kernel refused.
    #[error("the kernel cannot mount the share on {}: {source}", target.display())]
    Mount {
        /// Where.
        target: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// FUSE is not to be had.
    #[error(
        "FUSE cannot be used: {0}; load it with `modprobe fuse`, and install the package `fuse3` to mount \
         without root"
    )]
    NoFuse(io::Error),
    /// The kernel cannot carry TLS.
    #[error(
        "this kernel cannot carry TLS itself: {0}; load it with `modprobe tls`, or mount without --direct"
    )]
    NoKernelTls(io::Error),
    /// A thread or a descriptor is not to be had.
    #[error("this machine is short of resources: {0}")]
    Resources(io::Error),
}

fn shown(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Options of the kernel's client that depend on the machine.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// The share.
    pub share: String,
    /// Refuse every change on this side already.
    pub read_only: bool,
    /// `cache=` of v9fs; chosen by the kernel's release when absent.
    pub cache: Option<String>,
    /// How long calls wait for a box that is away.
    pub patience: Patience,
    /// Whose files they are on this machine.
    pub owner: Owner,
}

/// A mounted share. Dropping it takes the mount away and makes every call that waits in it fail.
#[derive(Debug)]
pub struct KernelMount {
    relay: Relay,
    target: PathBuf,
}

impl KernelMount {
    /// Mounts over a first connection; `dial` makes the later ones.
    ///
    /// # Errors
    /// [`KernelMountError`]; nothing is mounted then.
    pub fn open(
        first: (TlsStream, Greeting),
        dial: Dial,
        options: &MountOptions,
        source: &str,
        target: &Path,
        listener: Listener,
    ) -> Result<Self, KernelMountError> {
        let flags = flags(&first.1, options)?;
        let (theirs, ours) = Socket::pair().map_err(KernelMountError::Resources)?;
        let theirs: OwnedFd = theirs.into_fd();
        let relay = Relay::start(ours, first, dial, options.patience, options.owner, listener)
            .map_err(KernelMountError::Resources)?;
        mount_9p(theirs.as_fd().as_raw_fd(), options, source, target, flags)?;
        Ok(Self { relay, target: target.into() })
    }

    /// Waits for the end of the mount, at most so long; true when it came.
    pub fn wait(&self, time: Duration) -> bool {
        self.relay.wait(time)
    }

    /// Gives the present connection up; the relay makes the next one at once.
    pub fn cut(&self) {
        self.relay.cut();
    }
}

impl Drop for KernelMount {
    fn drop(&mut self) {
        if self.relay.is_over() {
            return;
        }
        if let Err(err) = crate::place::detach_all(&self.target) {
            tracing::warn!(target = %self.target.display(), %err, "cannot take a dead mount away");
        }
    }
}

/// Whether a share that this user has is mounted for writing.
pub(crate) fn may_write(
    greeting: &Greeting,
    options: &MountOptions,
) -> Result<bool, KernelMountError> {
    let right = greeting.shares.iter().find(|share| share.name == options.share);
    let Some(right) = right else {
        return Err(KernelMountError::NoShare {
            share: options.share.clone(),
            user: greeting.user.clone(),
            have: greeting.shares.iter().map(|share| share.name.clone()).collect(),
        });
    };
    Ok(!options.read_only && right.may >= May::Write)
}

fn flags(greeting: &Greeting, options: &MountOptions) -> Result<MountFlags, KernelMountError> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(if may_write(greeting, options)? { safe } else { safe | MountFlags::RDONLY })
}

fn mount_9p(
    socket: i32,
    options: &MountOptions,
    source: &str,
    target: &Path,
    flags: MountFlags,
) -> Result<(), KernelMountError> {
    let cache = options.cache.as_deref().unwrap_or_else(|| cache_of_this_kernel());
    let user = mount_user_name().map_err(KernelMountError::Resources)?;
    let text = mount_options(&options.share, socket, cache, &user);
    mount::mount(source, target, "9p", flags, &text).map_err(|source| match source.raw_os_error() {
        Some(libc_enodev) if libc_enodev == ENODEV => KernelMountError::NoClient,
        _ if source.kind() == io::ErrorKind::PermissionDenied => KernelMountError::NotRoot,
        _ => KernelMountError::Mount { target: target.into(), source },
    })
}

/// Mounts over one connection that the kernel itself carries, TLS included: nothing of this program is in the way
/// of the data, and no process stays. When the connection is lost every call fails with `EIO` for good, and the
/// share has to be mounted anew; files are shown as root's.
///
/// # Errors
/// [`KernelMountError`]; nothing is mounted then.
pub fn mount_direct(
    first: (TlsStream, Greeting),
    options: &MountOptions,
    source: &str,
    target: &Path,
) -> Result<(), KernelMountError> {
    let (stream, greeting) = first;
    let flags = flags(&greeting, options)?;
    let socket = stream.into_kernel().map_err(KernelMountError::NoKernelTls)?;
    // The kernel's client knows no limits.
    socket.set_limits(None, None).map_err(KernelMountError::Resources)?;
    mount_9p(socket.as_fd().as_raw_fd(), options, source, target, flags)
}

/// `ENODEV` of `errno.h`: no such file system type.
const ENODEV: i32 = 19;

/// The user name by which the box knows this mount when it comes again over another connection.
pub(crate) fn mount_user_name() -> io::Result<String> {
    let mut random = [0u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(goblin_core_trust::mount_user(random))
}

/// `access=any` keeps every local user on the one attach.
fn mount_options(share: &str, socket: i32, cache: &str, user: &str) -> String {
    format!(
        "trans=fd,rfdno={socket},wfdno={socket},version=9p2000.L,aname={share},uname={user},access=any,\
         msize={MSIZE_BYTES},cache={cache}"
    )
}

/// `readahead` reads each file anew when it is opened, so that others' changes are seen; kernels before
/// 6.4 do not have it, and no other mode that sees them.
fn cache_of_this_kernel() -> &'static str {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 4) => "readahead",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_the_socket_and_the_share() {
        let text = mount_options("main", 7, "none", "goblin-mount:abc");
        assert!(
            text.starts_with("trans=fd,rfdno=7,wfdno=7,version=9p2000.L,aname=main,"),
            "{text}"
        );
        assert!(text.contains(",uname=goblin-mount:abc,access=any,msize=520216"), "{text}");
    }
}
