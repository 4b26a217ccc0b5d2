//! The crash model: the protocol over a memory that records every store, one by one.
//!
//! A process that is killed leaves exactly the stores that it had made. So each run is replayed up
//! to each store in turn, a new consumer reads what is there, and must find exactly the records
//! whose word was stored and which were not released, whole and in order. Stores between two
//! release-stores may be made in any order by compiler and processor: each cut is also tried with
//! random parts of them missing.

#[path = "../protocol.rs"]
#[allow(unreachable_pub, dead_code, clippy::duplicate_mod, reason = "a copy on purpose")]
mod protocol;

use crate::ring::bell;
use protocol::{Consumer, Next, Producer};
use std::sync::Arc;

/// One store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    /// A byte of a record.
    Byte(u64, u8),
    /// A word in front of a record; true with release.
    Word(u64, u64, bool),
    /// The tail, with release.
    Tail(u64),
}

impl Store {
    fn releases(self) -> bool {
        matches!(self, Self::Word(_, _, true) | Self::Tail(_))
    }
}

mod memory {
    use super::Store;
    use std::sync::Mutex;

    pub(super) enum Counter {
        Committed,
        LostFull,
        LostLarge,
    }

    pub(super) struct Image {
        pub(super) bytes: Vec<u8>,
        pub(super) tail: u64,
        pub(super) tape: Vec<Store>,
    }

    impl Image {
        pub(super) fn apply(&mut self, store: Store) {
            match store {
                Store::Byte(at, byte) => self.bytes[at as usize] = byte,
                Store::Word(at, word, _) => {
                    self.bytes[at as usize..at as usize + 8].copy_from_slice(&word.to_le_bytes());
                }
                Store::Tail(tail) => self.tail = tail,
            }
        }
    }

    pub(super) struct Memory(pub(super) Mutex<Image>);

    impl Memory {
        pub(super) fn new(capacity: usize) -> Self {
            Self(Mutex::new(Image { bytes: vec![0; capacity], tail: 0, tape: Vec::new() }))
        }

        fn store(&self, store: Store) {
            let mut image = self.0.lock().unwrap();
            image.apply(store);
            image.tape.push(store);
        }

        pub(super) fn capacity(&self) -> u64 {
            self.0.lock().unwrap().bytes.len() as u64
        }

        pub(super) fn offset(&self, position: u64) -> u64 {
            position % self.capacity()
        }

        pub(super) fn load_word(&self, offset: u64) -> u64 {
            let image = self.0.lock().unwrap();
            u64::from_le_bytes(*image.bytes[offset as usize..].first_chunk().unwrap())
        }

        pub(super) fn store_word(&self, offset: u64, value: u64) {
            self.store(Store::Word(offset, value, true));
        }

        pub(super) fn clear_word(&self, offset: u64) {
            self.store(Store::Word(offset, 0, false));
        }

        pub(super) fn tail(&self) -> u64 {
            self.0.lock().unwrap().tail
        }

        pub(super) fn set_tail(&self, tail: u64) {
            self.store(Store::Tail(tail));
        }

        pub(super) fn counter(&self, _counter: Counter) -> u64 {
            0
        }

        pub(super) fn set_counter(&self, _counter: Counter, _value: u64) {}

        /// # Safety
        /// As the real one's; here nothing can go wrong.
        pub(super) unsafe fn write(&self, offset: u64, bytes: &[u8]) {
            for (at, byte) in bytes.iter().enumerate() {
                self.store(Store::Byte(offset + at as u64, *byte));
            }
        }

        /// # Safety
        /// As the real one's; here the slice is a copy (given away: tests are short).
        pub(super) unsafe fn read(&self, offset: u64, len: u64) -> &[u8] {
            let image = self.0.lock().unwrap();
            image.bytes[offset as usize..(offset + len) as usize].to_vec().leak()
        }
    }
}

