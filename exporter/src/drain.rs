//! The exporter's thread: rings into the journal, batches to the senders, answers into the book.

use crate::adopt;
use crate::applications::ApplicationState;
use crate::batch::{CYCLE_MS, TICK_MS};
use crate::intake::{Intake, Lanes, Tally};
use crate::journal::generation::{Generation, House};
use crate::lane::{Lane, Round, Shelf};
use crate::logs::{LAST_MS, LogBook, Logs};
use crate::losses::{Ledger, Loss};
use crate::moesif::settings::Settings;
use crate::quarantine::Quarantine;
use crate::queue::{FLIGHTS_MAX, Settled};
use crate::retry::next_random;
use crate::senders::{Finished, SENDERS_MAX, Senders};
use crate::sink::Outcome;
use runtime::clock;
use runtime::ring::{Bell, Consumer, Next};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of records taken from one ring before the others have their turn.
const ROUND_BYTES_MAX: u64 = 1 << 20;
/// How often a line in the log says that events flow, in milliseconds; as Moesif's plugin does.
const HEARTBEAT_MS: u64 = 225_000;
/// How often what people see is renewed, in milliseconds.
const DESCRIBE_MS: u64 = 200;
/// How long the rings are looked at again and again at the end, in milliseconds.
const LAST_ROUNDS_MS: u64 = 1_000;

/// What the rest of the program asks of the thread.
pub(crate) enum Order {
    /// A destination has new settings.
    Configure(Arc<Settings>),
    /// The end: send for at most so many milliseconds.
    Stop(u64),
}

/// What the thread and the rest of the program share.
pub(crate) struct Shared {
    pub(crate) ledger: Ledger,
    pub(crate) bell: Arc<Bell>,
    pub(crate) orders: Mutex<Vec<Order>>,
    /// What log plugins ask for.
    pub(crate) logs: Arc<LogBook>,
    /// Per destination, renewed about once a second.
    pub(crate) destinations: Mutex<Vec<DestinationState>>,
    /// The same of Moesif's applications, with more of it.
    pub(crate) applications: Mutex<Vec<ApplicationState>>,
}

/// One destination, for `/status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationState {
    /// The end of its application id and its endpoint, or the plugin and where entries go.
    pub label: String,
    /// Events waiting or on their way.
    pub queued: usize,
    /// Bytes of its segments.
    pub bytes: u64,
    /// Events acknowledged since the start.
    pub delivered: u64,
    /// Failures since the last success.
    pub failures: u32,
    /// The last fault in words.
    pub last_error: Option<String>,
    /// Milliseconds since the last acknowledgement.
    pub last_success_age_ms: Option<u64>,
}

/// A generation that this process owns.
pub(crate) struct Holding {
    pub(crate) generation: Generation,
    /// Segments that are still there.
    pub(crate) segments: usize,
    /// Its rings stay: they are ours and alive, or of a version that we cannot read.
    pub(crate) keep: bool,
}

/// All that the thread works on.
pub(crate) struct Works {
    pub(crate) house: House,
    pub(crate) holdings: Vec<Option<Holding>>,
    pub(crate) own: usize,
    pub(crate) lanes: Lanes,
    pub(crate) shared: Arc<Shared>,
    senders: Senders,
    quarantine: Quarantine,
    random: u64,
    disk_fault_said: bool,
}

impl Works {
    pub(crate) fn new(
        house: House,
        lanes: Lanes,
        shared: Arc<Shared>,
        quarantine: Quarantine,
        random: u64,
    ) -> Self {
        let senders = Senders::new(Arc::clone(&shared.bell));
        Self {
            house,
            holdings: Vec::new(),
            own: 0,
            lanes,
            shared,
            senders,
            quarantine,
            random,
            disk_fault_said: false,
        }
    }

    /// Appends everything that is staged to one generation's journal.
    ///
    /// # Errors
    /// The disk refuses. Nothing is lost: what is staged stays, and its records stay in the rings.
    pub(crate) fn flush(&mut self, generation: usize) -> io::Result<()> {
        let Some(Some(holding)) = self.holdings.get_mut(generation) else { return Ok(()) };
        for lane in &mut self.lanes.lanes {
            let made = lane.flush(generation, &holding.generation.journal);
            match made {
                Ok(made) => holding.segments += made,
                Err(fault) => {
                    if !std::mem::replace(&mut self.disk_fault_said, true) {
                        log::error!("events cannot be written to the journal: {fault}");
                    }
                    return Err(fault);
                }
            }
        }
        self.disk_fault_said = false;
        Ok(())
    }

