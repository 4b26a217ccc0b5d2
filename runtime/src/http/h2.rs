//! HTTP/2, both roles: the h2 crate fed from memory.
//!
//! ```text
//!   WireReader ─► pump ─► inbox ─┐
//!                                ├─ Pipe ─ h2 ─ serve ─► one task per stream
//!   WireWriter ◄─ pump ◄─ outbox ┘
//! ```
//! h2 speaks to a [`pipe::Pipe`], which never touches a socket; two small tasks carry pages between
//! it and the wire. A stream is an ordinary exchange: its head fills the same [`head::Request`] as
//! one of HTTP/1, its body comes and goes in pieces, and both directions wait for the peer's
//! window. Every bound is in [`Limits`]. All waits on a stream may be dropped, so a deadline around
//! them is `clock::within`. [`Client`] is the other role, for gRPC upstreams.

mod client;
mod flood;
mod intake;
mod pipe;
mod stream;

pub use client::{Awaited, Call, Client};
pub use stream::{Added, Body, Fault, Reply, Sender, Stream};

use super::head;
use crate::buffers::Piece;
use crate::clock::Deadline;
use crate::io;
use crate::wire::{WireReader, WireWriter};
use ::h2::{Reason, server};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What a client with prior knowledge of HTTP/2 sends first; with ALPN, too.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How the first bytes of a connection look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// HTTP/2.
    Yes,
    /// Something else: HTTP/1.
    No,
    /// Could still become either.
    Partial,
}

/// Tells HTTP/2 from HTTP/1 by the first bytes of a connection; at most 24 are looked at.
pub fn preface(bytes: &[u8]) -> Preface {
    let common = bytes.iter().zip(PREFACE).take_while(|(got, want)| got == want).count();
    match common {
        _ if common == PREFACE.len() => Preface::Yes,
        _ if common == bytes.len() => Preface::Partial,
        _ => Preface::No,
    }
}

/// What one client may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of heads and number of header lines, as for HTTP/1.
    pub head: head::Limits,
    /// Streams that are open at once (nginx: 128).
    pub streams_max: u32,
    /// Streams of one connection before its client is told to make a new one (Kong: 10,000).
    pub requests_max: u64,
    /// Bytes of one request body that may wait here.
    pub stream_window_bytes: u32,
    /// Bytes of all request bodies of a connection that may wait here.
    pub connection_window_bytes: u32,
    /// Bytes of one response that may wait for the client.
    pub send_buffer_bytes_max: usize,
    /// How long a connection without streams stays open; the preface has to come in this time, too.
    pub idle_ms: u64,
    /// How long the client may take to close after our end.
    pub linger_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: head::Limits::default(),
            streams_max: 128,
            requests_max: 10_000,
            stream_window_bytes: 256 * 1024,
            connection_window_bytes: 1024 * 1024,
            send_buffer_bytes_max: 64 * 1024,
            idle_ms: 75_000,
            linger_ms: 5_000,
        }
    }
}

/// Streams that may be reset by the client while they wait to be accepted (rapid reset,
/// CVE-2023-44487): more end the connection.
const PENDING_RESETS_MAX: usize = 20;
/// Streams whose end by our reset is remembered, for late frames: what a refused upload has on its
/// way counts as broken once it is forgotten, frame by frame.
const REMEMBERED_RESETS_MAX: usize = 50;
/// How long they are remembered: a window of 256 KiB takes half a minute at 70 kbit/s.
const REMEMBERED_RESETS_MS: u64 = 30_000;
/// Streams of one connection that a client may break in its life; more end the connection.
const BROKEN_STREAMS_MAX: usize = 1_000;
/// What small DATA frames that wait unread may cost, by h2's own count: up to 255 each. They are
/// gathered long before (see [`intake`]); this holds what two pages of the smallest can bring.
const DATA_FRAME_BUDGET: usize = 1024 * 1024;
/// Tasks of one connection, per allowed stream: a client that opens and resets faster than tasks
/// end is cut off.
const TASKS_PER_STREAM_MAX: usize = 2;

