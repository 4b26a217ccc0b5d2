//! One thread, one epoll: the clients of a load and the upstream that answers them.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Instant,
};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use crate::upstream::Upstream;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 512;
/// The buffer that all reads share: an answer of 64 KiB with its head fits.
const PAGE_BYTES: usize = 128 * 1024;

/// Whose event it is: the upper half of an event's number; the lower half is an index.
const LISTENER: u64 = 0;
const SERVED: u64 = 1 << 32;
const CLIENT: u64 = 2 << 32;
const TIMER: u64 = 3 << 32;

/// Takes a client's event: the index it registered with, whether the peer is gone, the shared page
/// and the time of the loop in nanoseconds.
pub type Ready<'a> = dyn FnMut(usize, bool, &mut [u8], &dyn Fn() -> u64) + 'a;

/// A poll that clients and upstream register with.
#[derive(Debug, Clone)]
pub struct Poll {
    epoll: Rc<OwnedFd>,
}

impl Poll {
    /// Watches a client's socket in both directions, edge by edge.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_client(&self, socket: impl AsFd, index: usize) -> io::Result<()> {
        self.add(socket, CLIENT | index as u64, EventFlags::IN | EventFlags::OUT)
    }

    /// Watches a connection of the upstream.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_served(&self, socket: impl AsFd, index: usize) -> io::Result<()> {
        self.add(socket, SERVED | index as u64, EventFlags::IN | EventFlags::OUT)
    }

    fn add(&self, socket: impl AsFd, number: u64, flags: EventFlags) -> io::Result<()> {
        let flags = flags | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&*self.epoll, socket, EventData::new_u64(number), flags)?)
    }
}

/// The loop.
pub struct Engine {
    poll: Poll,
    timer: OwnedFd,
    events: Vec<Event>,
    page: Vec<u8>,
    /// What answers the gateway.
    pub upstream: Upstream,
    begun: Instant,
}

impl Engine {
    /// Opens the upstream on a free loopback port at `listen`; its answers have `body_bytes`.
    ///
    /// # Errors
    /// The kernel's: no descriptor left, address in use.
    pub fn new(listen: SocketAddr, body_bytes: usize) -> io::Result<Self> {
        let poll = Poll { epoll: Rc::new(epoll::create(CreateFlags::CLOEXEC)?) };
        let upstream = Upstream::new(listen, body_bytes)?;
        if let Some(listener) = upstream.listener() {
            poll.add(listener, LISTENER, EventFlags::IN)?;
        }
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        poll.add(&timer, TIMER, EventFlags::IN)?;
        let events = Vec::with_capacity(EVENTS_MAX);
        let page = vec![0; PAGE_BYTES];
        Ok(Self { poll, timer, events, page, upstream, begun: Instant::now() })
    }

    /// Starts the upstream again after `Upstream::kill`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn revive_upstream(&mut self) -> io::Result<()> {
        self.poll.add(self.upstream.revive()?, LISTENER, EventFlags::IN)
    }

    /// What clients register with.
    pub fn poll(&self) -> Poll {
        self.poll.clone()
    }

    /// Nanoseconds since the loop was made.
    pub fn now_ns(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    /// Wakes the next turn after `after_ns`, exactly; 0 means at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wake_after(&self, after_ns: u64) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec {
            tv_sec: (after_ns / 1_000_000_000) as i64,
            tv_nsec: (after_ns.max(1) % 1_000_000_000) as i64,
        };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }

    /// One turn: waits at most `wait_ms`, serves the upstream, hands clients' events to `client`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn turn(&mut self, wait_ms: u32, client: &mut Ready<'_>) -> io::Result<()> {
        self.events.clear();
        let wait = Timespec {
            tv_sec: i64::from(wait_ms / 1_000),
            tv_nsec: i64::from(wait_ms % 1_000) * 1_000_000,
        };
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&*self.poll.epoll, room, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(fault) => return Err(fault.into()),
        }
        let begun = self.begun;
        let now = move || begun.elapsed().as_nanos() as u64;
        for event in &self.events {
            let (number, flags) = (event.data.u64(), event.flags);
            let gone = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            let index = (number & 0xffff_ffff) as usize;
            match number >> 32 << 32 {
                CLIENT => client(index, gone, &mut self.page, &now),
                SERVED => self.upstream.ready(index, gone, &mut self.page),
                LISTENER => self.upstream.accept(&self.poll)?,
                _ => {
                    let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
                }
            }
        }
        Ok(())
    }

    /// Serves the upstream alone for `ms`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn serve_for(&mut self, ms: u64) -> io::Result<()> {
        let until = self.now_ns() + ms * 1_000_000;
        while self.now_ns() < until {
            self.turn(1, &mut |_, _, _, _| {})?;
        }
        Ok(())
    }
}
