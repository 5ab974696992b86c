//! Data of replies that the kernel holds: it goes from a file to a stream without passing through this program.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

/// Bytes that the kernel holds, such as a file's pages in a pipe. There are as many as it says, whatever becomes of the
/// file meanwhile: a header that tells their number goes out before them.
pub trait Spliced: fmt::Debug + Send {
    /// Bytes that are still held.
    fn bytes(&self) -> usize;

    /// Moves some of them to a stream, waiting as a write to it waits; answers how many.
    ///
    /// # Errors
    /// The stream's.
    fn move_to(&mut self, stream: BorrowedFd<'_>) -> io::Result<usize>;
}

/// Data of a read, found by a [`Job`](crate::Job).
#[derive(Debug)]
pub enum Content {
    /// In this program's memory.
    Bytes(Vec<u8>),
    /// With the kernel.
    Spliced(Box<dyn Spliced>),
}

/// What is to be sent for one request, in this order, with nothing of another one between.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Messages; the last one ends with what is spliced.
    pub before: Vec<u8>,
    /// Data of a read.
    pub spliced: Option<Box<dyn Spliced>>,
    /// Messages after it.
    pub after: Vec<u8>,
}

impl Outgoing {
    /// Where the next message goes.
    pub(crate) const fn end(&mut self) -> &mut Vec<u8> {
        if self.spliced.is_some() { &mut self.after } else { &mut self.before }
    }
}
