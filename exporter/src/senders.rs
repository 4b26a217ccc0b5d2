//! The threads that wait for destinations, so that nothing else has to.

use crate::journal::entry::HEAD_BYTES;
use crate::queue::Lot;
use crate::sink::{Outcome, Sink};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use runtime::ring::Bell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use uuid::Uuid;

/// Most sender threads, made on demand.
pub const SENDERS_MAX: usize = 64;
/// Most bytes of batches on their way at once: with [`SENDERS_MAX`] it bounds the pool's memory.
const FLYING_BYTES_MAX: usize = 64 << 20;
/// How long a sender thread waits for its next batch before it ends: what a burst has brought up
/// must not be kept for ever, with its connection and its share of the allocator's memory.
const IDLE: Duration = Duration::from_secs(10);
/// Least room that is made for a batch.
const BATCH_ROOM_MIN: usize = 64 << 10;
/// Where the transaction id stands in an entry's head.
const ID: Range<usize> = 24..40;
/// Stack of a sender thread: a TLS handshake is the deepest thing on it.
const STACK_BYTES: usize = 512 << 10;

/// Neighbouring entries of one segment.
pub struct Run {
    /// The segment.
    pub file: Arc<File>,
    /// Where the first entry begins.
    pub offset: u64,
    /// Bytes of each entry.
    pub lens: Vec<u32>,
}

/// One batch to deliver.
pub struct Job {
    /// The lane it came from.
    pub lane: usize,
    /// What it consists of.
    pub lot: Lot,
    /// Where its entries are.
    pub runs: Vec<Run>,
    /// Where it goes.
    pub sink: Arc<dyn Sink>,
}

impl Job {
    /// Bytes of its entries.
    fn bytes(&self) -> usize {
        self.runs.iter().flat_map(|run| &run.lens).map(|len| *len as usize).sum()
    }
}

/// One batch that came back.
pub struct Finished {
    /// The lane.
    pub lane: usize,
    /// The batch.
    pub lot: Lot,
    /// What became of it.
    pub outcome: Outcome,
    /// The id of its first event, for the log.
    pub first_id: Uuid,
    bytes: usize,
}

/// The pool.
pub struct Senders {
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    results: Receiver<Finished>,
    finished: Sender<Finished>,
    bell: Arc<Bell>,
    threads: Arc<AtomicUsize>,
    idle: Duration,
    flying: usize,
    flying_bytes: usize,
}

impl Senders {
    /// A pool without threads; `bell` is rung whenever a batch comes back.
    pub fn new(bell: Arc<Bell>) -> Self {
        Self::with_idle(bell, IDLE)
    }

    fn with_idle(bell: Arc<Bell>, idle: Duration) -> Self {
        let (jobs, queue) = bounded(SENDERS_MAX);
        // Never more results than jobs.
        let (finished, results) = unbounded();
        let threads = Arc::default();
        Self { jobs, queue, results, finished, bell, threads, idle, flying: 0, flying_bytes: 0 }
    }

    /// Batches that could be sent at once; none while too many bytes are on their way.
    pub const fn free(&self) -> usize {
        if self.flying_bytes >= FLYING_BYTES_MAX { 0 } else { SENDERS_MAX - self.flying }
    }

    /// Batches on their way.
    pub const fn flying(&self) -> usize {
        self.flying
    }

    /// Sends a batch; only while [`Senders::free`] is not 0. Gives it back as finished if no thread
    /// can be had.
    pub fn send(&mut self, job: Job) {
        let bytes = job.bytes();
        self.flying += 1;
        self.flying_bytes += bytes;
        let _open = self.jobs.send(job);
        // Only now: a thread that ends looks for jobs after it is no longer counted, so either it
        // sees this one, or the count says that it is gone.
        let threads = self.threads.load(Ordering::SeqCst);
        if self.flying > threads
            && threads < SENDERS_MAX
            && let Err(fault) = self.spawn()
            && self.threads.load(Ordering::SeqCst) == 0
        {
            self.give_back(&fault);
        }
    }

    /// Without any thread a job comes back; otherwise the threads that are there take it later.
    fn give_back(&self, fault: &io::Error) {
        let Ok(job) = self.queue.try_recv() else { return };
        let why = format!("no thread for sending: {fault}");
        let outcome = Outcome::Later { why, retry_after_ms: None };
        let (lane, lot, bytes) = (job.lane, job.lot, job.bytes());
        let _open =
            self.finished.send(Finished { lane, lot, outcome, first_id: Uuid::nil(), bytes });
    }

