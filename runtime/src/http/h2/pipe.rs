//! The socket that h2 believes in: two bounded queues of pages, and the tasks that carry them.
//!
//! Nothing is held while nothing moves: a page is taken when there is something to read, and given
//! back when it has been read or written.

use super::flood::Watch;
use super::{Piece, WireReader, WireWriter, io};
use crate::buffers::{PAGE_BYTES, Page, Pages};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Pages that were received and that h2 has not read yet.
const INBOX_PAGES_MAX: usize = 2;
/// Bytes that h2 wrote and that the wire has not taken yet.
const OUTBOX_BYTES_MAX: usize = 4 * PAGE_BYTES;

/// h2's end.
pub(super) struct Pipe(Rc<RefCell<Queues>>);

/// The other ends: wait for them with [`Pumps::ended`].
pub(super) struct Pumps(Rc<RefCell<Queues>>);

struct Queues {
    inbox: VecDeque<Piece>,
    /// Nothing more will be received.
    received_all: bool,
    /// Full pages, then the one that is being filled.
    outbox: Pages,
    filling: Option<Page>,
    outbox_bytes: usize,
    /// h2 wants what it wrote to go out.
    flush: bool,
    /// h2 writes nothing more.
    written_all: bool,
    /// The wire takes nothing more.
    sent_all: bool,
    /// h2 is gone: what still comes in is thrown away.
    abandoned: bool,
    /// No more is read from a client that floods, nor before small frames were gathered.
    watch: Watch,
    reads: Option<Waker>,
    writes: Option<Waker>,
    pump_in: Option<Waker>,
    pump_out: Option<Waker>,
    ended: Option<Waker>,
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Starts the two pumps of a connection; `first` has been received already.
pub(super) fn start(
    reader: WireReader,
    writer: WireWriter,
    first: Piece,
    watch: Watch,
) -> (Pipe, Pumps) {
    let mut queues = Queues::new(watch);
    if !first.is_empty() {
        queues.inbox.push_back(first);
    }
    let queues = Rc::new(RefCell::new(queues));
    io::spawn(pump_in(reader, Rc::clone(&queues)));
    io::spawn(pump_out(writer, Rc::clone(&queues)));
    (Pipe(Rc::clone(&queues)), Pumps(queues))
}

impl Pumps {
    /// Waits until both directions are closed.
    pub(super) async fn ended(&self) {
        poll_fn(|cx| {
            let mut queues = self.0.borrow_mut();
            if queues.received_all && queues.sent_all {
                return Poll::Ready(());
            }
            queues.ended = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether the client has sent more empty frames than it may.
    pub(super) fn is_flooded(&self) -> bool {
        self.0.borrow().watch.is_flooded()
    }

    /// Whether nothing is read until small frames are gathered.
    pub(super) fn is_crowded(&self) -> bool {
        self.0.borrow().watch.is_crowded()
    }
}

async fn pump_in(mut reader: WireReader, queues: Rc<RefCell<Queues>>) {
    loop {
        poll_fn(|cx| {
            let mut queues = queues.borrow_mut();
            if queues.inbox.len() < INBOX_PAGES_MAX || queues.abandoned {
                return Poll::Ready(());
            }
            queues.pump_in = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        let ready = reader.readable().await.is_ok();
        let (count, page) =
            if ready { reader.read(Page::take()).await } else { (Ok(0), Page::take()) };
        let ended = !matches!(count, Ok(1..));
        let mut queues = queues.borrow_mut();
        if ended {
            queues.received_all = true;
            wake(&mut queues.ended);
        } else if !queues.abandoned {
            queues.inbox.push_back(page.freeze());
        }
        wake(&mut queues.reads);
        if ended {
            return;
        }
    }
}

async fn pump_out(mut writer: WireWriter, queues: Rc<RefCell<Queues>>) {
    loop {
        let pages = poll_fn(|cx| queues.borrow_mut().poll_out(cx)).await;
        let last = pages.is_empty();
        let failed = !last && writer.write(pages).await.is_err();
        if last {
            // It fails where the peer is gone, which ends the connection as well.
            let _ = writer.shutdown().await;
        }
        let mut queues = queues.borrow_mut();
        wake(&mut queues.writes);
        if last || failed {
            queues.sent_all = true;
            wake(&mut queues.ended);
            return;
        }
    }
}

impl Queues {
    fn new(watch: Watch) -> Self {
        Self {
            inbox: VecDeque::new(),
            received_all: false,
            outbox: Pages::new(),
            filling: None,
            outbox_bytes: 0,
            flush: false,
            written_all: false,
            sent_all: false,
            abandoned: false,
            watch,
            reads: None,
            writes: None,
            pump_in: None,
            pump_out: None,
            ended: None,
        }
    }

    /// All that waits to be sent; nothing at the end.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<Pages> {
        let due = self.flush || self.written_all || self.outbox_bytes >= OUTBOX_BYTES_MAX;
        if due && self.outbox_bytes > 0 {
            self.freeze();
            self.flush = false;
            self.outbox_bytes = 0;
            return Poll::Ready(std::mem::take(&mut self.outbox));
        }
        if self.written_all {
            return Poll::Ready(Pages::new());
        }
        self.pump_out = Some(cx.waker().clone());
        Poll::Pending
    }

    fn freeze(&mut self) {
        if let Some(page) = self.filling.take() {
            self.outbox.push(page.freeze());
        }
    }

    /// Takes what fits of `bytes`.
    fn append(&mut self, mut bytes: &[u8]) -> usize {
        let fits = bytes.len().min(OUTBOX_BYTES_MAX - self.outbox_bytes.min(OUTBOX_BYTES_MAX));
        bytes = bytes.get(..fits).unwrap_or_default();
        self.outbox_bytes += fits;
        self.watch.leaves(bytes);
        while !bytes.is_empty() {
            let page = self.filling.get_or_insert_with(Page::take);
            let taken = page.extend(bytes);
            if page.spare_len() == 0 {
                self.freeze();
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        fits
    }

    fn poll_append<'b>(
        &mut self,
        cx: &mut Context<'_>,
        slices: impl Iterator<Item = &'b [u8]>,
    ) -> Poll<io::Result<usize>> {
        if self.sent_all || self.written_all {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if self.outbox_bytes >= OUTBOX_BYTES_MAX {
            self.writes = Some(cx.waker().clone());
            wake(&mut self.pump_out);
            return Poll::Pending;
        }
        let mut total = 0;
        for slice in slices {
            let taken = self.append(slice);
            total += taken;
            if taken < slice.len() {
                break;
            }
        }
        Poll::Ready(Ok(total))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut queues = self.0.borrow_mut();
        let Queues { inbox, watch, .. } = &mut *queues;
        let stopped = watch.is_flooded() || watch.is_crowded();
        let Some(piece) = inbox.front_mut().filter(|_| !stopped) else {
            if queues.received_all && !stopped {
                return Poll::Ready(Ok(()));
            }
            queues.reads = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let part = piece.split_to(room.remaining().min(watch.part_bytes_max()));
        room.put_slice(&part);
        watch.arrived(&part);
        if piece.is_empty() {
            inbox.pop_front();
            wake(&mut queues.pump_in);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_append(cx, std::iter::once(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_append(cx, slices.iter().map(|slice| &**slice))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queues = self.0.borrow_mut();
        if queues.outbox_bytes > 0 {
            queues.flush = true;
            wake(&mut queues.pump_out);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queues = self.0.borrow_mut();
        queues.written_all = true;
        wake(&mut queues.pump_out);
        if queues.sent_all {
            return Poll::Ready(Ok(()));
        }
        queues.writes = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut queues = self.0.borrow_mut();
        queues.abandoned = true;
        queues.written_all = true;
        queues.inbox.clear();
        wake(&mut queues.pump_in);
        wake(&mut queues.pump_out);
    }
}
