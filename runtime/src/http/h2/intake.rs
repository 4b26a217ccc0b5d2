//! Bodies on their way out of h2: each piece when it is asked for, or before, where it came in many
//! small frames.
//!
//! h2 keeps every DATA frame that nobody has read as a thing of its own and ends the connection
//! when it keeps too many small ones. But a client whose upload waits, or a server whose answers a
//! slow client does not take, may send frames as small as it likes, so it is we who must not keep
//! them: when many have come, all bodies of the connection are taken out of h2 and laid together.
//! Their windows are not given back before they are read, so the bounds stay what they were.

use super::stream::Fault;
use ::h2::RecvStream;
use ::http::HeaderMap;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Frames below this cost h2 more than their bytes.
const SMALL_FRAME_BYTES: usize = 256;
/// Small frames that may lie in h2 before they are gathered.
const SMALL_FRAMES_MAX: usize = 64;
/// Bytes of frames that are read at once while there are small ones.
const CROWDED_PART_BYTES: usize = 2 * 1024;

/// What is known of the receiving side of one connection: its bodies, how many small frames they
/// have in h2, when the peer was last heard.
#[derive(Default)]
pub(super) struct Crowd {
    small_frames: Cell<usize>,
    /// When the peer was last heard.
    heard_us: Cell<u64>,
    /// Small frames were left where they are: of streams that are gone, or of a response whose head
    /// nobody has taken yet.
    missed: Cell<bool>,
    /// As many as there are streams, and some that have ended.
    bodies: RefCell<Vec<Weak<Intake>>>,
}

impl Crowd {
    /// Bytes have come.
    pub(super) fn hear(&self, now_us: u64) {
        self.heard_us.set(now_us);
    }

    /// When bytes last came; 0 is never.
    pub(super) fn heard_us(&self) -> u64 {
        self.heard_us.get()
    }

    /// A DATA frame has come, with so many bytes.
    pub(super) fn came(&self, bytes: usize) {
        if is_small(bytes) {
            self.small_frames.set(self.small_frames.get() + 1);
        }
    }

    fn left(&self, bytes: usize) {
        if is_small(bytes) {
            self.small_frames.set(self.small_frames.get().saturating_sub(1));
        }
    }

    /// Small frames that came and were not read; of streams that are gone, too.
    #[cfg(test)]
    pub(super) fn small_frames(&self) -> usize {
        self.small_frames.get()
    }

    /// Whether it is time to gather.
    pub(super) fn is_full(&self) -> bool {
        self.small_frames.get() >= SMALL_FRAMES_MAX
    }

    /// How much may be read at once: little while there are small frames, since one page may bring
    /// many hundred of them.
    pub(super) fn part_bytes_max(&self) -> usize {
        let usual = self.small_frames.get() == 0 && !self.missed.get();
        if usual { usize::MAX } else { CROWDED_PART_BYTES }
    }

    /// Takes in a body.
    pub(super) fn add(self: &Rc<Self>, stream: RecvStream) -> Rc<Intake> {
        let intake = Rc::new(Intake {
            stream: RefCell::new(stream),
            gathered: RefCell::default(),
            waker: Cell::new(None),
            crowd: Rc::clone(self),
        });
        let mut bodies = self.bodies.borrow_mut();
        if bodies.len() == bodies.capacity() {
            bodies.retain(|body| body.strong_count() > 0);
        }
        bodies.push(Rc::downgrade(&intake));
        if self.missed.replace(false) {
            intake.gather();
        }
        intake
    }

    /// Takes what has come of every body out of h2.
    pub(super) fn gather(&self) {
        let mut frames = 0;
        self.bodies.borrow_mut().retain(|body| {
            let body = body.upgrade();
            body.inspect(|body| frames += body.gather()).is_some()
        });
        self.missed.set(frames < self.small_frames.replace(0));
    }
}

fn is_small(bytes: usize) -> bool {
    (1..SMALL_FRAME_BYTES).contains(&bytes)
}

/// One body.
pub(super) struct Intake {
    stream: RefCell<RecvStream>,
    /// What was taken out of h2 before anybody asked; at most the stream's window.
    gathered: RefCell<Vec<u8>>,
    waker: Cell<Option<Waker>>,
    crowd: Rc<Crowd>,
}

/// The next bytes of a body.
pub(super) enum Next {
    /// As they came.
    Frame(Bytes),
    /// Laid together.
    Gathered(Vec<u8>),
}

impl Intake {
    /// The next bytes; nothing at the end.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Next, Fault>>> {
        let gathered = self.gathered.take();
        if !gathered.is_empty() {
            return Poll::Ready(Some(Ok(Next::Gathered(gathered))));
        }
        let next = self.stream.borrow_mut().poll_data(cx);
        match next {
            Poll::Pending => {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(fault))) => Poll::Ready(Some(Err(fault.into()))),
            Poll::Ready(Some(Ok(bytes))) => {
                self.crowd.left(bytes.len());
                Poll::Ready(Some(Ok(Next::Frame(bytes))))
            }
        }
    }

    /// The lines after the body.
    pub(super) fn poll_trailers(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Fault>> {
        let told = self.stream.borrow_mut().poll_trailers(cx);
        if told.is_pending() {
            self.waker.set(Some(cx.waker().clone()));
        }
        told.map_err(Fault::from)
    }

    /// Lets the peer send so many bytes more.
    pub(super) fn release(&self, bytes: usize) {
        // It fails only if more is released than was received.
        let _ = self.stream.borrow_mut().flow_control().release_capacity(bytes);
    }

    /// Whether nothing more comes.
    pub(super) fn is_ended(&self) -> bool {
        self.gathered.borrow().is_empty() && self.stream.borrow().is_end_stream()
    }

    /// Takes what has come out of h2; gives the number of frames.
    fn gather(&self) -> usize {
        let mut frames = 0;
        let mut nobody = Context::from_waker(Waker::noop());
        let mut gathered = self.gathered.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        // The end, or a fault, is told again to whoever asks next.
        while let Poll::Ready(Some(Ok(bytes))) = stream.poll_data(&mut nobody) {
            gathered.extend_from_slice(&bytes);
            frames += 1;
        }
        // Who waits has lost its place in h2 to nobody.
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        frames
    }
}
