//! Changes of shares, groups and rights, and what undoes each.

use super::{
    Access, AccessError, EVERYONE, GROUP_MARK, GROUP_USERS_MAX, GROUPS_MAX, SHARES_MAX, ShareSpec,
    checked, is_share, shown,
};
use goblin_core_types::{AccessChange, Group, May, RightStatus};
use std::collections::BTreeSet;

impl Access {
    /// The shares that are served: those of the provisioning file that were not removed, then those that were added.
    pub fn served(&self, provisioned: &[ShareSpec]) -> Vec<ShareSpec> {
        let stays = provisioned.iter().filter(|share| !self.removed.contains(&share.name));
        let mut shares: Vec<ShareSpec> = stays.cloned().collect();
        // A later provisioning file may name what was added before.
        let new = self.added.iter().filter(|new| !shares.iter().any(|old| old.name == new.name));
        let new: Vec<ShareSpec> = new.cloned().collect();
        shares.extend(new);
        shares
    }

    /// The groups, by name.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The rules that name a share.
    pub fn rules_of(&self, share: &str) -> Vec<RightStatus> {
        let rules = self.rules.iter().filter(|rule| rule.share == share);
        rules.map(|rule| RightStatus { who: rule.user.clone(), may: rule.may }).collect()
    }

    pub(super) fn group(&self, name: &str) -> Result<&Group, AccessError> {
        let found = self.groups.iter().find(|group| group.name == name);
        found.ok_or_else(|| AccessError::NoGroup { name: shown(name) })
    }

    /// Makes a change; answers the one that undoes it, or nothing when it was so already.
    ///
    /// # Errors
    /// [`AccessError`]; nothing is changed then.
    pub fn apply(
        &mut self,
        change: &AccessChange,
        provisioned: &[ShareSpec],
    ) -> Result<Option<AccessChange>, AccessError> {
        let mut next = self.clone();
        let undo = next.change(change, provisioned)?;
        next.schema = next.schema_needed();
        *self = next;
        Ok(undo)
    }

    fn change(
        &mut self,
        change: &AccessChange,
        provisioned: &[ShareSpec],
    ) -> Result<Option<AccessChange>, AccessError> {
        match change {
            AccessChange::AddShare { name, read_only } => {
                let share = ShareSpec { name: name.clone(), read_only: *read_only };
                self.add_share(share, provisioned).map(Some)
            }
            AccessChange::RemoveShare { name } => self.remove_share(name, provisioned).map(Some),
            AccessChange::SetRight { who, share, may } => {
                self.set_right(who, share, *may, provisioned)
            }
            AccessChange::ClearRight { who, share } => {
                self.clear_right(who, share, provisioned).map(Some)
            }
            AccessChange::AddGroup { name, users } => self.add_group(name, users).map(Some),
            AccessChange::RemoveGroup { name } => self.remove_group(name).map(Some),
            AccessChange::Join { group, users } => self.join(group, users),
            AccessChange::Leave { group, users } => self.leave(group, users),
        }
    }

    fn add_share(
        &mut self,
        share: ShareSpec,
        provisioned: &[ShareSpec],
    ) -> Result<AccessChange, AccessError> {
        if !is_share(&share.name) {
            return Err(AccessError::ShareName { name: shown(&share.name) });
        }
        if self.served(provisioned).iter().any(|other| other.name == share.name) {
            return Err(AccessError::ShareExists { name: share.name });
        }
        let undo = AccessChange::RemoveShare { name: share.name.clone() };
        if provisioned.contains(&share) {
            self.removed.retain(|name| *name != share.name);
            return Ok(undo);
        }
        if self.added.len() >= SHARES_MAX {
            return Err(AccessError::TooMany);
        }
        self.added.push(share);
        self.added.sort();
        Ok(undo)
    }

    fn remove_share(
        &mut self,
        name: &str,
        provisioned: &[ShareSpec],
    ) -> Result<AccessChange, AccessError> {
        let served = self.served(provisioned);
        let share = served.into_iter().find(|share| share.name == name);
        let share = share.ok_or_else(|| AccessError::NoShare { name: shown(name) })?;
        let added = self.added.len();
        self.added.retain(|other| other.name != name);
        let provisions_it = provisioned.iter().any(|other| other.name == name);
        if provisions_it && !self.removed.iter().any(|other| other == name) {
            if self.removed.len() >= SHARES_MAX {
                return Err(AccessError::TooMany);
            }
            self.removed.push(name.into());
            self.removed.sort();
        } else if added == self.added.len() {
            return Err(AccessError::NoShare { name: shown(name) });
        }
        Ok(AccessChange::AddShare { name: share.name, read_only: share.read_only })
    }

