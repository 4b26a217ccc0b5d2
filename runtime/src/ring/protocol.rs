//! The protocol of the event ring: which word is stored when, and what a reader may conclude.
//!
//! This file is compiled three times: over the mapping, over loom's atomics and over a tape that
//! records each store (see `tests.rs`). It therefore names nothing but `super::memory::Memory`.

use super::bell::Bell;
use super::memory::{Counter, Memory};
use std::sync::Arc;

/// Bytes of the word in front of each record; records begin at multiples of it.
pub(super) const WORD_BYTES: u64 = 8;
/// Marks a word that stands in front of unused room at the end of the ring.
const PAD: u32 = 1 << 31;
/// Only so many bytes of a record are covered by its checksum: enough to tell a record from
/// anything else, and a bound on what a large body costs the core.
const CHECKED_BYTES_MAX: usize = 256;
/// The bell is rung when more than this fraction of the ring is taken.
const BELL_FRACTION: u64 = 8;

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The consumer is behind: no room now.
    Full,
    /// Longer than [`Producer::record_bytes_max`]: there never will be room.
    TooLarge,
}

/// The writing end: one per core, never shared.
pub struct Producer {
    memory: Arc<Memory>,
    /// Where the next record begins. Not in the mapping: a reader finds it by walking the words.
    head: u64,
    tail_seen: u64,
    committed: u64,
    lost_full: u64,
    lost_large: u64,
    bell: Option<Arc<Bell>>,
}

impl Producer {
    /// The writing end of an empty ring.
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self {
            memory,
            head: 0,
            tail_seen: 0,
            committed: 0,
            lost_full: 0,
            lost_large: 0,
            bell: None,
        }
    }

    /// Rings `bell` whenever an eighth of the ring is taken.
    #[must_use]
    pub fn with_bell(mut self, bell: Arc<Bell>) -> Self {
        self.bell = Some(bell);
        self
    }

    /// The longest record that this ring takes: half of it, so that an empty ring always has room.
    pub fn record_bytes_max(&self) -> usize {
        (self.memory.capacity() / 2 - 2 * WORD_BYTES) as usize
    }

    /// Finds room for one record of exactly `len` bytes, standing for `events` events.
    ///
    /// Nothing is visible to the consumer until [`Slot::commit`]; a slot that is dropped leaves no
    /// trace.
    ///
    /// # Errors
    /// A refusal is counted as `events` lost events.
    pub fn reserve(&mut self, len: usize, events: u32) -> Result<Slot<'_>, Refusal> {
        if len == 0 || len > self.record_bytes_max() {
            self.lost_large += u64::from(events);
            self.memory.set_counter(Counter::LostLarge, self.lost_large);
            return Err(Refusal::TooLarge);
        }
        let need = room_of(len as u64);
        let to_end = self.memory.capacity() - self.memory.offset(self.head);
        let pad = if need > to_end { to_end } else { 0 };
        // One word more: the commit also empties the word behind the record.
        if !self.has_room(pad + need + WORD_BYTES) {
            self.lost_full += u64::from(events);
            self.memory.set_counter(Counter::LostFull, self.lost_full);
            return Err(Refusal::Full);
        }
        let start = self.head + pad;
        Ok(Slot { producer: self, pad, start, len, written: 0, events })
    }

    fn has_room(&mut self, bytes: u64) -> bool {
        let capacity = self.memory.capacity();
        if self.head + bytes - self.tail_seen > capacity {
            self.tail_seen = self.memory.tail();
        }
        self.head + bytes - self.tail_seen <= capacity
    }

    fn ring_bell(&mut self) {
        let Some(bell) = &self.bell else { return };
        let eighth = self.memory.capacity() / BELL_FRACTION;
        if self.head - self.tail_seen > eighth {
            self.tail_seen = self.memory.tail();
            if self.head - self.tail_seen > eighth {
                bell.ring();
            }
        }
    }
}

/// Room for one record that nobody sees yet.
pub struct Slot<'a> {
    producer: &'a mut Producer,
    pad: u64,
    start: u64,
    len: usize,
    written: usize,
    events: u32,
}

