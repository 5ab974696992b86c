//! Who speaks for a path, and by whose keys.

use crate::client::{Client, TrustedState};
use crate::delegation::{DELEGATED_MAX, Found, Way, escaped, matches};
use crate::keys::Key;
use crate::publish::{RepositoryKeys, Seed, sign};
use crate::time::Instant;
use crate::tuf::{
    Document, FileMeta, Hashes, Kind, Snapshot, Target, Targets, Timestamp, TufError, sha256_hex,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NOW: Instant = Instant::from_unix_s(1_800_000_000);

/// Targets metadata that hands files on.
#[derive(Serialize, Deserialize)]
struct Handing {
    #[serde(flatten)]
    targets: Targets,
    delegations: Value,
}

impl Document for Handing {
    const KIND: Kind = Kind::Targets;

    fn version(&self) -> u64 {
        self.targets.version
    }

    fn expires(&self) -> Instant {
        self.targets.expires
    }
}

fn target(of: &str) -> Target {
    let hashes = Hashes::sha256(sha256_hex(of.as_bytes()));
    Target { length: of.len() as u64, hashes, custom: None }
}

/// A role's metadata: files, each with its role for content; delegations as (name, key, patterns, terminating).
fn document(role: &str, files: &[&str], to: &[(&str, u8, &str, bool)]) -> Handing {
    let files = files.iter().map(|path| ((*path).to_owned(), target(role))).collect();
    let key = |seed: &u8| Key::of_seed(&[*seed; 32]);
    let keys: BTreeMap<String, Key> =
        to.iter().map(|(_, seed, ..)| (key(seed).id(), key(seed))).collect();
    let roles: Vec<Value> = to
        .iter()
        .map(|(name, seed, paths, terminating)| {
            let paths: Vec<&str> = paths.split(' ').collect();
            json!({"name": name, "keyids": [key(seed).id()], "threshold": 1,
                   "terminating": terminating, "paths": paths})
        })
        .collect();
    let delegations = json!({"keys": keys, "roles": roles});
    Handing { targets: Targets::new(1, NOW.plus_days(9), files), delegations }
}

/// A repository: what each role says, and the seed that signs it.
struct World {
    client: Client,
    files: BTreeMap<String, Vec<u8>>,
}

impl World {
    fn new(top: &Handing, below: &[(&str, u8, Handing)]) -> Self {
        let seed = |n: u8| vec![Seed([n; 32])];
        let keys = RepositoryKeys {
            root: seed(101),
            targets: seed(102),
            snapshot: seed(103),
            timestamp: seed(104),
        };
        let root = sign(&keys.root(1, NOW.plus_days(1000)), &keys.root).unwrap();
        let mut client = Client::new(TrustedState::from_root(&root).unwrap(), NOW).unwrap();
        let files: BTreeMap<String, Vec<u8>> = below
            .iter()
            .map(|(name, by, document)| {
                ((*name).to_owned(), sign(document, &[Seed([*by; 32])]).unwrap())
            })
            .collect();
        let meta = || FileMeta { version: 1, length: None, hashes: None };
        let mut named: BTreeMap<String, FileMeta> =
            files.keys().map(|name| (format!("{name}.json"), meta())).collect();
        named.insert("targets.json".into(), meta());
        let snapshot = Snapshot::new(1, NOW.plus_days(9), named);
        let named = BTreeMap::from([("snapshot.json".to_owned(), meta())]);
        let timestamp = Timestamp::new(1, NOW.plus_days(9), named);
        client.apply_timestamp(&sign(&timestamp, &keys.timestamp).unwrap()).unwrap();
        client.apply_snapshot(&sign(&snapshot, &keys.snapshot).unwrap()).unwrap();
        client.apply_targets(&sign(top, &keys.targets).unwrap()).unwrap();
        Self { client, files }
    }

    fn load(&mut self, way: &Way) -> Result<(), TufError> {
        let wanted = self.client.wanted_delegated(way)?;
        assert_eq!(wanted.path, format!("metadata/{}.json", escaped(way.role())));
        let bytes = self.files.get(way.role()).cloned().unwrap();
        self.client.apply_delegated(way, &bytes)
    }

    /// Who speaks for a path, and which roles were asked on the way.
    fn find(&mut self, path: &str) -> Result<(Option<Target>, String), TufError> {
        let mut asked = Vec::new();
        loop {
            let way = match self.client.find(path)? {
                Found::Target(target) => return Ok((Some(target.clone()), asked.join(" "))),
                Found::Nothing => return Ok((None, asked.join(" "))),
                Found::Needs(way) => way,
            };
            asked.push(way.role().to_owned());
            self.load(&way)?;
        }
    }

    fn offered(&mut self) -> Result<Vec<(String, Target)>, TufError> {
        while let Some(way) = self.client.next_delegated()? {
            self.load(&way)?;
        }
        Ok(self.client.offered()?.targets.into_iter().collect())
    }
}

#[test]
fn the_first_that_names_a_path_speaks_for_it() {
    let world = || {
        World::new(
            &document(
                "targets",
                &["top"],
                &[("a", 1, "x/*", false), ("b", 2, "x/* y/*", true), ("c", 3, "*", false)],
            ),
            &[
                ("a", 1, document("a", &["x/1"], &[("d", 4, "x/*", false)])),
                ("b", 2, document("b", &["x/1", "x/2", "top"], &[])),
                ("c", 3, document("c", &["y/9", "z"], &[])),
                ("d", 4, document("d", &["x/3", "y/1"], &[])),
            ],
        )
    };
    for (path, who, asked) in [
        ("top", Some("targets"), ""),
        ("x/1", Some("a"), "a"),
        ("x/2", Some("b"), "a d b"),
        ("x/3", Some("d"), "a d"),
        // `d` names it, but nobody handed y/* on to it; `b` ends the search before `c`.
        ("y/1", None, "b"),
        ("y/9", None, "b"),
        ("z", Some("c"), "c"),
        ("x/y/z", None, ""),
    ] {
        let (found, roles) = world().find(path).unwrap();
        assert_eq!((found, roles.as_str()), (who.map(target), asked), "{path}");
    }
    let all = world().offered().unwrap();
    let all: Vec<_> = all.iter().map(|(path, found)| (path.as_str(), found)).collect();
    let (top, a, b, d, c) = (target("targets"), target("a"), target("b"), target("d"), target("c"));
    assert_eq!(all, [("top", &top), ("x/1", &a), ("x/2", &b), ("x/3", &d), ("z", &c)]);
}

#[test]
fn a_role_counts_only_by_the_keys_of_who_handed_files_on_to_it() {
    let parts = |by| {
        World::new(
            &document("targets", &[], &[("a", 1, "a/*", false), ("b", 2, "b/*", false)]),
            &[
                ("a", 1, document("a", &[], &[("c", 3, "a/*", false)])),
                ("b", 2, document("b", &[], &[("c", 4, "b/*", false)])),
                ("c", by, document("c", &["a/1", "b/1"], &[])),
            ],
        )
    };
    let mut world = parts(3);
    assert_eq!(world.find("a/1").unwrap().0, Some(target("c")));
    // What was believed on one way says nothing on the other.
    assert!(matches!(world.find("b/1"), Err(TufError::Signature { .. })));
    assert!(matches!(parts(3).offered(), Err(TufError::Signature { .. })));
    assert!(matches!(parts(4).find("a/1"), Err(TufError::Signature { .. })));
}

#[test]
fn circles_end_and_crowds_are_refused() {
    let mut circle = World::new(
        &document("targets", &[], &[("a", 1, "*", false)]),
        &[
            ("a", 1, document("a", &[], &[("b", 2, "*", false)])),
            ("b", 2, document("b", &["found"], &[("a", 1, "*", false)])),
        ],
    );
    assert_eq!(circle.find("nowhere").unwrap(), (None, "a b".into()));
    assert_eq!(circle.offered().unwrap(), [("found".into(), target("b"))]);

    // Each role hands on to the next one.
    let names: Vec<String> = (0..=DELEGATED_MAX).map(|n| format!("r{n}")).collect();
    let chain = |count: usize| {
        let below: Vec<_> = names[..count]
            .iter()
            .enumerate()
            .map(|(n, name)| {
                let next = names[..count].get(n + 1);
                let to: Vec<_> = next.iter().map(|next| (next.as_str(), 1, "*", false)).collect();
                (name.as_str(), 1, document(name, &[], &to))
            })
            .collect();
        World::new(&document("targets", &[], &[("r0", 1, "*", false)]), &below)
    };
    assert_eq!(chain(DELEGATED_MAX).find("nowhere").unwrap().0, None);
    assert_eq!(chain(DELEGATED_MAX).offered().unwrap(), []);
    let crowd = |met: Result<_, TufError>| {
        assert!(matches!(
            met,
            Err(TufError::TooMany { what: "delegated roles", got: 33, max: 32, .. })
        ));
    };
    crowd(chain(DELEGATED_MAX + 1).find("nowhere").map(drop));
    crowd(chain(DELEGATED_MAX + 1).offered().map(drop));
}

#[test]
fn damaged_delegations_are_refused_with_their_metadata() {
    let read = |delegations: Value| {
        let signed = json!({"delegations": delegations});
        crate::delegation::Delegations::read("targets.json", &signed).map(drop)
    };
    let role = |name: &str, more: Value| {
        let mut role = json!({"name": name, "keyids": [], "threshold": 1, "terminating": false});
        role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"keys": {}, "roles": [role]})
    };
    read(Value::Null).unwrap();
    read(json!({"keys": {}, "roles": []})).unwrap();
    read(role("apps", json!({"paths": ["*"]}))).unwrap();
    read(role("apps", json!({"path_hash_prefixes": ["0"]}))).unwrap();
    for bad in [
        role("", json!({"paths": []})),
        role("root", json!({"paths": []})),
        role(&"x".repeat(129), json!({"paths": []})),
        role("apps", json!({})),
        role("apps", json!({"paths": [], "path_hash_prefixes": []})),
        role("apps", json!({"paths": [7]})),
        role("apps", json!({"paths": ["*".repeat(129)]})),
        json!({"keys": {}, "roles": {}}),
        json!({"keys": {}, "succinct_roles": {"bit_length": 8}}),
    ] {
        let refused = read(bad.clone());
        assert!(matches!(refused, Err(TufError::Malformed { .. })), "{bad}: {refused:?}");
    }
    let many: Vec<Value> = (0..=DELEGATED_MAX)
        .map(|n| json!({"name": n.to_string(), "keyids": [], "threshold": 1, "paths": []}))
        .collect();
    assert!(matches!(read(json!({"roles": many})), Err(TufError::TooMany { .. })));
    let patterns = role("apps", json!({"paths": vec!["*"; 65]}));
    assert!(matches!(read(patterns), Err(TufError::TooMany { max: 64, .. })));
}

