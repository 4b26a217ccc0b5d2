//! The tally: counts that are exact for the whole node, the only memory that two cores may write.
//!
//! A fixed table with open addressing. A slot is a keyed fingerprint of 128 bits and two words,
//! each a window's number and its count: the newest window and the one before, because the cores'
//! clocks differ by a turn of their loops. One compare-and-swap decides whether a count may rise,
//! so no more than the limit is ever admitted; a core that is late never resets a newer window.
//!
//! Several counts are reserved together or not at all: what was reserved before a refusal is
//! undone. Meanwhile another core may be refused too early; none is admitted too much.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

/// Slots that are looked at for one fingerprint, from its own on. The table is made for twice the
/// counters that are expected, so that more neighbours than this in use mean a full table.
const PROBES_MAX: usize = 64;
/// A window is expired only so long after its end, in seconds: no core is that late.
const GRACE_S: u64 = 5;
/// The fingerprint of a slot that is just changing hands.
const CHANGING: u64 = 1;
/// How often a reservation begins anew because its slot changed hands under it.
const RETRIES_MAX: usize = 8;

/// One count that is to rise.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// What is counted: `Tally::fingerprint`.
    pub key: u128,
    /// The number of the window; below 2³². Numbers of one key rise with time.
    pub window: u64,
    /// The end of the window in seconds since the Unix epoch; from then on the slot may be reused.
    pub ends_s: u64,
    /// What the count may not pass; at most 2³²-1.
    pub limit: u64,
}

/// What came of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether every count has risen; else none has.
    pub admitted: bool,
    /// Each count before, in the order of the slots.
    pub before: SmallVec<[u64; 6]>,
    /// Whether there was no room for one of the counts; then none has risen.
    pub full: bool,
}

/// The table.
pub struct Tally {
    cells: Box<[Cell]>,
    keys: (RandomState, RandomState),
    full: AtomicU64,
}

/// A slot in memory, on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Cell {
    high: AtomicU64,
    low: AtomicU64,
    newest: AtomicU64,
    before: AtomicU64,
    ends_s: AtomicU64,
}

impl Tally {
    /// A table with at least `slots` slots, rounded up to a power of two; 64 bytes each.
    pub fn new(slots: usize) -> Self {
        let slots = slots.max(PROBES_MAX).next_power_of_two();
        Self {
            cells: (0..slots).map(|_| Cell::default()).collect(),
            keys: (RandomState::new(), RandomState::new()),
            full: AtomicU64::new(0),
        }
    }

    /// The fingerprint of something, made of parts. Keyed anew in every process, so that nobody
    /// outside can make two things meet in one slot.
    pub fn fingerprint(&self, parts: &[&[u8]]) -> u128 {
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            for part in parts {
                hasher.write_usize(part.len());
                hasher.write(part);
            }
            hasher.finish()
        };
        (u128::from(hash(&self.keys.0)) << 64) | u128::from(hash(&self.keys.1))
    }

    /// The fingerprint of something under another fingerprint: as good as one of all parts
    /// together, where the first parts of many are the same and have been looked at once.
    pub fn fingerprint_under(&self, first: u128, part: &[u8]) -> u128 {
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write_u128(first);
            hasher.write(part);
            hasher.finish()
        };
        (u128::from(hash(&self.keys.0)) << 64) | u128::from(hash(&self.keys.1))
    }

    /// Raises every count by `amount`, or none if one of them would pass its limit.
    pub fn reserve(&self, slots: &[Slot], amount: u64, now_s: u64) -> Outcome {
        let mut outcome = Outcome { admitted: true, before: SmallVec::new(), full: false };
        for (at, slot) in slots.iter().enumerate() {
            match self.raise(slot, amount, now_s) {
                Raised::Yes(before) => outcome.before.push(before),
                Raised::No(before) => {
                    outcome.admitted = false;
                    outcome.before.push(before);
                    let rest = slots.get(at + 1..).unwrap_or_default();
                    outcome.before.extend(rest.iter().map(|slot| self.count(slot)));
                }
                Raised::Full => {
                    self.full.fetch_add(1, Ordering::Relaxed);
                    (outcome.admitted, outcome.full) = (false, true);
                }
            }
            if !outcome.admitted {
                slots.iter().take(at).for_each(|slot| self.lower(slot, amount));
                break;
            }
        }
        outcome
    }

    /// A count now; 0 if there is none.
    pub fn count(&self, slot: &Slot) -> u64 {
        let Some(cell) = self.find(slot.key) else { return 0 };
        [&cell.newest, &cell.before]
            .iter()
            .map(|word| unpack(word.load(Ordering::Acquire)))
            .find_map(|(window, count)| (window == slot.window).then_some(count))
            .unwrap_or(0)
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> usize {
        self.cells.len() * size_of::<Cell>()
    }

    /// How many reservations found no room.
    pub fn full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    fn raise(&self, slot: &Slot, amount: u64, now_s: u64) -> Raised {
        for _ in 0..RETRIES_MAX {
            let Some(cell) = self.find(slot.key).or_else(|| self.claim(slot.key, now_s)) else {
                return Raised::Full;
            };
            cell.ends_s.fetch_max(slot.ends_s, Ordering::AcqRel);
            let raised = cell.raise(slot, amount);
            if cell.holds(slot.key) {
                return raised;
            }
            // The slot was taken for another key between finding and raising it: take it back.
            if let Raised::Yes(_) = raised {
                cell.lower(slot.window, amount);
            }
        }
        Raised::Full
    }

    fn lower(&self, slot: &Slot, amount: u64) {
        if let Some(cell) = self.find(slot.key) {
            cell.lower(slot.window, amount);
        }
    }

    fn probes(&self, key: u128) -> impl Iterator<Item = &Cell> {
        let mask = self.cells.len() - 1;
        let first = key as usize;
        (0..PROBES_MAX).filter_map(move |step| self.cells.get(first.wrapping_add(step) & mask))
    }

    /// The slot of a key. Slots never become empty again, so the search ends at an empty one.
    fn find(&self, key: u128) -> Option<&Cell> {
        let (high, _) = words(key);
        self.probes(key)
            .take_while(|cell| cell.high.load(Ordering::Acquire) != 0)
            .find(|cell| cell.high.load(Ordering::Acquire) == high && cell.holds(key))
    }

    /// Takes an empty slot for a key, else one whose window has ended.
    fn claim(&self, key: u128, now_s: u64) -> Option<&Cell> {
        let (high, low) = words(key);
        for cell in self.probes(key) {
            let took = cell.high.compare_exchange(0, high, Ordering::AcqRel, Ordering::Acquire);
            let holder = took.err().unwrap_or(high);
            // Who took it may not have written the other half yet: whoever has the same first half
            // has the same key, but for one chance in 2⁶⁴, and then the second half tells.
            if holder == high {
                let other = cell.low.compare_exchange(0, low, Ordering::AcqRel, Ordering::Acquire);
                if other.is_ok() || other == Err(low) {
                    cell.ends_s.fetch_max(now_s, Ordering::AcqRel);
                    return Some(cell);
                }
            }
        }
        self.probes(key).find(|cell| cell.take_over(high, low, now_s))
    }
}

