use super::*;
use crate::hello::tests::{hello, key};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

const CABLE: From = From { interface: 3, address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2) };
const LAN: From = From { interface: 2, address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9) };

fn public(key: &SigningKey) -> Digest {
    Digest(key.verifying_key().to_bytes())
}

/// The compute board (key 1) whose peer is the storage board (key 2).
fn compute() -> Link {
    Link::new(Identity {
        box_id: BoxId([7; 16]),
        role: Role::Compute,
        own_key: public(&key(1)),
        peer_key: public(&key(2)),
        boot_id: "mine".into(),
    })
}

fn peer(seq: u64) -> Hello {
    hello(Role::Storage, &key(2), seq)
}

fn state(link: &mut Link, now_ms: u64) -> LinkState {
    link.tick(now_ms, |_| 0);
    link.status(now_ms, |index| Some(format!("eth{index}"))).state
}

#[test]
fn a_pulled_cable_is_lost_and_comes_back_without_restart() {
    let mut link = compute();
    assert_eq!(state(&mut link, 0), LinkState::Searching);
    assert_eq!(link.heard(CABLE, Ok(peer(1)), 1_000), Heard::Peer);
    assert_eq!(state(&mut link, 1_000), LinkState::Up);
    assert_eq!(state(&mut link, 6_000), LinkState::Up);
    assert_eq!(state(&mut link, 6_001), LinkState::Lost);
    assert_eq!(link.interface(), Some(3));
    let status = link.status(65_000, |_| None);
    assert!(status.problem.unwrap().contains("silent for 64 s"));
    assert_eq!(link.heard(CABLE, Ok(peer(70_000)), 70_000), Heard::Peer);
    assert_eq!(state(&mut link, 70_000), LinkState::Up);
}

#[test]
fn replays_do_not_keep_a_dead_board_alive() {
    let mut link = compute();
    link.heard(CABLE, Ok(peer(10)), 0);
    assert_eq!(link.heard(CABLE, Ok(peer(9)), 500), Heard::Replay);
    link.heard(CABLE, Ok(peer(10)), 4_000);
    assert_eq!(state(&mut link, 6_000), LinkState::Lost);
    assert_eq!(link.heard(CABLE, Ok(peer(10)), 6_000), Heard::Replay);
    assert_eq!(state(&mut link, 6_000), LinkState::Lost);
}

#[test]
fn a_reboot_starts_a_new_count_and_ends_the_old_one() {
    let mut link = compute();
    link.heard(CABLE, Ok(peer(100)), 0);
    let rebooted = Hello { boot_id: "next".into(), ..peer(1) };
    assert_eq!(link.heard(CABLE, Ok(rebooted), 1_000), Heard::Peer);
    assert_eq!(link.heard(CABLE, Ok(peer(200)), 2_000), Heard::Replay);
}

#[test]
fn the_cable_is_preferred_to_the_lan_and_kept_while_it_lives() {
    let mut link = compute();
    let rank = |index: u32| u32::from(index == LAN.interface);
    link.heard(LAN, Ok(peer(1)), 0);
    link.tick(0, rank);
    assert_eq!(link.interface(), Some(LAN.interface));
    link.heard(LAN, Ok(peer(2)), 1_000);
    assert_eq!(link.heard(CABLE, Ok(peer(2)), 1_001), Heard::Peer);
    link.tick(1_001, rank);
    assert_eq!(link.interface(), Some(CABLE.interface));
    link.heard(LAN, Ok(peer(9)), 9_000);
    link.tick(9_000, rank);
    assert_eq!(link.interface(), Some(LAN.interface), "the cable is out, the LAN is not");
}

#[test]
fn own_words_are_an_echo_and_a_twin_is_a_conflict() {
    let mut link = compute();
    let own = Hello { boot_id: "mine".into(), ..hello(Role::Compute, &key(1), 1) };
    assert_eq!(link.heard(LAN, Ok(own.clone()), 0), Heard::Echo);
    assert_eq!(state(&mut link, 0), LinkState::Searching);
    link.heard(CABLE, Ok(peer(1)), 0);
    link.heard(LAN, Ok(Hello { boot_id: "twin".into(), ..own }), 1_000);
    assert_eq!(state(&mut link, 1_000), LinkState::Conflict);
    link.heard(CABLE, Ok(peer(2)), 7_000);
    assert_eq!(state(&mut link, 7_000), LinkState::Up);
}

#[test]
fn both_boards_with_one_role_are_a_conflict() {
    let mut link = compute();
    link.heard(CABLE, Ok(hello(Role::Compute, &key(2), 1)), 0);
    assert_eq!(state(&mut link, 0), LinkState::Conflict);
    let problem = link.status(0, |_| None).problem.unwrap();
    assert!(problem.contains("says that it is the compute board too"), "{problem}");
}

#[test]
fn strangers_are_shown_only_while_there_is_no_peer() {
    let mut link = compute();
    let other_box = Hello { box_id: BoxId([8; 16]), ..hello(Role::Storage, &key(5), 1) };
    link.heard(LAN, Ok(other_box.clone()), 0);
    assert_eq!(state(&mut link, 0), LinkState::Foreign);
    link.heard(LAN, Err(HelloError::Signature), 0);
    assert_eq!(state(&mut link, 0), LinkState::Foreign);
    link.heard(LAN, Ok(hello(Role::Compute, &key(5), 1)), 0);
    assert_eq!(state(&mut link, 0), LinkState::Conflict);
    link.heard(CABLE, Ok(peer(1)), 100);
    link.heard(LAN, Ok(other_box), 200);
    assert_eq!(state(&mut link, 200), LinkState::Up);
}

proptest! {
    #[test]
    fn silence_always_ends_in_lost_or_searching(
        events in prop::collection::vec((0u8..6, 0u64..4, 0u64..3_000), 0..60),
    ) {
        let mut link = compute();
        let mut now = 0;
        for (kind, seq, wait) in events {
            now += wait;
            let from = if kind % 2 == 0 { CABLE } else { LAN };
            let datagram = match kind {
                0 | 1 => Ok(peer(seq)),
                2 => Ok(Hello { boot_id: format!("boot {seq}"), ..peer(seq) }),
                3 => Ok(hello(Role::Compute, &key(1), seq)),
                4 => Err(HelloError::Signature),
                _ => Err(HelloError::Malformed),
            };
            link.heard(from, datagram, now);
            link.tick(now, |_| 0);
            prop_assert!(link.paths.len() <= PATHS_MAX && link.past_boots.len() <= PAST_BOOTS_MAX);
        }
        let end = state(&mut link, now + SILENT_MS_MAX + 1);
        prop_assert!(matches!(end, LinkState::Lost | LinkState::Searching));
    }
}
