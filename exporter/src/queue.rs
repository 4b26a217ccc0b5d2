//! What waits for one destination: places in the journal, in order. Pure.
//!
//! A queue hands out *lots* (runs of places), takes them back as delivered, to be tried again or to
//! be split, and says up to where everything is settled. Lots are handed out oldest first; one that
//! has to be tried again goes before everything newer.

use std::collections::{BTreeMap, VecDeque};

/// Most lots of one destination that may be on their way at once.
pub const FLIGHTS_MAX: usize = 48;

/// Where one event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The segment, counted per destination over all generations.
    pub segment: u64,
    /// The offset of the entry's head.
    pub offset: u64,
    /// Bytes of the whole entry.
    pub len: u32,
    /// When it came, in milliseconds of the exporter's clock.
    pub came_ms: u64,
}

/// A run of events that leave together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lot {
    /// The number of the first event, counted since the queue was made.
    pub first: u64,
    /// How many.
    pub count: usize,
}

/// How a lot came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All of it is acknowledged.
    Delivered,
    /// To be tried again as it is.
    Again,
    /// Something in it is not acceptable: tried again in halves; alone, it is given up.
    Refused,
}

/// What a lot's end has settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// Events acknowledged.
    pub delivered: u64,
    /// Events given up.
    pub refused: u64,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    count: usize,
    flying: bool,
}