enum Raised {
    Yes(u64),
    No(u64),
    Full,
}

impl Cell {
    fn holds(&self, key: u128) -> bool {
        let (high, low) = words(key);
        self.high.load(Ordering::Acquire) == high && self.low.load(Ordering::Acquire) == low
    }

    fn raise(&self, slot: &Slot, amount: u64) -> Raised {
        let mut seen = self.newest.load(Ordering::Acquire);
        loop {
            let (window, count) = unpack(seen);
            if window > slot.window {
                return self.raise_late(slot, amount, window);
            }
            let before = if window == slot.window { count } else { 0 };
            let Some(next) = risen(before, amount, slot.limit) else { return Raised::No(before) };
            if window < slot.window {
                // Kept before it is replaced: a late core that finds the newer window must find
                // all that was counted in its own. Too much at worst, if a reservation is undone
                // meanwhile.
                self.before.fetch_max(seen, Ordering::AcqRel);
            }
            let next = pack(slot.window, next);
            match self.newest.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Raised::Yes(before),
                Err(other) => seen = other,
            }
        }
    }

    /// Counts in the window before the newest; one that is older still counts in the newest, which
    /// may refuse too early.
    fn raise_late(&self, slot: &Slot, amount: u64, newest: u64) -> Raised {
        let mut seen = self.before.load(Ordering::Acquire);
        loop {
            let (window, count) = unpack(seen);
            if window > slot.window {
                return self.raise(&Slot { window: newest, ..*slot }, amount);
            }
            let before = if window == slot.window { count } else { 0 };
            let Some(next) = risen(before, amount, slot.limit) else { return Raised::No(before) };
            let next = pack(slot.window, next);
            match self.before.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Raised::Yes(before),
                Err(other) => seen = other,
            }
        }
    }

    fn lower(&self, window: u64, amount: u64) {
        for word in [&self.newest, &self.before] {
            let lowered = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |seen| {
                let (at, count) = unpack(seen);
                (at == window).then(|| pack(at, count.saturating_sub(amount)))
            });
            if lowered.is_ok() {
                return;
            }
        }
    }

    /// Changes hands if the window has ended.
    fn take_over(&self, high: u64, low: u64, now_s: u64) -> bool {
        let holder = self.high.load(Ordering::Acquire);
        let ended = self.ends_s.load(Ordering::Acquire) + GRACE_S < now_s;
        if !ended || holder == CHANGING {
            return false;
        }
        let taken =
            self.high.compare_exchange(holder, CHANGING, Ordering::AcqRel, Ordering::Acquire);
        if taken.is_err() {
            return false;
        }
        self.newest.store(0, Ordering::Release);
        self.before.store(0, Ordering::Release);
        // Not 0: it would look ended to the next that wants it, before its window is known.
        self.ends_s.store(now_s, Ordering::Release);
        self.low.store(low, Ordering::Release);
        self.high.store(high, Ordering::Release);
        true
    }
}

