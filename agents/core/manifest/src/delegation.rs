//! Files that the targets metadata hands on to other signers, and who speaks for a path.
//!
//! A repository of a vendor may leave `apps/*` or one channel to somebody else without giving away its own
//! keys. Follows The Update Framework specification 1.0, sections 4.5 and 5.6.7: a depth-first walk in the
//! order of the delegations, in which a terminating one ends the walk. Bins of signers (`succinct_roles`) are
//! not followed.

use crate::client::Client;
use crate::keys::Key;
use crate::tuf::{
    Kind, RoleKeys, Target, Targets, TufError, few_targets, is_plain_path, malformed, sha256_hex,
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Most delegated roles that one search or one run meets.
pub const DELEGATED_MAX: usize = 32;
/// Longest name of a delegated role, and longest pattern, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Most patterns of one delegation: each is compared with every path.
const PATTERNS_MAX: usize = 64;

/// How a delegated role was reached: the names from the first one below `targets` to its own. What is known of
/// a role counts for this way only, since another way is another signer's word for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way(pub(crate) Vec<String>);

impl Way {
    /// The role's own name; empty for the way to `targets` itself.
    pub fn role(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    fn to(&self, role: &str) -> Self {
        Self(self.0.iter().cloned().chain([role.to_owned()]).collect())
    }

    fn parent(&self) -> Self {
        Self(self.0.split_last().map_or(Vec::new(), |(_, before)| before.to_vec()))
    }
}

/// Whom a file of targets metadata hands files on to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Delegations {
    #[serde(default)]
    pub(crate) keys: BTreeMap<String, Key>,
    #[serde(default)]
    roles: Vec<Delegated>,
    #[serde(default)]
    succinct_roles: Option<Value>,
}

/// One signer, and the files handed on to it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Delegated {
    name: String,
    #[serde(flatten)]
    pub(crate) signers: RoleKeys,
    #[serde(default)]
    terminating: bool,
    #[serde(default)]
    paths: Option<Vec<String>>,
    #[serde(default)]
    path_hash_prefixes: Option<Vec<String>>,
}

impl Delegations {
    /// Reads them from a document of targets metadata, as received; `file` names it in errors.
    ///
    /// # Errors
    /// [`TufError::Malformed`] or [`TufError::TooMany`].
    pub fn read(file: &str, signed: &Value) -> Result<Self, TufError> {
        let Some(value) = signed.get("delegations").filter(|value| !value.is_null()) else {
            return Ok(Self::default());
        };
        let read = Self::deserialize(value).map_err(|err| malformed(file, &err))?;
        let refuse = |detail: String| TufError::Malformed { file: file.into(), detail };
        if read.succinct_roles.is_some() {
            return Err(refuse(
                "it hands files on by `succinct_roles`, which boards do not follow".into(),
            ));
        }
        if read.roles.len() > DELEGATED_MAX {
            let (file, got) = (file.into(), read.roles.len());
            return Err(TufError::TooMany { file, what: "delegations", got, max: DELEGATED_MAX });
        }
        for role in &read.roles {
            let name: String = role.name.chars().take(40).collect();
            if role.name.is_empty() || role.name.len() > NAME_BYTES_MAX {
                return Err(refuse(format!("`{name}` is no name of a delegated role")));
            }
            if Kind::ALL.iter().any(|kind| kind.as_str() == role.name) {
                return Err(refuse(format!("it hands files on to the role `{name}` of the root")));
            }
            if role.paths.is_some() == role.path_hash_prefixes.is_some() {
                return Err(refuse(format!(
                    "the delegation to `{name}` needs either `paths` or `path_hash_prefixes`"
                )));
            }
            let patterns = || role.paths.iter().chain(&role.path_hash_prefixes).flatten();
            if patterns().any(|pattern| pattern.len() > NAME_BYTES_MAX) {
                return Err(refuse(format!("the delegation to `{name}` has too long a pattern")));
            }
            let got = patterns().count();
            if got > PATTERNS_MAX {
                let (file, what) = (file.into(), "patterns in one delegation");
                return Err(TufError::TooMany { file, what, got, max: PATTERNS_MAX });
            }
        }
        Ok(read)
    }

    pub(crate) fn role(&self, name: &str) -> Option<&Delegated> {
        self.roles.iter().find(|role| role.name == name)
    }
}

impl Delegated {
    fn speaks_for(&self, path: &str) -> bool {
        if let Some(starts) = &self.path_hash_prefixes {
            let digest = sha256_hex(path.as_bytes());
            return starts.iter().any(|start| digest.starts_with(start));
        }
        self.paths.iter().flatten().any(|pattern| matches(pattern, path))
    }
}

/// True when every part of a path fits the same part of a pattern, in which `*` stands for any characters
/// and `?` for one.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (patterns, parts) = (pattern.split('/'), path.split('/'));
    patterns.clone().count() == parts.clone().count()
        && patterns.zip(parts).all(|(pattern, part)| part_matches(pattern, part))
}

