//! One destination: its queue, its segments, its health.

use crate::batch::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, CYCLE_MS, Look, cycle_budget_ms};
use crate::journal::done::{Done, DoneFile};
use crate::journal::entry::{self, Head};
use crate::journal::segment::{SEGMENT_BYTES_MAX, Segment};
use crate::losses::{Dropped, Loss};
use crate::moesif::settings::Settings;
use crate::queue::{End, Lot, Place, Queue, Settled};
use crate::retry;
use crate::senders::{Job, Run};
use crate::sink::{Outcome, Sink, Target};
use log::Level;
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment of which everything is settled is closed (and so removed) from this size on.
const SEGMENT_BYTES_IDLE: u64 = 1 << 20;

/// What the configuration says about sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Events a batch.
    pub batch_events: usize,
    /// Milliseconds of each cycle in which posts may start.
    pub budget_ms: u64,
    /// Events that may wait.
    pub queue_events_max: usize,
}

impl Terms {
    /// The terms of one plugin row.
    pub fn of(settings: &Settings) -> Self {
        let batch_events = match settings.batch_size {
            0 => BATCH_EVENTS_MAX,
            events => events.min(BATCH_EVENTS_MAX),
        };
        let budget_ms = cycle_budget_ms(settings.max_callback_time_spent_ms, CYCLE_MS);
        Self { batch_events, budget_ms, queue_events_max: settings.event_queue_size }
    }
}

/// How a destination has been doing.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Failures since the last success; posts that fail together are one.
    pub failures: u32,
    /// Whether the destination has said that the application may not send, since the last success.
    pub paused: bool,
    /// No batch starts before this time.
    pub not_before_ms: u64,
    /// What went wrong last, in words.
    pub last_error: Option<String>,
    /// When a batch was last acknowledged.
    pub last_success_ms: Option<u64>,
    /// Events acknowledged.
    pub delivered: u64,
    /// Events in posts that were begun, repeats included.
    pub sent: u64,
    /// Events in posts that failed.
    pub failed: u64,
    /// Batches that started outside of the budget: too much waited, or the machine was too busy for
    /// a whole cycle.
    pub budget_overruns: u64,
}

/// The lane's own book: what came, and what was given up. What was delivered is in [`Health`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Events that were for this destination.
    pub received: u64,
    /// Events given up.
    pub dropped: Dropped,
}

/// A segment that still has unsettled events, or is open for more.
struct Part {
    generation: usize,
    number: u32,
    file: Arc<File>,
    path: PathBuf,
    bytes: u64,
}

/// One destination.
pub struct Lane {
    /// Whom it is for.
    pub target: Target,
    /// How it is doing.
    pub health: Health,
    /// Its book.
    pub counts: Counts,
    terms: Terms,
    sink: Arc<dyn Sink>,
    queue: Queue,
    hash: u64,
    parts: VecDeque<Part>,
    part_bytes: u64,
    /// The number, within this lane, of the first of `parts`.
    first_part: u64,
    /// The newest part, while it is open.
    writer: Option<Segment>,
    numbers: HashMap<usize, u32>,
    done: HashMap<usize, (DoneFile, Option<Done>)>,
    staged: Vec<u8>,
    staged_places: Vec<Place>,
    last_open_ms: u64,
}

impl Lane {
    /// An empty lane.
    pub fn new(target: Target, terms: Terms, sink: Arc<dyn Sink>) -> Self {
        let hash = target.lane();
        Self {
            target,
            health: Health::default(),
            counts: Counts::default(),
            terms,
            sink,
            queue: Queue::new(),
            hash,
            parts: VecDeque::new(),
            part_bytes: 0,
            first_part: 0,
            writer: None,
            numbers: HashMap::new(),
            done: HashMap::new(),
            staged: Vec::new(),
            staged_places: Vec::new(),
            last_open_ms: 0,
        }
    }

    /// New terms, from the newest configuration; they hold from the next batch on.
    pub fn configure(&mut self, terms: Terms, sink: Arc<dyn Sink>) {
        self.terms = terms;
        self.sink = sink;
        // Whatever was wrong may be repaired: try at once.
        self.health.not_before_ms = 0;
    }

