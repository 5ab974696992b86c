//! A board that says where it is, and a PC that asks: two network namespaces with a cable between them.

use goblin_agent_client::discover::{self, Found};
use goblin_agent_net::discovery::{Here, serve};
use goblin_core_discovery::{Notice, Role};
use nix::sched::{CloneFlags, unshare};
use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Longest wait for an answer; it ends with the answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs `ip` in the network namespace of this thread.
fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

fn has_ip() -> bool {
    Command::new("ip").arg("-V").output().is_ok_and(|output| output.status.success())
}

fn here(address: &str) -> Here {
    let address: IpAddr = address.parse().unwrap();
    let notice = Notice {
        box_name: "Attic".into(),
        role: Role::Storage,
        key: "ab".repeat(32),
        port: 564,
        addresses: vec![address],
        named_twice: false,
    };
    Here { notice, networks: vec![(address, 24)] }
}

/// A board at the other end of a cable; answers its thread's number once it has a namespace, and waits for its end of
/// the cable.
fn board(cable: mpsc::Receiver<()>) -> Option<i32> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let made = unshare(CloneFlags::CLONE_NEWNET);
        tell.send(made.is_ok().then(|| nix::unistd::gettid().as_raw())).unwrap();
        if made.is_err() || cable.recv().is_err() {
            return;
        }
        ip("addr add 10.77.0.1/24 dev board");
        ip("link set board up");
        let Err(err) = serve(&|| Some(here("10.77.0.1")));
        panic!("{err}");
    });
    told.recv().unwrap()
}

#[test]
fn a_pc_finds_a_box_on_its_network_and_no_other() {
    let (plug, cable) = mpsc::channel();
    let is_able = has_ip() && unshare(CloneFlags::CLONE_NEWNET).is_ok();
    let Some(number) = is_able.then(|| board(cable)).flatten() else {
        println!(
            "skipped: this test makes network namespaces, which needs root and the program ip"
        );
        return;
    };
    // Before there is a cable nobody is asked, and nobody answers.
    assert!(discover::discover(Duration::from_millis(1), |_| false).unwrap().is_empty());
    ip(&format!("link add pc type veth peer name board netns {number}"));
    ip("addr add 10.77.0.2/24 dev pc");
    ip("link set pc up");
    plug.send(()).unwrap();
    let found = discover::discover(LIMIT, |found| !found.is_empty()).unwrap();
    let [Found { box_name, role, addresses, port, key, .. }] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((box_name.as_str(), role.as_str(), *port), ("Attic", "storage", 564));
    assert_eq!(
        (addresses.as_slice(), key.len()),
        (&["10.77.0.1".parse::<IpAddr>().unwrap()][..], 64)
    );
    assert_eq!(discover::address_of(&found[0]).unwrap(), "10.77.0.1");
}