/// What one run did, in the order of its stores.
struct Run {
    capacity: usize,
    tape: Vec<Store>,
    /// Number of stores after which a record exists; its position and bytes.
    commits: Vec<(usize, u64, Vec<u8>)>,
}

/// Random commits, takes and releases.
fn run(seed: u64, steps: usize) -> Run {
    let mut random = seed;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let capacity = 64 << next(3);
    let memory = Arc::new(memory::Memory::new(capacity));
    let (mut producer, mut consumer) =
        (Producer::new(Arc::clone(&memory)), Consumer::new(Arc::clone(&memory)));
    let mut commits = Vec::new();
    let made = |memory: &memory::Memory| memory.0.lock().unwrap().tape.len();
    for step in 0..steps {
        match next(4) {
            0 | 1 => {
                let len = 1 + next(producer.record_bytes_max() as u64) as usize;
                // Bytes that look like words, to tempt a reader that goes too far.
                let record: Vec<u8> =
                    (0..len).map(|at| if at % 8 == 0 { 8 } else { step as u8 }).collect();
                let Ok(mut slot) = producer.reserve(len, 1) else { continue };
                slot.write(&record[..len / 3]);
                slot.write(&record[len / 3..]);
                if next(8) == 0 {
                    continue;
                }
                assert!(slot.commit());
                // The commit's last store is the record's word.
                commits.push((made(&memory), 0, record));
            }
            2 => drop(consumer.take()),
            _ => consumer.release(),
        }
    }
    let tape = std::mem::take(&mut memory.0.lock().unwrap().tape);
    let mut position = 0;
    for (_, at, record) in &mut commits {
        let need = 8 + record.len().next_multiple_of(8) as u64;
        let to_end = capacity as u64 - position % capacity as u64;
        position += if need > to_end { to_end } else { 0 };
        *at = position;
        position += need;
    }
    Run { capacity, tape, commits }
}

/// Reads what the stores leave, and compares it with what must be there.
fn check(run: &Run, cut: usize, stores: impl Iterator<Item = Store>, seed: u64) {
    let memory = Arc::new(memory::Memory::new(run.capacity));
    stores.for_each(|store| memory.0.lock().unwrap().apply(store));
    let tail = memory.tail();
    let mut consumer = Consumer::new(memory);
    let mut found = Vec::new();
    loop {
        match consumer.take() {
            Next::Record { position, bytes } => found.push((position, bytes.to_vec())),
            Next::Empty => break,
            Next::Broken => panic!("seed {seed}, cut {cut}: broken"),
        }
    }
    let expected: Vec<(u64, Vec<u8>)> = run
        .commits
        .iter()
        .filter(|(made, position, _)| *made <= cut && *position >= tail)
        .map(|(_, position, record)| (*position, record.clone()))
        .collect();
    assert_eq!(found, expected, "seed {seed}, cut {cut}");
}

#[test]
fn every_cut_leaves_exactly_the_committed_records() {
    for seed in 0..60 {
        let run = run(seed, 60);
        assert!(run.tape.len() > 100, "seed {seed}: nothing happened");
        for cut in 0..=run.tape.len() {
            check(&run, cut, run.tape[..cut].iter().copied(), seed);
        }
    }
}

#[test]
fn the_order_of_stores_between_releases_does_not_matter() {
    let mut random = 1_u64;
    let mut coin = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random >> 63 == 1
    };
    for seed in 100..140 {
        let run = run(seed, 60);
        for cut in 0..=run.tape.len() {
            let made = &run.tape[..cut];
            let sure = made.iter().rposition(|store| store.releases()).map_or(0, |at| at + 1);
            for _attempt in 0..3 {
                // Later ordinary stores, too, may already be there, up to the next release.
                let early = run.tape[cut..].iter().take_while(|store| !store.releases());
                let loose = made[sure..].iter().chain(early).filter(|_| coin());
                check(&run, cut, made[..sure].iter().chain(loose).copied(), seed);
            }
        }
    }
}
