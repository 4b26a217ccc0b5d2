//! The driver on monoio 0.2.4 with io_uring; where the kernel refuses it, `epoll.rs` takes over.
//!
//! Written around what monoio 0.2.4 does:
//! - Its fusion driver panics when locked memory runs out: the driver is chosen by `io`, which
//!   takes every refusal for an answer.
//! - A cancelled accept or connect leaks a descriptor: both are only waits for readiness here,
//!   followed by a call that cannot block.
//! - A non-blocking socket makes io_uring answer EAGAIN instead of waiting: connected sockets are
//!   blocking.
//! - Dropping its write half costs a shutdown(2): the halves are our own.

use super::{
    ConnectOptions, Driver, ENDED_FIRST_MS, ENDED_LOOK_MS, IoKind, OnCore, Peer, Pipe, Target,
    URING_ENTRIES, socket,
};
use crate::buffers::{self, Page, Pages, Piece};
use crate::clock;
use ::monoio::buf::{IoBuf, IoBufMut, IoVecBuf};
use ::monoio::io::{AsyncReadRent, AsyncWriteRent};
use ::monoio::net::TcpStream;
use ::monoio::time::TimeDriver;
use ::monoio::{IoUringDriver, RuntimeBuilder};
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::cell::{RefCell, UnsafeCell};
use std::future::Future;
use std::io::{ErrorKind, Result};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Jobs that a core keeps for later writes.
const JOBS_KEPT_MAX: usize = 64;

/// monoio under a core.
pub(super) struct Monoio;

/// A runtime on a ring of its own.
pub(super) type Ring = ::monoio::Runtime<TimeDriver<IoUringDriver>>;

/// Makes the ring of this thread, as the kernel allows it.
pub(super) fn build() -> Result<Ring> {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(URING_ENTRIES)
        .uring_builder(builder)
        .enable_timer()
        .build()
}

/// Runs `future` on this thread until it is done.
pub(super) fn block_on<T>(mut ring: Ring, future: impl Future<Output = T>) -> Result<T> {
    let _core = OnCore::enter(IoKind::IoUring)?;
    Ok(ring.block_on(future))
}

/// One connected socket, shared by its two halves.
struct Socket {
    /// Only `reading` and `writing` take it mutably.
    stream: UnsafeCell<TcpStream>,
}

impl Socket {
    fn new(fd: OwnedFd) -> Result<Rc<Self>> {
        // Not only for TCP: what monoio does with it suits every stream socket.
        let stream = TcpStream::from_std(std::net::TcpStream::from(fd))?;
        Ok(Rc::new(Self { stream: UnsafeCell::new(stream) }))
    }

    fn stream(&self) -> &TcpStream {
        // SAFETY: the mutable references that `begin` lends end within `begin`, and it cannot be
        // entered while this one is used, because no method of `TcpStream` calls back.
        #[allow(unsafe_code)]
        unsafe {
            &*self.stream.get()
        }
    }

    /// Lends the stream mutably while an operation is made (not while it is in flight).
    ///
    /// monoio asks for `&mut` where it only clones the descriptor into the operation: its own
    /// split halves share the stream in the same way (`io/util/split.rs`).
    #[allow(clippy::mut_from_ref)]
    fn begin(&self) -> &mut TcpStream {
        // SAFETY: `read`, `write` and `writev` of TcpStream build their operation from a clone of
        // the descriptor before they return; the future's borrow of the stream is only formal
        // and never used again, so no two live references reach the same bytes.
        #[allow(unsafe_code)]
        unsafe {
            &mut *self.stream.get()
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        borrow(self.stream())
    }

    fn closer(self: &Rc<Self>) -> Closer {
        Closer(Rc::downgrade(self))
    }
}

fn borrow(stream: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor and outlives the borrow, as the lifetime says.
    #[allow(unsafe_code)]
    unsafe {
        BorrowedFd::borrow_raw(stream.as_raw_fd())
    }
}

/// The receiving half.
pub(super) struct Reader(Rc<Socket>);
/// The sending half.
pub(super) struct Writer(Rc<Socket>);
/// Ends a connection without keeping it.
#[derive(Clone)]
pub(super) struct Closer(Weak<Socket>);

impl Reader {
    pub(super) fn release(self) -> Result<OwnedFd> {
        self.0.fd().try_clone_to_owned()
    }

