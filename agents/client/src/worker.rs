//! Keeps one share of the storage board mounted on the compute board.
//!
//! ```text
//!   absent -link up, connected-> mounted <-lost, back-> mounted, calls wait -patience over-> calls fail
//!      ^------------------------ mount taken away by somebody ----------------'
//! ```

use crate::dial;
use crate::kernel::{KernelMount, MountOptions};
use crate::relay::{News, Owner, Patience};
use goblin_core_config::{Provision, ShareSection};
use goblin_core_trust::PublicKey;
use goblin_core_types::{Greeting, LinkState, LinkStatus, MountStatus, paths};
use goblin_tls::{Identity, TlsStream};
use std::io;
use std::net::SocketAddrV6;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Pause after the first failure, and the shortest look at the link.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause between tries.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Pause between looks at the link while the share is mounted.
const WATCH: Duration = Duration::from_secs(1);
/// How long calls wait for the storage board: longer than its reboot takes.
const PATIENCE: Patience = Patience(Duration::from_secs(180));

/// The two ends of the link, from provisioning.
#[derive(Debug, Clone)]
pub struct Keys {
    me: Identity,
    storage: PublicKey,
}

impl Keys {
    /// Of a provisioning file.
    ///
    /// # Errors
    /// When a key in it cannot be used.
    pub fn of(provision: &Provision) -> io::Result<Self> {
        let me = Identity::from_seed(&provision.keys.board_private.0)?;
        let storage = PublicKey::from_bytes(provision.keys.peer_public.0)
            .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
        Ok(Self { me, storage })
    }

    /// Connects to the storage board wherever the link shows it now.
    fn dial(&self, last: &Mutex<Option<SocketAddrV6>>) -> io::Result<(TlsStream, Greeting)> {
        let link = link();
        let address = goblin_sys::peer::address(&link, paths::PORT_SHARES)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, absence(&link)))?;
        let socket = dial::to(address.into())?;
        let opened = dial::files("the storage board", &socket, &self.me, self.storage)?;
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        Ok(opened)
    }
}

fn link() -> LinkStatus {
    goblin_sys::state::read::<LinkStatus>("link").unwrap_or_default()
}

/// Runs until nobody takes the reports any more.
pub fn run(share: &ShareSection, keys: &Keys, reports: &SyncSender<MountStatus>) {
    let mut pause = PAUSE_MIN;
    loop {
        let started = Instant::now();
        let problem = match keep(share, keys, reports) {
            Ok(()) => "the mount was taken away; it is made again".to_owned(),
            Err(err) => err.to_string(),
        };
        if reports.send(crate::status(&share.name, Some(problem))).is_err() {
            return;
        }
        // A share that held for a while was fine: its loss is news, not one more failure.
        pause = if started.elapsed() > PAUSE_MAX { PAUSE_MIN } else { longer(pause) };
        if goblin_sys::peer::address(&link(), paths::PORT_SHARES).is_none() {
            // The cable may be put in at any moment.
            pause = PAUSE_MIN;
        }
        thread::sleep(pause);
    }
}

/// Mounts the share and stays until the mount is gone.
fn keep(share: &ShareSection, keys: &Keys, reports: &SyncSender<MountStatus>) -> io::Result<()> {
    let last = Arc::new(Mutex::new(None));
    let first = keys.dial(&last)?;
    let options = MountOptions {
        share: share.name.clone(),
        read_only: share.read_only,
        cache: None,
        patience: PATIENCE,
        owner: Owner::ROOT,
    };
    let dial = {
        let (keys, last) = (keys.clone(), last.clone());
        Box::new(move || keys.dial(&last))
    };
    let news = {
        let (name, reports) = (share.name.clone(), reports.clone());
        Box::new(move |news: &News| {
            // The agent ends when nobody takes reports; until then a lost one is of no use either.
            let _ = reports.try_send(crate::status(&name, problem_of(news)));
        })
    };
    let source = format!("storage:{}", share.name);
    let target = PathBuf::from(paths::SHARES).join(&share.name);
    let mounted = KernelMount::open(first, dial, &options, &source, &target, news)
        .map_err(io::Error::other)?;
    if reports.send(crate::status(&share.name, None)).is_err() {
        return Ok(());
    }
    while !mounted.wait(WATCH) {
        let now = goblin_sys::peer::address(&link(), paths::PORT_SHARES);
        let mut used = last.lock().unwrap_or_else(PoisonError::into_inner);
        // The hellos say sooner than the kernel that the other board is gone, or has another address.
        if used.is_some() && now != *used {
            *used = None;
            mounted.cut();
        }
    }
    Ok(())
}

/// What the status says; `None` when all is well.
fn problem_of(news: &News) -> Option<String> {
    match news {
        News::Back { lost_files: 0 } => None,
        News::Back { lost_files } => {
            tracing::warn!(lost_files, "open files could not be found again");
            None
        }
        News::Away { .. } => Some(format!("{}; open files wait for it", absence(&link()))),
        News::GaveUp { reason } => Some(format!("the storage board is away: {reason}")),
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
        LinkState::Up => "the storage board does not answer",
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

    #[test]
    fn a_share_that_came_back_has_no_problem() {
        assert_eq!(problem_of(&News::Back { lost_files: 0 }), None);
        assert!(problem_of(&News::Away { reason: String::new() }).is_some());
    }
}
