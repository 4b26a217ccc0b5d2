//! Every event accounted for: received = delivered + queued + dropped, at every reading.
//!
//! Three parties count. A core counts what it commits and what its ring refuses, in the ring. The
//! exporter counts what it takes, adopts, delivers and drops, in the ledger, always so that the
//! ledger adds up by itself. A reading locks the ledger, then reads the rings: what a core has
//! committed and the exporter has not yet taken is queued.

use runtime::ring::Gauge;
use std::sync::{Mutex, PoisonError};

/// Why an event was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its core's ring was full.
    RingFull,
    /// Its record was longer than a ring takes.
    RecordTooLarge,
    /// Its destination's queue was full (`event_queue_size`; `queue.max_entries`, where the oldest
    /// gives way).
    QueueFull,
    /// The journal's byte bound was reached.
    JournalFull,
    /// The bound of bytes of waiting events was reached (`TOLLGATE_EVENTS_BYTES_MAX`).
    BytesFull,
    /// The destination refused this very event (400, 413), alone in its batch.
    Refused,
    /// The settings that it must be made with are gone.
    SettingsGone,
    /// Its bytes could not be read.
    Unreadable,
    /// A log entry: `max_retry_time` was over.
    Expired,
    /// A log entry: the process ended before it could leave.
    Ended,
}

/// Number of [`Loss`] reasons.
const LOSSES: usize = 10;

/// Dropped events by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    counts: [u64; LOSSES],
}

impl Dropped {
    /// Reason, its name in `/status`, for each reason.
    pub const REASONS: [(Loss, &'static str); LOSSES] = [
        (Loss::RingFull, "ring_full"),
        (Loss::RecordTooLarge, "record_too_large"),
        (Loss::QueueFull, "queue_full"),
        (Loss::JournalFull, "journal_full"),
        (Loss::BytesFull, "bytes_full"),
        (Loss::Refused, "refused"),
        (Loss::SettingsGone, "settings_gone"),
        (Loss::Unreadable, "unreadable"),
        (Loss::Expired, "expired"),
        (Loss::Ended, "ended"),
    ];

    /// Events dropped for one reason.
    pub fn count(&self, loss: Loss) -> u64 {
        self.counts.get(loss as usize).copied().unwrap_or(0)
    }

    /// Events dropped for any reason.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds another count.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// Counts `events` more.
    pub(crate) fn add(&mut self, loss: Loss, events: u64) {
        if let Some(count) = self.counts.get_mut(loss as usize) {
            *count += events;
        }
    }
}

/// One reading of all counts since the start of the process, adopted events included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Events that cores committed or tried to commit, and events taken over from dead processes.
    pub received: u64,
    /// Events that a destination has acknowledged.
    pub delivered: u64,
    /// Events in rings and journal.
    pub queued: u64,
    /// Events given up.
    pub dropped: Dropped,
    /// Bodies left out of events because they had to be masked and could not be read.
    pub bodies_left_out: u64,
    /// Rings of dead processes that this version cannot read; they stay where they are.
    pub rings_set_aside: u64,
}

impl Sums {
    /// Whether every event is accounted for.
    pub fn add_up(&self) -> bool {
        self.received == self.delivered + self.queued + self.dropped.total()
    }
}

/// What the exporter has counted: `taken + adopted == delivered + queued + dropped`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Entries {
    /// Events taken from this process's rings.
    pub(crate) taken: u64,
    /// Events found in rings and segments of dead processes.
    pub(crate) adopted: u64,
    pub(crate) delivered: u64,
    pub(crate) queued: u64,
    pub(crate) dropped: Dropped,
    pub(crate) bodies_left_out: u64,
    pub(crate) rings_set_aside: u64,
}

impl Entries {
    fn add_up(&self) -> bool {
        self.taken + self.adopted == self.delivered + self.queued + self.dropped.total()
    }
}

/// The exporter's book. Changes are made under one lock, so that no reading is between two.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Mutex<Entries>,
}

impl Ledger {
    /// Makes one change that leaves the book balanced.
    pub(crate) fn enter(&self, change: impl FnOnce(&mut Entries)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut entries);
        debug_assert!(entries.add_up(), "{entries:?}");
    }

    /// All counts now, those of the rings included.
    pub(crate) fn sums(&self, rings: &[Gauge]) -> Sums {
        let entries = *self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // After the ledger: a ring's committed count is never behind what was taken from it.
        let mut dropped = entries.dropped;
        let mut committed = 0;
        let mut lost = 0;
        for counts in rings.iter().map(Gauge::counts) {
            committed += counts.committed;
            lost += counts.lost_full + counts.lost_large;
            dropped.add(Loss::RingFull, counts.lost_full);
            dropped.add(Loss::RecordTooLarge, counts.lost_large);
        }
        Sums {
            received: committed + lost + entries.adopted,
            delivered: entries.delivered,
            queued: entries.queued + committed.saturating_sub(entries.taken),
            dropped,
            bodies_left_out: entries.bodies_left_out,
            rings_set_aside: entries.rings_set_aside,
        }
    }
}