    /// Short waits pass without a call to the kernel. Then the ring tells, unless unread bytes
    /// make it tell nothing but them.
    pub(super) async fn ended(&self) {
        clock::sleep_ms(ENDED_FIRST_MS).await;
        while !socket::has_ended(self.0.fd()) {
            if socket::is_quiet(self.0.fd()) {
                let _told = self.0.stream().readable(false).await;
                clock::refresh();
            } else {
                clock::sleep_ms(ENDED_LOOK_MS).await;
            }
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        socket::has_ended(self.0.fd())
    }

    pub(super) fn closer(&self) -> Closer {
        self.0.closer()
    }

    pub(super) fn is_quiet(&self) -> bool {
        socket::is_quiet(self.0.fd())
    }

    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        socket::local_addr(self.0.fd())
    }

    /// A socket that has something to read does not block a splice: it gives what it has.
    pub(super) async fn fill(&mut self, pipe: &mut Pipe, bytes_max: u64) -> Result<usize> {
        loop {
            self.0.stream().readable(false).await?;
            clock::refresh();
            match pipe.fill(self.0.fd(), bytes_max) {
                Ok(count) => return Ok(count),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Writer {
    pub(super) fn closer(&self) -> Closer {
        self.0.closer()
    }

    pub(super) async fn drain(&mut self, pipe: &mut Pipe) -> Result<()> {
        while pipe.held_bytes() > 0 {
            // The ring wants blocking sockets, a splice into one would block the core. Nothing is
            // in flight on the other half but perhaps a wait for readiness, which does not mind.
            rustix::io::ioctl_fionbio(self.0.fd(), true)?;
            let moved = pipe.drain(self.0.fd());
            rustix::io::ioctl_fionbio(self.0.fd(), false)?;
            match moved {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.0.stream().writable(false).await?;
                    clock::refresh();
                }
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
            let _ = rustix::net::shutdown(socket.fd(), Shutdown::Both);
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.0.upgrade().is_none_or(|socket| socket::is_quiet(socket.fd()))
    }
}

/// Both halves of a connected socket.
pub(super) fn adopt(fd: OwnedFd) -> Result<(Reader, Writer)> {
    rustix::io::ioctl_fionbio(&fd, false)?;
    let socket = Socket::new(fd)?;
    Ok((Reader(Rc::clone(&socket)), Writer(socket)))
}

/// A descriptor that is only polled, such as an eventfd.
pub(super) struct Pollable(TcpStream);

impl Pollable {
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        Ok(Self(TcpStream::from_std(std::net::TcpStream::from(fd))?))
    }

    pub(super) async fn readable(&mut self) -> Result<()> {
        self.0.readable(false).await
    }
}

/// A listening socket, non-blocking: accept(2) is called when it is readable.
pub(super) struct Listener {
    listener: std::net::TcpListener,
    poll: Pollable,
    addr: SocketAddr,
}

impl Listener {
    pub(super) fn new(listener: std::net::TcpListener) -> Result<Self> {
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let poll = Pollable::new(listener.try_clone()?.into())?;
        Ok(Self { listener, poll, addr })
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Driver for Monoio {
    type Reader = Reader;
    type Writer = Writer;
    type Listener = Listener;

    async fn accept(listener: &mut Listener) -> Result<(Reader, Writer, Peer)> {
        loop {
            match socket::accept_now(&listener.listener, true) {
                Ok((fd, addr)) => {
                    clock::refresh();
                    let socket = Socket::new(fd)?;
                    let peer = Peer { addr, local: listener.addr };
                    return Ok((Reader(Rc::clone(&socket)), Writer(socket), peer));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    listener.poll.readable().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(to: &Target<'_>, options: &ConnectOptions) -> Result<(Reader, Writer)> {
        let (fd, connected) = socket::begin_connect(to, options)?;
        let socket = Socket::new(fd)?;
        if !connected {
            socket.stream().writable(false).await?;
            clock::refresh();
            socket::finish_connect(socket.fd())?;
        }
        rustix::io::ioctl_fionbio(socket.fd(), false)?;
        Ok((Reader(Rc::clone(&socket)), Writer(socket)))
    }

    async fn readable(reader: &mut Reader) -> Result<()> {
        let result = reader.0.stream().readable(false).await;
        clock::refresh();
        result
    }

    async fn read(reader: &mut Reader, page: Page) -> (Result<usize>, Page) {
        let (result, LentPage(page)) = reader.0.begin().read(LentPage(page)).await;
        clock::refresh();
        (result, page)
    }

    async fn write(writer: &mut Writer, mut pages: Pages) -> Result<()> {
        let mut left = buffers::total_len(&pages);
        if pages.len() == 1
            && let Some(mut piece) = pages.pop()
        {
            while left > 0 {
                let (count, LentPiece(rest)) = writer.0.begin().write(LentPiece(piece)).await;
                left -= some(count)?;
                piece = rest;
                piece.advance(piece.len() - left);
            }
            return Ok(());
        }
        let mut job = Job::take(pages);
        while left > 0 {
            job.list();
            let (count, LentJob(rest)) = writer.0.begin().writev(LentJob(job)).await;
            let count = some(count)?;
            left -= count;
            job = rest;
            buffers::advance(&mut job.pages, count);
        }
        Job::keep(job);
        Ok(())
    }

    fn shutdown(writer: &mut Writer) -> Result<()> {
        Ok(rustix::net::shutdown(writer.0.fd(), Shutdown::Write)?)
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        drop(::monoio::spawn(task));
    }

    async fn pause(ms: u64) {
        ::monoio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// A count that has to be more than none.
fn some(count: Result<usize>) -> Result<usize> {
    count.and_then(|count| if count == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(count) })
}

/// A page on loan to the kernel.
struct LentPage(Page);

// SAFETY: `spare_mut` lies in the page's own heap block, which does not move with the page, stays
// alive as long as it, and has `spare_len` initialised bytes that nobody else can reach: a page is
// exclusive until it is frozen, and a lent one cannot be frozen.
#[allow(unsafe_code)]
unsafe impl IoBufMut for LentPage {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.spare_mut().as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.0.spare_len()
    }

    unsafe fn set_init(&mut self, count: usize) {
        self.0.advance(count);
    }
}

/// A piece on loan to the kernel.
struct LentPiece(Piece);

// SAFETY: the bytes of a piece lie in a heap block or in the program, do not move with the piece,
// live as long as it, and are never written while a piece of them exists.
#[allow(unsafe_code)]
unsafe impl IoBuf for LentPiece {
    fn read_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.len()
    }
}

/// Several pieces to write and the list of them as the kernel wants it. In a box that is used
/// again: it is handed from function to function on its way to the kernel and back.
struct Job {
    pages: Pages,
    slices: Vec<libc::iovec>,
}

thread_local! {
    // Boxes, because it is the box that goes to the kernel and back.
    #[allow(clippy::vec_box)]
    static JOBS: RefCell<Vec<Box<Job>>> = const { RefCell::new(Vec::new()) };
}

impl Job {
    fn take(pages: Pages) -> Box<Self> {
        match JOBS.with(|jobs| jobs.borrow_mut().pop()) {
            Some(mut job) => {
                job.pages = pages;
                job
            }
            None => Box::new(Self { pages, slices: Vec::new() }),
        }
    }

    fn keep(mut job: Box<Self>) {
        job.pages.clear();
        job.slices.clear();
        JOBS.with(|jobs| {
            let mut jobs = jobs.borrow_mut();
            if jobs.len() < JOBS_KEPT_MAX {
                jobs.push(job);
            }
        });
    }

    fn list(&mut self) {
        self.slices.clear();
        let pieces = self.pages.iter().take(socket::SLICES_MAX);
        self.slices.extend(pieces.map(|piece| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        }));
    }
}

/// A job on loan to the kernel.
struct LentJob(Box<Job>);

// SAFETY: the list lies on the heap and is not touched while lent, so its address holds; each entry
// points to the bytes of a piece in `pages`, for which the argument of `LentPiece` holds.
#[allow(unsafe_code)]
unsafe impl IoVecBuf for LentJob {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.0.slices.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.0.slices.len()
    }
}
