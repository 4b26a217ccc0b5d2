//! A map that the office changes by copying one shard, and that cores read while it does.
//!
//! Copying costs the slice of pointers and the one shard that holds the key, so a write among
//! 1,000,000 rows copies about a thousand entries, and every other shard is shared with the maps
//! before it.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// How many shards a map has. A power of two: the hash's upper bits choose, since the shard's own
/// table uses the lower ones.
const SHARDS: usize = 1024;
const SHARD_SHIFT: u32 = u64::BITS - SHARDS.trailing_zeros();

type Shard<K, V> = HashMap<K, V, FixedState>;

/// An immutable map; `with` makes the next one.
pub struct Shards<K, V> {
    shards: Arc<[Arc<Shard<K, V>>]>,
    hasher: FixedState,
}

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), hasher: self.hasher.clone() }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Default for Shards<K, V> {
    fn default() -> Self {
        let hasher = FixedState::default();
        let empty = Arc::new(Shard::with_hasher(hasher.clone()));
        Self { shards: (0..SHARDS).map(|_| Arc::clone(&empty)).collect(), hasher }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    /// The value under a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.shards.get(self.place(key))?.get(key)
    }

    /// How many values there are. Counts shard by shard: for the office.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.is_empty())
    }

    /// Every pair, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// The next map: `Some` puts a value under its key, `None` takes it out. A shard is copied once
    /// however many of its keys change.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (K, Option<V>)>) -> Self {
        let mut shards: Vec<Arc<Shard<K, V>>> = self.shards.to_vec();
        for (key, value) in changes {
            let place = self.place(&key);
            let Some(shard) = shards.get_mut(place) else { continue };
            let shard = Arc::make_mut(shard);
            match value {
                Some(value) => drop(shard.insert(key, value)),
                None => drop(shard.remove(&key)),
            }
        }
        Self { shards: shards.into(), hasher: self.hasher.clone() }
    }

    fn place(&self, key: &K) -> usize {
        (self.hasher.hash_one(key) >> SHARD_SHIFT) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_not_touched_by_the_one_made_from_it() {
        let first = Shards::default().with((0..5_000_u32).map(|n| (n, Some(n))));
        let second = first.with([(7, None), (8, Some(80)), (5_000, Some(1))]);
        assert_eq!((first.get(&7), first.get(&8), first.len()), (Some(&7), Some(&8), 5_000));
        assert_eq!((second.get(&7), second.get(&8), second.len()), (None, Some(&80), 5_000));
        assert!(!second.is_empty() && Shards::<u32, u32>::default().is_empty());
    }

    #[test]
    fn a_write_shares_every_shard_but_one() {
        let first = Shards::default().with((0..5_000_u32).map(|n| (n, Some(n))));
        let second = first.with([(7, Some(70))]);
        let shared =
            first.shards.iter().zip(second.shards.iter()).filter(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(shared.count(), SHARDS - 1);
    }
}
