//! Keys in order, shared between snapshots.
//!
//! A tree with runs of keys as its leaves. A write copies one run and the branches above it, unless
//! nobody else has them. Runs that are empty go; runs are not joined, since keys of configuration
//! seldom go in masses.

use std::sync::Arc;

/// Most keys in a run; a full one is halved.
const RUN_KEYS_MAX: usize = 256;
/// Most branches in a fork; a full one is halved.
const FORK_BRANCHES_MAX: usize = 64;

/// A set of keys in order.
#[derive(Clone, Debug)]
pub(super) struct Order<K> {
    root: Arc<Node<K>>,
}

#[derive(Clone, Debug)]
enum Node<K> {
    Run(Vec<K>),
    /// Each with a bound: no key in it is smaller, except in the first.
    Fork(Vec<(K, Arc<Node<K>>)>),
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Run(Vec::new())) }
    }
}

impl<K: Ord + Copy> Order<K> {
    pub(super) fn insert(&mut self, key: K) {
        if let Some(upper) = insert(&mut self.root, key) {
            let lower = (upper.0, Arc::clone(&self.root));
            self.root = Arc::new(Node::Fork(vec![lower, upper]));
        }
    }

    pub(super) fn remove(&mut self, key: K) {
        if self.from(Some(key)).next() == Some(key) && remove(&mut self.root, key) {
            *self = Self::default();
        }
    }

    /// The keys from `start` on; all of them if it is `None`.
    pub(super) fn from(&self, start: Option<K>) -> Walk<'_, K> {
        let mut walk = Walk { forks: Vec::new(), run: [].iter() };
        let mut node = &*self.root;
        loop {
            match node {
                Node::Run(keys) => {
                    let place = start.map_or(0, |start| keys.partition_point(|key| *key < start));
                    walk.run = keys.get(place..).unwrap_or_default().iter();
                    return walk;
                }
                Node::Fork(branches) => {
                    let mut ahead = branches.iter();
                    let place = start.map_or(0, |start| branch(branches, start));
                    let Some((_, next)) = ahead.nth(place) else { return walk };
                    walk.forks.push(ahead);
                    node = next;
                }
            }
        }
    }
}

/// The branch in which a key is or belongs.
fn branch<K: Ord>(branches: &[(K, Arc<Node<K>>)], key: K) -> usize {
    branches.partition_point(|(bound, _)| *bound <= key).saturating_sub(1)
}

/// Gives back the upper half, with its bound, of a node that had to be halved.
fn insert<K: Ord + Copy>(node: &mut Arc<Node<K>>, key: K) -> Option<(K, Arc<Node<K>>)> {
    match Arc::make_mut(node) {
        Node::Run(keys) => {
            let Err(place) = keys.binary_search(&key) else { return None };
            keys.insert(place, key);
            let bound = halved(keys, RUN_KEYS_MAX, place)?;
            Some((*bound.first()?, Arc::new(Node::Run(bound))))
        }
        Node::Fork(branches) => {
            let place = branch(branches, key);
            let upper = insert(&mut branches.get_mut(place)?.1, key)?;
            branches.insert(place + 1, upper);
            let upper = halved(branches, FORK_BRANCHES_MAX, place + 1)?;
            Some((upper.first()?.0, Arc::new(Node::Fork(upper))))
        }
    }
}

/// The upper half of a list that is too long. If it grew at its end, only that: what only grows
/// leaves full lists behind it.
fn halved<T>(list: &mut Vec<T>, most: usize, grown: usize) -> Option<Vec<T>> {
    if list.len() <= most {
        return None;
    }
    let upper = list.split_off(if grown == most { most } else { most / 2 });
    list.shrink_to_fit();
    Some(upper)
}

/// Whether the node is empty then.
fn remove<K: Ord + Copy>(node: &mut Arc<Node<K>>, key: K) -> bool {
    match Arc::make_mut(node) {
        Node::Run(keys) => {
            if let Ok(place) = keys.binary_search(&key) {
                keys.remove(place);
            }
            keys.is_empty()
        }
        Node::Fork(branches) => {
            let place = branch(branches, key);
            if branches.get_mut(place).is_some_and(|(_, node)| remove(node, key)) {
                branches.remove(place);
            }
            branches.is_empty()
        }
    }
}

/// Keys in order, from somewhere on.
#[derive(Debug)]
pub(super) struct Walk<'a, K> {
    /// What lies ahead in the forks above the run.
    forks: Vec<std::slice::Iter<'a, (K, Arc<Node<K>>)>>,
    run: std::slice::Iter<'a, K>,
}

impl<K: Copy> Iterator for Walk<'_, K> {
    type Item = K;

    fn next(&mut self) -> Option<K> {
        loop {
            if let Some(key) = self.run.next() {
                return Some(*key);
            }
            let (_, node) = loop {
                match self.forks.last_mut()?.next() {
                    Some(next) => break next,
                    None => drop(self.forks.pop()),
                }
            };
            match &**node {
                Node::Run(keys) => self.run = keys.iter(),
                Node::Fork(branches) => self.forks.push(branches.iter()),
            }
        }
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
