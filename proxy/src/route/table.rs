//! A hash table whose parts are shared between its versions.
//!
//! A new version costs one pointer per bucket, and a copy of the buckets that a write touches.
//! Lookups hash with a fixed seed: keys come from the configuration, never from a client.

use std::sync::Arc;

/// Buckets of the smallest table; a power of two.
const BUCKETS_MIN: usize = 16;
/// Entries per bucket, on average, above which the number of buckets is multiplied by four.
const FILL_MAX: usize = 8;

#[derive(Debug, Clone)]
pub(super) struct Table<K, V> {
    buckets: Box<[Arc<Bucket<K, V>>]>,
    len: usize,
}

/// Hashes apart from entries, so that a miss touches little memory.
#[derive(Debug, Clone)]
struct Bucket<K, V> {
    hashes: Vec<u64>,
    entries: Vec<(K, V)>,
}

impl<K: Clone + Eq, V: Clone> Table<K, V> {
    pub(super) fn new() -> Self {
        Self { buckets: empty(BUCKETS_MIN), len: 0 }
    }

    /// The value whose key has this hash and satisfies `is`.
    pub(super) fn get(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&V> {
        let bucket = self.buckets.get(index(hash, self.buckets.len()))?;
        let equal = bucket.hashes.iter().zip(&bucket.entries).filter(|(other, _)| **other == hash);
        let mut equal = equal.map(|(_, entry)| entry);
        equal.find(|(key, _)| is(key)).map(|(_, value)| value)
    }

    /// Puts, replaces or (with `None`) removes; gives what was there.
    pub(super) fn set(&mut self, hash: u64, key: &K, value: Option<V>) -> Option<V> {
        if self.len >= self.buckets.len() * FILL_MAX {
            self.grow();
        }
        let at = index(hash, self.buckets.len());
        let bucket = Arc::make_mut(self.buckets.get_mut(at)?);
        let found = bucket.position(hash, key);
        match (found, value) {
            (Some(at), Some(value)) => {
                let entry = bucket.entries.get_mut(at)?;
                Some(std::mem::replace(&mut entry.1, value))
            }
            (Some(at), None) => {
                self.len -= 1;
                bucket.hashes.swap_remove(at);
                Some(bucket.entries.swap_remove(at).1)
            }
            (None, Some(value)) => {
                self.len += 1;
                bucket.hashes.push(hash);
                bucket.entries.push((key.clone(), value));
                None
            }
            (None, None) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn grow(&mut self) {
        let mut buckets = empty(self.buckets.len() * 4);
        for old in &self.buckets {
            for (hash, (key, value)) in old.hashes.iter().zip(&old.entries) {
                if let Some(bucket) = buckets.get_mut(index(*hash, self.buckets.len() * 4)) {
                    let bucket = Arc::make_mut(bucket);
                    bucket.hashes.push(*hash);
                    bucket.entries.push((key.clone(), value.clone()));
                }
            }
        }
        self.buckets = buckets;
    }
}

impl<K: Eq, V> Bucket<K, V> {
    fn position(&self, hash: u64, key: &K) -> Option<usize> {
        let mut all = self.hashes.iter().zip(&self.entries);
        all.position(|(other, entry)| *other == hash && entry.0 == *key)
    }
}

fn empty<K, V>(count: usize) -> Box<[Arc<Bucket<K, V>>]> {
    let bucket = || Arc::new(Bucket { hashes: Vec::new(), entries: Vec::new() });
    (0..count).map(|_| bucket()).collect()
}

/// The high bits choose the bucket; `count` is a power of two.
fn index(hash: u64, count: usize) -> usize {
    usize::try_from(hash >> 32).unwrap_or_default() & (count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn versions_do_not_disturb_each_other() {
        let mut table = Table::new();
        for key in 0..1_000 {
            assert_eq!(table.set(hash(key), &key, Some(key * 2)), None);
        }
        let old = table.clone();
        for key in 0..500 {
            assert_eq!(table.set(hash(key), &key, None), Some(key * 2));
        }
        assert_eq!(table.set(hash(700), &700, Some(1)), Some(1_400));
        for key in 0..1_000 {
            assert_eq!(old.get(hash(key), |k| *k == key), Some(&(key * 2)));
            let expected = (key >= 500).then_some(if key == 700 { 1 } else { key * 2 });
            assert_eq!(table.get(hash(key), |k| *k == key).copied(), expected);
        }
        assert_eq!((old.len(), table.len()), (1_000, 500));
        assert_eq!(table.set(hash(3), &3, None), None);
    }

    #[test]
    fn equal_hashes_are_told_apart_by_their_keys() {
        let mut table = Table::new();
        table.set(1, &"a", Some(1));
        table.set(1, &"b", Some(2));
        assert_eq!(table.get(1, |key| *key == "b"), Some(&2));
        assert_eq!(table.set(1, &"a", None), Some(1));
        assert_eq!(table.get(1, |key| *key == "b"), Some(&2));
    }
}
