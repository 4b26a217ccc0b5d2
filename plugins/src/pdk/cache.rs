//! Responses that are kept for the whole node: what every core sees and one office thread keeps.
//!
//! ```text
//!   core ─ finds ─► Table (immutable shards on a board: one atomic load) ◄─ publishes ─ Keeper
//!     └─ keeps ──► mailbox (bounded) ───────────────────────────────────────────────────► │
//!     └─ its own newest, until the table tells that they are in it                        drops
//! ```
//! A core takes no lock and frees no table. What it has just kept it finds at once; other cores see
//! from a few words of its own that something is coming (see [`Coming`]) and wait for the keeper.
//! The keeper (see [`Keeper`]) bounds the bytes.

mod coming;
mod keeper;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use runtime::board::{Board, View};
use runtime::http::head::Fields;
use runtime::mailbox::{AskFault, Asker};

use coming::Coming;
pub use keeper::Keeper;

/// What a response is kept under: a SHA-256 digest.
pub type Key = [u8; 32];

/// Names of request headers, with the values that a request had.
pub type Varies = Box<[(Box<str>, Option<Box<[u8]>>)]>;

/// A response that is kept.
#[derive(Clone, Default)]
pub struct Entry {
    /// What it is kept under.
    pub key: Key,
    /// The status.
    pub status: u16,
    /// The header lines, as the client of the first request got them from upstream and plugins.
    pub fields: Fields,
    /// The body.
    pub body: Box<[u8]>,
    /// Names of request headers on which it depends (Vary), with the values of its request.
    pub varies: Varies,
    /// When it was kept, microseconds since the Unix epoch.
    pub kept_us: u64,
    /// How many seconds it is fresh.
    pub fresh_s: u64,
    /// When it is forgotten, microseconds since the Unix epoch.
    pub ends_us: u64,
    /// Which of all entries ever this is; given by [`Cache::keep`].
    pub stamp: u64,
}

/// What an entry takes beside its bytes: allocations, its place in tables and queues.
const ENTRY_OVERHEAD_BYTES: usize = 512;

impl Entry {
    /// What it counts against the bound.
    pub fn bytes(&self) -> usize {
        let fields: usize =
            self.fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let varies: usize = self
            .varies
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, |v| v.len()) + 32)
            .sum();
        self.body.len() + fields + varies + ENTRY_OVERHEAD_BYTES
    }
}

type Shard = HashMap<Key, Arc<Entry>, FixedState>;

/// Shards of a table. A store copies one: 128 MiB of small entries make about 250 in each.
const SHARDS: usize = 1_024;

/// Everything that is kept, at one moment.
pub struct Table {
    shards: Box<[Arc<Shard>]>,
    /// For each core, how many of its entries have been taken in.
    taken: Box<[u64]>,
}

impl Table {
    fn new(cores: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Arc::default()).collect();
        Self { shards, taken: vec![0; cores].into() }
    }

    /// The entry under a key.
    pub fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.shards.get(shard_of(key))?.get(key)
    }

    fn taken(&self, core: usize) -> u64 {
        self.taken.get(core).copied().unwrap_or(0)
    }
}

/// The shard of a key. Keys are digests: any of their bits will do.
fn shard_of(key: &Key) -> usize {
    let [high, low, ..] = *key;
    usize::from(u16::from_be_bytes([high, low])) % SHARDS
}

/// What a core tells the keeper: an entry to be taken in, or nothing: then it is answered when all
/// that was sent before is in the table.
pub type Parcel = Option<Arc<Entry>>;

/// How long somebody waits for what is coming, on the road and in the Admin API.
const SETTLE_MS_MAX: u64 = 100;

/// Bytes of entries that a core has sent and not yet seen in the table; above it keeps no more.
const UNDERWAY_BYTES_MAX: usize = 16 << 20;

/// A core's end.
pub struct Cache(Option<Wired>);

