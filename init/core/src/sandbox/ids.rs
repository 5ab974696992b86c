//! Users and groups without `/etc/passwd`: a small fixed table, and a user for each unit from its name.

/// First user id of units that have one of their own. The range is the one that systemd keeps for its
/// dynamic users (`docs/UIDS-GIDS.md` there), so that no file of a foreign system is owned by a unit.
pub const DYNAMIC_FIRST: u32 = 61_184;
/// Last of them.
pub const DYNAMIC_LAST: u32 = 65_519;

/// Users that files on STATE may belong to: their ids never change. The group has the same number.
pub const USERS: &[(&str, u32)] = &[("root", 0), ("nobody", 65_534)];
/// What is wrong with another word of `user`.
pub(super) const USERS_REMEDY: &str = "write dynamic, root or nobody";

/// Groups that give access to something of the board; their ids never change.
///
/// - `keys`: the applied provisioning file with this board's private keys.
pub const GROUPS: &[(&str, u32)] = &[("keys", goblin_core_types::paths::KEYS_GROUP)];
/// What is wrong with another word of `groups`.
pub(super) const GROUPS_REMEDY: &str = "write keys";

/// Whom a unit runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Of the fixed table.
    Fixed(u32),
    /// Its own, of no file and no other unit.
    Dynamic(u32),
}

impl User {
    /// The user that a unit file names, or `None` when there is none of that name.
    pub(super) fn parse(word: &str, unit: &str) -> Option<Self> {
        if word == "dynamic" {
            return Some(Self::Dynamic(dynamic_id(unit)));
        }
        USERS.iter().find(|(name, _)| *name == word).map(|(_, id)| Self::Fixed(*id))
    }

    /// Number of the user, and of its own group.
    pub fn id(self) -> u32 {
        match self {
            Self::Fixed(id) | Self::Dynamic(id) => id,
        }
    }
}

/// A unit's own id: a hash of its name (FNV-1a, 32 bits), so that it is the same on every board and at
/// every boot. Two names with one id are refused where the image is built.
fn dynamic_id(unit: &str) -> u32 {
    let hash = unit
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let count = const { DYNAMIC_LAST - DYNAMIC_FIRST + 1 };
    DYNAMIC_FIRST.saturating_add(hash.checked_rem(count).unwrap_or(0))
}
