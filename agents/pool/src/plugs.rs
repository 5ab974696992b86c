//! Disks that are plugged in while the pool is kept: told in the log, and looked at without a pause.

use goblin_core_types::{Bus, Device, DeviceEvent, DeviceKind};
use goblin_sys::devices;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Stack of the thread that listens.
const STACK_BYTES: usize = 256 * 1024;

/// The `devices` agent, as far as it matters here. Without it the pool is kept all the same, at its own pace.
#[derive(Debug)]
pub struct Plugs {
    woken: Receiver<()>,
    wake: SyncSender<()>,
}

impl Plugs {
    /// Starts to listen; `tell` hears of each disk that came or went.
    pub fn listen(tell: fn(&Device, bool)) -> Self {
        // One wake-up is as good as several: all disks are looked at.
        let (wake, woken) = sync_channel(1);
        let waker = wake.clone();
        let thread = std::thread::Builder::new().name("plugs".into()).stack_size(STACK_BYTES);
        let started = thread.spawn(move || devices::follow(|event| on_event(&event, &waker, tell)));
        if let Err(err) = started {
            tracing::warn!(err = err.to_string(), "disks that are plugged in are found later");
        }
        Self { woken, wake }
    }

    /// Waits until a disk came or went, at most `pause`. True when one did.
    pub fn wait(&self, pause: Duration) -> bool {
        self.woken.recv_timeout(pause).is_ok()
    }

    /// Ends a pause as a disk does.
    pub fn waker(&self) -> SyncSender<()> {
        self.wake.clone()
    }
}

fn on_event(event: &DeviceEvent, wake: &SyncSender<()>, tell: fn(&Device, bool)) -> bool {
    match event {
        DeviceEvent::Added { device } if device.kind == DeviceKind::Disk => tell(device, true),
        DeviceEvent::Removed { device } if device.kind == DeviceKind::Disk => tell(device, false),
        // Whatever came or went before the agent was heard.
        DeviceEvent::Snapshot { .. } => {}
        DeviceEvent::Added { .. } | DeviceEvent::Removed { .. } | DeviceEvent::Changed { .. } => {
            return true;
        }
    }
    // A full channel: it will be woken anyway.
    let _ = wake.try_send(());
    true
}

/// Logs sticks, which people plug in and look for.
pub fn tell_usb(device: &Device, came: bool) {
    let Device { name, model, stable_names, .. } = device;
    match came {
        _ if device.bus != Bus::Usb => {}
        true => {
            let names = stable_names.join(" ");
            tracing::info!(name, model, names, "USB disk seen; it is no part of the pool");
        }
        false => tracing::info!(name, model, "USB disk gone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(kind: DeviceKind) -> DeviceEvent {
        DeviceEvent::Added {
            device: Device {
                path: "/devices/x".into(),
                kind,
                bus: Bus::Usb,
                name: "sda".into(),
                dev_path: None,
                stable_names: Vec::new(),
                model: String::new(),
                serial: None,
                size_bytes: None,
                removable: true,
            },
        }
    }

    #[test]
    fn a_disk_ends_the_pause_and_nothing_else_does() {
        let (wake, woken) = sync_channel(1);
        let plugs = Plugs { woken, wake: wake.clone() };
        assert!(on_event(&disk(DeviceKind::NetworkCard), &wake, tell_usb));
        assert!(plugs.woken.try_recv().is_err());
        assert!(on_event(&disk(DeviceKind::Disk), &wake, tell_usb));
        assert!(on_event(&disk(DeviceKind::Disk), &wake, tell_usb));
        assert!(plugs.wait(Duration::MAX));
        assert!(!plugs.wait(Duration::from_millis(1)));
        plugs.waker().send(()).unwrap();
        assert!(plugs.wait(Duration::MAX));
    }
}
