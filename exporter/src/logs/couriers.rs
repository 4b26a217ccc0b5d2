//! The threads that carry log entries, apart from those of events: a log sink that hangs can hold
//! up its own entries and nothing else.

use super::queue::{Batch, Delivery};
use crate::sinks::LogSink;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use runtime::ring::Bell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

/// Most threads, made on demand. A destination in trouble holds one; only when so many destinations
/// hang at one time do others wait for a thread.
pub(super) const COURIERS_MAX: usize = 256;
/// Stack of a thread: a TLS handshake is the deepest thing on it.
const STACK_BYTES: usize = 512 << 10;

/// One batch to deliver.
pub(super) struct Job {
    /// The lane it came from.
    pub(super) lane: u64,
    /// Its number there.
    pub(super) number: u64,
    /// Its entries.
    pub(super) batch: Batch,
    /// Where it goes.
    pub(super) sink: Arc<LogSink>,
}

/// One batch that came back.
pub(super) struct Finished {
    /// The lane.
    pub(super) lane: u64,
    /// Its number there.
    pub(super) number: u64,
    /// What became of it.
    pub(super) delivery: Delivery,
}

/// The pool.
pub(super) struct Couriers {
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    finished: Sender<Finished>,
    results: Receiver<Finished>,
    bell: Arc<Bell>,
    threads: usize,
    flying: usize,
}

impl Couriers {
    /// A pool without threads; `bell` is rung whenever a batch comes back.
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        let (jobs, queue) = bounded(COURIERS_MAX);
        // Never more results than jobs.
        let (finished, results) = unbounded();
        Self { jobs, queue, finished, results, bell, threads: 0, flying: 0 }
    }

    /// Whether one more batch can be sent at once.
    pub(super) const fn is_free(&self) -> bool {
        self.flying < COURIERS_MAX
    }

    /// Sends a batch; only while [`Couriers::is_free`].
    pub(super) fn send(&mut self, job: Job) {
        self.flying += 1;
        if self.flying > self.threads {
            match self.spawn() {
                Ok(()) => self.threads += 1,
                Err(fault) if self.threads == 0 => {
                    let fault = Some(format!("no thread for sending: {fault}"));
                    let delivery = Delivery { fault, ..Delivery::default() };
                    let Job { lane, number, .. } = job;
                    let _open = self.finished.send(Finished { lane, number, delivery });
                    return;
                }
                // The threads that are there will take it later.
                Err(_) => {}
            }
        }
        let _open = self.jobs.send(job);
    }

    /// A batch that came back.
    pub(super) fn finished(&mut self) -> Option<Finished> {
        match self.results.try_recv() {
            Ok(finished) => {
                self.flying -= 1;
                Some(finished)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    fn spawn(&self) -> io::Result<()> {
        let (queue, finished) = (self.queue.clone(), self.finished.clone());
        let bell = Arc::clone(&self.bell);
        let work = move || {
            while let Ok(Job { lane, number, batch, sink }) = queue.recv() {
                // A sink's own fault must not cost the thread.
                let carried = catch_unwind(AssertUnwindSafe(|| sink.deliver(&batch)));
                let delivery = carried.unwrap_or_else(|_| Delivery {
                    fault: Some("the sender failed within itself".to_owned()),
                    ..Delivery::default()
                });
                drop((batch, sink));
                if finished.send(Finished { lane, number, delivery }).is_err() {
                    return;
                }
                bell.ring();
            }
        };
        let name = "tollgate-log".to_owned();
        thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(work).map(drop)
    }
}