/// In the time of one walk for each `*`: what a star may stand for grows by a character at a time, and only
/// the last star's does.
fn part_matches(pattern: &str, part: &str) -> bool {
    let (mut pattern, mut part) = (pattern.chars(), part.chars());
    let mut star: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let (mut next_pattern, mut next_part) = (pattern.clone(), part.clone());
        match (next_pattern.next(), next_part.next()) {
            (Some('*'), _) => {
                star = Some((next_pattern.clone(), part.clone()));
                pattern = next_pattern;
                continue;
            }
            (None, None) => return true,
            (Some(wanted), Some(got)) if wanted == '?' || wanted == got => {
                (pattern, part) = (next_pattern, next_part);
                continue;
            }
            _ => {}
        }
        let Some((after_star, rest)) = &mut star else { return false };
        if rest.next().is_none() {
            return false;
        }
        (pattern, part) = (after_star.clone(), rest.clone());
    }
}

/// What is known of a delegated role.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) targets: Targets,
    pub(crate) delegations: Delegations,
}

/// Who speaks for a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// This is the file.
    Target(&'a Target),
    /// Nobody names it.
    Nothing,
    /// The metadata of this role must be applied first.
    Needs(Way),
}

impl Client {
    /// Who speaks for a path, as far as the metadata is there.
    ///
    /// # Errors
    /// [`TufError::OutOfOrder`] before the targets, [`TufError::TooMany`] after [`DELEGATED_MAX`] roles.
    pub fn find(&self, path: &str) -> Result<Found<'_>, TufError> {
        let mut met = BTreeSet::new();
        let mut open = vec![Way::default()];
        while let Some(way) = open.pop() {
            if !met.insert(way.role().to_owned()) {
                continue;
            }
            few_enough(met.len())?;
            let Some((targets, delegations)) = self.loaded(&way)? else {
                return Ok(Found::Needs(way));
            };
            if let Some(target) = targets.targets.get(path) {
                return Ok(Found::Target(target));
            }
            let mut below = Vec::new();
            for role in delegations.roles.iter().filter(|role| role.speaks_for(path)) {
                below.push(way.to(&role.name));
                if role.terminating {
                    open.clear();
                    break;
                }
            }
            open.extend(below.into_iter().rev());
        }
        Ok(Found::Nothing)
    }

    /// The next delegated role that is not known yet, over all there are; `None` when all are known.
    ///
    /// # Errors
    /// Those of [`Client::find`].
    pub fn next_delegated(&self) -> Result<Option<Way>, TufError> {
        let mut met: usize = 1;
        let mut open = vec![Way::default()];
        while let Some(way) = open.pop() {
            let Some((_, delegations)) = self.loaded(&way)? else { return Ok(Some(way)) };
            for role in &delegations.roles {
                // Who hands a file back to one that it came from is not asked again.
                if !way.0.contains(&role.name) {
                    met = met.saturating_add(1);
                    few_enough(met)?;
                    open.push(way.to(&role.name));
                }
            }
        }
        Ok(None)
    }

    /// Every file of the repository by who speaks for it, once [`Client::next_delegated`] knows no more.
    ///
    /// # Errors
    /// Those of [`Client::find`]; [`TufError::TooMany`] for more than [`TARGETS_MAX`](crate::tuf::TARGETS_MAX)
    /// files.
    pub fn offered(&self) -> Result<Targets, TufError> {
        let (top, _) = self.loaded(&Way::default())?.ok_or_else(early)?;
        let below = || self.delegated.values().flat_map(|loaded| loaded.targets.targets.keys());
        let count = top.targets.len().saturating_add(below().count());
        few_targets(&Kind::Targets.to_string(), count)?;
        let mut all = top.clone();
        // A path that no board would fetch is not worth a search.
        for path in below().filter(|path| is_plain_path(path)) {
            if !all.targets.contains_key(path)
                && let Found::Target(target) = self.find(path)?
            {
                all.targets.insert(path.clone(), target.clone());
            }
        }
        Ok(all)
    }

    /// Keys and threshold for the role at the end of a way.
    pub(crate) fn signers(
        &self,
        way: &Way,
    ) -> Result<(&BTreeMap<String, Key>, &RoleKeys), TufError> {
        let unnamed = || TufError::Unnamed { file: file_of(way.role()) };
        let (_, delegations) = self.loaded(&way.parent())?.ok_or_else(unnamed)?;
        let role = delegations.role(way.role()).ok_or_else(unnamed)?;
        Ok((&delegations.keys, &role.signers))
    }

    fn loaded(&self, way: &Way) -> Result<Option<(&Targets, &Delegations)>, TufError> {
        if way.0.is_empty() {
            let top = self.targets.as_ref().ok_or_else(early)?;
            return Ok(Some((top, &self.delegations)));
        }
        Ok(self.delegated.get(way).map(|loaded| (&loaded.targets, &loaded.delegations)))
    }
}

/// The name that the snapshot gives the metadata of a delegated role.
pub(crate) fn file_of(role: &str) -> String {
    format!("{role}.json")
}

/// A role's name as part of a file name: anything but plain characters is escaped, so that it neither leaves
/// the folder nor ends an address (RFC 3986, section 2.1).
pub(crate) fn escaped(role: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte);
    let mut text = String::new();
    for byte in role.bytes() {
        match plain(byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn early() -> TufError {
    TufError::OutOfOrder { file: Kind::Targets, wanted: Kind::Snapshot }
}

fn few_enough(got: usize) -> Result<(), TufError> {
    // The top level's own does not count.
    let (max, got) = (DELEGATED_MAX, got.saturating_sub(1));
    if got <= max {
        return Ok(());
    }
    Err(TufError::TooMany { file: Kind::Targets.to_string(), what: "delegated roles", got, max })
}
