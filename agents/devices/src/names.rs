//! Names that a device keeps over a boot and in another socket, from what it says of itself. No effects.
//!
//! Disks: links below `/dev/disk`, by what identifies them:
//!
//! | folder | name | of |
//! |---|---|---|
//! | `by-id` | `BUS-MODEL_SERIAL`, and `-partN` | disks that tell a serial number |
//! | `by-partlabel` | the partition's GPT name | partitions |
//! | `by-partuuid` | the partition's GUID | partitions |
//!
//! Network cards: further names beside the kernel's, which the kernel accepts wherever it accepts that.
//! `enpBsS[fF]` says where a card sits on the PCI (bus, slot, function, in decimal; `enPDpBsS` in another
//! domain than 0), `enx` and twelve digits what its burnt-in address is. The kernel's own name is not changed:
//! whoever uses a card must not lose it in the middle.

use std::collections::BTreeSet;

/// Folder of all links.
pub const DISK_FOLDER: &str = "/dev/disk";
/// Longest part of a name that a device's own words make, in characters.
const WORD_CHARS_MAX: usize = 80;

/// What a disk says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskFacts<'a> {
    /// How it is attached, in one word.
    pub bus: &'a str,
    /// Maker and model.
    pub model: &'a str,
    /// Serial number.
    pub serial: Option<&'a str>,
}

/// What a partition's table says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionFacts<'a> {
    /// Its number, from 1.
    pub number: u32,
    /// Its GPT name.
    pub label: Option<&'a str>,
    /// Its GUID.
    pub uuid: Option<&'a str>,
}

/// Links for a whole disk.
pub fn of_disk(disk: &DiskFacts<'_>) -> Vec<String> {
    by_id(disk).into_iter().collect()
}

/// Links for a partition of a disk.
pub fn of_partition(disk: &DiskFacts<'_>, partition: &PartitionFacts<'_>) -> Vec<String> {
    let by_id = by_id(disk).map(|name| format!("{name}-part{}", partition.number));
    let by = |folder: &str, word: Option<&str>| {
        let word = safe(word?);
        (!word.is_empty()).then(|| format!("{DISK_FOLDER}/{folder}/{word}"))
    };
    let label = by("by-partlabel", partition.label);
    let uuid = partition.uuid.map(str::to_ascii_lowercase);
    let uuid = by("by-partuuid", uuid.as_deref());
    by_id.into_iter().chain(label).chain(uuid).collect()
}

fn by_id(disk: &DiskFacts<'_>) -> Option<String> {
    let serial = safe(disk.serial?);
    if serial.is_empty() {
        return None;
    }
    let model = safe(disk.model);
    let id = if model.is_empty() { serial } else { format!("{model}_{serial}") };
    Some(format!("{DISK_FOLDER}/by-id/{}-{id}", safe(disk.bus)))
}

/// A device's own words as a file's name: letters, digits and `#+.:=@_-` stay, every other run of characters
/// becomes one `_`.
fn safe(words: &str) -> String {
    let mut name = String::new();
    for c in words.trim().chars().take(WORD_CHARS_MAX) {
        if c.is_ascii_alphanumeric() || "#+.:=@_-".contains(c) {
            name.push(c);
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    let name = name.trim_matches('_');
    // `.` and `..` are names of folders, and hidden files help nobody.
    name.trim_start_matches('.').to_owned()
}

/// Further names of a network card from its path below `/sys` and its burnt-in address.
pub fn of_card(path: &str, mac: Option<[u8; 6]>) -> Vec<String> {
    let by_address = mac.filter(|mac| *mac != [0; 6]).map(|mac| {
        let digits: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("enx{digits}")
    });
    // A card over USB sits wherever it was plugged in; its address is what stays.
    let over_usb = path.split('/').any(|part| part.starts_with("usb"));
    let by_place = if over_usb { None } else { path.split('/').rev().find_map(pci_place) };
    by_place.into_iter().chain(by_address).collect::<BTreeSet<_>>().into_iter().collect()
}

/// `0000:02:00.1` -> `enp2s0f1`.
fn pci_place(part: &str) -> Option<String> {
    let (domain, rest) = part.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let (domain, bus, slot, function) =
        (number(domain)?, number(bus)?, number(slot)?, number(function)?);
    let domain = if domain == 0 { String::new() } else { format!("P{domain}") };
    let function = if function == 0 { String::new() } else { format!("f{function}") };
    Some(format!("en{domain}p{bus}s{slot}{function}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STICK: DiskFacts<'_> =
        DiskFacts { bus: "usb", model: "SanDisk  Ultra Fit", serial: Some("4C53/0001") };

    #[test]
    fn a_disk_is_named_by_what_it_says_of_itself() {
        assert_eq!(of_disk(&STICK), ["/dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C53_0001"]);
        let bare = DiskFacts { bus: "virtio", model: "", serial: Some("data-0") };
        assert_eq!(of_disk(&bare), ["/dev/disk/by-id/virtio-data-0"]);
        assert!(of_disk(&DiskFacts { serial: None, ..STICK }).is_empty());
        assert!(of_disk(&DiskFacts { serial: Some(" "), ..STICK }).is_empty());
    }

    #[test]
    fn a_partition_is_named_by_its_disk_and_its_table() {
        let partition =
            PartitionFacts { number: 2, label: Some("goblin record"), uuid: Some("AB-1") };
        assert_eq!(
            of_partition(&STICK, &partition),
            [
                "/dev/disk/by-id/usb-SanDisk_Ultra_Fit_4C53_0001-part2",
                "/dev/disk/by-partlabel/goblin_record",
                "/dev/disk/by-partuuid/ab-1",
            ]
        );
    }

    #[test]
    fn a_card_is_named_by_its_place_and_its_address() {
        let mac = Some([0x52, 0x54, 0, 0x60, 1, 2]);
        let virtual_card = "/devices/pci0000:00/0000:00:03.0/virtio1/net/eth0";
        assert_eq!(of_card(virtual_card, mac), ["enp0s3", "enx525400600102"]);
        let second_port = "/devices/pci0000:00/0000:00:1c.0/0000:02:00.1/net/eth1";
        assert_eq!(of_card(second_port, None), ["enp2s0f1"]);
        assert_eq!(of_card("/devices/pci10000:00/10000:0a:00.0/net/e", None), ["enP65536p10s0"]);
        let stick = "/devices/pci0000:00/0000:00:04.0/usb1/1-1/1-1:1.0/net/usb0";
        assert_eq!(of_card(stick, mac), ["enx525400600102"]);
        assert!(of_card("/devices/virtual/net/dummy0", Some([0; 6])).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_a_device_says_its_links_stay_in_their_folders(
            bus in ".{0,12}", model in ".{0,120}", serial in ".{0,120}", label in ".{0,40}",
        ) {
            let disk = DiskFacts { bus: &bus, model: &model, serial: Some(&serial) };
            let partition = PartitionFacts { number: 1, label: Some(&label), uuid: Some(&serial) };
            for link in of_disk(&disk).into_iter().chain(of_partition(&disk, &partition)) {
                let parts: Vec<_> = link.split('/').collect();
                prop_assert_eq!(parts.len(), 5, "{}", link);
                prop_assert!(!["", ".", ".."].contains(&parts[4]), "{}", link);
                prop_assert!(link.len() < 255);
            }
        }
    }
}