/// Serves one client until it leaves: each stream in a task of its own, made by `on_stream`.
///
/// `first` is what was read before the protocol was known, the preface included. Once `draining`
/// says so the client is told to go elsewhere and the connection ends with its last stream; it is
/// asked when a stream comes or the last one ends. Returns when both directions are closed.
///
/// # Errors
/// What ended the connection, unless it ended in order; for the log.
pub async fn serve<F, S>(
    reader: WireReader,
    writer: WireWriter,
    first: Piece,
    limits: &Limits,
    draining: impl Fn() -> bool,
    mut on_stream: F,
) -> Result<(), Fault>
where
    F: FnMut(Stream) -> S,
    S: Future<Output = ()> + 'static,
{
    let life = Rc::new(Life {
        deadline: Deadline::new(reader.closer()),
        idle_ms: limits.idle_ms,
        tasks: Cell::new(0),
        waker: Cell::new(None),
    });
    life.deadline.arm_idle(limits.idle_ms);
    let crowd = Rc::new(intake::Crowd::default());
    let watch = flood::Watch::of_client(Rc::clone(&crowd));
    let (pipe, pumps) = pipe::start(reader, writer, first, watch);
    let outcome = match builder(limits).handshake(pipe).await {
        Ok(connection) => {
            let ends = Ends { pumps: &pumps, crowd };
            accept(connection, &ends, &life, limits, draining, &mut on_stream).await
        }
        Err(fault) => Err(fault.into()),
    };
    // h2 and its end of the pipe are gone; what it wrote last still goes out.
    life.deadline.arm(limits.linger_ms);
    pumps.ended().await;
    life.deadline.disarm();
    outcome
}

fn builder(limits: &Limits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.head.head_bytes_max).unwrap_or(u32::MAX))
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_send_buffer_size(limits.send_buffer_bytes_max)
        .max_concurrent_reset_streams(REMEMBERED_RESETS_MAX)
        .reset_stream_duration(Duration::from_millis(REMEMBERED_RESETS_MS))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(BROKEN_STREAMS_MAX))
        .data_frame_budget(DATA_FRAME_BUDGET);
    builder
}

/// What the connection and its tasks have in common.
struct Life {
    deadline: Deadline,
    idle_ms: u64,
    tasks: Cell<usize>,
    waker: Cell<Option<Waker>>,
}

impl Life {
    fn begin_task(self: &Rc<Self>) -> Task {
        self.tasks.set(self.tasks.get() + 1);
        self.deadline.disarm();
        Task(Rc::clone(self))
    }
}

/// Counts a stream's task, whichever way it ends.
struct Task(Rc<Life>);

impl Drop for Task {
    fn drop(&mut self) {
        let left = self.0.tasks.get().saturating_sub(1);
        self.0.tasks.set(left);
        if left == 0 {
            self.0.deadline.arm_idle(self.0.idle_ms);
            if let Some(waker) = self.0.waker.take() {
                waker.wake();
            }
        }
    }
}

type Connection = server::Connection<pipe::Pipe, stream::Chunk>;

/// What lies on both sides of h2.
struct Ends<'a> {
    pumps: &'a pipe::Pumps,
    crowd: Rc<intake::Crowd>,
}

impl Ends<'_> {
    /// Looks for what comes next, out of the way of small frames.
    fn poll_accept(
        &self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Asked, ::h2::Error>>> {
        loop {
            let next = connection.poll_accept(cx);
            if next.is_ready() || !self.pumps.is_crowded() {
                return next;
            }
            self.crowd.gather();
        }
    }
}

/// A request, and the means to answer it.
type Asked = (::http::Request<::h2::RecvStream>, server::SendResponse<stream::Chunk>);

async fn accept<F, S>(
    mut connection: Connection,
    ends: &Ends<'_>,
    life: &Rc<Life>,
    limits: &Limits,
    draining: impl Fn() -> bool,
    on_stream: &mut F,
) -> Result<(), Fault>
where
    F: FnMut(Stream) -> S,
    S: Future<Output = ()> + 'static,
{
    let tasks_max = limits.streams_max as usize * TASKS_PER_STREAM_MAX;
    let (mut served, mut ending, mut cut_off) = (0_u64, false, false);
    loop {
        let next = poll_fn(|cx| {
            if !ending && (served >= limits.requests_max || draining()) {
                ending = true;
                connection.graceful_shutdown();
            }
            life.waker.set(Some(cx.waker().clone()));
            let next = ends.poll_accept(&mut connection, cx);
            if next.is_pending() && !cut_off && ends.pumps.is_flooded() {
                cut_off = true;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                return connection.poll_accept(cx);
            }
            next
        });
        let (received, respond) = match next.await {
            None => return Ok(()),
            Some(Err(fault)) => return Err(fault.into()),
            Some(Ok(stream)) => stream,
        };
        served += 1;
        if life.tasks.get() >= tasks_max {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            continue;
        }
        let task = life.begin_task();
        let serving = on_stream(Stream::new(received, respond, &limits.head, &ends.crowd));
        io::spawn(async move {
            serving.await;
            drop(task);
        });
    }
}
