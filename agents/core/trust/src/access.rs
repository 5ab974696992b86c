//! Enrolled clients, users, groups, shares, and rights per share: what is kept on STATE.

use crate::PublicKey;
use goblin_core_types::{Group, May, ShareRight};
use serde::{Deserialize, Serialize};

mod change;

/// Shapes of the file: the second has groups and shares. It is written only where there are any, so that an older
/// release reads what it understands after a rollback.
const SCHEMA_PLAIN: u32 = 1;
const SCHEMA_GROUPS: u32 = 2;
/// Longest file in bytes.
pub const ACCESS_BYTES_MAX: usize = 1 << 20;
/// Enrolled clients at most.
pub const CLIENTS_MAX: usize = 256;
/// Rules at most.
const RULES_MAX: usize = 1024;
/// Groups at most.
const GROUPS_MAX: usize = 64;
/// Users of one group at most.
const GROUP_USERS_MAX: usize = 256;
/// Shares that are added or removed at most.
const SHARES_MAX: usize = 64;
/// Longest name of a share in characters; the provisioning file's rule.
const SHARE_NAME_CHARS_MAX: usize = 32;
/// Longest name of a client or user in characters.
const NAME_CHARS_MAX: usize = 63;
/// The word for every user without a rule of his own, or of a group of his.
const EVERYONE: &str = "*";
/// What a group's name begins with where users are named.
const GROUP_MARK: char = '@';

/// One enrolled client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRecord {
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// The user it stands for.
    pub user: String,
    /// Seconds since 1970 when it was enrolled.
    pub added_unix_s: u64,
}

/// A share, and whether everyone only reads it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareSpec {
    /// Its name.
    pub name: String,
    /// Refuse every change.
    pub read_only: bool,
}

impl From<&str> for ShareSpec {
    /// One that may be written to.
    fn from(name: &str) -> Self {
        Self { name: name.into(), read_only: false }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// A user, a group behind its mark, or everyone.
    user: String,
    share: String,
    may: May,
}

/// The file of rights. Without a rule an enrolled user may write: a household shares, and says where not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    schema: u32,
    clients: Vec<ClientRecord>,
    rules: Vec<Rule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Group>,
    /// Shares that the provisioning file does not name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<ShareSpec>,
    /// Shares that it names and that are not served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            schema: SCHEMA_PLAIN,
            clients: Vec::new(),
            rules: Vec::new(),
            groups: Vec::new(),
            added: Vec::new(),
            removed: Vec::new(),
        }
    }
}

/// What a key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Name of the client.
    pub client: String,
    /// The user it stands for.
    pub user: String,
    /// Shares it may at least read, in the order given.
    pub shares: Vec<ShareRight>,
}

impl Grant {
    /// What may be done with a share.
    pub fn may(&self, share: &str) -> May {
        self.shares.iter().find(|right| right.name == share).map_or(May::Nothing, |right| right.may)
    }
}

