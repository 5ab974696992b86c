//! Keeps one share mounted: absent -link up-> mounted -loss-> absent, with a pause that grows.

use crate::connection::{Connection, LossError};
use goblin_core_config::ShareSection;
use goblin_core_types::{LinkState, LinkStatus, MountStatus, paths};
use std::net::SocketAddrV6;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

/// Pause after the first failure, and the shortest look at the link.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause between tries.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Pause between looks at the link while the share is mounted.
const WATCH: Duration = Duration::from_secs(1);
/// Pause between probes of a mounted share.
const PROBE: Duration = Duration::from_secs(10);

/// Runs until nobody takes the reports any more.
pub fn run(share: &ShareSection, reports: &SyncSender<MountStatus>) {
    let target = PathBuf::from(paths::SHARES).join(&share.name);
    let report = |problem| reports.send(crate::status(&share.name, problem)).is_ok();
    let mut pause = PAUSE_MIN;
    loop {
        let link = goblin_sys::state::read::<LinkStatus>("link").unwrap_or_default();
        let Some(address) = goblin_sys::peer::address(&link, paths::PORT_SHARES) else {
            if !report(Some(absence(&link).into())) {
                return;
            }
            pause = PAUSE_MIN;
            thread::sleep(PAUSE_MIN);
            continue;
        };
        let mounted_at = Instant::now();
        let Err(loss) = keep(share, address, &target, || report(None));
        if !report(Some(loss.to_string())) {
            return;
        }
        // A share that held for a while was fine: its loss is news, not one more failure.
        pause = if mounted_at.elapsed() > PAUSE_MAX { PAUSE_MIN } else { longer(pause) };
        thread::sleep(pause);
    }
}

/// Mounts the share and stays until it is lost. The mount is gone when this returns.
fn keep(
    share: &ShareSection,
    address: SocketAddrV6,
    target: &Path,
    mounted: impl FnOnce() -> bool,
) -> Result<std::convert::Infallible, LossError> {
    let connection = Connection::open(address, &share.name, share.read_only, target)?;
    mounted();
    let mut probed_at = Instant::now();
    loop {
        connection.watch(WATCH)?;
        let link = goblin_sys::state::read::<LinkStatus>("link").unwrap_or_default();
        // Calls must not hang until the kernel gives the connection up: the hellos say it sooner.
        if goblin_sys::peer::address(&link, paths::PORT_SHARES) != Some(address) {
            return Err(LossError::Broken);
        }
        if probed_at.elapsed() >= PROBE {
            connection.probe()?;
            probed_at = Instant::now();
        }
    }
}

fn longer(pause: Duration) -> Duration {
    pause.saturating_mul(2).min(PAUSE_MAX)
}

fn absence(link: &LinkStatus) -> &'static str {
    match link.state {
        LinkState::Searching => "the storage board has not been heard yet",
        LinkState::Lost => "the storage board has fallen silent",
        LinkState::Conflict => "both boards claim the same role",
        LinkState::Foreign => "the board at the other end belongs to another box",
        LinkState::Up => "the storage board has no usable link-local address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut pause = PAUSE_MIN;
        for _ in 0..20 {
            pause = longer(pause);
        }
        assert_eq!(pause, PAUSE_MAX);
    }
}
