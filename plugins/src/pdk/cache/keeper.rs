//! The office's end of the cache: the only writer of its table.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use runtime::board::Board;
use runtime::clock;
use runtime::mailbox::{Asked, Desk};

use super::{Coming, Entry, Key, Parcel, SETTLE_MS_MAX, SHARDS, Shard, Table, shard_of};

/// Entries that are taken in before the table is published.
const BATCH_MAX: usize = 256;
/// How long the keeper waits for an entry before it looks for ended ones.
const WAIT_MS: u32 = 1_000;
/// Shards that are looked through for ended entries in one turn.
const SWEPT_SHARDS: usize = 64;
/// The largest entry is such a part of all.
const ENTRY_PART: usize = 8;

/// Keeps what cores send, within a bound of bytes: the oldest go first. Shared by the thread that
/// takes entries in and the Admin API; cores only see what it publishes.
pub struct Keeper {
    board: Arc<Board<Table>>,
    state: Mutex<State>,
    coming: Arc<Coming>,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    shards: Vec<Arc<Shard>>,
    taken: Vec<u64>,
    /// Every entry in the order in which it came, and some that are no more.
    order: VecDeque<(Key, u64)>,
    entries: usize,
    bytes: usize,
    swept: usize,
}

/// Tells every entry from every other: its core, and which of that core's entries it is.
pub(super) fn stamp(core: usize, number: u64) -> u64 {
    ((core as u64) << 48) | number
}

fn core_and_number(stamp: u64) -> (usize, u64) {
    ((stamp >> 48) as usize, stamp & ((1 << 48) - 1))
}

impl Keeper {
    /// An empty table for so many cores, which will hold at most so many bytes.
    pub fn new(cores: usize, bytes_max: usize) -> Self {
        let table = Table::new(cores);
        let state = State {
            shards: table.shards.to_vec(),
            taken: table.taken.to_vec(),
            ..State::default()
        };
        let (board, state) = (Arc::new(Board::new(Arc::new(table))), Mutex::new(state));
        Self { board, state, coming: Arc::new(Coming::new(cores)), bytes_max }
    }

    pub(super) const fn coming(&self) -> &Arc<Coming> {
        &self.coming
    }

    pub(super) fn board(&self) -> &Arc<Board<Table>> {
        &self.board
    }

    pub(super) fn entry_bytes_max(&self) -> usize {
        self.bytes_max / ENTRY_PART
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes entries in for ever. Runs on a thread of its own, which may be slow.
    pub fn run(&self, desk: &Desk<Parcel, ()>) -> ! {
        loop {
            let Some(first) = desk.next_blocking(WAIT_MS) else {
                self.sweep(clock::wall_us());
                continue;
            };
            let more = std::iter::from_fn(|| desk.try_next()).take(BATCH_MAX);
            let (mut entries, mut waiting) = (Vec::new(), Vec::new());
            for Asked { question, reply } in std::iter::once(first).chain(more) {
                match question {
                    Some(entry) => entries.push(entry),
                    None => waiting.push(reply),
                }
            }
            if !entries.is_empty() {
                self.take(entries.into_iter());
            }
            waiting.into_iter().for_each(|reply| reply.give(()));
        }
    }

    /// Takes entries in and publishes them.
    pub fn take(&self, batch: impl Iterator<Item = Arc<Entry>>) {
        let mut state = self.state();
        for entry in batch {
            let (core, number) = core_and_number(entry.stamp);
            if let Some(taken) = state.taken.get_mut(core) {
                *taken = number.max(*taken);
            }
            state.put(entry);
        }
        while state.bytes > self.bytes_max && state.forget_oldest() {}
        state.compact();
        self.publish(&state);
    }

    /// Waits until all that cores have sent so far is taken in, a tenth of a second at most: who
    /// was answered may at once ask for what was kept, or have it forgotten.
    pub fn settle(&self) {
        let sent: Vec<u64> = self.coming.sent().collect();
        for _ in 0..SETTLE_MS_MAX {
            let is_taken = sent.iter().zip(&self.state().taken).all(|(sent, taken)| taken >= sent);
            if is_taken {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The entry under a key, if it has not ended.
    pub fn get(&self, key: &Key, now_us: u64) -> Option<Arc<Entry>> {
        self.board.newest().get(key).filter(|entry| entry.ends_us > now_us).cloned()
    }

    /// Forgets the entry under a key.
    pub fn forget(&self, key: &Key) -> bool {
        let mut state = self.state();
        let found = state.remove(key);
        if found {
            self.publish(&state);
        }
        found
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut state = self.state();
        state.shards = (0..SHARDS).map(|_| Arc::default()).collect();
        state.order.clear();
        (state.entries, state.bytes) = (0, 0);
        self.publish(&state);
    }

    /// How many entries are kept, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        let state = self.state();
        (state.entries, state.bytes)
    }

    /// Looks through a few shards for ended entries, and drops what cores have sent back.
    pub fn sweep(&self, now_us: u64) {
        self.board.drop_returned();
        let mut state = self.state();
        let from = state.swept;
        state.swept = (from + SWEPT_SHARDS) % SHARDS;
        let shards = state.shards.iter().skip(from).take(SWEPT_SHARDS);
        let ended: Vec<Key> = shards
            .flat_map(|shard| shard.values())
            .filter(|entry| entry.ends_us <= now_us)
            .map(|entry| entry.key)
            .collect();
        if !ended.is_empty() {
            for key in &ended {
                state.remove(key);
            }
            state.compact();
            self.publish(&state);
        }
    }

    fn publish(&self, state: &State) {
        let (shards, taken) = (state.shards.clone().into(), state.taken.clone().into());
        self.board.publish(Arc::new(Table { shards, taken }));
    }
}

impl State {
    fn put(&mut self, entry: Arc<Entry>) {
        self.remove(&entry.key);
        self.order.push_back((entry.key, entry.stamp));
        self.bytes += entry.bytes();
        self.entries += 1;
        if let Some(shard) = self.shards.get_mut(shard_of(&entry.key)) {
            Arc::make_mut(shard).insert(entry.key, entry);
        }
    }

    fn remove(&mut self, key: &Key) -> bool {
        let Some(shard) = self.shards.get_mut(shard_of(key)) else { return false };
        if !shard.contains_key(key) {
            return false;
        }
        let removed = Arc::make_mut(shard).remove(key);
        self.bytes -= removed.as_ref().map_or(0, |entry| entry.bytes());
        self.entries -= usize::from(removed.is_some());
        removed.is_some()
    }

    fn stands(&self, (key, stamp): &(Key, u64)) -> bool {
        let shard = self.shards.get(shard_of(key));
        shard.and_then(|shard| shard.get(key)).is_some_and(|entry| entry.stamp == *stamp)
    }

    /// False when there is nothing to forget.
    fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.order.pop_front() else { return false };
        if self.stands(&oldest) {
            self.remove(&oldest.0);
        }
        true
    }

    /// Forgets the order of what is no more, when that is most of it.
    fn compact(&mut self) {
        if self.order.len() > 2 * self.entries + BATCH_MAX {
            let order = std::mem::take(&mut self.order);
            self.order = order.into_iter().filter(|item| self.stands(item)).collect();
        }
    }
}
