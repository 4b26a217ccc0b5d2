//! Journal, queue, batch and retry together, under any order of answers, faults and restarts: every
//! event leaves exactly once or is counted as dropped.
//!
//! A restart may repeat what was acknowledged behind something that was not; nothing else may.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: a panic is its fault report")]

use exporter::journal::done::DoneFile;
use exporter::journal::entry::{self, HEAD_BYTES, Head};
use exporter::journal::segment::{file_name, parse_name, scan};
use exporter::lane::{Found, Lane, Round, Shelf, Terms, done_name};
use exporter::queue::Lot;
use exporter::retry::next_random;
use exporter::senders::Job;
use exporter::sink::{Outcome, Sink, Target};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Sends nothing: the test itself is the destination.
struct Nobody;

impl Sink for Nobody {
    fn deliver(&self, _batch: Vec<u8>, _events: usize) -> Outcome {
        unreachable!("the test takes the batches")
    }
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Waits,
    Delivered,
    /// Delivered, and found again after a restart: it may come once more.
    Again,
    Refused,
    Dropped,
}

struct World {
    seed: u64,
    random: u64,
    now_ms: u64,
    prefix: tempfile::TempDir,
    generations: Vec<PathBuf>,
    lane: Lane,
    flying: Vec<(Lot, Vec<u64>)>,
    fates: Vec<Fate>,
    repeats: u64,
}

const QUEUE_EVENTS_MAX: usize = 5_000;
const BYTES_MAX: u64 = 1 << 20;

fn new_lane() -> Lane {
    let target = Target::moesif("application", "http://collector");
    let terms = Terms { batch_events: 50, budget_ms: 750, queue_events_max: QUEUE_EVENTS_MAX };
    Lane::new(target, terms, Arc::new(Nobody))
}

/// Events that the destination never takes.
const fn is_bad(number: u64) -> bool {
    number % 997 == 5
}

impl World {
    fn new(seed: u64) -> Self {
        let prefix = tempfile::tempdir().unwrap();
        let mut world = Self {
            seed,
            random: seed,
            now_ms: 0,
            prefix,
            generations: Vec::new(),
            lane: new_lane(),
            flying: Vec::new(),
            fates: Vec::new(),
            repeats: 0,
        };
        world.begin();
        world
    }

    fn dice(&mut self, below: u64) -> u64 {
        next_random(&mut self.random) % below
    }

    fn begin(&mut self) {
        let folder = self.prefix.path().join(self.generations.len().to_string());
        fs::create_dir(&folder).unwrap();
        self.generations.push(folder);
    }

    /// Events come, and are written down.
    fn come(&mut self, events: u64) {
        for _ in 0..events {
            let number = self.fates.len() as u64;
            if self.lane.is_full() {
                self.fates.push(Fate::Dropped);
                continue;
            }
            let head = Head {
                len: 0,
                position: number,
                at_us: 0,
                transaction_id: u128::from(number).to_be_bytes(),
                core: 0,
                part: 0,
            };
            let padding = self.dice(200) as usize;
            self.lane.stage(&head, self.now_ms, |out| out.resize(out.len() + padding, b'x'));
            self.fates.push(Fate::Waits);
        }
        let own = self.generations.len() - 1;
        self.lane.flush(own, &self.generations[own]).unwrap();
        self.lane.rotate();
    }

    /// Batches leave, as far as queue, budget and waits let them.
    fn leave(&mut self, round: Round) {
        while let Some(job) = self.lane.next_job(0, self.now_ms, round, BYTES_MAX) {
            let numbers = numbers(&job);
            assert_eq!(numbers.len(), job.lot.count, "seed {}", self.seed);
            assert!(numbers.len() <= 50, "batch_size");
            for number in &numbers {
                let fate = self.fates[*number as usize];
                assert!(
                    matches!(fate, Fate::Waits | Fate::Again),
                    "event {number} is sent though it is {fate:?}, seed {}",
                    self.seed
                );
            }
            self.flying.push((job.lot, numbers));
        }
        self.lane.looked(self.now_ms);
    }

    /// One batch comes back.
    fn come_back(&mut self, calm: bool) {
        if self.flying.is_empty() {
            return;
        }
        let which = self.dice(self.flying.len() as u64) as usize;
        let (lot, numbers) = self.flying.swap_remove(which);
        let bad = numbers.iter().any(|number| is_bad(*number));
        let why = "as the dice fell".to_owned();
        let outcome = match self.dice(if calm { 94 } else { 100 }) {
            99 => Outcome::Paused { why },
            94.. => Outcome::Later { why, retry_after_ms: (which == 0).then_some(5_000) },
            _ if bad => Outcome::Refused { why },
            _ => Outcome::Delivered,
        };
        let fate = match outcome {
            Outcome::Delivered => Some(Fate::Delivered),
            Outcome::Refused { .. } if numbers.len() == 1 => Some(Fate::Refused),
            _ => None,
        };
        let random = next_random(&mut self.random);
        let settled = self.lane.finish(lot, outcome, self.now_ms, random);
        let expected = fate.map_or(0, |_| numbers.len() as u64);
        assert_eq!(settled.delivered + settled.refused, expected, "seed {}", self.seed);
        for number in fate.iter().flat_map(|_| &numbers) {
            let before = &mut self.fates[*number as usize];
            self.repeats += u64::from(*before == Fate::Again);
            *before = fate.unwrap();
        }
        let generations = &self.generations;
        let shelf = |generation: usize| {
            Some(Shelf { journal: generations.get(generation)?, removable: true })
        };
        self.lane.persist(shelf).unwrap();
    }

