//! What a client PC keeps: its own key, and the boxes it is enrolled with.
//!
//! ```text
//!   <folder>/client.key   64 hexadecimal digits, mode 0600; made at the first login
//!   <folder>/boxes.json   {"schema":1,"boxes":[{"name":..,"address":"host:port","key":..,"client":..,"user":..}]}
//! ```
//!
//! The folder is `$GOBLIN_CONFIG`, else `/etc/goblin` for root, else `$XDG_CONFIG_HOME/goblin` or
//! `~/.config/goblin`.

use goblin_core_trust::PublicKey;
use goblin_core_types::paths::PORT_SHARES;
use goblin_sys::files;
use goblin_tls::Identity;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const SCHEMA: u32 = 1;
/// Longest file in bytes.
const FILE_BYTES_MAX: usize = 256 * 1024;
/// Boxes kept at most.
const BOXES_MAX: usize = 64;

/// Why this PC's own files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoxesError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A file is damaged.
    #[error("{} is damaged: {what}; move it away and log in again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is no folder for it.
    #[error("no place to keep the key: set GOBLIN_CONFIG to a folder, or HOME")]
    NoFolder,
    /// The box is not known.
    #[error(
        "this PC is not enrolled with `{name}`: get a code with `goblin client add` at the box, then run \
         `goblin login ADDRESS CODE` (as the same user: {} is looked at)", folder.display()
    )]
    Unknown {
        /// As it was given.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Too many.
    #[error("no more than {BOXES_MAX} boxes are kept")]
    Full,
}

/// A box this PC is enrolled with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBox {
    /// What people call it here.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// Its key.
    pub key: PublicKey,
    /// Name this PC is enrolled by.
    pub client: String,
    /// The user this PC stands for.
    pub user: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct BoxesFile {
    schema: u32,
    boxes: Vec<KnownBox>,
}

/// The folder and what is in it.
#[derive(Debug)]
pub struct Boxes {
    folder: PathBuf,
    boxes: Vec<KnownBox>,
}

/// The folder by the environment's rules.
///
/// # Errors
/// [`BoxesError::NoFolder`].
pub fn folder() -> Result<PathBuf, BoxesError> {
    let set = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    if let Some(folder) = set("GOBLIN_CONFIG") {
        return Ok(folder);
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/etc/goblin".into());
    }
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("goblin")).ok_or(BoxesError::NoFolder)
}

impl Boxes {
    /// Reads what is kept in `folder`; an empty one keeps nothing.
    ///
    /// # Errors
    /// [`BoxesError`].
    pub fn open(folder: PathBuf) -> Result<Self, BoxesError> {
        let path = folder.join("boxes.json");
        let boxes = match files::read_bounded(&path, FILE_BYTES_MAX) {
            Ok(bytes) => {
                let damaged = |what: String| BoxesError::Damaged { path: path.clone(), what };
                let file: BoxesFile =
                    serde_json::from_slice(&bytes).map_err(|err| damaged(err.to_string()))?;
                if file.schema != SCHEMA || file.boxes.len() > BOXES_MAX {
                    return Err(damaged("it is of another release".into()));
                }
                file.boxes
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(BoxesError::File { path, source }),
        };
        Ok(Self { folder, boxes })
    }

    /// Every box.
    pub fn all(&self) -> &[KnownBox] {
        &self.boxes
    }

    /// The box of this name or address.
    ///
    /// # Errors
    /// [`BoxesError::Unknown`].
    pub fn find(&self, name: &str) -> Result<&KnownBox, BoxesError> {
        let address = with_port(name);
        let found = self.boxes.iter().find(|known| known.name == name);
        found
            .or_else(|| self.boxes.iter().find(|known| known.address == address))
            .ok_or_else(|| BoxesError::Unknown { name: name.into(), folder: self.folder.clone() })
    }

    /// Keeps a box; one with the same key or name is replaced.
    ///
    /// # Errors
    /// [`BoxesError`]; what was kept before is still there.
    pub fn keep(&mut self, known: KnownBox) -> Result<(), BoxesError> {
        let mut boxes = self.boxes.clone();
        boxes.retain(|other| other.key != known.key && other.name != known.name);
        if boxes.len() >= BOXES_MAX {
            return Err(BoxesError::Full);
        }
        boxes.push(known);
        boxes.sort_by(|a, b| a.name.cmp(&b.name));
        let path = self.folder.join("boxes.json");
        let file = BoxesFile { schema: SCHEMA, boxes };
        let written = serde_json::to_vec_pretty(&file)
            .map_err(io::Error::from)
            .and_then(|bytes| files::replace(&path, &bytes, 0o644));
        written.map_err(|source| BoxesError::File { path, source })?;
        self.boxes = file.boxes;
        Ok(())
    }

    /// This PC's key; made when there is none.
    ///
    /// # Errors
    /// [`BoxesError`].
    pub fn identity(&self) -> Result<Identity, BoxesError> {
        let path = self.folder.join("client.key");
        let damaged = |what: &str| BoxesError::Damaged { path: path.clone(), what: what.into() };
        let seed = match files::read_bounded(&path, 256) {
            Ok(bytes) => {
                let text = std::str::from_utf8(&bytes).unwrap_or_default().trim().to_owned();
                seed_of(&text).ok_or_else(|| damaged("it is not 64 hexadecimal digits"))?
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => make_key(&self.folder, &path)
                .map_err(|source| BoxesError::File { path: path.clone(), source })?,
            Err(source) => return Err(BoxesError::File { path, source }),
        };
        Identity::from_seed(&seed).map_err(|err| damaged(&err.to_string()))
    }
}

fn make_key(folder: &Path, path: &Path) -> io::Result<[u8; 32]> {
    std::fs::create_dir_all(folder)?;
    let mut seed = [0; 32];
    if getrandom(&mut seed[..], GetRandomFlags::empty())? != seed.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    files::replace(path, format!("{text}\n").as_bytes(), 0o600)?;
    Ok(seed)
}

fn seed_of(text: &str) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, place) in seed.iter_mut().enumerate() {
        let at = index.checked_mul(2)?;
        *place = u8::from_str_radix(text.get(at..at.checked_add(2)?)?, 16).ok()?;
    }
    Some(seed)
}

