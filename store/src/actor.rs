//! The single writer: one thread that answers calls and publishes what they changed.
//!
//! ```text
//! submit ─► bounded queue ─► [ answer, answer, … ] ─► one commit ─► one publish ─► replies
//!                              on the working tables    backend       watch, tables()
//! ```
//! Calls that wait together share one transaction and one snapshot. A reply leaves after the
//! publish: whoever has read it finds its write in [`Store::tables`] and in the watch. If the
//! commit fails, the working tables are dropped, and all calls of that group are refused.
//!
//! A backend that others write to as well is asked at the beginning of a turn what they wrote;
//! that is published first, so every call is answered from what the database says. If it cannot be
//! asked, calls that need rows are refused and the last snapshot stays. A commit that contradicts
//! what others wrote meanwhile is tried again from the beginning, call by call.

mod adopt;
mod names;
mod replace;
mod working;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use names::names;
pub use working::{Key, Working};

use crate::admin::{Call, Reply};
use crate::backend::{Backend, BackendFault, CommitFault, Turn, Wake};
use crate::check::{Facts, Faults};
use crate::entities::{WORKSPACE, WORKSPACES};
use crate::schema::Catalogue;
use crate::snapshot::{Change, Tables};
use crate::value::{Row, Value};
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use uuid::{Uuid, uuid};

/// The id of the one workspace where there is no database: Kong's.
const DECLARATIVE_WORKSPACE: Uuid = uuid!("0dc6f45b-8f8d-40d2-a504-473544ee190b");
/// Most calls that wait; the next one is answered 503.
pub const CALLS_QUEUED_MAX: usize = 4096;
/// Most calls in one transaction.
pub const GROUP_CALLS_MAX: usize = 512;
/// Most rows of one entity that end in one turn.
const EXPIRED_ROWS_MAX: usize = 1000;
/// How often rows that have ended are looked for when nobody calls.
const IDLE_MS: u64 = 1000;
/// How often a call is answered anew because others wrote at the same moment.
const TRIES_MAX: usize = 3;

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
    /// Runs once per group, after the commit and before the replies. The first time, before
    /// [`start`] returns, no change is told: every row is new.
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
    /// How often it may still be answered.
    tries: usize,
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
        let job = Job { call, done, tries: TRIES_MAX };
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
    let StorePlan { mut backend, catalogue, answer, mut watch, mut now_ms, mut random } = plan;
    let mut loaded = load(backend.as_mut(), &catalogue)?;
    let now_s = now_ms().div_euclid(1000);
    if backend.name() == "off" {
        let _made = first_workspace(&catalogue, &mut loaded, now_s, DECLARATIVE_WORKSPACE);
    }
    if backend.name() == "sqlite" {
        let mut bytes = [0; 16];
        random(&mut bytes);
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
        let made = first_workspace(&catalogue, &mut loaded, now_s, id);
        backend.commit(made.as_slice()).map_err(|fault| match fault {
            CommitFault::Failed(fault) | CommitFault::Refused(fault) => fault,
            CommitFault::Conflict(_) => BackendFault("somebody else writes it".to_owned()),
        })?;
    }
    let loaded = Arc::new(loaded);
    (watch.publish)(Arc::clone(&loaded), &[]);
    let tables = Arc::new(ArcSwap::new(loaded));
    let (sender, jobs) = bounded(CALLS_QUEUED_MAX);
    let (bell, wakes) = bounded::<()>(1);
    let wake: Wake = Arc::new(move || {
        // One that waits already says the same.
        let _full = bell.try_send(());
    });
    backend.published(&tables.load_full());
    backend.follow(wake);
    let reachable = Arc::new(AtomicBool::new(backend.reachable()));
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
        .spawn(move || actor.run(&jobs, &wakes))
        .map_err(|why| BackendFault(format!("cannot start the store's thread: {why}")))?;
    Ok(Store { tables, reachable, jobs: Some(sender), thread: Some(thread) })
}

