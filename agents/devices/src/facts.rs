//! What a device says of itself, read from `/sys`.

use crate::names::{self, DiskFacts, PartitionFacts};
use goblin_core_types::{Bus, Device, DeviceKind};
use goblin_init_core::uevent::Uevent;
use goblin_sys::{block, files};
use std::path::{Path, PathBuf};

/// Where the kernel shows its devices.
const SYSFS: &str = "/sys";
/// Longest attribute read, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 4096;
/// Longest text of a device's own that is passed on, in characters.
const TEXT_CHARS_MAX: usize = 80;

/// The device of an event, if it is one that anybody wants to know of; `disk` knows the disk that a
/// partition is on. A disk that answers slowly is waited for: its driver has its own limits.
pub fn device(event: &Uevent, disk: impl Fn(&str) -> Option<Device>) -> Option<Device> {
    match (event.subsystem(), event.value("DEVTYPE")) {
        ("block", Some("disk")) => disk_device(event),
        ("block", Some("partition")) => partition(event, &disk(&event.path)?),
        ("net", _) => card(event),
        ("tty", _) if bus(&event.path) == Bus::Usb => Some(serial_line(event)),
        ("usb", Some("usb_device")) => Some(usb(event)),
        _ => None,
    }
}

fn blank(event: &Uevent, kind: DeviceKind) -> Device {
    Device {
        path: event.path.clone(),
        kind,
        bus: bus(&event.path),
        name: event.name().to_owned(),
        dev_path: event.dev_path(),
        stable_names: Vec::new(),
        model: String::new(),
        serial: None,
        size_bytes: None,
        removable: false,
    }
}

fn disk_device(event: &Uevent) -> Option<Device> {
    let found = block::disk(event.name())?;
    let mut device = blank(event, DeviceKind::Disk);
    device.size_bytes = Some(found.size_bytes);
    device.removable = found.removable || device.bus == Bus::Usb;
    (device.model, device.serial) = match plug(&event.path) {
        // Behind the bridge of a stick sits a disk that knows less than the plug.
        Some(plug) if device.bus == Bus::Usb => described(&plug),
        _ => (text(&found.model), found.serial.as_deref().map(text)),
    };
    device.stable_names = names::of_disk(&disk_facts(&device));
    Some(device)
}

fn partition(event: &Uevent, disk: &Device) -> Option<Device> {
    let table = block::disk(&disk.name)?;
    let found = table.partitions.iter().find(|partition| partition.name == event.name())?;
    let facts = PartitionFacts {
        number: found.number,
        label: found.part_name.as_deref(),
        uuid: found.part_uuid.as_deref(),
    };
    let mut device = blank(event, DeviceKind::Partition);
    device.size_bytes = Some(found.sectors.saturating_mul(block::SECTOR_BYTES));
    (device.model, device.serial) = (disk.model.clone(), disk.serial.clone());
    device.removable = disk.removable;
    device.stable_names = names::of_partition(&disk_facts(disk), &facts);
    Some(device)
}

fn disk_facts(disk: &Device) -> DiskFacts<'_> {
    DiskFacts { bus: bus_word(disk.bus), model: &disk.model, serial: disk.serial.as_deref() }
}

/// A card with a device behind it; bridges and tunnels are of no interest here.
fn card(event: &Uevent) -> Option<Device> {
    let folder = folder(&event.path);
    if !folder.join("device").exists() {
        return None;
    }
    let mut device = blank(event, DeviceKind::NetworkCard);
    // 0: burnt in; anything else was made up and will be another one next time.
    let burnt_in = attribute(&folder, "addr_assign_type").as_deref() == Some("0");
    let address = attribute(&folder, "address").filter(|_| burnt_in);
    device.stable_names = names::of_card(&event.path, address.as_deref().and_then(mac));
    if let Some(plug) = plug(&event.path) {
        (device.model, device.serial) = described(&plug);
    }
    Some(device)
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    bytes?.try_into().ok()
}

fn serial_line(event: &Uevent) -> Device {
    let mut device = blank(event, DeviceKind::SerialLine);
    if let Some(plug) = plug(&event.path) {
        (device.model, device.serial) = described(&plug);
    }
    device
}

