//! From records to staged events.

use crate::event::RowRef;
use crate::event::record::{Record, RecordFault};
use crate::journal::entry::Head;
use crate::lane::{Lane, Terms};
use crate::logs::{LogRecord, Logs};
use crate::losses::{Dropped, Loss};
use crate::moesif::event::push_event;
use crate::moesif::settings::Settings;
use crate::registry::{Known, Registry};
use crate::sink::{Sink, Target};
use crate::sinks::moesif::{Common, Moesif};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Rows whose settings and lane are remembered; then all are looked up again.
pub(crate) const RESOLVED_MAX: usize = 65_536;
/// How often a full queue is spoken of, in milliseconds.
const COMPLAINT_MS: u64 = 1_000;

/// All destinations, and who may use how much of the journal.
pub(crate) struct Lanes {
    pub(crate) lanes: Vec<Lane>,
    by_target: HashMap<Target, usize>,
    common: Arc<Common>,
    events_bytes_max: u64,
    journal_bytes_max: u64,
    /// Which bound all lanes together have reached, as of the last [`Lanes::weigh`].
    over: Option<Loss>,
    /// When a full queue was last spoken of.
    complained_ms: u64,
}

impl Lanes {
    pub(crate) fn new(common: Arc<Common>, events_bytes_max: u64, journal_bytes_max: u64) -> Self {
        Self {
            lanes: Vec::new(),
            by_target: HashMap::new(),
            common,
            events_bytes_max,
            journal_bytes_max,
            over: None,
            complained_ms: 0,
        }
    }

    /// The lane of a destination, made if it is not there. The newest configuration of a
    /// destination decides how it is sent to; `settings` that only come with a record do not.
    pub(crate) fn lane_of(&mut self, settings: &Settings) -> usize {
        let target = settings.target();
        if let Some(lane) = self.by_target.get(&target) {
            return *lane;
        }
        let sink: Arc<dyn Sink> = Arc::new(Moesif::new(settings, &self.common));
        self.lanes.push(Lane::new(target.clone(), Terms::of(settings), sink));
        self.by_target.insert(target, self.lanes.len() - 1);
        self.lanes.len() - 1
    }

    /// The lane of a destination of which only a segment is known.
    pub(crate) fn lane_of_target(&mut self, target: &Target) -> Option<usize> {
        let config = serde_json::json!({
            "application_id": target.application_id,
            "api_endpoint": target.api_endpoint,
        });
        Settings::parse(&config).map(|settings| self.lane_of(&settings))
    }

    /// A new configuration.
    pub(crate) fn configure(&mut self, settings: &Settings) {
        let lane = self.lane_of(settings);
        let sink: Arc<dyn Sink> = Arc::new(Moesif::new(settings, &self.common));
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.configure(Terms::of(settings), sink);
        }
    }

    /// Why the next event of a lane cannot be kept, if it cannot. With several destinations none
    /// may take more than half of the journal, so that no one's trouble fills it for all.
    fn bound(&self, lane: usize) -> Option<Loss> {
        let found = self.lanes.get(lane)?;
        if found.is_full() {
            return Some(Loss::QueueFull);
        }
        if found.bytes() >= self.journal_bytes_max / self.share() {
            return Some(Loss::JournalFull);
        }
        if found.queued_bytes() >= self.events_bytes_max / self.share() {
            return Some(Loss::BytesFull);
        }
        self.over
    }

    /// What part of a bound one destination may use.
    fn share(&self) -> u64 {
        if self.lanes.len() > 1 { 2 } else { 1 }
    }

    /// How many bytes may wait for one destination.
    pub(crate) fn lane_bytes_max(&self) -> u64 {
        self.events_bytes_max / self.share()
    }

    /// Counts an event that its destination has no room for; says so once a second.
    fn give_up(&mut self, lane: usize, loss: Loss, now_ms: u64) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        lane.give_up(loss);
        if now_ms >= self.complained_ms + COMPLAINT_MS {
            self.complained_ms = now_ms;
            let label = lane.target.label();
            log::debug!("[moesif] Queue is full, do not log new events ({label})");
        }
    }

    /// Adds up all bytes: once a round, because a round is small against the bound.
    pub(crate) fn weigh(&mut self) {
        let bytes: u64 = self.lanes.iter().map(Lane::bytes).sum();
        let queued_bytes: u64 = self.lanes.iter().map(Lane::queued_bytes).sum();
        self.over = if bytes >= self.journal_bytes_max {
            Some(Loss::JournalFull)
        } else {
            (queued_bytes >= self.events_bytes_max).then_some(Loss::BytesFull)
        };
    }

    pub(crate) fn flying(&self) -> usize {
        self.lanes.iter().map(Lane::flying).sum()
    }
}