    /// Enters what an intake has counted.
    pub(crate) fn enter(&self, tally: &Tally, adopted: bool) {
        if tally.events == 0 {
            return;
        }
        self.shared.ledger.enter(|entries| {
            if adopted {
                entries.adopted += tally.events;
            } else {
                entries.taken += tally.events;
            }
            entries.queued = entries.queued + tally.queued - tally.pushed_out;
            entries.delivered += tally.delivered;
            entries.dropped.merge(&tally.dropped);
            entries.dropped.add(Loss::QueueFull, tally.pushed_out);
            entries.bodies_left_out += tally.bodies_left_out;
        });
    }

    /// Starts batches where they may start, by the time at each start: neither a slow disk nor many
    /// destinations before this one may carry a post out of its part of the cycle.
    fn dispatch(&mut self, round: Round) {
        let lanes = self.lanes.lanes.len();
        let bytes_max = self.lanes.lane_bytes_max();
        // While others wait, too, nobody takes more than half of the threads.
        let busy = self.lanes.lanes.iter().filter(|lane| !lane.is_empty()).count();
        let flights_max = if busy > 1 { SENDERS_MAX / 2 } else { FLIGHTS_MAX };
        let turn = (now_ms() / TICK_MS) as usize;
        for step in 0..lanes {
            // Another lane begins each time, so that none is always the last to find a thread.
            let number = (step + turn) % lanes.max(1);
            let Some(lane) = self.lanes.lanes.get_mut(number) else { continue };
            let began_ms = now_ms();
            // One thread is kept for destinations without trouble.
            let reserve = usize::from(lane.health.failures > 0);
            while self.senders.free() > reserve
                && lane.flying() < flights_max
                && let Some(job) = lane.next_job(number, now_ms(), round, bytes_max)
            {
                self.senders.send(job);
            }
            lane.looked(began_ms);
        }
    }

    /// Takes back what the senders have finished, and writes down what that settles before
    /// anything new is sent.
    fn settle(&mut self, now_ms: u64) {
        let mut touched = Vec::new();
        while let Some(finished) = self.senders.finished() {
            touched.push(finished.lane);
            self.settle_one(finished, now_ms);
        }
        touched.sort_unstable();
        touched.dedup();
        for lane in touched {
            self.persist(lane);
        }
    }

    fn settle_one(&mut self, finished: Finished, now_ms: u64) {
        let Finished { lane, lot, outcome, first_id, .. } = finished;
        let Some(lane) = self.lanes.lanes.get_mut(lane) else { return };
        let alone = lot.count == 1 && matches!(outcome, Outcome::Refused { .. });
        let suspect = if alone { lane.text_of(lot) } else { None };
        let Settled { delivered, refused } =
            lane.finish(lot, outcome, now_ms, next_random(&mut self.random));
        if refused > 0 {
            let why = lane.health.last_error.clone().unwrap_or_default();
            self.keep_aside(first_id, suspect, &why);
        }
        if delivered + refused > 0 {
            self.shared.ledger.enter(|entries| {
                entries.delivered += delivered;
                entries.dropped.add(Loss::Refused, refused);
                entries.queued -= delivered + refused;
            });
        }
    }

    pub(crate) fn persist(&mut self, lane: usize) {
        let (holdings, own) = (&self.holdings, self.own);
        let shelf_of = |generation: usize| {
            let holding = holdings.get(generation)?.as_ref()?;
            // Segments of a dead generation whose rings could not be drained are evidence.
            let removable = generation == own || !holding.keep;
            Some(Shelf { journal: &holding.generation.journal, removable })
        };
        let Some(lane) = self.lanes.lanes.get_mut(lane) else { return };
        match lane.persist(shelf_of) {
            Ok(removed) => removed.into_iter().for_each(|generation| self.segment_gone(generation)),
            Err(fault) => log::warn!("what is delivered cannot be written down: {fault}"),
        }
    }

