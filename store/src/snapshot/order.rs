//! Keys in order, shared between snapshots.
//!
//! A list of pieces, each a sorted run of keys. A write copies one piece, and the list of pieces
//! (of their pointers, not the keys), unless nobody else has them.

use std::sync::Arc;

/// Most keys in a piece; a full one is halved.
const PIECE_KEYS_MAX: usize = 512;

/// A set of keys in order.
#[derive(Clone, Debug)]
pub(super) struct Order<K> {
    pieces: Arc<Vec<Arc<Vec<K>>>>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self { pieces: Arc::default() }
    }
}

impl<K: Ord + Copy> Order<K> {
    /// The piece in which a key is or belongs. There is one unless the order is empty.
    fn home(&self, key: K) -> usize {
        let behind =
            self.pieces.partition_point(|piece| piece.first().is_some_and(|first| *first <= key));
        behind.saturating_sub(1)
    }

    pub(super) fn insert(&mut self, key: K) {
        let home = self.home(key);
        let pieces = Arc::make_mut(&mut self.pieces);
        let Some(piece) = pieces.get_mut(home) else {
            return pieces.push(Arc::new(vec![key]));
        };
        let keys = Arc::make_mut(piece);
        if let Err(place) = keys.binary_search(&key) {
            keys.insert(place, key);
        }
        if keys.len() > PIECE_KEYS_MAX {
            // Keys that only grow leave full pieces behind them, not halves.
            let at_end = keys.last() == Some(&key);
            let upper = keys.split_off(if at_end { PIECE_KEYS_MAX } else { PIECE_KEYS_MAX / 2 });
            pieces.insert(home + 1, Arc::new(upper));
        }
    }

    pub(super) fn remove(&mut self, key: K) {
        let home = self.home(key);
        let known = self.pieces.get(home).is_some_and(|piece| piece.binary_search(&key).is_ok());
        if !known {
            return;
        }
        let pieces = Arc::make_mut(&mut self.pieces);
        let keys = Arc::make_mut(&mut pieces[home]);
        keys.retain(|other| *other != key);
        if keys.is_empty() {
            pieces.remove(home);
        }
    }

    /// The keys from `start` on; all of them if it is `None`.
    pub(super) fn from(&self, start: Option<K>) -> impl Iterator<Item = K> {
        let home = start.map_or(0, |start| self.home(start));
        let skipped = move |key: &K| start.is_some_and(|start| *key < start);
        self.pieces.iter().skip(home).flat_map(|piece| piece.iter().copied()).skip_while(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Order;
    use std::collections::BTreeSet;

    /// Random inserts and removes beside the standard library's set.
    #[test]
    fn the_order_is_that_of_a_set() {
        let mut random = 1_u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let (mut order, mut model) = (Order::default(), BTreeSet::new());
        for round in 0..40_000 {
            let key = next(6_000);
            if round % 5 < 3 {
                order.insert(key);
                model.insert(key);
            } else {
                order.remove(key);
                model.remove(&key);
            }
        }
        assert!(order.from(None).eq(model.iter().copied()));
        for start in [0, 1, 777, 3_000, 5_999, 6_000] {
            assert!(order.from(Some(start)).eq(model.range(start..).copied()), "from {start}");
        }
    }

    #[test]
    fn a_clone_does_not_change() {
        let mut order = Order::default();
        (0..2_000).for_each(|key| order.insert(key));
        let before = order.clone();
        (0..2_000).filter(|key| key % 2 == 0).for_each(|key| order.remove(key));
        assert_eq!(before.from(None).count(), 2_000);
        assert_eq!(order.from(None).count(), 1_000);
    }
}
