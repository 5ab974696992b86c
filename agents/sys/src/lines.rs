//! Lines out of pieces, as streams bring them.

/// Gathers bytes and gives out whole lines.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to here there is no line end.
    seen: usize,
    line_bytes_max: usize,
}

/// A line is longer than allowed; what was gathered is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than the {line_bytes_max} bytes allowed")]
pub struct LineTooLong {
    /// The limit.
    pub line_bytes_max: usize,
}

impl LineBuffer {
    /// Empty; lines have at most `line_bytes_max` bytes.
    pub const fn new(line_bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, seen: 0, line_bytes_max }
    }

    /// Takes a piece. Ask for [`next_line`](Self::next_line) until there is none before the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.start);
        self.seen = self.seen.saturating_sub(self.start);
        self.start = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole line, without its end.
    ///
    /// # Errors
    /// [`LineTooLong`]; the rest of that line is taken for a line of its own.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let fresh = self.bytes.get(self.seen..).unwrap_or_default();
        let Some(length) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.seen = self.bytes.len();
            if self.bytes.len().saturating_sub(self.start) > self.line_bytes_max {
                self.clear();
                return Err(LineTooLong { line_bytes_max: self.line_bytes_max });
            }
            return Ok(None);
        };
        let end = self.seen.saturating_add(length);
        let line = self.start..end;
        self.start = end.saturating_add(1);
        self.seen = self.start;
        if line.len() > self.line_bytes_max {
            return Err(LineTooLong { line_bytes_max: self.line_bytes_max });
        }
        Ok(Some(self.bytes.get(line).unwrap_or_default()))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        (self.start, self.seen) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let text = b"one\n\ntwo two\nrest";
        for cut in 1..text.len() {
            let mut buffer = LineBuffer::new(100);
            let mut lines = Vec::new();
            for piece in text.chunks(cut) {
                buffer.push(piece);
                while let Some(line) = buffer.next_line().unwrap() {
                    lines.push(line.to_vec());
                }
            }
            assert_eq!(lines, [&b"one"[..], b"", b"two two"], "pieces of {cut}");
        }
    }

    #[test]
    fn long_lines_are_dropped_and_the_next_one_is_read() {
        let mut buffer = LineBuffer::new(4);
        buffer.push(b"12345");
        assert!(buffer.next_line().is_err());
        buffer.push(b"\nabc\n123456\nx\n");
        assert_eq!(buffer.next_line(), Ok(Some(&b""[..])));
        assert_eq!(buffer.next_line(), Ok(Some(&b"abc"[..])));
        assert!(buffer.next_line().is_err());
        assert_eq!(buffer.next_line(), Ok(Some(&b"x"[..])));
        assert_eq!(buffer.next_line(), Ok(None));
    }
}
