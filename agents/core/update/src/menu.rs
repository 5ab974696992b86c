//! The boot menu's entry that asks for a factory reset. Pure.
//!
//! It is a file beside the UKIs (UAPI boot loader specification, type 1) that starts the UKI of the release that
//! wrote it, unchanged; the release sees in the loader's variable by which entry it was started, and asks. It
//! names the UKI as only a blessed one is called: on trial, set aside or deleted, there is no such file, and the
//! loader does not list the entry. So whenever it is listed a blessed UKI is listed too, and that one comes
//! first, for the entry has no sort key: the loader never starts the entry unasked.
//!
//! The release that runs writes its own entry once it is blessed, and removes those of others. Until then that of
//! the release before stays, and works as long as that one is blessed.

use crate::slots;
use goblin_core_types::{SlotState, Version, paths, reset_entry_name, reset_entry_version};

/// Where an entry is written before it gets its name; the loader ignores it.
pub const NEW_FILE: &str = ".new";

/// The words of a release's entry.
pub fn entry_text(version: Version) -> String {
    let uki = slots::file_name(version, SlotState::Good);
    let folder = paths::ESP_LINUX;
    format!("title Factory reset (asks first)\nversion {version}\nefi /{folder}/{uki}\n")
}

/// What has to change among the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The entry to write: its name and its words.
    pub write: Option<(String, String)>,
    /// Names to remove, after that.
    pub remove: Vec<String>,
}

/// What has to change so that the entry of the running release alone is there. `present` is the text of that one
/// as it is now, `names` everything in the folder; files of others stay.
pub fn change(running: Version, present: Option<&[u8]>, names: &[String]) -> Change {
    let (name, text) = (reset_entry_name(running), entry_text(running));
    let is_stale = |found: &&String| {
        *found == NEW_FILE || (**found != name && reset_entry_version(found).is_some())
    };
    let remove = names.iter().filter(is_stale).cloned().collect();
    let is_right = present == Some(text.as_bytes());
    Change { write: (!is_right).then_some((name, text)), remove }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(n: u32) -> Version {
        Version::new(n, 0, 0)
    }

    #[test]
    fn entry_starts_a_release_by_the_name_it_has_once_it_is_good() {
        let text = entry_text(v(2));
        assert!(text.contains("\nefi /EFI/Linux/goblinux_2.efi\n"), "{text}");
        assert!(!text.contains("sort-key"), "it would come before the releases");
    }

    #[test]
    fn own_entry_is_written_once_and_those_of_other_releases_go() {
        let names = ["reset_1.conf", "reset_2.conf", ".new", "memtest.conf", "reset_x.conf"];
        let names = names.map(str::to_owned);
        let text = entry_text(v(2));
        let written = change(v(2), Some(b"half"), &names);
        assert_eq!(written.write, Some(("reset_2.conf".into(), text.clone())));
        assert_eq!(written.remove, ["reset_1.conf", ".new"]);
        let settled = change(v(2), Some(text.as_bytes()), &["reset_2.conf".to_owned()]);
        assert_eq!(settled, Change::default());
    }
}
