//! What is there, which names it has, and what to do when that changes. No effects.

use goblin_core_types::{DEVICES_MAX, Device, DeviceEvent, DeviceKind};
use std::collections::{BTreeMap, BTreeSet};

/// Something to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make a link, in the place of an older one.
    Link {
        /// Path of the link.
        link: String,
        /// What it leads to.
        target: String,
    },
    /// Take a link away.
    Unlink {
        /// Path of the link.
        link: String,
    },
    /// Give a network card further names.
    NameCard {
        /// The kernel's name of the card.
        card: String,
        /// The names.
        names: Vec<String>,
    },
    /// Tell those who listen.
    Tell(DeviceEvent),
}

/// Devices by path, and links by name.
#[derive(Debug, Default)]
pub struct Registry {
    devices: BTreeMap<String, Entry>,
    /// Link -> path of the device that has it.
    links: BTreeMap<String, String>,
    /// Number of the next device: older ones keep their names.
    next: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// As it was found, with all the names it would have.
    device: Device,
    /// Those it has.
    told: Device,
}

impl Registry {
    /// A device is there, new or as it is now.
    pub fn seen(&mut self, device: Device) -> Vec<Effect> {
        let path = device.path.clone();
        let before = self.devices.get(&path).map(|entry| (entry.number, entry.told.clone()));
        if before.is_none() && self.devices.len() >= DEVICES_MAX {
            return Vec::new();
        }
        let number = before.as_ref().map_or(self.next, |(number, _)| *number);
        self.next = self.next.max(number.saturating_add(1));
        let told = Device { stable_names: Vec::new(), ..device.clone() };
        self.devices.insert(path.clone(), Entry { number, device, told });
        let mut effects = self.settle_links();
        let Some(entry) = self.devices.get(&path) else { return effects };
        let now = entry.told.clone();
        match before {
            Some((_, before)) if before == now => {}
            Some(_) => effects.push(Effect::Tell(DeviceEvent::Changed { device: now })),
            None => {
                if now.kind == DeviceKind::NetworkCard && !now.stable_names.is_empty() {
                    let names = now.stable_names.clone();
                    effects.push(Effect::NameCard { card: now.name.clone(), names });
                }
                effects.push(Effect::Tell(DeviceEvent::Added { device: now }));
            }
        }
        effects
    }

    /// A device is gone.
    pub fn gone(&mut self, path: &str) -> Vec<Effect> {
        let Some(entry) = self.devices.remove(path) else { return Vec::new() };
        let mut effects = self.settle_links();
        effects.push(Effect::Tell(DeviceEvent::Removed { device: entry.told }));
        effects
    }

    /// Only these paths are there: what came and went unheard is told now.
    pub fn only(&mut self, there: &BTreeSet<String>) -> Vec<Effect> {
        let gone: Vec<String> =
            self.devices.keys().filter(|path| !there.contains(*path)).cloned().collect();
        gone.iter().flat_map(|path| self.gone(path)).collect()
    }

    /// Everything that is there.
    pub fn snapshot(&self) -> DeviceEvent {
        DeviceEvent::Snapshot {
            devices: self.devices.values().map(|entry| entry.told.clone()).collect(),
        }
    }

    /// The disk that a partition is on, by the partition's path.
    pub fn disk_of(&self, partition: &str) -> Option<&Device> {
        let (disk, _) = partition.rsplit_once('/')?;
        self.devices.get(disk).map(|entry| &entry.told)
    }

    /// Gives every link to the oldest device that claims it.
    fn settle_links(&mut self) -> Vec<Effect> {
        let mut by_age: Vec<&Entry> = self.devices.values().collect();
        by_age.sort_by_key(|entry| entry.number);
        let mut wanted: BTreeMap<String, (String, String)> = BTreeMap::new();
        for Entry { device, .. } in by_age {
            let Some(dev_path) = device.dev_path.as_ref().filter(|_| is_block(device)) else {
                continue;
            };
            for link in &device.stable_names {
                wanted
                    .entry(link.clone())
                    .or_insert_with(|| (device.path.clone(), dev_path.clone()));
            }
        }
        let mut effects: Vec<Effect> = self
            .links
            .keys()
            .filter(|link| !wanted.contains_key(*link))
            .map(|link| Effect::Unlink { link: link.clone() })
            .collect();
        for (link, (owner, target)) in &wanted {
            if self.links.get(link) != Some(owner) {
                effects.push(Effect::Link { link: link.clone(), target: target.clone() });
            }
        }
        self.links = wanted.into_iter().map(|(link, (owner, _))| (link, owner)).collect();
        for (path, entry) in &mut self.devices {
            let has = |link: &&String| self.links.get(*link) == Some(path);
            let names = entry.device.stable_names.iter();
            entry.told.stable_names = if is_block(&entry.device) {
                names.filter(has).cloned().collect()
            } else {
                names.cloned().collect()
            };
        }
        effects
    }
}

