//! Bytes in and out of one core: connections, listeners, tasks.
//!
//! ```text
//!   accept / connect ──► Reader ─ readable() ─ read(page) ──►   at most one operation in flight
//!                   └──► Writer ─ write(pages) ─ shutdown() ─►  at most one operation in flight
//!                          └── closer() ──► Closer: ends both at once, from anywhere on the core
//! ```
//! Which driver is underneath (`io/monoio.rs` with io_uring, `io/epoll.rs`, `io/glommio.rs` where
//! it was built in, `io/script.rs` without a kernel) is decided when the core starts; above this
//! file nobody can tell.
//!
//! Rules that the drivers rely on: a read that was begun is awaited to its end (`readable` may be
//! dropped, it holds no buffer); the same holds for a write; whoever does not want to wait any
//! longer closes the connection through a `Closer`, and the pending operation then ends. A connect
//! may be dropped: it only waits for writability.

mod bell;
mod choice;
mod epoll;
#[cfg(feature = "glommio")]
mod glommio;
#[cfg(not(feature = "glommio"))]
#[path = "io/no_glommio.rs"]
mod glommio;
mod monoio;
mod open;
mod pipe;
pub mod script;
mod socket;

use crate::buffers::{Page, Pages};
use crate::clock;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

pub use bell::{Bell, CoreEar, DeskEar};
pub use choice::{IoChoice, IoKind};
pub use open::{adopt, connect, connect_unix, release};
pub use pipe::Pipe;
pub use std::io::{Error, ErrorKind, Result};

/// Entries of a core's io_uring. Twice as many completions fit; more operations than that may be
/// in flight, the kernel keeps what does not fit.
pub const URING_ENTRIES: u32 = 1_024;
/// Connections that one turn of the accept loop takes before other tasks have their turn.
pub const ACCEPTS_MAX: usize = 64;
/// Where the driver is not told of an end by itself: milliseconds before the first look for it, so
/// that short waits cost nothing, and between two looks while unread bytes hide it.
const ENDED_FIRST_MS: u64 = 80;
const ENDED_LOOK_MS: u64 = 500;

/// The I/O under a core. The only places that name a runtime are the `impl`s of this.
///
/// Buffers are lent to the kernel and come back with the result: io_uring needs to own them, and a
/// readiness driver does not mind. A connection is two halves, each with at most one operation in
/// flight, so that both directions can be busy. A read that was begun is never dropped.
pub trait Driver: 'static {
    /// The receiving half.
    type Reader: 'static;
    /// The sending half.
    type Writer: 'static;
    /// A listening socket of this core alone (`SO_REUSEPORT`).
    type Listener: 'static;

    /// Waits for a client. May be dropped.
    fn accept(
        listener: &mut Self::Listener,
    ) -> impl Future<Output = Result<(Self::Reader, Self::Writer, Peer)>>;
    /// Opens a connection. May be dropped.
    fn connect(
        to: &Target<'_>,
        options: &ConnectOptions,
    ) -> impl Future<Output = Result<(Self::Reader, Self::Writer)>>;
    /// Waits until there is something to read. Holds no buffer; may be dropped.
    fn readable(reader: &mut Self::Reader) -> impl Future<Output = Result<()>>;
    /// Reads at most `page`'s spare room behind what it holds; 0 is the end.
    fn read(reader: &mut Self::Reader, page: Page) -> impl Future<Output = (Result<usize>, Page)>;
    /// Writes all of `pages`, in order, in as few calls as the kernel allows.
    fn write(writer: &mut Self::Writer, pages: Pages) -> impl Future<Output = Result<()>>;
    /// Tells the peer that nothing more comes; what was written before still arrives.
    fn shutdown(writer: &mut Self::Writer) -> Result<()>;
    /// Starts a task on this core.
    fn spawn(task: impl Future<Output = ()> + 'static);
    /// Waits `ms` milliseconds; the clock's wheel is built on it, nothing else should be.
    fn pause(ms: u64) -> impl Future<Output = ()>;
}

thread_local! {
    static KIND: Cell<Option<IoKind>> = const { Cell::new(None) };
}

/// The driver of this thread; nothing where no core runs.
pub fn kind() -> Option<IoKind> {
    KIND.with(Cell::get)
}

