//! Those who listen: a unix socket that is only written to. Each gets a snapshot and then what changes. One
//! who does not read is dropped when its queue is full; it connects again and gets a new snapshot.

use goblin_core_types::{DEVICE_LINE_BYTES_MAX, DeviceEvent};
use rustix::event::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Most listeners at once.
const LISTENERS_MAX: usize = 16;
/// Unread bytes after which a listener is dropped: a snapshot and as much again.
const QUEUE_BYTES_MAX: usize = 2 * DEVICE_LINE_BYTES_MAX;

/// The socket and its listeners.
#[derive(Debug)]
pub struct Stream {
    socket: UnixListener,
    listeners: Vec<Listener>,
}

#[derive(Debug)]
struct Listener {
    stream: UnixStream,
    queue: VecDeque<u8>,
    over: bool,
}

impl Stream {
    /// Listens at a path, in the place of an earlier socket. Every program of the board may listen: what a
    /// device says of itself is no secret.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let socket = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, listeners: Vec::new() })
    }

    /// Descriptors to wait for: the socket, and every listener.
    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        fds.extend(self.listeners.iter().map(|listener| {
            let flags = if listener.queue.is_empty() {
                PollFlags::IN
            } else {
                PollFlags::IN | PollFlags::OUT
            };
            PollFd::from_borrowed_fd(listener.stream.as_fd(), flags)
        }));
        fds
    }

    /// Takes new listeners, who get `snapshot` first, sends what the others can take, and forgets those who
    /// went.
    pub fn turn(&mut self, snapshot: impl Fn() -> DeviceEvent) {
        while let Ok((stream, _)) = self.socket.accept() {
            if self.listeners.len() >= LISTENERS_MAX || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let queue = line(&snapshot()).into();
            self.listeners.push(Listener { stream, queue, over: false });
        }
        for listener in &mut self.listeners {
            listener.turn();
        }
        self.listeners.retain(|listener| !listener.over);
    }

    /// Tells all listeners.
    pub fn tell(&mut self, event: &DeviceEvent) {
        if self.listeners.is_empty() {
            return;
        }
        let line = line(event);
        for listener in &mut self.listeners {
            if listener.queue.len().saturating_add(line.len()) > QUEUE_BYTES_MAX {
                listener.over = true;
            } else {
                listener.queue.extend(&line);
                listener.turn();
            }
        }
        self.listeners.retain(|listener| !listener.over);
    }
}

impl Listener {
    fn turn(&mut self) {
        // What a listener says is not read by anyone; that it ended is.
        let mut room = [0u8; 256];
        match self.stream.read(&mut room) {
            Ok(0) => self.over = true,
            Ok(_) => {}
            Err(err) if would_block(&err) => {}
            Err(_) => self.over = true,
        }
        while !self.over && !self.queue.is_empty() {
            let (front, _) = self.queue.as_slices();
            match self.stream.write(front) {
                Ok(0) => self.over = true,
                Ok(count) => drop(self.queue.drain(..count)),
                Err(err) if would_block(&err) => break,
                Err(_) => self.over = true,
            }
        }
    }
}

fn would_block(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn line(event: &DeviceEvent) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(event).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::{Bus, Device, DeviceKind};
    use goblin_sys::devices::DeviceEvents;

    fn event(size: usize) -> DeviceEvent {
        DeviceEvent::Added {
            device: Device {
                path: "/devices/x".into(),
                kind: DeviceKind::Disk,
                bus: Bus::Usb,
                name: "sda".into(),
                dev_path: None,
                stable_names: Vec::new(),
                model: "x".repeat(size),
                serial: None,
                size_bytes: None,
                removable: true,
            },
        }
    }

    fn empty() -> DeviceEvent {
        DeviceEvent::Snapshot { devices: vec![] }
    }

    #[test]
    fn a_listener_gets_a_snapshot_and_then_what_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut stream = Stream::bind(&path).unwrap();
        stream.tell(&event(1));
        let mut events = DeviceEvents::subscribe_at(&path).unwrap();
        stream.turn(empty);
        stream.tell(&event(2));
        assert_eq!(events.next_event().unwrap(), empty());
        assert_eq!(events.next_event().unwrap(), event(2));
        drop(events);
        stream.turn(empty);
        assert!(stream.listeners.is_empty());
    }

    #[test]
    fn a_listener_who_does_not_read_is_dropped_and_the_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut stream = Stream::bind(&path).unwrap();
        let _deaf = UnixStream::connect(&path).unwrap();
        stream.turn(empty);
        for _ in 0..64 {
            stream.tell(&event(100_000));
        }
        assert!(stream.listeners.is_empty());
        let mut late = DeviceEvents::subscribe_at(&path).unwrap();
        stream.turn(empty);
        assert_eq!(late.next_event().unwrap(), empty());
    }

    #[test]
    fn listeners_have_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut stream = Stream::bind(&path).unwrap();
        let all: Vec<_> =
            (0..LISTENERS_MAX + 4).map(|_| UnixStream::connect(&path).unwrap()).collect();
        stream.turn(empty);
        assert_eq!(stream.listeners.len(), LISTENERS_MAX);
        drop(all);
        stream.turn(empty);
        assert!(stream.listeners.is_empty());
    }
}
