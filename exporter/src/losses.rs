//! Every event accounted for: received = delivered + queued + dropped, at every reading.

/// Why an event was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its core's ring was full.
    RingFull,
    /// Its record was longer than a ring takes.
    RecordTooLarge,
    /// Its destination's queue held `event_queue_size` events.
    QueueFull,
    /// The journal's byte bound was reached.
    JournalFull,
    /// The destination refused this very event (400, 413), alone in its batch.
    Refused,
    /// The settings that it must be made with are gone.
    SettingsGone,
    /// Its bytes could not be read.
    Unreadable,
}

/// Number of [`Loss`] reasons.
const LOSSES: usize = 7;

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
        (Loss::Refused, "refused"),
        (Loss::SettingsGone, "settings_gone"),
        (Loss::Unreadable, "unreadable"),
    ];

    /// Events dropped for one reason.
    pub fn count(&self, loss: Loss) -> u64 {
        self.counts.get(loss as usize).copied().unwrap_or(0)
    }

    /// Events dropped for any reason.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Counts `events` more.
    #[allow(dead_code, reason = "used by the drain, which lands next")]
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
