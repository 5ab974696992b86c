//! Keyboards, mice and touch screens, read as evdev devices. New ones are found by looking again every
//! few seconds: no udev is needed, and a directory of a dozen names costs nothing.

use crate::model::Key;
use crate::shell::log;
use evdev::{AbsoluteAxisCode, EventSummary, KeyCode, RelativeAxisCode};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Where the kernel puts them.
pub const INPUT_DIR: &str = "/dev/input";
/// Devices read at once; more are ignored.
pub const DEVICES_MAX: usize = 32;
/// Points that one notch of a wheel scrolls.
const WHEEL_POINTS: f32 = 64.0;

/// What a person did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input {
    /// A key went down, or repeats.
    Key(Key),
    /// The pointer is at these pixels.
    Move {
        /// From the left.
        x: f32,
        /// From the top.
        y: f32,
    },
    /// The main button, or a finger on a touch screen.
    Button {
        /// True while it is held.
        down: bool,
    },
    /// The wheel turned: points, positive towards the end.
    Wheel(f32),
}

#[derive(Debug)]
struct Device {
    device: evdev::Device,
    x_range: Option<(i32, i32)>,
    y_range: Option<(i32, i32)>,
}

/// Every input device at hand.
#[derive(Debug)]
pub struct Inputs {
    directory: PathBuf,
    devices: BTreeMap<PathBuf, Device>,
    /// Those that cannot be read, which was told.
    refused: BTreeSet<PathBuf>,
    shift: bool,
    x: f32,
    y: f32,
    width: f32,
    height: f32,
}

impl Inputs {
    /// Reads devices below `directory`; the pointer starts in the middle.
    pub fn new(directory: &Path) -> Self {
        let mut inputs = Self {
            directory: directory.to_owned(),
            devices: BTreeMap::new(),
            refused: BTreeSet::new(),
            shift: false,
            x: 0.0,
            y: 0.0,
            width: 1.0,
            height: 1.0,
        };
        inputs.rescan();
        inputs
    }

    /// The pointer moves within a screen of this size from now on.
    pub fn set_size(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width.max(1) as f32, height.max(1) as f32);
        (self.x, self.y) = (self.width / 2.0, self.height / 2.0);
    }

    /// Takes in devices that were plugged in since.
    pub fn rescan(&mut self) {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(err) => return self.complain(self.directory.clone(), &err),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let event = entry.file_name().to_str().is_some_and(|name| name.starts_with("event"));
            if !event || self.devices.contains_key(&path) || self.devices.len() >= DEVICES_MAX {
                continue;
            }
            match open(&path) {
                Ok(device) => {
                    let name = device.device.name().unwrap_or_default();
                    log("debug", &format!("reads {} ({name})", path.display()));
                    self.refused.remove(&path);
                    self.devices.insert(path, device);
                }
                Err(err) => self.complain(path, &err),
            }
        }
    }

    /// Tells once of a device that cannot be read.
    fn complain(&mut self, path: PathBuf, err: &io::Error) {
        if self.refused.len() < DEVICES_MAX && self.refused.insert(path.clone()) {
            log("warn", &format!("{} cannot be read: {err}", path.display()));
        }
    }

    /// Descriptors that become readable when something happens.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.devices.values().map(|d| d.device.as_fd())
    }

    /// Everything that happened since the last call.
    pub fn read(&mut self) -> Vec<Input> {
        let mut raw = Vec::new();
        let mut gone = Vec::new();
        for (path, device) in &mut self.devices {
            let ranges = (device.x_range, device.y_range);
            match device.device.fetch_events() {
                Ok(events) => raw.extend(events.map(|event| (event.destructure(), ranges))),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => {
                    log("debug", &format!("{} is gone: {err}", path.display()));
                    gone.push(path.clone());
                }
            }
        }
        for path in gone {
            self.devices.remove(&path);
        }
        let mut out = Vec::new();
        for (event, (x_range, y_range)) in raw {
            self.take(event, x_range, y_range, &mut out);
        }
        out
    }

    fn take(
        &mut self,
        event: EventSummary,
        x_range: Option<(i32, i32)>,
        y_range: Option<(i32, i32)>,
        out: &mut Vec<Input>,
    ) {
        match event {
            EventSummary::Key(_, KeyCode::KEY_LEFTSHIFT | KeyCode::KEY_RIGHTSHIFT, value) => {
                self.shift = value != 0;
            }
            EventSummary::Key(_, KeyCode::BTN_LEFT | KeyCode::BTN_TOUCH, value) if value != 2 => {
                out.push(Input::Button { down: value == 1 });
            }
            EventSummary::Key(_, code, value) if value != 0 => {
                out.extend(key(code, self.shift).map(Input::Key));
            }
            EventSummary::RelativeAxis(_, RelativeAxisCode::REL_WHEEL, value) => {
                out.push(Input::Wheel(-(value as f32) * WHEEL_POINTS));
            }
            EventSummary::RelativeAxis(_, RelativeAxisCode::REL_X, value) => {
                self.move_to(self.x + value as f32, self.y, out);
            }
            EventSummary::RelativeAxis(_, RelativeAxisCode::REL_Y, value) => {
                self.move_to(self.x, self.y + value as f32, out);
            }
            EventSummary::AbsoluteAxis(_, AbsoluteAxisCode::ABS_X, value) => {
                let x = place(value, x_range, self.width).unwrap_or(self.x);
                self.move_to(x, self.y, out);
            }
            EventSummary::AbsoluteAxis(_, AbsoluteAxisCode::ABS_Y, value) => {
                let y = place(value, y_range, self.height).unwrap_or(self.y);
                self.move_to(self.x, y, out);
            }
            _ => {}
        }
    }

    fn move_to(&mut self, x: f32, y: f32, out: &mut Vec<Input>) {
        self.x = x.clamp(0.0, self.width - 1.0);
        self.y = y.clamp(0.0, self.height - 1.0);
        let moved = Input::Move { x: self.x, y: self.y };
        match out.last_mut() {
            // Only where the pointer came to rest matters.
            Some(last @ Input::Move { .. }) => *last = moved,
            _ => out.push(moved),
        }
    }
}

