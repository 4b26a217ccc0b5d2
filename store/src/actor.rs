//! The single writer: one thread that answers calls and publishes what they changed.
//!
//! ```text
//! submit ─► bounded queue ─► [ answer, answer, … ] ─► one commit ─► one publish ─► replies
//!                              on the working tables    backend       watch, tables()
//! ```
//! Calls that wait together share one transaction and one snapshot. A reply leaves after the
//! publish: whoever has read it finds its write in [`Store::tables`] and in the watch. If the
//! commit fails, the working tables are dropped, and all calls of that group answer 500.

mod names;
mod working;

#[cfg(test)]
mod tests;

pub(crate) use names::names;
pub use working::{Key, Working};

use crate::admin::{Call, Reply};
use crate::backend::{Backend, BackendFault};
use crate::check::{Facts, Faults};
use crate::schema::Catalogue;
use crate::snapshot::{Change, Tables};
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Most calls that wait; the next one is answered 503.
pub const CALLS_QUEUED_MAX: usize = 4096;
/// Most calls in one transaction.
pub const GROUP_CALLS_MAX: usize = 512;
/// Most rows of one entity that end in one turn.
const EXPIRED_ROWS_MAX: usize = 1000;
/// How often rows that have ended are looked for when nobody calls.
const IDLE_MS: u64 = 1000;

