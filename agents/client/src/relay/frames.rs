//! Whole messages from a stream.

use super::FRAME_BYTES_MAX;
use super::table::Frame;
use goblin_core_ninep::{HEADER_BYTES, Stream};
use goblin_tls::greeting::read_exact;

/// Bytes read at once. Most messages are far smaller, and come alone.
const ROOM_BYTES: usize = 16 * 1024;

/// Bytes of the message that begins with these; `None` when no message does.
fn length(start: [u8; 4]) -> Option<usize> {
    let length = u32::from_le_bytes(start);
    let bytes = usize::try_from(length).ok()?;
    (length <= FRAME_BYTES_MAX && bytes >= HEADER_BYTES).then_some(bytes)
}

/// Cuts a stream into messages, for the one thread that reads it.
#[derive(Debug)]
pub struct Frames {
    room: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Frames {
    pub fn new() -> Self {
        Self { room: vec![0; ROOM_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }

    fn here(&self) -> &[u8] {
        self.room.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads until so many bytes are here, at most as many as there is room for.
    fn fill(&mut self, stream: &impl Stream, bytes: usize) -> Option<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start.checked_add(bytes)? > self.room.len() {
            self.room.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end.checked_sub(self.start)?);
        }
        while self.here().len() < bytes {
            let got = stream.read(self.room.get_mut(self.end..)?).ok()?;
            if got == 0 {
                return None;
            }
            self.end = self.end.checked_add(got)?;
        }
        Some(())
    }

    /// The next message. `None` at the end of the stream, or of what can be understood.
    pub fn next(&mut self, stream: &impl Stream) -> Option<Frame> {
        self.fill(stream, 4)?;
        let bytes = length(*self.here().first_chunk()?)?;
        if bytes <= self.room.len() {
            self.fill(stream, bytes)?;
            let frame = self.here().get(..bytes)?.into();
            self.start = self.start.checked_add(bytes)?;
            return Some(frame);
        }
        let mut frame: Frame = std::iter::repeat_n(0, bytes).collect();
        let place = std::sync::Arc::get_mut(&mut frame)?;
        let here = self.end.checked_sub(self.start)?.min(bytes);
        place.get_mut(..here)?.copy_from_slice(self.here().get(..here)?);
        self.start = self.start.checked_add(here)?;
        read_exact(stream, place.get_mut(here..)?).ok()?;
        Some(frame)
    }
}

/// Reads one whole message and nothing behind it. `None` at the end of the stream.
pub(crate) fn read_frame(stream: &impl Stream) -> Option<Frame> {
    let mut size = [0; 4];
    read_exact(stream, &mut size).ok()?;
    let mut frame: Frame = std::iter::repeat_n(0, length(size)?).collect();
    let place = std::sync::Arc::get_mut(&mut frame)?;
    place.get_mut(..4)?.copy_from_slice(&size);
    read_exact(stream, place.get_mut(4..)?).ok()?;
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::io;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Gives its bytes in pieces.
    struct Pieces(Mutex<VecDeque<Vec<u8>>>);

    impl Stream for Pieces {
        fn read(&self, into: &mut [u8]) -> io::Result<usize> {
            let mut pieces = self.0.lock().unwrap();
            let Some(piece) = pieces.front_mut() else { return Ok(0) };
            let count = piece.len().min(into.len());
            into[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                pieces.pop_front();
            }
            Ok(count)
        }

        fn write_all(&self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }

        fn shutdown(&self) {}
    }

    fn message(bytes: usize, fill: u8) -> Vec<u8> {
        let mut message = vec![fill; bytes];
        message[..4].copy_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
        message
    }

    #[test]
    fn messages_are_cut_wherever_the_stream_is() {
        let sizes =
            [7, 8, 100, ROOM_BYTES - 3, ROOM_BYTES, ROOM_BYTES + 1, 300_000, 9, 16_000, 16_000];
        let messages: Vec<Vec<u8>> =
            sizes.iter().zip(1u8..).map(|(size, fill)| message(*size, fill)).collect();
        let all = messages.concat();
        for piece in [1, 3, 7, 50, 4096, 16_383, 70_000, all.len()] {
            let pieces = all.chunks(piece).map(<[u8]>::to_vec).collect();
            let stream = Pieces(Mutex::new(pieces));
            let mut frames = Frames::new();
            for message in &messages {
                assert_eq!(frames.next(&stream).as_deref(), Some(message.as_slice()), "{piece}");
            }
            assert_eq!(frames.next(&stream), None);
        }
    }

    #[test]
    fn a_size_that_no_message_has_ends_the_stream() {
        for size in [0u32, 6, FRAME_BYTES_MAX + 1, u32::MAX] {
            let stream = Pieces(Mutex::new([size.to_le_bytes().to_vec(), vec![0; 64]].into()));
            assert_eq!(Frames::new().next(&stream), None);
        }
        // Cut inside a message.
        let stream = Pieces(Mutex::new([message(100, 1)[..99].to_vec()].into()));
        assert_eq!(Frames::new().next(&stream), None);
    }
}
