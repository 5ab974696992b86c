//! Keys and metadata of a repository; whole releases are published by the end-to-end tests.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn add(repository: &Path, keys: &Path, version: u32) -> Result<()> {
    let keys = keys::open(keys, repository)?;
    let mut publisher = resume(repository)?;
    let custom =
        ReleaseCustom { version: Version::new(version, 0, 0), channel: "stable".into(), uki: None };
    publisher.add_release(&custom, b"{}")?;
    write_metadata(&publisher, &keys, repository, now())
}

#[test]
fn keys_are_made_once_and_are_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, keys) = (folder.path().join("www"), folder.path().join("keys"));
    add(&repository, &keys, 1).unwrap();
    let mode =
        |name: &str| std::fs::metadata(keys.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("root.json"), mode("online.json")), (0o600, 0o600));
    let before = std::fs::read(keys.join("online.json")).unwrap();
    let root = trust_root(&repository).unwrap();
    add(&repository, &keys, 2).unwrap();
    assert_eq!(std::fs::read(keys.join("online.json")).unwrap(), before);
    assert_eq!(trust_root(&repository).unwrap(), root);
    assert_eq!(resume(&repository).unwrap().targets.len(), 2);
}

#[test]
fn a_repository_is_only_continued_with_its_own_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, keys) = (folder.path().join("www"), folder.path().join("keys"));
    add(&repository, &keys, 1).unwrap();
    add(&folder.path().join("other-www"), &folder.path().join("other"), 1).unwrap();
    let refused = add(&repository, &folder.path().join("other"), 2).unwrap_err();
    assert!(format!("{refused:#}").contains("other keys"), "{refused:#}");
    let refused = add(&repository, &folder.path().join("nowhere"), 2).unwrap_err();
    assert!(format!("{refused:#}").contains("--keys"), "{refused:#}");
    assert!(!folder.path().join("nowhere").exists());
    // The root's key may be kept elsewhere once the repository was begun.
    std::fs::remove_file(keys.join("root.json")).unwrap();
    add(&repository, &keys, 2).unwrap();
}

#[test]
fn an_interrupted_making_of_keys_names_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, keys) = (folder.path().join("www"), folder.path().join("keys"));
    std::fs::create_dir(&keys).unwrap();
    std::fs::write(keys.join("root.json"), "[]").unwrap();
    let refused = format!("{:#}", add(&repository, &keys, 1).unwrap_err());
    assert!(refused.contains("root.json") && refused.contains("online.json"), "{refused}");
}

#[test]
fn renewing_signs_what_is_there_anew_and_leaves_no_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, keys) = (folder.path().join("www"), folder.path().join("keys"));
    assert!(renew(&repository, &keys).is_err());
    add(&repository, &keys, 1).unwrap();
    let before = resume(&repository).unwrap();
    renew(&repository, &keys).unwrap();
    let after = resume(&repository).unwrap();
    assert_eq!((after.version, after.targets), (before.version + 1, before.targets));
    let names: Vec<_> =
        std::fs::read_dir(&repository).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["metadata"]);
}

#[test]
fn keys_that_others_can_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, keys) = (folder.path().join("www"), folder.path().join("keys"));
    add(&repository, &keys, 1).unwrap();
    let path = keys.join("online.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = add(&repository, &keys, 2).unwrap_err();
    assert!(format!("{refused:#}").contains("chmod 600"), "{refused:#}");
}

#[test]
fn a_release_a_board_would_refuse_is_not_built() {
    let check = |spec: ReleaseSpec| check_notes(&spec);
    let version = Version::new(1, 0, 0);
    assert!(check(ReleaseSpec::new(version, "fine").with_accent("#e0a030")).is_ok());
    assert!(check(ReleaseSpec::new(version, "two\nlines")).is_err());
    assert!(check(ReleaseSpec::new(version, "").with_accent("red")).is_err());
}