/// A pipe between two connections of this core; none where its driver cannot splice, and where the
/// kernel gives none.
pub fn pipe() -> Option<Pipe> {
    match kind() {
        Some(IoKind::Script | IoKind::Glommio) => None,
        _ => Pipe::take(),
    }
}

fn on_script() -> bool {
    kind() == Some(IoKind::Script)
}

/// Marks this thread as a core while it lives.
struct OnCore;

impl OnCore {
    fn enter(kind: IoKind) -> Result<Self> {
        if KIND.with(|cell| cell.get().is_some()) {
            return Err(Error::other("a core cannot be started inside a core"));
        }
        KIND.with(|cell| cell.set(Some(kind)));
        Ok(Self)
    }
}

impl Drop for OnCore {
    fn drop(&mut self) {
        KIND.with(|cell| cell.set(None));
        clock::end();
    }
}

/// Runs `future` on this thread as a core, with the driver that `choice` says, until it is done.
/// Tasks that are still running then are dropped or forgotten: end them first.
///
/// # Errors
/// When the chosen driver cannot be built, or a core runs on this thread already. With
/// `IoChoice::Auto` io_uring's refusal is no error: epoll runs instead.
pub fn block_on_core<T>(choice: IoChoice, future: impl Future<Output = T>) -> Result<T> {
    let core = async {
        clock::begin_cached();
        spawn(clock::tick_forever());
        future.await
    };
    let refused = match choice {
        IoChoice::Epoll => None,
        IoChoice::Glommio => {
            log::info!("this core runs on glommio");
            return glommio::block_on(core);
        }
        IoChoice::Auto | IoChoice::IoUring => match monoio::build() {
            Ok(ring) => {
                log::info!("this core runs on io_uring");
                return monoio::block_on(ring, core);
            }
            Err(error) => Some(error),
        },
    };
    match (choice, refused) {
        (IoChoice::IoUring, Some(error)) => {
            let words = format!("the kernel refuses io_uring: {error}");
            return Err(Error::new(error.kind(), words));
        }
        (_, Some(error)) => log::info!("this core runs on epoll; io_uring is refused: {error}"),
        (_, None) => log::info!("this core runs on epoll"),
    }
    epoll::block_on(core)
}

/// Lets every other task of this core that can move do so first.
pub async fn yield_now() {
    // Not by waking itself: monoio puts a task that was woken while it moved in front of all
    // others. A task of its own goes to the end of the queue, and so does whom it wakes.
    let mut asked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        spawn(async move { waker.wake() });
        Poll::Pending
    })
    .await;
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How many tasks of this process ended in a panic. Each is in the log, too.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Starts a task on this core. A panic ends the task alone: it is logged and counted.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    let guarded = Guarded { task };
    match kind() {
        Some(IoKind::IoUring) => monoio::Monoio::spawn(guarded),
        Some(IoKind::Epoll) => epoll::Epoll::spawn(guarded),
        Some(IoKind::Glommio) => glommio::Glommio::spawn(guarded),
        Some(IoKind::Script) => script::Script::spawn(guarded),
        None => log::error!("a task was to be started where no core runs"),
    }
}

/// A task whose panic stays its own.
struct Guarded<F> {
    task: F,
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        // SAFETY: `task` is never moved out of `Guarded`, which has no Drop of its own and is
        // Unpin only where `task` is; a pin of the whole is therefore a pin of the field.
        #[allow(unsafe_code)]
        let task = unsafe { self.map_unchecked_mut(|guarded| &mut guarded.task) };
        catch_unwind(AssertUnwindSafe(|| task.poll(cx))).unwrap_or_else(|panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            log::error!("a task panicked and was ended: {}", text.unwrap_or("no message"));
            Poll::Ready(())
        })
    }
}

/// Waits `ms` milliseconds with a timer of the driver's own.
pub(crate) async fn pause(ms: u64) {
    match kind() {
        Some(IoKind::IoUring) => monoio::Monoio::pause(ms).await,
        Some(IoKind::Epoll) => epoll::Epoll::pause(ms).await,
        Some(IoKind::Glommio) => glommio::Glommio::pause(ms).await,
        Some(IoKind::Script) | None => script::Script::pause(ms).await,
    }
}

