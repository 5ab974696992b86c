//! Questions to this board's own agents, as a client would ask them.

use crate::health::ShareProbe;
use goblin_core_ninep::client::{Client, ClientError};
use goblin_core_types::paths;
use goblin_sys::socket::Socket;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for one step of an answer.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);
/// Message size of a probe: the smallest that carries its answers.
const MSIZE_BYTES: u32 = 8 * 1024;

/// Attaches to each share over TCP and looks at its root. Reads only: a probe must not change what people
/// keep, nor wake a history of changes.
pub fn shares(names: &[String]) -> Vec<ShareProbe> {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, paths::PORT_SHARES));
    shares_at(address, names)
}

fn shares_at(address: SocketAddr, names: &[String]) -> Vec<ShareProbe> {
    let mut problems = Vec::new();
    let mut client = match connect(address) {
        Ok(client) => Some(client),
        Err(err) => {
            problems.push(format!("the file server does not answer: {err}"));
            None
        }
    };
    let mut probe = |name: &String| {
        let problem = match client.as_mut() {
            None => problems.first().cloned(),
            Some(client) => look(client, name).err().map(|err| err.to_string()),
        };
        ShareProbe { name: name.clone(), problem }
    };
    names.iter().map(&mut probe).collect()
}

fn connect(address: SocketAddr) -> Result<Client<Socket>, ClientError> {
    let socket = Socket::connect_tcp(address, None, STEP_TIMEOUT)?;
    socket.set_limits(Some(STEP_TIMEOUT), Some(STEP_TIMEOUT))?;
    Client::connect(socket, MSIZE_BYTES)
}

fn look(client: &mut Client<Socket>, name: &str) -> Result<(), ClientError> {
    let root = client.attach(name, "root")?;
    let looked = client.getattr(&root).map(|_| ());
    looked.and(client.clunk(root))
}

/// Whether somebody listens on a unix socket.
///
/// # Errors
/// The kernel's.
pub fn listens(path: &Path) -> io::Result<()> {
    UnixStream::connect(path).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_ninep::synthetic::{Dir, Tree};
    use goblin_core_ninep::{Limits, serve};
    use goblin_sys::socket::Listener;
    use std::sync::Arc;

    #[test]
    fn a_share_that_is_there_is_told_from_one_that_is_not() {
        let listener = Listener::tcp_at("[::1]:0".parse().unwrap()).unwrap();
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, listener.local_port().unwrap()));
        let server = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            serve(Arc::new(socket), Arc::new(Tree::new("main", Dir::new())), Limits::default());
        });
        let names = ["main".to_owned(), "other".to_owned()];
        let probes = shares_at(address, &names);
        assert_eq!(probes[0], ShareProbe { name: "main".into(), problem: None });
        assert!(probes[1].problem.is_some());
        server.join().unwrap();
        // Nobody listens any more.
        let probes = shares_at(address, &names);
        assert!(probes.iter().all(|probe| probe.problem.is_some()), "{probes:?}");
    }
}
