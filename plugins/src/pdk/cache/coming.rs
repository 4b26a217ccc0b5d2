//! Which entries cores have sent to the keeper a moment ago: for each core a few words that it
//! alone writes and all read, so that nobody asks an upstream for what is about to be in the table.
//!
//! A word holds the beginning of a key, at the place that the key has. Of two keys with one place
//! the newer stands there; the other is then found a moment later, as if there were no words.
//! Beside them stands how many entries the core has sent, so that the Admin API can wait for them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Key;

/// Words of a core.
const WORDS: usize = 256;

/// The words of all cores.
pub(super) struct Coming(Box<[Core]>);

struct Core {
    words: Box<[AtomicU64]>,
    sent: AtomicU64,
}

/// The word of a key: digests, so never 0.
fn word(key: &Key) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// Its place: other bits than those that choose a shard.
fn place(key: &Key) -> usize {
    let [.., last] = *key;
    usize::from(last) % WORDS
}

impl Coming {
    pub(super) fn new(cores: usize) -> Self {
        let core = |_| Core {
            words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
            sent: AtomicU64::new(0),
        };
        Self((0..cores).map(core).collect())
    }

    /// How many entries a core has sent, the one that it is about to send included.
    pub(super) fn set_sent(&self, core: usize, number: u64) {
        if let Some(core) = self.0.get(core) {
            core.sent.store(number, Ordering::Release);
        }
    }

    /// How many entries each core has sent.
    pub(super) fn sent(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|core| core.sent.load(Ordering::Acquire))
    }

    fn at(&self, core: usize, key: &Key) -> Option<&AtomicU64> {
        self.0.get(core)?.words.get(place(key))
    }

    /// A core sends an entry.
    pub(super) fn begin(&self, core: usize, key: &Key) {
        if let Some(at) = self.at(core, key) {
            at.store(word(key), Ordering::Release);
        }
    }

    /// Whether another core has sent an entry under this key.
    pub(super) fn is_elsewhere(&self, core: usize, key: &Key) -> bool {
        let others = (0..self.0.len()).filter(|other| *other != core);
        let mut words = others.filter_map(|other| self.at(other, key));
        words.any(|at| at.load(Ordering::Acquire) == word(key))
    }

    /// Nothing of a core's is coming but the entries under these keys.
    pub(super) fn renew<'k>(&self, core: usize, keys: impl Iterator<Item = &'k Key>) {
        for at in self.0.get(core).into_iter().flat_map(|core| &core.words) {
            if at.load(Ordering::Relaxed) != 0 {
                at.store(0, Ordering::Release);
            }
        }
        keys.for_each(|key| self.begin(core, key));
    }
}