fn load(backend: &mut dyn Backend, catalogue: &Catalogue) -> Result<Tables, BackendFault> {
    let mut rows = Vec::new();
    backend.load(catalogue, &mut |row| rows.push(Arc::new(row)))?;
    let mut tables = Tables::filled(catalogue, rows).map_err(|(row, taken)| {
        let words = format!("{} {}: {taken:?} is in it twice", row.entity().name, row.id());
        BackendFault(format!("the database contradicts itself: {words}"))
    })?;
    tables.set_number(1);
    tables.set_config_hash(backend.config_hash());
    Ok(tables)
}

/// The one workspace, where a new database has none. Other backends bring theirs along.
fn first_workspace(
    catalogue: &Arc<Catalogue>,
    tables: &mut Tables,
    now_s: i64,
    id: Uuid,
) -> Option<Change> {
    let entity = catalogue.entity(WORKSPACES.name)?;
    if !tables.is_empty(entity.name) {
        return None;
    }
    let row = Value::object([
        ("id", Value::text(id.to_string())),
        ("name", Value::text(WORKSPACE)),
        ("created_at", Value::Integer(now_s)),
        ("updated_at", Value::Integer(now_s)),
        ("meta", Value::Map(Vec::new())),
        ("config", Value::Map(Vec::new())),
    ]);
    let row = Arc::new(Row::pack(entity, catalogue, row, tables.number()));
    tables.put(&row).ok()?;
    Some(Change { entity, before: None, after: Some(row) })
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
    fn run(&mut self, jobs: &Receiver<Job>, wakes: &Receiver<()>) {
        let mut wakes = wakes.clone();
        loop {
            let mut group = Vec::new();
            let mut idle = false;
            select! {
                recv(jobs) -> job => match job {
                    Ok(job) => group.push(job),
                    Err(_) => return,
                },
                recv(wakes) -> woken => {
                    if woken.is_err() {
                        // Nobody will ever wake us: wait for calls alone.
                        wakes = crossbeam_channel::never();
                        continue;
                    }
                }
                default(Duration::from_millis(IDLE_MS)) => idle = true,
            }
            let reachable = self.backend.reachable();
            self.note(reachable);
            group.extend(jobs.try_iter().take(GROUP_CALLS_MAX - 1));
            self.turn(group, idle);
        }
    }

    fn note(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::Relaxed);
    }

    /// Answers a group of calls; those that need no rows whatever the backend says.
    fn turn(&mut self, group: Vec<Job>, idle: bool) {
        if !self.backend.is_shared() {
            let _never = self.answers(group, true);
            return;
        }
        let (apart, group): (Vec<Job>, Vec<Job>) =
            group.into_iter().partition(|job| job.call.need().is_none());
        let empty = group.is_empty();
        if !apart.is_empty() {
            let _never = self.answers(apart, false);
        }
        if !empty {
            self.shared_turn(group);
        } else if idle {
            self.end_expired();
        } else {
            self.begin(Turn::Follow);
        }
    }

    /// Rows that have ended go here, and by and by in the database.
    fn end_expired(&mut self) {
        let now_s = (self.now_ms)().div_euclid(1000);
        let tables = self.tables.load();
        let ended = |entity: &'static crate::schema::Entity| {
            entity.ttl && !tables.expired(entity.name, now_s, 1).is_empty()
        };
        if self.catalogue.entities.iter().copied().any(ended) && self.begin(Turn::Write) {
            let _later = self.answers(Vec::new(), true);
        }
    }

    /// A group on a backend that others write to as well.
    fn shared_turn(&mut self, group: Vec<Job>) {
        let need = group.iter().filter_map(|job| job.call.need()).max().unwrap_or(Turn::Read);
        if let Err(why) = self.try_begin(need) {
            for job in group {
                (job.done)(Reply::message(503, &why.to_string()));
            }
            return;
        }
        let Some(again) = self.answers(group, false) else { return };
        // Others wrote what one of these contradicts. Alone, each finds out what is the matter.
        again.into_iter().for_each(|job| self.shared_turn(vec![job]));
    }

    fn begin(&mut self, turn: Turn) -> bool {
        self.try_begin(turn).is_ok()
    }

    /// Begins a turn and publishes what others wrote.
    fn try_begin(&mut self, turn: Turn) -> Result<(), BackendFault> {
        let tables = self.tables.load_full();
        let begun = self.backend.begin(turn, &tables);
        self.note(begun.is_ok());
        match begun {
            Ok(found) => {
                let (tables, changes) = adopt::adopt(&tables, found, &mut self.version);
                self.publish(tables, &changes);
                Ok(())
            }
            Err(why) => {
                log::debug!("the turn cannot begin: {why}");
                Err(why)
            }
        }
    }

    /// Answers, commits and publishes, and lets the replies go. Gives the calls back if the commit
    /// contradicts what others wrote and nothing was replied.
    fn answers(&mut self, group: Vec<Job>, expire: bool) -> Option<Vec<Job>> {
        let now_ms = (self.now_ms)();
        let mut working = Working {
            tables: Tables::clone(&self.tables.load()),
            changes: Vec::new(),
            catalogue: &self.catalogue,
            facts: Facts { now_s: now_ms.div_euclid(1000), now_ms, random: self.random.as_mut() },
            version: &mut self.version,
            check: &mut self.watch.check,
            read_only: self.backend.name() == "off",
        };
        if expire {
            working.delete_expired(EXPIRED_ROWS_MAX);
        }
        let mut replies = Vec::with_capacity(group.len());
        for job in group {
            let mark = working.mark();
            let answer = AssertUnwindSafe(|| (self.answer)(&mut working, &job.call));
            let reply = catch_unwind(answer).unwrap_or_else(|_| {
                log::error!("{} {} panicked", job.call.method, job.call.path);
                Reply::unexpected()
            });
            if reply.status >= 400 {
                working.rewind(mark);
            }
            replies.push((job, reply));
        }
        let Working { tables, changes, .. } = working;
        let refusal = match self.keep(tables, &changes) {
            Ok(()) => None,
            Err(CommitFault::Conflict(conflict)) if replies.len() == 1 => {
                log::info!("another node wrote at the same moment: {:?}", conflict.kind);
                let job = replies.pop().map(|(job, _)| job)?;
                if job.tries > 1 {
                    let job = Job { tries: job.tries - 1, ..job };
                    return Some(vec![job]);
                }
                (job.done)(Reply::from(conflict.fault(&changes)));
                return None;
            }
            Err(CommitFault::Conflict(_)) => {
                return Some(replies.into_iter().map(|(job, _)| job).collect());
            }
            // Nothing is written: what only one of them has done is not the others' fault.
            Err(CommitFault::Refused(_)) if replies.len() > 1 && self.backend.is_shared() => {
                return Some(replies.into_iter().map(|(job, _)| job).collect());
            }
            Err(CommitFault::Failed(why) | CommitFault::Refused(why)) => {
                Some(match self.backend.is_shared() {
                    true => Reply::message(503, &why.to_string()),
                    false => Reply::unexpected(),
                })
            }
        };
        for (job, reply) in replies {
            (job.done)(refusal.clone().unwrap_or(reply));
        }
        None
    }

    /// Commits and publishes; if that fails nothing has changed here.
    fn keep(&mut self, tables: Tables, changes: &[Change]) -> Result<(), CommitFault> {
        let hash = tables.config_hash();
        let is_same = changes.is_empty() && hash == self.tables.load().config_hash();
        if is_same && !self.backend.is_shared() {
            return Ok(());
        }
        self.backend.keep_hash(hash);
        let committed = self.backend.commit(changes);
        if let Err(CommitFault::Refused(why)) = &committed {
            log::error!("a change is refused: {why}");
        }
        if let Err(CommitFault::Failed(why)) = &committed {
            self.note(false);
            log::error!("{} changes are lost: {why}", changes.len());
        } else if !changes.is_empty() {
            self.note(true);
        }
        committed?;
        self.publish(tables, changes);
        Ok(())
    }

    fn publish(&mut self, tables: Tables, changes: &[Change]) {
        if changes.is_empty() && tables.config_hash() == self.tables.load().config_hash() {
            return;
        }
        let tables = Arc::new(tables);
        self.tables.store(Arc::clone(&tables));
        (self.watch.publish)(Arc::clone(&tables), changes);
        self.backend.published(&tables);
    }
}
