//! The driver on glommio 0.9, in builds with the feature `glommio`.
//!
//! A second machine under the same road, for those who want its schedulers; it costs half as much
//! again as epoll (`ARCHITECTURE.md`, "Drivers") and knows no fallback. What of it is used: its
//! executor for tasks and timers, and its stream as a way to wait for readiness, which it tells
//! through polls in its rings. What it lacks is worked round here:
//! - It has no call that only waits for readiness: a read of no bytes does, since Linux answers
//!   it with 0 where something came and with EAGAIN where nothing did.
//! - Its writes take one slice: several pieces go out with sendmsg(2), and only when the socket is
//!   full does its own write wait.
//! - It cannot wait for room without having bytes to send, so nothing is spliced.
//! - An accept or connect that is dropped in flight may lose a descriptor: both are only waits for
//!   readiness here, as in `monoio.rs`.

use super::{
    ConnectOptions, Driver, ENDED_FIRST_MS, ENDED_LOOK_MS, IoKind, OnCore, Peer, Pipe, Target,
    URING_ENTRIES, socket,
};
use crate::buffers::{self, Page, Pages};
use crate::clock;
use ::glommio::net::TcpStream;
use ::glommio::{LocalExecutorBuilder, Placement};
use futures_io::{AsyncRead, AsyncWrite};
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind, Result};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

/// Whether this build has the driver.
pub(super) const BUILT_IN: bool = true;
/// Why it has not.
pub(super) const ABSENT: &str = "";
/// Locked memory that each core registers for reading files, which it does not do: the least.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// How long a wait without a descriptor rests, in milliseconds.
const SHORT_REST_MS: u64 = 50;

/// glommio under a core.
pub(super) struct Glommio;

/// Runs `future` on this thread until it is done.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("core")
        .ring_depth(URING_ENTRIES as usize)
        .io_memory(IO_MEMORY_BYTES)
        .make()
        .map_err(|error| Error::other(format!("glommio does not start: {error}")))?;
    // Left before the executor goes: what its last tasks drop must find no core.
    let _core = OnCore::enter(IoKind::Glommio)?;
    Ok(executor.run(future))
}

/// glommio's stream over any descriptor that can be polled.
fn stream(fd: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor is open and nobody else's: it is given away here.
    #[allow(unsafe_code)]
    unsafe {
        TcpStream::from_raw_fd(fd.into_raw_fd())
    }
}

/// One connected socket, shared by its two halves.
struct Socket {
    /// Borrowed while one half is polled, never across a wait.
    stream: RefCell<TcpStream>,
    raw: RawFd,
}

impl Socket {
    fn new(fd: OwnedFd) -> Rc<Self> {
        let raw = fd.as_raw_fd();
        Rc::new(Self { stream: RefCell::new(stream(fd)), raw })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor, never gives it away, and lives as long as self.
        #[allow(unsafe_code)]
        unsafe {
            BorrowedFd::borrow_raw(self.raw)
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, into)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes)
    }

    async fn readable(&self) -> Result<()> {
        let told = poll_fn(|cx| self.poll_read(cx, &mut [])).await;
        clock::refresh();
        told.map(drop)
    }

    fn closer(self: &Rc<Self>) -> Closer {
        Closer(Rc::downgrade(self))
    }
}

/// The receiving half.
pub(super) struct Reader(Rc<Socket>);
/// The sending half.
pub(super) struct Writer(Rc<Socket>);
/// Ends a connection without keeping it.
#[derive(Clone)]
pub(super) struct Closer(Weak<Socket>);

fn halves(fd: OwnedFd) -> (Reader, Writer) {
    let socket = Socket::new(fd);
    (Reader(Rc::clone(&socket)), Writer(socket))
}

impl Reader {
    pub(super) fn release(self) -> Result<OwnedFd> {
        self.0.fd().try_clone_to_owned()
    }

    /// Short waits pass without a call to the kernel, as on monoio.
    pub(super) async fn ended(&self) {
        clock::sleep_ms(ENDED_FIRST_MS).await;
        while !socket::has_ended(self.0.fd()) {
            if socket::is_quiet(self.0.fd()) {
                let _told = self.0.readable().await;
            } else {
                clock::sleep_ms(ENDED_LOOK_MS).await;
            }
        }
    }

    pub(super) fn closer(&self) -> Closer {
        self.0.closer()
    }

    pub(super) fn has_ended(&self) -> bool {
        socket::has_ended(self.0.fd())
    }

    pub(super) fn is_quiet(&self) -> bool {
        socket::is_quiet(self.0.fd())
    }

    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        socket::local_addr(self.0.fd())
    }

    #[allow(clippy::unused_async)] // the other drivers wait here
    pub(super) async fn fill(&mut self, _pipe: &mut Pipe, _bytes_max: u64) -> Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }
}

impl Writer {
    pub(super) fn closer(&self) -> Closer {
        self.0.closer()
    }

    #[allow(clippy::unused_async)] // the other drivers wait here
    pub(super) async fn drain(&mut self, _pipe: &mut Pipe) -> Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
}

