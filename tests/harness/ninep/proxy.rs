//! Stands between a client and a server, understands frames, and misbehaves as it is told.

use crate::ninep::raw::{Address, Pipe};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Request,
    /// To the client.
    Reply,
}

/// A frame as the proxy saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Direction.
    pub way: Way,
    /// `type[1]`.
    pub kind: u8,
    /// `tag[2]`.
    pub tag: u16,
    /// Bytes of the whole frame.
    pub bytes: usize,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Pass,
    /// It is lost.
    Drop,
    /// It goes on later, and with it everything behind it.
    Delay(Duration),
    /// It waits until [`Proxy::release`], and with it everything behind it.
    Hold,
    /// It comes twice.
    Twice,
    /// It goes on in single bytes.
    Dribble,
    /// So many of its bytes go on, then both connections end.
    CutAfter(usize),
}

type Rule = dyn Fn(&Seen) -> Fate + Send + Sync;

#[derive(Default)]
struct Shared {
    trace: Mutex<Vec<Seen>>,
    released: Mutex<bool>,
    release: Condvar,
}

/// A running proxy. It lives as long as its connections.
pub struct Proxy {
    /// Where clients connect to.
    pub address: Address,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Listens on a socket in `folder` and treats every frame as `rule` says.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(
        server: &Address,
        folder: &Path,
        rule: impl Fn(&Seen) -> Fate + Send + Sync + 'static,
    ) -> Result<Self> {
        let path = folder.join("proxy");
        let listener = UnixListener::bind(&path).context("the proxy cannot listen")?;
        let shared = Arc::new(Shared::default());
        let (server, theirs) = (server.clone(), shared.clone());
        let rule: Arc<Rule> = Arc::new(rule);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = Pipe::connect(&server) else { continue };
                let client = Pipe::Unix(client);
                for (from, to, way) in
                    [(&client, &server, Way::Request), (&server, &client, Way::Reply)]
                {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let (shared, rule) = (theirs.clone(), rule.clone());
                    std::thread::spawn(move || pump(from, to, way, &shared, &rule));
                }
            }
        });
        Ok(Self { address: Address::Unix(path), shared })
    }

    /// Lets everything go on that is held, now and later.
    pub fn release(&self) {
        *self.shared.released.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.release.notify_all();
    }

    /// Every frame up to now, in the order in which it arrived here.
    pub fn trace(&self) -> Vec<Seen> {
        self.shared.trace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn frame(from: &mut Pipe) -> Option<Vec<u8>> {
    let mut size = [0; 4];
    from.read_exact(&mut size).ok()?;
    let length = u32::from_le_bytes(size) as usize;
    let mut whole = vec![0; length.clamp(7, 8 << 20)];
    whole[..4].copy_from_slice(&size);
    from.read_exact(&mut whole[4..]).ok()?;
    Some(whole)
}

fn pump(mut from: Pipe, mut to: Pipe, way: Way, shared: &Shared, rule: &Arc<Rule>) {
    while let Some(whole) = frame(&mut from) {
        let tag = u16::from_le_bytes([whole[5], whole[6]]);
        let seen = Seen { way, kind: whole[4], tag, bytes: whole.len() };
        shared.trace.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
        let sent = match rule(&seen) {
            Fate::Drop => Ok(()),
            Fate::Pass => to.write_all(&whole),
            Fate::Delay(time) => {
                std::thread::sleep(time);
                to.write_all(&whole)
            }
            Fate::Hold => {
                let released = shared.released.lock().unwrap_or_else(PoisonError::into_inner);
                drop(shared.release.wait_while(released, |released| !*released));
                to.write_all(&whole)
            }
            Fate::Twice => to.write_all(&whole).and_then(|()| to.write_all(&whole)),
            Fate::Dribble => whole.iter().try_for_each(|byte| to.write_all(&[*byte])),
            Fate::CutAfter(count) => {
                let _ = to.write_all(&whole[..count.min(whole.len())]);
                break;
            }
        };
        if sent.is_err() {
            break;
        }
    }
    // One end is gone: so is the other.
    from.shutdown();
    to.shutdown();
}
