//! The power button: an input device of the kernel's ACPI driver.
//!
//! Source: `include/uapi/linux/input.h` of the kernel; an event is `time[16] type[2] code[2] value[4]`
//! on 64-bit machines.

use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Name the kernel gives the device.
const NAME: &str = "Power Button";
/// Size of one event in bytes.
const EVENT_BYTES: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// Most input devices looked at.
const DEVICES_MAX: usize = 64;

/// A power button.
#[derive(Debug)]
pub struct PowerButton {
    device: OwnedFd,
}

impl PowerButton {
    /// Every power button of the board.
    pub fn find() -> Vec<Self> {
        let entries = std::fs::read_dir("/sys/class/input").into_iter().flatten().flatten();
        entries
            .take(DEVICES_MAX)
            .filter(|entry| {
                let name =
                    std::fs::read_to_string(entry.path().join("device/name")).unwrap_or_default();
                entry.file_name().to_string_lossy().starts_with("event") && name.trim() == NAME
            })
            .filter_map(|entry| {
                let path = Path::new("/dev/input").join(entry.file_name());
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty()).ok().map(|device| Self { device })
            })
            .collect()
    }

    /// Reads what came; true when the button was pressed.
    pub fn pressed(&self) -> bool {
        let mut room = [0u8; EVENT_BYTES * 16];
        let mut pressed = false;
        while let Ok(count @ 1..) = rustix::io::read(&self.device, &mut room) {
            pressed |= room.get(..count).unwrap_or_default().as_chunks().0.iter().any(is_press);
        }
        pressed
    }
}

fn is_press(event: &[u8; EVENT_BYTES]) -> bool {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
    u16::from_le_bytes([t0, t1]) == EV_KEY
        && u16::from_le_bytes([c0, c1]) == KEY_POWER
        && i32::from_le_bytes([v0, v1, v2, v3]) == 1
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_press_counts() {
        let mut event = [0u8; EVENT_BYTES];
        event[16] = 1;
        event[18] = 116;
        event[20] = 1;
        assert!(is_press(&event));
        event[20] = 0;
        assert!(!is_press(&event), "release");
        event[20] = 1;
        event[18] = 30;
        assert!(!is_press(&event), "another key");
    }
}