/// Why a change or a file of rights is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The file cannot be read as this release's.
    #[error("the file of clients and rights is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// The file is of another release, or breaks a rule.
    #[error("the file of clients and rights is not usable: {what}")]
    Unusable {
        /// What breaks which rule.
        what: &'static str,
    },
    /// A name that breaks the rules.
    #[error(
        "`{name}` is no name: use 1 to {NAME_CHARS_MAX} of a-z, 0-9, - and _, not starting with -"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is one already.
    #[error("a client `{name}` is enrolled already: revoke it, or choose another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is none.
    #[error("no client `{name}` is enrolled; see `goblin client list`")]
    NotFound {
        /// The name.
        name: String,
    },
    /// No room.
    #[error("no more than {CLIENTS_MAX} clients and {RULES_MAX} rules are kept: revoke some")]
    Full,
    /// No room for another group, user of a group, or share.
    #[error(
        "no more than {GROUPS_MAX} groups of {GROUP_USERS_MAX} users, and {SHARES_MAX} shares besides the \
         provisioned ones, are kept: remove some"
    )]
    TooMany,
    /// A share's name that breaks the rules.
    #[error(
        "`{name}` is no name of a share: use 1 to {SHARE_NAME_CHARS_MAX} of a-z, 0-9, - and _, not starting \
         with -"
    )]
    ShareName {
        /// The name.
        name: String,
    },
    /// A group of this name.
    #[error("there is a group `{name}` already; see `goblin group list`")]
    GroupExists {
        /// The name.
        name: String,
    },
    /// No such group.
    #[error(
        "there is no group `{name}`; see `goblin group list`, or make it with `goblin group add`"
    )]
    NoGroup {
        /// The name.
        name: String,
    },
    /// A rule names the group.
    #[error(
        "a rule of the share `{share}` names the group: `goblin share reset {share} @{name}` takes it away"
    )]
    GroupInUse {
        /// The group.
        name: String,
        /// The share.
        share: String,
    },
    /// A share of this name.
    #[error("there is a share `{name}` already; see `goblin share list`")]
    ShareExists {
        /// The name.
        name: String,
    },
    /// No such share.
    #[error("there is no share `{name}`; see `goblin share list`")]
    NoShare {
        /// The name.
        name: String,
    },
    /// No rule for it.
    #[error("no rule of the share `{share}` names {who}; see `goblin share list`")]
    NoRule {
        /// Who.
        who: String,
        /// The share.
        share: String,
    },
}

/// Whether a text names a client or a user.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// Whether a text names a share.
fn is_share(name: &str) -> bool {
    name.len() <= SHARE_NAME_CHARS_MAX && is_name(name)
}

fn checked(name: &str) -> Result<&str, AccessError> {
    if is_name(name) { Ok(name) } else { Err(AccessError::Name { name: shown(name) }) }
}

/// A name that breaks the rules may hold anything: it is cut and its control characters go.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

impl Access {
    /// Reads the file.
    ///
    /// # Errors
    /// [`AccessError::Damaged`] or [`AccessError::Unusable`]; admit nobody then.
    pub fn parse(bytes: &[u8]) -> Result<Self, AccessError> {
        let access: Self = serde_json::from_slice(bytes)?;
        let unusable = |what| Err(AccessError::Unusable { what });
        if access.schema != access.schema_needed() {
            return unusable("its schema is of another release, or not that of what is in it");
        }
        if access.clients.len() > CLIENTS_MAX || access.rules.len() > RULES_MAX {
            return unusable("it has too many entries");
        }
        let good = |client: &ClientRecord| is_name(&client.name) && is_name(&client.user);
        if !access.clients.iter().all(good) {
            return unusable("a name in it breaks the rules");
        }
        let twice = access.clients.iter().enumerate().any(|(index, one)| {
            let before = access.clients.iter().take(index);
            before.into_iter().any(|other| other.key == one.key || other.name == one.name)
        });
        if twice {
            return unusable("a client is in it twice");
        }
        access.check_groups().map_err(|what| AccessError::Unusable { what })?;
        Ok(access)
    }

    const fn schema_needed(&self) -> u32 {
        if self.groups.is_empty() && self.added.is_empty() && self.removed.is_empty() {
            SCHEMA_PLAIN
        } else {
            SCHEMA_GROUPS
        }
    }

    fn check_groups(&self) -> Result<(), &'static str> {
        if self.groups.len() > GROUPS_MAX
            || self.groups.iter().any(|group| group.users.len() > GROUP_USERS_MAX)
            || self.added.len().max(self.removed.len()) > SHARES_MAX
        {
            return Err("it has too many groups or shares");
        }
        let named = |group: &Group| is_name(&group.name) && group.users.iter().all(|u| is_name(u));
        if !self.groups.iter().all(named) {
            return Err("a name of a group in it breaks the rules");
        }
        // The names of shares become paths.
        if !self.added.iter().map(|share| &share.name).chain(&self.removed).all(|n| is_share(n)) {
            return Err("a name of a share in it breaks the rules");
        }
        Ok(())
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Enrolled clients.
    pub fn clients(&self) -> &[ClientRecord] {
        &self.clients
    }

    /// The client of this name, when one is enrolled.
    pub fn client(&self, name: &str) -> Option<&ClientRecord> {
        self.clients.iter().find(|client| client.name == name)
    }

