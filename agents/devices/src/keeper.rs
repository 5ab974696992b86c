//! The loop: what the kernel says becomes steps of the registry, and their effects are carried out.

use crate::modules::Modules;
use crate::registry::{Effect, Registry};
use crate::stream::Stream;
use crate::{DevicesError, facts, links, names};
use goblin_core_types::{Bus, Device, DeviceEvent, DeviceKind, paths};
use goblin_init_core::uevent::{Change, Uevent};
use goblin_sys::uevent::{self, Received, UeventSocket};
use goblin_sys::{altname, notify, peer};
use rustix::event::{PollFd, PollFlags};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;

/// Events taken before listeners have their turn.
const TURN_EVENTS_MAX: usize = 64;

/// Runs the agent until a fatal error.
///
/// # Errors
/// See [`DevicesError`].
pub fn run_devices() -> Result<(), DevicesError> {
    // Listen first and look afterwards: what comes in between is seen twice, not missed.
    let uevents = UeventSocket::open().map_err(DevicesError::Uevents)?;
    if let Err(err) = links::clear(Path::new(names::DISK_FOLDER)) {
        tracing::warn!(err = err.to_string(), "links of an earlier run stay");
    }
    let mut keeper = Keeper { registry: Registry::default(), modules: modules(), stream: None };
    keeper.look(Telling::Quietly)?;
    let listen = |source| DevicesError::Listen { path: paths::DEVICES_SOCKET.into(), source };
    keeper.stream = Some(Stream::bind(Path::new(paths::DEVICES_SOCKET)).map_err(listen)?);
    notify::ready();
    loop {
        keeper.wait(&uevents);
        keeper.listen(&uevents)?;
        if let Some(stream) = &mut keeper.stream {
            stream.turn(|| keeper.registry.snapshot());
        }
    }
}

fn modules() -> Option<Modules> {
    match Modules::open() {
        Ok(modules) => {
            tracing::info!(count = modules.count(), "modules for this kernel");
            Some(modules)
        }
        Err(err) if err.is_absence() => {
            tracing::info!("all drivers of this kernel are built in");
            None
        }
        Err(err) => {
            tracing::error!(err = err.to_string(), "no modules will be loaded");
            None
        }
    }
}

/// Whether a device that is found is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// It came while the board ran.
    Aloud,
    /// It was there before.
    Quietly,
}

#[derive(Debug)]
struct Keeper {
    registry: Registry,
    modules: Option<Modules>,
    stream: Option<Stream>,
}

impl Keeper {
    fn wait(&self, uevents: &UeventSocket) {
        let mut fds = vec![PollFd::from_borrowed_fd(uevents.as_fd(), PollFlags::IN)];
        if let Some(stream) = &self.stream {
            fds.extend(stream.poll_fds());
        }
        // An interruption is as good as an event: everything is looked at without waiting.
        let _ = rustix::event::poll(&mut fds, None);
    }

    fn listen(&mut self, uevents: &UeventSocket) -> Result<(), DevicesError> {
        for _ in 0..TURN_EVENTS_MAX {
            match uevents.receive().map_err(DevicesError::Uevents)? {
                Received::Event(event) => self.event(&event, Telling::Aloud),
                Received::Strange(why) => tracing::debug!(?why, "strange device event"),
                Received::Lost => {
                    tracing::warn!(
                        "the kernel dropped device events: looking at all devices again"
                    );
                    self.look(Telling::Aloud)?;
                }
                Received::Empty => break,
            }
        }
        Ok(())
    }

    /// Looks at everything that is there.
    fn look(&mut self, telling: Telling) -> Result<(), DevicesError> {
        let found = uevent::devices().map_err(DevicesError::Sysfs)?;
        let there: BTreeSet<String> = found.iter().map(|event| event.path.clone()).collect();
        for effect in self.registry.only(&there) {
            self.apply(effect, telling);
        }
        for event in &found {
            self.event(event, telling);
        }
        Ok(())
    }

    fn event(&mut self, event: &Uevent, telling: Telling) {
        let effects = match event.change {
            Change::Remove => self.registry.gone(&event.path),
            Change::Add | Change::Change | Change::Online => {
                if let (Some(modules), Some(modalias)) = (&mut self.modules, event.modalias()) {
                    modules.device(modalias);
                }
                match facts::device(event, |path| self.registry.disk_of(path).cloned()) {
                    Some(device) => self.registry.seen(device),
                    None => Vec::new(),
                }
            }
            // A card with another name: its path is another one.
            Change::Move => self.moved(event),
            Change::Bind | Change::Unbind | Change::Offline => Vec::new(),
        };
        for effect in effects {
            self.apply(effect, telling);
        }
    }

    fn moved(&mut self, event: &Uevent) -> Vec<Effect> {
        let mut effects = match event.value("DEVPATH_OLD") {
            Some(old) => self.registry.gone(old),
            None => Vec::new(),
        };
        if let Some(device) = facts::device(event, |path| self.registry.disk_of(path).cloned()) {
            effects.extend(self.registry.seen(device));
        }
        effects
    }

    fn apply(&mut self, effect: Effect, telling: Telling) {
        let done = match &effect {
            Effect::Link { link, target } => links::make(Path::new(link), Path::new(target)),
            Effect::Unlink { link } => links::remove(Path::new(link)),
            Effect::NameCard { card, names } => {
                name_card(card, names);
                Ok(())
            }
            Effect::Tell(event) => {
                if telling == Telling::Aloud {
                    log(event);
                }
                if let Some(stream) = &mut self.stream {
                    stream.tell(event);
                }
                Ok(())
            }
        };
        if let Err(err) = done {
            tracing::warn!(?effect, err = err.to_string(), "a device's name cannot be changed");
        }
    }
}

fn name_card(card: &str, names: &[String]) {
    let Some(index) = peer::interface_index(card) else { return };
    for name in names {
        match altname::add(index, name) {
            Ok(()) => tracing::info!(card, name, "network card named"),
            Err(err) => {
                tracing::warn!(card, name, err = err.to_string(), "network card not named")
            }
        }
    }
}

fn log(event: &DeviceEvent) {
    let (device, came) = match event {
        DeviceEvent::Added { device } => (device, true),
        DeviceEvent::Removed { device } => (device, false),
        DeviceEvent::Changed { .. } | DeviceEvent::Snapshot { .. } => return,
    };
    let Device { name, model, serial, size_bytes, .. } = device;
    let serial = serial.as_deref().unwrap_or_default();
    match (device.kind, device.bus, came) {
        // The disk, the card or the line tells more than the plug and the parts.
        (DeviceKind::Usb | DeviceKind::Partition, ..) => {
            tracing::debug!(name, model, came, "device");
        }
        (DeviceKind::Disk, Bus::Usb, true) => {
            tracing::info!(name, model, serial, bytes = size_bytes, "USB disk plugged in");
        }
        (DeviceKind::Disk, Bus::Usb, false) => {
            tracing::info!(name, model, serial, "USB disk pulled out");
        }
        (kind, _, true) => tracing::info!(name, ?kind, model, serial, "device plugged in"),
        (kind, _, false) => tracing::info!(name, ?kind, model, serial, "device gone"),
    }
}
