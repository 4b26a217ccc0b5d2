//! Items in the order of their keys, shared between snapshots.
//!
//! A tree with runs of items as its leaves; a key is read from its item (`key_of`, the same at
//! every call), so that an order of rows costs a pointer a row. A write copies one run and the
//! branches above it, unless nobody else has them. Runs that are empty go; runs are not joined,
//! since rows of configuration seldom go in masses.

use std::sync::Arc;

/// Most items in a run; a full one is halved. Small, because a copy of a run counts its rows'
/// owners up, one by one.
const RUN_ITEMS_MAX: usize = 128;
/// Most branches in a fork; a full one is halved.
const FORK_BRANCHES_MAX: usize = 64;

/// Items in the order of their keys, no two with the same key.
#[derive(Clone, Debug)]
pub(super) struct Order<K, T> {
    root: Arc<Node<K, T>>,
}

#[derive(Clone, Debug)]
enum Node<K, T> {
    Run(Vec<T>),
    /// Each with a bound: no key in it is smaller, except in the first.
    Fork(Vec<(K, Arc<Self>)>),
}

impl<K, T> Default for Order<K, T> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Run(Vec::new())) }
    }
}

impl<K: Ord + Copy, T: Clone> Order<K, T> {
    /// Items that are in order already, no two with the same key; every run is full.
    pub(super) fn of(items: Vec<(K, T)>) -> Self {
        debug_assert!(items.is_sorted_by(|one, two| one.0 < two.0), "they are in order");
        let mut nodes: Vec<(K, Arc<Node<K, T>>)> = gathered(items, RUN_ITEMS_MAX, |run| {
            Node::Run(run.into_iter().map(|(_, t)| t).collect())
        });
        while nodes.len() > 1 {
            nodes = gathered(nodes, FORK_BRANCHES_MAX, Node::Fork);
        }
        nodes.pop().map_or_else(Self::default, |(_, root)| Self { root })
    }

    /// Puts an item in, in place of the one with its key.
    pub(super) fn insert(&mut self, item: T, key_of: impl Fn(&T) -> K + Copy) {
        if let Some(upper) = insert(&mut self.root, item, key_of) {
            let lower = (upper.0, Arc::clone(&self.root));
            self.root = Arc::new(Node::Fork(vec![lower, upper]));
        }
    }

    pub(super) fn remove(&mut self, key: K, key_of: impl Fn(&T) -> K + Copy) {
        let is_there = self.from(Some(key), key_of).next().is_some_and(|item| key_of(item) == key);
        if is_there && remove(&mut self.root, key, key_of) {
            *self = Self::default();
        }
    }