/// A count after it has risen; none if that passes the limit.
fn risen(count: u64, amount: u64, limit: u64) -> Option<u64> {
    count.checked_add(amount).filter(|next| *next <= limit.min(u64::from(u32::MAX)))
}

const fn pack(window: u64, count: u64) -> u64 {
    (window << 32) | (count & 0xffff_ffff)
}

const fn unpack(word: u64) -> (u64, u64) {
    (word >> 32, word & 0xffff_ffff)
}

/// Both halves of a fingerprint, neither of them a mark.
const fn words(key: u128) -> (u64, u64) {
    let (high, low) = ((key >> 64) as u64, key as u64);
    (if high <= CHANGING { high + 2 } else { high }, if low == 0 { 1 } else { low })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    fn slot(tally: &Tally, name: &str, window: u64, limit: u64) -> Slot {
        let key = tally.fingerprint(&[name.as_bytes()]);
        Slot { key, window, ends_s: window + 1, limit }
    }

    #[test]
    fn exactly_the_limit_is_admitted_by_many_threads() {
        const THREADS: usize = 4;
        let tally = Tally::new(1_024);
        for round in 0..200 {
            let (few, many) = (slot(&tally, "few", round, 50), slot(&tally, "many", round, 1_000));
            let barrier = Barrier::new(THREADS);
            let admitted: usize = thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            let ask = || tally.reserve(&[many, few], 1, round).admitted;
                            (0..100).filter(|_| ask()).count()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(admitted, 50, "round {round}");
            assert_eq!(tally.count(&many), 50, "round {round}: refused reservations are undone");
        }
    }

    #[test]
    fn a_late_core_counts_in_its_own_window_and_never_resets_a_newer_one() {
        let tally = Tally::new(64);
        let at = |window, limit| slot(&tally, "k", window, limit);
        assert!(tally.reserve(&[at(10, 2)], 1, 10).admitted);
        assert!(tally.reserve(&[at(11, 2)], 1, 11).admitted);
        assert!(tally.reserve(&[at(10, 2)], 1, 10).admitted, "one is left in the old window");
        assert!(!tally.reserve(&[at(10, 2)], 1, 10).admitted);
        assert_eq!((tally.count(&at(10, 2)), tally.count(&at(11, 2))), (2, 1));
        assert!(tally.reserve(&[at(5, 2)], 1, 5).admitted, "much too late: counts as newest");
        assert_eq!(tally.count(&at(11, 2)), 2);
    }

    /// Threads whose clocks differ by up to one window ask at once: no window admits more than its
    /// limit, whatever the order.
    #[test]
    fn no_window_admits_too_much_while_windows_change() {
        const THREADS: usize = 4;
        let tally = Tally::new(64);
        let barrier = Barrier::new(THREADS);
        let admitted: Vec<Vec<u64>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS as u64)
                .map(|late| {
                    let (tally, barrier) = (&tally, &barrier);
                    scope.spawn(move || {
                        let mut admitted = vec![0; 2_010];
                        barrier.wait();
                        for step in 0..40_000_u64 {
                            let window = 1 + (step + 9 * (late % 2)) / 20;
                            let slot = slot(tally, "k", window, 7);
                            if tally.reserve(&[slot], 1, window).admitted {
                                admitted[window as usize] += 1;
                            }
                            if step % 10 == 9 {
                                barrier.wait();
                            }
                        }
                        admitted
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for window in 1..=2_000 {
            let all: u64 = admitted.iter().map(|of_thread| of_thread[window]).sum();
            assert!(all <= 7, "window {window} admitted {all}");
        }
    }

    #[test]
    fn every_count_is_told_also_after_a_refusal() {
        let tally = Tally::new(64);
        let slots = [slot(&tally, "a", 1, 9), slot(&tally, "b", 1, 2), slot(&tally, "c", 1, 9)];
        let told = || tally.reserve(&slots, 1, 1);
        assert_eq!((told().before.to_vec(), told().before.to_vec()), (vec![0; 3], vec![1; 3]));
        let refused = told();
        assert_eq!((refused.admitted, refused.before.to_vec()), (false, vec![2; 3]));
    }

    #[test]
    fn a_full_table_reuses_what_has_ended_and_else_says_so() {
        let tally = Tally::new(PROBES_MAX);
        let fill = |window: u64| {
            (0..PROBES_MAX)
                .filter(|n| {
                    let slot = slot(&tally, &format!("{window}-{n}"), window, 1);
                    tally.reserve(&[slot], 1, window).admitted
                })
                .count()
        };
        assert_eq!(fill(100), PROBES_MAX);
        let one_more = tally.reserve(&[slot(&tally, "more", 100, 1)], 1, 100);
        assert_eq!((one_more.admitted, one_more.full, tally.full()), (false, true, 1));
        assert_eq!(fill(1_000), PROBES_MAX, "the windows before have ended");
    }
}
