//! Keys and metadata of a repository; whole releases are published by the end-to-end tests.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn add(repository: &Path, keys: &Path, version: u32) -> Result<()> {
    let keys = keys::open(keys, repository)?;
    let mut publisher = resume(repository)?;
    let custom = ReleaseCustom {
        version: Version::new(version, 0, 0),
        channel: "stable".into(),
        uki: None,
        waves: None,
    };
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
    for name in ["root.json", "targets.json", "online.json"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
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

/// What a board says that trusts the first root.
fn board(repository: &Path) -> Result<usize> {
    Ok(verify::metadata(repository)?.targets.len())
}

fn root(arguments: &[&str]) -> Result<()> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: root::RootCommand,
    }
    let line = <Line as clap::Parser>::try_parse_from([&["root"][..], arguments].concat())?;
    root::command(&line.command)
}

/// Three holders of root keys, two of whom must sign; what they do, with files in `folder`.
struct Holders {
    folder: tempfile::TempDir,
}

impl Holders {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn key(&self, name: &str) {
        root(&["key", &self.path(name)]).unwrap();
    }

    fn id(&self, name: &str) -> String {
        let bytes = std::fs::read(self.path(&format!("{name}.pub"))).unwrap();
        let keys: Vec<goblin_core_manifest::keys::Key> = serde_json::from_slice(&bytes).unwrap();
        keys[0].id()
    }

    fn sign(&self, draft: &str, names: &[&str]) {
        for name in names {
            root(&["sign", &self.path(draft), "--key", &self.path(name)]).unwrap();
        }
    }

    fn publish(&self, draft: &str) -> Result<()> {
        let (www, keys) = (self.path("www"), self.path("keys"));
        root(&["publish", &self.path(draft), &www, "--keys", &keys])
    }

    fn rotate(&self, draft: &str, more: &[&str]) -> Result<()> {
        let (www, keys, draft) = (self.path("www"), self.path("keys"), self.path(draft));
        let line = ["rotate", &www, "--keys", &keys, "--draft", &draft];
        root(&[&line[..], more].concat())
    }

    /// A repository begun with the keys a, b and c, and one release.
    fn begun() -> Self {
        let holders = Self::new();
        ["a", "b", "c"].iter().for_each(|name| holders.key(name));
        let (www, keys, draft) =
            (holders.path("www"), holders.path("keys"), holders.path("1.json"));
        let public = ["a.pub", "b.pub", "c.pub"].map(|name| holders.path(name));
        let line = ["init", &www, "--keys", &keys, "--draft", &draft, "--threshold", "2"];
        let given = public.iter().flat_map(|path| ["--key", path]).collect::<Vec<_>>();
        root(&[&line[..], &given].concat()).unwrap();
        holders.sign("1.json", &["a"]);
        let refused = format!("{:#}", holders.publish("1.json").unwrap_err());
        assert!(refused.contains("1 of 2"), "{refused}");
        holders.sign("1.json", &["c"]);
        holders.publish("1.json").unwrap();
        holders.release(1).unwrap();
        holders
    }

    fn www(&self) -> PathBuf {
        self.path("www").into()
    }

    fn release(&self, version: u32) -> Result<()> {
        add(&self.www(), Path::new(&self.path("keys")), version)
    }
}

#[test]
fn root_is_rotated_three_times_and_the_first_one_still_leads_to_the_newest() {
    let holders = Holders::begun();
    assert_eq!(board(&holders.www()).unwrap(), 1);
    // Another holder.
    holders.key("d");
    let (a, d) = (holders.id("a"), holders.path("d.pub"));
    holders.rotate("2.json", &["--remove", &a[..10], "--key", &d]).unwrap();
    holders.sign("2.json", &["b", "c"]);
    holders.publish("2.json").unwrap();
    // New online keys.
    let online = std::fs::read(holders.path("keys/online.json")).unwrap();
    holders.rotate("3.json", &["--new-online"]).unwrap();
    holders.sign("3.json", &["c", "d"]);
    holders.publish("3.json").unwrap();
    assert_ne!(std::fs::read(holders.path("keys/online.json")).unwrap(), online);
    assert!(!Path::new(&holders.path("keys/next-online.json")).exists());
    // More signatures needed.
    holders.rotate("4.json", &["--threshold", "3"]).unwrap();
    holders.sign("4.json", &["b", "c"]);
    assert!(holders.publish("4.json").is_err());
    holders.sign("4.json", &["d"]);
    holders.publish("4.json").unwrap();
    holders.release(2).unwrap();
    assert_eq!(board(&holders.www()).unwrap(), 2);
    assert_eq!(root::newest(&holders.www()).unwrap().version, 4);
}