/// Who is on the other end of an accepted connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The client's address as the kernel saw it (a load balancer's, where one stands before us).
    pub addr: SocketAddr,
    /// The address the listener was bound to; its host may be a wildcard. `Reader::local_addr`
    /// asks the kernel for the real one.
    pub local: SocketAddr,
}

/// Where to connect to.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(&'a Path),
}

/// How to connect.
#[derive(Clone, Copy, Default, Debug)]
pub struct ConnectOptions {
    /// The address to connect from; the kernel's choice where absent.
    pub bind: Option<SocketAddr>,
}

/// The receiving half of a connection. Dropping both halves closes it.
pub struct Reader(ReaderOf);

enum ReaderOf {
    Monoio(monoio::Reader),
    Epoll(epoll::Reader),
    Glommio(glommio::Reader),
    Script(script::Reader),
}

/// The sending half of a connection. Dropping both halves closes it.
pub struct Writer(WriterOf);

enum WriterOf {
    Monoio(monoio::Writer),
    Epoll(epoll::Writer),
    Glommio(glommio::Writer),
    Script(script::Writer),
}

/// Ends a connection both ways at once, so that its pending operations end too. Cheap to clone;
/// does not keep the connection open.
#[derive(Clone)]
pub struct Closer(CloserOf);

#[derive(Clone)]
enum CloserOf {
    Monoio(monoio::Closer),
    Epoll(epoll::Closer),
    Glommio(glommio::Closer),
    Script(script::Closer),
    Nothing,
}

/// A socket that accepts connections for this core.
pub struct Listener(ListenerOf);

enum ListenerOf {
    Monoio(monoio::Listener),
    Epoll(epoll::Listener),
    Glommio(glommio::Listener),
    Script(script::Listener),
}

impl Reader {
    /// Waits until there is something to read or the peer has ended. Holds no buffer and may be
    /// dropped.
    ///
    /// # Errors
    /// Those of the connection; most show up in the read that follows.
    pub async fn readable(&mut self) -> Result<()> {
        match &mut self.0 {
            ReaderOf::Monoio(reader) => monoio::Monoio::readable(reader).await,
            ReaderOf::Epoll(reader) => epoll::Epoll::readable(reader).await,
            ReaderOf::Glommio(reader) => glommio::Glommio::readable(reader).await,
            ReaderOf::Script(reader) => script::Script::readable(reader).await,
        }
    }

    /// Waits until the peer has ended its direction or the connection is broken, whatever it sent
    /// before that is not read yet. Holds no buffer and may be dropped. On epoll it is seen at
    /// once; else within about a tenth of a second, or `ENDED_LOOK_MS` while bytes wait.
    pub async fn ended(&mut self) {
        match &mut self.0 {
            ReaderOf::Monoio(reader) => reader.ended().await,
            ReaderOf::Epoll(reader) => reader.ended().await,
            ReaderOf::Glommio(reader) => reader.ended().await,
            ReaderOf::Script(reader) => reader.ended().await,
        }
    }

    /// Whether the peer has ended its direction or the connection is broken by now. With io_uring
    /// it costs a call to the kernel.
    pub fn has_ended(&self) -> bool {
        match &self.0 {
            ReaderOf::Monoio(reader) => reader.has_ended(),
            ReaderOf::Epoll(reader) => reader.has_ended(),
            ReaderOf::Glommio(reader) => reader.has_ended(),
            ReaderOf::Script(reader) => reader.has_ended(),
        }
    }

    /// Appends what has come in (at least one byte, at most the page's spare room) to `page`;
    /// 0 is the peer's end. Must be awaited to its end.
    ///
    /// # Errors
    /// Those of the connection, and `InvalidInput` for a page without room.
    pub async fn read(&mut self, page: Page) -> (Result<usize>, Page) {
        if page.spare_len() == 0 {
            return (Err(ErrorKind::InvalidInput.into()), page);
        }
        match &mut self.0 {
            ReaderOf::Monoio(reader) => monoio::Monoio::read(reader, page).await,
            ReaderOf::Epoll(reader) => epoll::Epoll::read(reader, page).await,
            ReaderOf::Glommio(reader) => glommio::Glommio::read(reader, page).await,
            ReaderOf::Script(reader) => script::Script::read(reader, page).await,
        }
    }