    fn segment_gone(&mut self, generation: usize) {
        let Some(place) = self.holdings.get_mut(generation) else { return };
        let Some(holding) = place else { return };
        holding.segments -= 1;
        if holding.segments == 0 && !holding.keep {
            self.let_go(generation);
        }
    }

    /// Removes a generation of which nothing is left.
    pub(crate) fn let_go(&mut self, generation: usize) {
        let Some(holding) = self.holdings.get_mut(generation).and_then(Option::take) else {
            return;
        };
        let name = holding.generation.name.clone();
        if let Err(fault) = self.house.remove(&holding.generation) {
            log::debug!("generation {name} stays: {fault}");
        }
    }

    /// Events received, sent, delivered and failed so far, and the share that came through.
    fn beat(&self) {
        let lanes = self.lanes.lanes.iter();
        let (received, sent, delivered, failed) = lanes.fold((0, 0, 0, 0), |sums, lane| {
            let health = &lane.health;
            let (received, sent) = (sums.0 + lane.counts.received, sums.1 + health.sent);
            (received, sent, sums.2 + health.delivered, sums.3 + health.failed)
        });
        if received == 0 {
            return;
        }
        let ratio = delivered as f64 / received as f64;
        log::info!(
            "[moesif] heartbeat - {received}/{sent}/{delivered}/{failed}/{ratio:.3} in pid - {}",
            std::process::id()
        );
    }

    /// Keeps a refused event aside, for a person to look at.
    fn keep_aside(&mut self, id: uuid::Uuid, text: Option<Vec<u8>>, why: &str) {
        let kept = text.map(|text| self.quarantine.keep(clock::wall_us(), id, &text));
        match kept {
            Some(Ok(path)) => log::warn!(
                "[moesif] event {id} is refused and dropped ({why}); a copy is in {}",
                path.display()
            ),
            _ => log::warn!("[moesif] event {id} is refused and dropped: {why}"),
        }
    }

    fn describe(&self, logs: &Logs, now_ms: u64) {
        let describe = |lane: &Lane| DestinationState {
            label: lane.target.label(),
            queued: lane.len(),
            bytes: lane.bytes(),
            delivered: lane.health.delivered,
            failures: lane.health.failures,
            last_error: lane.health.last_error.clone(),
            last_success_age_ms: lane.health.last_success_ms.map(|at| now_ms - at),
        };
        let states = self.lanes.lanes.iter().map(describe).chain(logs.describe(now_ms)).collect();
        *self.shared.destinations.lock().unwrap_or_else(PoisonError::into_inner) = states;
        let lanes = self.lanes.lanes.iter();
        let states = lanes.map(|lane| ApplicationState::of(lane, now_ms)).collect();
        *self.shared.applications.lock().unwrap_or_else(PoisonError::into_inner) = states;
    }
}

/// The thread's whole life, after the start has adopted what the dead have left.
pub(crate) struct Drain {
    pub(crate) works: Works,
    pub(crate) rings: Vec<Consumer>,
    pub(crate) intake: Intake,
    /// Everything that was taken is in the journal; the rings may be released and read on.
    pub(crate) flushed: bool,
    pub(crate) broken: Vec<bool>,
}

impl Drain {
    pub(crate) fn new(works: Works, rings: Vec<Consumer>, intake: Intake) -> Self {
        let broken = vec![false; rings.len()];
        Self { works, rings, intake, flushed: true, broken }
    }

    /// Runs until an order ends it.
    pub(crate) fn run(mut self) {
        let (mut described_ms, mut beat_ms) = (0, now_ms());
        loop {
            let at_ms = now_ms();
            let stop = self.obey();
            self.works.settle(at_ms);
            // Before anything is written: the disk may take its time.
            self.works.dispatch(Round::Usual);
            let more = self.round(at_ms);
            self.intake.logs.turn(&self.works.shared.ledger, at_ms, false);
            if at_ms - described_ms >= DESCRIBE_MS {
                described_ms = at_ms;
                if at_ms - beat_ms >= HEARTBEAT_MS {
                    beat_ms = at_ms;
                    self.works.beat();
                }
                self.intake.logs.tidy(at_ms);
                self.works.describe(&self.intake.logs, at_ms);
            }
            if let Some(rounds_ms) = stop {
                return self.end(rounds_ms);
            }
            if !more {
                let to_cycle_ms = CYCLE_MS - now_ms() % CYCLE_MS;
                self.works.shared.bell.wait(TICK_MS.min(to_cycle_ms));
            }
        }
    }

