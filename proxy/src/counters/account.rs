//! What this node has counted and not yet told to one place, and what that place has told us.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use plugins::pdk::counters::{Counter, RedisPlace, Standing, Window};
use runtime::clock;
use runtime::tally::{Slot, Tally};
use store::backend::postgres::Server;
use store::backend::postgres::metrics::{METRICS_MAX, Metric, Metrics};

use super::redis::{Lines, key};

/// Counters of one place; more are counted on this node alone until others have ended.
const COUNTERS_MAX: usize = 1 << 17;
/// Rows of configuration that count in one place and hear whether it answers.
const STANDINGS_MAX: usize = 1_024;
/// A counter is forgotten so long after its window, in seconds.
const GRACE_S: u64 = 5;
/// The largest step of a counter.
const STEP_MAX: u64 = u32::MAX as u64;

/// One counter.
struct Entry {
    /// Counted here and not told yet.
    waiting: u64,
    /// Somebody here wants to know what others have counted.
    asked: bool,
    /// What the place said last, which has all that we told it.
    seen: u64,
    slot: Slot,
}

/// One place's counters.
pub(super) struct Account {
    entries: HashMap<Metric, Entry>,
    standings: Vec<Arc<Standing>>,
    tally: Arc<Tally>,
    every_ms: u64,
    down: bool,
}

impl Account {
    pub(super) fn new(tally: Arc<Tally>) -> Self {
        let (entries, standings) = (HashMap::new(), Vec::new());
        Self { entries, standings, tally, every_ms: u64::MAX, down: false }
    }

    /// Takes down what was counted here.
    pub(super) fn note(&mut self, counter: &Counter, standing: &Arc<Standing>) {
        self.every_ms = self.every_ms.min(counter.every_ms.max(1));
        if !self.standings.iter().any(|known| Arc::ptr_eq(known, standing)) {
            if self.standings.len() >= STANDINGS_MAX {
                self.standings.retain(|known| Arc::strong_count(known) > 1);
            }
            if self.standings.len() < STANDINGS_MAX {
                standing.set_down(self.down);
                self.standings.push(Arc::clone(standing));
            }
        }
        // Where this node keeps no count of its own, nobody asks by a note.
        let counts = |window: &&Window| window.amount > 0 || window.slot.limit > 0;
        for window in counter.windows.iter().filter(counts) {
            let metric = Metric {
                identifier: counter.identifier.clone(),
                period: window.period,
                starts_s: window.starts_s,
                service: counter.service,
                route: counter.route,
                kept_s: window.kept_s,
                counted: window.counted.clone(),
            };
            if self.entries.len() >= COUNTERS_MAX && !self.entries.contains_key(&metric) {
                continue;
            }
            let fresh = Entry { waiting: 0, asked: false, seen: 0, slot: window.slot };
            let entry = self.entries.entry(metric).or_insert(fresh);
            entry.waiting += window.amount;
            entry.asked |= window.amount == 0;
        }
    }

    /// Takes out what has to be told, as much as goes at one time.
    fn take(&mut self) -> Vec<(Metric, u64)> {
        let now_s = clock::wall_us() / 1_000_000;
        self.entries.retain(|_, entry| entry.waiting > 0 || entry.slot.ends_s + GRACE_S > now_s);
        let waits = |entry: &Entry| entry.waiting > 0 || entry.asked;
        let waiting = self.entries.iter_mut().filter(|(_, entry)| waits(entry));
        waiting
            .take(METRICS_MAX)
            .map(|(metric, entry)| {
                entry.asked = false;
                (metric.clone(), std::mem::take(&mut entry.waiting))
            })
            .collect()
    }

    /// The place has added these: what others have counted goes into the tally.
    fn settle(&mut self, told: &[(Metric, u64)], totals: &[u64]) {
        let now_s = clock::wall_us() / 1_000_000;
        for ((metric, count), total) in told.iter().zip(totals) {
            let Some(entry) = self.entries.get_mut(metric) else { continue };
            let others = total.saturating_sub(entry.seen + count);
            entry.seen = *total;
            if others > 0 && entry.slot.limit > 0 && entry.slot.ends_s > now_s {
                let slot = Slot { limit: STEP_MAX, ..entry.slot };
                self.tally.reserve(&[slot], others.min(STEP_MAX), now_s);
            }
        }
        self.note_down(None);
    }

    /// The place did not answer: these wait again.
    fn put_back(&mut self, told: Vec<(Metric, u64)>, why: &str) {
        for (metric, count) in told {
            if let Some(entry) = self.entries.get_mut(&metric) {
                entry.waiting += count;
                entry.asked |= count == 0;
            }
        }
        self.note_down(Some(why));
    }

