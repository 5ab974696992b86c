//! A factory reset, carried out between the mount of STATE and everything that reads it.
//!
//! What goes is `goblin_core_update::reset`'s to say; here it is removed. The order is in the boot record until
//! all of it is gone from the disk. A reset that fails costs no boot: the board comes up as it is and says so.

use goblin_core_types::{ResetLevel, paths};
use goblin_core_update::reset::{self, Fate};
use goblin_sys::record::{self, RecordPartition};
use goblin_sys::writer::Writer;
use goblin_sys::{clock, files};
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
    let (state, line) = (Path::new(paths::STATE), String::from_utf8_lossy(&line));
    match carry_out_in(&partition, state, &line, &Writer::default()) {
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
    writer: &Writer,
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
    if let Err(err) = remove_all(state, level, writer) {
        let reason = err.to_string();
        partition.update(|record| reset::failed(record, &reason))?;
        return Err(err);
    }
    partition.update(reset::done)?;
    Ok(Some(level))
}

/// Removes everything that goes, durably.
fn remove_all(state: &Path, level: ResetLevel, writer: &Writer) -> io::Result<()> {
    remove_in((state, level, writer), "", DEPTH_MAX)?;
    writer.sync_all(state)
}

fn remove_in(what: (&Path, ResetLevel, &Writer), folder: &str, depth: usize) -> io::Result<()> {
    let (state, level, writer) = what;
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
                remove_in(what, &path, depth.saturating_sub(1))?;
            }
            Fate::Divided => {}
            Fate::Goes if is_dir => writer.remove_tree(&entry.path()).map_err(named)?,
            Fate::Goes => writer.remove(&entry.path()).map_err(named)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_sys::writer::{Change, Witness};
    use std::collections::BTreeSet;
    use std::fs::{self, File};
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};

    /// What a reset did to the disks, in order.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Did {
        Recorded,
        Removed(PathBuf),
        Waited(PathBuf),
    }

    #[derive(Debug, Default)]
    struct Tape(Mutex<Vec<Did>>);

    impl Witness for Tape {
        fn saw(&self, change: Change<'_>) {
            self.0.lock().unwrap().push(match change {
                Change::Write(..) => Did::Recorded,
                Change::Remove(path) => Did::Removed(path.into()),
                Change::SyncFile(path) | Change::SyncAll(path) => Did::Waited(path.into()),
                other => panic!("a reset makes nothing: {other:?}"),
            });
        }
    }

    const FILES: [&str; 7] = [
        "config/provision.toml",
        "config/access.json",
        "config/units/share.toml",
        "update/settings.json",
        "update/blobs/aa",
        "journal/1.gj",
        "pool/memory.json",
    ];

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
            for file in FILES {
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
            let writer = Writer::default();
            carry_out_in(&self.record(), &self.state(), command_line, &writer).unwrap()
        }

        /// Boots with everything taken down.
        fn taped(&self) -> Vec<Did> {
            let tape = Arc::new(Tape::default());
            let writer = Writer::watched(tape.clone());
            let record = self.record().counted_by(writer.clone());
            carry_out_in(&record, &self.state(), "", &writer).unwrap().unwrap();
            tape.0.lock().unwrap().clone()
        }

        /// Every file of STATE that is left.
        fn left(&self) -> BTreeSet<String> {
            FILES.iter().filter(|file| self.has(file)).map(|file| (*file).to_owned()).collect()
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
    fn the_order_leaves_the_record_only_after_the_disk_has_lost_what_goes() {
        for level in ResetLevel::ALL {
            let board = Board::new();
            board.order(level);
            let did = board.taped();
            let record = board.dir.path().join("record");
            let removed = did.iter().filter(|did| matches!(did, Did::Removed(_))).count();
            assert!(removed > 0);
            let (begun, rest) = did.split_at(2);
            assert_eq!(begun, [Did::Recorded, Did::Waited(record.clone())], "{level}");
            let (gone, end) = rest.split_at(removed);
            assert!(gone.iter().all(|did| matches!(did, Did::Removed(_))), "{level}: {did:?}");
            let wanted = [Did::Waited(board.state()), Did::Recorded, Did::Waited(record)];
            assert_eq!(end, wanted, "{level}: what goes is waited for, then the record is told");
        }
    }

    #[test]
    fn a_power_cut_after_any_removal_of_any_level_is_made_good_by_the_next_boot() {
        for level in ResetLevel::ALL {
            let whole = Board::new();
            whole.order(level);
            let did = whole.taped();
            let gone: Vec<&PathBuf> = did
                .iter()
                .filter_map(|did| match did {
                    Did::Removed(path) => Some(path),
                    _ => None,
                })
                .collect();
            // A disk may have lost any of them when the power went.
            for lost in 0u32..1 << gone.len() {
                let board = Board::new();
                board.order(level);
                board.record().update(reset::begin).unwrap().unwrap();
                for (_, path) in gone.iter().enumerate().filter(|(at, _)| lost >> at & 1 == 1) {
                    let path = board.state().join(path.strip_prefix(whole.state()).unwrap());
                    fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap();
                }
                assert_eq!(board.boot(""), Some(level), "{lost:b}");
                assert_eq!(board.left(), whole.left(), "{level}, {lost:b}");
                assert!(
                    board.has("pool/memory.json") && board.record().read().unwrap().reset.is_none()
                );
            }
        }
    }

    #[test]
    fn nothing_but_state_is_touched_and_of_it_nothing_of_the_pool() {
        for level in ResetLevel::ALL {
            let board = Board::new();
            // The pool as a board has it: beside STATE, and linked to from within.
            let pool = board.dir.path().join("pool");
            fs::create_dir(&pool).unwrap();
            fs::write(pool.join("photos"), "x").unwrap();
            for link in ["journal/pool", "pool/disks", "pool-by-name"] {
                std::os::unix::fs::symlink(&pool, board.state().join(link)).unwrap();
            }
            board.order(level);
            for did in board.taped() {
                if let Did::Removed(path) = did {
                    let below = path.strip_prefix(board.state()).unwrap();
                    assert!(!below.starts_with("pool"), "{level}: {}", path.display());
                }
            }
            assert!(board.has("pool/memory.json") && board.has("pool/disks"), "{level}");
            assert_eq!(fs::read(pool.join("photos")).unwrap(), b"x", "{level}");
        }
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
            let writer = Writer::default();
            assert!(carry_out_in(&board.record(), &board.state(), "", &writer).is_err());
        }
        assert_eq!(board.boot(""), None);
        let report = board.record().read().unwrap().last_reset.unwrap();
        assert!(!report.done, "{report:?}");
    }
}
