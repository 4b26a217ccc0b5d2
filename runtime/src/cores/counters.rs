//! What each core counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a core counts; anybody may read it. On its own cache lines.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) active: AtomicU64,
    pub(super) accept_faults: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) handed: AtomicU64,
}

/// The counters of one core at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now.
    pub active: u64,
    /// How often accepting failed.
    pub accept_faults: u64,
    /// Connections closed at once, because there were too many.
    pub refused: u64,
    /// Connections handed to another core.
    pub handed: u64,
}

impl Counters {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Ordering::Relaxed),
            active: self.active.load(Ordering::Relaxed),
            accept_faults: self.accept_faults.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            handed: self.handed.load(Ordering::Relaxed),
        }
    }
}