#[test]
fn bins_of_paths_are_found_by_their_digest() {
    let mut top = document("targets", &[], &[("bin", 1, "", false)]);
    let digest = sha256_hex(b"releases/1");
    let role = &mut top.delegations["roles"][0];
    role.as_object_mut().unwrap().remove("paths");
    role["path_hash_prefixes"] = json!([digest[..2]]);
    let mut world = World::new(&top, &[("bin", 1, document("bin", &["releases/1", "other"], &[]))]);
    assert_eq!(world.find("releases/1").unwrap(), (Some(target("bin")), "bin".into()));
    assert_eq!(world.find("other").unwrap(), (None, String::new()));
}

#[test]
fn names_stay_inside_the_folder_and_the_address() {
    assert_eq!(escaped("apps-1.2"), "apps-1.2");
    assert_eq!(escaped("../a?b#c%é"), "..%2Fa%3Fb%23c%25%C3%A9");
}

/// What a pattern means, said the short way.
fn fits(pattern: &[char], part: &[char]) -> bool {
    match (pattern, part) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=part.len()).any(|cut| fits(rest, &part[cut..])),
        (['?', rest @ ..], [_, part @ ..]) => fits(rest, part),
        ([wanted, rest @ ..], [got, part @ ..]) => wanted == got && fits(rest, part),
        _ => false,
    }
}

proptest! {
    #[test]
    fn patterns_mean_what_they_should(pattern in "[ab*?/]{0,9}", path in "[ab/]{0,9}") {
        let (parts, of): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), pattern.split('/').collect());
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let wanted = parts.len() == of.len()
            && of.iter().zip(&parts).all(|(of, part)| fits(&chars(of), &chars(part)));
        prop_assert_eq!(matches(&pattern, &path), wanted);
    }
}

#[test]
fn a_pattern_full_of_stars_costs_no_more_than_its_length_times_the_name_s() {
    assert!(!matches(&"*a".repeat(60), &"a".repeat(59)));
    assert!(!matches(&("*a".repeat(40) + "b"), &"a".repeat(120)));
}
