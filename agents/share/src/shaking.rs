//! Connections that are not admitted yet: few, and the oldest gives way to the newest, so that strangers who hold
//! theirs open keep nobody out.

use goblin_core_ninep::Stream;
use goblin_sys::socket::Socket;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that may shake hands, or enrol, at one time. A handshake on a working network takes milliseconds.
pub const SHAKING_MAX: usize = 32;

/// Sockets by the order in which they were accepted.
type Sockets = BTreeMap<u64, Arc<Socket>>;

/// Who is at the door.
#[derive(Debug, Default)]
pub(crate) struct Shaking(Mutex<Sockets>);

impl Shaking {
    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection comes to the door; the oldest one there is put out when there are too many. That may be this
    /// one: on a busy board its thread comes later than those of connections that it was accepted before.
    pub(crate) fn begin(&self, socket: &Arc<Socket>) -> AtDoor<'_> {
        let mut sockets = self.sockets();
        let order = socket.order();
        sockets.insert(order, socket.clone());
        if sockets.len() > SHAKING_MAX
            && let Some((_, oldest)) = sockets.pop_first()
        {
            Stream::shutdown(&*oldest);
        }
        AtDoor { shaking: self, order }
    }
}

/// A place at the door.
#[derive(Debug)]
pub(crate) struct AtDoor<'a> {
    shaking: &'a Shaking,
    order: u64,
}

impl Drop for AtDoor<'_> {
    fn drop(&mut self) {
        self.shaking.sockets().remove(&self.order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_and_those_who_went_in_do_not_count() {
        let shaking = Shaking::default();
        let pair = || Socket::pair().map(|(a, b)| (Arc::new(a), b)).unwrap();
        let (first, peer) = pair();
        let _at_door = shaking.begin(&first);
        let others: Vec<_> = (0..SHAKING_MAX - 1).map(|_| pair().0).collect();
        let mut places: Vec<_> = others.iter().map(|socket| shaking.begin(socket)).collect();
        drop(places.pop());
        let late = pair().0;
        places.push(shaking.begin(&late));
        peer.set_limits(Some(std::time::Duration::from_millis(20)), None).unwrap();
        assert!(Stream::read(&peer, &mut [0; 1]).is_err(), "nobody had to go");
        let later = pair().0;
        places.push(shaking.begin(&later));
        assert_eq!(Stream::read(&peer, &mut [0; 1]).unwrap(), 0, "the oldest had to go");
    }
    #[test]
    fn who_was_accepted_first_is_the_oldest_however_late_its_thread_comes() {
        let shaking = Shaking::default();
        let pair = || Socket::pair().map(|(a, b)| (Arc::new(a), b)).unwrap();
        let (early, peer) = pair();
        let others: Vec<_> = (0..SHAKING_MAX).map(|_| pair().0).collect();
        let _places: Vec<_> = others.iter().map(|socket| shaking.begin(socket)).collect();
        let _at_door = shaking.begin(&early);
        assert_eq!(Stream::read(&peer, &mut [0; 1]).unwrap(), 0, "it was the oldest");
    }
}
