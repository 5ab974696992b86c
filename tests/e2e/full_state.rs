//! Changes a board's STATE from outside, as another computer that holds its disk would.

use anyhow::{Context, Result, ensure};
use goblin_core_types::paths;
use goblin_image::gpt::{self, Partition};
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that takes the room.
const FILLER: &str = "filler";
/// Size of the filler. A file system made just large enough for it keeps about half as much again free: less
/// than the updater's reserve, for the release itself may be a few hundred bytes away.
const FILLER_BYTES: u64 = 8 << 20;
/// Bytes moved at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Leaves hardly any room in STATE of a board that is off.
pub fn fill(disk: &Path, work: &Path) -> Result<()> {
    let state = State::take(disk, work)?;
    File::create(state.content.join(FILLER))?.set_len(FILLER_BYTES)?;
    state.make(&["--shrink"])?;
    state.put()
}

/// Puts a file below `config` of a board that is off, whatever is in it.
pub fn put_config(disk: &Path, work: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let state = State::take(disk, work)?;
    let path = state.content.join("config").join(name);
    std::fs::create_dir_all(path.parent().context("no folder")?)?;
    std::fs::write(path, bytes)?;
    state.make(&[])?;
    state.put()
}

/// Takes away what [`fill`] brought, and leaves what the board wrote meanwhile.
pub fn empty(disk: &Path, work: &Path) -> Result<()> {
    let state = State::take(disk, work)?;
    std::fs::remove_file(state.content.join(FILLER))?;
    state.make(&[])?;
    state.put()
}

/// STATE of a board that is off: its content in a folder, from which it is made anew.
#[derive(Debug)]
struct State {
    disk: PathBuf,
    partition: Partition,
    content: PathBuf,
    image: PathBuf,
}

impl State {
    /// Takes the content of STATE out of a system disk.
    fn take(disk: &Path, work: &Path) -> Result<Self> {
        let table = gpt::parse(&mut File::open(disk)?)?.gpt;
        let partition = table.by_name(paths::PART_STATE).context("the disk has no STATE")?.clone();
        let (content, image) = (work.join("state"), work.join("state.img"));
        let from = File::open(disk)?;
        let to = File::create(&image)?;
        to.set_len(partition.size_bytes())?;
        copy(&from, partition.offset_bytes(), &to, 0, partition.size_bytes())?;
        if content.exists() {
            std::fs::remove_dir_all(&content)?;
        }
        std::fs::create_dir_all(&content)?;
        run(Command::new("btrfs").args(["restore", "-m", "-x", "-S"]).args([&image, &content]))?;
        ensure!(content.join("config").is_dir(), "STATE came out without its folders");
        Ok(Self { disk: disk.into(), partition, content, image })
    }

    fn make(&self, more: &[&str]) -> Result<()> {
        File::create(&self.image)?.set_len(self.partition.size_bytes())?;
        let options = ["--quiet", "--label", "goblin-state", "--data", "single", "--rootdir"];
        let mut mkfs = Command::new("mkfs.btrfs");
        run(mkfs.args(more).args(options).args([&self.content, &self.image]))?;
        // It takes a file that is too small as an invitation to make it larger.
        let made = std::fs::metadata(&self.image)?.len();
        ensure!(made <= self.partition.size_bytes(), "STATE's content needs {made} bytes");
        Ok(())
    }

    fn put(&self) -> Result<()> {
        let from = File::open(&self.image)?;
        let to = File::options().write(true).open(&self.disk)?;
        let bytes = from.metadata()?.len();
        copy(&from, 0, &to, self.partition.offset_bytes(), bytes)
    }
}

/// Copies, with holes where there are only zeros.
fn copy(from: &File, from_at: u64, to: &File, to_at: u64, bytes: u64) -> Result<()> {
    let mut piece = vec![0; CHUNK_BYTES];
    let mut done = 0;
    while done < bytes {
        let length = usize::try_from((bytes - done).min(CHUNK_BYTES as u64))?;
        let piece = piece.get_mut(..length).context("a piece is too long")?;
        from.read_exact_at(piece, from_at + done)?;
        if piece.iter().all(|&byte| byte == 0) {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(to, hole, to_at + done, length as u64)?;
        } else {
            to.write_all_at(piece, to_at + done)?;
        }
        done += length as u64;
    }
    Ok(())
}

/// Runs a program of the host; what it said is in the error.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
