//! The client against an honest publisher and against everything the TUF threat model lists.

use crate::client::{Client, TrustedState};
use crate::publish::{Lifetimes, Publisher, RepositoryKeys, Seed, Written, sign, sign_next_root};
use crate::time::Instant;
use crate::tuf::{Kind, ReleaseCustom, RoleKeys, Root, Target, TufError};
use goblin_core_types::Version;
use proptest::prelude::*;

const NOW: Instant = Instant::from_unix_s(1_800_000_000);

fn keys(base: u8) -> RepositoryKeys {
    let seed = |n: u8| vec![Seed([base.wrapping_add(n); 32])];
    RepositoryKeys { root: seed(0), targets: seed(1), snapshot: seed(2), timestamp: seed(3) }
}

fn first_root(keys: &RepositoryKeys) -> Vec<u8> {
    sign(&keys.root(1, NOW.plus_days(1000)), &keys.root).unwrap()
}

fn publisher(version: u64, releases: &[u32]) -> Publisher {
    let mut publisher = Publisher { version, ..Publisher::empty() };
    for &n in releases {
        let custom = ReleaseCustom {
            version: Version::new(n, 0, 0),
            channel: "stable".into(),
            uki: None,
            waves: None,
        };
        publisher.add_release(&custom, b"{}").unwrap();
    }
    publisher
}

fn files(keys: &RepositoryKeys, version: u64, releases: &[u32]) -> Vec<Written> {
    publisher(version, releases).publish(keys, NOW, Lifetimes::default()).unwrap()
}

fn of(files: &[Written], kind: Kind) -> &[u8] {
    let path = format!("metadata/{kind}");
    &files.iter().find(|file| file.path == path).unwrap().bytes
}

fn client(keys: &RepositoryKeys) -> Client {
    Client::new(TrustedState::from_root(&first_root(keys)).unwrap(), NOW).unwrap()
}

fn run(client: &mut Client, files: &[Written]) -> Result<(), TufError> {
    client.apply_timestamp(of(files, Kind::Timestamp))?;
    client.apply_snapshot(of(files, Kind::Snapshot))?;
    client.apply_targets(of(files, Kind::Targets))
}

fn again(client: &Client, now: Instant) -> Client {
    // Through JSON, as the agent stores it.
    let stored = serde_json::to_vec(client.state()).unwrap();
    Client::new(serde_json::from_slice(&stored).unwrap(), now).unwrap()
}

#[test]
fn honest_repository_is_believed() {
    let keys = keys(1);
    let mut client = client(&keys);
    run(&mut client, &files(&keys, 1, &[1, 2])).unwrap();
    assert_eq!(client.targets().unwrap().targets.len(), 2);
    let mut client = again(&client, NOW);
    run(&mut client, &files(&keys, 2, &[1, 2, 3])).unwrap();
    assert_eq!(client.targets().unwrap().targets.len(), 3);
}

#[test]
fn other_keys_are_not_believed() {
    let mut client = client(&keys(1));
    let before = client.state().clone();
    let refused = run(&mut client, &files(&keys(50), 1, &[1]));
    assert!(matches!(refused, Err(TufError::Signature { valid: 0, threshold: 1, .. })));
    assert_eq!(*client.state(), before);
}

#[test]
fn changed_byte_is_noticed_in_each_file() {
    let keys = keys(1);
    for kind in [Kind::Timestamp, Kind::Snapshot, Kind::Targets] {
        let mut files = files(&keys, 1, &[1]);
        let path = format!("metadata/{kind}");
        let file = files.iter_mut().find(|file| file.path == path).unwrap();
        let text = String::from_utf8(file.bytes.clone()).unwrap();
        file.bytes = text.replace("\"version\": 1", "\"version\": 7").into_bytes();
        assert!(run(&mut client(&keys), &files).is_err(), "{kind}");
    }
}

#[test]
fn past_state_is_not_believed_again() {
    let keys = keys(1);
    let mut client = client(&keys);
    run(&mut client, &files(&keys, 5, &[1, 2])).unwrap();
    let mut client = again(&client, NOW);
    let refused = run(&mut client, &files(&keys, 4, &[1]));
    assert!(matches!(refused, Err(TufError::Older { got: 4, trusted: 5, .. })));
}

