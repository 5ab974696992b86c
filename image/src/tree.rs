//! A file tree as a value: what an image contains, without the contents.

use goblin_core_types::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most entries a tree may have, directories included.
pub const ENTRIES_MAX: usize = 65_536;
/// Longest path in bytes.
pub const PATH_BYTES_MAX: usize = 1024;
/// Longest name of one path component in bytes (the kernel's NAME_MAX).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest symlink target in bytes.
pub const TARGET_BYTES_MAX: usize = 1024;
/// Largest sum of all file sizes in bytes: 4 GiB, far above the base's budget, far below what
/// block numbers of 32 bits can name.
pub const TREE_BYTES_MAX: u64 = 4 << 30;
/// Mode bits a tree may carry: permissions, set-id and sticky.
pub const MODE_MASK: u16 = 0o7777;

/// One file, directory or symlink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Absolute path, components joined by single slashes, no `.` or `..`; the root is `/`.
    pub path: String,
    /// Permission bits, at most `0o7777`.
    pub mode: u16,
    /// Owner.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

fn is_zero(id: &u32) -> bool {
    *id == 0
}

/// What an [`Entry`] is. Devices, pipes and sockets do not exist: an image never carries them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Size in bytes.
        size: u64,
        /// blake3 of its content.
        digest: Digest,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points; any text without NUL.
        target: String,
    },
}

/// A checked, sorted tree. Its root exists, every parent is a directory, no path occurs twice.
///
/// As serde value it is the list of its entries; reading one runs the same checks as [`Tree::new`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Tree {
    entries: Vec<Entry>,
}

/// Why a list of entries is not a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// More entries than [`ENTRIES_MAX`], added parents included.
    #[error("the tree has more than {ENTRIES_MAX} entries")]
    TooManyEntries,
    /// A path breaks a rule.
    #[error("path `{path}` {rule}")]
    Path {
        /// The path, shortened.
        path: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The same path occurs twice.
    #[error("path `{path}` occurs twice")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// A file or symlink has entries below it.
    #[error("`{path}` has entries below it but is not a directory")]
    ParentNotDir {
        /// The parent.
        path: String,
    },
    /// Mode bits beyond [`MODE_MASK`].
    #[error("mode {mode:o} of `{path}` has bits beyond 7777")]
    Mode {
        /// The path.
        path: String,
        /// The mode.
        mode: u16,
    },
    /// A symlink target is empty, too long or holds NUL.
    #[error(
        "the target of symlink `{path}` is empty, longer than {TARGET_BYTES_MAX} bytes, or holds NUL"
    )]
    Target {
        /// The path.
        path: String,
    },
    /// All files together exceed [`TREE_BYTES_MAX`].
    #[error("the files of the tree exceed {TREE_BYTES_MAX} bytes")]
    TooLarge,
    /// Two files name the same content with different sizes.
    #[error("content {digest} is listed with two different sizes")]
    SizeConflict {
        /// The content.
        digest: Digest,
    },
}

impl Tree {
    /// Checks the entries, sorts them by the bytes of their paths and adds missing parents (and the
    /// root) as directories 0755 of user and group 0.
    ///
    /// # Errors
    /// [`TreeError`] names the first entry that breaks a rule.
    pub fn new(entries: Vec<Entry>) -> Result<Self, TreeError> {
        let mut by_path = BTreeMap::new();
        let mut bytes = 0u64;
        let mut sizes = BTreeMap::new();
        for entry in entries {
            check_entry(&entry)?;
            if let Kind::File { size, digest } = entry.kind {
                bytes = bytes.saturating_add(size);
                if *sizes.entry(digest).or_insert(size) != size {
                    return Err(TreeError::SizeConflict { digest });
                }
            }
            if let Some(old) = by_path.insert(entry.path.clone(), entry) {
                return Err(TreeError::Duplicate { path: old.path });
            }
            if by_path.len() > ENTRIES_MAX {
                return Err(TreeError::TooManyEntries);
            }
        }
        if bytes > TREE_BYTES_MAX {
            return Err(TreeError::TooLarge);
        }
        add_parents(&mut by_path)?;
        Ok(Self { entries: by_path.into_values().collect() })
    }

    /// The entries in order; the first is the root, and a directory comes before what it holds.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at this path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        self.entries.get(at)
    }
}

impl TryFrom<Vec<Entry>> for Tree {
    type Error = TreeError;

    fn try_from(entries: Vec<Entry>) -> Result<Self, TreeError> {
        Self::new(entries)
    }
}

impl From<Tree> for Vec<Entry> {
    fn from(tree: Tree) -> Self {
        tree.entries
    }
}

/// The directory that holds `path`; nothing for the root.
pub(crate) fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// The last component of `path`.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn add_parents(by_path: &mut BTreeMap<String, Entry>) -> Result<(), TreeError> {
    let paths: Vec<String> = by_path.keys().cloned().chain([String::from("/")]).collect();
    for path in paths {
        if path == "/" {
            add_dir(by_path, "/")?;
        }
        let mut below = path.as_str();
        while let Some(dir) = parent(below) {
            if !add_dir(by_path, dir)? {
                break;
            }
            below = dir;
        }
    }
    Ok(())
}

