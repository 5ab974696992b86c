//! The control tree of one board:
//!
//! ```text
//! /boards/<role>/status       BoardStatus, JSON, made at every open
//! /boards/<role>/screen       what the console shows, a JSON list of lines
//! /boards/<role>/update/ctl   one UpdateCommand line in, UpdateReply lines out
//! /boards/<role>/init/ctl     one InitRequest line in, InitReply lines out
//! /boards/<role>/logs/ctl     one LogsRequest line in, LogsReply lines out
//! /boards/<role>/disks/ctl    one DisksCommand line in, one DisksReply line out
//! /boards/storage/share/ctl   one ShareCommand line in, one ShareReply line out
//! /boards/compute/releases/ctl  one ReleasesRequest line in, a ReleasesReply line and bytes out
//! ```
//!
//! `<role>` is this board's, or `local` while it has none. The compute board also has
//! `/boards/storage`, which is the storage board's own. Of the compute board the storage board sees release
//! files alone: it is told what to do, and tells nobody.

use crate::forward::{self, Remote};
use crate::logs::{self, LogPlaces};
use crate::status::{self, Sources};
use goblin_core_ninep::Errno;
use goblin_core_ninep::synthetic::{Dir, ReplyWriter, Talker, Tree};
use goblin_core_types::{Role, paths};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Name that clients attach by.
pub const ANAME: &str = "control";
/// Folder of a board without a role.
pub const LOCAL: &str = "local";
/// Longest wait for a local agent to take a line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes copied at once between a local socket and the reply.
const COPY_BYTES: usize = 16 * 1024;

/// Where the tree of a board finds what it shows. A value of its own, so that tests can put other things
/// in the places of a running board.
#[derive(Clone)]
pub struct Places {
    /// What this board is for.
    pub role: Option<Role>,
    /// PID 1's socket.
    pub init: PathBuf,
    /// The updater's socket.
    pub update: PathBuf,
    /// The journal's directory.
    pub journal: PathBuf,
    /// The file server's socket.
    pub share: PathBuf,
    /// The socket of the keeper of the system disks.
    pub disks: PathBuf,
    /// The socket of release files for the other board.
    pub releases: PathBuf,
    /// Gathers what the status is joined from.
    pub sources: Arc<dyn Fn() -> Sources + Send + Sync>,
    /// Finds the other board's tree.
    pub peer: Arc<dyn Fn() -> Result<Remote, Errno> + Send + Sync>,
}

impl Places {
    /// Those of the running board.
    pub fn of_this_board(role: Option<Role>) -> Self {
        Self {
            role,
            init: paths::INIT_SOCKET.into(),
            update: paths::UPDATE_SOCKET.into(),
            journal: paths::JOURNAL.into(),
            share: paths::SHARE_SOCKET.into(),
            disks: paths::DISKS_SOCKET.into(),
            releases: paths::RELEASES_SOCKET.into(),
            sources: Arc::new(Sources::read),
            peer: Arc::new(forward::peer),
        }
    }
}

/// Puts the tree together.
pub fn build(places: &Places) -> Tree {
    let own = places.role.map_or(LOCAL, |role| role.as_str());
    let mut boards = Dir::new().dir(own, own_board(places));
    if places.role == Some(Role::Compute) {
        boards = boards.dir(Role::Storage.as_str(), other_board(places, Role::Storage));
    }
    if places.role == Some(Role::Storage) {
        let releases = Dir::new().dir("releases", remote_ctl(places, Role::Compute, "releases"));
        boards = boards.dir(Role::Compute.as_str(), releases);
    }
    Tree::new(ANAME, Dir::new().dir("boards", boards))
}

/// Puts together what the other board may see of this one, over the link: of the storage board all of its own
/// tree, of the compute board release files alone.
pub fn build_for_link(places: &Places) -> Tree {
    if places.role != Some(Role::Compute) {
        return build(places);
    }
    let releases = Dir::new().dir("releases", local_ctl(&places.releases));
    let boards = Dir::new().dir(Role::Compute.as_str(), releases);
    Tree::new(ANAME, Dir::new().dir("boards", boards))
}

fn own_board(places: &Places) -> Dir {
    let sources = places.sources.clone();
    Dir::new()
        .file("status", move |_| to_json(&status::join(sources())))
        .file("screen", |_| {
            to_json(&goblin_sys::state::read::<Vec<String>>("console").unwrap_or_default())
        })
        .dir("update", local_ctl(&places.update))
        .dir("init", local_ctl(&places.init))
        .dir("logs", local_logs(places))
        .dir("share", local_ctl(&places.share))
        .dir("disks", local_ctl(&places.disks))
}

fn local_logs(places: &Places) -> Dir {
    let places = LogPlaces {
        journal: places.journal.clone(),
        init: places.init.clone(),
        boot: goblin_sys::board::boot_id().parse().unwrap_or_default(),
    };
    Dir::new().conversation("ctl", move |_| {
        let places = places.clone();
        let talker: Talker = Box::new(move |line, reply| logs::answer(&places, &line, reply));
        Ok(talker)
    })
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Errno> {
    let mut bytes = serde_json::to_vec(value).map_err(|_| Errno::EIO)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn local_ctl(socket: &Path) -> Dir {
    let socket = socket.to_owned();
    Dir::new().conversation("ctl", move |_| {
        let stream = crate::lines::connect(&socket, WRITE_TIMEOUT).map_err(unix_errno)?;
        let talker: Talker = Box::new(move |line, reply| bring(stream, line, reply));
        Ok(talker)
    })
}

/// A socket that is not there means that its agent does not run, not that the control file is missing.
fn unix_errno(err: io::Error) -> Errno {
    match err.kind() {
        io::ErrorKind::NotFound => Errno::ECONNREFUSED,
        _ => err.into(),
    }
}

/// Sends the line to a local agent and brings its reply back until the agent closes.
fn bring(mut stream: UnixStream, mut line: Vec<u8>, mut reply: ReplyWriter) -> Result<(), Errno> {
    let for_close = stream.try_clone()?;
    reply.on_closed(move || {
        // The agent notices by this that nobody listens any more.
        let _ = for_close.shutdown(Shutdown::Both);
    });
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut buffer = [0u8; COPY_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => reply.write_all(buffer.get(..count).unwrap_or_default())?,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err.into()),
        }
    }
}

fn other_board(places: &Places, role: Role) -> Dir {
    let file = |name: &'static str| {
        let peer = places.peer.clone();
        move |cancel: &_| forward::read_file(&peer()?, &format!("boards/{role}/{name}"), cancel)
    };
    let ctl = |name: &'static str| remote_ctl(places, role, name);
    Dir::new()
        .file("status", file("status"))
        .file("screen", file("screen"))
        .dir("update", ctl("update"))
        .dir("init", ctl("init"))
        .dir("logs", ctl("logs"))
        .dir("share", ctl("share"))
        .dir("disks", ctl("disks"))
}

fn remote_ctl(places: &Places, role: Role, name: &'static str) -> Dir {
    let peer = places.peer.clone();
    Dir::new().conversation("ctl", move |cancel| {
        forward::converse(&peer()?, &format!("boards/{role}/{name}/ctl"), cancel)
    })
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
