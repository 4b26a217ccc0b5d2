//! Pipes of the kernel, through which bytes go from one socket to another without a copy.
//!
//! A core keeps a few: making one costs two descriptors and some microseconds.

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};

/// Pipes that a core keeps for later.
const PIPES_KEPT_MAX: usize = 32;
/// Bytes that one call asks for; a pipe holds sixteen fragments, which is less.
const STEP_BYTES_MAX: usize = 1 << 20;

/// A pipe, empty while nobody uses it.
pub struct Pipe {
    ends: Option<Ends>,
    held_bytes: usize,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

thread_local! {
    static PIPES: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

impl Pipe {
    /// A pipe of this core; none where the kernel has no descriptor left.
    pub fn take() -> Option<Self> {
        let kept = PIPES.with(|pipes| pipes.borrow_mut().pop());
        let made = || {
            let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
            Some(Ends { read, write })
        };
        Some(Self { ends: Some(kept.or_else(made)?), held_bytes: 0 })
    }

    /// How many bytes are in it.
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Moves at most so many bytes from a socket into it; 0 is the peer's end. Does not block where
    /// the socket does not, or has something to read.
    pub(super) fn fill(&mut self, socket: impl AsFd, bytes_max: u64) -> rustix::io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(Errno::BADF)?;
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(STEP_BYTES_MAX);
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = splice(socket, None, &ends.write, None, bytes_max, flags)?;
        self.held_bytes += count;
        Ok(count)
    }

    /// Moves what it holds into a socket, as much as that takes.
    pub(super) fn drain(&mut self, socket: impl AsFd) -> rustix::io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(Errno::BADF)?;
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = splice(&ends.read, None, socket, None, self.held_bytes, flags)?;
        self.held_bytes = self.held_bytes.saturating_sub(count);
        Ok(count)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // What is left in a pipe goes with it: the next user must not find another's bytes.
        let Some(ends) = self.ends.take().filter(|_| self.held_bytes == 0) else { return };
        let _ = PIPES.try_with(|pipes| {
            let mut pipes = pipes.borrow_mut();
            if pipes.len() < PIPES_KEPT_MAX {
                pipes.push(ends);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_pipe_with_bytes_left_is_not_used_again() {
        let (mut far, near) = UnixStream::pair().unwrap();
        let (out, mut end) = UnixStream::pair().unwrap();
        far.write_all(b"one two").unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(pipe.fill(&near, 4).unwrap(), 4);
        assert_eq!(pipe.held_bytes(), 4);
        drop(pipe);
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(pipe.fill(&near, 100).unwrap(), 3);
        assert_eq!((pipe.drain(&out).unwrap(), pipe.held_bytes()), (3, 0));
        drop(out);
        let mut text = String::new();
        end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "two");
        drop(far);
        assert_eq!(pipe.fill(&near, 100).unwrap(), 0);
    }
}
