//! The routes of one host and first path segment, found by walking from the longest prefix of the
//! path to the shortest.
//!
//! The nodes are sorted by their text, and each knows the longest other node that its own text
//! begins with. So one binary search finds all prefixes of a path, whatever the number of nodes:
//! every prefix of the path is an ancestor of the last node that is not behind it.

use super::matcher::Matcher;
use hashbrown::HashSet;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Routes that share a literal start of the path.
#[derive(Debug)]
struct Node {
    text: Box<[u8]>,
    /// The highest order first.
    matchers: Box<[Arc<Matcher>]>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Shard {
    nodes: Box<[Arc<Node>]>,
    /// For each node the position of its longest proper prefix plus one; 0 is none.
    parents: Box<[u32]>,
}

/// What changes at one node: matchers of these routes go, then these come.
#[derive(Debug, Default)]
pub(super) struct Edit {
    pub(super) gone: HashSet<Uuid>,
    pub(super) new: Vec<Arc<Matcher>>,
}

impl Shard {
    /// Calls `visit` with the matchers of every node that `path` begins with, longest first.
    pub(super) fn visit<'a>(&'a self, path: &[u8], mut visit: impl FnMut(&'a [Arc<Matcher>])) {
        let mut next = self.nodes.partition_point(|node| *node.text <= *path);
        // Every turn goes to a shorter text.
        while let Some(at) = next.checked_sub(1)
            && let (Some(node), Some(&parent)) = (self.nodes.get(at), self.parents.get(at))
        {
            if path.starts_with(&node.text) {
                visit(&node.matchers);
            }
            next = usize::try_from(parent).unwrap_or_default();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The shard with some nodes changed; the others are shared.
    pub(super) fn edited(&self, edits: &BTreeMap<Vec<u8>, Edit>) -> Self {
        let mut nodes = Vec::with_capacity(self.nodes.len() + edits.len());
        let mut old = self.nodes.iter().peekable();
        for (text, edit) in edits {
            while let Some(node) = old.next_if(|node| *node.text < **text) {
                nodes.push(Arc::clone(node));
            }
            let before = old.next_if(|node| *node.text == **text);
            nodes.extend(edit.applied(text, before).map(Arc::new));
        }
        nodes.extend(old.map(Arc::clone));
        let parents = parents(&nodes);
        Self { nodes: nodes.into(), parents }
    }
}

impl Edit {
    fn applied(&self, text: &[u8], before: Option<&Arc<Node>>) -> Option<Node> {
        let kept = before.into_iter().flat_map(|node| node.matchers.iter());
        let kept = kept.filter(|matcher| !self.gone.contains(&matcher.entry.spec.id));
        let mut matchers: Vec<_> = kept.chain(&self.new).map(Arc::clone).collect();
        matchers.sort_by_key(|matcher| std::cmp::Reverse(matcher.order));
        matchers.dedup_by(|a, b| Arc::ptr_eq(a, b));
        (!matchers.is_empty()).then(|| Node { text: text.into(), matchers: matchers.into() })
    }
}

fn parents(nodes: &[Arc<Node>]) -> Box<[u32]> {
    let mut open: Vec<(u32, &[u8])> = Vec::new();
    let mut parents = Vec::with_capacity(nodes.len());
    for (node, number) in nodes.iter().zip(1_u32..) {
        while open.last().is_some_and(|(_, text)| !node.text.starts_with(text)) {
            open.pop();
        }
        parents.push(open.last().map_or(0, |(number, _)| *number));
        open.push((number, &node.text));
    }
    parents.into()
}
