//! A factory reset from the boot menu, on a whole board: the board asks on its own screen, a person goes through the
//! question with the keyboard, and the board does what was chosen, and no more.

use crate::bench::{board, write_provision};
use anyhow::{Context, Result, ensure};
use goblin_core_types::{ResetLevel, Role, Version, reset_entry_name};
use goblin_tests::qemu::Board;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xtask::image::LOADER_CONF;
use xtask::lab::{self, BOOT_LIMIT, Lab};

const LIMIT: Duration = Duration::from_secs(120);
/// How far into the disk the loader's file is looked for; it is among the first that the ESP got.
const SEARCHED_BYTES: usize = 64 << 20;

/// The compute board, which is off, is started from the entry "Factory reset" and taken back to where it wants
/// a provisioning file again. It gets it, and the box is whole.
pub fn everything_is_reset_from_the_boot_menu(lab: &Lab) -> Result<Board> {
    let loader = LoaderFile::find(&lab.spec().disk(Role::Compute))?;
    loader.choose(&reset_entry_name(Version::new(1, 0, 0)))?;
    let mut compute = lab.start(Role::Compute)?;
    let channel = compute.channel()?;
    channel.wait_status("the board is up by the reset's entry", BOOT_LIMIT, &mut |status| {
        board(status, Role::Compute).is_some_and(|board| board.boot.entry.starts_with("reset_"))
    })?;
    // The next start is one as ever.
    loader.restore()?;
    let wait = |words: &str| lab::wait_screen(&channel, |text| text.contains(words));
    wait("Factory reset of this board?")?;
    // Each question stands on what changes nothing.
    for key in ["right", "ret"] {
        compute.qmp().press(key)?;
    }
    wait("It has to be provisioned again")?;
    for key in ["down", "down", "ret"] {
        compute.qmp().press(key)?;
    }
    wait("It cannot be undone")?;
    let before = compute.serial.position();
    for key in ["right", "ret"] {
        compute.qmp().press(key)?;
    }
    for words in ["provision ready: ", "no provisioning file"] {
        compute.serial.wait_from(before, words, BOOT_LIMIT)?;
    }
    compute.power_off(LIMIT)?;
    write_provision(lab.spec(), Role::Compute, lab.pair.compute.as_bytes())?;
    let compute = lab.start(Role::Compute)?;
    let status = lab::wait_both(&compute.channel()?, Version::new(1, 0, 0), BOOT_LIMIT)?;
    let report = board(&status, Role::Compute).and_then(|board| board.boot.last_reset.as_ref());
    let report = report.context("the board does not know of its reset")?;
    ensure!(report.level == ResetLevel::All, "{report:?}");
    println!("reset from the boot menu: {report:?}");
    Ok(compute)
}

/// `loader.conf` on the ESP of a board that does not write to it.
#[derive(Debug)]
struct LoaderFile {
    disk: PathBuf,
    at: u64,
}

impl LoaderFile {
    /// The file by its words: it is one piece, and nothing else has them.
    fn find(disk: &Path) -> Result<Self> {
        let mut start = vec![0; SEARCHED_BYTES];
        std::fs::File::open(disk)?.read_exact_at(&mut start, 0)?;
        let words = LOADER_CONF.as_bytes();
        let mut places = (0..start.len())
            .step_by(512)
            .filter(|at| start.get(*at..).is_some_and(|rest| rest.starts_with(words)));
        let at = places.next().context("the disk has no loader.conf")?;
        ensure!(places.next().is_none(), "the disk has more than one loader.conf");
        Ok(Self { disk: disk.into(), at: at as u64 })
    }

    /// Has the loader start an entry, as a person would from the menu, without a key at the right moment.
    fn choose(&self, entry: &str) -> Result<()> {
        let words = format!("timeout 0\ndefault {entry}\n");
        ensure!(words.len() <= LOADER_CONF.len(), "the file has no room for {entry}");
        self.put(format!("{words:\n<width$}", width = LOADER_CONF.len()).as_bytes())
    }

    fn restore(&self) -> Result<()> {
        self.put(LOADER_CONF.as_bytes())
    }

    fn put(&self, words: &[u8]) -> Result<()> {
        let disk = std::fs::File::options().write(true).open(&self.disk)?;
        Ok(disk.write_all_at(words, self.at)?)
    }
}
