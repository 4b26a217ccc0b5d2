//! Log entries: what http-log, file-log, syslog and their kind send to third parties.
//!
//! ```text
//!   ring ─► record ─► document or lines ─► a bounded queue per destination ─► a thread ─► sink
//! ```
//! Entries wait in memory, not in the journal: they carry what the client sent (keys in headers
//! and queries), and nothing unmasked is ever written to a disk that the operator did not name. So
//! a kill costs the entries that wait, as it does in Kong; an orderly end sends them first, within
//! [`LAST_MS`]. What a dead process left in its rings is counted and given up, because the rows
//! that it names are gone. Everything else is as with events: bounded, tried again, and every entry
//! is counted (received = delivered + queued + dropped). A destination that is down, slow or
//! closing holds up nobody else: it has a queue and threads of its own.

mod couriers;
mod document;
mod entry;
mod fields;
mod metrics;
pub mod queue;
mod record;
mod report;
mod rows;
mod settings;

pub use fields::Field;
pub use metrics::{Datadog, Metric, Statsd, TagStyle};
pub use queue::Terms;
pub use report::{Latencies, LogReport, ROWS_MAX, RowKey, TRIES_MAX, TlsNames, Try};
pub use rows::{RowKind, RowSource, Workspace};
pub use settings::{
    FilePlan, Form, HttpPlan, LogDestination, LogSettings, Severities, TcpPlan, UdpPlan, Way,
};

pub(crate) use record::LogRecord;

use crate::batch::TICK_MS;
use crate::drain::DestinationState;
use crate::intake::{RESOLVED_MAX, Tally};
use crate::losses::{Entries, Ledger, Loss};
use crate::registry::SETTINGS_MAX;
use crate::sinks::LogSink;
use couriers::{Couriers, Finished, Job};
use entry::{Sender, entry};
use queue::{Queue, Settled};
use rows::Kept;
use runtime::clock;
use runtime::ring::Bell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use uuid::Uuid;

/// How long the end of the process waits for entries to leave, where nothing else holds it longer.
pub(crate) const LAST_MS: u64 = 500;
/// Most bytes that wait for all destinations together; above it a new entry is dropped.
const BYTES_MAX: usize = 256 << 20;
/// A lane that no row asks for is given up after so long without an entry.
const IDLE_MS: u64 = 60_000;

/// What the program has made known: settings of rows, and where rows are looked up. Shared by the
/// program and the exporter's thread.
#[derive(Default)]
pub(crate) struct LogBook {
    known: Mutex<Known>,
    pub(crate) rows: OnceLock<RowSource>,
}

#[derive(Default)]
struct Known {
    settings: HashMap<RowKey, Arc<LogSettings>>,
    /// The version in force of each row: never forgotten.
    live: HashMap<Uuid, RowKey>,
    /// Those of before, oldest first: open exchanges may still report under them.
    old: VecDeque<RowKey>,
    /// How many rows in force want each destination.
    wanted: HashMap<LogDestination, usize>,
}

impl LogBook {
    /// Makes a row at a version known, before any core may see it.
    pub(crate) fn add(&self, row: RowKey, settings: &Arc<LogSettings>) {
        let mut known = self.lock();
        known.forget(row.id);
        known.old.retain(|old| *old != row);
        known.live.insert(row.id, row);
        *known.wanted.entry(settings.destination.clone()).or_default() += 1;
        known.settings.insert(row, Arc::clone(settings));
    }

    /// A row is gone; open exchanges may still report under it.
    pub(crate) fn forget(&self, row_id: Uuid) {
        self.lock().forget(row_id);
    }

    fn settings(&self, row: RowKey) -> Option<Arc<LogSettings>> {
        self.lock().settings.get(&row).cloned()
    }

    fn is_live(&self, destination: &LogDestination) -> bool {
        self.lock().wanted.contains_key(destination)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, row_id: Uuid) {
        let Some(row) = self.live.remove(&row_id) else { return };
        if let Some(settings) = self.settings.get(&row)
            && let Some(rows) = self.wanted.get_mut(&settings.destination)
        {
            *rows -= 1;
            if *rows == 0 {
                self.wanted.remove(&settings.destination);
            }
        }
        self.old.push_back(row);
        while self.old.len() > SETTINGS_MAX
            && let Some(oldest) = self.old.pop_front()
        {
            self.settings.remove(&oldest);
        }
    }
}

/// One destination.
struct Lane {
    destination: LogDestination,
    sink: Arc<LogSink>,
    queue: Queue,
    delivered: u64,
    last_error: Option<String>,
    last_success_ms: Option<u64>,
    used_ms: u64,
}

