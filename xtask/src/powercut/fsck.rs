//! What `fsck.fat` says, sorted: traces that a cut leaves on any FAT file system and that harm nobody,
//! and damage.

use anyhow::{Context, Result};
use goblin_core_types::paths;
use goblin_core_update::menu;
use goblin_core_update::slots::{self, NEW_FILE};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// The verdict.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What a power cut may leave.
    pub(super) harmless: Vec<String>,
    /// What it may not.
    pub(super) damage: Vec<String>,
}

/// Beginnings of lines (dosfstools 4.2) that say nothing, and what to call the others.
const SILENT: [&str; 7] = [
    "fsck.fat ",
    "Leaving filesystem unchanged",
    "Automatically removing dirty bit",
    "This is mostly harmless",
    "Not automatically fixing this",
    "Auto-",
    "Using first FAT",
];
/// Traces that are harmless wherever they are.
const HARMLESS: [(&str, &str); 6] = [
    ("Dirty bit is set", "dirty bit"),
    ("There are differences between boot sector and its backup", "dirty bit"),
    ("65:0", "dirty bit"),
    ("Free cluster summary", "free cluster count"),
    ("Reclaimed ", "lost clusters"),
    ("FATs differ but appear to be intact", "second FAT behind"),
];

/// What two names of one release are called.
pub(super) const SECOND_NAME: &str = "second name of a release";

/// Checks a file with a FAT file system; changes nothing.
pub(super) fn check(esp: &Path) -> Result<Verdict> {
    let out = Command::new("fsck.fat")
        .arg("-n")
        .arg(esp)
        .stdin(Stdio::null())
        .output()
        .context("cannot start fsck.fat; `cargo xtask setup` installs dosfstools")?;
    let text = [out.stdout, out.stderr].concat();
    Ok(read(&String::from_utf8_lossy(&text)))
}

/// Reads the output. A line that begins with `/` names what the indented lines below it are about.
fn read(text: &str) -> Verdict {
    let new = [
        format!("/{}/{NEW_FILE}", paths::ESP_LINUX),
        format!("/{}/{}", paths::ESP_ENTRIES, menu::NEW_FILE),
    ];
    let mut verdict = Verdict::default();
    let mut subjects: Vec<&str> = Vec::new();
    let mut said_something = false;
    for line in text.lines() {
        let words = line.trim();
        if let Some(path) =
            words.strip_suffix(" and").or(Some(words)).filter(|w| w.starts_with('/'))
        {
            if said_something {
                subjects.clear();
                said_something = false;
            }
            subjects.push(path.trim_end());
            continue;
        }
        if !line.starts_with(' ') {
            subjects.clear();
        }
        said_something = true;
        let is_summary = words.contains(" files, ") && words.ends_with(" clusters");
        if words.is_empty() || is_summary || SILENT.iter().any(|start| words.starts_with(start)) {
            continue;
        }
        let is_known = verdict.harmless.iter().any(|name| name == SECOND_NAME);
        if is_second_name(words, &subjects, is_known) {
            verdict.harmless.push(SECOND_NAME.into());
        } else if let Some((_, name)) = HARMLESS.iter().find(|(start, _)| words.starts_with(start))
        {
            verdict.harmless.push((*name).into());
        } else if !subjects.is_empty()
            && subjects.iter().all(|path| new.iter().any(|new| new == path))
        {
            verdict.harmless.push("unfinished .new".into());
        } else {
            verdict.damage.push(format!("fsck.fat: {} {words}", subjects.join(" and ")));
        }
    }
    verdict.harmless.dedup();
    verdict
}