struct Wired {
    view: View<Table>,
    asker: Asker<Parcel, ()>,
    coming: Arc<Coming>,
    core: usize,
    sent: Cell<u64>,
    underway: RefCell<VecDeque<Arc<Entry>>>,
    underway_bytes: Cell<usize>,
    entry_bytes_max: usize,
}

impl Cache {
    /// A cache that keeps nothing.
    pub const fn none() -> Self {
        Self(None)
    }

    /// A core's end of a keeper's mailbox.
    pub fn new(keeper: &Keeper, asker: Asker<Parcel, ()>, core: usize) -> Self {
        Self(Some(Wired {
            view: Board::view(keeper.board()),
            coming: Arc::clone(keeper.coming()),
            asker,
            core,
            sent: Cell::new(0),
            underway: RefCell::default(),
            underway_bytes: Cell::new(0),
            entry_bytes_max: keeper.entry_bytes_max(),
        }))
    }

    /// Looks at the entry under a key, if it has not ended at `now_us`.
    pub fn look<T>(&self, key: &Key, now_us: u64, look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let wired = self.0.as_ref()?;
        let table = wired.view.get();
        wired.forget_taken(&table);
        let underway = wired.underway.borrow();
        let newest = underway.iter().rev().find(|entry| entry.key == *key);
        newest.or_else(|| table.get(key)).filter(|entry| entry.ends_us > now_us).map(|e| look(e))
    }

    /// The largest entry that is kept, in bytes.
    pub fn entry_bytes_max(&self) -> usize {
        self.0.as_ref().map_or(0, |wired| wired.entry_bytes_max)
    }

    /// Keeps an entry in place of the one under its key. False where there is no room now: it is
    /// too large, or too much is under way.
    pub fn keep(&self, mut entry: Entry) -> bool {
        let Some(wired) = &self.0 else { return false };
        let bytes = entry.bytes();
        let underway_bytes = wired.underway_bytes.get() + bytes;
        if bytes > wired.entry_bytes_max || underway_bytes > UNDERWAY_BYTES_MAX {
            return false;
        }
        let number = wired.sent.get() + 1;
        entry.stamp = keeper::stamp(wired.core, number);
        let entry = Arc::new(entry);
        // Before the keeper and any client can know of it.
        wired.coming.begin(wired.core, &entry.key);
        wired.coming.set_sent(wired.core, number);
        let told: Result<(), AskFault> = wired.asker.tell(Some(Arc::clone(&entry)));
        if told.is_ok() {
            wired.sent.set(number);
            wired.underway_bytes.set(underway_bytes);
            wired.underway.borrow_mut().push_back(entry);
        } else {
            wired.coming.set_sent(wired.core, number - 1);
        }
        told.is_ok()
    }

    /// Whether another core has sent an entry under a key a moment ago, which may not be in the
    /// table yet.
    pub fn is_coming(&self, key: &Key) -> bool {
        self.0.as_ref().is_some_and(|wired| wired.coming.is_elsewhere(wired.core, key))
    }

    /// Waits until all that any core has sent so far is in the table, a tenth of a second at most.
    pub async fn settle(&self) {
        if let Some(wired) = &self.0 {
            let _late = wired.asker.ask(None, SETTLE_MS_MAX).await;
        }
    }

    /// What a core does once a second: what it has replaced goes back to the office.
    pub fn sweep(&self) {
        if let Some(wired) = &self.0 {
            let table = wired.view.get();
            wired.forget_taken(&table);
            drop(table);
            let underway = wired.underway.borrow();
            wired.coming.renew(wired.core, underway.iter().map(|entry| &entry.key));
            wired.view.sweep();
        }
    }
}

impl Wired {
    /// Forgets what the table has taken in. Entries are sent, and so taken in, in order.
    fn forget_taken(&self, table: &Table) {
        let mut underway = self.underway.borrow_mut();
        if underway.is_empty() {
            return;
        }
        let taken = keeper::stamp(self.core, table.taken(self.core));
        while let Some(entry) = underway.front()
            && entry.stamp <= taken
        {
            self.underway_bytes.set(self.underway_bytes.get() - entry.bytes());
            underway.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