/// The queue of one destination.
#[derive(Debug, Default)]
pub struct Queue {
    places: VecDeque<Place>,
    /// The number of the first place.
    first: u64,
    /// The number of the next event that was never handed out.
    next: u64,
    /// Lots that were handed out and are not settled, by their first number.
    open: BTreeMap<u64, Open>,
    flying: usize,
    /// Lots that may fly at once: one more with each success, one after a failure.
    flights: usize,
    unsettled: usize,
    bytes: u64,
    settled_to: Option<(u64, u64)>,
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        Self { flights: 1, ..Self::default() }
    }

    /// Appends an event.
    pub fn push(&mut self, place: Place) {
        self.bytes += u64::from(place.len);
        self.unsettled += 1;
        self.places.push_back(place);
        self.check_invariants();
    }

    /// Events that are not settled.
    pub const fn len(&self) -> usize {
        self.unsettled
    }

    /// Whether everything is settled.
    pub const fn is_empty(&self) -> bool {
        self.unsettled == 0
    }

    /// Bytes of entries up to the first unsettled one.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Events that are not on their way.
    pub fn waiting(&self) -> usize {
        let fresh = self.first + self.places.len() as u64 - self.next;
        let again: usize = self.open.values().filter(|lot| !lot.flying).map(|lot| lot.count).sum();
        fresh as usize + again
    }

    /// When the oldest event that is not on its way came.
    pub fn oldest_waiting_ms(&self) -> Option<u64> {
        let again = self.open.iter().find(|(_, lot)| !lot.flying).map(|(first, _)| *first);
        let number = again.unwrap_or(self.next);
        self.place(number).map(|place| place.came_ms)
    }

    /// When the oldest event that is not settled came.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.places.front().map(|place| place.came_ms)
    }

    /// Lots on their way.
    pub const fn flying(&self) -> usize {
        self.flying
    }

    /// The next lot: at most `events_max` events and, unless it is a single one, `bytes_max` bytes.
    /// `None` if nothing waits or enough is on its way.
    pub fn take(&mut self, events_max: usize, bytes_max: usize) -> Option<Lot> {
        if self.flying >= self.flights {
            return None;
        }
        let again = self.open.iter_mut().find(|(_, lot)| !lot.flying);
        let lot = if let Some((first, lot)) = again {
            lot.flying = true;
            Lot { first: *first, count: lot.count }
        } else {
            let lot = Lot { first: self.next, count: self.fitting(events_max, bytes_max) };
            if lot.count == 0 {
                return None;
            }
            self.open.insert(lot.first, Open { count: lot.count, flying: true });
            self.next += lot.count as u64;
            lot
        };
        self.flying += 1;
        self.check_invariants();
        Some(lot)
    }

    fn fitting(&self, events_max: usize, bytes_max: usize) -> usize {
        let fresh = self.places.iter().skip((self.next - self.first) as usize).take(events_max);
        let mut bytes = 0;
        let fits = fresh.take_while(|place| {
            bytes += place.len as usize;
            bytes <= bytes_max
        });
        match fits.count() {
            0 if self.place(self.next).is_some() => 1,
            count => count,
        }
    }

    /// The places of a lot that is not settled.
    pub fn places(&self, lot: Lot) -> impl Iterator<Item = Place> + '_ {
        let from = lot.first.saturating_sub(self.first) as usize;
        self.places.range(from.min(self.places.len())..).take(lot.count).copied()
    }

    fn place(&self, number: u64) -> Option<&Place> {
        self.places.get(number.checked_sub(self.first)? as usize)
    }

    /// Takes a lot back. Unknown lots are ignored.
    pub fn finish(&mut self, lot: Lot, end: End) -> Settled {
        let mut settled = Settled::default();
        let Some(open) = self.open.get_mut(&lot.first).filter(|open| open.flying) else {
            return settled;
        };
        open.flying = false;
        self.flying -= 1;
        match end {
            End::Delivered => {
                settled.delivered = lot.count as u64;
                self.flights = (self.flights + 1).min(FLIGHTS_MAX);
                self.settle(lot);
            }
            End::Again => self.flights = 1,
            End::Refused if lot.count == 1 => {
                settled.refused = 1;
                self.settle(lot);
            }
            End::Refused => {
                let half = lot.count / 2;
                open.count = half;
                let rest = Open { count: lot.count - half, flying: false };
                self.open.insert(lot.first + half as u64, rest);
            }
        }
        self.check_invariants();
        settled
    }

    fn settle(&mut self, lot: Lot) {
        self.open.remove(&lot.first);
        self.unsettled -= lot.count;
        let front = self.open.keys().next().copied().unwrap_or(self.next);
        while self.first < front {
            let Some(place) = self.places.pop_front() else { break };
            self.first += 1;
            self.bytes -= u64::from(place.len);
            self.settled_to = Some((place.segment, place.offset + u64::from(place.len)));
        }
    }

    /// Segment and offset before which everything is settled; `None` before the first event is.
    pub const fn settled_to(&self) -> Option<(u64, u64)> {
        self.settled_to
    }

    /// The oldest segment that still has an unsettled event.
    pub fn first_segment(&self) -> Option<u64> {
        self.places.front().map(|place| place.segment)
    }

    fn check_invariants(&self) {
        debug_assert!(self.flying <= FLIGHTS_MAX);
        debug_assert!(self.next >= self.first && self.unsettled <= self.places.len());
        debug_assert_eq!(self.flying, self.open.values().filter(|lot| lot.flying).count());
        debug_assert_eq!(
            self.unsettled as u64,
            self.first + self.places.len() as u64 - self.next
                + self.open.values().map(|lot| lot.count as u64).sum::<u64>(),
            "every event is fresh, open or settled"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::next_random;
    use std::collections::HashMap;

    /// One seeded run against a model: events come, lots leave, come back in any order with any
    /// end. Every event must be settled exactly once, refused ones alone, and nothing before the
    /// settled place may be unsettled.
    fn run(seed: u64) {
        let mut random = seed;
        let mut next = move |below: u64| next_random(&mut random) % below;
        let (mut queue, mut pushed) = (Queue::new(), 0_u64);
        let mut flying: Vec<Lot> = Vec::new();
        let mut ends: HashMap<u64, End> = HashMap::new();
        let bad = |number: u64| number % 37 == 5;
        let mut checked = 0;
        for step in 0..3_000 {
            let draining = step >= 2_000;
            match next(4) {
                0 | 1 if !draining => {
                    let place = Place {
                        segment: pushed / 100,
                        offset: pushed % 100,
                        len: 1,
                        came_ms: pushed,
                    };
                    queue.push(place);
                    pushed += 1;
                }
                2 if !flying.is_empty() => {
                    let lot = flying.swap_remove(next(flying.len() as u64) as usize);
                    let numbers = lot.first..lot.first + lot.count as u64;
                    let end = match next(if draining { 2 } else { 3 }) {
                        _ if numbers.clone().any(bad) => End::Refused,
                        2 => End::Again,
                        _ => End::Delivered,
                    };
                    let settled = queue.finish(lot, end);
                    if settled.delivered + settled.refused > 0 {
                        for number in numbers {
                            assert_eq!(ends.insert(number, end), None, "{number}, seed {seed}");
                        }
                    }
                }
                _ => {
                    let lot = queue.take(1 + next(9) as usize, 1 + next(9) as usize);
                    flying.extend(lot);
                }
            }
            if let Some((segment, offset)) = queue.settled_to() {
                let to = segment * 100 + offset;
                assert!((checked..to).all(|number| ends.contains_key(&number)), "seed {seed}");
                checked = to;
            }
            assert_eq!(queue.len() as u64, pushed - ends.len() as u64);
        }
        while let Some(lot) = flying.pop().or_else(|| queue.take(5, 5)) {
            let refused = (lot.first..lot.first + lot.count as u64).any(bad);
            let end = if refused { End::Refused } else { End::Delivered };
            let settled = queue.finish(lot, end);
            if settled.delivered + settled.refused > 0 {
                (lot.first..lot.first + lot.count as u64).for_each(|number| {
                    assert_eq!(ends.insert(number, end), None, "{number}, seed {seed}");
                });
            }
        }
        assert!(queue.is_empty() && queue.bytes() == 0 && queue.first_segment().is_none());
        assert_eq!(ends.len() as u64, pushed, "seed {seed}");
        assert!(ends.iter().all(|(number, end)| bad(*number) == (*end == End::Refused)));
    }

    #[test]
    fn every_event_is_settled_exactly_once() {
        (0..64).for_each(run);
    }

    #[test]
    fn what_comes_back_goes_first() {
        let mut queue = Queue::new();
        (0..4).for_each(|n| queue.push(Place { segment: 0, offset: n, len: 1, came_ms: n }));
        let lot = queue.take(2, 10).unwrap();
        assert_eq!(lot, Lot { first: 0, count: 2 });
        assert_eq!(queue.take(2, 10), None, "one flight before the first success");
        queue.finish(lot, End::Again);
        assert_eq!(queue.take(50, 100), Some(lot), "as it was");
        queue.finish(lot, End::Refused);
        assert_eq!(queue.take(50, 100), Some(Lot { first: 0, count: 1 }));
        assert_eq!(queue.oldest_waiting_ms(), Some(1));
    }
}