/// Adds a directory if there is none; true when it was added.
fn add_dir(by_path: &mut BTreeMap<String, Entry>, path: &str) -> Result<bool, TreeError> {
    match by_path.get(path) {
        Some(Entry { kind: Kind::Dir, .. }) => return Ok(false),
        Some(_) => return Err(TreeError::ParentNotDir { path: path.to_owned() }),
        None => {}
    }
    if by_path.len() >= ENTRIES_MAX {
        return Err(TreeError::TooManyEntries);
    }
    let entry = Entry { path: path.to_owned(), mode: 0o755, uid: 0, gid: 0, kind: Kind::Dir };
    by_path.insert(path.to_owned(), entry);
    Ok(true)
}

/// The rules of a path: absolute, normalised, bounded.
pub(crate) fn check_path(path: &str) -> Result<(), TreeError> {
    let refuse = |rule| TreeError::Path { path: path.chars().take(120).collect(), rule };
    if path.len() > PATH_BYTES_MAX {
        return Err(refuse("is longer than 1024 bytes"));
    }
    let Some(relative) = path.strip_prefix('/') else {
        return Err(refuse("does not begin with `/`"));
    };
    if relative.is_empty() {
        return Ok(());
    }
    for name in relative.split('/') {
        match name {
            "" => return Err(refuse("has an empty component or ends with `/`")),
            "." | ".." => return Err(refuse("has a component `.` or `..`")),
            name if name.len() > NAME_BYTES_MAX => {
                return Err(refuse("has a component longer than 255 bytes"));
            }
            name if name.contains('\0') => return Err(refuse("holds NUL")),
            _ => {}
        }
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), TreeError> {
    check_path(&entry.path)?;
    let path = || entry.path.clone();
    if entry.mode & !MODE_MASK != 0 {
        return Err(TreeError::Mode { path: path(), mode: entry.mode });
    }
    match &entry.kind {
        Kind::Symlink { target }
            if target.is_empty() || target.len() > TARGET_BYTES_MAX || target.contains('\0') =>
        {
            Err(TreeError::Target { path: path() })
        }
        Kind::File { size, .. } if *size > TREE_BYTES_MAX => Err(TreeError::TooLarge),
        Kind::Dir | Kind::File { .. } | Kind::Symlink { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dir(path: &str) -> Entry {
        Entry { path: path.into(), mode: 0o755, uid: 0, gid: 0, kind: Kind::Dir }
    }

    fn link(path: &str, target: &str) -> Entry {
        let kind = Kind::Symlink { target: target.into() };
        Entry { path: path.into(), mode: 0o777, uid: 0, gid: 0, kind }
    }

    #[test]
    fn missing_parents_and_the_root_are_added() {
        let tree = Tree::new(vec![link("/usr/bin/x", "y"), dir("/usr-old")]).unwrap();
        let paths: Vec<_> = tree.entries().iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["/", "/usr", "/usr-old", "/usr/bin", "/usr/bin/x"]);
        assert_eq!(Tree::new(vec![]).unwrap().entries(), [dir("/")]);
    }

    #[test]
    fn unclean_paths_are_refused() {
        for path in ["", "a", "/a/", "//a", "/a/../b", "/./a", "/a\0b", "/.."] {
            assert!(matches!(Tree::new(vec![dir(path)]), Err(TreeError::Path { .. })), "{path:?}");
        }
        assert!(Tree::new(vec![dir(&format!("/{}", "x".repeat(256)))]).is_err());
        assert!(Tree::new(vec![dir(&"/xy".repeat(400))]).is_err());
    }

    #[test]
    fn duplicates_and_entries_below_files_are_refused() {
        assert!(matches!(Tree::new(vec![dir("/a"), dir("/a")]), Err(TreeError::Duplicate { .. })));
        let below = Tree::new(vec![link("/a", "b"), dir("/a/c")]);
        assert_eq!(below, Err(TreeError::ParentNotDir { path: "/a".into() }));
        assert!(Tree::new(vec![link("/", "b")]).is_err());
    }

    #[test]
    fn one_content_has_one_size() {
        let file = |path: &str, size| Entry {
            kind: Kind::File { size, digest: Digest([1; 32]) },
            ..dir(path)
        };
        assert!(Tree::new(vec![file("/a", 1), file("/b", 1)]).is_ok());
        assert!(Tree::new(vec![file("/a", 1), file("/b", 2)]).is_err());
        assert_eq!(Tree::new(vec![file("/a", u64::MAX)]), Err(TreeError::TooLarge));
    }

    #[test]
    fn reading_json_runs_the_checks() {
        let tree = Tree::new(vec![link("/usr/bin/x", "y")]).unwrap();
        let json = serde_json::to_string(&tree).unwrap();
        assert_eq!(serde_json::from_str::<Tree>(&json).unwrap(), tree);
        let bad = r#"[{"path":"/a/..","mode":493,"kind":"dir"}]"#;
        assert!(serde_json::from_str::<Tree>(bad).is_err());
        assert!(
            serde_json::from_str::<Tree>(r#"[{"path":"/a","mode":1,"kind":"device"}]"#).is_err()
        );
    }

    proptest! {
        #[test]
        fn any_paths_are_answered_and_order_does_not_matter(
            paths in proptest::collection::vec("(/[a-c.]{0,3}){0,4}", 0..8)
        ) {
            let forward = Tree::new(paths.iter().map(|p| dir(p)).collect());
            let backward = Tree::new(paths.iter().rev().map(|p| dir(p)).collect());
            prop_assert_eq!(forward.is_ok(), backward.is_ok());
            if let (Ok(a), Ok(b)) = (forward, backward) {
                prop_assert_eq!(&a, &b);
                for entry in a.entries() {
                    if let Some(up) = parent(&entry.path) {
                        prop_assert!(a.get(up).is_some());
                    }
                }
            }
        }
    }
}
