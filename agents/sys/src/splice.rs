//! Pages of files on their way to a socket (`splice(2)`): not one byte is copied into this program, and how many there
//! are is known before the first is sent.
//!
//! ```text
//!   file --take--> pipe --move_to--> socket
//! ```
//!
//! A pipe holds the pages themselves, and so does the socket until the peer has them. A file that is cut meanwhile takes
//! none of them away; but what is written over them is what the peer gets, and so are the zeros behind a cut inside a
//! page. For a read that is not answered yet either is as good as what was there when it was asked; it is what NFS
//! servers do.

use goblin_core_ninep::Spliced;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pipes of this process at one time. Whoever finds none copies.
pub const PIPES_MAX: usize = 32;
/// What one holds at most: 256 pages, the most that the kernel lets a process without privileges have. The most that is
/// taken at once, 512 KiB from anywhere in a file, lies in 129.
pub const PIPE_BYTES: usize = 1 << 20;
/// Pages that the pipes of one user may have together (`/proc/sys/fs/pipe-user-pages-soft`), in bytes.
const PIPES_OF_USER_BYTES: usize = 64 << 20;

const _: () = assert!(PIPES_MAX * PIPE_BYTES * 2 <= PIPES_OF_USER_BYTES);

/// An empty pipe.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// # Errors
    /// When the process has no descriptor left, or the user no room.
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&write, PIPE_BYTES)?;
        Ok(Self { read, write })
    }
}

/// The pipes of this process.
struct Pool {
    idle: Vec<Pipe>,
    /// Also those in use.
    count: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { idle: Vec::new(), count: 0 });

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pages of a file in a pipe. The pipe is used again once they have gone, and closed when they have not.
#[derive(Debug)]
pub struct Pages {
    /// `None` only while it is dropped.
    pipe: Option<Pipe>,
    bytes: usize,
}

impl Pages {
    fn empty() -> Option<Self> {
        let mut pool = pool();
        if let Some(pipe) = pool.idle.pop() {
            return Some(Self { pipe: Some(pipe), bytes: 0 });
        }
        if pool.count >= PIPES_MAX {
            return None;
        }
        pool.count = pool.count.saturating_add(1);
        drop(pool);
        let pipe = Pipe::new().ok();
        if pipe.is_none() {
            forget_one();
        }
        pipe.map(|pipe| Self { pipe: Some(pipe), bytes: 0 })
    }
}

fn forget_one() {
    let mut pool = pool();
    pool.count = pool.count.saturating_sub(1);
}

impl Drop for Pages {
    fn drop(&mut self) {
        match self.pipe.take() {
            Some(pipe) if self.bytes == 0 => pool().idle.push(pipe),
            Some(pipe) => {
                drop(pipe);
                forget_one();
            }
            None => {}
        }
    }
}

impl Spliced for Pages {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn move_to(&mut self, stream: BorrowedFd<'_>) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Ok(0) };
        let moved = splice(&pipe.read, None, stream, None, self.bytes, SpliceFlags::empty())?;
        self.bytes = self.bytes.saturating_sub(moved);
        Ok(moved)
    }
}

/// What came of [`take`].
#[derive(Debug)]
pub enum Taken {
    /// Fewer than wanted are all there are up to the end of the file.
    Pages(Pages),
    /// Not now: there is no pipe, or it became full.
    NotNow,
    /// The file system cannot do it with this file.
    Never,
}

/// Takes up to `count` bytes of a file. Waits for a disk where it has to.
///
/// # Errors
/// Those of a read.
pub fn take(file: impl AsFd, offset: u64, count: usize) -> io::Result<Taken> {
    let Some(mut pages) = Pages::empty() else { return Ok(Taken::NotNow) };
    let Some(pipe) = &pages.pipe else { return Ok(Taken::NotNow) };
    let mut at = offset;
    while pages.bytes < count {
        let wanted = count.saturating_sub(pages.bytes);
        // It is the pipe that must not be waited for: nobody empties it.
        match splice(&file, Some(&mut at), &pipe.write, None, wanted, SpliceFlags::NONBLOCK) {
            Ok(0) => break,
            Ok(got) => pages.bytes = pages.bytes.saturating_add(got),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Taken::NotNow),
            Err(Errno::INVAL | Errno::OPNOTSUPP) if pages.bytes == 0 => return Ok(Taken::Never),
            // What came counts; the error comes again with the next read.
            Err(_) if pages.bytes > 0 => break,
            Err(err) => return Err(err.into()),
        }
    }
    Ok(Taken::Pages(pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Socket;
    use goblin_core_ninep::Stream;
    use std::fs::File;

    fn pages(file: &File, offset: u64, count: usize) -> Pages {
        match take(file, offset, count).unwrap() {
            Taken::Pages(pages) => pages,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_number_is_known_before_anything_is_sent_and_right_whatever_becomes_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        let mut pages = pages(&file, 1001, 1 << 20);
        assert_eq!(pages.bytes(), 198_999);
        std::fs::write(&path, b"").unwrap();
        let (from, to) = Socket::pair().unwrap();
        let sender = std::thread::spawn(move || {
            from.write_spliced(b"head", &mut pages).unwrap();
            pages.bytes()
        });
        let mut got = Vec::new();
        let mut some = [0; 65_536];
        loop {
            match Stream::read(&to, &mut some).unwrap() {
                0 => break,
                count => got.extend_from_slice(&some[..count]),
            }
        }
        assert_eq!(sender.join().unwrap(), 0);
        assert!(got[..4] == *b"head" && got[4..] == content[1001..]);
    }

    #[test]
    fn a_peer_that_is_gone_is_an_error_and_no_signal() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100_000).unwrap();
        let (a, b) = Socket::pair().unwrap();
        drop(b);
        let mut pages = pages(&file, 0, 100_000);
        assert!(a.write_spliced(b"", &mut pages).is_err());
        assert_eq!(pages.bytes(), 100_000);
    }

    #[test]
    fn what_has_no_pages_is_said_never_to_give_any() {
        let dir = tempfile::tempdir().unwrap();
        let dir = File::open(dir.path()).unwrap();
        assert!(matches!(take(&dir, 0, 100).unwrap(), Taken::Never));
    }

    #[test]
    fn what_does_not_fit_a_pipe_is_not_taken_in_part() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 << 20).unwrap();
        assert!(matches!(take(&file, 0, 2 << 20).unwrap(), Taken::NotNow));
    }
}
