//! The driver on monoio 0.2.4: io_uring, or epoll where the kernel refuses it.
//!
//! Written around what monoio 0.2.4 does:
//! - Its fusion driver panics when locked memory runs out: the driver is chosen here, with epoll
//!   for every refusal.
//! - A cancelled accept or connect leaks a descriptor: both are only waits for readiness here,
//!   followed by a call that cannot block.
//! - A socket's first write on epoll would wait a turn for its readiness to be told: the call is
//!   tried first, and `writable` awaited only when it would block.
//! - A non-blocking socket makes io_uring answer EAGAIN instead of waiting: sockets are blocking
//!   there and non-blocking on epoll.
//! - Dropping its write half costs a shutdown(2): the halves are our own.

use super::{ConnectOptions, Driver, IoChoice, IoKind, OnCore, Peer, Target, URING_ENTRIES};
use crate::buffers::{self, Page, Pages, Piece};
use ::monoio::buf::{IoBuf, IoBufMut, IoVecBuf};
use ::monoio::io::{AsyncReadRent, AsyncWriteRent};
use ::monoio::net::TcpStream;
use ::monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use rustix::net::RecvFlags;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};
use std::cell::{RefCell, UnsafeCell};
use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Vectors that a writer hands to the kernel at once; IOV_MAX is 1,024.
const SLICES_MAX: usize = 64;
/// Free lists of vectors that a core keeps.
const SLICE_LISTS_MAX: usize = 64;

/// monoio under a core.
pub(super) struct Monoio;

/// Runs `future` on this thread, on the driver that `choice` allows.
pub(super) fn block_on<T>(choice: IoChoice, future: impl Future<Output = T>) -> Result<T> {
    let refused = match choice {
        IoChoice::Epoll => None,
        IoChoice::Auto | IoChoice::IoUring => match build_uring() {
            Ok(mut runtime) => {
                let _core = OnCore::enter(IoKind::IoUring)?;
                log::info!("this core runs on io_uring");
                return Ok(runtime.block_on(future));
            }
            Err(error) => Some(error),
        },
    };
    if let (IoChoice::IoUring, Some(error)) = (choice, &refused) {
        return Err(Error::new(error.kind(), format!("the kernel refuses io_uring: {error}")));
    }
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
    let _core = OnCore::enter(IoKind::Epoll)?;
    match refused {
        Some(error) => log::info!("this core runs on epoll; io_uring was refused: {error}"),
        None => log::info!("this core runs on epoll"),
    }
    Ok(runtime.block_on(future))
}

type UringRuntime = ::monoio::Runtime<::monoio::time::TimeDriver<IoUringDriver>>;

fn build_uring() -> Result<UringRuntime> {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(URING_ENTRIES)
        .uring_builder(builder)
        .enable_timer()
        .build()
}

/// One connected socket, shared by its two halves.
struct Socket {
    /// Only `reading` and `writing` take it mutably.
    stream: UnsafeCell<TcpStream>,
    epoll: bool,
}

impl Socket {
    fn new(fd: OwnedFd) -> Result<Rc<Self>> {
        // Not only for TCP: what monoio does with it suits every stream socket.
        let stream = TcpStream::from_std(std::net::TcpStream::from(fd))?;
        let epoll = super::kind() == Some(IoKind::Epoll);
        Ok(Rc::new(Self { stream: UnsafeCell::new(stream), epoll }))
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
    pub(super) fn closer(&self) -> Closer {
        self.0.closer()
    }

    pub(super) fn is_quiet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let looked = rustix::net::recv(self.0.fd(), &mut [0_u8; 1], flags);
        matches!(looked, Err(rustix::io::Errno::AGAIN))
    }

    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        let addr = rustix::net::getsockname(self.0.fd())?;
        SocketAddr::try_from(addr).map_err(|_| ErrorKind::Unsupported.into())
    }
}

impl Writer {
    pub(super) fn closer(&self) -> Closer {
        self.0.closer()
    }
}

impl Closer {
    pub(super) fn close(&self) {
        if let Some(socket) = self.0.upgrade() {
            // The only fault is that it is not connected any longer, which is what is wanted.
            let _ = rustix::net::shutdown(socket.fd(), Shutdown::Both);
        }
    }
}