    /// A batch that came back.
    pub fn finished(&mut self) -> Option<Finished> {
        match self.results.try_recv() {
            Ok(finished) => {
                self.flying -= 1;
                self.flying_bytes -= finished.bytes;
                Some(finished)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    fn spawn(&self) -> io::Result<()> {
        let (queue, finished) = (self.queue.clone(), self.finished.clone());
        let (bell, threads, idle) = (Arc::clone(&self.bell), Arc::clone(&self.threads), self.idle);
        let work = move || {
            while let Some(job) = next(&queue, &threads, idle) {
                let (lane, lot, bytes) = (job.lane, job.lot, job.bytes());
                let (outcome, first_id) = deliver(&job);
                drop(job);
                if finished.send(Finished { lane, lot, outcome, first_id, bytes }).is_err() {
                    return;
                }
                bell.ring();
            }
        };
        self.threads.fetch_add(1, Ordering::SeqCst);
        let spawned = thread::Builder::new()
            .name("tollgate-sender".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(work);
        if spawned.is_err() {
            self.threads.fetch_sub(1, Ordering::SeqCst);
        }
        spawned.map(drop)
    }
}

/// A thread's next job; `None` when it has waited long enough, or the pool is gone.
fn next(queue: &Receiver<Job>, threads: &AtomicUsize, idle: Duration) -> Option<Job> {
    let waited = queue.recv_timeout(idle);
    if let Ok(job) = waited {
        return Some(job);
    }
    threads.fetch_sub(1, Ordering::SeqCst);
    let job = queue.try_recv().ok()?;
    threads.fetch_add(1, Ordering::SeqCst);
    Some(job)
}

fn deliver(job: &Job) -> (Outcome, Uuid) {
    let (batch, first_id) = match batch_of(&job.runs) {
        Ok(batch) => batch,
        Err(fault) => {
            let why = format!("cannot read the journal: {fault}");
            return (Outcome::Later { why, retry_after_ms: None }, Uuid::nil());
        }
    };
    // A sink's own fault must not cost the batch or the thread.
    let outcome = catch_unwind(AssertUnwindSafe(|| job.sink.deliver(batch, job.lot.count)));
    let outcome = outcome.unwrap_or_else(|_| Outcome::Later {
        why: "the sender failed within itself".to_owned(),
        retry_after_ms: None,
    });
    (outcome, first_id)
}

/// The entries' texts as one JSON array, and the first event's id.
///
/// Entries are read into the batch itself and their texts moved together over their heads. The
/// room is a power of two: an allocator keeps places for each class of sizes it has served, and
/// batches of all sizes made memory grow by some 30 bytes for each event at first.
fn batch_of(runs: &[Run]) -> io::Result<(Vec<u8>, Uuid)> {
    let bytes: usize = runs.iter().flat_map(|run| &run.lens).map(|len| *len as usize).sum();
    let mut batch = Vec::with_capacity((bytes + 2).next_power_of_two().max(BATCH_ROOM_MIN));
    let mut first_id = None;
    batch.push(b'[');
    for run in runs {
        let mut at = batch.len();
        let mut end = at;
        let run_bytes: usize = run.lens.iter().map(|len| *len as usize).sum();
        batch.resize(at + run_bytes, 0);
        run.file.read_exact_at(batch.get_mut(at..).unwrap_or_default(), run.offset)?;
        for len in &run.lens {
            let next = at + *len as usize;
            if first_id.is_none() {
                let id = batch.get(at + ID.start..at + ID.end);
                first_id = Some(id.and_then(|id| Uuid::from_slice(id).ok()).unwrap_or_default());
            } else if let Some(comma) = batch.get_mut(end) {
                // An entry's head is longer than a comma, so nothing unread is written over.
                *comma = b',';
                end += 1;
            }
            let text = (at + HEAD_BYTES).min(next)..next;
            let text_bytes = text.len();
            batch.copy_within(text, end);
            end += text_bytes;
            at = next;
        }
        batch.truncate(end);
    }
    batch.push(b']');
    Ok((batch, first_id.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::{self, Head};
    use std::time::Instant;

    /// Takes everything after a while, so that several threads are needed.
    struct Slow;

    impl Sink for Slow {
        fn deliver(&self, _batch: Vec<u8>, _events: usize) -> Outcome {
            thread::sleep(Duration::from_millis(30));
            Outcome::Delivered
        }
    }

    fn send(pool: &mut Senders, count: usize) {
        for first in 0..count as u64 {
            let lot = Lot { first, count: 1 };
            pool.send(Job { lane: 0, lot, runs: Vec::new(), sink: Arc::new(Slow) });
        }
    }

    #[track_caller]
    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_batch_is_the_texts_of_its_entries() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let texts = ["{}", "[1,2]", "\"three\"", "4"];
        let mut written = b"a segment's head".to_vec();
        let mut run = |texts: &[&str]| {
            let offset = written.len() as u64;
            let push = |text: &&str| {
                let id = [text.len() as u8; 16];
                let head =
                    Head { len: 0, position: 0, at_us: 0, transaction_id: id, core: 0, part: 0 };
                let start = written.len();
                entry::push(&mut written, &head, |out| out.extend_from_slice(text.as_bytes()));
                (written.len() - start) as u32
            };
            let lens = texts.iter().map(push).collect();
            Run { file: Arc::clone(&file), offset, lens }
        };
        let runs = [run(&texts[..3]), run(&texts[3..])];
        file.write_all_at(&written, 0).unwrap();
        let (batch, first_id) = batch_of(&runs).unwrap();
        assert_eq!(String::from_utf8(batch).unwrap(), format!("[{}]", texts.join(",")));
        assert_eq!(first_id, Uuid::from_bytes([2; 16]));
        assert_eq!(batch_of(&[]).unwrap().0, b"[]");
        let cut = Run { offset: written.len() as u64 - 1, file, lens: vec![60] };
        assert!(
            batch_of(&[cut]).is_err(),
            "a segment that was cut off is a fault, not half a batch"
        );
    }

    #[test]
    fn threads_end_when_nothing_is_to_be_sent_and_come_again() {
        let mut pool =
            Senders::with_idle(Arc::new(Bell::new().unwrap()), Duration::from_millis(40));
        for round in 0..20 {
            send(&mut pool, 3);
            assert_eq!(pool.flying(), 3);
            wait_until("every batch comes back", || {
                while pool.finished().is_some() {}
                pool.flying() == 0
            });
            if round % 2 == 0 {
                // The others come about when the threads are ending.
                wait_until("idle threads end", || pool.threads.load(Ordering::SeqCst) == 0);
            } else {
                thread::sleep(Duration::from_millis(30 + round));
            }
        }
    }
}
