//! The power button: an input device of the kernel's ACPI driver.
//!
//! A keyboard may call itself a power button too, and whoever plugs it in may not end the board: only a device of
//! the board's own (`BUS_HOST`) counts.
//!
//! Source: `include/uapi/linux/input.h` of the kernel; an event is `time[16] type[2] code[2] value[4]`
//! on 64-bit machines.

use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Name the kernel gives the device.
const NAME: &str = "Power Button";
/// `BUS_HOST`, as sysfs writes it: no plug leads to such a device.
const BUS_HOST: &str = "0019";
/// Size of one event in bytes.
const EVENT_BYTES: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// Reads before others have their turn.
const TURN_READS_MAX: usize = 16;
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
                entry.file_name().to_string_lossy().starts_with("event") && is_button(&entry.path())
            })
            .filter_map(|entry| {
                let path = Path::new("/dev/input").join(entry.file_name());
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty()).ok().map(|device| Self { device })
            })
            .collect()
    }

    /// Reads what came; true when the button was pressed, `None` when there is no button any more.
    pub fn pressed(&self) -> Option<bool> {
        let mut room = [0u8; EVENT_BYTES * 16];
        let mut pressed = false;
        for _ in 0..TURN_READS_MAX {
            match rustix::io::read(&self.device, &mut room) {
                Ok(0) => return None,
                Ok(count) => {
                    let events = room.get(..count).unwrap_or_default().as_chunks().0;
                    pressed |= events.iter().any(is_press);
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Err(_) => return None,
            }
        }
        Some(pressed)
    }
}

/// Whether an entry of `/sys/class/input` is a power button of the board's own.
fn is_button(entry: &Path) -> bool {
    let says = |file: &str, word: &str| {
        std::fs::read_to_string(entry.join("device").join(file))
            .is_ok_and(|text| text.trim() == word)
    };
    says("name", NAME) && says("id/bustype", BUS_HOST)
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
    fn what_can_be_plugged_in_is_no_power_button() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("device/id");
        std::fs::create_dir_all(&device).unwrap();
        std::fs::write(dir.path().join("device/name"), "Power Button\n").unwrap();
        for (bus, expected) in [("0019\n", true), ("0003\n", false), ("0005\n", false)] {
            std::fs::write(device.join("bustype"), bus).unwrap();
            assert_eq!(is_button(dir.path()), expected, "{bus}");
        }
        std::fs::write(dir.path().join("device/name"), "Lid Switch\n").unwrap();
        std::fs::write(device.join("bustype"), "0019\n").unwrap();
        assert!(!is_button(dir.path()));
    }

    #[test]
    fn a_button_that_was_pulled_out_is_gone() {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let button = PowerButton { device: read };
        assert_eq!(button.pressed(), Some(false));
        let mut event = [0u8; EVENT_BYTES];
        (event[16], event[18], event[20]) = (1, 116, 1);
        rustix::io::write(&write, &event).unwrap();
        assert_eq!(button.pressed(), Some(true));
        drop(write);
        assert_eq!(button.pressed(), None);
    }

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