fn is_block(device: &Device) -> bool {
    matches!(device.kind, DeviceKind::Disk | DeviceKind::Partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::Bus;
    use proptest::prelude::*;

    fn disk(name: &str, links: &[&str]) -> Device {
        Device {
            path: format!("/devices/{name}"),
            kind: DeviceKind::Disk,
            bus: Bus::Usb,
            name: name.into(),
            dev_path: Some(format!("/dev/{name}")),
            stable_names: links.iter().map(|link| (*link).to_owned()).collect(),
            model: "Stick".into(),
            serial: None,
            size_bytes: Some(1),
            removable: true,
        }
    }

    fn link(link: &str, name: &str) -> Effect {
        Effect::Link { link: link.into(), target: format!("/dev/{name}") }
    }

    #[test]
    fn a_device_has_its_names_before_anyone_is_told() {
        let mut registry = Registry::default();
        let sda = disk("sda", &["/dev/disk/a"]);
        let added = Effect::Tell(DeviceEvent::Added { device: sda.clone() });
        assert_eq!(registry.seen(sda.clone()), [link("/dev/disk/a", "sda"), added]);
        assert_eq!(registry.seen(sda.clone()), [], "nothing new");
        let removed = Effect::Tell(DeviceEvent::Removed { device: sda });
        assert_eq!(
            registry.gone("/devices/sda"),
            [Effect::Unlink { link: "/dev/disk/a".into() }, removed]
        );
        assert_eq!(registry.gone("/devices/sda"), []);
    }

    #[test]
    fn a_copy_takes_no_name_away_but_inherits_it() {
        let mut registry = Registry::default();
        registry.seen(disk("vda", &["/dev/disk/system"]));
        let copy = disk("sda", &["/dev/disk/system"]);
        let effects = registry.seen(copy);
        let [Effect::Tell(DeviceEvent::Added { device })] = effects.as_slice() else {
            panic!("{effects:?}")
        };
        assert!(device.stable_names.is_empty());
        assert_eq!(registry.gone("/devices/vda").first(), Some(&link("/dev/disk/system", "sda")));
    }

    #[test]
    fn a_card_gets_its_names_once() {
        let mut registry = Registry::default();
        let card =
            Device { kind: DeviceKind::NetworkCard, dev_path: None, ..disk("eth0", &["enp0s3"]) };
        let named = Effect::NameCard { card: "eth0".into(), names: vec!["enp0s3".into()] };
        assert_eq!(registry.seen(card.clone()).first(), Some(&named));
        assert_eq!(registry.seen(card), []);
    }

    #[test]
    fn what_went_unheard_is_told_after_a_second_look() {
        let mut registry = Registry::default();
        registry.seen(disk("sda", &[]));
        registry.seen(disk("sdb", &[]));
        let effects = registry.only(&BTreeSet::from(["/devices/sdb".to_owned()]));
        assert!(matches!(effects.as_slice(), [Effect::Tell(DeviceEvent::Removed { device })]
            if device.name == "sda"));
    }

    proptest! {
        /// Whatever comes and goes: each link leads to a device that is there and claims it, no claimed
        /// link is missing, and listeners who apply the events know the snapshot.
        #[test]
        fn links_and_listeners_agree_with_what_is_there(
            steps in prop::collection::vec((any::<bool>(), 0u8..5, 0u8..4), 0..60),
        ) {
            let mut registry = Registry::default();
            let mut links: BTreeMap<String, String> = BTreeMap::new();
            let mut known: BTreeMap<String, Device> = BTreeMap::new();
            for (comes, n, label) in steps {
                let device = disk(&format!("sd{n}"), &[&format!("/dev/disk/{label}")]);
                let effects =
                    if comes { registry.seen(device) } else { registry.gone(&device.path) };
                for effect in effects {
                    match effect {
                        Effect::Link { link, target } => drop(links.insert(link, target)),
                        Effect::Unlink { link } => prop_assert!(links.remove(&link).is_some()),
                        Effect::NameCard { .. } => {}
                        Effect::Tell(DeviceEvent::Removed { device }) => {
                            prop_assert!(known.remove(&device.path).is_some());
                        }
                        Effect::Tell(
                            DeviceEvent::Added { device } | DeviceEvent::Changed { device },
                        ) => drop(known.insert(device.path.clone(), device)),
                        Effect::Tell(DeviceEvent::Snapshot { .. }) => {}
                    }
                }
                let DeviceEvent::Snapshot { devices } = registry.snapshot() else { unreachable!() };
                let paths: Vec<_> = devices.iter().map(|device| &device.path).collect();
                prop_assert_eq!(paths, known.keys().collect::<Vec<_>>());
                let claimed: BTreeSet<&String> =
                    registry.devices.values().flat_map(|e| &e.device.stable_names).collect();
                prop_assert_eq!(claimed, links.keys().collect::<BTreeSet<_>>());
                for (link, target) in &links {
                    let owners = devices.iter().filter(|d| d.stable_names.contains(link));
                    let owners: Vec<_> = owners.filter_map(|d| d.dev_path.as_ref()).collect();
                    prop_assert_eq!(owners, [target]);
                }
            }
        }
    }
}