    /// The process dies and another one finds what it left.
    fn restart(&mut self) {
        self.lane = new_lane();
        self.flying.clear();
        let hash = self.lane.target.lane();
        let mut waits = vec![false; self.fates.len()];
        for (generation, folder) in self.generations.iter().enumerate() {
            let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            let numbers = names.filter_map(|name| parse_name(name.to_str().unwrap()));
            let mut numbers: Vec<u32> = numbers.map(|(_, number)| number).collect();
            numbers.sort_unstable();
            let (_, done) = DoneFile::open(&folder.join(done_name(hash))).unwrap();
            for number in numbers {
                let path = folder.join(file_name(hash, number));
                let found = scan(&path).unwrap().unwrap();
                let open = |offset: u64| {
                    done.is_none_or(|done| (number, offset) >= (done.segment, done.offset))
                };
                let entries: Vec<_> =
                    found.entries.iter().filter(|(offset, _)| open(*offset)).collect();
                for (_, head) in &entries {
                    waits[u128::from_be_bytes(head.transaction_id) as usize] = true;
                }
                let len = |head: &Head| HEAD_BYTES as u32 + head.len;
                let entries = entries.iter().map(|(offset, head)| (*offset, len(head))).collect();
                let (file, bytes) = (found.file, found.end);
                self.lane
                    .adopt(Found { generation, number, file, path, bytes, entries }, self.now_ms);
            }
        }
        for (number, (fate, waits)) in self.fates.iter_mut().zip(waits).enumerate() {
            match (*fate, waits) {
                (Fate::Waits, false) => panic!("event {number} is lost, seed {}", self.seed),
                (Fate::Delivered | Fate::Refused | Fate::Again, true) => *fate = Fate::Again,
                (Fate::Again, false) => panic!("event {number} is lost, seed {}", self.seed),
                _ => {}
            }
        }
        self.begin();
    }

    /// Lets everything leave, and counts.
    fn end(mut self) {
        let mut turns = 0;
        while !self.lane.is_empty() {
            self.now_ms += 5_000;
            self.leave(Round::Last);
            while !self.flying.is_empty() {
                self.come_back(true);
            }
            turns += 1;
            assert!(turns < 1_000_000, "it does not end, seed {}", self.seed);
        }
        let mut delivered = 0;
        for (number, fate) in self.fates.iter().enumerate() {
            let expected = if is_bad(number as u64) { Fate::Refused } else { Fate::Delivered };
            delivered += u64::from(*fate == Fate::Delivered);
            assert!(
                *fate == expected || *fate == Fate::Dropped,
                "event {number} is {fate:?}, seed {}",
                self.seed
            );
        }
        // A life in which nearly all is dropped would prove little.
        assert!(
            delivered * 2 > self.fates.len() as u64,
            "{delivered} delivered, seed {}",
            self.seed
        );
        let own = &self.lane.counts;
        assert_eq!(self.lane.len(), 0);
        assert!(own.received >= self.lane.health.delivered + own.dropped.total());
    }
}

/// The numbers of a batch's events, read as the senders read them.
fn numbers(job: &Job) -> Vec<u64> {
    let mut found = Vec::new();
    for run in &job.runs {
        let mut bytes = vec![0; run.lens.iter().map(|len| *len as usize).sum()];
        run.file.read_exact_at(&mut bytes, run.offset).unwrap();
        let mut rest = bytes.as_slice();
        while let Some(head) = entry::read(rest) {
            found.push(u128::from_be_bytes(head.transaction_id) as u64);
            rest = &rest[HEAD_BYTES + head.len as usize..];
        }
        assert!(rest.is_empty());
    }
    found
}

/// One seeded life with so many events.
fn live(seed: u64, events: u64) {
    let mut world = World::new(seed);
    while (world.fates.len() as u64) < events {
        // Mostly a look later; now and then time enough for every wait.
        world.now_ms += if world.dice(8) == 0 { 40_000 } else { 10 };
        let many = match world.dice(20) {
            0 => 2_000,
            1..=9 => 40,
            _ => 5,
        };
        let coming = world.dice(many);
        world.come(coming);
        world.leave(Round::Usual);
        for _ in 0..world.dice(9) {
            world.come_back(false);
        }
        if world.dice(150) == 0 {
            world.restart();
        }
    }
    world.end();
}

/// A seed of its own for each run; a fault names it.
fn seed() -> u64 {
    let named = std::env::var("TOLLGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    named.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 1)
}

#[test]
fn every_event_leaves_once_or_is_counted() {
    let seed = seed();
    println!("TOLLGATE_SEED={seed}");
    (0..4).for_each(|part| live(seed.wrapping_add(part), 25_000));
}

/// Minutes: `make deep`.
#[test]
#[ignore = "ten million events"]
fn ten_million_events_leave_once_or_are_counted() {
    let seed = seed();
    println!("TOLLGATE_SEED={seed}");
    (0..40).for_each(|part| live(seed.wrapping_add(part), 250_000));
}
