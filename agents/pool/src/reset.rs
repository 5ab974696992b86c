//! A factory reset, carried out between the mount of STATE and everything that reads it.
//!
//! What goes is `goblin_core_update::reset`'s to say; here it is removed. The order is in the boot record until
//! all of it is gone from the disk. A reset that fails costs no boot: the board comes up as it is and says so.

use goblin_core_types::{ResetLevel, paths};
use goblin_core_update::reset::{self, Fate};
use goblin_sys::record::{self, RecordPartition};
use goblin_sys::{clock, files};
use std::fs::File;
use std::io;
use std::path::Path;

/// Longest command line of a kernel in bytes.
const COMMAND_LINE_BYTES_MAX: usize = 4096;
/// Deepest folder of STATE that is divided.
const DEPTH_MAX: usize = 4;

/// Carries out what the boot record or the kernel's command line orders, if they do.
pub(crate) fn carry_out() {
    let partition = match record::find() {
        Ok(Some(partition)) => partition,
        Ok(None) => return,
        Err(err) => {
            tracing::warn!(%err, "whether a factory reset was ordered cannot be read");
            return;
        }
    };
    let line = files::read_bounded(Path::new("/proc/cmdline"), COMMAND_LINE_BYTES_MAX);
    let line = line.unwrap_or_default();
    match carry_out_in(&partition, Path::new(paths::STATE), &String::from_utf8_lossy(&line)) {
        Ok(None) => {}
        Ok(Some(level)) => tracing::info!(%level, "factory reset done"),
        Err(err) => tracing::error!(%err, "the factory reset could not be done"),
    }
}

/// Answers how much was reset.
fn carry_out_in(
    partition: &RecordPartition,
    state: &Path,
    command_line: &str,
) -> io::Result<Option<ResetLevel>> {
    if let Some(level) = reset::on_command_line(command_line) {
        let at_unix_s = clock::now_unix().as_secs();
        let why = "ordered on the kernel's command line";
        let ordered = partition.update(|record| reset::order(record, level, why, at_unix_s))?;
        if let Err(refused) = ordered {
            tracing::warn!(%refused, "the factory reset of the command line is refused");
        }
    }
    // Reading alone, for nearly every boot has nothing to write here.
    if partition.read()?.reset.is_none() {
        return Ok(None);
    }
    let Some(level) = partition.update(reset::begin)? else { return Ok(None) };
    tracing::warn!(%level, "factory reset: removing what people set and the board gathered");
    if let Err(err) = remove_all(state, level) {
        let reason = err.to_string();
        partition.update(|record| reset::failed(record, &reason))?;
        return Err(err);
    }
    partition.update(reset::done)?;
    Ok(Some(level))
}

/// Removes everything that goes, durably.
fn remove_all(state: &Path, level: ResetLevel) -> io::Result<()> {
    remove_in(state, "", level, DEPTH_MAX)?;
    rustix::fs::syncfs(File::open(state)?)?;
    Ok(())
}

fn remove_in(state: &Path, folder: &str, level: ResetLevel, depth: usize) -> io::Result<()> {
    // Listed first: what a listing says while entries go is not defined.
    let entries = std::fs::read_dir(state.join(folder))?.collect::<io::Result<Vec<_>>>()?;
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") };
        // Not followed: a link is an entry like any other.
        let is_dir = entry.file_type()?.is_dir();
        let named = |err: io::Error| io::Error::new(err.kind(), format!("{path}: {err}"));
        match reset::fate(level, &path) {
            Fate::Stays => {}
            Fate::Divided if is_dir && depth > 0 => {
                remove_in(state, &path, level, depth.saturating_sub(1))?;
            }
            Fate::Divided => {}
            Fate::Goes if is_dir => std::fs::remove_dir_all(entry.path()).map_err(named)?,
            Fate::Goes => std::fs::remove_file(entry.path()).map_err(named)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Board {
        dir: tempfile::TempDir,
    }

    impl Board {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            File::create(dir.path().join("record"))
                .unwrap()
                .set_len(goblin_image::record::RECORD_BYTES)
                .unwrap();
            let board = Self { dir };
            for file in [
                "config/provision.toml",
                "config/access.json",
                "config/units/share.toml",
                "update/settings.json",
                "update/blobs/aa",
                "journal/1.gj",
                "pool/memory.json",
            ] {
                let path = board.state().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "x").unwrap();
            }
            board
        }

        fn state(&self) -> std::path::PathBuf {
            self.dir.path().join("state")
        }

        fn record(&self) -> RecordPartition {
            RecordPartition::open(&self.dir.path().join("record")).unwrap()
        }

        fn order(&self, level: ResetLevel) {
            self.record().update(|r| reset::order(r, level, "test", 1)).unwrap().unwrap();
        }

        fn boot(&self, command_line: &str) -> Option<ResetLevel> {
            carry_out_in(&self.record(), &self.state(), command_line).unwrap()
        }

        fn has(&self, file: &str) -> bool {
            self.state().join(file).exists()
        }
    }

    #[test]
    fn nothing_goes_unasked_and_an_order_is_carried_out_once() {
        let board = Board::new();
        assert_eq!(board.boot("quiet"), None);
        assert!(board.has("config/access.json"));
        board.order(ResetLevel::Settings);
        assert_eq!(board.boot("quiet"), Some(ResetLevel::Settings));
        assert!(!board.has("config/access.json") && !board.has("update/settings.json"));
        assert!(board.has("config/provision.toml") && board.has("journal/1.gj"));
        fs::write(board.state().join("config/access.json"), "new").unwrap();
        assert_eq!(board.boot("quiet"), None);
        assert!(board.has("config/access.json"));
        assert!(board.record().read().unwrap().last_reset.unwrap().done);
    }

    #[test]
    fn everything_but_the_memory_of_the_pool_goes_and_links_are_not_followed() {
        let board = Board::new();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("data"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), board.state().join("link")).unwrap();
        assert_eq!(board.boot("quiet goblin.reset=all"), Some(ResetLevel::All));
        let left: Vec<_> = fs::read_dir(board.state()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert!(board.has("pool/memory.json") && outside.path().join("data").exists());
    }

    #[test]
    fn a_boot_that_was_cut_off_in_the_middle_is_taken_up_by_the_next() {
        let board = Board::new();
        board.order(ResetLevel::System);
        board.record().update(reset::begin).unwrap().unwrap();
        fs::remove_dir_all(board.state().join("journal")).unwrap();
        assert!(board.record().read().unwrap().reset.is_some());
        assert_eq!(board.boot(""), Some(ResetLevel::System));
        assert!(board.has("config/provision.toml") && !board.has("update"));
    }

    #[test]
    fn a_reset_that_fails_is_told_and_given_up_after_three_boots() {
        let board = Board::new();
        board.order(ResetLevel::All);
        fs::remove_dir_all(board.state()).unwrap();
        for _ in 0..reset::TRIES_MAX {
            assert!(carry_out_in(&board.record(), &board.state(), "").is_err());
        }
        assert_eq!(board.boot(""), None);
        let report = board.record().read().unwrap().last_reset.unwrap();
        assert!(!report.done, "{report:?}");
    }
}
