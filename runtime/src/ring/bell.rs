//! A doorbell: wakes the thread that drains the rings, at most once per round.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// One bell for all rings. Ringing costs one shared load unless the listener sleeps.
pub struct Bell {
    rung: AtomicBool,
    wake: OwnedFd,
}

impl Bell {
    /// A silent bell.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { rung: AtomicBool::new(false), wake })
    }

    /// Wakes the listener; does nothing while an earlier ring is unheard.
    pub fn ring(&self) {
        if !self.rung.load(Ordering::Relaxed) && !self.rung.swap(true, Ordering::AcqRel) {
            // A full counter means that the listener has more than enough reasons to wake.
            let _unheard = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Sleeps until the bell rings or `timeout_ms` is over. What was published before the ring is
    /// visible afterwards.
    pub fn wait(&self, timeout_ms: u64) {
        let timeout = Timespec {
            tv_sec: (timeout_ms / 1000) as i64,
            tv_nsec: ((timeout_ms % 1000) * 1_000_000) as i64,
        };
        let mut fds = [PollFd::new(&self.wake, PollFlags::IN)];
        // An interrupted sleep is a short one: the caller looks and sleeps again.
        let _woken = poll(&mut fds, Some(&timeout));
        let mut counter = [0_u8; 8];
        let _emptied = rustix::io::read(&self.wake, &mut counter);
        self.rung.store(false, Ordering::Release);
    }
}