    fn set_right(
        &mut self,
        who: &str,
        share: &str,
        may: May,
        provisioned: &[ShareSpec],
    ) -> Result<Option<AccessChange>, AccessError> {
        self.serves(share, provisioned)?;
        let before = self.rule(who, share);
        self.set(who, share, may)?;
        let (who, share) = (who.to_owned(), share.to_owned());
        Ok(match before {
            Some(before) if before == may => None,
            Some(may) => Some(AccessChange::SetRight { who, share, may }),
            None => Some(AccessChange::ClearRight { who, share }),
        })
    }

    fn serves(&self, share: &str, provisioned: &[ShareSpec]) -> Result<(), AccessError> {
        if self.served(provisioned).iter().any(|served| served.name == share) {
            return Ok(());
        }
        Err(AccessError::NoShare { name: shown(share) })
    }

    fn clear_right(
        &mut self,
        who: &str,
        share: &str,
        provisioned: &[ShareSpec],
    ) -> Result<AccessChange, AccessError> {
        // Otherwise the rule could not be set again.
        self.serves(share, provisioned)?;
        let Some(may) = self.rule(who, share) else {
            let who = if who == EVERYONE { "everyone".into() } else { shown(who) };
            return Err(AccessError::NoRule { who, share: shown(share) });
        };
        self.rules.retain(|rule| rule.user != who || rule.share != share);
        Ok(AccessChange::SetRight { who: who.into(), share: share.into(), may })
    }

    fn add_group(&mut self, name: &str, users: &[String]) -> Result<AccessChange, AccessError> {
        checked(name)?;
        if self.group(name).is_ok() {
            return Err(AccessError::GroupExists { name: name.into() });
        }
        if self.groups.len() >= GROUPS_MAX {
            return Err(AccessError::TooMany);
        }
        self.groups.push(Group { name: name.into(), users: several(users)? });
        self.groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(AccessChange::RemoveGroup { name: name.into() })
    }

    fn remove_group(&mut self, name: &str) -> Result<AccessChange, AccessError> {
        let group = self.group(name)?.clone();
        let marked = format!("{GROUP_MARK}{name}");
        // Rules of a group that is gone would come to life again with its name.
        if let Some(rule) = self.rules.iter().find(|rule| rule.user == marked) {
            return Err(AccessError::GroupInUse { name: group.name, share: rule.share.clone() });
        }
        self.groups.retain(|other| other.name != name);
        Ok(AccessChange::AddGroup { name: group.name, users: group.users })
    }

    fn join(&mut self, name: &str, users: &[String]) -> Result<Option<AccessChange>, AccessError> {
        let group = self.group_mut(name)?;
        let new: Vec<String> =
            several(users)?.into_iter().filter(|user| !group.users.contains(user)).collect();
        group.users = several(&[group.users.as_slice(), &new].concat())?;
        let undo = AccessChange::Leave { group: name.into(), users: new.clone() };
        Ok((!new.is_empty()).then_some(undo))
    }

    fn leave(&mut self, name: &str, users: &[String]) -> Result<Option<AccessChange>, AccessError> {
        let group = self.group_mut(name)?;
        let gone: Vec<String> =
            several(users)?.into_iter().filter(|user| group.users.contains(user)).collect();
        group.users.retain(|user| !gone.contains(user));
        let undo = AccessChange::Join { group: name.into(), users: gone.clone() };
        Ok((!gone.is_empty()).then_some(undo))
    }

    fn group_mut(&mut self, name: &str) -> Result<&mut Group, AccessError> {
        let found = self.groups.iter_mut().find(|group| group.name == name);
        found.ok_or_else(|| AccessError::NoGroup { name: shown(name) })
    }
}

