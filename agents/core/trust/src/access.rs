//! Enrolled clients, users, and their rights per share: what is kept on STATE.

use crate::PublicKey;
use goblin_core_types::{May, ShareRight};
use serde::{Deserialize, Serialize};

/// Shape of the file this release writes.
const SCHEMA: u32 = 1;
/// Longest file in bytes.
pub const ACCESS_BYTES_MAX: usize = 1 << 20;
/// Enrolled clients at most.
pub const CLIENTS_MAX: usize = 256;
/// Rules at most.
const RULES_MAX: usize = 1024;
/// Longest name of a client or user in characters.
const NAME_CHARS_MAX: usize = 63;
/// The word for every user without a rule of his own.
const EVERYONE: &str = "*";

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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
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
}

impl Default for Access {
    fn default() -> Self {
        Self { schema: SCHEMA, clients: Vec::new(), rules: Vec::new() }
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
}

/// Whether a text names a client or a user.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
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
        if access.schema != SCHEMA {
            return unusable("its schema is of another release");
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
        Ok(access)
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

    /// Sets what a user may do with a share; `*` for every user without a rule of his own.
    ///
    /// # Errors
    /// [`AccessError::Name`], [`AccessError::Full`].
    pub fn set(&mut self, user: &str, share: &str, may: May) -> Result<(), AccessError> {
        if user != EVERYONE {
            checked(user)?;
        }
        checked(share)?;
        self.rules.retain(|rule| rule.user != user || rule.share != share);
        if self.rules.len() >= RULES_MAX {
            return Err(AccessError::Full);
        }
        self.rules.push(Rule { user: user.into(), share: share.into(), may });
        self.rules.sort_by(|a, b| (&a.user, &a.share).cmp(&(&b.user, &b.share)));
        Ok(())
    }

    /// What a user may do with a share.
    pub fn may(&self, user: &str, share: &str) -> May {
        let rule = |who: &str| {
            self.rules.iter().find(|rule| rule.user == who && rule.share == share).map(|r| r.may)
        };
        rule(user).or_else(|| rule(EVERYONE)).unwrap_or(May::Write)
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
        newer = newer.replace("\"schema\": 1", "\"schema\": 2");
        assert!(matches!(Access::parse(newer.as_bytes()), Err(AccessError::Unusable { .. })));
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