#[test]
fn frozen_repository_is_noticed() {
    let keys = keys(1);
    let frozen = files(&keys, 1, &[1]);
    let mut late = Client::new(
        TrustedState::from_root(&first_root(&keys)).unwrap(),
        NOW.plus_days(Lifetimes::default().timestamp_days),
    )
    .unwrap();
    assert!(matches!(run(&mut late, &frozen), Err(TufError::Expired { .. })));
}

#[test]
fn dead_clock_does_not_revive_what_expired() {
    let keys = keys(1);
    let mut state = TrustedState::from_root(&first_root(&keys)).unwrap();
    state.note_time(NOW.plus_days(200));
    state.note_time(NOW);
    let mut client = Client::new(state, Instant::from_unix_s(0)).unwrap();
    let refused = run(&mut client, &files(&keys, 1, &[1]));
    assert!(matches!(refused, Err(TufError::Expired { .. })));
}

#[test]
fn clock_of_1970_reads_a_good_repository_and_keeps_what_it_knew() {
    let keys = keys(1);
    let mut state = TrustedState::from_root(&first_root(&keys)).unwrap();
    let mut client = Client::new(state.clone(), Instant::from_unix_s(0)).unwrap();
    run(&mut client, &files(&keys, 1, &[1])).unwrap();
    // A board that knew the time once does not take a frozen mirror for good, whatever its clock says.
    state.note_time(NOW.plus_days(91));
    let mut client = Client::new(state, Instant::from_unix_s(0)).unwrap();
    let refused = run(&mut client, &files(&keys, 1, &[1])).unwrap_err();
    assert!(refused.to_string().contains("expired at"), "{refused}");
}

#[test]
fn clock_of_2106_is_told_and_does_not_outlive_its_correction() {
    let keys = keys(1);
    let wrong = Instant::from_unix_s(u64::from(u32::MAX));
    let state = TrustedState::from_root(&first_root(&keys)).unwrap();
    let mut client = Client::new(state, wrong).unwrap();
    let refused = run(&mut client, &files(&keys, 1, &[1])).unwrap_err().to_string();
    assert!(refused.contains("2106-02-07") && refused.contains("clock"), "{refused}");
    client.note_time();
    let mut client = again(&client, NOW);
    run(&mut client, &files(&keys, 1, &[1])).unwrap();
}

#[test]
fn one_version_says_one_thing() {
    let keys = keys(1);
    for kind in [Kind::Timestamp, Kind::Snapshot, Kind::Targets] {
        let mut client = client(&keys);
        let mut first = files(&keys, 3, &[1]);
        run(&mut client, &first).unwrap();
        // Signed with the same keys by somebody else; nothing above pins its digest.
        let other = files(&keys, 3, &[1, 2]);
        let unpinned = |files: &mut [Written]| {
            for (above, seeds) in
                [(Kind::Timestamp, &keys.timestamp), (Kind::Snapshot, &keys.snapshot)]
            {
                let path = format!("metadata/{above}");
                let file = files.iter_mut().find(|file| file.path == path).unwrap();
                let mut envelope: crate::tuf::Envelope =
                    serde_json::from_slice(&file.bytes).unwrap();
                for meta in envelope.signed["meta"].as_object_mut().unwrap().values_mut() {
                    *meta = serde_json::json!({"version": meta["version"]});
                }
                let again = match above {
                    Kind::Timestamp => {
                        sign(&envelope.decode::<crate::tuf::Timestamp>("t").unwrap(), seeds)
                    }
                    _ => sign(&envelope.decode::<crate::tuf::Snapshot>("s").unwrap(), seeds),
                };
                file.bytes = again.unwrap();
            }
        };
        if kind != Kind::Timestamp {
            unpinned(&mut first);
            client = self::client(&keys);
            run(&mut client, &first).unwrap();
        }
        let mut mixed = first.clone();
        let path = format!("metadata/{kind}");
        let from = other.iter().find(|file| file.path == path).unwrap();
        mixed.iter_mut().find(|file| file.path == path).unwrap().bytes = from.bytes.clone();
        let mut client = again(&client, NOW);
        let met = run(&mut client, &mixed);
        match kind {
            // It is put aside, and the one that was believed before leads to the first state.
            Kind::Timestamp => assert_eq!(met, Ok(())),
            _ => {
                assert!(matches!(met, Err(TufError::Changed { version: 3, .. })), "{kind}: {met:?}")
            }
        }
        run(&mut again(&client, NOW), &first).unwrap();
    }
}

