//! Counts of exchanges by route: each core owns a table that only it writes, and anybody reads.
//!
//! ```text
//!   core 0 ─► table 0 ─┐
//!   core 1 ─► table 1 ─┼─► a scrape reads all of them and adds up; no core notices
//!   core N ─► table N ─┘
//! ```
//! A series is found by its labels with one hash and kept for good, as in Kong; its cells are
//! atomics of one writer, so that a count is a load and a store. A table has room for so many
//! series; what finds no room is counted and said in the scrape.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Series of one core.
pub const SERIES_MAX: usize = 16_384;

/// What one series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meter {
    /// Exchanges with this status; whether the service gave it.
    Requests {
        /// The status.
        status: u16,
        /// Whether the upstream made the answer.
        from_service: bool,
    },
    /// Bytes: received, sent.
    Bytes,
    /// Milliseconds, in three histograms.
    Latency,
}

/// Whose exchanges a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels<'a> {
    /// The service's name, or its host.
    pub service: &'a str,
    /// The route's name, or its id.
    pub route: &'a str,
    /// The consumer's name; empty where none is told.
    pub consumer: &'a str,
}

/// Upper bounds of the histogram of the gateway's own time, in milliseconds.
pub const OWN_MS: [u32; 17] =
    [1, 2, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 750, 1000, 3000, 6000];
/// Upper bounds of the other two, in milliseconds.
pub const WHOLE_MS: [u32; 13] =
    [25, 50, 80, 100, 250, 400, 700, 1000, 2000, 5000, 10_000, 30_000, 60_000];

/// One histogram inside a series: its bounds and where its cells begin. Each has a cell for every
/// bound, one for what is above, and one for the sum.
#[derive(Clone, Copy, Debug)]
pub struct Histogram {
    /// Upper bounds.
    pub bounds: &'static [u32],
    first: usize,
}

impl Histogram {
    /// The gateway's own time.
    pub const OWN: Self = Self { bounds: &OWN_MS, first: 0 };
    /// The upstream's.
    pub const UPSTREAM: Self = Self { bounds: &WHOLE_MS, first: OWN_MS.len() + 2 };
    /// All of it.
    pub const WHOLE: Self =
        Self { bounds: &WHOLE_MS, first: OWN_MS.len() + 2 + WHOLE_MS.len() + 2 };
    const CELLS: usize = OWN_MS.len() + 2 + 2 * (WHOLE_MS.len() + 2);

    /// The histogram's cells among those of its series.
    pub fn of<'a>(&self, cells: &'a [u64]) -> &'a [u64] {
        cells.get(self.first..self.first + self.bounds.len() + 2).unwrap_or_default()
    }
}

/// One series.
pub struct Series {
    meter: Meter,
    service: Box<str>,
    route: Box<str>,
    consumer: Box<str>,
    cells: Box<[AtomicU64]>,
}

impl Series {
    fn new(meter: Meter, labels: Labels<'_>) -> Self {
        let cells = match meter {
            Meter::Requests { .. } => 1,
            Meter::Bytes => 2,
            Meter::Latency => Histogram::CELLS,
        };
        Self {
            meter,
            service: labels.service.into(),
            route: labels.route.into(),
            consumer: labels.consumer.into(),
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// What it counts.
    pub fn meter(&self) -> Meter {
        self.meter
    }

    /// Whose exchanges.
    pub fn labels(&self) -> Labels<'_> {
        Labels { service: &self.service, route: &self.route, consumer: &self.consumer }
    }

    /// Its cells now.
    pub fn read(&self) -> Vec<u64> {
        self.cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect()
    }

    /// Adds to a cell. Only the core that owns the table may.
    fn add(&self, cell: usize, amount: u64) {
        if let Some(cell) = self.cells.get(cell) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        }
    }
}

/// The series of one core, as anybody may read them.
pub struct Table {
    series: Box<[OnceLock<Box<Series>>]>,
    refused: AtomicU64,
}

impl Table {
    /// A table with room for so many series.
    pub fn new(series_max: usize) -> Self {
        let series = (0..series_max).map(|_| OnceLock::new()).collect();
        Self { series, refused: AtomicU64::new(0) }
    }

    /// The series so far.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().map_while(OnceLock::get).map(Box::as_ref)
    }

    /// Counts that found no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A core's end of its table.
pub struct Counters {
    table: Arc<Table>,
    found: RefCell<HashTable<u32>>,
}

impl Counters {
    /// The writing end; a table must have only one.
    pub fn new(table: Arc<Table>) -> Self {
        Self { table, found: RefCell::default() }
    }

    /// Counts one exchange.
    pub fn count(&self, status: u16, from_service: bool, labels: Labels<'_>) {
        self.with(Meter::Requests { status, from_service }, labels, |series| series.add(0, 1));
    }

    /// Counts its bytes.
    pub fn add_bytes(&self, received: u64, sent: u64, labels: Labels<'_>) {
        self.with(Meter::Bytes, labels, |series| {
            series.add(0, received);
            series.add(1, sent);
        });
    }