    /// Moves what has come in, at most so many bytes, into `pipe` without a copy; 0 is the peer's
    /// end. Must be awaited to its end.
    ///
    /// # Errors
    /// Those of the connection, and `Unsupported` where the driver cannot splice.
    pub async fn fill(&mut self, pipe: &mut Pipe, bytes_max: u64) -> Result<usize> {
        match &mut self.0 {
            ReaderOf::Monoio(reader) => reader.fill(pipe, bytes_max).await,
            ReaderOf::Epoll(reader) => reader.fill(pipe, bytes_max).await,
            ReaderOf::Glommio(reader) => reader.fill(pipe, bytes_max).await,
            ReaderOf::Script(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// Whether nothing has come that was not read: no bytes, no end. One call to the kernel, for a
    /// connection that has rested and is about to be used again.
    pub fn is_quiet(&self) -> bool {
        match &self.0 {
            ReaderOf::Monoio(reader) => reader.is_quiet(),
            ReaderOf::Epoll(reader) => reader.is_quiet(),
            ReaderOf::Glommio(reader) => reader.is_quiet(),
            ReaderOf::Script(reader) => reader.is_quiet(),
        }
    }

    /// The address on our side of the connection, asked of the kernel.
    ///
    /// # Errors
    /// Where it has none (a Unix socket).
    pub fn local_addr(&self) -> Result<SocketAddr> {
        match &self.0 {
            ReaderOf::Monoio(reader) => reader.local_addr(),
            ReaderOf::Epoll(reader) => reader.local_addr(),
            ReaderOf::Glommio(reader) => reader.local_addr(),
            ReaderOf::Script(reader) => reader.local_addr(),
        }
    }

    /// What ends this connection.
    pub fn closer(&self) -> Closer {
        Closer(match &self.0 {
            ReaderOf::Monoio(reader) => CloserOf::Monoio(reader.closer()),
            ReaderOf::Epoll(reader) => CloserOf::Epoll(reader.closer()),
            ReaderOf::Glommio(reader) => CloserOf::Glommio(reader.closer()),
            ReaderOf::Script(reader) => CloserOf::Script(reader.closer()),
        })
    }
}

impl Writer {
    /// Writes all of `pages` in order, usually with one call to the kernel. Must be awaited to its
    /// end. Nothing to write is done at once.
    ///
    /// # Errors
    /// Those of the connection; how much went out is then unknown.
    pub async fn write(&mut self, pages: Pages) -> Result<()> {
        match &mut self.0 {
            WriterOf::Monoio(writer) => monoio::Monoio::write(writer, pages).await,
            WriterOf::Epoll(writer) => epoll::Epoll::write(writer, pages).await,
            WriterOf::Glommio(writer) => glommio::Glommio::write(writer, pages).await,
            WriterOf::Script(writer) => script::Script::write(writer, pages).await,
        }
    }

    /// Moves all that `pipe` holds out without a copy. Must be awaited to its end.
    ///
    /// # Errors
    /// Those of the connection, and `Unsupported` where the driver cannot splice; how much went out
    /// is then unknown.
    pub async fn drain(&mut self, pipe: &mut Pipe) -> Result<()> {
        match &mut self.0 {
            WriterOf::Monoio(writer) => writer.drain(pipe).await,
            WriterOf::Epoll(writer) => writer.drain(pipe).await,
            WriterOf::Glommio(writer) => writer.drain(pipe).await,
            WriterOf::Script(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// Tells the peer that nothing more comes; it may go on sending.
    ///
    /// # Errors
    /// Where the connection is gone already.
    pub async fn shutdown(&mut self) -> Result<()> {
        match &mut self.0 {
            WriterOf::Monoio(writer) => monoio::Monoio::shutdown(writer),
            WriterOf::Epoll(writer) => epoll::Epoll::shutdown(writer),
            WriterOf::Glommio(writer) => glommio::Glommio::shutdown(writer),
            WriterOf::Script(writer) => script::Script::shutdown(writer),
        }
    }

    /// What ends this connection.
    pub fn closer(&self) -> Closer {
        Closer(match &self.0 {
            WriterOf::Monoio(writer) => CloserOf::Monoio(writer.closer()),
            WriterOf::Epoll(writer) => CloserOf::Epoll(writer.closer()),
            WriterOf::Glommio(writer) => CloserOf::Glommio(writer.closer()),
            WriterOf::Script(writer) => CloserOf::Script(writer.closer()),
        })
    }
}

impl Closer {
    /// Closes nothing; for deadlines that only wake, and for tests.
    pub const fn none() -> Self {
        Self(CloserOf::Nothing)
    }

    /// Ends the connection both ways. A pending read gives 0 or an error, a pending write an
    /// error. Nothing happens where it is gone already.
    pub fn close(&self) {
        match &self.0 {
            CloserOf::Monoio(closer) => closer.close(),
            CloserOf::Epoll(closer) => closer.close(),
            CloserOf::Glommio(closer) => closer.close(),
            CloserOf::Script(closer) => closer.close(),
            CloserOf::Nothing => {}
        }
    }

    /// Whether nothing has come that was not read: no bytes, no end. A call to the kernel.
    pub fn is_quiet(&self) -> bool {
        match &self.0 {
            CloserOf::Monoio(closer) => closer.is_quiet(),
            CloserOf::Epoll(closer) => closer.is_quiet(),
            CloserOf::Glommio(closer) => closer.is_quiet(),
            CloserOf::Script(closer) => closer.is_quiet(),
            CloserOf::Nothing => true,
        }
    }
}

impl Listener {
    /// Takes a bound, listening socket into this core.
    ///
    /// # Errors
    /// When the driver refuses it, or no core runs on this thread.
    pub fn new(socket: std::net::TcpListener) -> Result<Self> {
        match kind() {
            Some(IoKind::IoUring) => Ok(Self(ListenerOf::Monoio(monoio::Listener::new(socket)?))),
            Some(IoKind::Epoll) => Ok(Self(ListenerOf::Epoll(epoll::Listener::new(socket)?))),
            Some(IoKind::Glommio) => Ok(Self(ListenerOf::Glommio(glommio::Listener::new(socket)?))),
            _ => Err(Error::other("no core with a kernel runs on this thread")),
        }
    }

    /// The address that it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0 {
            ListenerOf::Monoio(listener) => listener.local_addr(),
            ListenerOf::Epoll(listener) => listener.local_addr(),
            ListenerOf::Glommio(listener) => listener.local_addr(),
            ListenerOf::Script(listener) => listener.local_addr(),
        }
    }

    /// Waits for a client. May be dropped.
    ///
    /// # Errors
    /// Those of accept(2); the listener stays usable (see `cores` for what to do when descriptors
    /// run out).
    pub async fn accept(&mut self) -> Result<(Reader, Writer, Peer)> {
        match &mut self.0 {
            ListenerOf::Monoio(listener) => {
                let (reader, writer, peer) = monoio::Monoio::accept(listener).await?;
                Ok((Reader(ReaderOf::Monoio(reader)), Writer(WriterOf::Monoio(writer)), peer))
            }
            ListenerOf::Epoll(listener) => {
                let (reader, writer, peer) = epoll::Epoll::accept(listener).await?;
                Ok((Reader(ReaderOf::Epoll(reader)), Writer(WriterOf::Epoll(writer)), peer))
            }
            ListenerOf::Glommio(listener) => {
                let (reader, writer, peer) = glommio::Glommio::accept(listener).await?;
                Ok((Reader(ReaderOf::Glommio(reader)), Writer(WriterOf::Glommio(writer)), peer))
            }
            ListenerOf::Script(listener) => {
                let (reader, writer, peer) = script::Script::accept(listener).await?;
                Ok((Reader(ReaderOf::Script(reader)), Writer(WriterOf::Script(writer)), peer))
            }
        }
    }
}

/// Listens on `addr` with this core alone; port 0 is one of the driver's choice. The listeners of
/// the gateway are bound by `cores`, before any core runs.
///
/// # Errors
/// When the address cannot be bound, or no core runs on this thread.
pub fn listen(addr: SocketAddr) -> Result<Listener> {
    if on_script() {
        return Ok(Listener(ListenerOf::Script(script::Listener::new(addr)?)));
    }
    Listener::new(std::net::TcpListener::bind(addr)?)
}
