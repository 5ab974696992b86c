//! Questions to this board's own agents, as a client would ask them.

use crate::health::ShareProbe;
use goblin_core_ninep::client::{Client, ClientError};
use goblin_core_types::{UpdateReply, paths};
use goblin_sys::socket::Socket;
use goblin_tls::{Expect, Identity, Service, TlsStream, greeting};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for one step of an answer.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);
/// Message size of a probe: the smallest that carries its answers.
const MSIZE_BYTES: u32 = 8 * 1024;

/// Attaches to each share as a client would, over TCP and TLS with the board's own key, and looks at its
/// root. Reads only: a probe must not change what people
/// keep, nor wake a history of changes.
pub fn shares(seed: &[u8; 32], names: &[String]) -> Vec<ShareProbe> {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, paths::PORT_SHARES));
    shares_at(address, seed, names)
}

fn shares_at(address: SocketAddr, seed: &[u8; 32], names: &[String]) -> Vec<ShareProbe> {
    let mut problems = Vec::new();
    let mut client = match connect(address, seed) {
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

fn connect(address: SocketAddr, seed: &[u8; 32]) -> Result<Client<TlsStream>, ClientError> {
    let socket = Arc::new(Socket::connect_tcp(address, None, STEP_TIMEOUT)?);
    let failed = |err: goblin_tls::TlsError| ClientError::Io(err.into());
    let me = Identity::from_seed(seed).map_err(failed)?;
    let expect = Expect::Key(me.public());
    let (stream, _) =
        goblin_tls::connect(&socket, &me, expect, Service::Files, STEP_TIMEOUT).map_err(failed)?;
    socket.set_limits(Some(STEP_TIMEOUT), Some(STEP_TIMEOUT))?;
    greeting::receive(&stream)?;
    Client::connect(stream, MSIZE_BYTES)
}

fn look(client: &mut Client<TlsStream>, name: &str) -> Result<(), ClientError> {
    let root = client.attach(name, "root")?;
    let looked = client.getattr(&root).map(|_| ());
    looked.and(client.clunk(root))
}

/// Whether the updater answers. A line that is no command is refused at once, also during an upgrade; a
/// connection alone proves nothing, for the kernel takes it in the place of a process that hangs.
///
/// # Errors
/// [`AskError`](crate::lines::AskError).
pub fn updater(path: &Path) -> Result<(), crate::lines::AskError> {
    crate::lines::ask::<_, UpdateReply>(path, &()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_ninep::synthetic::{Dir, Tree};
    use goblin_core_ninep::{Limits, serve};
    use goblin_core_types::Greeting;
    use goblin_sys::socket::Listener;

    const SEED: [u8; 32] = [3; 32];

    #[test]
    fn an_updater_that_hangs_is_told_from_one_that_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("update.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        // Nobody accepts, and yet the kernel connects.
        assert!(updater(&path).is_err());
        let server = std::thread::spawn(move || {
            use std::io::{BufRead, BufReader, Write};
            let _hung = listener.accept().unwrap();
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert!(serde_json::from_str::<goblin_core_types::UpdateCommand>(&line).is_err());
            let message = "the command cannot be read".to_owned();
            let reply = UpdateReply::Failed { kind: "refused".into(), message };
            let mut reply = serde_json::to_vec(&reply).unwrap();
            reply.push(b'\n');
            reader.get_mut().write_all(&reply).unwrap();
        });
        updater(&path).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn a_share_that_is_there_is_told_from_one_that_is_not() {
        let listener = Listener::tcp_at("[::1]:0".parse().unwrap()).unwrap();
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, listener.local_port().unwrap()));
        let me = Identity::from_seed(&SEED).unwrap();
        let own = me.public();
        let admit: goblin_tls::Admit = Arc::new(move |key| *key == own);
        let acceptor = goblin_tls::Acceptor::new(&me, vec![(Service::Files, admit)]).unwrap();
        let server = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let accepted = acceptor.accept(&Arc::new(socket), STEP_TIMEOUT).unwrap();
            greeting::send(&accepted.stream, &Greeting::default()).unwrap();
            let tree = Arc::new(Tree::new("main", Dir::new()));
            serve(Arc::new(accepted.stream), tree, Limits::default());
        });
        let names = ["main".to_owned(), "other".to_owned()];
        let probes = shares_at(address, &SEED, &names);
        assert_eq!(probes[0], ShareProbe { name: "main".into(), problem: None });
        assert!(probes[1].problem.is_some());
        server.join().unwrap();
        // Nobody listens any more.
        let probes = shares_at(address, &SEED, &names);
        assert!(probes.iter().all(|probe| probe.problem.is_some()), "{probes:?}");
    }
}