    fn note_down(&mut self, why: Option<&str>) {
        if self.down != why.is_some() {
            match why {
                Some(why) => log::error!("shared counters are not brought in step: {why}"),
                None => log::info!("shared counters are in step again"),
            }
        }
        self.down = why.is_some();
        for standing in &self.standings {
            standing.set_down(self.down);
        }
    }
}

/// Where an account's counters are.
pub(super) enum Ledger {
    /// A Redis.
    Redis(Rc<Lines>, RedisPlace),
    /// The database that nodes share.
    Cluster(Box<Metrics>),
}

impl Ledger {
    pub(super) fn cluster(server: Server) -> Self {
        Self::Cluster(Box::new(Metrics::new(server)))
    }

    async fn add(&mut self, told: &[(Metric, u64)]) -> Result<Vec<u64>, String> {
        match self {
            Self::Cluster(metrics) => metrics.add(told).await,
            Self::Redis(lines, place) => {
                let steps: Vec<_> = told
                    .iter()
                    .map(|(metric, count)| {
                        let Metric { route, service, identifier, .. } = metric;
                        let Metric { starts_s, period, kept_s, .. } = *metric;
                        let counted = metric.counted.as_deref();
                        let key = key([route, service], identifier, starts_s, period, counted);
                        (key, *count, kept_s)
                    })
                    .collect();
                lines.add(place, &steps).await
            }
        }
    }
}

/// Brings an account and its place in step, for ever.
pub(super) async fn keep(account: Rc<RefCell<Account>>, mut ledger: Ledger) {
    loop {
        let every_ms = account.borrow().every_ms.clamp(1, 60_000);
        tokio::time::sleep(Duration::from_millis(every_ms)).await;
        loop {
            let told = account.borrow_mut().take();
            if told.is_empty() {
                break;
            }
            let added = ledger.add(&told).await;
            match added {
                Ok(totals) => account.borrow_mut().settle(&told, &totals),
                Err(why) => {
                    account.borrow_mut().put_back(told, &why);
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugins::pdk::counters::Place;
    use plugins::pdk::window::Period;
    use uuid::Uuid;

    fn slot() -> Slot {
        Slot { key: 7, window: 1, ends_s: clock::wall_us() / 1_000_000 + 60, limit: 100 }
    }

    fn counted(account: &mut Account, standing: &Arc<Standing>) {
        let window = Window::of(Period::Minute, 60, slot());
        let counter = Counter {
            place: Place::Cluster(Arc::clone(standing)),
            route: Uuid::nil(),
            service: Uuid::nil(),
            identifier: "a".to_owned(),
            windows: [window].into_iter().collect(),
            every_ms: 5,
        };
        account.note(&counter, standing);
    }

    #[test]
    fn what_others_have_counted_is_added_once() {
        let (tally, standing) = (Arc::new(Tally::new(64)), Arc::default());
        let mut account = Account::new(Arc::clone(&tally));
        (0..3).for_each(|_| counted(&mut account, &standing));
        let told = account.take();
        assert_eq!(told[0].1, 3);
        account.settle(&told, &[10]);
        assert_eq!(tally.count(&slot()), 7, "seven of the ten are others'");
        counted(&mut account, &standing);
        let told = account.take();
        account.settle(&told, &[11]);
        assert_eq!(tally.count(&slot()), 7);
        assert!(account.take().is_empty());
    }

    #[test]
    fn who_only_asks_learns_what_others_have_counted() {
        let (tally, standing) = (Arc::new(Tally::new(64)), Arc::default());
        let mut account = Account::new(Arc::clone(&tally));
        let window = Window { amount: 0, ..Window::of(Period::Minute, 60, slot()) };
        let asks = |account: &mut Account, window: &Window| {
            let counter = Counter {
                place: Place::Cluster(Arc::clone(&standing)),
                route: Uuid::nil(),
                service: Uuid::nil(),
                identifier: "a".to_owned(),
                windows: [window.clone()].into_iter().collect(),
                every_ms: 5,
            };
            account.note(&counter, &standing);
        };
        asks(&mut account, &window);
        let told = account.take();
        assert_eq!(told[0].1, 0);
        assert!(account.take().is_empty(), "it asks once");
        account.settle(&told, &[4]);
        assert_eq!(tally.count(&slot()), 4);
        let none_here = Window { slot: Slot { limit: 0, ..slot() }, ..window };
        asks(&mut account, &none_here);
        assert!(account.take().is_empty(), "who has no count of its own asks otherwise");
    }

    #[test]
    fn what_could_not_be_told_waits() {
        let (tally, standing) = (Arc::new(Tally::new(64)), Arc::default());
        let mut account = Account::new(tally);
        counted(&mut account, &standing);
        let told = account.take();
        account.put_back(told, "gone");
        assert!(standing.is_down());
        counted(&mut account, &standing);
        let told = account.take();
        assert_eq!(told[0].1, 2);
        account.settle(&told, &[2]);
        assert!(!standing.is_down());
    }
}
