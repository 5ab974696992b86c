//! What `run` prints.

use super::shown;
use crate::lab::{Lab, SHARE};
use crate::{release, sources};
use goblin_core_types::{BoardStatus, BoxStatus, CheckState, HealthState, Role, Version};
use std::path::Path;

/// What the words are about.
pub(super) struct View<'a> {
    pub(super) lab: &'a Lab,
    pub(super) headless: bool,
    /// Where the person is: paths are shown from there.
    pub(super) shown_from: &'a Path,
}

/// Both boards in one line.
pub(super) fn summary(status: &BoxStatus) -> String {
    let mut parts: Vec<String> = status.boards.iter().map(board_line).collect();
    parts.extend(status.absent.iter().cloned());
    parts.join("   ")
}

fn board_line(board: &BoardStatus) -> String {
    let role = board.role.map_or("board", Role::as_str);
    let version = board.boot.version.map_or_else(|| "?".into(), |version| version.to_string());
    let state = match board.health.state {
        HealthState::Starting => "starting",
        HealthState::Healthy => "healthy",
        HealthState::Degraded => "degraded",
        HealthState::Failing => "failing",
    };
    let trial = if board.boot.trial { ", on trial" } else { "" };
    let wrong = board
        .health
        .checks
        .iter()
        .find(|check| check.state == CheckState::Fail)
        .map(|check| format!(" ({}: {})", check.name, check.detail))
        .unwrap_or_default();
    format!("{role}: {state}, release {version}{trial}{wrong}")
}

/// The one screen: what is running and what to try.
pub(super) fn screen(view: &View<'_>, status: &BoxStatus) -> String {
    let dir = &view.lab.spec().dir;
    let ports = view.lab.ports;
    let console = if view.headless {
        "no VNC (--headless); cargo xtask goblin screen".to_string()
    } else {
        format!("VNC at 127.0.0.1:{}  (display :{})", 5900 + ports.vnc_display, ports.vnc_display)
    };
    let boards: String = status.boards.iter().map(|b| format!("  {}\n", board_line(b))).collect();
    let absent: String = status.absent.iter().map(|word| format!("  {word}\n")).collect();
    format!(
        "
  goblinux: your box is running
  -----------------------------
{boards}{absent}
  The screen     {console}
  Enrol this PC  cargo xtask goblin client add      then, with the `goblin` of `cargo xtask build`:
                 sudo goblin login 127.0.0.1:{port} CODE
  Mount a share  sudo goblin mount 127.0.0.1:{port}:{SHARE} /mnt
  Ask the box    cargo xtask goblin status        (also: log, logs, units, --help)
  {upgrade}
  Go back        cargo xtask goblin rollback
  Logs           {dir}/compute.serial.log, {dir}/storage.serial.log
  Disks          {dir}/*.img, kept between runs (--fresh starts over)
  Stop           Ctrl-C
",
        port = ports.shares,
        upgrade = upgrade(view, status),
        dir = shown(view.shown_from, dir),
    )
}

/// How to bring something new into the box: what is published already, else the source as it is now.
fn upgrade(view: &View<'_>, status: &BoxStatus) -> String {
    let repository = view.lab.spec().dir.join("www");
    let running = status.boards.iter().filter_map(|board| board.boot.version).min();
    let Some((newest, uki)) = release::newest(&repository) else {
        return "Upgrade it     no release is published".into();
    };
    if running.is_some_and(|running| running < newest) {
        return format!("Upgrade it     cargo xtask goblin upgrade       (to release {newest})");
    }
    let major: u32 =
        newest.to_string().split('.').next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let next = Version::new(major.saturating_add(1), 0, 0);
    let old = match sources::built_from_present(&uki) {
        Some(false) => format!(
            "The source has changed since release {newest} was built, which the box runs. To bring it \
             in:\n  "
        ),
        Some(true) | None => String::new(),
    };
    format!(
        "{old}Upgrade it     cargo xtask release --version {next} --notes \"my change\" --out {}\n\
         \x20                cargo xtask goblin upgrade",
        shown(view.shown_from, &repository)
    )
}