    /// Events that are not settled.
    pub fn len(&self) -> usize {
        self.queue.len() + self.staged_places.len()
    }

    /// Whether all is settled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Batches on their way.
    pub const fn flying(&self) -> usize {
        self.queue.flying()
    }

    /// Bytes of segments and of what is staged.
    pub const fn bytes(&self) -> u64 {
        self.part_bytes + self.staged.len() as u64
    }

    /// Bytes of events that wait or are on their way.
    pub const fn queued_bytes(&self) -> u64 {
        self.queue.bytes() + self.staged.len() as u64
    }

    /// When the oldest event that is not settled came.
    pub fn oldest_ms(&self) -> Option<u64> {
        let staged = self.staged_places.first().map(|place| place.came_ms);
        self.queue.oldest_ms().or(staged)
    }

    /// Whether `event_queue_size` is reached.
    pub fn is_full(&self) -> bool {
        self.len() >= self.terms.queue_events_max
    }

    /// Puts an event's entry into memory, for the next [`Lane::flush`].
    pub fn stage(&mut self, head: &Head, now_ms: u64, write: impl FnOnce(&mut Vec<u8>)) {
        self.counts.received += 1;
        let start = self.staged.len();
        entry::push(&mut self.staged, head, write);
        self.staged_places.push(Place {
            segment: 0,
            offset: start as u64,
            len: (self.staged.len() - start) as u32,
            came_ms: now_ms,
        });
    }

    /// Counts an event that is given up before it was staged.
    pub fn give_up(&mut self, loss: Loss) {
        self.counts.received += 1;
        self.counts.dropped.add(loss, 1);
    }

    /// Forgets what is staged; its records stay in their rings. Gives the number of events.
    pub fn unstage(&mut self) -> u64 {
        self.staged.clear();
        let events = self.staged_places.drain(..).count() as u64;
        self.counts.received -= events;
        events
    }

    /// Appends what is staged to the generation's journal. When this has returned, a SIGKILL can no
    /// longer take it. Gives the number of segments made (0 or 1).
    ///
    /// # Errors
    /// The disk refuses; everything stays staged, and the same call may be made again.
    pub fn flush(&mut self, generation: usize, journal: &Path) -> io::Result<usize> {
        if self.staged.is_empty() {
            return Ok(0);
        }
        let mut made = 0;
        if self.writer.is_none() {
            self.begin_segment(generation, journal)?;
            made = 1;
        }
        let Some(writer) = &mut self.writer else { return Ok(made) };
        let start = writer.bytes;
        writer.append(&self.staged)?;
        let segment = self.first_part + self.parts.len() as u64 - 1;
        if let Some(part) = self.parts.back_mut() {
            self.part_bytes += writer.bytes - part.bytes;
            part.bytes = writer.bytes;
        }
        for place in self.staged_places.drain(..) {
            self.queue.push(Place { segment, offset: start + place.offset, ..place });
        }
        self.staged.clear();
        Ok(made)
    }

    fn begin_segment(&mut self, generation: usize, journal: &Path) -> io::Result<()> {
        let number = self.numbers.get(&generation).map_or(1, |last| last + 1);
        let segment = Segment::create(journal, self.hash, number, &self.target)?;
        self.numbers.insert(generation, number);
        self.part_bytes += segment.bytes;
        self.parts.push_back(Part {
            generation,
            number,
            file: Arc::clone(&segment.file),
            path: segment.path.clone(),
            bytes: segment.bytes,
        });
        self.writer = Some(segment);
        Ok(())
    }

    /// Closes the open segment if it is large, or large enough and settled. Only at the end of a
    /// round, when everything appended is released: see `journal.rs`, rule 2.
    pub fn rotate(&mut self) {
        let close = |bytes: u64| {
            bytes >= SEGMENT_BYTES_MAX || (bytes >= SEGMENT_BYTES_IDLE && self.queue.is_empty())
        };
        if self.writer.as_ref().is_some_and(|writer| close(writer.bytes)) {
            self.writer = None;
        }
    }

    /// Closes the open segment; the next flush begins one, perhaps of another generation.
    pub fn close(&mut self) {
        self.writer = None;
    }

