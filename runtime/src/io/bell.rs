//! How one thread wakes another: a flag and an eventfd.
//!
//! Whoever has put something into a queue rings; the first ring since the other side last listened
//! writes to the eventfd (0.4 us, and tens of microseconds until a sleeping core runs), the others
//! only look at the flag. The eventfd is polled like a socket and read without blocking: monoio's
//! own files would block the whole core on epoll.

use super::{Error, ErrorKind, IoKind, Result, epoll, glommio, kind, monoio, script};
use rustix::event::{EventfdFlags, eventfd};
use std::future::poll_fn;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::unix::AsyncFd;

/// Wakes whoever holds the `Ear` of the same bell. Cheap to clone, rings from any thread.
#[derive(Clone)]
pub struct Bell(Arc<Inner>);

struct Inner {
    fd: OwnedFd,
    /// Rung and not yet heard.
    rung: AtomicBool,
}

impl Bell {
    /// A bell that nobody listens to yet; rings are kept until somebody does.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn new() -> Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner { fd, rung: AtomicBool::new(false) })))
    }

    /// Wakes the listener. What was put into a queue before is seen by it.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // Cannot fail but by overflow, which would need 2^64 unheard rings.
            let _ = rustix::io::write(&self.0.fd, &1_u64.to_ne_bytes());
        }
    }

    /// Whether it has been rung and not yet heard.
    pub(super) fn is_rung(&self) -> bool {
        self.0.rung.load(Ordering::Acquire)
    }

    /// What is readable while it is rung.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// Makes the bell ready to be rung again. Look into the queues after it, never before.
    pub(super) fn hush(&self) {
        let _ = rustix::io::read(&self.0.fd, &mut [0_u8; 8]);
        self.0.rung.swap(false, Ordering::AcqRel);
    }

    /// Listens on this core.
    ///
    /// # Errors
    /// When descriptors have run out or no core runs on this thread.
    pub fn listen_on_core(&self) -> Result<CoreEar> {
        let fd = || self.0.fd.try_clone();
        let poll = match kind() {
            Some(IoKind::IoUring) => PollOf::Monoio(monoio::Pollable::new(fd()?)?),
            Some(IoKind::Epoll) => PollOf::Epoll(epoll::Pollable::new(fd()?)?),
            Some(IoKind::Glommio) => PollOf::Glommio(glommio::Pollable::new(fd()?)?),
            Some(IoKind::Script) => PollOf::Script,
            None => return Err(ErrorKind::Unsupported.into()),
        };
        Ok(CoreEar { bell: self.clone(), poll })
    }

    /// Listens in the office, within a tokio runtime that has its I/O enabled.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn listen_on_desk(&self) -> Result<DeskEar> {
        // SAFETY: the descriptor belongs to the bell inside, which lives as long as the AsyncFd and
        // never gives it away, so it stays open and the same while it is registered.
        #[allow(unsafe_code)]
        let fd = unsafe { AsyncFd::register(Listened(self.clone())) }.map_err(Error::from)?;
        Ok(DeskEar { fd })
    }

    /// Waits on an ordinary thread, at most `ms` milliseconds; tells whether it was rung.
    pub fn wait_blocking(&self, ms: u32) -> bool {
        let timeout = rustix::event::Timespec {
            tv_sec: i64::from(ms / 1_000),
            tv_nsec: i64::from(ms % 1_000) * 1_000_000,
        };
        let mut polled = [rustix::event::PollFd::new(&self.0.fd, rustix::event::PollFlags::IN)];
        let rung = matches!(rustix::event::poll(&mut polled, Some(&timeout)), Ok(1..));
        if rung {
            self.hush();
        }
        rung
    }
}

/// The listening side on a core.
pub struct CoreEar {
    bell: Bell,
    poll: PollOf,
}

enum PollOf {
    Monoio(monoio::Pollable),
    Epoll(epoll::Pollable),
    Glommio(glommio::Pollable),
    /// No kernel, no descriptor.
    Script,
}

impl CoreEar {
    /// Waits for a ring; look into the queues after it. May be dropped.
    pub async fn heard(&mut self) {
        match &mut self.poll {
            // A fault of the poll cannot be told from a ring: both make the caller look.
            PollOf::Monoio(poll) => drop(poll.readable().await),
            PollOf::Epoll(poll) => poll.readable().await,
            PollOf::Glommio(poll) => poll.readable().await,
            PollOf::Script => poll_fn(|cx| script::bell_rung(&self.bell, cx.waker())).await,
        }
        self.bell.hush();
    }
}

struct Listened(Bell);

impl AsRawFd for Listened {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.fd.as_raw_fd()
    }
}

/// The listening side in the office.
pub struct DeskEar {
    fd: AsyncFd<Listened>,
}

impl DeskEar {
    /// Waits for a ring; look into the queues after it. May be dropped.
    pub async fn heard(&self) {
        if let Ok(mut ready) = self.fd.readable().await {
            ready.clear_ready();
        }
        self.fd.get_ref().0.hush();
    }
}
