//! The balancers by the names of their Upstreams, as they hang on their own board: names and marks
//! change between configuration changes, and rebuild nothing else.

use std::sync::Arc;

use super::Balancer;
use crate::shards::Shards;

/// Balancers by name; the next one shares what did not change.
#[derive(Clone, Default)]
pub struct Directory {
    by_name: Shards<Box<str>, Arc<Balancer>>,
}

impl Directory {
    /// The balancer of an Upstream.
    #[must_use]
    #[allow(clippy::borrowed_box)] // the key as the map has it: looking up copies nothing
    pub fn get(&self, name: &Box<str>) -> Option<&Arc<Balancer>> {
        self.by_name.get(name)
    }

    /// The next directory.
    #[must_use]
    pub fn with(
        &self,
        changes: impl IntoIterator<Item = (Box<str>, Option<Arc<Balancer>>)>,
    ) -> Self {
        Self { by_name: self.by_name.with(changes) }
    }
}
