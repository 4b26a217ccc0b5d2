//! The routes of one host and first path segment, found by walking from the longest prefix of the
//! path to the shortest.
//!
//! The nodes are sorted by their text, and each knows the longest other node that its own text
//! begins with. So one binary search finds all prefixes of a path, whatever the number of nodes:
//! every prefix of the path is an ancestor of the last node that is not behind it. The search runs
//! over the bytes that follow what all texts have in common, sixteen each, which lie side by side.

use super::matcher::Matcher;
use hashbrown::HashSet;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Bytes of a text that a head holds.
const HEAD_LEN: usize = 16;
/// Up to so many nodes are looked at one by one.
const FEW: usize = 4;

/// Routes that share a literal start of the path.
#[derive(Debug, Clone)]
struct Node {
    text: SmallVec<[u8; 24]>,
    /// The highest order first.
    matchers: SmallVec<[Arc<Matcher>; 2]>,
    /// The position of its longest proper prefix plus one; 0 is none.
    parent: u32,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Sorted by text.
    nodes: Box<[Node]>,
    /// Bytes that all texts begin with.
    common: Box<[u8]>,
    /// For each node what follows the common bytes, filled up with zeros.
    heads: Box<[u128]>,
}

/// What changes at one node: matchers of these routes go, then these come.
#[derive(Debug, Default)]
pub(super) struct Edit {
    pub(super) gone: HashSet<Uuid>,
    pub(super) new: Vec<Arc<Matcher>>,
}

impl Shard {
    /// Calls `visit` with the text's length and the matchers of every node that `path` begins with,
    /// longest first.
    pub(super) fn visit<'a>(
        &'a self,
        path: &[u8],
        mut visit: impl FnMut(usize, &'a [Arc<Matcher>]),
    ) {
        if self.nodes.len() <= FEW {
            for node in self.nodes.iter().rev().filter(|node| path.starts_with(&node.text)) {
                visit(node.text.len(), &node.matchers);
            }
            return;
        }
        let mut next = self.last_not_behind(path);
        // Every turn goes to a shorter text.
        while let Some(node) = next.checked_sub(1).and_then(|at| self.nodes.get(at)) {
            if path.starts_with(&node.text) {
                visit(node.text.len(), &node.matchers);
            }
            next = usize::try_from(node.parent).unwrap_or_default();
        }
    }

    /// The position, plus one, of the last node that is not behind `path`; 0 where no node can be a
    /// prefix of it.
    fn last_not_behind(&self, path: &[u8]) -> usize {
        let Some(rest) = path.strip_prefix(&*self.common) else { return 0 };
        let head = head(rest);
        let end = self.heads.partition_point(|other| *other <= head);
        let start = self.heads.partition_point(|other| *other < head);
        // Of those with the same sixteen bytes, the texts decide.
        let nodes = self.nodes.get(start..end).unwrap_or_default();
        start + nodes.partition_point(|node| *node.text <= *path)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The shard with some nodes changed.
    pub(super) fn edited(&self, edits: &BTreeMap<Vec<u8>, Edit>) -> Self {
        let mut nodes = Vec::with_capacity(self.nodes.len() + edits.len());
        let mut old = self.nodes.iter().peekable();
        for (text, edit) in edits {
            while let Some(node) = old.next_if(|node| *node.text < **text) {
                nodes.push(node.clone());
            }
            let before = old.next_if(|node| *node.text == **text);
            nodes.extend(edit.applied(text, before));
        }
        nodes.extend(old.cloned());
        Self::new(nodes)
    }

    fn new(mut nodes: Vec<Node>) -> Self {
        link(&mut nodes);
        let (first, last) = (nodes.first(), nodes.last());
        let ends = first.zip(last).map(|(first, last)| (&*first.text, &*last.text));
        // What the first and the last of a sorted list have in common, all have.
        let common = ends.map(|(first, last)| {
            let same = first.iter().zip(last).take_while(|(a, b)| a == b).count();
            first.get(..same).unwrap_or_default().into()
        });
        let common: Box<[u8]> = common.unwrap_or_default();
        let rest = |node: &Node| head(node.text.get(common.len()..).unwrap_or_default());
        let heads = nodes.iter().map(rest).collect();
        Self { nodes: nodes.into(), common, heads }
    }
}

/// The first sixteen bytes as a number that sorts like them. No path has a zero byte.
fn head(text: &[u8]) -> u128 {
    let mut bytes = [0; HEAD_LEN];
    let len = text.len().min(HEAD_LEN);
    if let (Some(bytes), Some(text)) = (bytes.get_mut(..len), text.get(..len)) {
        bytes.copy_from_slice(text);
    }
    u128::from_be_bytes(bytes)
}

impl Edit {
    fn applied(&self, text: &[u8], before: Option<&Node>) -> Option<Node> {
        let kept = before.into_iter().flat_map(|node| node.matchers.iter());
        let kept = kept.filter(|matcher| !self.gone.contains(&matcher.entry.spec.id));
        let mut matchers: SmallVec<[Arc<Matcher>; 2]> =
            kept.chain(&self.new).map(Arc::clone).collect();
        matchers.sort_by_key(|matcher| std::cmp::Reverse(matcher.order));
        matchers.dedup_by(|a, b| Arc::ptr_eq(a, b));
        (!matchers.is_empty()).then(|| Node { text: text.into(), matchers, parent: 0 })
    }
}

/// Tells each node its longest proper prefix.
fn link(nodes: &mut [Node]) {
    let mut open: Vec<(u32, SmallVec<[u8; 24]>)> = Vec::new();
    for (node, number) in nodes.iter_mut().zip(1_u32..) {
        while open.last().is_some_and(|(_, text)| !node.text.starts_with(text)) {
            open.pop();
        }
        node.parent = open.last().map_or(0, |(number, _)| *number);
        open.push((number, node.text.clone()));
    }
}