#[test]
fn holder_that_was_taken_out_no_longer_counts() {
    let holders = Holders::begun();
    let a = holders.id("a");
    holders.rotate("2.json", &["--remove", &a]).unwrap();
    holders.sign("2.json", &["b", "c"]);
    holders.publish("2.json").unwrap();
    holders.rotate("3.json", &[]).unwrap();
    holders.sign("3.json", &["a", "b"]);
    assert!(holders.publish("3.json").is_err());
}

#[test]
fn rotation_that_was_cut_off_after_its_root_is_finished_by_the_next_publish() {
    let holders = Holders::begun();
    holders.rotate("2.json", &["--new-online"]).unwrap();
    holders.sign("2.json", &["a", "b"]);
    let bytes = std::fs::read(holders.path("2.json")).unwrap();
    std::fs::write(holders.path("www/metadata/2.root.json"), bytes).unwrap();
    // Boards refuse what the old keys signed, until the next publish.
    assert!(board(&holders.www()).is_err());
    holders.release(2).unwrap();
    assert_eq!(board(&holders.www()).unwrap(), 2);
}

#[test]
fn renewing_needs_no_key_of_the_releases() {
    let holders = Holders::begun();
    std::fs::rename(holders.path("keys/targets.json"), holders.path("elsewhere")).unwrap();
    let before = std::fs::read(holders.path("www/metadata/targets.json")).unwrap();
    renew(&holders.www(), Path::new(&holders.path("keys"))).unwrap();
    assert_eq!(std::fs::read(holders.path("www/metadata/targets.json")).unwrap(), before);
    assert_eq!(board(&holders.www()).unwrap(), 1);
}

#[test]
fn keys_of_one_file_are_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, keys) = (folder.path().join("www"), folder.path().join("keys"));
    add(&repository, &keys, 1).unwrap();
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(keys.join(name)).unwrap()).unwrap()
    };
    let mut online = read("online.json");
    online["targets"] = read("targets.json");
    std::fs::write(keys.join("online.json"), online.to_string()).unwrap();
    std::fs::remove_file(keys.join("targets.json")).unwrap();
    add(&repository, &keys, 2).unwrap();
    assert_eq!(board(&repository).unwrap(), 2);
}

#[test]
fn waves_are_signed_and_a_halt_stops_what_has_not_begun() {
    use goblin_core_manifest::offer::{self, Offer, Question, Turn};
    let folder = tempfile::tempdir().unwrap();
    let (repository, keys) = (folder.path().join("www"), folder.path().join("keys"));
    add(&repository, &keys, 1).unwrap();
    add(&repository, &keys, 2).unwrap();
    let (www, at) = (repository.display().to_string(), keys.display().to_string());
    let wave = |arguments: &[&str]| -> Result<()> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(subcommand)]
            command: wave::WaveCommand,
        }
        let all = [&["wave"][..], arguments, &["--keys", &at]].concat();
        wave::command(&<Line as clap::Parser>::try_parse_from(all)?.command)
    };
    let offered = || {
        let targets = verify::metadata(&repository).unwrap();
        let turn = Turn::Wait { id: goblin_core_types::BoxId([7; 16]), now: now() };
        let running = Version::new(1, 0, 0);
        let question = Question { running, channel: "stable", to: None, quarantine: &[], turn };
        offer::choose(&targets, &question).unwrap()
    };
    assert!(matches!(offered(), Offer::Release(_)));
    wave(&["set", &www, "2", "100@+0h"]).unwrap();
    assert!(matches!(offered(), Offer::Release(_)));
    wave(&["halt", &www, "2", "--reason", "fans stop"]).unwrap();
    let Offer::Held { hold, .. } = offered() else { panic!("it is offered") };
    assert!(hold.to_string().contains("fans stop"));
    wave(&["resume", &www, "2"]).unwrap();
    assert!(matches!(offered(), Offer::Release(_)));
    wave(&["set", &www, "2", "100@+9d"]).unwrap();
    assert!(matches!(offered(), Offer::Held { .. }));
    assert!(wave(&["set", &www, "2", "50@+9d", "40@+10d"]).is_err());
    assert!(wave(&["halt", &www, "7"]).is_err());
}
