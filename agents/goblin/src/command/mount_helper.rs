//! `mount.goblin`: the helper that `mount(8)` runs for the type `goblin`, for systemd's mount units and lines of
//! `/etc/fstab`. Its command line is told in the words of `goblin mount`.
//!
//! `mount.goblin BOX:SHARE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]` (`mount(8)`, "External Helpers").

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Name under which this program is the helper.
const NAME: &str = "mount.goblin";
/// Options that are true of every mount here, or meant for `mount(8)` and systemd.
const TAKEN: &[&str] =
    &["rw", "defaults", "nosuid", "nodev", "_netdev", "auto", "noauto", "nofail", "async"];

/// What the helper is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// To do what these words say to `goblin`.
    Mount(Vec<OsString>),
    /// Nothing: `mount --fake`.
    Nothing,
}

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelperError {
    /// Share or folder is missing, or there is more.
    #[error(
        "mount.goblin BOX:SHARE DIR [-sfnv] [-o OPTIONS]; it is `mount -t goblin` that runs it"
    )]
    Usage,
    /// A flag that is not known here.
    #[error("mount.goblin does not know the flag `{flag}`; leave it out")]
    Flag {
        /// As it was given.
        flag: String,
    },
    /// An option that is not known here.
    #[error(
        "mount.goblin does not know the option `{option}`; it knows ro, fuse, direct, uid=, gid=, wait=, cache= and \
         {}", TAKEN.join(", ")
    )]
    Option {
        /// As it was given.
        option: String,
    },
    /// `-N`.
    #[error("mount.goblin mounts in its own namespace only; run it inside by `nsenter --mount`")]
    Namespace,
}

/// The command line of the helper; `None` when this program was called by another name.
pub fn asked(words: impl IntoIterator<Item = OsString>) -> Option<Result<Asked, HelperError>> {
    let mut words = words.into_iter();
    let name = words.next()?;
    (Path::new(&name).file_name() == Some(OsStr::new(NAME))).then(|| read(words))
}

fn read(words: impl Iterator<Item = OsString>) -> Result<Asked, HelperError> {
    let (mut places, mut options) = (Vec::new(), Vec::new());
    let (mut fake, mut sloppy) = (false, false);
    let mut words = words;
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let Some(flags) = text.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
            places.push(word);
            continue;
        };
        match flags {
            "o" => options.push(words.next().ok_or(HelperError::Usage)?),
            "t" => drop(words.next().ok_or(HelperError::Usage)?),
            "N" => return Err(HelperError::Namespace),
            flags if flags.chars().all(|flag| "sfnv".contains(flag)) => {
                fake |= flags.contains('f');
                sloppy |= flags.contains('s');
            }
            _ => return Err(HelperError::Flag { flag: text.into_owned() }),
        }
    }
    let Ok([share, dir]) = <[OsString; 2]>::try_from(places) else {
        return Err(HelperError::Usage);
    };
    let mut said = vec![OsString::from("goblin"), "mount".into()];
    let mut owner = Owner::default();
    for list in &options {
        for option in list.to_string_lossy().split(',').filter(|option| !option.is_empty()) {
            match translated(option, &mut owner) {
                Some(words) => said.extend(words.into_iter().map(OsString::from)),
                None if sloppy => {}
                None => return Err(HelperError::Option { option: option.to_owned() }),
            }
        }
    }
    said.extend(owner.word().map(OsString::from));
    said.extend(["--".into(), share, dir]);
    Ok(if fake { Asked::Nothing } else { Asked::Mount(said) })
}

/// `uid=` and `gid=`, which are one word of `goblin mount`.
#[derive(Default)]
struct Owner {
    uid: Option<String>,
    gid: Option<String>,
}

impl Owner {
    fn word(self) -> Option<String> {
        match (self.uid, self.gid) {
            (None, None) => None,
            (Some(uid), None) => Some(format!("--owner={uid}")),
            // Who mounts is root.
            (uid, Some(gid)) => Some(format!("--owner={}:{gid}", uid.as_deref().unwrap_or("0"))),
        }
    }
}

/// Words for an option; `None` for one that is not known.
fn translated(option: &str, owner: &mut Owner) -> Option<Option<String>> {
    match option.split_once('=') {
        Some(("uid", uid)) => owner.uid = Some(uid.to_owned()),
        Some(("gid", gid)) => owner.gid = Some(gid.to_owned()),
        Some((key @ ("wait" | "cache"), value)) => return Some(Some(format!("--{key}={value}"))),
        // `x-systemd.` and the like are for other programs (`mount(8)`).
        _ if TAKEN.contains(&option) || option.starts_with("x-") || option.starts_with("X-") => {}
        None if option == "ro" => return Some(Some("--read-only".to_owned())),
        None if matches!(option, "fuse" | "direct") => return Some(Some(format!("--{option}"))),
        _ => return None,
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Result<String, HelperError> {
        match asked(line.split(' ').map(OsString::from)).unwrap()? {
            Asked::Mount(words) => Ok(words.join(OsStr::new(" ")).into_string().unwrap()),
            Asked::Nothing => Ok(String::new()),
        }
    }

    #[test]
    fn what_mount_passes_is_what_goblin_mount_is_told() {
        let told =
            said("/sbin/mount.goblin attic:home /mnt -o rw,_netdev,uid=7,gid=8,wait=60,cache=mmap")
                .unwrap();
        assert_eq!(told, "goblin mount --wait=60 --cache=mmap --owner=7:8 -- attic:home /mnt");
        let told =
            said("mount.goblin attic:home /mnt -v -n -o ro,fuse,x-systemd.automount").unwrap();
        assert_eq!(told, "goblin mount --read-only --fuse -- attic:home /mnt");
        assert_eq!(said("mount.goblin attic:home /mnt -f").unwrap(), "");
        let told = said("mount.goblin a:b /mnt -o uid=7 -t goblin").unwrap();
        assert_eq!(told, "goblin mount --owner=7 -- a:b /mnt");
    }

    #[test]
    fn what_is_not_known_is_named_unless_mount_is_sloppy() {
        let err = said("mount.goblin a:b /mnt -o rw,noexec").unwrap_err();
        assert_eq!(err, HelperError::Option { option: "noexec".into() });
        assert!(said("mount.goblin a:b /mnt -s -o rw,noexec").is_ok());
        assert_eq!(said("mount.goblin a:b").unwrap_err(), HelperError::Usage);
        assert_eq!(said("mount.goblin a:b /mnt -N 7").unwrap_err(), HelperError::Namespace);
        assert!(matches!(said("mount.goblin a:b /mnt -x").unwrap_err(), HelperError::Flag { .. }));
    }

    #[test]
    fn under_its_own_name_it_is_no_helper() {
        assert_eq!(asked(["/usr/bin/goblin", "mount"].map(OsString::from)), None);
        assert_eq!(asked([]), None);
    }
}