    /// Takes over a dead process's segment, oldest first.
    pub fn adopt(&mut self, found: Found, now_ms: u64) {
        let segment = self.first_part + self.parts.len() as u64;
        let last = self.numbers.entry(found.generation).or_insert(found.number);
        *last = found.number.max(*last);
        self.part_bytes += found.bytes;
        self.parts.push_back(Part {
            generation: found.generation,
            number: found.number,
            file: Arc::new(found.file),
            path: found.path,
            bytes: found.bytes,
        });
        self.counts.received += found.entries.len() as u64;
        for (offset, len) in found.entries {
            self.queue.push(Place { segment, offset, len, came_ms: now_ms });
        }
    }

    /// Numbers of a dead generation's segments up to this one are used.
    pub fn reserve_number(&mut self, generation: usize, number: u32) {
        let last = self.numbers.entry(generation).or_insert(number);
        *last = number.max(*last);
    }

    /// The next batch, if one may start now. `bytes_max` is how many bytes may wait here; above
    /// half of them, or of `event_queue_size`, the budget no longer counts.
    pub fn next_job(
        &mut self,
        lane: usize,
        now_ms: u64,
        round: Round,
        bytes_max: u64,
    ) -> Option<Job> {
        let mut look = self.look(now_ms);
        look.oldest_ms = now_ms.saturating_sub(self.queue.oldest_waiting_ms()?);
        look.full = self.queue.waiting() >= self.terms.batch_events;
        let many = self.queue.len() > self.terms.queue_events_max / 2;
        look.pressed = round == Round::Last || many || self.queue.bytes() > bytes_max / 2;
        if now_ms < self.health.not_before_ms || !look.may_start() {
            return None;
        }
        let lot = self.queue.take(self.terms.batch_events, BATCH_BYTES_MAX)?;
        self.health.sent += lot.count as u64;
        self.health.budget_overruns += u64::from(!look.is_within() && round == Round::Usual);
        Some(Job { lane, lot, runs: self.runs(lot), sink: Arc::clone(&self.sink) })
    }

    const fn look(&self, now_ms: u64) -> Look {
        // A lane that was never looked at has missed nothing.
        let last_open_ms = if self.last_open_ms == 0 { now_ms } else { self.last_open_ms };
        let budget_ms = self.terms.budget_ms;
        Look { now_ms, last_open_ms, budget_ms, oldest_ms: 0, full: false, pressed: false }
    }

    /// Notes a look at the lane that began at this time and is over.
    pub const fn looked(&mut self, began_ms: u64) {
        if self.last_open_ms == 0 || self.look(began_ms).is_open() {
            self.last_open_ms = began_ms;
        }
    }

    /// The text of the first event of a batch that is not settled.
    pub fn text_of(&self, lot: Lot) -> Option<Vec<u8>> {
        let place = self.queue.places(lot).next()?;
        let part = self.part(place.segment)?;
        let text_len = (place.len as usize).checked_sub(entry::HEAD_BYTES)?;
        let mut text = vec![0; text_len];
        part.file.read_exact_at(&mut text, place.offset + entry::HEAD_BYTES as u64).ok()?;
        Some(text)
    }

