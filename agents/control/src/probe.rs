//! Questions to this board's own agents, as a client would ask them.

use crate::health::ShareProbe;
use goblin_core_ninep::client::{Client, ClientError};
use goblin_core_types::{UpdateReply, paths};
use goblin_sys::socket::Socket;
use std::net::{Ipv6Addr, SocketAddr};
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
    use goblin_sys::socket::Listener;
    use std::sync::Arc;

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