fn open(path: &Path) -> io::Result<Device> {
    let device = evdev::Device::open(path)?;
    device.set_nonblocking(true)?;
    let range = |wanted: AbsoluteAxisCode| {
        let mut axes = device.get_absinfo().ok()?;
        let info = axes.find(|(code, _)| *code == wanted)?.1;
        Some((info.minimum(), info.maximum())).filter(|(least, most)| most > least)
    };
    let (x_range, y_range) = (range(AbsoluteAxisCode::ABS_X), range(AbsoluteAxisCode::ABS_Y));
    Ok(Device { device, x_range, y_range })
}

fn place(value: i32, range: Option<(i32, i32)>, length: f32) -> Option<f32> {
    let (least, most) = range?;
    let span = i64::from(most).saturating_sub(i64::from(least)) as f32;
    Some(i64::from(value).saturating_sub(i64::from(least)) as f32 / span * length)
}

/// Keys by place; none of them moves between keyboard layouts.
fn key(code: KeyCode, shift: bool) -> Option<Key> {
    Some(match code {
        KeyCode::KEY_LEFT => Key::Left,
        KeyCode::KEY_RIGHT => Key::Right,
        KeyCode::KEY_UP => Key::Up,
        KeyCode::KEY_DOWN => Key::Down,
        KeyCode::KEY_TAB => Key::Tab { back: shift },
        KeyCode::KEY_PAGEUP => Key::PageUp,
        KeyCode::KEY_PAGEDOWN => Key::PageDown,
        KeyCode::KEY_HOME => Key::Home,
        KeyCode::KEY_END => Key::End,
        KeyCode::KEY_ENTER | KeyCode::KEY_KPENTER | KeyCode::KEY_SPACE => Key::Enter,
        KeyCode::KEY_ESC => Key::Escape,
        KeyCode::KEY_1 | KeyCode::KEY_KP1 | KeyCode::KEY_F1 => Key::Number(1),
        KeyCode::KEY_2 | KeyCode::KEY_KP2 | KeyCode::KEY_F2 => Key::Number(2),
        KeyCode::KEY_3 | KeyCode::KEY_KP3 | KeyCode::KEY_F3 => Key::Number(3),
        KeyCode::KEY_4 | KeyCode::KEY_KP4 | KeyCode::KEY_F4 => Key::Number(4),
        KeyCode::KEY_5 | KeyCode::KEY_KP5 | KeyCode::KEY_F5 => Key::Number(5),
        KeyCode::KEY_6 | KeyCode::KEY_KP6 | KeyCode::KEY_F6 => Key::Number(6),
        KeyCode::KEY_7 | KeyCode::KEY_KP7 | KeyCode::KEY_F7 => Key::Number(7),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use evdev::{AbsoluteAxisEvent, KeyEvent, RelativeAxisEvent};

    #[test]
    fn every_page_has_its_number() {
        let digits = [
            KeyCode::KEY_1,
            KeyCode::KEY_2,
            KeyCode::KEY_3,
            KeyCode::KEY_4,
            KeyCode::KEY_5,
            KeyCode::KEY_6,
            KeyCode::KEY_7,
            KeyCode::KEY_8,
            KeyCode::KEY_9,
        ];
        for (number, code) in (1u8..).zip(digits).take(crate::model::PAGES.len()) {
            let (mut inputs, mut out) = (inputs(), Vec::new());
            inputs.take(key_event(code, 1), None, None, &mut out);
            assert_eq!(out, [Input::Key(Key::Number(number))]);
        }
    }

    fn inputs() -> Inputs {
        let mut inputs = Inputs::new(Path::new("/nonexistent"));
        inputs.set_size(1000, 500);
        inputs
    }

    fn key_event(code: KeyCode, value: i32) -> EventSummary {
        EventSummary::Key(KeyEvent::new(code, value), code, value)
    }

    #[test]
    fn pointer_stays_on_the_screen_and_moves_are_joined() {
        let (mut inputs, mut out) = (inputs(), Vec::new());
        for value in [900, i32::MAX, i32::MIN, -3] {
            let code = RelativeAxisCode::REL_X;
            let event =
                EventSummary::RelativeAxis(RelativeAxisEvent::new(code, value), code, value);
            inputs.take(event, None, None, &mut out);
        }
        assert_eq!(out, [Input::Move { x: 0.0, y: 250.0 }]);
    }

    #[test]
    fn a_tablet_reaches_every_corner() {
        let (mut inputs, mut out) = (inputs(), Vec::new());
        let code = AbsoluteAxisCode::ABS_X;
        let event = EventSummary::AbsoluteAxis(AbsoluteAxisEvent::new(code, 32767), code, 32767);
        inputs.take(event, Some((0, 32767)), None, &mut out);
        assert_eq!(out, [Input::Move { x: 999.0, y: 250.0 }]);
    }

    #[test]
    fn shift_turns_tab_around_and_releases_are_silent() {
        let (mut inputs, mut out) = (inputs(), Vec::new());
        inputs.take(key_event(KeyCode::KEY_LEFTSHIFT, 1), None, None, &mut out);
        inputs.take(key_event(KeyCode::KEY_TAB, 1), None, None, &mut out);
        inputs.take(key_event(KeyCode::KEY_TAB, 0), None, None, &mut out);
        assert_eq!(out, [Input::Key(Key::Tab { back: true })]);
    }
}