/// Answers calls on the store's thread. The Admin API is one of these.
pub type Answer = Box<dyn FnMut(&mut Working<'_>, &Call) -> Reply + Send>;
/// Looks at a change before it is stored; its faults are the call's answer (code 2).
pub type WatchCheck = Box<dyn FnMut(&Change, &Tables) -> Result<(), Faults> + Send>;
/// Gets every published snapshot and what changed since the one before.
pub type WatchPublish = Box<dyn FnMut(Arc<Tables>, &[Change]) + Send>;
/// Unix time in milliseconds.
pub type NowMs = Box<dyn FnMut() -> i64 + Send>;
/// Fills a buffer with bytes that nobody can guess.
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;
/// Takes the answer to a call, on the store's thread: it must not block.
pub type Done = Box<dyn FnOnce(Reply) + Send>;

/// Who follows the configuration.
pub struct Watch {
    /// Runs for every change of a call, before the commit (plugins' `prepare`).
    pub check: WatchCheck,
    /// Runs once per group, after the commit and before the replies. The first time, with every
    /// row as a change, before [`start`] returns.
    pub publish: WatchPublish,
}

/// All that a store needs.
pub struct StorePlan {
    /// Where rows are kept.
    pub backend: Box<dyn Backend>,
    /// What can be configured.
    pub catalogue: Arc<Catalogue>,
    /// Who answers calls.
    pub answer: Answer,
    /// Who follows.
    pub watch: Watch,
    /// The clock.
    pub now_ms: NowMs,
    /// Chance: ids and secrets come from it.
    pub random: Random,
}

struct Job {
    call: Call,
    done: Done,
}

/// The running store. Dropping it lets the calls that wait finish first.
pub struct Store {
    tables: Arc<ArcSwap<Tables>>,
    reachable: Arc<AtomicBool>,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// The newest published tables.
    pub fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// Whether the backend answered when it was last asked: at the last write, or in the last
    /// second without calls.
    pub fn reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// [`Store::reachable`] for those who outlive nothing and own nothing.
    pub fn reachable_reading(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let reachable = Arc::clone(&self.reachable);
        move || reachable.load(Ordering::Relaxed)
    }

    /// Hands in a call. `done` runs on the store's thread, or here and now with a 503 if too many
    /// calls wait.
    pub fn submit(&self, call: Call, done: Done) {
        let job = Job { call, done };
        let Some(jobs) = &self.jobs else { return };
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = jobs.try_send(job) {
            (job.done)(Reply::message(503, "Service unavailable"));
        }
    }

    /// Lets the calls that wait finish, and closes the backend.
    pub fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the store's thread panicked");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Loads all rows, publishes them, and starts the store's thread.
///
/// # Errors
/// The backend could not be loaded, or holds rows that contradict each other.
pub fn start(plan: StorePlan) -> Result<Store, BackendFault> {
    let StorePlan { mut backend, catalogue, answer, mut watch, now_ms, random } = plan;
    let (loaded, changes) = load(backend.as_mut(), &catalogue)?;
    let loaded = Arc::new(loaded);
    (watch.publish)(Arc::clone(&loaded), &changes);
    drop(changes);
    let tables = Arc::new(ArcSwap::new(loaded));
    let (sender, jobs) = bounded(CALLS_QUEUED_MAX);
    let reachable = Arc::new(AtomicBool::new(true));
    let mut actor = Actor {
        reachable: Arc::clone(&reachable),
        version: tables.load().number(),
        tables: Arc::clone(&tables),
        backend,
        catalogue,
        answer,
        watch,
        now_ms,
        random,
    };
    let thread = std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || actor.run(&jobs))
        .map_err(|why| BackendFault(format!("cannot start the store's thread: {why}")))?;
    Ok(Store { tables, reachable, jobs: Some(sender), thread: Some(thread) })
}

fn load(
    backend: &mut dyn Backend,
    catalogue: &Catalogue,
) -> Result<(Tables, Vec<Change>), BackendFault> {
    let mut tables = Tables::new(catalogue);
    let mut changes = Vec::new();
    let mut twice = None;
    backend.load(catalogue, &mut |row| {
        let row = Arc::new(row);
        match tables.put(&row) {
            Ok(_) => {
                changes.push(Change { entity: row.entity(), before: None, after: Some(row) });
            }
            Err(taken) => {
                let words = format!("{} {}: {taken:?} is in it twice", row.entity().name, row.id());
                twice.get_or_insert(words);
            }
        }
    })?;
    match twice {
        Some(words) => Err(BackendFault(format!("the database contradicts itself: {words}"))),
        None => {
            tables.set_number(1);
            Ok((tables, changes))
        }
    }
}

/// All that the store's thread owns.
struct Actor {
    tables: Arc<ArcSwap<Tables>>,
    reachable: Arc<AtomicBool>,
    version: u64,
    backend: Box<dyn Backend>,
    catalogue: Arc<Catalogue>,
    answer: Answer,
    watch: Watch,
    now_ms: NowMs,
    random: Random,
}

impl Actor {
    fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            let mut group = Vec::new();
            match jobs.recv_timeout(Duration::from_millis(IDLE_MS)) {
                Ok(job) => group.push(job),
                Err(RecvTimeoutError::Timeout) => {
                    self.reachable.store(self.backend.reachable(), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            group.extend(jobs.try_iter().take(GROUP_CALLS_MAX - 1));
            self.turn(group);
        }
    }

    /// Answers a group of calls, commits and publishes what they changed, and lets the replies go.
    fn turn(&mut self, group: Vec<Job>) {
        let now_ms = (self.now_ms)();
        let mut working = Working {
            tables: Tables::clone(&self.tables.load()),
            changes: Vec::new(),
            catalogue: &self.catalogue,
            facts: Facts { now_s: now_ms.div_euclid(1000), now_ms, random: self.random.as_mut() },
            version: &mut self.version,
            check: &mut self.watch.check,
        };
        working.delete_expired(EXPIRED_ROWS_MAX);
        let mut replies = Vec::with_capacity(group.len());
        for Job { call, done } in group {
            let mark = working.mark();
            let answer = AssertUnwindSafe(|| (self.answer)(&mut working, &call));
            let reply = catch_unwind(answer).unwrap_or_else(|_| {
                log::error!("{} {} panicked", call.method, call.path);
                Reply::unexpected()
            });
            if reply.status >= 400 {
                working.rewind(mark);
            }
            replies.push((done, reply));
        }
        let Working { tables, changes, .. } = working;
        let stored = self.keep(tables, &changes);
        for (done, reply) in replies {
            done(if stored { reply } else { Reply::unexpected() });
        }
    }

    /// Commits and publishes; `false` if the commit failed, and nothing has changed.
    fn keep(&mut self, tables: Tables, changes: &[Change]) -> bool {
        if changes.is_empty() {
            return true;
        }
        let committed = self.backend.commit(changes);
        self.reachable.store(committed.is_ok(), Ordering::Relaxed);
        if let Err(why) = committed {
            log::error!("{} changes are lost: {why}", changes.len());
            return false;
        }
        let tables = Arc::new(tables);
        self.tables.store(Arc::clone(&tables));
        (self.watch.publish)(tables, changes);
        true
    }
}