impl Lane {
    fn settle(&mut self, finished: &Finished, now_ms: u64) -> Settled {
        let before = self.queue.failures();
        let settled = self.queue.finish(finished.number, &finished.delivery, now_ms);
        if let Some(fault) = &finished.delivery.fault {
            let label = self.destination.label();
            // Said once per outage: a gateway's log is no place to count a sink's failures.
            if before == 0 {
                log::error!("[{label}] entries cannot be delivered: {fault}");
            } else {
                log::debug!("[{label}] entries cannot be delivered: {fault}");
            }
            self.last_error = Some(fault.clone());
        } else if before > 0 && self.queue.failures() == 0 {
            log::info!("[{}] entries are delivered again", self.destination.label());
        }
        if settled.expired > 0 {
            let (entries, label) = (settled.expired, self.destination.label());
            log::error!("[{label}] {entries} entries are given up: max_retry_time is over");
        }
        if settled.delivered > 0 {
            self.last_success_ms = Some(now_ms);
            self.delivered += settled.delivered;
        }
        settled
    }
}

/// The exporter's work with log entries; lives on its thread.
pub(crate) struct Logs {
    book: Arc<LogBook>,
    known: HashMap<RowKey, Arc<LogSettings>>,
    kept: Kept,
    sender: Sender,
    lanes: BTreeMap<u64, Lane>,
    by_destination: HashMap<LogDestination, u64>,
    next_lane: u64,
    /// Bytes that wait for all of them, as of the last turn and what came since.
    bytes: usize,
    couriers: Couriers,
}

impl Logs {
    pub(crate) fn new(book: Arc<LogBook>, bell: Arc<Bell>) -> Self {
        Self {
            book,
            known: HashMap::new(),
            kept: Kept::default(),
            sender: Sender::here(),
            lanes: BTreeMap::new(),
            by_destination: HashMap::new(),
            next_lane: 0,
            bytes: 0,
            couriers: Couriers::new(bell),
        }
    }

    /// Queues the entries of one record, one for each row that wants it.
    pub(crate) fn take(&mut self, record: &LogRecord<'_>, tally: &mut Tally, now_ms: u64) {
        tally.events += record.rows.len() as u64;
        let mut found = None;
        for row in &record.rows {
            let Some(settings) = self.settings(*row) else {
                tally.dropped.add(Loss::SettingsGone, 1);
                continue;
            };
            let found = found.get_or_insert_with(|| self.kept.of(record, self.book.rows.get()));
            let (sender, now_us) = (&self.sender, clock::wall_us());
            // A fault of our own must cost this entry only.
            let made =
                catch_unwind(AssertUnwindSafe(|| entry(record, found, &settings, sender, now_us)));
            match made {
                Ok(entry) if entry.is_empty() => tally.delivered += 1,
                Ok(entry) => self.queue(&settings.destination, entry, tally, now_ms),
                Err(_) => tally.dropped.add(Loss::Unreadable, 1),
            }
        }
    }

    fn queue(
        &mut self,
        destination: &LogDestination,
        entry: Vec<u8>,
        tally: &mut Tally,
        now_ms: u64,
    ) {
        if self.bytes + entry.len() > BYTES_MAX {
            return tally.dropped.add(Loss::QueueFull, 1);
        }
        self.bytes += entry.len();
        let lane = self.lane(destination);
        lane.used_ms = now_ms;
        let gone = lane.queue.push(entry, now_ms);
        tally.queued += 1;
        tally.pushed_out += gone;
    }

    fn settings(&mut self, row: RowKey) -> Option<Arc<LogSettings>> {
        if let Some(settings) = self.known.get(&row) {
            return Some(Arc::clone(settings));
        }
        let settings = self.book.settings(row)?;
        if self.known.len() >= RESOLVED_MAX {
            self.known.clear();
        }
        self.known.insert(row, Arc::clone(&settings));
        Some(settings)
    }

    fn lane(&mut self, destination: &LogDestination) -> &mut Lane {
        let number = match self.by_destination.get(destination) {
            Some(number) => *number,
            None => {
                let number = self.next_lane;
                self.next_lane += 1;
                self.by_destination.insert(destination.clone(), number);
                number
            }
        };
        self.lanes.entry(number).or_insert_with(|| Lane {
            destination: destination.clone(),
            sink: Arc::new(LogSink::new(&destination.way)),
            queue: Queue::new(destination.terms),
            delivered: 0,
            last_error: None,
            last_success_ms: None,
            used_ms: 0,
        })
    }

