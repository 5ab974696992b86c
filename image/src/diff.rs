//! How two releases differ, from their recipes alone.

use crate::recipe::UkiRecipe;
use crate::tree::{Entry, Kind};
use goblin_core_types::{CHANGES_MAX, Digest, FileChange, PartChange, ReleaseDiff, Version};
use std::collections::BTreeMap;

/// Compares release `a` with release `b`.
pub fn diff(a: (Version, &UkiRecipe), b: (Version, &UkiRecipe)) -> ReleaseDiff {
    let (mut files, mut equal_count) = (Vec::new(), 0u64);
    let by_path = |recipe: &UkiRecipe| -> BTreeMap<String, Entry> {
        recipe.base.entries().iter().map(|entry| (entry.path.clone(), entry.clone())).collect()
    };
    let (left, right) = (by_path(a.1), by_path(b.1));
    let mut paths: Vec<&String> = left.keys().chain(right.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let (was, is) = (left.get(path), right.get(path));
        if was == is {
            equal_count = equal_count.saturating_add(1);
            continue;
        }
        files.push(FileChange {
            path: path.clone(),
            a_bytes: was.map(bytes),
            b_bytes: is.map(bytes),
            same_content: matches!((was, is), (Some(was), Some(is)) if was.kind == is.kind),
        });
    }
    let changed_count = u64::try_from(files.len()).unwrap_or(u64::MAX);
    files.truncate(CHANGES_MAX);
    let known: BTreeMap<Digest, u64> =
        a.1.blobs().into_iter().map(|blob| (blob.digest, blob.size)).collect();
    let fresh = b.1.blobs().into_iter().filter(|blob| !known.contains_key(&blob.digest));
    let new_bytes = fresh.fold(0u64, |sum, blob| sum.saturating_add(blob.size));
    ReleaseDiff {
        a: a.0,
        b: b.0,
        image_bytes: (a.1.uki_size, b.1.uki_size),
        parts: parts(a.1, b.1),
        files,
        changed_count,
        equal_count,
        new_bytes,
        packages: None,
    }
}

fn bytes(entry: &Entry) -> u64 {
    match &entry.kind {
        Kind::File { size, .. } => *size,
        _ => 0,
    }
}

fn parts(a: &UkiRecipe, b: &UkiRecipe) -> Vec<PartChange> {
    let kernel = |recipe: &UkiRecipe| format!("{}, {} bytes", recipe.uname, recipe.kernel.size);
    let size = |bytes: u64| format!("{bytes} bytes");
    let part = |name: &str, differs: bool, a: String, b: String| {
        differs.then(|| PartChange { name: name.into(), a, b })
    };
    [
        part("kernel", (&a.kernel, &a.uname) != (&b.kernel, &b.uname), kernel(a), kernel(b)),
        part("command line", a.cmdline != b.cmdline, a.cmdline.clone(), b.cmdline.clone()),
        part("preinit", a.preinit != b.preinit, size(a.preinit.size), size(b.preinit.size)),
        part("EFI stub", a.stub != b.stub, size(a.stub.size), size(b.stub.size)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{BlobRef, RECIPE_FORMAT};
    use crate::{Guid, Tree};

    fn blob(n: u8, size: u64) -> BlobRef {
        BlobRef { digest: Digest([n; 32]), size }
    }

    fn recipe(kernel: u8, files: &[(&str, u8, u16)]) -> UkiRecipe {
        let entry = |&(path, n, mode): &(&str, u8, u16)| Entry {
            path: path.into(),
            mode,
            uid: 0,
            gid: 0,
            kind: Kind::File { size: u64::from(n), digest: Digest([n; 32]) },
        };
        UkiRecipe {
            format: RECIPE_FORMAT,
            stub: blob(200, 1),
            kernel: blob(kernel, 100),
            cmdline: "quiet".into(),
            os_release: String::new(),
            uname: format!("6.12.{kernel}"),
            preinit: blob(201, 1),
            base: Tree::new(files.iter().map(entry).collect()).unwrap(),
            erofs_uuid: Guid::derive(&[b"test"]),
            erofs_time: 1,
            uki_size: 9,
            uki_digest: Digest([0; 32]),
        }
    }

    #[test]
    fn changed_new_and_removed_files_are_told_apart() {
        let a = recipe(101, &[("/both", 1, 0o644), ("/changed", 2, 0o644), ("/gone", 3, 0o644)]);
        let b = recipe(102, &[("/both", 1, 0o644), ("/changed", 9, 0o644), ("/new", 3, 0o644)]);
        let found = diff((Version::new(1, 0, 0), &a), (Version::new(2, 0, 0), &b));
        let told: Vec<_> =
            found.files.iter().map(|f| (f.path.as_str(), f.a_bytes, f.b_bytes)).collect();
        assert_eq!(
            told,
            [("/changed", Some(2), Some(9)), ("/gone", Some(3), None), ("/new", None, Some(3))]
        );
        assert_eq!(found.changed_count, 3);
        assert_eq!(found.new_bytes, 9 + 100, "what moved is not new");
        assert_eq!(found.parts.len(), 1);
        assert_eq!(found.parts[0].b, "6.12.102, 100 bytes");
    }

    #[test]
    fn a_mode_is_a_change_with_the_same_content() {
        let a = recipe(1, &[("/x", 1, 0o644)]);
        let b = recipe(1, &[("/x", 1, 0o755)]);
        let found = diff((Version::new(1, 0, 0), &a), (Version::new(2, 0, 0), &b));
        assert!(found.files[0].same_content && found.new_bytes == 0 && found.parts.is_empty());
        let same = diff((Version::new(1, 0, 0), &a), (Version::new(2, 0, 0), &a));
        assert_eq!((same.changed_count, same.files.len()), (0, 0));
    }
}
