//! A hash table whose parts are shared between its versions.
//!
//! A new version costs one pointer per bucket, and a copy of the buckets that a write touches.
//! Lookups hash with a fixed seed: keys come from the configuration, never from a client.

use std::sync::Arc;

/// Buckets of the smallest table; a power of two.
const BUCKETS_MIN: usize = 16;
/// Entries per bucket, on average, above which the number of buckets is multiplied by four.
const FILL_MAX: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct Table<K, V> {
    buckets: Box<[Bucket<K, V>]>,
    len: usize,
}

/// The entries of a bucket lie side by side, so that a lookup touches little memory.
type Bucket<K, V> = Arc<[Entry<K, V>]>;

#[derive(Debug, Clone)]
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K: Clone + Eq, V: Clone> Table<K, V> {
    pub(super) fn new() -> Self {
        Self { buckets: empty(BUCKETS_MIN), len: 0 }
    }

    /// The values whose keys have this hash: almost always one or none. A caller that checks what
    /// it gets need not look at the key.
    pub(super) fn with_hash(&self, hash: u64) -> impl Iterator<Item = &V> {
        let bucket = self.buckets.get(index(hash, self.buckets.len())).into_iter();
        let entries = bucket.flat_map(|bucket| bucket.iter());
        entries.filter(move |entry| entry.hash == hash).map(|entry| &entry.value)
    }

    /// The value of this key.
    pub(super) fn get(&self, hash: u64, key: &K) -> Option<&V> {
        let bucket = self.buckets.get(index(hash, self.buckets.len()))?;
        let mut entries = bucket.iter();
        entries.find(|entry| entry.hash == hash && entry.key == *key).map(|entry| &entry.value)
    }

    /// Puts, replaces or (with `None`) removes; gives what was there.
    pub(super) fn set(&mut self, hash: u64, key: &K, value: Option<V>) -> Option<V> {
        if self.len >= self.buckets.len() * FILL_MAX {
            self.grow();
        }
        let at = index(hash, self.buckets.len());
        let bucket = self.buckets.get_mut(at)?;
        let (same, mut rest): (Vec<_>, Vec<_>) =
            bucket.iter().cloned().partition(|entry| entry.hash == hash && entry.key == *key);
        self.len = self.len + usize::from(value.is_some()) - same.len();
        rest.extend(value.map(|value| Entry { hash, key: key.clone(), value }));
        *bucket = rest.into();
        same.into_iter().next().map(|entry| entry.value)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn grow(&mut self) {
        let count = self.buckets.len() * 4;
        let mut buckets: Vec<Vec<Entry<K, V>>> = (0..count).map(|_| Vec::new()).collect();
        for entry in self.buckets.iter().flat_map(|bucket| bucket.iter()) {
            if let Some(bucket) = buckets.get_mut(index(entry.hash, count)) {
                bucket.push(entry.clone());
            }
        }
        self.buckets = buckets.into_iter().map(Arc::from).collect();
    }
}

fn empty<K, V>(count: usize) -> Box<[Bucket<K, V>]> {
    let none: Bucket<K, V> = Arc::from([]);
    (0..count).map(|_| Arc::clone(&none)).collect()
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
            assert_eq!(old.get(hash(key), &key), Some(&(key * 2)));
            let expected = (key >= 500).then_some(if key == 700 { 1 } else { key * 2 });
            assert_eq!(table.get(hash(key), &key).copied(), expected);
        }
        assert_eq!((old.len(), table.len()), (1_000, 500));
        assert_eq!(table.set(hash(3), &3, None), None);
    }

    #[test]
    fn equal_hashes_are_told_apart_by_their_keys() {
        let mut table = Table::new();
        table.set(1, &"a", Some(1));
        table.set(1, &"b", Some(2));
        assert_eq!(table.get(1, &"b"), Some(&2));
        assert_eq!(table.with_hash(1).copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(table.set(1, &"a", None), Some(1));
        assert_eq!(table.get(1, &"b"), Some(&2));
    }
}
