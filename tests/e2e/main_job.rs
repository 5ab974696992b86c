//! The demonstration itself, on a folder with everything that makes copying hard.

use crate::bench::{folder, turn};
use anyhow::Result;
use rustix::fs::{CWD, FileType, Mode};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn hard_tree(root: &Path) -> Result<()> {
    std::fs::create_dir(root)?;
    std::fs::create_dir_all(root.join("deep/er/still"))?;
    std::fs::write(root.join("deep/er/still/file.txt"), "down here\n")?;
    std::fs::write(root.join(OsStr::from_bytes(b"not \xff utf-8")), b"bytes are names too")?;
    std::fs::write(root.join("n".repeat(255)), "the longest name")?;
    std::fs::write(root.join("empty"), "")?;
    std::fs::create_dir(root.join("empty dir"))?;
    std::fs::write(root.join("тест ✓ .txt"), "not ASCII")?;
    let big: Vec<u8> =
        (0..6_000_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(root.join("big"), big)?;
    for (name, mode) in [("read-only", 0o444), ("secret", 0o600), ("program", 0o755)] {
        std::fs::write(root.join(name), name)?;
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode))?;
    }
    symlink("deep/er", root.join("link"))?;
    symlink("nowhere at all", root.join("dangling"))?;
    symlink("/etc/passwd", root.join("absolute"))?;
    symlink(".", root.join("itself"))?;
    symlink("one another", root.join("each other"))?;
    symlink("each other", root.join("one another"))?;
    // Left out of the copy, and never opened: that would wait for ever.
    rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RWXU, 0)?;
    Ok(())
}

#[test]
fn the_main_job_holds_on_hard_files() -> Result<()> {
    let _turn = turn();
    let dir = folder("demo-input")?.join(OsStr::from_bytes(b"a folder, by \xff name"));
    hard_tree(&dir)?;
    let out = xtask::host::target("demo")?;
    xtask::demo::run(&xtask::demo::Args { input: dir, out: out.clone(), yes: true })?;
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("report.json"))?)?;
    assert_eq!(report["ok"], true);
    let figures = &report["figures"];
    let at_most = |name: &str, limit: u64| {
        let value = figures[name].as_u64().unwrap_or(0);
        assert!(value > 0 && value <= limit, "{name} is {value}, the budget is {limit}");
    };
    at_most("uki_bytes", 40 << 20);
    at_most("base_bytes", 64 << 20);
    at_most("executables", 12);
    at_most("pid1_rss_kib", 4096);
    at_most("storage_idle_kib", 128 * 1024);
    Ok(())
}