/// True for what is said of two names of one release: a change of a name that was cut between two sectors of the
/// folder leaves them, and the next boot removes one before it mounts the ESP. That the bytes behind each name are the
/// release's is looked at elsewhere. `fsck.fat` calls the second `FSCK0000.000` where both have one short name, and takes
/// its clusters away before it looks on.
fn is_second_name(words: &str, subjects: &[&str], is_known: bool) -> bool {
    const CONSEQUENCES: [&str; 2] = ["File size is ", "Truncating file to 0 bytes."];
    const SAID: [&str; 6] = [
        "share clusters.",
        "Truncating second to 0 bytes.",
        "Duplicate directory entry.",
        "First ",
        "Second ",
        "Renamed to FSCK",
    ];
    let release = |path: &&str| {
        let name = path.strip_prefix(&format!("/{}/", paths::ESP_LINUX))?;
        if name.starts_with("FSCK") {
            return Some(None);
        }
        slots::parse_file_name(name).map(|(version, _)| Some(version))
    };
    let releases: Option<BTreeSet<_>> = subjects.iter().map(release).collect();
    let versions = releases.map(|releases| releases.into_iter().flatten().count());
    let begins = |with: &&str| words.starts_with(*with);
    versions.is_some_and(|count| count <= 1)
        && !subjects.is_empty()
        && (SAID.iter().any(begins) || is_known && CONSEQUENCES.iter().any(begins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_of_a_cut_are_told_from_damage() {
        let verdict = read(
            "fsck.fat 4.2 (2021-01-31)\nThere are differences between boot sector and its backup.\n\
             This is mostly harmless. Differences: (offset:original/backup)\n  65:01/00\n  \
             Not automatically fixing this.\nDirty bit is set. Fs was not properly unmounted and \
             some data may be corrupt.\n Automatically removing dirty bit.\n/EFI/Linux/.new\n  File \
             size is 40 bytes, cluster chain length is 0 bytes.\n  Truncating file to 0 bytes.\n\
             Reclaimed 9 unused clusters (36864 bytes) in 1 chain.\nLeaving filesystem unchanged.\n\
             esp.img: 9 files, 100/200 clusters\n",
        );
        assert_eq!(verdict.damage, [""; 0]);
        assert!(verdict.harmless.contains(&"unfinished .new".into()));
    }

    #[test]
    fn two_names_of_one_release_are_told_from_two_releases_that_share_clusters() {
        let second = "  share clusters.\n  Truncating second to 0 bytes.\n/EFI/Linux/goblinux_1+2-1.efi\n  \
                      File size is 9 bytes, cluster chain length is 0 bytes.\n  Truncating file to 0 bytes.\n";
        let of =
            |first: &str| read(&format!("{first}  and\n/EFI/Linux/goblinux_1+2-1.efi\n{second}"));
        let verdict = of("/EFI/Linux/goblinux_1.efi");
        assert_eq!((verdict.harmless.len(), verdict.damage), (1, vec![]));
        assert_eq!(of("/EFI/Linux/goblinux_2.efi").damage.len(), 4);
        assert!(!of("/EFI/BOOT/BOOTX64.EFI").damage.is_empty());
        let alike = read(
            "/EFI/Linux/goblinux_3+2-1.efi\n  Duplicate directory entry.\n  First    Size 9 bytes, date 13:20:22\n  \
             Second   Size 9 bytes, date 13:20:22\n  Renamed to FSCK0000.000\n/EFI/Linux/goblinux_3+2-1.efi  and\n\
             /EFI/Linux/FSCK0000.000\n  share clusters.\n  Truncating second to 0 bytes.\n",
        );
        assert_eq!(alike.damage, [""; 0]);
        let short =
            "/EFI/Linux/goblinux_1.efi\n  File size is 9 bytes, cluster chain length is 0 bytes.\n";
        assert_eq!(read(short).damage.len(), 1);
    }

    #[test]
    fn a_damaged_release_is_damage_even_when_the_new_one_shares_it() {
        let shared = "/EFI/Linux/.new and\n/EFI/Linux/goblinux_1.efi\n  share clusters.\n";
        assert_eq!(read(shared).damage.len(), 1);
        let other = "/EFI/Linux/.new\n  Truncating file to 0 bytes.\n/loader/loader.conf\n  Bad.\n";
        let verdict = read(other);
        assert_eq!((verdict.harmless.len(), verdict.damage.len()), (1, 1));
        assert_eq!(read("Something new was found\n").damage.len(), 1);
    }
}
