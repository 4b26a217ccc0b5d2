//! One direction of a scripted connection.

use super::world;
use crate::buffers::Page;
use crate::clock;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Result};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Bytes on their way, in order, each chunk with the time of its arrival.
pub(super) struct Pipe(RefCell<State>);

struct State {
    chunks: VecDeque<(u64, VecDeque<u8>)>,
    bytes: usize,
    /// The last arrival; nothing overtakes it.
    last_us: u64,
    /// When the end arrives, if the writer has ended.
    end_us: Option<u64>,
    /// The reading side takes no more.
    closed: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    /// When the next byte or the end arrives, if one is on its way.
    fn next_us(&self) -> Option<u64> {
        self.chunks.front().map(|(at_us, _)| *at_us).or(self.end_us)
    }

    fn arrived(&self) -> bool {
        let now_us = clock::now_us();
        self.reset || self.closed || self.next_us().is_some_and(|at_us| at_us <= now_us)
    }
}

impl Pipe {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::new(State {
            chunks: VecDeque::new(),
            bytes: 0,
            last_us: 0,
            end_us: None,
            closed: false,
            reset: false,
            reader: None,
            writer: None,
        })))
    }

    /// Ready when a byte, the end or a fault has arrived.
    pub(super) fn readable(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        if state.arrived() {
            return Poll::Ready(());
        }
        state.reader = Some(waker.clone());
        if let Some(at_us) = state.next_us() {
            world::wake_at(at_us, waker.clone());
        }
        Poll::Pending
    }

    /// Whether the end or a fault has arrived, whatever lies before it.
    pub(super) fn has_ended(&self) -> bool {
        let (state, now_us) = (self.0.borrow(), clock::now_us());
        state.reset || state.closed || state.end_us.is_some_and(|at_us| at_us <= now_us)
    }

    /// Ready when it has.
    pub(super) fn ended(&self, waker: &Waker) -> Poll<()> {
        if self.has_ended() {
            return Poll::Ready(());
        }
        let mut state = self.0.borrow_mut();
        state.reader = Some(waker.clone());
        if let Some(at_us) = state.end_us {
            world::wake_at(at_us, waker.clone());
        }
        Poll::Pending
    }

    pub(super) fn is_quiet(&self) -> bool {
        !self.0.borrow().arrived()
    }

    /// Moves what has arrived into `page`, sometimes only a part of it; 0 is the end.
    pub(super) fn take(&self, page: &mut Page) -> Result<usize> {
        let mut state = self.0.borrow_mut();
        if state.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let mut room = page.spare_len();
        if world::chance(world::plan().short_reads_per_mille) {
            room = 1 + world::below(room.min(state.bytes.max(1)) as u64) as usize;
        }
        let (mut count, now_us) = (0, clock::now_us());
        while let Some((at_us, chunk)) = state.chunks.front_mut()
            && *at_us <= now_us
            && count < room
        {
            let part = chunk.len().min(room - count);
            let bytes: Vec<u8> = chunk.drain(..part).collect();
            count += page.extend(&bytes);
            if chunk.is_empty() {
                state.chunks.pop_front();
            }
        }
        state.bytes -= count;
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
        Ok(count)
    }

    /// Takes as many of `bytes` as there is room for.
    pub(super) fn put(&self, bytes: &[u8], waker: &Waker) -> Poll<Result<usize>> {
        let mut state = self.0.borrow_mut();
        if state.reset {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if state.closed || state.end_us.is_some() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let room = world::plan().pipe_bytes_max.saturating_sub(state.bytes);
        if room == 0 {
            state.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let part = bytes.get(..bytes.len().min(room)).unwrap_or(bytes);
        state.last_us = state.last_us.max(clock::now_us() + world::delay_us());
        let at_us = state.last_us;
        state.chunks.push_back((at_us, part.iter().copied().collect()));
        state.bytes += part.len();
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(part.len()))
    }

    /// The writing side ends; what was written before still arrives.
    pub(super) fn end(&self) {
        self.change(|state| {
            let at_us = state.last_us.max(clock::now_us());
            state.end_us.get_or_insert(at_us);
        });
    }

    /// The reading side takes no more.
    pub(super) fn close(&self) {
        self.change(|state| {
            state.closed = true;
            state.chunks.clear();
            state.bytes = 0;
        });
    }

    pub(super) fn reset(&self) {
        self.change(|state| state.reset = true);
    }

    pub(super) fn broken(&self) -> bool {
        let state = self.0.borrow();
        state.reset || state.closed
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.borrow_mut();
        change(&mut state);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