fn usb(event: &Uevent) -> Device {
    let mut device = blank(event, DeviceKind::Usb);
    (device.model, device.serial) = described(&folder(&event.path));
    device
}

/// Maker, model and serial number of a plug on the USB.
fn described(plug: &Path) -> (String, Option<String>) {
    let word = |name| attribute(plug, name).map(|word| text(&word)).filter(|word| !word.is_empty());
    let maker = word("manufacturer").unwrap_or_default();
    let product = word("product").unwrap_or_default();
    // Some repeat the maker in the model.
    let model = if product.starts_with(&maker) { product } else { format!("{maker} {product}") };
    (text(&model), word("serial"))
}

/// The nearest plug on the USB above a device.
fn plug(path: &str) -> Option<PathBuf> {
    let device = folder(path);
    let above = device.ancestors().take_while(|folder| *folder != Path::new(SYSFS));
    above.into_iter().find(|folder| folder.join("idVendor").exists()).map(Path::to_owned)
}

/// How a device is attached, from the controllers on its path; the nearest one that says it counts.
fn bus(path: &str) -> Bus {
    path.split('/')
        .rev()
        .find_map(|part| {
            let begins = |word: &str| {
                part.strip_prefix(word)
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            };
            Some(match part {
                _ if begins("usb") => Bus::Usb,
                _ if begins("ata") => Bus::Ata,
                "nvme" | "nvme-subsystem" => Bus::Nvme,
                "mmc_host" => Bus::Mmc,
                _ if begins("virtio") => Bus::Virtio,
                _ if begins("pci") => Bus::Pci,
                _ => return None,
            })
        })
        .map_or(Bus::Other, |found| match found {
            Bus::Pci if path.contains("/host") => Bus::Scsi,
            other => other,
        })
}

const fn bus_word(bus: Bus) -> &'static str {
    match bus {
        Bus::Ata => "ata",
        Bus::Scsi => "scsi",
        Bus::Nvme => "nvme",
        Bus::Mmc => "mmc",
        Bus::Virtio => "virtio",
        Bus::Pci => "pci",
        Bus::Usb => "usb",
        Bus::Other => "disk",
    }
}

fn folder(path: &str) -> PathBuf {
    Path::new(SYSFS).join(path.trim_start_matches('/'))
}

fn attribute(folder: &Path, name: &str) -> Option<String> {
    let bytes = files::read_bounded(&folder.join(name), ATTRIBUTE_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ', '\n', '\t']).to_owned())
}

/// A device's own words, fit for a log line.
fn text(words: &str) -> String {
    let clean =
        words.trim().chars().filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER);
    clean.take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_controller_says_how_a_device_is_attached() {
        let pci = "/devices/pci0000:00/0000:00";
        for (path, wanted) in [
            (":04.0/usb1/1-1/1-1:1.0/host0/target0:0:0/0:0:0:0/block/sda", Bus::Usb),
            (":1f.2/ata1/host1/target1:0:0/1:0:0:0/block/sdb", Bus::Ata),
            (":03.0/nvme/nvme0/nvme0n1", Bus::Nvme),
            (":03.0/virtio2/block/vda", Bus::Virtio),
            (":05.0/host2/target2:0:0/2:0:0:0/block/sdc", Bus::Scsi),
            (":05.0/mmc_host/mmc0/mmc0:0001/block/mmcblk0", Bus::Mmc),
            (":06.0/net/eth0", Bus::Pci),
        ] {
            assert_eq!(bus(&format!("{pci}{path}")), wanted, "{path}");
        }
        assert_eq!(bus("/devices/virtual/block/loop0"), Bus::Other);
    }

    #[test]
    fn a_devices_words_fit_into_a_log_line() {
        assert_eq!(text(" a\nb\u{1b}[2J\u{fffd} "), "ab[2J");
        assert_eq!(text(&"x".repeat(500)).len(), TEXT_CHARS_MAX);
    }

    #[test]
    fn addresses_are_six_bytes() {
        assert_eq!(mac("52:54:00:60:01:02"), Some([0x52, 0x54, 0, 0x60, 1, 2]));
        assert_eq!(mac("52:54:00:60:01"), None);
        assert_eq!(mac("zz:54:00:60:01:02"), None);
    }
}