    fn obey(&mut self) -> Option<u64> {
        let orders = &self.works.shared.orders;
        let orders = std::mem::take(&mut *orders.lock().unwrap_or_else(PoisonError::into_inner));
        let mut stop = None;
        for order in orders {
            match order {
                Order::Configure(settings) => self.works.lanes.configure(&settings),
                Order::Stop(rounds_ms) => stop = Some(rounds_ms),
            }
        }
        stop
    }

    /// One round: records into staged events, those into the journal, then the rings are released.
    /// True if a ring still has more.
    fn round(&mut self, now_ms: u64) -> bool {
        let mut more = false;
        if self.flushed {
            for (core, ring) in self.rings.iter_mut().enumerate() {
                if self.broken.get(core).copied().unwrap_or(true) {
                    continue;
                }
                match drain_ring(ring, core as u16, &mut self.intake, &mut self.works.lanes, now_ms)
                {
                    Drained::Empty => {}
                    Drained::More => more = true,
                    Drained::Broken => {
                        log::error!(
                            "the event ring of core {core} is damaged: its events are lost"
                        );
                        if let Some(broken) = self.broken.get_mut(core) {
                            *broken = true;
                        }
                    }
                }
            }
            self.works.enter(&std::mem::take(&mut self.intake.tally), false);
        }
        self.flushed = self.works.flush(self.works.own).is_ok();
        if self.flushed {
            self.rings.iter_mut().for_each(Consumer::release);
            self.works.lanes.lanes.iter_mut().for_each(Lane::rotate);
        }
        more && self.flushed
    }

    /// Rings into the journal, then sending for at most `rounds_ms`, then everything that is empty
    /// is removed.
    fn end(mut self, rounds_ms: u64) {
        let start_ms = now_ms();
        while self.round(now_ms()) && now_ms() - start_ms < LAST_ROUNDS_MS {}
        let begun_ms = now_ms();
        loop {
            let now_ms = now_ms();
            self.works.settle(now_ms);
            self.intake.logs.turn(&self.works.shared.ledger, now_ms, true);
            // Events are safe in the journal; log entries are not: they get a moment in any case.
            let waiting = self.works.lanes.lanes.iter().any(|lane| !lane.is_empty());
            let events = waiting && now_ms < begun_ms + rounds_ms;
            let last_ms = begun_ms + rounds_ms.max(LAST_MS);
            let entries = self.intake.logs.may_deliver() && now_ms < last_ms;
            if !events && !entries {
                break;
            }
            if events {
                self.works.dispatch(Round::Last);
            }
            self.works.shared.bell.wait(TICK_MS);
        }
        self.intake.logs.abandon(&self.works.shared.ledger);
        if self.works.lanes.flying() > 0 {
            log::info!("batches on their way at the end will be sent again under the same ids");
        }
        if self.flushed && !self.broken.contains(&true) {
            adopt::leave(&mut self.works);
        }
    }
}

/// How far a ring was drained.
pub(crate) enum Drained {
    Empty,
    More,
    Broken,
}

/// Takes about [`ROUND_BYTES_MAX`] of records from one ring.
pub(crate) fn drain_ring(
    ring: &mut Consumer,
    core: u16,
    intake: &mut Intake,
    lanes: &mut Lanes,
    now_ms: u64,
) -> Drained {
    lanes.weigh();
    loop {
        match ring.take() {
            Next::Empty => return Drained::Empty,
            Next::Broken => return Drained::Broken,
            Next::Record { position, bytes } => intake.take(lanes, core, position, bytes, now_ms),
        }
        if ring.unreleased_bytes() >= ROUND_BYTES_MAX {
            return Drained::More;
        }
    }
}

/// The exporter's clock, in milliseconds.
pub(crate) fn now_ms() -> u64 {
    clock::now_us() / 1_000
}