impl Closer {
    pub(super) fn close(&self) {
        if let Some(socket) = self.0.upgrade() {
            // The only fault is that it is not connected any longer, which is what is wanted.
            let _ = rustix::net::shutdown(socket.fd(), Shutdown::Both);
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.0.upgrade().is_none_or(|socket| socket::is_quiet(socket.fd()))
    }
}

/// Both halves of a connected socket.
pub(super) fn adopt(fd: OwnedFd) -> Result<(Reader, Writer)> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(halves(fd))
}

/// A descriptor that is only polled, such as an eventfd or a listening socket.
pub(super) struct Pollable {
    fd: OwnedFd,
    next: Next,
}

/// What the next wait is made of: a stream polls as soon as it is made, and once that poll has
/// told, a read would not wait for another (nothing can be received here, which is an answer too).
/// So each wait has a stream of its own, over a second descriptor of the same file.
enum Next {
    /// The descriptor is there already: a wait must not fail for want of one.
    Ready(OwnedFd),
    /// A wait was begun and perhaps dropped.
    Begun(TcpStream),
    /// There was no descriptor left.
    Missing,
}

impl Next {
    fn over(fd: &OwnedFd) -> Self {
        fd.try_clone().map_or(Self::Missing, Self::Ready)
    }
}

impl Pollable {
    #[allow(clippy::unnecessary_wraps)] // the other drivers may fail here
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        let next = Next::over(&fd);
        Ok(Self { fd, next })
    }

    /// Where no descriptor is left, the wait is a rest, after which the caller looks.
    pub(super) async fn readable(&mut self) {
        self.next = match std::mem::replace(&mut self.next, Next::Missing) {
            Next::Ready(fd) => Next::Begun(stream(fd)),
            other => other,
        };
        match &mut self.next {
            Next::Begun(stream) => {
                let _told = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut [])).await;
            }
            _ => Glommio::pause(SHORT_REST_MS).await,
        }
        // The old one first, so that its descriptor can be the new one's.
        self.next = Next::Missing;
        self.next = Next::over(&self.fd);
        clock::refresh();
    }
}

/// A listening socket: accept(2) is called when it is readable.
pub(super) struct Listener {
    listener: TcpListener,
    poll: Pollable,
    addr: SocketAddr,
}

impl Listener {
    pub(super) fn new(listener: TcpListener) -> Result<Self> {
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let poll = Pollable::new(listener.try_clone()?.into())?;
        Ok(Self { listener, poll, addr })
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Driver for Glommio {
    type Reader = Reader;
    type Writer = Writer;
    type Listener = Listener;

    async fn accept(listener: &mut Listener) -> Result<(Reader, Writer, Peer)> {
        loop {
            match socket::accept_now(&listener.listener, false) {
                Ok((fd, addr)) => {
                    clock::refresh();
                    let (reader, writer) = halves(fd);
                    return Ok((reader, writer, Peer { addr, local: listener.addr }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    listener.poll.readable().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(to: &Target<'_>, options: &ConnectOptions) -> Result<(Reader, Writer)> {
        let (fd, connected) = socket::begin_connect(to, options)?;
        let socket = Socket::new(fd);
        if !connected {
            // Sending nothing waits while a connection is being made, and tells how that went.
            poll_fn(|cx| socket.poll_write(cx, &[])).await?;
            clock::refresh();
            socket::finish_connect(socket.fd())?;
        }
        Ok((Reader(Rc::clone(&socket)), Writer(socket)))
    }

    async fn readable(reader: &mut Reader) -> Result<()> {
        reader.0.readable().await
    }

    async fn read(reader: &mut Reader, mut page: Page) -> (Result<usize>, Page) {
        let result = poll_fn(|cx| reader.0.poll_read(cx, page.spare_mut())).await;
        clock::refresh();
        if let Ok(count) = result {
            page.advance(count);
        }
        (result, page)
    }

    async fn write(writer: &mut Writer, mut pages: Pages) -> Result<()> {
        let mut left = buffers::total_len(&pages);
        while left > 0 {
            let count = match socket::send_now(writer.0.fd(), &pages) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    let piece = pages.iter().find(|piece| !piece.is_empty());
                    let bytes = piece.map_or(&[][..], |piece| piece);
                    let count = poll_fn(|cx| writer.0.poll_write(cx, bytes)).await?;
                    clock::refresh();
                    count
                }
                Err(error) => return Err(error.into()),
            };
            if count == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            left = left.saturating_sub(count);
            if left > 0 {
                buffers::advance(&mut pages, count);
            }
        }
        Ok(())
    }

    fn shutdown(writer: &mut Writer) -> Result<()> {
        Ok(rustix::net::shutdown(writer.0.fd(), Shutdown::Write)?)
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        drop(::glommio::spawn_local(task).detach());
    }

    async fn pause(ms: u64) {
        ::glommio::timer::sleep(Duration::from_millis(ms)).await;
    }
}
