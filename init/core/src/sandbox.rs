//! `[sandbox]` of a unit: what it may see, touch and ask of the kernel.
//!
//! An empty table is the strictest: a user of its own, no capability, no network, everything read-only,
//! its own `/tmp`, `/dev` and `/proc`, and only the system calls that no program can do without. Each key
//! gives something back. A unit without the table is not sandboxed at all; `cargo xtask check` refuses to
//! ship one.

mod ids;
mod words;

pub use ids::{DYNAMIC_FIRST, DYNAMIC_LAST, GROUPS, USERS, User};
pub use words::{Capability, Family};

use crate::seccomp;
use crate::unit::UnitError;
use serde::Deserialize;

/// Most entries of one list.
const LIST_MAX: usize = 64;
/// Longest path in bytes.
const PATH_BYTES_MAX: usize = 255;

/// Begins the name of a device that is found by the name of its partition.
pub const PARTITION: &str = "PARTLABEL=";

/// Which tree of mounts a unit lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mounts {
    /// Its own: it sees the board's later mounts, the board never sees the unit's.
    #[default]
    Private,
    /// The board's: what the unit mounts is there for all. Nothing can then be hidden from it.
    Host,
}

/// Which network a unit has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// One without interfaces. Sockets of the file system still work.
    #[default]
    None,
    /// The board's.
    Host,
}

/// Which whole disks a unit may write to, with their partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteDisks {
    /// The one that goblinux is on.
    System,
    /// Every other one, also one that is plugged in later.
    Data,
    /// All of them.
    All,
}

/// A checked sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// User and group it runs as.
    pub user: User,
    /// Supplementary groups' ids.
    pub groups: Vec<u32>,
    /// Capabilities it keeps, in order and each once; bounding, permitted and ambient alike.
    pub capabilities: Vec<Capability>,
    /// Named groups of system calls; empty: only what every program needs.
    pub seccomp: Vec<String>,
    /// Kinds of sockets it may make.
    pub sockets: Vec<Family>,
    /// Tree of mounts.
    pub mounts: Mounts,
    /// Network.
    pub network: Network,
    /// Whether all that is mounted is read-only but for `write_paths`.
    pub read_only: bool,
    /// Whether Landlock keeps it to `read_paths` and `write_paths`.
    pub landlock: bool,
    /// Files and folders it may read besides the base.
    pub read_paths: Vec<String>,
    /// Files and folders it may read and write.
    pub write_paths: Vec<String>,
    /// Whether `/tmp` is its own and empty.
    pub private_tmp: bool,
    /// Whether it sees only its own processes in `/proc`.
    pub hide_proc: bool,
    /// Whether `/dev` holds but the harmless nodes and `devices`. No other device can be opened then; nor by a unit in
    /// the board's own tree of mounts, where they can be seen.
    pub private_dev: bool,
    /// Device nodes it may use; one that ends in `*` stands for all of its folder that begin so, and
    /// `PARTLABEL=NAME` for a partition of the system disk.
    pub devices: Vec<String>,
    /// Device nodes it may only read, named in the same way.
    pub read_devices: Vec<String>,
    /// Whether it may read any disk that it finds a node of, one that is plugged in later too.
    pub read_disks: bool,
    /// Disks that it may read and write; any other one it may then read too.
    pub write_disks: Option<WriteDisks>,
    /// Whether the host name is its own to change.
    pub private_uts: bool,
    /// Whether System V IPC is its own.
    pub private_ipc: bool,
}

/// The table as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSandbox {
    user: Option<String>,
    groups: Vec<String>,
    capabilities: Vec<String>,
    seccomp: Vec<String>,
    sockets: Vec<String>,
    mounts: Mounts,
    network: Network,
    read_only: Option<bool>,
    landlock: Option<bool>,
    read_paths: Vec<String>,
    write_paths: Vec<String>,
    private_tmp: Option<bool>,
    hide_proc: Option<bool>,
    private_dev: Option<bool>,
    devices: Vec<String>,
    read_devices: Vec<String>,
    read_disks: bool,
    write_disks: Option<WriteDisks>,
    private_uts: Option<bool>,
    private_ipc: Option<bool>,
}

impl RawSandbox {
    /// Checks the table of the unit `name`.
    ///
    /// # Errors
    /// The first word or rule that is broken.
    pub fn check(self, name: &str, file: &str) -> Result<Sandbox, UnitError> {
        let refuse = |key, problem, remedy| refusal(file, key, problem, remedy);
        self.check_sizes(file)?;
        let own_mounts = self.mounts == Mounts::Private;
        let may_mount = self.seccomp.iter().any(|group| group == "@mount");
        for (key, value) in [
            ("sandbox.read_only", self.read_only),
            ("sandbox.private_tmp", self.private_tmp),
            ("sandbox.hide_proc", self.hide_proc),
            ("sandbox.private_dev", self.private_dev),
        ] {
            if value == Some(true) && !own_mounts {
                let problem = "needs a tree of mounts of its own".to_owned();
                return refuse(key, problem, "write `mounts = \"private\"` or remove the key");
            }
        }
        if self.landlock == Some(true) && may_mount {
            let problem = "forbids every mount, and `@mount` is allowed".to_owned();
            return refuse("sandbox.landlock", problem, "remove one of the two");
        }
        let landlock = self.landlock.unwrap_or(!may_mount);
        let private_dev = self.private_dev.unwrap_or(own_mounts);
        // The group of a unit in the board's own tree is guarded too.
        let guarded = private_dev || !own_mounts;
        let named = !self.devices.is_empty() || !self.read_devices.is_empty();
        if named && !guarded && !landlock {
            let problem = "is given, but the unit has all of /dev".to_owned();
            return refuse("sandbox.devices", problem, "remove it, or `private_dev = false`");
        }
        for (key, is_given) in [
            ("sandbox.read_disks", self.read_disks),
            ("sandbox.write_disks", self.write_disks.is_some()),
        ] {
            if is_given && !guarded {
                let problem = "is given, but the unit has all of /dev".to_owned();
                return refuse(key, problem, "remove it, or `private_dev = false`");
            }
        }
        Ok(Sandbox {
            user: self.user(name, file)?,
            groups: self.groups(file)?,
            capabilities: self.capabilities(file)?,
            sockets: self.sockets(file)?,
            mounts: self.mounts,
            network: self.network,
            read_only: self.read_only.unwrap_or(own_mounts),
            landlock,
            private_tmp: self.private_tmp.unwrap_or(own_mounts),
            hide_proc: self.hide_proc.unwrap_or(own_mounts),
            private_dev,
            private_uts: self.private_uts.unwrap_or(true),
            private_ipc: self.private_ipc.unwrap_or(true),
            seccomp: self.seccomp,
            read_paths: self.read_paths,
            write_paths: self.write_paths,
            devices: self.devices,
            read_devices: self.read_devices,
            read_disks: self.read_disks,
            write_disks: self.write_disks,
        })
    }