    /// Takes back what was carried and sends what may leave. `hurry` at the end of the process.
    pub(crate) fn turn(&mut self, ledger: &Ledger, now_ms: u64, hurry: bool) {
        while let Some(finished) = self.couriers.finished() {
            let Some(lane) = self.lanes.get_mut(&finished.lane) else { continue };
            let settled = lane.settle(&finished, now_ms);
            ledger.enter(|entries| book(entries, settled));
        }
        self.bytes = self.lanes.values().map(|lane| lane.queue.bytes()).sum();
        // Another lane begins each time, so that none is always the last to find a thread.
        let first = (now_ms / TICK_MS) % self.next_lane.max(1);
        let (before, after) = (0..first, first..u64::MAX);
        for range in [after, before] {
            for (number, lane) in self.lanes.range_mut(range) {
                while self.couriers.is_free()
                    && let Some((batch_number, batch)) = lane.queue.next(now_ms, hurry)
                {
                    let sink = Arc::clone(&lane.sink);
                    self.couriers.send(Job { lane: *number, number: batch_number, batch, sink });
                }
            }
        }
    }

    /// Gives up lanes that nobody asks for any more.
    pub(crate) fn tidy(&mut self, now_ms: u64) {
        let (book, by_destination) = (&self.book, &mut self.by_destination);
        self.lanes.retain(|_, lane| {
            let idle = lane.queue.is_empty() && now_ms.saturating_sub(lane.used_ms) >= IDLE_MS;
            let keep = !idle || book.is_live(&lane.destination);
            if !keep {
                by_destination.remove(&lane.destination);
            }
            keep
        });
    }

    /// Whether something waits that may still be delivered soon.
    pub(crate) fn may_deliver(&self) -> bool {
        self.lanes.values().any(|lane| !lane.queue.is_empty() && lane.queue.failures() == 0)
    }

    /// The end: what still waits is counted as lost.
    pub(crate) fn abandon(&mut self, ledger: &Ledger) {
        let lost: u64 = self.lanes.values_mut().map(|lane| lane.queue.abandon()).sum();
        if lost > 0 {
            log::warn!("{lost} log entries could not be delivered before the end");
            ledger.enter(|entries| {
                entries.queued -= lost;
                entries.dropped.add(Loss::Ended, lost);
            });
        }
    }

    pub(crate) fn describe(&self, now_ms: u64) -> impl Iterator<Item = DestinationState> + '_ {
        self.lanes.values().map(move |lane| DestinationState {
            label: lane.destination.label(),
            queued: lane.queue.len(),
            bytes: lane.queue.bytes() as u64,
            delivered: lane.delivered,
            failures: lane.queue.failures(),
            last_error: lane.last_error.clone(),
            last_success_age_ms: lane.last_success_ms.map(|at| now_ms.saturating_sub(at)),
        })
    }
}

fn book(entries: &mut Entries, settled: Settled) {
    entries.delivered += settled.delivered;
    entries.dropped.add(Loss::Refused, settled.refused);
    entries.dropped.add(Loss::Expired, settled.expired);
    entries.queued -= settled.delivered + settled.refused + settled.expired;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn settings_in_force_are_never_forgotten() {
        let book = LogBook::default();
        let settings = |number: usize| {
            let way = Way::Local(PathBuf::from(format!("/{}", number % 7)));
            let destination = LogDestination { plugin: "syslog", way, terms: Terms::PROMPT };
            Arc::new(LogSettings { destination, form: Form::Document, fields: Vec::new() })
        };
        let row = |number: usize, version| RowKey { id: Uuid::from_u128(number as u128), version };
        let rows = 3 * SETTINGS_MAX;
        for number in 0..rows {
            book.add(row(number, 1), &settings(number));
        }
        for number in 0..rows {
            assert!(book.settings(row(number, 1)).is_some(), "row {number}");
        }
        // One row that changes often costs no other row its settings.
        for version in 2..2 * SETTINGS_MAX as u64 {
            book.add(row(0, version), &settings(0));
        }
        assert!(book.settings(row(0, 1)).is_none() && book.settings(row(1, 1)).is_some());
        let destination = settings(0).destination.clone();
        assert!(book.is_live(&destination));
        for number in 0..rows {
            book.forget(row(number, 1).id);
        }
        assert!(!book.is_live(&destination));
        assert_eq!(book.lock().settings.len(), SETTINGS_MAX, "what is gone, only for a while");
    }
}
