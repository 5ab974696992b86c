//! Devices as agents see them, and the events of [`crate::paths::DEVICES_SOCKET`]: one JSON object per line.

use serde::{Deserialize, Serialize};

/// Most devices told of at once; more are left out, the last to come first.
pub const DEVICES_MAX: usize = 256;
/// Longest line of the event stream in bytes: a snapshot of [`DEVICES_MAX`] devices.
pub const DEVICE_LINE_BYTES_MAX: usize = 1 << 20;

/// What a device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// A whole disk.
    Disk,
    /// A partition of a disk.
    Partition,
    /// A network card.
    NetworkCard,
    /// A serial line over USB.
    SerialLine,
    /// A plug on the USB, whatever it does; its functions are devices of their own.
    Usb,
}

/// How a device is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// SATA.
    Ata,
    /// SCSI and what speaks it, other than USB and SATA.
    Scsi,
    /// NVM Express.
    Nvme,
    /// A memory card or chip.
    Mmc,
    /// A virtual machine's.
    Virtio,
    /// PCI.
    Pci,
    /// USB.
    Usb,
    /// Something else.
    Other,
}

/// One device. Texts of the device itself are cut and cleaned of control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its path below `/sys`: what it is called as long as it stays where it is.
    pub path: String,
    /// What it is for.
    pub kind: DeviceKind,
    /// How it is attached.
    pub bus: Bus,
    /// The kernel's name, like `sda1` or `eth0`; another one after the next boot.
    pub name: String,
    /// Its device file, where it has one.
    pub dev_path: Option<String>,
    /// Names that stay: links to the device file, like `/dev/disk/by-id/usb-QEMU_STICK_1`, and further names
    /// of a network card, like `enp0s3`.
    pub stable_names: Vec<String>,
    /// Maker and model, empty where it tells none.
    pub model: String,
    /// Serial number, where it tells one.
    pub serial: Option<String>,
    /// Size of a disk or partition in bytes.
    pub size_bytes: Option<u64>,
    /// True for disks that are meant to be pulled out.
    pub removable: bool,
}

/// Told to whoever listens to [`crate::paths::DEVICES_SOCKET`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum DeviceEvent {
    /// The first line: everything that is there.
    Snapshot {
        /// By path.
        devices: Vec<Device>,
    },
    /// A device came; its stable names are there already.
    Added {
        /// The device.
        device: Device,
    },
    /// A device is another one now, like a reader with a new card.
    Changed {
        /// As it is now.
        device: Device,
    },
    /// A device went.
    Removed {
        /// As it was.
        device: Device,
    },
}
