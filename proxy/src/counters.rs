//! Counters that nodes share: the office thread between the cores and a Redis or the database.
//!
//! ```text
//! cores ─ notes ──► accounts, one for each place ── every so often ─► add ─► totals ─► tally
//! cores ─ ask ────► redis: one script decides all windows of a request ─► answer
//! ```
//! An account adds what this node has counted and learns what all nodes have; the difference, which
//! is what the others have counted, goes into this node's tally, where requests are decided. While
//! a place does not answer, nothing is lost: the counts wait in the account.

mod account;
mod redis;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use plugins::pdk::counters::{Counter, NOTES_MAX, Place, RedisPlace, SharedCounters, Told};
use runtime::mailbox::{self, AskerSeed, Desk};
use runtime::tally::Tally;
use store::backend::postgres::Server;

use account::{Account, Ledger};
use redis::Lines;

/// How often notes are taken, in milliseconds.
const NOTES_MS: u64 = 20;
/// Places that are kept; counters of more are counted on this node alone.
const PLACES_MAX: usize = 64;

/// A core's way to the counters, not yet on its core.
pub struct CountersSeed {
    ask: AskerSeed<Counter, Told>,
    notes: crossbeam_channel::Sender<Counter>,
    lost: Arc<AtomicU64>,
}

impl CountersSeed {
    /// Opens it on its core, once.
    #[must_use]
    pub fn open(self, core: &runtime::cores::Core) -> SharedCounters {
        SharedCounters::new(self.ask.open(core), self.notes, self.lost)
    }
}

/// Starts the thread; gives a seed for each core. `database` is the one that nodes share, if there
/// is one.
///
/// # Errors
/// One sentence.
pub fn start(
    cores: usize,
    tally: &Arc<Tally>,
    database: Option<Server>,
) -> Result<Vec<CountersSeed>, String> {
    let (seeds, desk) = mailbox::channel(cores).map_err(|fault| format!("no mailbox: {fault}"))?;
    let (sender, notes) = bounded(NOTES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let tally = Arc::clone(tally);
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, run(desk, notes, tally, database));
            }
            Err(fault) => log::error!("counters are not shared: {fault}"),
        }
    };
    // It ends with the process: what it has not sent yet counts on this node alone.
    let started = thread::Builder::new().name("counters".to_owned()).spawn(work);
    started.map_err(|fault| format!("cannot start the counters' thread: {fault}"))?;
    let seed = |ask| CountersSeed { ask, notes: sender.clone(), lost: Arc::clone(&lost) };
    Ok(seeds.into_iter().map(seed).collect())
}

async fn run(
    mut desk: Desk<Counter, Told>,
    notes: Receiver<Counter>,
    tally: Arc<Tally>,
    database: Option<Server>,
) {
    let lines = Rc::new(Lines::default());
    let mut accounts = Accounts { all: HashMap::new(), lines: Rc::clone(&lines), tally, database };
    let mut tick = tokio::time::interval(Duration::from_millis(NOTES_MS));
    loop {
        tokio::select! {
            asked = desk.next() => {
                let Ok(asked) = asked else { return };
                let lines = Rc::clone(&lines);
                tokio::task::spawn_local(async move {
                    asked.reply.give(lines.decide(&asked.question).await);
                });
            }
            _ = tick.tick() => {
                notes.try_iter().take(NOTES_MAX).for_each(|note| accounts.note(note));
            }
        }
    }
}

/// One account for each place.
struct Accounts {
    all: HashMap<Option<RedisPlace>, Rc<RefCell<Account>>>,
    lines: Rc<Lines>,
    tally: Arc<Tally>,
    database: Option<Server>,
}

impl Accounts {
    fn note(&mut self, counter: Counter) {
        let (key, standing) = match &counter.place {
            Place::Cluster(standing) => (None, Arc::clone(standing)),
            Place::Redis(place, standing) => (Some(RedisPlace::clone(place)), Arc::clone(standing)),
        };
        if key.is_none() && self.database.is_none() {
            return;
        }
        if !self.all.contains_key(&key) {
            if self.all.len() >= PLACES_MAX {
                return;
            }
            let account = Rc::new(RefCell::new(Account::new(Arc::clone(&self.tally))));
            self.open(key.clone(), &account);
            self.all.insert(key.clone(), account);
        }
        if let Some(account) = self.all.get(&key) {
            account.borrow_mut().note(&counter, &standing);
        }
    }

    fn open(&self, key: Option<RedisPlace>, account: &Rc<RefCell<Account>>) {
        let ledger = match (key, &self.database) {
            (Some(place), _) => Ledger::Redis(Rc::clone(&self.lines), place),
            (None, Some(server)) => Ledger::cluster(server.clone()),
            (None, None) => return,
        };
        tokio::task::spawn_local(account::keep(Rc::clone(account), ledger));
    }
}
