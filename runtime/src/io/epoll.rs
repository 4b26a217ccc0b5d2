//! The driver on epoll, our own: edge-triggered, and no call that is known to find nothing.
//!
//! monoio's epoll calls recv(2) once more after every answer only to hear EAGAIN, and poll(2) twice
//! around every wait without a buffer. Here a read that got less than it had room for is known to
//! have emptied the socket, so the next one waits for the edge; a write is tried without asking. A
//! relayed request costs two receives, two sends and its part of a wait; the time is read once per
//! turn, and the sends of a turn come together at its end (see `turns.rs`).

mod turns;

use super::{ConnectOptions, Driver, Peer, Pipe, Target, socket};
use crate::buffers::{self, Page, Pages};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Result};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

pub(super) use turns::block_on;

/// epoll under a core.
pub(super) struct Epoll;

/// What is known about a descriptor. The loop tells it of every edge.
struct Source {
    /// Its number in the loop.
    number: usize,
    /// A read may find something. Wrong only in saying yes.
    readable: Cell<bool>,
    /// A write may find room. Wrong only in saying yes.
    writable: Cell<bool>,
    /// The peer has ended or the connection is broken: no further edge may come.
    ended: Cell<bool>,
    /// Whose waker `reader` is waits now. The waker is kept for the next wait, which mostly is the
    /// same task's.
    waiting: Cell<bool>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

impl Source {
    const fn new(number: usize) -> Self {
        Self {
            number,
            readable: Cell::new(false),
            writable: Cell::new(true),
            ended: Cell::new(false),
            waiting: Cell::new(false),
            reader: Cell::new(None),
            writer: Cell::new(None),
        }
    }