    fn check_sizes(&self, file: &str) -> Result<(), UnitError> {
        for (key, list) in [
            ("sandbox.groups", &self.groups),
            ("sandbox.capabilities", &self.capabilities),
            ("sandbox.seccomp", &self.seccomp),
            ("sandbox.sockets", &self.sockets),
            ("sandbox.read_paths", &self.read_paths),
            ("sandbox.write_paths", &self.write_paths),
            ("sandbox.devices", &self.devices),
            ("sandbox.read_devices", &self.read_devices),
        ] {
            if list.len() > LIST_MAX {
                let problem = format!("has {} entries", list.len());
                return refusal(file, key, problem, "write at most 64");
            }
        }
        for (key, list, below) in [
            ("sandbox.read_paths", &self.read_paths, "/"),
            ("sandbox.write_paths", &self.write_paths, "/"),
            ("sandbox.devices", &self.devices, "/dev/"),
            ("sandbox.read_devices", &self.read_devices, "/dev/"),
        ] {
            for path in list {
                if below == "/dev/" && is_partition_name(path) {
                    continue;
                }
                if !is_plain_path(path) || !path.starts_with(below) {
                    let problem = format!("has `{}`", path.chars().take(60).collect::<String>());
                    let remedy = "write absolute paths without `.`, `..` or empty parts; devices lie \
                        below /dev or are PARTLABEL=NAME";
                    return refusal(file, key, problem, remedy);
                }
            }
        }
        for group in &self.seccomp {
            if seccomp::group(group).is_none() {
                let problem = format!("has `{}`", group.chars().take(40).collect::<String>());
                return refusal(file, "sandbox.seccomp", problem, seccomp::GROUPS_REMEDY);
            }
        }
        Ok(())
    }

    fn user(&self, name: &str, file: &str) -> Result<User, UnitError> {
        let word = self.user.as_deref().unwrap_or("dynamic");
        User::parse(word, name).map_or_else(
            || {
                let problem = format!("is `{}`", word.chars().take(40).collect::<String>());
                refusal(file, "sandbox.user", problem, ids::USERS_REMEDY)
            },
            Ok,
        )
    }

    fn groups(&self, file: &str) -> Result<Vec<u32>, UnitError> {
        self.groups
            .iter()
            .map(|word| match GROUPS.iter().find(|(name, _)| name == word) {
                Some((_, id)) => Ok(*id),
                None => {
                    let problem = format!("has `{}`", word.chars().take(40).collect::<String>());
                    refusal(file, "sandbox.groups", problem, ids::GROUPS_REMEDY)
                }
            })
            .collect()
    }

    fn capabilities(&self, file: &str) -> Result<Vec<Capability>, UnitError> {
        let mut kept = Vec::new();
        for word in &self.capabilities {
            let Some(capability) = Capability::parse(word) else {
                let problem = format!("has `{}`", word.chars().take(40).collect::<String>());
                let remedy = "write names of capabilities(7) in lower case without `cap_`";
                return refusal(file, "sandbox.capabilities", problem, remedy);
            };
            kept.push(capability);
        }
        kept.sort_unstable();
        kept.dedup();
        Ok(kept)
    }

    fn sockets(&self, file: &str) -> Result<Vec<Family>, UnitError> {
        let mut families = Vec::new();
        for word in &self.sockets {
            let Some(family) = Family::parse(word) else {
                let problem = format!("has `{}`", word.chars().take(40).collect::<String>());
                let remedy = "write unix, inet (both versions), netlink, packet, vsock or alg";
                return refusal(file, "sandbox.sockets", problem, remedy);
            };
            families.push(family);
        }
        families.sort_unstable();
        families.dedup();
        Ok(families)
    }
}

fn refusal<T>(
    file: &str,
    key: &'static str,
    problem: String,
    remedy: &'static str,
) -> Result<T, UnitError> {
    Err(UnitError::Value { file: file.to_owned(), key, problem, remedy })
}

/// `PARTLABEL=` and the name of a partition of goblinux's own disk.
fn is_partition_name(word: &str) -> bool {
    word.strip_prefix(PARTITION).is_some_and(|name| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    })
}

/// Absolute, and the same for whoever walks it.
fn is_plain_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        path.len() <= PATH_BYTES_MAX
            && !path.contains('\0')
            && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
    })
}

#[cfg(test)]
mod tests;
