//! Listening to devices that come and go, as the `devices` agent tells them.

use crate::lines::LineBuffer;
use goblin_core_types::{DEVICE_LINE_BYTES_MAX, Device, DeviceEvent, paths};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Pause before the agent is called again after it went.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Bytes read at once.
const PIECE_BYTES: usize = 16 * 1024;

/// A connection to the `devices` agent.
#[derive(Debug)]
pub struct DeviceEvents {
    stream: UnixStream,
    lines: LineBuffer,
}

impl DeviceEvents {
    /// Connects; the first event is a snapshot.
    ///
    /// # Errors
    /// When the agent does not run.
    pub fn subscribe() -> io::Result<Self> {
        Self::subscribe_at(Path::new(paths::DEVICES_SOCKET))
    }

    /// As [`subscribe`](Self::subscribe), at another socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn subscribe_at(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        Ok(Self { stream, lines: LineBuffer::new(DEVICE_LINE_BYTES_MAX) })
    }

    /// Waits for the next event. Events of a newer release that this one does not know are passed over.
    ///
    /// # Errors
    /// `UnexpectedEof` when the agent ended or found this listener too slow: connect again, and compare with
    /// the new snapshot.
    pub fn next_event(&mut self) -> io::Result<DeviceEvent> {
        loop {
            while let Some(line) = self.lines.next_line().map_err(io::Error::other)? {
                if let Ok(event) = serde_json::from_slice(line) {
                    return Ok(event);
                }
            }
            let mut room = [0u8; PIECE_BYTES];
            match self.stream.read(&mut room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.lines.push(room.get(..count).unwrap_or_default()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }
}

/// What is there now, by path; the agent is waited for at most `limit`.
///
/// # Errors
/// When the agent does not run, or says nothing within `limit`.
pub fn snapshot(limit: Duration) -> io::Result<Vec<Device>> {
    snapshot_at(Path::new(paths::DEVICES_SOCKET), limit)
}

fn snapshot_at(socket: &Path, limit: Duration) -> io::Result<Vec<Device>> {
    let mut events = DeviceEvents::subscribe_at(socket)?;
    events.stream.set_read_timeout(Some(limit))?;
    match events.next_event()? {
        DeviceEvent::Snapshot { devices } => Ok(devices),
        // The first line is always one.
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Hands every event to `on_event`, for as long as that returns true; calls the agent again whenever it went.
pub fn follow(mut on_event: impl FnMut(DeviceEvent) -> bool) {
    loop {
        if let Ok(mut events) = DeviceEvents::subscribe() {
            while let Ok(event) = events.next_event() {
                if !on_event(event) {
                    return;
                }
            }
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    #[test]
    fn events_come_in_order_and_unknown_ones_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut events = DeviceEvents::subscribe_at(&path).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(
            b"{\"event\":\"snapshot\",\"devices\":[]}\n{\"event\":\"of-tomorrow\"}\nno json\n",
        )
        .unwrap();
        peer.write_all(b"{\"event\":\"snapshot\",\"dev").unwrap();
        assert_eq!(events.next_event().unwrap(), DeviceEvent::Snapshot { devices: vec![] });
        peer.write_all(b"ices\":[]}\n").unwrap();
        drop(peer);
        assert_eq!(events.next_event().unwrap(), DeviceEvent::Snapshot { devices: vec![] });
        assert_eq!(events.next_event().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_snapshot_is_asked_for_once_and_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(snapshot_at(&path, Duration::from_millis(20)).is_err());
        drop(listener.accept().unwrap());
        let answer = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"{\"event\":\"snapshot\",\"devices\":[]}\n").unwrap();
        });
        assert_eq!(snapshot_at(&path, Duration::from_secs(20)).unwrap(), []);
        answer.join().unwrap();
    }
}
