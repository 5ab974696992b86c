//! Provisioning files that cannot be used: the board says why, on its own screen and serial line, and
//! waits for a good one.

use crate::bench::{folder, lab_spec, turn, write_provision};
use anyhow::{Context, Result};
use goblin_core_types::Role;
use goblin_tests::qemu::Board;
use std::time::Duration;
use xtask::lab::{BOOT_LIMIT, Lab};

const OFF_LIMIT: Duration = Duration::from_secs(120);

/// Boots the compute board's disk after writing `text` as its provisioning file, and waits for a
/// serial line with each of `words`.
fn boot_with(lab: &Lab, text: &[u8], words: &[&str]) -> Result<()> {
    write_provision(lab.spec(), Role::Compute, text)?;
    let mut spec = lab.board_spec(Role::Compute);
    spec.cable = None;
    let board = Board::start(spec)?;
    for word in words {
        board
            .serial
            .wait_from(0, word, BOOT_LIMIT)
            .with_context(|| format!("with {} bytes of provisioning", text.len()))?;
    }
    board.power_off(OFF_LIMIT)
}

#[test]
fn an_unusable_file_is_named_and_nothing_is_taken_from_it() -> Result<()> {
    let _turn = turn();
    let dir = folder("prov")?;
    let (spec, ports) = lab_spec(&dir)?;
    let lab = Lab::prepare(spec, ports)?;
    let good = lab.pair.compute.clone();
    boot_with(&lab, b"", &["provision ready: ", "no provisioning file"])?;
    let sealed = goblin_core_config::seal(&good)?;
    let torn = sealed.get(..good.len() / 2).context("a short file")?;
    boot_with(&lab, torn, &["provision.toml"])?;
    let unknown = good.replacen("schema = 1", "schema = 1\ncolour = \"green\"", 1);
    boot_with(&lab, unknown.as_bytes(), &["colour"])?;
    boot_with(&lab, good.as_bytes(), &["goblin-init: ready"])?;
    // The board belongs to a box now: a file for another box is refused, and it stays what it is.
    let other = xtask::provision::make_pair(&lab.spec().pair_spec())?;
    boot_with(&lab, other.compute.as_bytes(), &["another box"])
}
