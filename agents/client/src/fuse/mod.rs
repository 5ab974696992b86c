//! A share mounted by FUSE: without the kernel's 9P client, and by `fusermount3` without root.
//!
//! ```text
//!   kernel FUSE <- threads (`tree`) -> one 9P session (`mux`) -> pair of sockets -> relay -> TLS
//! ```
//!
//! The relay is the one of the kernel's own mounts, and so is what happens when the box is away. A killed program is let
//! go within a second (`caller`), and its request is flushed. Locks are held at the box, `flock(2)` and `fcntl(2)` ones in
//! one space, as by the kernel's own client. Extended attributes of users are kept there, too.

mod caller;
mod locks;
mod mux;
mod tree;
mod xattrs;

use crate::kernel::{KernelMountError, MSIZE_BYTES, MountOptions, may_write};
use crate::relay::{Dial, Listener, Relay};
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use goblin_core_types::Greeting;
use goblin_sys::socket::Socket;
use goblin_tls::TlsStream;
use mux::Mux;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Calls answered at one time.
const THREADS: usize = 8;

/// A share mounted by FUSE. Dropping it takes the mount away.
#[derive(Debug)]
pub struct FuseMount {
    session: BackgroundSession,
    _relay: Option<Relay>,
}

impl FuseMount {
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
        let writes = may_write(&first.1, options)?;
        let user = crate::kernel::mount_user_name().map_err(KernelMountError::Resources)?;
        let (theirs, ours) = Socket::pair().map_err(KernelMountError::Resources)?;
        let relay = Relay::start(ours, first, dial, options.patience, options.owner, listener)
            .map_err(KernelMountError::Resources)?;
        let mounted = Self::over(theirs, (&options.share, &user), writes, source, target)?;
        Ok(Self { _relay: Some(relay), ..mounted })
    }

    /// Mounts a share over a connection that is there already, and ends with it; the second of `share` is the user name
    /// to attach with.
    ///
    /// # Errors
    /// [`KernelMountError`]; nothing is mounted then.
    pub fn over(
        connection: Socket,
        (share, user): (&str, &str),
        writes: bool,
        source: &str,
        target: &Path,
    ) -> Result<Self, KernelMountError> {
        let mux =
            Mux::open(connection, MSIZE_BYTES, share, user).map_err(KernelMountError::Resources)?;
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        config.mount_options = vec![
            MountOption::FSName(source.into()),
            MountOption::Subtype("goblin".into()),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoSuid,
            if writes { MountOption::RW } else { MountOption::RO },
        ];
        // Others than who mounts are let in only by root.
        if rustix::process::geteuid().is_root() {
            config.acl = SessionACL::All;
        }
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                KernelMountError::NoFuse(source)
            }
            _ => KernelMountError::Mount { target: target.into(), source },
        };
        let tree = tree::Tree::new(Arc::clone(&mux));
        let session =
            Session::new(tree, target, &config).and_then(Session::spawn).map_err(refused)?;
        Ok(Self { session, _relay: None })
    }

    /// Stays until the mount is taken away.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stay(self) -> io::Result<()> {
        self.session.join()
    }
}