#[test]
fn parts_of_different_states_are_not_mixed() {
    let keys = keys(1);
    let (old, new) = (files(&keys, 1, &[1]), files(&keys, 2, &[1, 2]));
    let mut mixed = client(&keys);
    mixed.apply_timestamp(of(&new, Kind::Timestamp)).unwrap();
    let refused = mixed.apply_snapshot(of(&old, Kind::Snapshot));
    assert!(matches!(refused, Err(TufError::Mismatch { .. })));
    mixed.apply_snapshot(of(&new, Kind::Snapshot)).unwrap();
    let refused = mixed.apply_targets(of(&old, Kind::Targets));
    assert!(matches!(refused, Err(TufError::Mismatch { .. })));
}

#[test]
fn steps_out_of_order_are_refused() {
    let keys = keys(1);
    let files = files(&keys, 1, &[1]);
    let mut client = client(&keys);
    let refused = client.apply_snapshot(of(&files, Kind::Snapshot));
    assert!(matches!(refused, Err(TufError::OutOfOrder { .. })));
    assert!(client.wanted_targets().is_err());
    assert!(client.targets().is_none());
}

#[test]
fn keys_are_changed_through_a_chain_of_roots() {
    let generations: Vec<_> = [1, 20, 40, 60].into_iter().map(keys).collect();
    let mut client = client(&generations[0]);
    for (index, pair) in generations.windows(2).enumerate() {
        let version = u64::try_from(index).unwrap() + 2;
        let root = pair[1].root(version, NOW.plus_days(10));
        let bytes = sign_next_root(&root, &pair[0], &pair[1]).unwrap();
        assert_eq!(client.wanted_root().unwrap().path, format!("metadata/{version}.root.json"));
        client.apply_root(&bytes).unwrap();
    }
    assert!(run(&mut client.clone(), &files(&generations[0], 1, &[1])).is_err());
    run(&mut client, &files(&generations[3], 1, &[1])).unwrap();
    let mut client = again(&client, NOW);
    run(&mut client, &files(&generations[3], 2, &[1])).unwrap();
}

#[test]
fn root_needs_old_and_new_keys_and_the_next_number() {
    let (old, new) = (keys(1), keys(20));
    let mut client = client(&old);
    let next = new.root(2, NOW.plus_days(10));
    assert!(client.apply_root(&sign(&next, &new.root).unwrap()).is_err());
    assert!(client.apply_root(&sign(&next, &old.root).unwrap()).is_err());
    let gap = new.root(3, NOW.plus_days(10));
    let refused = client.apply_root(&sign_next_root(&gap, &old, &new).unwrap());
    assert!(matches!(refused, Err(TufError::RootGap { got: 3, expected: 2, .. })));
    client.apply_root(&sign_next_root(&next, &old, &new).unwrap()).unwrap();
}

#[test]
fn new_online_keys_forgive_versions_a_thief_signed() {
    let old = keys(1);
    let mut client = client(&old);
    run(&mut client, &files(&old, u64::MAX, &[1])).unwrap();
    let mut new = old.clone();
    new.timestamp = vec![Seed([77; 32])];
    let root = new.root(2, NOW.plus_days(10));
    let mut client = again(&client, NOW);
    client.apply_root(&sign_next_root(&root, &old, &new).unwrap()).unwrap();
    run(&mut client, &files(&new, 2, &[1])).unwrap();
}

#[test]
fn expired_root_stops_the_run() {
    let (old, new) = (keys(1), keys(20));
    let mut client = client(&old);
    let root = new.root(2, NOW);
    client.apply_root(&sign_next_root(&root, &old, &new).unwrap()).unwrap();
    let refused = run(&mut client, &files(&new, 1, &[1]));
    assert!(matches!(refused, Err(TufError::Expired { file, .. }) if file == "root.json"));
}

fn two_of_two(seeds: &[Seed]) -> (RepositoryKeys, Root) {
    let mut keys = keys(1);
    keys.timestamp = seeds.to_vec();
    let root = keys.root(1, NOW.plus_days(1000));
    (keys, root)
}