    fn runs(&self, lot: Lot) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut end = None;
        for place in self.queue.places(lot) {
            let next = (place.segment, place.offset + u64::from(place.len));
            if end == Some((place.segment, place.offset))
                && let Some(run) = runs.last_mut()
            {
                run.lens.push(place.len);
            } else if let Some(part) = self.part(place.segment) {
                let file = Arc::clone(&part.file);
                runs.push(Run { file, offset: place.offset, lens: vec![place.len] });
            }
            end = Some(next);
        }
        runs
    }

    fn part(&self, segment: u64) -> Option<&Part> {
        self.parts.get(segment.checked_sub(self.first_part)? as usize)
    }

    /// Takes a batch back. [`Lane::persist`] then writes down what it has settled.
    pub fn finish(&mut self, lot: Lot, outcome: Outcome, now_ms: u64, random: u64) -> Settled {
        let end = match outcome {
            Outcome::Delivered => {
                self.recovered(lot, now_ms);
                End::Delivered
            }
            Outcome::Refused { why } => {
                self.health.last_error = Some(why);
                End::Refused
            }
            Outcome::Later { why, retry_after_ms } => {
                self.health.failed += lot.count as u64;
                let asked = retry_after_ms.unwrap_or(0).min(retry::RETRY_AFTER_MS_MAX);
                let first = self.health.failures == 0;
                // Nothing starts during a wait, so what fails meanwhile started before it: posts
                // that fail together are one failure, and do not double the wait once for each.
                let until_ms = if now_ms < self.health.not_before_ms {
                    self.health.not_before_ms.max(now_ms + asked)
                } else {
                    self.health.failures = self.health.failures.saturating_add(1);
                    now_ms + retry::delay_ms(self.health.failures, random).max(asked)
                };
                self.failed(until_ms, &why, level(first, Level::Error));
                End::Again
            }
            Outcome::Paused { why } => {
                self.health.failed += lot.count as u64;
                let paused = std::mem::replace(&mut self.health.paused, true);
                self.health.failures = self.health.failures.saturating_add(1);
                self.failed(now_ms + retry::PAUSE_MS, &why, level(!paused, Level::Warn));
                End::Again
            }
        };
        let settled = self.queue.finish(lot, end);
        self.counts.dropped.add(Loss::Refused, settled.refused);
        settled
    }

    fn recovered(&mut self, lot: Lot, now_ms: u64) {
        if self.health.failures > 0 {
            log::info!("[moesif] {} accepts events again", self.target.label());
        }
        self.health.failures = 0;
        self.health.paused = false;
        self.health.not_before_ms = 0;
        self.health.last_success_ms = Some(now_ms);
        self.health.delivered += lot.count as u64;
        log::debug!(
            "[moesif] Events sent successfully. Total number of events send - {}",
            lot.count
        );
    }

    fn failed(&mut self, not_before_ms: u64, why: &str, level: Level) {
        log::log!(level, "[moesif] {why} ({})", self.target.label());
        self.health.not_before_ms = not_before_ms;
        self.health.last_error = Some(why.to_owned());
    }

    /// Writes down what is settled and removes segments of which nothing is left. Gives the
    /// generation of each removed segment.
    ///
    /// # Errors
    /// The disk refuses; then events may be sent again after a restart, under their old ids.
    pub fn persist<'h>(
        &mut self,
        shelf_of: impl Fn(usize) -> Option<Shelf<'h>>,
    ) -> io::Result<Vec<usize>> {
        self.write_done(&shelf_of)?;
        let mut removed = Vec::new();
        while let Some(part) = self.parts.front() {
            let open = self.writer.is_some() && self.parts.len() == 1;
            let settled = self.queue.first_segment().is_none_or(|first| first > self.first_part);
            let removable = shelf_of(part.generation).is_some_and(|shelf| shelf.removable);
            if open || !settled || !removable {
                break;
            }
            match fs::remove_file(&part.path) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => removed.push(part.generation),
            }
            self.part_bytes -= part.bytes;
            self.parts.pop_front();
            self.first_part += 1;
        }
        Ok(removed)
    }

    fn write_done<'h>(&mut self, shelf_of: impl Fn(usize) -> Option<Shelf<'h>>) -> io::Result<()> {
        let Some((segment, offset)) = self.queue.settled_to() else { return Ok(()) };
        let Some(part) = self.part(segment) else { return Ok(()) };
        let (generation, done) = (part.generation, Done { segment: part.number, offset });
        if let std::collections::hash_map::Entry::Vacant(place) = self.done.entry(generation) {
            let Some(shelf) = shelf_of(generation) else { return Ok(()) };
            let (file, _before) = DoneFile::open(&shelf.journal.join(done_name(self.hash)))?;
            place.insert((file, None));
        }
        let Some((file, written)) = self.done.get_mut(&generation) else { return Ok(()) };
        if *written != Some(done) {
            file.write(done)?;
            *written = Some(done);
        }
        Ok(())
    }
}

/// How loudly a failure is told: once per outage, since the log of a gateway is no place to count a
/// collector's failures.
const fn level(first: bool, loud: Level) -> Level {
    if first { loud } else { Level::Debug }
}

/// The name of a lane's file of acknowledgements.
pub fn done_name(lane: u64) -> String {
    format!("{lane:016x}.done")
}