/// An address with the port of the shares, when it names none. An IPv6 address may stand without brackets.
pub fn with_port(address: &str) -> String {
    let bare_v6 = address.parse::<std::net::Ipv6Addr>().is_ok();
    let has_port =
        !bare_v6 && address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (has_port, bare_v6) {
        (true, _) => address.to_owned(),
        (false, true) => format!("[{address}]:{PORT_SHARES}"),
        (false, false) => format!("{address}:{PORT_SHARES}"),
    }
}

/// Splits `BOX:SHARE`, or `BOX:SHARE/PATH` into three.
pub fn split_place(text: &str) -> Option<(&str, &str, &str)> {
    let (the_box, rest) = match text.split_once('/') {
        // The colon in front of the share is the last one before its path.
        Some((front, _)) => text.split_at_checked(front.rfind(':')?)?,
        None => text.split_at_checked(text.rfind(':')?)?,
    };
    let rest = rest.strip_prefix(':')?;
    let (share, path) = rest.split_once('/').unwrap_or((rest, ""));
    (!the_box.is_empty() && !share.is_empty()).then_some((the_box, share, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, seed: u8) -> KnownBox {
        KnownBox {
            name: name.into(),
            address: format!("{name}.lan:564"),
            key: PublicKey::of_seed(&[seed; 32]),
            client: "pc".into(),
            user: "anna".into(),
        }
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("goblin");
        let boxes = Boxes::open(folder.clone()).unwrap();
        let key = boxes.identity().unwrap().public();
        assert_eq!(boxes.identity().unwrap().public(), key);
        let mode = std::fs::metadata(folder.join("client.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(folder.join("client.key"), "x").unwrap();
        assert!(matches!(boxes.identity(), Err(BoxesError::Damaged { .. })));
    }

    #[test]
    fn boxes_are_found_by_name_and_by_address() {
        let dir = tempfile::tempdir().unwrap();
        let mut boxes = Boxes::open(dir.path().into()).unwrap();
        assert!(matches!(boxes.find("attic"), Err(BoxesError::Unknown { .. })));
        boxes.keep(known("attic", 1)).unwrap();
        boxes.keep(known("cellar", 2)).unwrap();
        let boxes = Boxes::open(dir.path().into()).unwrap();
        assert_eq!(boxes.find("attic").unwrap().key, PublicKey::of_seed(&[1; 32]));
        assert_eq!(boxes.find("cellar.lan").unwrap().name, "cellar");
    }

    #[test]
    fn a_box_that_was_set_up_anew_takes_its_old_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut boxes = Boxes::open(dir.path().into()).unwrap();
        boxes.keep(known("attic", 1)).unwrap();
        boxes.keep(known("attic", 3)).unwrap();
        assert_eq!(boxes.all().len(), 1);
    }

    #[test]
    fn addresses_get_the_shares_port() {
        for (given, wanted) in [
            ("attic.local", "attic.local:564"),
            ("192.0.2.1:5640", "192.0.2.1:5640"),
            ("fe80::1", "[fe80::1]:564"),
            ("[2001:db8::1]:99", "[2001:db8::1]:99"),
            ("[2001:db8::1]", "[2001:db8::1]:564"),
        ] {
            assert_eq!(with_port(given), wanted);
        }
    }

    #[test]
    fn places_are_taken_apart_at_the_right_colon() {
        assert_eq!(split_place("attic:home"), Some(("attic", "home", "")));
        assert_eq!(split_place("attic:home/a:b/c"), Some(("attic", "home", "a:b/c")));
        assert_eq!(split_place("10.0.2.2:5640:home"), Some(("10.0.2.2:5640", "home", "")));
        assert_eq!(split_place("home"), None);
        assert_eq!(split_place(":home"), None);
        assert_eq!(split_place("attic:"), None);
        assert_eq!(split_place("dir/a:b"), None);
    }
}