#[test]
fn one_key_is_one_voice() {
    let (a, b) = (Seed([90; 32]), Seed([91; 32]));
    let (mut keys, root) = two_of_two(&[a.clone(), b.clone()]);
    let begin = |root: &Root, keys: &RepositoryKeys| {
        Client::new(TrustedState::from_root(&sign(root, &keys.root).unwrap()).unwrap(), NOW)
            .unwrap()
    };
    run(&mut begin(&root, &keys), &files(&keys, 1, &[1])).unwrap();
    keys.timestamp = vec![a.clone(), a.clone()];
    let refused = run(&mut begin(&root, &keys), &files(&keys, 1, &[1]));
    assert!(matches!(refused, Err(TufError::Malformed { .. })), "{refused:?}");

    // The same public key listed under a second identity.
    let (mut keys, mut root) = two_of_two(std::slice::from_ref(&a));
    let key = crate::keys::Key::of_seed(&a.0);
    root.keys.insert("alias".into(), key.clone());
    let both = RoleKeys { keyids: vec![key.id(), "alias".into()], threshold: 2 };
    root.roles.insert("timestamp".into(), both);
    keys.timestamp = vec![a];
    let mut files = files(&keys, 1, &[1]);
    let file = files.iter_mut().find(|f| f.path.ends_with("timestamp.json")).unwrap();
    let mut envelope: crate::tuf::Envelope = serde_json::from_slice(&file.bytes).unwrap();
    let mut second = envelope.signatures[0].clone();
    second.keyid = "alias".into();
    envelope.signatures.push(second);
    file.bytes = serde_json::to_vec(&envelope).unwrap();
    let refused = run(&mut begin(&root, &keys), &files);
    assert!(matches!(refused, Err(TufError::Signature { valid: 1, .. })));
}

#[test]
fn threshold_of_zero_is_no_root() {
    let keys = keys(1);
    let mut root = keys.root(1, NOW.plus_days(1));
    root.roles.get_mut("targets").unwrap().threshold = 0;
    assert!(TrustedState::from_root(&sign(&root, &keys.root).unwrap()).is_err());
}

#[test]
fn endless_metadata_is_refused_before_it_is_parsed() {
    let mut client = client(&keys(1));
    let endless = vec![b' '; usize::try_from(Kind::Timestamp.bytes_max()).unwrap() + 1];
    assert!(matches!(client.apply_timestamp(&endless), Err(TufError::TooLong { .. })));
}

#[test]
fn target_is_held_to_length_and_digest() {
    let publisher = publisher(1, &[1]);
    let (path, target): (&String, &Target) = publisher.targets.first_key_value().unwrap();
    target.check(path, b"{}").unwrap();
    assert!(matches!(target.check(path, b"{ }"), Err(TufError::Mismatch { field: "length", .. })));
    assert!(matches!(target.check(path, b"[]"), Err(TufError::Mismatch { field: "sha256", .. })));
}

#[test]
fn publisher_continues_its_own_repository() {
    let keys = keys(1);
    let files = files(&keys, 3, &[1, 2]);
    let next = Publisher::resume(of(&files, Kind::Targets), of(&files, Kind::Timestamp)).unwrap();
    assert_eq!((next.version, next.targets.len()), (4, 2));
}

proptest! {
    // Signatures are slow without optimisation.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut client = client(&keys(1));
        let before = client.state().clone();
        let _ = client.apply_root(&bytes);
        let _ = client.apply_timestamp(&bytes);
        prop_assert_eq!(client.state(), &before);
    }

    // Whatever order an attacker replays honest states in, versions never go back.
    #[test]
    fn versions_never_go_back(order in proptest::collection::vec((1u64..6, 1u64..6, 1u64..6), 1..12)) {
        let keys = keys(1);
        let mut client = client(&keys);
        let mut seen = (0, 0);
        for (timestamp, snapshot, targets) in order {
            let file = |version, kind| of(&files(&keys, version, &[1]), kind).to_vec();
            let _ = client.apply_timestamp(&file(timestamp, Kind::Timestamp));
            let _ = client.apply_snapshot(&file(snapshot, Kind::Snapshot));
            let _ = client.apply_targets(&file(targets, Kind::Targets));
            let now = (client.state().timestamp_version, client.state().targets_version);
            prop_assert!(now.0 >= seen.0 && now.1 >= seen.1);
            seen = now;
            client = again(&client, NOW);
        }
    }
}