/// Both halves of a connected socket; blocking or not is set as the driver needs it.
pub(super) fn adopt(fd: OwnedFd) -> Result<(Reader, Writer)> {
    rustix::io::ioctl_fionbio(&fd, super::kind() == Some(IoKind::Epoll))?;
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

/// A listening socket, non-blocking on both drivers: accept(2) is called when it is readable.
pub(super) struct Listener {
    listener: ::monoio::net::TcpListener,
    addr: SocketAddr,
    /// Accepted in this turn without a wait.
    burst: usize,
}

impl Listener {
    pub(super) fn new(socket: std::net::TcpListener) -> Result<Self> {
        let addr = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        let listener = ::monoio::net::TcpListener::from_std(socket)?;
        Ok(Self { listener, addr, burst: 0 })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn try_accept(&self) -> Result<(OwnedFd, SocketAddr)> {
        let mut flags = rustix::net::SocketFlags::CLOEXEC;
        if super::kind() == Some(IoKind::Epoll) {
            flags |= rustix::net::SocketFlags::NONBLOCK;
        }
        let (fd, addr) = rustix::net::acceptfrom_with(borrow(&self.listener), flags)?;
        let addr = addr.and_then(|addr| SocketAddr::try_from(addr).ok());
        Ok((fd, addr.ok_or(ErrorKind::ConnectionAborted)?))
    }
}

impl Driver for Monoio {
    type Reader = Reader;
    type Writer = Writer;
    type Listener = Listener;

    async fn accept(listener: &mut Listener) -> Result<(Reader, Writer, Peer)> {
        loop {
            if listener.burst == 0 {
                listener.listener.readable(false).await?;
            }
            match listener.try_accept() {
                Ok((fd, addr)) => {
                    listener.burst = (listener.burst + 1) % super::ACCEPTS_MAX;
                    // A client that is gone already is its reader's business.
                    let _ = rustix::net::sockopt::set_tcp_nodelay(&fd, true);
                    let socket = Socket::new(fd)?;
                    let peer = Peer { addr, local: listener.addr };
                    return Ok((Reader(Rc::clone(&socket)), Writer(socket), peer));
                }
                Err(error) => {
                    listener.burst = 0;
                    if error.kind() != ErrorKind::WouldBlock {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn connect(to: &Target<'_>, options: &ConnectOptions) -> Result<(Reader, Writer)> {
        let (socket, connected) = begin_connect(to, options)?;
        let socket = Socket::new(OwnedFd::from(socket))?;
        if !connected {
            socket.stream().writable(false).await?;
            rustix::net::sockopt::socket_error(socket.fd())??;
        }
        if !socket.epoll {
            rustix::io::ioctl_fionbio(socket.fd(), false)?;
        }
        Ok((Reader(Rc::clone(&socket)), Writer(socket)))
    }

    async fn readable(reader: &mut Reader) -> Result<()> {
        reader.0.stream().readable(false).await
    }

    async fn read(reader: &mut Reader, page: Page) -> (Result<usize>, Page) {
        let (result, LentPage(page)) = reader.0.begin().read(LentPage(page)).await;
        (result, page)
    }

    async fn write(writer: &mut Writer, mut pages: Pages) -> Result<()> {
        pages.retain(|piece| !piece.is_empty());
        while !pages.is_empty() {
            let count = if writer.0.epoll {
                send_when_writable(&writer.0, &pages).await?
            } else {
                let (count, rest) = submit(&writer.0, pages).await;
                pages = rest;
                count?
            };
            if count == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            buffers::advance(&mut pages, count);
        }
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

/// Makes a non-blocking socket and begins to connect it. The flag tells whether it is done.
fn begin_connect(to: &Target<'_>, options: &ConnectOptions) -> Result<(socket2::Socket, bool)> {
    let (addr, domain) = match to {
        Target::Tcp(addr) => (socket2::SockAddr::from(*addr), socket2::Domain::for_address(*addr)),
        Target::Unix(path) => (socket2::SockAddr::unix(path)?, socket2::Domain::UNIX),
    };
    let kind = socket2::Type::STREAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(domain, kind, None)?;
    if matches!(to, Target::Tcp(_)) {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(bind) = options.bind {
        socket.bind(&bind.into())?;
    }
    match socket.connect(&addr) {
        Ok(()) => Ok((socket, true)),
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Ok((socket, false))
        }
        Err(error) => Err(error),
    }
}

/// Sends what the kernel takes at once; waits only where it takes nothing.
async fn send_when_writable(socket: &Socket, pages: &Pages) -> Result<usize> {
    loop {
        match send_now(socket, pages) {
            Err(rustix::io::Errno::AGAIN) => socket.stream().writable(false).await?,
            Err(rustix::io::Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

fn send_now(socket: &Socket, pages: &Pages) -> rustix::io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    if let [piece] = pages.as_slice() {
        return rustix::net::send(socket.fd(), piece, flags);
    }
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let count = pages.len().min(SLICES_MAX);
    for (slice, piece) in slices.iter_mut().zip(pages) {
        *slice = IoSlice::new(piece);
    }
    let slices = slices.get(..count).unwrap_or_default();
    rustix::net::sendmsg(socket.fd(), slices, &mut SendAncillaryBuffer::default(), flags)
}

/// Gives the pieces to io_uring and waits for its answer.
async fn submit(socket: &Socket, mut pages: Pages) -> (Result<usize>, Pages) {
    if pages.len() > 1 {
        let (count, lent) = socket.begin().writev(LentPages::new(pages)).await;
        return (count, lent.give_back());
    }
    let piece = pages.pop().unwrap_or_default();
    let (count, LentPiece(piece)) = socket.begin().write(LentPiece(piece)).await;
    pages.push(piece);
    (count, pages)
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

type Slices = Vec<libc::iovec>;

thread_local! {
    /// Lists of vectors that wait to be used again, so that a vectored write allocates nothing.
    static SLICE_LISTS: RefCell<Vec<Slices>> = const { RefCell::new(Vec::new()) };
}

/// Several pieces on loan to the kernel.
struct LentPages {
    pages: Pages,
    slices: Slices,
}

impl LentPages {
    fn new(pages: Pages) -> Self {
        let mut slices = SLICE_LISTS.with(|lists| lists.borrow_mut().pop()).unwrap_or_default();
        slices.extend(pages.iter().take(SLICES_MAX).map(|piece| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        }));
        Self { pages, slices }
    }

    fn give_back(mut self) -> Pages {
        self.slices.clear();
        SLICE_LISTS.with(|lists| {
            let mut lists = lists.borrow_mut();
            if lists.len() < SLICE_LISTS_MAX {
                lists.push(self.slices);
            }
        });
        self.pages
    }
}

// SAFETY: the vectors lie on the heap and are not touched while lent, so their address holds; each
// points to the bytes of a piece in `pages`, for which the argument of `LentPiece` holds.
#[allow(unsafe_code)]
unsafe impl IoVecBuf for LentPages {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.slices.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.slices.len()
    }
}