    /// Notes how long things took; none where there was no such part.
    pub fn observe(&self, times_ms: &[(Histogram, Option<u32>)], labels: Labels<'_>) {
        self.with(Meter::Latency, labels, |series| {
            for (histogram, ms) in times_ms {
                let Some(ms) = ms else { continue };
                let place = histogram.bounds.iter().position(|bound| ms <= bound);
                series.add(histogram.first + place.unwrap_or(histogram.bounds.len()), 1);
                series.add(histogram.first + histogram.bounds.len() + 1, u64::from(*ms));
            }
        });
    }

    fn with(&self, meter: Meter, labels: Labels<'_>, act: impl FnOnce(&Series)) {
        let at = |place: u32| self.table.series.get(place as usize).and_then(OnceLock::get);
        let hash = hash(meter, labels);
        let mut found = self.found.borrow_mut();
        let is = |place: &u32| {
            at(*place).is_some_and(|series| series.meter == meter && series.labels() == labels)
        };
        if let Some(series) = found.find(hash, is).and_then(|place| at(*place)) {
            return act(series);
        }
        let place = found.len() as u32;
        let Some(slot) = self.table.series.get(place as usize) else {
            let refused = &self.table.refused;
            return refused.store(refused.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        };
        // One allocation for each new series; no other writer can be before us.
        let series = slot.get_or_init(|| Box::new(Series::new(meter, labels)));
        act(series);
        found.insert_unique(hash, place, |place| {
            at(*place).map_or(0, |series| self::hash(series.meter, series.labels()))
        });
    }
}

fn hash(meter: Meter, labels: Labels<'_>) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    let kind = match meter {
        Meter::Requests { status, from_service } => {
            u32::from(status) << 1 | u32::from(from_service)
        }
        Meter::Bytes => u32::MAX,
        Meter::Latency => u32::MAX - 1,
    };
    hasher.write_u32(kind);
    for label in [labels.service, labels.route, labels.consumer] {
        hasher.write(label.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

/// The tables of all cores.
#[derive(Clone)]
pub struct Meters(Arc<[Arc<Table>]>);

impl Meters {
    /// A table for each core.
    pub fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| Arc::new(Table::new(SERIES_MAX))).collect())
    }

    /// The table of one core.
    pub fn table(&self, core: usize) -> Option<&Arc<Table>> {
        self.0.get(core)
    }

    /// Bytes of the tables themselves.
    pub fn bytes(&self) -> usize {
        self.0.len() * SERIES_MAX * size_of::<OnceLock<Box<Series>>>()
    }

    /// All tables.
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: Labels<'_> = Labels { service: "s", route: "r", consumer: "" };

    fn read(table: &Table, meter: Meter) -> Vec<u64> {
        table.series().find(|series| series.meter() == meter).unwrap().read()
    }

    #[test]
    fn a_series_is_found_again_and_read_by_others() {
        let table = Arc::new(Table::new(8));
        let counters = Counters::new(Arc::clone(&table));
        for _ in 0..3 {
            counters.count(200, true, LABELS);
        }
        counters.count(200, false, LABELS);
        counters.count(200, true, Labels { consumer: "bob", ..LABELS });
        counters.add_bytes(10, 200, LABELS);
        counters.add_bytes(1, 2, LABELS);
        let meter = Meter::Requests { status: 200, from_service: true };
        let seen = std::thread::scope(|scope| scope.spawn(|| read(&table, meter)).join().unwrap());
        assert_eq!(seen, [3]);
        assert_eq!(read(&table, Meter::Bytes), [11, 202]);
        assert_eq!((table.series().count(), table.refused()), (4, 0));
    }

    #[test]
    fn times_fall_into_buckets() {
        let table = Arc::new(Table::new(1));
        let counters = Counters::new(Arc::clone(&table));
        for (own, whole) in [(0, 25), (1, 26), (6_001, 60_001)] {
            let times = [
                (Histogram::OWN, Some(own)),
                (Histogram::WHOLE, Some(whole)),
                (Histogram::UPSTREAM, None),
            ];
            counters.observe(&times, LABELS);
        }
        let cells = read(&table, Meter::Latency);
        let own = Histogram::OWN.of(&cells);
        assert_eq!((own[0], own[OWN_MS.len()], own[OWN_MS.len() + 1]), (2, 1, 6_002));
        let whole = Histogram::WHOLE.of(&cells);
        assert_eq!((whole[0], whole[1], whole[WHOLE_MS.len()]), (1, 1, 1));
        assert!(Histogram::UPSTREAM.of(&cells).iter().all(|cell| *cell == 0));
    }

    #[test]
    fn a_full_table_counts_what_it_refuses() {
        let table = Arc::new(Table::new(2));
        let counters = Counters::new(Arc::clone(&table));
        for status in 200..210 {
            counters.count(status, true, LABELS);
            counters.count(200, true, LABELS);
        }
        assert_eq!((table.series().count(), table.refused()), (2, 8));
        assert_eq!(read(&table, Meter::Requests { status: 200, from_service: true }), [11]);
    }
}