/// Users, each once, sorted.
fn several(users: &[String]) -> Result<Vec<String>, AccessError> {
    users.iter().try_for_each(|user| checked(user).map(drop))?;
    let users: BTreeSet<&String> = users.iter().collect();
    if users.len() > GROUP_USERS_MAX {
        return Err(AccessError::TooMany);
    }
    Ok(users.into_iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(name: &str, read_only: bool) -> ShareSpec {
        ShareSpec { name: name.into(), read_only }
    }

    fn provisioned() -> Vec<ShareSpec> {
        vec![spec("home", false), spec("films", true)]
    }

    fn names(access: &Access) -> Vec<String> {
        access.served(&provisioned()).into_iter().map(|share| share.name).collect()
    }

    fn change() -> impl Strategy<Value = AccessChange> {
        let share =
            || prop::sample::select(vec!["home", "films", "new", "../x"]).prop_map(String::from);
        let who = prop::sample::select(vec!["*", "anna", "@family", "@none", "Bad Name"]);
        let group = || prop::sample::select(vec!["family", "team", "-"]).prop_map(String::from);
        let may = prop::sample::select(vec![May::Nothing, May::Read, May::Write]);
        let user = prop::sample::select(vec!["anna", "ben", "eve", "*"]).prop_map(String::from);
        let users = || prop::collection::vec(user.clone(), 0..3);
        prop_oneof![
            (share(), any::<bool>())
                .prop_map(|(name, read_only)| AccessChange::AddShare { name, read_only }),
            share().prop_map(|name| AccessChange::RemoveShare { name }),
            (who.clone(), share(), may).prop_map(|(who, share, may)| AccessChange::SetRight {
                who: who.into(),
                share,
                may
            }),
            (who, share())
                .prop_map(|(who, share)| AccessChange::ClearRight { who: who.into(), share }),
            (group(), users()).prop_map(|(name, users)| AccessChange::AddGroup { name, users }),
            group().prop_map(|name| AccessChange::RemoveGroup { name }),
            (group(), users()).prop_map(|(group, users)| AccessChange::Join { group, users }),
            (group(), users()).prop_map(|(group, users)| AccessChange::Leave { group, users }),
        ]
    }

    #[test]
    fn a_share_of_the_provisioning_file_goes_and_comes_back() {
        let mut access = Access::default();
        let remove = AccessChange::RemoveShare { name: "films".into() };
        let undo = access.apply(&remove, &provisioned()).unwrap().unwrap();
        assert_eq!(undo.command(), "goblin share add films --read-only");
        assert_eq!(names(&access), ["home"]);
        // Anew, but writable: another share of that name.
        let add = AccessChange::AddShare { name: "films".into(), read_only: false };
        access.apply(&add, &provisioned()).unwrap();
        assert_eq!(access.served(&provisioned()), [spec("home", false), spec("films", false)]);
        let err = access.apply(&add, &provisioned()).unwrap_err();
        assert!(matches!(err, AccessError::ShareExists { .. }));
        let escape = AccessChange::AddShare { name: "..".into(), read_only: false };
        assert!(matches!(access.apply(&escape, &[]), Err(AccessError::ShareName { .. })));
    }

    #[test]
    fn a_group_that_a_rule_names_stays() {
        let mut access = Access::default();
        let mut apply = |change: AccessChange| access.apply(&change, &provisioned());
        let users = vec!["anna".to_owned()];
        apply(AccessChange::AddGroup { name: "family".into(), users }).unwrap();
        let (who, share) = ("@family".to_owned(), "home".to_owned());
        apply(AccessChange::SetRight { who, share, may: May::Read }).unwrap();
        let remove = || AccessChange::RemoveGroup { name: "family".into() };
        let err = apply(remove()).unwrap_err();
        assert!(err.to_string().contains("goblin share reset home @family"), "{err}");
        let (who, share) = ("@family".to_owned(), "home".to_owned());
        apply(AccessChange::ClearRight { who, share }).unwrap();
        apply(remove()).unwrap();
    }

    proptest! {
        #[test]
        fn every_change_is_undone_by_what_it_says(changes in prop::collection::vec(change(), 0..40)) {
            let mut access = Access::default();
            for change in changes {
                let before = access.clone();
                match access.apply(&change, &provisioned()) {
                    Ok(Some(undo)) => {
                        let mut back = access.clone();
                        back.apply(&undo, &provisioned()).unwrap();
                        prop_assert_eq!(back, before);
                    }
                    Ok(None) | Err(_) => prop_assert_eq!(&access, &before),
                }
                prop_assert_eq!(&Access::parse(&access.to_bytes()).unwrap(), &access);
                let served = names(&access);
                let unique: BTreeSet<_> = served.iter().collect();
                prop_assert_eq!(unique.len(), served.len());
            }
        }
    }
}
