//! Boxes on the local network, found by multicast DNS. Anybody there may answer: whoever takes an address from here
//! asks the box for its key.

use crate::boxes::with_port;
pub use goblin_core_discovery::Found;
use goblin_core_discovery::{Browser, GROUP, PORT};
use goblin_core_trust::PublicKey;
use goblin_sys::multicast::{self, Multicast};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Longest datagram looked at, in bytes.
const DATAGRAM_BYTES_MAX: usize = 9000;
/// Pause before the question is asked again: the network may lose the first, and boards may be slow.
const AGAIN: Duration = Duration::from_millis(400);
/// Answers looked at before it is enough.
const ANSWERS_MAX: u32 = 10_000;
/// Longest search for a box that is not where it was.
pub(crate) const SEARCH_LIMIT: Duration = Duration::from_millis(1500);

/// Asks, and gathers answers until the time is over or `enough` says so.
///
/// # Errors
/// What the kernel says.
pub fn discover(
    limit: Duration,
    mut enough: impl FnMut(&[Found]) -> bool,
) -> io::Result<Vec<Found>> {
    let mut socket = Multicast::asker(SocketAddrV4::new(GROUP, PORT))?;
    socket.use_interfaces(&multicast::addresses()?);
    let start = Instant::now();
    let mut asked: Option<Instant> = None;
    let mut browser = Browser::default();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    for _ in 0..ANSWERS_MAX {
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            break;
        }
        if asked.is_none_or(|asked| asked.elapsed() >= AGAIN) {
            asked = Some(Instant::now());
            socket.tell(&Browser::question());
        }
        let Some((got, _)) = socket.receive(&mut buffer, left.min(AGAIN))? else { continue };
        browser.hear(buffer.get(..got).unwrap_or_default());
        let found = browser.found();
        if enough(&found) {
            return Ok(found);
        }
    }
    Ok(browser.found())
}

fn serves(found: &Found) -> bool {
    found.port != 0 && !found.addresses.is_empty()
}

/// Where the files of the box of this key are now.
pub(crate) fn by_key(key: &PublicKey) -> Vec<SocketAddr> {
    let key = key.to_string();
    search(|found| found.key == key)
}

/// Where the files of the box of this name are.
pub(crate) fn by_name(name: &str) -> Vec<SocketAddr> {
    search(|found| is_called(found, name))
}

/// The box's name as people write it, or its host's.
fn is_called(found: &Found, name: &str) -> bool {
    let same = |other: &str| other.eq_ignore_ascii_case(name);
    let host = found.host.strip_suffix(".local").unwrap_or(&found.host);
    same(&found.instance) || same(&found.box_name) || same(&found.host) || same(host)
}

fn search(wanted: impl Fn(&Found) -> bool) -> Vec<SocketAddr> {
    let is_it = |found: &Found| serves(found) && wanted(found);
    let all = discover(SEARCH_LIMIT, |found| found.iter().any(is_it)).unwrap_or_default();
    // IPv4 first: those are the ones that were asked over.
    all.iter().filter(|found| is_it(found)).flat_map(places).collect()
}

fn places(found: &Found) -> Vec<SocketAddr> {
    found.addresses.iter().map(|address| SocketAddr::new(*address, found.port)).collect()
}

/// What to write to `goblin login` for a box.
pub fn address_of(found: &Found) -> Option<String> {
    let address = found.addresses.first().filter(|_| serves(found))?;
    let text = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let whole = format!("{text}:{}", found.port);
    Some(if with_port(&text) == whole { text } else { whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attic() -> Found {
        Found {
            instance: "Attic".into(),
            box_name: "Attic".into(),
            role: "storage".into(),
            key: "00".into(),
            host: "attic.local".into(),
            port: 564,
            addresses: vec![[192, 0, 2, 7].into()],
        }
    }

    #[test]
    fn a_box_answers_to_its_names_in_any_case() {
        for name in ["attic", "ATTIC", "attic.local", "Attic"] {
            assert!(is_called(&attic(), name), "{name}");
        }
        assert!(!is_called(&attic(), "cellar"));
    }

    #[test]
    fn an_address_is_one_that_login_takes() {
        assert_eq!(address_of(&attic()).unwrap(), "192.0.2.7");
        let odd = Found { port: 99, ..attic() };
        assert_eq!(address_of(&odd).unwrap(), "192.0.2.7:99");
        let v6 = Found { addresses: vec!["2001:db8::7".parse().unwrap()], ..attic() };
        assert_eq!(address_of(&v6).unwrap(), "[2001:db8::7]");
        assert_eq!(address_of(&Found { port: 0, ..attic() }), None);
    }
}