    /// Whether a key is enrolled.
    pub fn knows(&self, key: &PublicKey) -> bool {
        self.clients.iter().any(|client| client.key == *key)
    }

    /// Enrols a client. A PC that enrols again keeps its key: its old entry goes.
    ///
    /// # Errors
    /// [`AccessError::Name`], [`AccessError::Exists`] for another PC's name, [`AccessError::Full`].
    pub fn add(&mut self, client: ClientRecord) -> Result<(), AccessError> {
        checked(&client.name)?;
        checked(&client.user)?;
        if self.client(&client.name).is_some_and(|other| other.key != client.key) {
            return Err(AccessError::Exists { name: client.name });
        }
        self.clients.retain(|other| other.key != client.key);
        if self.clients.len() >= CLIENTS_MAX {
            return Err(AccessError::Full);
        }
        self.clients.push(client);
        self.clients.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// Forgets a client; answers its key.
    ///
    /// # Errors
    /// [`AccessError::NotFound`].
    pub fn revoke(&mut self, name: &str) -> Result<PublicKey, AccessError> {
        let index = self.clients.iter().position(|client| client.name == name);
        let index = index.ok_or_else(|| AccessError::NotFound { name: shown(name) })?;
        Ok(self.clients.remove(index).key)
    }

    /// Sets what a user, `@GROUP`, or `*` for every user whom no other rule names, may do with a share.
    ///
    /// # Errors
    /// [`AccessError::Name`], [`AccessError::NoGroup`], [`AccessError::Full`].
    pub fn set(&mut self, who: &str, share: &str, may: May) -> Result<(), AccessError> {
        if let Some(group) = who.strip_prefix(GROUP_MARK) {
            self.group(group)?;
        } else if who != EVERYONE {
            checked(who)?;
        }
        checked(share)?;
        self.rules.retain(|rule| rule.user != who || rule.share != share);
        if self.rules.len() >= RULES_MAX {
            return Err(AccessError::Full);
        }
        self.rules.push(Rule { user: who.into(), share: share.into(), may });
        self.rules.sort_by(|a, b| (&a.user, &a.share).cmp(&(&b.user, &b.share)));
        Ok(())
    }

    /// The rule that names him.
    fn rule(&self, who: &str, share: &str) -> Option<May> {
        self.rules.iter().find(|rule| rule.user == who && rule.share == share).map(|r| r.may)
    }

    /// What a user may do with a share: what his own rule says, else the most that a group of his may, else what
    /// everyone may.
    pub fn may(&self, user: &str, share: &str) -> May {
        let by_group = || {
            let his = self.groups.iter().filter(|group| group.users.iter().any(|one| one == user));
            his.filter_map(|group| self.rule(&format!("{GROUP_MARK}{}", group.name), share)).max()
        };
        let own = self.rule(user, share).or_else(by_group);
        own.or_else(|| self.rule(EVERYONE, share)).unwrap_or(May::Write)
    }

    /// What the owner of a key may do with these shares; `None` for a key that is not enrolled.
    pub fn grant<'a>(
        &self,
        key: &PublicKey,
        shares: impl Iterator<Item = &'a str>,
    ) -> Option<Grant> {
        let client = self.clients.iter().find(|client| client.key == *key)?;
        let right =
            |name: &str| ShareRight { name: name.into(), may: self.may(&client.user, name) };
        Some(Grant {
            client: client.name.clone(),
            user: client.user.clone(),
            shares: shares.map(right).filter(|right| right.may != May::Nothing).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(name: &str, seed: u8) -> ClientRecord {
        let key = PublicKey::of_seed(&[seed; 32]);
        ClientRecord { name: name.into(), key, user: name.into(), added_unix_s: 0 }
    }

    #[test]
    fn only_enrolled_keys_get_anything() {
        let mut access = Access::default();
        let anna = client("anna", 1);
        assert_eq!(access.grant(&anna.key, ["home"].into_iter()), None);
        access.add(anna.clone()).unwrap();
        let grant = access.grant(&anna.key, ["home"].into_iter()).unwrap();
        assert_eq!((grant.may("home"), grant.may("other")), (May::Write, May::Nothing));
        assert_eq!(access.revoke("anna").unwrap(), anna.key);
        assert_eq!(access.grant(&anna.key, ["home"].into_iter()), None);
        assert!(access.revoke("anna").is_err());
    }

    #[test]
    fn a_users_own_rule_goes_before_everyones() {
        let mut access = Access::default();
        access.add(client("anna", 1)).unwrap();
        access.add(client("guest", 2)).unwrap();
        access.set("*", "home", May::Nothing).unwrap();
        access.set("anna", "home", May::Read).unwrap();
        assert_eq!(access.may("anna", "home"), May::Read);
        assert_eq!(access.may("guest", "home"), May::Nothing);
        assert_eq!(access.may("guest", "films"), May::Write);
        let guest = access.grant(&client("guest", 2).key, ["home", "films"].into_iter()).unwrap();
        assert_eq!(guest.shares.len(), 1);
        access.set("anna", "home", May::Write).unwrap();
        assert_eq!(access.may("anna", "home"), May::Write);
    }

    #[test]
    fn a_name_is_one_pcs_and_a_key_one_clients() {
        let mut access = Access::default();
        access.add(client("pc", 1)).unwrap();
        assert!(matches!(access.add(client("pc", 2)), Err(AccessError::Exists { .. })));
        access.add(client("renamed", 1)).unwrap();
        assert_eq!(access.clients().len(), 1);
        assert!(matches!(access.add(client("../x", 3)), Err(AccessError::Name { .. })));
    }

    #[test]
    fn this_releases_file_is_understood_by_later_ones() {
        let text = include_bytes!("../data/access-1.json");
        let access = Access::parse(text).unwrap();
        assert_eq!(access.clients()[0].name, "laptop");
        assert_eq!(access.may("anna", "films"), May::Read);
        let mut newer = String::from_utf8_lossy(text).into_owned();
        newer = newer.replace("\"schema\": 1", "\"schema\": 3");
        assert!(matches!(Access::parse(newer.as_bytes()), Err(AccessError::Unusable { .. })));
        let access = Access::parse(include_bytes!("../data/access-2.json")).unwrap();
        assert_eq!(access.may("ben", "films"), May::Nothing);
        assert_eq!(access.may("anna", "films"), May::Read);
        let served: Vec<_> = access.served(&[]).into_iter().map(|share| share.name).collect();
        assert_eq!(served, ["attic"]);
    }

    #[test]
    fn a_group_goes_before_everyone_and_behind_a_users_own_rule() {
        let mut access = Access::default();
        let family = Group { name: "family".into(), users: vec!["anna".into(), "ben".into()] };
        let late = Group { name: "late".into(), users: vec!["anna".into()] };
        access.groups = vec![family, late];
        access.set("*", "home", May::Nothing).unwrap();
        access.set("@family", "home", May::Read).unwrap();
        assert_eq!(
            (access.may("anna", "home"), access.may("eve", "home")),
            (May::Read, May::Nothing)
        );
        access.set("@late", "home", May::Write).unwrap();
        assert_eq!(
            (access.may("anna", "home"), access.may("ben", "home")),
            (May::Write, May::Read)
        );
        access.set("anna", "home", May::Nothing).unwrap();
        assert_eq!(access.may("anna", "home"), May::Nothing);
        assert!(matches!(access.set("@none", "home", May::Read), Err(AccessError::NoGroup { .. })));
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        let mut access = Access::default();
        access.add(client("a", 1)).unwrap();
        access.clients.push(ClientRecord { name: "b".into(), ..client("a", 1) });
        assert!(Access::parse(&access.to_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read_back(names in proptest::collection::btree_set("[a-z][a-z0-9_-]{0,20}", 0..8)) {
            let mut access = Access::default();
            for (index, name) in names.iter().enumerate() {
                access.add(client(name, u8::try_from(index).unwrap())).unwrap();
                access.set(name, "home", May::Read).unwrap();
            }
            prop_assert_eq!(Access::parse(&access.to_bytes()).unwrap(), access);
        }

        #[test]
        fn any_bytes_are_a_file_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Access::parse(&bytes);
        }
    }
}