    /// Notes what the kernel tells.
    fn edge(&self, flags: EventFlags) {
        let over = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if flags.intersects(over) {
            self.ended.set(true);
        }
        if flags.intersects(over | EventFlags::IN) {
            self.readable.set(true);
            if self.waiting.replace(false)
                && let Some(reader) = self.reader.take()
            {
                reader.wake_by_ref();
                self.reader.set(Some(reader));
            }
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.writable.set(true);
            self.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_until(self.readable.get(), cx)
    }

    /// Ready when `done`; else the task is woken by the next edge of the reading direction.
    fn poll_until(&self, done: bool, cx: &Context<'_>) -> Poll<()> {
        if done {
            return Poll::Ready(());
        }
        let kept = self.reader.take().filter(|waker| waker.will_wake(cx.waker()));
        self.reader.set(Some(kept.unwrap_or_else(|| cx.waker().clone())));
        self.waiting.set(true);
        Poll::Pending
    }

    async fn until_readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Until the peer has ended: the edge that says so comes without anybody asking.
    async fn until_ended(&self) {
        poll_fn(|cx| self.poll_until(self.ended.get(), cx)).await;
    }

    async fn until_writable(&self) {
        poll_fn(|cx| {
            if self.writable.get() {
                return Poll::Ready(());
            }
            self.writer.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// A descriptor that the loop watches.
struct Watched<F: AsFd> {
    fd: F,
    source: Rc<Source>,
    /// Whether somebody else holds the same open file, so that closing ours does not end the watch.
    shared: Cell<bool>,
}

impl<F: AsFd> Watched<F> {
    fn new(fd: F, shared: bool) -> Result<Self> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let source = turns::watch(&fd, flags)?;
        Ok(Self { fd, source, shared: Cell::new(shared) })
    }
}

impl<F: AsFd> Drop for Watched<F> {
    fn drop(&mut self) {
        turns::forget(self.source.number, self.shared.get().then(|| self.fd.as_fd()));
    }
}

type Socket = Watched<OwnedFd>;

/// The receiving half.
pub(super) struct Reader(Rc<Socket>);
/// The sending half.
pub(super) struct Writer(Rc<Socket>);
/// Ends a connection without keeping it.
#[derive(Clone)]
pub(super) struct Closer(Weak<Socket>);

fn halves(socket: Socket) -> (Reader, Writer) {
    let socket = Rc::new(socket);
    (Reader(Rc::clone(&socket)), Writer(socket))
}

impl Reader {
    pub(super) fn release(self) -> Result<OwnedFd> {
        let fd = self.0.fd.try_clone()?;
        self.0.shared.set(true);
        Ok(fd)
    }

    pub(super) async fn ended(&self) {
        self.0.source.until_ended().await;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.source.ended.get()
    }

    pub(super) fn closer(&self) -> Closer {
        Closer(Rc::downgrade(&self.0))
    }

    pub(super) fn is_quiet(&self) -> bool {
        socket::is_quiet(&self.0.fd)
    }

    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        socket::local_addr(&self.0.fd)
    }

    pub(super) async fn fill(&mut self, pipe: &mut Pipe, bytes_max: u64) -> Result<usize> {
        let Socket { fd, source, .. } = &*self.0;
        loop {
            source.until_readable().await;
            match pipe.fill(fd, bytes_max) {
                // Whether that was all cannot be told: the pipe may have been full first.
                Ok(count) => return Ok(count),
                Err(Errno::AGAIN) => source.readable.set(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Writer {
    pub(super) fn closer(&self) -> Closer {
        Closer(Rc::downgrade(&self.0))
    }

    pub(super) async fn drain(&mut self, pipe: &mut Pipe) -> Result<()> {
        let Socket { fd, source, .. } = &*self.0;
        while pipe.held_bytes() > 0 {
            source.until_writable().await;
            match pipe.drain(fd) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => source.writable.set(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Closer {
    pub(super) fn close(&self) {
        if let Some(socket) = self.0.upgrade() {
            // The only fault is that it is not connected any longer, which is what is wanted.
            let _ = rustix::net::shutdown(&socket.fd, Shutdown::Both);
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.0.upgrade().is_none_or(|socket| socket::is_quiet(&socket.fd))
    }
}

/// Both halves of a connected socket.
pub(super) fn adopt(fd: OwnedFd) -> Result<(Reader, Writer)> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(halves(Socket::new(fd, true)?))
}

/// A descriptor that is only polled, such as an eventfd.
pub(super) struct Pollable(Socket);

impl Pollable {
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        Ok(Self(Socket::new(fd, true)?))
    }

    pub(super) async fn readable(&mut self) {
        self.0.source.until_readable().await;
        // Whoever waited reads it now; what comes later is a new edge.
        self.0.source.readable.set(false);
    }
}

/// A listening socket.
pub(super) struct Listener {
    socket: Watched<TcpListener>,
    addr: SocketAddr,
}

impl Listener {
    pub(super) fn new(socket: TcpListener) -> Result<Self> {
        let addr = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Watched::new(socket, true)?, addr })
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Driver for Epoll {
    type Reader = Reader;
    type Writer = Writer;
    type Listener = Listener;

    async fn accept(listener: &mut Listener) -> Result<(Reader, Writer, Peer)> {
        let source = &listener.socket.source;
        loop {
            source.until_readable().await;
            match socket::accept_now(&listener.socket.fd, false) {
                Ok((fd, addr)) => {
                    let (reader, writer) = halves(Socket::new(fd, false)?);
                    return Ok((reader, writer, Peer { addr, local: listener.addr }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => source.readable.set(false),
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(to: &Target<'_>, options: &ConnectOptions) -> Result<(Reader, Writer)> {
        let (fd, connected) = socket::begin_connect(to, options)?;
        let socket = Socket::new(fd, false)?;
        if !connected {
            socket.source.writable.set(false);
            socket.source.until_writable().await;
            socket::finish_connect(&socket.fd)?;
        }
        Ok(halves(socket))
    }

    async fn readable(reader: &mut Reader) -> Result<()> {
        reader.0.source.until_readable().await;
        Ok(())
    }

    async fn read(reader: &mut Reader, mut page: Page) -> (Result<usize>, Page) {
        let Socket { fd, source, .. } = &*reader.0;
        loop {
            source.until_readable().await;
            let room = page.spare_len();
            match rustix::net::recv(fd, page.spare_mut(), RecvFlags::DONTWAIT) {
                Ok((count, _)) => {
                    // Less than there was room for: the socket is empty, and what comes next comes
                    // with an edge, unless the last edge was the end's.
                    source.readable.set(count == room || source.ended.get());
                    page.advance(count);
                    return (Ok(count), page);
                }
                Err(Errno::AGAIN) => source.readable.set(false),
                Err(Errno::INTR) => {}
                Err(error) => return (Err(error.into()), page),
            }
        }
    }

    async fn write(writer: &mut Writer, mut pages: Pages) -> Result<()> {
        let Socket { fd, source, .. } = &*writer.0;
        let mut left = buffers::total_len(&pages);
        if left > 0 {
            turns::sending().await;
        }
        while left > 0 {
            source.until_writable().await;
            match socket::send_now(fd, &pages) {
                Ok(count) if count >= left => return Ok(()),
                Ok(count) => {
                    left -= count;
                    buffers::advance(&mut pages, count);
                }
                Err(Errno::AGAIN) => source.writable.set(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn shutdown(writer: &mut Writer) -> Result<()> {
        Ok(rustix::net::shutdown(&writer.0.fd, Shutdown::Write)?)
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        turns::spawn(Box::pin(task));
    }

    async fn pause(ms: u64) {
        turns::pause(ms).await;
    }
}

/// Makes the descriptor that sources are watched with.
fn create() -> Result<OwnedFd> {
    Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?)
}
