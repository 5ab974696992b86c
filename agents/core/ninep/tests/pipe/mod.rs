//! A two-way byte pipe in memory, and a server at one end.

use goblin_core_ninep::{Backend, End, Limits, Spliced, Stream, serve};
use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Default)]
struct Way {
    state: Mutex<(VecDeque<u8>, bool)>,
    changed: Condvar,
}

impl Way {
    fn push(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        if state.1 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.0.extend(bytes);
        self.changed.notify_all();
        Ok(bytes.len())
    }

    fn pull(&self, into: &mut [u8], limit: Duration) -> io::Result<usize> {
        let state = self.state.lock().unwrap();
        let waits = |s: &mut (VecDeque<u8>, bool)| s.0.is_empty() && !s.1;
        let (mut state, timeout) = self.changed.wait_timeout_while(state, limit, waits).unwrap();
        if timeout.timed_out() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let count = into.len().min(state.0.len());
        for (to, from) in into.iter_mut().zip(state.0.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn close(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// One end.
pub struct Pipe {
    from: Arc<Way>,
    to: Arc<Way>,
    limit: Mutex<Option<Duration>>,
}

const FOREVER: Duration = Duration::from_secs(20);

impl Pipe {
    pub fn pair() -> (Self, Self) {
        let (a, b) = (Arc::new(Way::default()), Arc::new(Way::default()));
        let end = |from: &Arc<Way>, to: &Arc<Way>| Self {
            from: from.clone(),
            to: to.clone(),
            limit: Mutex::new(None),
        };
        (end(&a, &b), end(&b, &a))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.from.close();
        self.to.close();
    }
}

impl Stream for Pipe {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let limit = self.limit.lock().unwrap().unwrap_or(FOREVER);
        self.from.pull(into, limit)
    }

    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.to.push(bytes).map(|_| ())
    }

    fn takes_spliced(&self) -> bool {
        true
    }

    fn write_spliced(&self, bytes: &[u8], spliced: &mut dyn Spliced) -> io::Result<()> {
        self.write_all(bytes)?;
        let (from, mut to) = UnixStream::pair()?;
        while spliced.bytes() > 0 {
            let mut moved = vec![0; spliced.move_to(from.as_fd())?];
            to.read_exact(&mut moved)?;
            self.write_all(&moved)?;
        }
        Ok(())
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        *self.limit.lock().unwrap() = limit;
        Ok(())
    }

    fn shutdown(&self) {
        self.from.close();
        self.to.close();
    }
}

impl io::Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Stream::read(self, into)
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.push(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves a backend; answers the client's end.
pub fn start<B: Backend>(backend: B, limits: Limits) -> (Pipe, JoinHandle<End>) {
    let (client, server) = Pipe::pair();
    let thread = std::thread::spawn(move || serve(Arc::new(server), Arc::new(backend), limits));
    (client, thread)
}