/// Which round of sending it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// One of many.
    Usual,
    /// The process is about to end: budget and company do not matter.
    Last,
}

/// Where a generation's segments lie, and whether they may go.
pub struct Shelf<'h> {
    /// The directory.
    pub journal: &'h Path,
    /// False while rings may need them as evidence.
    pub removable: bool,
}

/// A dead process's segment, read.
pub struct Found {
    /// Its generation.
    pub generation: usize,
    /// Its number.
    pub number: u32,
    /// The file.
    pub file: File,
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes of whole entries and head.
    pub bytes: u64,
    /// Offset and length of the entries that are not settled.
    pub entries: Vec<(u64, u32)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Sink for Nobody {
        fn deliver(&self, _batch: Vec<u8>, _events: usize) -> Outcome {
            unreachable!("the test takes the batches")
        }
    }

    /// A lane with so many events, in batches of ten, and what keeps its segment.
    fn lane(events: u64) -> (Lane, tempfile::TempDir) {
        let prefix = tempfile::tempdir().unwrap();
        let terms = Terms { batch_events: 10, budget_ms: 10, queue_events_max: 1_000 };
        let mut lane = Lane::new(Target::moesif("a", "http://b"), terms, Arc::new(Nobody));
        for number in 0..events {
            let transaction_id = u128::from(number).to_be_bytes();
            let head =
                Head { len: 0, position: number, at_us: 0, transaction_id, core: 0, part: 0 };
            lane.stage(&head, 1, |text| text.push(b'x'));
        }
        lane.flush(0, prefix.path()).unwrap();
        (lane, prefix)
    }

    fn take(lane: &mut Lane, now_ms: u64, round: Round) -> Vec<Lot> {
        let lots = std::iter::from_fn(|| lane.next_job(0, now_ms, round, 1 << 30));
        let lots = lots.map(|job| job.lot).collect();
        lane.looked(now_ms);
        lots
    }

    fn later(lane: &mut Lane, lot: Lot, now_ms: u64, retry_after_ms: Option<u64>) {
        lane.finish(lot, Outcome::Later { why: String::new(), retry_after_ms }, now_ms, 0);
    }

    #[test]
    fn posts_that_fail_together_are_one_failure() {
        let (mut lane, _prefix) = lane(1_000);
        for turn in 0..5 {
            for lot in take(&mut lane, turn, Round::Last) {
                lane.finish(lot, Outcome::Delivered, turn, 0);
            }
        }
        let lots = take(&mut lane, 2_000, Round::Last);
        assert!(lots.len() > 20, "{} fly", lots.len());
        lots.iter().for_each(|lot| later(&mut lane, *lot, 2_500, None));
        assert_eq!((lane.health.failures, lane.health.not_before_ms), (1, 2_600));
        // The first after the wait stands alone, and is the second failure.
        let lots = take(&mut lane, 2_600, Round::Last);
        assert_eq!(lots.len(), 1);
        later(&mut lane, lots[0], 2_700, None);
        assert_eq!((lane.health.failures, lane.health.not_before_ms), (2, 2_900));
    }

    #[test]
    fn of_several_waits_that_are_asked_for_the_longest_holds() {
        let (mut lane, _prefix) = lane(1_000);
        take(&mut lane, 1, Round::Last).iter().for_each(|lot| {
            lane.finish(*lot, Outcome::Delivered, 1, 0);
        });
        let lots = take(&mut lane, 2_000, Round::Last);
        for (lot, asked_ms) in lots.iter().zip([7_000, 9_000]) {
            later(&mut lane, *lot, 2_000, Some(asked_ms));
        }
        assert_eq!((lots.len(), lane.health.not_before_ms), (2, 11_000));
    }

    #[test]
    fn a_new_destination_waits_for_its_cycle() {
        let (mut lane, _prefix) = lane(5);
        assert_eq!(take(&mut lane, 700, Round::Usual).len(), 0, "outside of the budget");
        assert_eq!(take(&mut lane, 710, Round::Usual).len(), 0);
        assert_eq!(take(&mut lane, CYCLE_MS + 1, Round::Usual).len(), 1);
    }
}
