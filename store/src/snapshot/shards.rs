//! Rows found by a hash: a tree of small hash tables, shared between snapshots.
//!
//! A leaf is a table of row pointers; the key is in the row. A leaf that is full splits by the
//! next four bits of the hash, so no write ever moves more than [`LEAF_ROWS_MAX`] rows, however
//! many there are. A write copies one leaf and the branches on the way to it, unless nobody else
//! has them.

use crate::value::Row;
use hashbrown::HashTable;
use std::sync::Arc;
use std::vec::IntoIter;

/// Most rows in a leaf. Small enough to copy in microseconds, large enough that the tree costs
/// little beside the rows.
const LEAF_ROWS_MAX: usize = 256;
const BRANCHES: usize = 16;
const BITS: u32 = 4;
/// Beyond this depth all bits of the hash are used up, and a leaf grows instead.
const DEPTH_MAX: u32 = 12;

#[derive(Clone, Debug)]
enum Node {
    Leaf(Arc<HashTable<Arc<Row>>>),
    Branch(Arc<[Node; BRANCHES]>),
}

/// Rows by the hash of a key that is in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Shards {
    root: Node,
    rows: usize,
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Arc::new(HashTable::new()))
    }
}

/// The branch to take at a depth. The upper bits: hashbrown places by the lower, and marks by the
/// highest seven, which is why these are left out.
fn branch(hash: u64, depth: u32) -> usize {
    (hash >> (53 - depth * BITS)) as usize % BRANCHES
}

/// The bits of a hash that choose branches, in front: rows in this order lie leaf by leaf.
fn in_branches(hash: u64) -> u64 {
    hash << (64 - 53 - BITS)
}

/// The node of the next `count` rows, which are in the order of their branches.
fn grown(
    rows: &mut IntoIter<(u64, Arc<Row>)>,
    count: usize,
    depth: u32,
    same: impl Fn(&Row, &Row) -> bool + Copy,
) -> Result<Node, Arc<Row>> {
    if count > LEAF_ROWS_MAX && depth < DEPTH_MAX {
        let mut nodes: [Node; BRANCHES] = std::array::from_fn(|_| Node::default());
        let mut left = count;
        for (number, node) in nodes.iter_mut().enumerate() {
            let ahead = rows.as_slice().get(..left).unwrap_or_default();
            let here = ahead.partition_point(|(hash, _)| branch(*hash, depth) <= number);
            *node = grown(rows, here, depth + 1, same)?;
            left -= here;
        }
        return Ok(Node::Branch(Arc::new(nodes)));
    }
    let mut table = HashTable::with_capacity(count);
    for (hash, row) in rows.take(count) {
        if table.find(hash, |other: &Arc<Row>| same(other, &row)).is_some() {
            return Err(row);
        }
        // There is room for all of them, so nobody asks for a hash.
        table.insert_unique(hash, row, |_| hash);
    }
    Ok(Node::Leaf(Arc::new(table)))
}

impl Shards {
    /// Rows with their hashes, all at once: no row is looked at again and no leaf grows.
    ///
    /// # Errors
    /// A row that says the `same` as another one.
    pub(super) fn of(
        mut rows: Vec<(u64, Arc<Row>)>,
        same: impl Fn(&Row, &Row) -> bool + Copy,
    ) -> Result<Self, Arc<Row>> {
        rows.sort_unstable_by_key(|(hash, _)| in_branches(*hash));
        let count = rows.len();
        Ok(Self { rows: count, root: grown(&mut rows.into_iter(), count, 0, same)? })
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn find(&self, hash: u64, is: impl Fn(&Row) -> bool) -> Option<&Arc<Row>> {
        let mut node = &self.root;
        let mut depth = 0;
        loop {
            match node {
                Node::Leaf(table) => return table.find(hash, |row| is(row)),
                Node::Branch(nodes) => node = nodes.get(branch(hash, depth))?,
            }
            depth += 1;
        }
    }

    /// Puts a row in, in place of the one that `is`; `hash_of` is asked when a leaf splits.
    pub(super) fn put(
        &mut self,
        hash: u64,
        row: Arc<Row>,
        is: impl Fn(&Row) -> bool,
        hash_of: impl Fn(&Row) -> u64,
    ) -> Option<Arc<Row>> {
        let (node, depth) = leaf(&mut self.root, hash);
        let Node::Leaf(table) = node else { return None };
        let table = Arc::make_mut(table);
        if let Some(old) = table.find_mut(hash, |row| is(row)) {
            return Some(std::mem::replace(old, row));
        }
        table.insert_unique(hash, row, |row| hash_of(row));
        if table.len() > LEAF_ROWS_MAX && depth < DEPTH_MAX {
            *node = split(std::mem::take(table), depth, hash_of);
        }
        self.rows += 1;
        None
    }

    pub(super) fn remove(&mut self, hash: u64, is: impl Fn(&Row) -> bool) -> Option<Arc<Row>> {
        let (Node::Leaf(table), _) = leaf(&mut self.root, hash) else { return None };
        let table = Arc::make_mut(table);
        let entry = table.find_entry(hash, |row| is(row)).ok()?;
        self.rows -= 1;
        Some(entry.remove().0)
    }
}

/// The leaf of a hash and its depth; branches on the way are made our own.
fn leaf(mut node: &mut Node, hash: u64) -> (&mut Node, u32) {
    let mut depth = 0;
    while let Node::Branch(nodes) = node {
        node = &mut Arc::make_mut(nodes)[branch(hash, depth)];
        depth += 1;
    }
    (node, depth)
}

fn split(table: HashTable<Arc<Row>>, depth: u32, hash_of: impl Fn(&Row) -> u64) -> Node {
    let mut tables: [HashTable<Arc<Row>>; BRANCHES] = std::array::from_fn(|_| HashTable::new());
    for row in table {
        let hash = hash_of(&row);
        tables[branch(hash, depth)].insert_unique(hash, row, |row| hash_of(row));
    }
    Node::Branch(Arc::new(tables.map(|table| Node::Leaf(Arc::new(table)))))
}
