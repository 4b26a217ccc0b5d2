//! What waits for one destination of log entries. Pure: the clock is an argument.
//!
//! Entries wait in memory, in order; at the bound the oldest give way. Batches leave when they are
//! full or their first entry has waited long enough, come back with what was settled, and are tried
//! again with growing waits until `retry_time_ms` is over.
//!
//! Source: Kong `kong/tools/queue.lua` (`queue.*` parameters), recorded exchanges.

use std::collections::VecDeque;
use std::sync::Arc;

/// Most bytes of one batch, unless a single entry is larger.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Most bytes that wait for one destination, whatever `max_bytes` says.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Most batches of one destination on their way at once, where `concurrency_limit` sets no bound.
pub const FLIGHTS_MAX: usize = 8;

/// The terms of a queue: Kong's `queue.*` in our units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// `max_batch_size`.
    pub batch_entries_max: usize,
    /// `max_coalescing_delay`; an entry waits so long for company where batches hold several.
    pub linger_ms: u64,
    /// `max_entries`.
    pub entries_max: usize,
    /// `max_bytes`.
    pub bytes_max: usize,
    /// `initial_retry_delay`.
    pub retry_ms_first: u64,
    /// `max_retry_delay`.
    pub retry_ms_max: u64,
    /// `max_retry_time`.
    pub retry_time_ms: u64,
    /// `concurrency_limit`; [`FLIGHTS_MAX`] for -1.
    pub flights_max: usize,
}

impl Terms {
    /// The terms of plugins that have no `queue` in their configuration: at once, many together
    /// when many are there, tried again for a minute.
    pub const PROMPT: Self = Self {
        batch_entries_max: 512,
        linger_ms: 0,
        entries_max: 10_000,
        bytes_max: QUEUE_BYTES_MAX,
        retry_ms_first: 100,
        retry_ms_max: 5_000,
        retry_time_ms: 60_000,
        flights_max: 1,
    };
}

/// The entries of one batch.
pub type Batch = Arc<Vec<Vec<u8>>>;

/// How a batch came back: from its beginning so many entries are settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Entries that were taken.
    pub delivered: usize,
    /// Entries behind those that can never be taken (too large for a datagram).
    pub refused: usize,
    /// What happened to the rest, if there is one.
    pub fault: Option<String>,
}

/// What the end of a batch has settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// Entries that were taken.
    pub delivered: u64,
    /// Entries that can never be taken.
    pub refused: u64,
    /// Entries given up because `retry_time_ms` is over.
    pub expired: u64,
}

struct Flight {
    number: u64,
    batch: Batch,
    first_ms: u64,
    tries: u32,
    /// It rests until then; none: it is on its way.
    resting_until_ms: Option<u64>,
}

/// The queue of one destination.
pub struct Queue {
    terms: Terms,
    waiting: VecDeque<(Vec<u8>, u64)>,
    waiting_bytes: usize,
    flying_bytes: usize,
    flights: Vec<Flight>,
    next: u64,
    failures: u32,
}

