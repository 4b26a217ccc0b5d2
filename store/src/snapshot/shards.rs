//! Rows found by a hash: a tree of small hash tables, shared between snapshots.
//!
//! A leaf is a table of row pointers; the key is in the row. A leaf that is full splits by the
//! next four bits of the hash, so no write ever moves more than [`LEAF_ROWS_MAX`] rows, however
//! many there are. A write copies one leaf and the branches on the way to it, unless nobody else
//! has them.

use crate::value::Row;
use hashbrown::HashTable;
use std::sync::Arc;

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
#[derive(Clone, Debug)]
pub(super) struct Shards {
    root: Node,
    rows: usize,
}

impl Default for Shards {
    fn default() -> Self {
        Self { root: Node::Leaf(Arc::new(HashTable::new())), rows: 0 }
    }
}

/// The branch to take at a depth. The upper bits: hashbrown places by the lower, and marks by the
/// highest seven, which is why these are left out.
fn branch(hash: u64, depth: u32) -> usize {
    (hash >> (53 - depth * BITS)) as usize % BRANCHES
}

impl Shards {
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
