//! How each application is doing, for people: what `GET /plugins/moesif/status` shows.

use crate::lane::Lane;
use crate::losses::Dropped;
use serde_json::{Map, Value, json};

/// One application at one moment: `received == delivered + queued + dropped`.
#[derive(Debug, Clone)]
pub struct ApplicationState {
    /// [`crate::sink::Target::lane`].
    pub lane: u64,
    /// The end of its application id and its endpoint.
    pub label: String,
    /// Events of this application since the start, those found in the journal included. What a
    /// full ring refused is counted for the core, not here.
    pub received: u64,
    /// Events that were acknowledged.
    pub delivered: u64,
    /// Events waiting or on their way.
    pub queued: u64,
    /// Events given up, by reason.
    pub dropped: Dropped,
    /// Bytes of the events that wait.
    pub bytes: u64,
    /// Bytes of its segments on disk.
    pub journal_bytes: u64,
    /// How long the oldest waiting event has waited, in milliseconds.
    pub oldest_age_ms: Option<u64>,
    /// Batches on their way.
    pub flying: usize,
    /// Batches that were started outside of `max_callback_time_spent`: too much waited, or
    /// the machine was too busy for a whole cycle.
    pub budget_overruns: u64,
    /// Failures since the last success.
    pub failures: u32,
    /// The last fault in words.
    pub last_error: Option<String>,
    /// Milliseconds since the last acknowledgement.
    pub last_success_age_ms: Option<u64>,
    /// Milliseconds until the next try; 0 if nothing is in the way.
    pub next_try_ms: u64,
}

impl ApplicationState {
    pub(crate) fn of(lane: &Lane, now_ms: u64) -> Self {
        Self {
            lane: lane.target.lane(),
            label: lane.target.label(),
            received: lane.counts.received,
            delivered: lane.health.delivered,
            queued: lane.len() as u64,
            dropped: lane.counts.dropped,
            bytes: lane.queued_bytes(),
            journal_bytes: lane.bytes(),
            oldest_age_ms: lane.oldest_ms().map(|came_ms| now_ms.saturating_sub(came_ms)),
            flying: lane.flying(),
            budget_overruns: lane.health.budget_overruns,
            failures: lane.health.failures,
            last_error: lane.health.last_error.clone(),
            last_success_age_ms: lane.health.last_success_ms.map(|at| now_ms.saturating_sub(at)),
            next_try_ms: lane.health.not_before_ms.saturating_sub(now_ms),
        }
    }

    /// Whether every event is accounted for.
    pub fn adds_up(&self) -> bool {
        self.received == self.delivered + self.queued + self.dropped.total()
    }

    /// As people read it.
    pub fn to_json(&self) -> Value {
        json!({
            "application": self.label,
            "received": self.received,
            "delivered": self.delivered,
            "queued": self.queued,
            "dropped": self.dropped.total(),
            "dropped_because": because(&self.dropped),
            "bytes": self.bytes,
            "journal_bytes": self.journal_bytes,
            "oldest_event_age_ms": self.oldest_age_ms,
            "batches_in_flight": self.flying,
            "budget_overruns": self.budget_overruns,
            "failures": self.failures,
            "last_error": self.last_error,
            "last_success_age_ms": self.last_success_age_ms,
            "next_try_ms": self.next_try_ms,
        })
    }
}

/// The reasons that occurred, with their counts.
fn because(dropped: &Dropped) -> Map<String, Value> {
    let reasons = Dropped::REASONS.iter();
    let counted = reasons.map(|(loss, name)| ((*name).to_owned(), json!(dropped.count(*loss))));
    counted.filter(|(_, count)| *count != json!(0)).collect()
}