/// What one round has counted.
#[derive(Default)]
pub(crate) struct Tally {
    /// Events in the records that were read.
    pub(crate) events: u64,
    pub(crate) queued: u64,
    /// Entries that had nothing to say: done with.
    pub(crate) delivered: u64,
    /// Older entries that gave way to newer ones.
    pub(crate) pushed_out: u64,
    pub(crate) dropped: Dropped,
    pub(crate) bodies_left_out: u64,
}

/// Events of one generation that are in its journal already, by lane and ring: the newest one.
pub(crate) type Journaled = HashMap<(usize, u16), (u64, u8)>;

/// Turns the records of one generation's rings into staged events.
pub(crate) struct Intake {
    registry: Arc<Registry>,
    known: Arc<Known>,
    /// Settings and lane of the rows that were met.
    resolved: HashMap<RowRef, (Arc<Settings>, usize)>,
    /// Only while a dead generation's rings are drained.
    pub(crate) journaled: Journaled,
    pub(crate) tally: Tally,
    pub(crate) logs: Logs,
    event: Vec<u8>,
}

impl Intake {
    pub(crate) fn new(registry: Arc<Registry>, logs: Logs) -> Self {
        let known = registry.known();
        Self {
            registry,
            known,
            resolved: HashMap::new(),
            journaled: Journaled::new(),
            tally: Tally::default(),
            logs,
            event: Vec::new(),
        }
    }

    /// Stages the events of one record.
    pub(crate) fn take(
        &mut self,
        lanes: &mut Lanes,
        core: u16,
        position: u64,
        bytes: &[u8],
        now_ms: u64,
    ) {
        if LogRecord::begins(bytes) {
            match LogRecord::read(bytes) {
                Ok(record) => self.logs.take(&record, &mut self.tally, now_ms),
                Err(_) => self.unreadable(bytes),
            }
            return;
        }
        match Record::read(bytes) {
            Ok(record) => {
                for (part, row) in record.rows.as_slice().iter().enumerate() {
                    let head = Head {
                        len: 0,
                        position,
                        at_us: record.ended_us,
                        transaction_id: record.transaction_id,
                        core,
                        part: part as u8,
                    };
                    self.take_one(lanes, &record, *row, &head, now_ms);
                }
            }
            Err(RecordFault::Malformed | RecordFault::UnknownVersion) => self.unreadable(bytes),
        }
    }

    /// The second byte is the number of rows in every record so far.
    fn unreadable(&mut self, bytes: &[u8]) {
        let events = bytes.get(1).copied().map_or(1, u64::from);
        self.tally.events += events;
        self.tally.dropped.add(Loss::Unreadable, events);
    }

    fn take_one(
        &mut self,
        lanes: &mut Lanes,
        record: &Record<'_>,
        row: RowRef,
        head: &Head,
        now_ms: u64,
    ) {
        let Some((settings, lane)) = self.resolve(lanes, row) else {
            self.tally.events += 1;
            self.tally.dropped.add(Loss::SettingsGone, 1);
            return;
        };
        let newest = self.journaled.get(&(lane, head.core));
        if newest.is_some_and(|newest| head.origin() <= *newest) {
            // It was counted with the segment that it was found in.
            return;
        }
        self.tally.events += 1;
        if let Some(loss) = lanes.bound(lane) {
            self.tally.dropped.add(loss, 1);
            lanes.give_up(lane, loss, now_ms);
            return;
        }
        self.event.clear();
        let out = &mut self.event;
        // A fault of our own must cost this event only.
        let made = catch_unwind(AssertUnwindSafe(|| push_event(out, record, &settings)));
        match (made, lanes.lanes.get_mut(lane)) {
            (Ok(left_out), Some(lane)) => {
                self.tally.bodies_left_out += left_out;
                self.tally.queued += 1;
                lane.stage(head, now_ms, |out| out.extend_from_slice(&self.event));
            }
            (_, lane) => {
                self.tally.dropped.add(Loss::Unreadable, 1);
                lane.into_iter().for_each(|lane| lane.give_up(Loss::Unreadable));
            }
        }
    }

    fn resolve(&mut self, lanes: &mut Lanes, row: RowRef) -> Option<(Arc<Settings>, usize)> {
        if let Some((settings, lane)) = self.resolved.get(&row) {
            return Some((Arc::clone(settings), *lane));
        }
        if !self.known.contains_key(&row) {
            // Settings are made known before any core may see them: a second look is enough.
            self.known = self.registry.known();
        }
        let settings = Arc::clone(self.known.get(&row)?);
        let lane = lanes.lane_of(&settings);
        if self.resolved.len() >= RESOLVED_MAX {
            self.resolved.clear();
        }
        self.resolved.insert(row, (Arc::clone(&settings), lane));
        Some((settings, lane))
    }
}
