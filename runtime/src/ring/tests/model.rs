//! The live protocol under loom: every interleaving and every value that a weak memory may show.
//!
//! Every 8 bytes of the ring are an atomic word and a cell that loom watches: a write that is not
//! ordered after the reads of the bytes before it, or a read that is not ordered after its write,
//! fails the model. `make loom` searches with more preemptions than a plain `cargo test`.

#[path = "../protocol.rs"]
#[allow(unreachable_pub, dead_code, clippy::duplicate_mod, reason = "a copy on purpose")]
mod protocol;

use crate::ring::bell;
use protocol::{Consumer, Next, Producer};
use std::sync::Arc;

mod memory {
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;

    pub(super) enum Counter {
        Committed,
        LostFull,
        LostLarge,
    }

    /// The bytes themselves are kept outside of loom, beside the cells that it watches.
    pub(super) struct Memory {
        words: Vec<AtomicU64>,
        cells: Vec<UnsafeCell<()>>,
        bytes: std::cell::UnsafeCell<Vec<u8>>,
        tail: AtomicU64,
    }

    // SAFETY: loom runs one thread at a time, and `cells` reports every access to `bytes` that the
    // model does not order.
    unsafe impl Sync for Memory {}
    // SAFETY: as above.
    unsafe impl Send for Memory {}

    impl Memory {
        pub(super) fn new(capacity: usize) -> Self {
            Self {
                words: (0..capacity / 8).map(|_| AtomicU64::new(0)).collect(),
                cells: (0..capacity / 8).map(|_| UnsafeCell::new(())).collect(),
                bytes: std::cell::UnsafeCell::new(vec![0; capacity]),
                tail: AtomicU64::new(0),
            }
        }

        pub(super) fn capacity(&self) -> u64 {
            self.words.len() as u64 * 8
        }

        pub(super) fn offset(&self, position: u64) -> u64 {
            position % self.capacity()
        }

        pub(super) fn load_word(&self, offset: u64) -> u64 {
            self.words[offset as usize / 8].load(Ordering::Acquire)
        }

        pub(super) fn store_word(&self, offset: u64, value: u64) {
            self.words[offset as usize / 8].store(value, Ordering::Release);
        }

        pub(super) fn clear_word(&self, offset: u64) {
            self.words[offset as usize / 8].store(0, Ordering::Relaxed);
        }

        pub(super) fn tail(&self) -> u64 {
            self.tail.load(Ordering::Acquire)
        }

        pub(super) fn set_tail(&self, tail: u64) {
            self.tail.store(tail, Ordering::Release);
        }

        pub(super) fn counter(&self, _counter: Counter) -> u64 {
            0
        }

        pub(super) fn set_counter(&self, _counter: Counter, _value: u64) {}

        fn cells(&self, offset: u64, len: usize) -> &[UnsafeCell<()>] {
            let first = offset as usize / 8;
            &self.cells[first..(offset as usize + len).div_ceil(8).max(first)]
        }

        /// # Safety
        /// As the real one's; loom checks it.
        pub(super) unsafe fn write(&self, offset: u64, bytes: &[u8]) {
            self.cells(offset, bytes.len()).iter().for_each(|cell| cell.with_mut(|_| ()));
            // SAFETY: loom runs one thread at a time; the cells have reported the access.
            let all = unsafe { &mut *self.bytes.get() };
            all[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        }

        /// # Safety
        /// As the real one's; loom checks it.
        pub(super) unsafe fn read(&self, offset: u64, len: u64) -> &[u8] {
            self.cells(offset, len as usize).iter().for_each(|cell| cell.with(|_| ()));
            // SAFETY: as above.
            let all = unsafe { &*self.bytes.get() };
            &all[offset as usize..(offset + len) as usize]
        }
    }
}

/// Both ends at once: `records` records of different lengths through a ring that wraps, the
/// consumer looking `looks` times and releasing after every second record.
fn model(capacity: usize, records: usize, looks: usize) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(3);
    }
    builder.check(move || {
        let memory = Arc::new(memory::Memory::new(capacity));
        let mut producer = Producer::new(Arc::clone(&memory));
        let mut consumer = Consumer::new(Arc::clone(&memory));
        let writer = loom::thread::spawn(move || {
            let mut committed = Vec::new();
            for number in 0..records {
                let record = vec![number as u8 + 1; 1 + number * 5 % 13];
                if let Ok(mut slot) = producer.reserve(record.len(), 1) {
                    slot.write(&record);
                    assert!(slot.commit());
                    committed.push(record);
                }
            }
            committed
        });
        let mut taken: Vec<Vec<u8>> = Vec::new();
        for _look in 0..looks {
            look(&mut consumer, &mut taken);
        }
        let committed = writer.join().unwrap();
        while look(&mut consumer, &mut taken) {}
        assert_eq!(taken, committed, "every committed record exactly once, whole, in order");
    });
}

fn look(consumer: &mut Consumer, taken: &mut Vec<Vec<u8>>) -> bool {
    match consumer.take() {
        Next::Record { bytes, .. } => {
            let (first, len) = (bytes[0], bytes.len());
            assert!(bytes.iter().all(|byte| *byte == first), "torn: {bytes:?}");
            taken.push(vec![first; len]);
            if taken.len().is_multiple_of(2) {
                consumer.release();
            }
            true
        }
        Next::Empty => {
            consumer.release();
            false
        }
        Next::Broken => panic!("broken"),
    }
}

#[test]
fn two_records_in_every_interleaving() {
    model(64, 2, 2);
}

#[test]
fn a_ring_that_wraps_in_every_interleaving() {
    model(64, 5, 4);
}