    /// The items whose keys are `start` or greater; all of them if it is `None`.
    pub(super) fn from(&self, start: Option<K>, key_of: impl Fn(&T) -> K) -> Walk<'_, K, T> {
        let mut walk = Walk { forks: Vec::new(), run: [].iter() };
        let mut node = &*self.root;
        loop {
            match node {
                Node::Run(items) => {
                    let before = |start| items.partition_point(|item| key_of(item) < start);
                    let place = start.map_or(0, before);
                    walk.run = items.get(place..).unwrap_or_default().iter();
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

/// Parts of a list, `most` long, each made a node under its first key.
fn gathered<K: Copy, T, I>(
    items: Vec<(K, I)>,
    most: usize,
    make: impl Fn(Vec<(K, I)>) -> Node<K, T>,
) -> Vec<(K, Arc<Node<K, T>>)> {
    let mut nodes = Vec::with_capacity(items.len().div_ceil(most));
    let mut items = items.into_iter();
    loop {
        // Exactly as long as it must be: it is kept.
        let mut part = Vec::with_capacity(items.len().min(most));
        part.extend(items.by_ref().take(most));
        let Some((key, _)) = part.first() else { return nodes };
        nodes.push((*key, Arc::new(make(part))));
    }
}

/// The branch in which a key is or belongs.
fn branch<K: Ord, T>(branches: &[(K, Arc<Node<K, T>>)], key: K) -> usize {
    branches.partition_point(|(bound, _)| *bound <= key).saturating_sub(1)
}

/// Gives back the upper half, with its bound, of a node that had to be halved.
fn insert<K: Ord + Copy, T: Clone>(
    node: &mut Arc<Node<K, T>>,
    item: T,
    key_of: impl Fn(&T) -> K + Copy,
) -> Option<(K, Arc<Node<K, T>>)> {
    let key = key_of(&item);
    match Arc::make_mut(node) {
        Node::Run(items) => {
            let place = match items.binary_search_by_key(&key, key_of) {
                Ok(place) => {
                    *items.get_mut(place)? = item;
                    return None;
                }
                Err(place) => place,
            };
            items.insert(place, item);
            let upper = halved(items, RUN_ITEMS_MAX, place)?;
            Some((key_of(upper.first()?), Arc::new(Node::Run(upper))))
        }
        Node::Fork(branches) => {
            let place = branch(branches, key);
            let upper = insert(&mut branches.get_mut(place)?.1, item, key_of)?;
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
fn remove<K: Ord + Copy, T: Clone>(
    node: &mut Arc<Node<K, T>>,
    key: K,
    key_of: impl Fn(&T) -> K + Copy,
) -> bool {
    match Arc::make_mut(node) {
        Node::Run(items) => {
            if let Ok(place) = items.binary_search_by_key(&key, key_of) {
                items.remove(place);
            }
            items.is_empty()
        }
        Node::Fork(branches) => {
            let place = branch(branches, key);
            if branches.get_mut(place).is_some_and(|(_, node)| remove(node, key, key_of)) {
                branches.remove(place);
            }
            branches.is_empty()
        }
    }
}

/// What lies ahead in a fork.
type Ahead<'a, K, T> = std::slice::Iter<'a, (K, Arc<Node<K, T>>)>;

/// Items in order, from somewhere on.
#[derive(Debug)]
pub(super) struct Walk<'a, K, T> {
    /// The forks above the run.
    forks: Vec<Ahead<'a, K, T>>,
    run: std::slice::Iter<'a, T>,
}

impl<'a, K, T> Iterator for Walk<'a, K, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(item) = self.run.next() {
                return Some(item);
            }
            let (_, node) = loop {
                match self.forks.last_mut()?.next() {
                    Some(next) => break next,
                    None => drop(self.forks.pop()),
                }
            };
            match &**node {
                Node::Run(items) => self.run = items.iter(),
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
                order.insert(key, u64::clone);
                model.insert(key);
            } else {
                order.remove(key, u64::clone);
                model.remove(&key);
            }
        }
        assert!(order.from(None, u64::clone).eq(&model));
        for start in [0, 1, 777, 3_000, 5_999, 6_000] {
            assert!(order.from(Some(start), u64::clone).eq(model.range(start..)), "from {start}");
        }
    }

    /// What was made at once is what was put in one by one, and goes on as that does.
    #[test]
    fn a_list_in_order_becomes_an_order() {
        for length in [0, 1, 127, 128, 129, 8_192, 8_193, 20_000_u64] {
            let mut order = Order::of((0..length).map(|key| (key * 2, key * 2)).collect());
            assert!(order.from(None, u64::clone).copied().eq((0..length).map(|key| key * 2)));
            let mut model: BTreeSet<u64> = (0..length).map(|key| key * 2).collect();
            for key in (0..length * 2).step_by(7) {
                order.insert(key, u64::clone);
                model.insert(key);
                order.remove(key / 3, u64::clone);
                model.remove(&(key / 3));
            }
            assert!(order.from(None, u64::clone).eq(&model), "{length} items");
            assert!(order.from(Some(length), u64::clone).eq(model.range(length..)));
        }
    }

    #[test]
    fn a_clone_does_not_change() {
        let mut order = Order::default();
        (0..2_000).for_each(|key| order.insert(key, u64::clone));
        let before = order.clone();
        (0..2_000).filter(|key| key % 2 == 0).for_each(|key| order.remove(key, u64::clone));
        assert_eq!(before.from(None, u64::clone).count(), 2_000);
        assert_eq!(order.from(None, u64::clone).count(), 1_000);
    }
}