impl Queue {
    /// An empty queue.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            flying_bytes: 0,
            flights: Vec::new(),
            next: 0,
            failures: 0,
        }
    }

    /// Appends an entry. Gives the number of older ones that had to go.
    pub fn push(&mut self, entry: Vec<u8>, now_ms: u64) -> u64 {
        self.waiting_bytes += entry.len();
        self.waiting.push_back((entry, now_ms));
        let bytes_max = self.terms.bytes_max.min(QUEUE_BYTES_MAX);
        let mut gone = 0;
        while self.waiting.len() > self.terms.entries_max || self.waiting_bytes > bytes_max {
            let Some((oldest, _)) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= oldest.len();
            gone += 1;
        }
        gone
    }

    /// Entries that are not settled.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.flights.iter().map(|flight| flight.batch.len()).sum::<usize>()
    }

    /// Whether all is settled.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty()
    }

    /// Bytes that are not settled.
    pub const fn bytes(&self) -> usize {
        self.waiting_bytes + self.flying_bytes
    }

    /// Failures since the last success.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// The next batch that may leave now, with its number. While there is trouble one tries alone.
    /// `hurry` ends all waiting for company.
    pub fn next(&mut self, now_ms: u64, hurry: bool) -> Option<(u64, Batch)> {
        let due = |flight: &&mut Flight| flight.resting_until_ms.is_some_and(|at| at <= now_ms);
        if let Some(flight) = self.flights.iter_mut().find(due) {
            flight.resting_until_ms = None;
            return Some((flight.number, Arc::clone(&flight.batch)));
        }
        let flights_max = if self.failures > 0 { 1 } else { self.terms.flights_max };
        let (_, came_ms) = self.waiting.front()?;
        let full = self.waiting.len() >= self.terms.batch_entries_max;
        let waited = now_ms.saturating_sub(*came_ms) >= self.terms.linger_ms;
        if self.flights.len() >= flights_max || !(full || waited || hurry) {
            return None;
        }
        let batch = Arc::new(self.take_batch());
        let number = self.next;
        self.next += 1;
        self.flights.push(Flight {
            number,
            batch: Arc::clone(&batch),
            first_ms: now_ms,
            tries: 0,
            resting_until_ms: None,
        });
        Some((number, batch))
    }

    fn take_batch(&mut self) -> Vec<Vec<u8>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < self.terms.batch_entries_max
            && let Some((entry, _)) = self.waiting.front()
            && (batch.is_empty() || bytes + entry.len() <= BATCH_BYTES_MAX)
        {
            bytes += entry.len();
            self.waiting_bytes -= entry.len();
            self.flying_bytes += entry.len();
            batch.extend(self.waiting.pop_front().map(|(entry, _)| entry));
        }
        batch
    }

    /// Takes a batch back. Unknown numbers are ignored.
    pub fn finish(&mut self, number: u64, delivery: &Delivery, now_ms: u64) -> Settled {
        let Some(place) = self.flights.iter().position(|flight| flight.number == number) else {
            return Settled::default();
        };
        let Some(flight) = self.flights.get_mut(place) else { return Settled::default() };
        let delivered = delivery.delivered.min(flight.batch.len());
        let refused = delivery.refused.min(flight.batch.len() - delivered);
        let mut settled =
            Settled { delivered: delivered as u64, refused: refused as u64, expired: 0 };
        let (gone, rest) =
            flight.batch.split_at_checked(delivered + refused).unwrap_or((&flight.batch, &[]));
        self.flying_bytes -= gone.iter().map(Vec::len).sum::<usize>();
        if rest.is_empty() {
            self.flights.remove(place);
            self.failures = 0;
            return settled;
        }
        if settled.delivered + settled.refused > 0 {
            flight.batch = Arc::new(rest.to_vec());
        }
        self.failures = self.failures.saturating_add(1);
        if now_ms.saturating_sub(flight.first_ms) > self.terms.retry_time_ms {
            settled.expired = flight.batch.len() as u64;
            self.flying_bytes -= flight.batch.iter().map(Vec::len).sum::<usize>();
            self.flights.remove(place);
            return settled;
        }
        let wait_ms = self.terms.retry_ms_first.saturating_mul(1 << flight.tries.min(30));
        flight.resting_until_ms = Some(now_ms + wait_ms.min(self.terms.retry_ms_max));
        flight.tries += 1;
        settled
    }

    /// Forgets everything; gives the number of entries.
    pub fn abandon(&mut self) -> u64 {
        let entries = self.len() as u64;
        self.waiting.clear();
        self.flights.clear();
        (self.waiting_bytes, self.flying_bytes) = (0, 0);
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::next_random;

    const KONG: Terms = Terms {
        batch_entries_max: 1,
        linger_ms: 1_000,
        retry_ms_first: 100,
        retry_ms_max: 200,
        retry_time_ms: 700,
        ..Terms::PROMPT
    };

    fn delivered(count: usize) -> Delivery {
        Delivery { delivered: count, ..Delivery::default() }
    }

    fn failed() -> Delivery {
        Delivery { fault: Some("down".into()), ..Delivery::default() }
    }

    #[test]
    fn a_batch_of_one_leaves_at_once_and_several_wait_for_company() {
        let mut queue = Queue::new(KONG);
        queue.push(vec![1], 0);
        assert_eq!(queue.next(0, false).unwrap().1.len(), 1);
        let mut queue = Queue::new(Terms { batch_entries_max: 3, ..KONG });
        (0..2).for_each(|n| assert_eq!(queue.push(vec![n], 0), 0));
        assert!(queue.next(999, false).is_none());
        assert_eq!(queue.next(1_000, false).unwrap().1.len(), 2);
        (0..4).for_each(|n| assert_eq!(queue.push(vec![n], 1_000), 0));
        assert!(queue.next(1_001, false).is_none(), "one flight");
        assert_eq!(queue.finish(0, &delivered(2), 1_001).delivered, 2);
        assert_eq!(queue.next(1_001, false).unwrap().1.len(), 3, "it is full");
        assert_eq!(queue.finish(1, &delivered(3), 1_001).delivered, 3);
        assert!(queue.next(1_001, false).is_none());
        assert_eq!(queue.next(1_001, true).unwrap().1.len(), 1, "in a hurry");
    }

    #[test]
    fn the_oldest_give_way() {
        let mut queue = Queue::new(Terms { entries_max: 3, ..KONG });
        queue.push(vec![0], 0);
        let (number, _) = queue.next(0, false).unwrap();
        let gone: u64 = (1..7).map(|n| queue.push(vec![n], 0)).sum();
        assert_eq!((gone, queue.len()), (3, 4), "one flies and three wait");
        queue.finish(number, &delivered(1), 1);
        assert_eq!(*queue.next(1, false).unwrap().1, [vec![4]]);
        let mut queue = Queue::new(Terms { bytes_max: 10, ..KONG });
        assert_eq!(queue.push(vec![0; 6], 0) + queue.push(vec![1; 6], 0), 1);
        assert_eq!((queue.len(), queue.bytes()), (1, 6));
    }

    #[test]
    fn a_failing_batch_is_tried_as_kong_does_and_then_given_up() {
        let mut queue = Queue::new(KONG);
        queue.push(vec![0], 0);
        queue.push(vec![1], 0);
        let mut tries = Vec::new();
        for now_ms in 0..2_000 {
            let Some((number, batch)) = queue.next(now_ms, false) else { continue };
            if *batch == [vec![1]] {
                break;
            }
            tries.push(now_ms);
            let settled = queue.finish(number, &failed(), now_ms + 1);
            assert_eq!(settled.expired, u64::from(tries.len() == 5), "{tries:?}");
        }
        assert_eq!(tries, [0, 101, 302, 503, 704]);
        assert_eq!(queue.failures(), 5);
    }

    #[test]
    fn what_was_taken_is_not_sent_again() {
        let mut queue = Queue::new(Terms { batch_entries_max: 4, linger_ms: 0, ..KONG });
        (0..4).for_each(|n| assert_eq!(queue.push(vec![n], 0), 0));
        let (number, _) = queue.next(0, false).unwrap();
        let partly = Delivery { delivered: 1, refused: 1, fault: Some("broke".into()) };
        let settled = queue.finish(number, &partly, 1);
        assert_eq!((settled.delivered, settled.refused, settled.expired), (1, 1, 0));
        let (again, batch) = queue.next(200, false).unwrap();
        assert_eq!((again, &*batch), (number, &vec![vec![2], vec![3]]));
        assert_eq!(queue.abandon(), 2);
        assert_eq!(queue.finish(number, &delivered(2), 3), Settled::default(), "too late");
    }

    /// Whatever happens, every entry is delivered, refused, expired, pushed out, or still there.
    fn run(seed: u64) {
        let mut random = seed;
        let mut below = move |n: u64| next_random(&mut random) % n;
        let terms = Terms {
            batch_entries_max: 1 + below(5) as usize,
            linger_ms: below(50),
            entries_max: 1 + below(20) as usize,
            flights_max: 1 + below(3) as usize,
            retry_time_ms: below(500),
            ..KONG
        };
        let mut queue = Queue::new(terms);
        let mut flying: Vec<(u64, usize)> = Vec::new();
        let (mut pushed, mut settled) = (0, 0);
        for now_ms in 0..2_000 {
            match below(3) {
                0 => {
                    pushed += 1;
                    settled += queue.push(vec![0; below(9) as usize], now_ms);
                }
                1 => flying.extend(queue.next(now_ms, false).map(|(n, batch)| (n, batch.len()))),
                _ if flying.is_empty() => {}
                _ => {
                    let (number, len) = flying.swap_remove(below(flying.len() as u64) as usize);
                    let delivered = below(len as u64 + 1) as usize;
                    let refused = below((len - delivered) as u64 + 1) as usize;
                    let delivery = Delivery { delivered, refused, fault: Some("x".into()) };
                    let end = queue.finish(number, &delivery, now_ms);
                    settled += end.delivered + end.refused + end.expired;
                }
            }
            assert_eq!(pushed, settled + queue.len() as u64, "seed {seed}");
            let waiting = queue.waiting.iter().map(|(entry, _)| entry.len()).sum::<usize>();
            let flying = queue.flights.iter().flat_map(|f| f.batch.iter()).map(Vec::len);
            assert_eq!(queue.bytes(), waiting + flying.sum::<usize>(), "seed {seed}");
        }
    }

    #[test]
    fn every_entry_is_accounted_for() {
        (0..64).for_each(run);
    }
}