impl Slot<'_> {
    /// Appends to the record. What does not fit any more is ignored, and then [`Slot::commit`]
    /// refuses: a record is either whole or not there.
    pub fn write(&mut self, bytes: &[u8]) {
        let end = self.written + bytes.len();
        if end <= self.len {
            let memory = &self.producer.memory;
            let at = memory.offset(self.start + WORD_BYTES) + self.written as u64;
            // SAFETY: `reserve` found everything from `start` to `start` + 8 + `len` released by
            // the consumer and contiguous, no committed word leads there, and `&mut Producer`
            // keeps every other writer out.
            unsafe { memory.write(at, bytes) };
        }
        self.written = end;
    }

    /// Makes the record visible with one release-store; false if it was not filled exactly.
    ///
    /// The order of stores is the whole safety of the ring:
    /// 1. the record's bytes (by then already written, into room that no word leads to),
    /// 2. the word behind the record becomes empty, so that a reader stops there,
    /// 3. the record's own word, with release: from here on it exists.
    ///
    /// Before 3 a reader stands in front of an empty word, however far 1 and 2 have come; so a
    /// producer that is killed between any two stores leaves exactly the records it committed.
    pub fn commit(self) -> bool {
        let Self { producer, pad, start, len, written, events } = self;
        if written != len {
            return false;
        }
        let memory = &producer.memory;
        if pad > 0 {
            memory.clear_word(memory.offset(start));
            memory.store_word(memory.offset(producer.head), word(PAD | pad as u32, 0));
            producer.head = start;
        }
        let next = start + room_of(len as u64);
        memory.clear_word(memory.offset(next));
        producer.committed += u64::from(events);
        memory.set_counter(Counter::Committed, producer.committed);
        let payload_at = memory.offset(start + WORD_BYTES);
        // SAFETY: the range was written above by this very producer and nobody writes it now.
        let head = unsafe { memory.read(payload_at, len.min(CHECKED_BYTES_MAX) as u64) };
        let sum = checksum(start, len as u32, head);
        memory.store_word(memory.offset(start), word(len as u32, sum));
        producer.head = next;
        producer.ring_bell();
        true
    }
}

/// What stands next in the ring.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// Nothing is committed beyond what was taken.
    Empty,
    /// One record. `position` never repeats within a ring and grows from record to record.
    Record {
        /// Where the record began, counted in bytes since the ring was made.
        position: u64,
        /// Exactly what was committed.
        bytes: &'a [u8],
    },
    /// The memory does not hold what the protocol could have written: someone else's bytes.
    /// Nothing beyond can be trusted, and the ring stays in this state.
    Broken,
}

/// The reading end: one per ring.
pub struct Consumer {
    memory: Arc<Memory>,
    /// The next record to look at; between the released tail and the producer's head.
    read: u64,
}

impl Consumer {
    /// The reading end, beginning at the first record that was not released.
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        let read = memory.tail();
        Self { memory, read }
    }

    /// Takes the next record. Its bytes stay untouched until [`Consumer::release`], which needs
    /// the borrow to be over.
    pub fn take(&mut self) -> Next<'_> {
        let mut word = self.memory.load_word(self.memory.offset(self.read));
        if length_of(word) & PAD != 0 {
            let pad = u64::from(length_of(word) & !PAD);
            if pad != self.memory.capacity() - self.memory.offset(self.read) {
                return Next::Broken;
            }
            self.read += pad;
            word = self.memory.load_word(self.memory.offset(self.read));
        }
        let len = length_of(word);
        if len == 0 {
            return Next::Empty;
        }
        let position = self.read;
        let to_end = self.memory.capacity() - self.memory.offset(position);
        if len & PAD != 0 || room_of(u64::from(len)) > to_end {
            return Next::Broken;
        }
        // SAFETY: the word was loaded with acquire and says that `len` bytes behind it are
        // committed; the producer does not write them again before they are released.
        let bytes =
            unsafe { self.memory.read(self.memory.offset(position + WORD_BYTES), u64::from(len)) };
        let checked = bytes.get(..CHECKED_BYTES_MAX).unwrap_or(bytes);
        if word != self::word(len, checksum(position, len, checked)) {
            return Next::Broken;
        }
        self.read = position + room_of(u64::from(len));
        Next::Record { position, bytes }
    }

    /// Gives everything that was taken back to the producer. What it stood for must be safe
    /// elsewhere by now: after this store no process will see it again.
    pub fn release(&mut self) {
        self.memory.set_tail(self.read);
    }

    /// Bytes taken but not released.
    pub fn unreleased_bytes(&self) -> u64 {
        self.read - self.memory.tail()
    }

    /// A view of the ring's counters for other threads.
    pub fn gauge(&self) -> Gauge {
        Gauge { memory: Arc::clone(&self.memory) }
    }
}

/// What a ring has seen, readable from any thread.
pub struct Gauge {
    memory: Arc<Memory>,
}

/// Counts of events since the ring was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In committed records. Grows before the record is visible.
    pub committed: u64,
    /// Refused because the ring was full.
    pub lost_full: u64,
    /// Refused because the record was longer than the ring takes.
    pub lost_large: u64,
}

impl Gauge {
    /// The counts now.
    pub fn counts(&self) -> Counts {
        Counts {
            committed: self.memory.counter(Counter::Committed),
            lost_full: self.memory.counter(Counter::LostFull),
            lost_large: self.memory.counter(Counter::LostLarge),
        }
    }
}

/// Room that a record takes with its word.
const fn room_of(len: u64) -> u64 {
    WORD_BYTES + len.next_multiple_of(WORD_BYTES)
}

const fn word(len: u32, sum: u32) -> u64 {
    len as u64 | ((sum as u64) << 32)
}

const fn length_of(word: u64) -> u32 {
    word as u32
}

/// The position is part of it, so that a record left over from an earlier lap never counts.
fn checksum(position: u64, len: u32, head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&position.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(head);
    hasher.finalize()
}
