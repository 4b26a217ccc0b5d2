//! The tries of one exchange at one Upstream: who failed, and how many are left.

use smallvec::SmallVec;

use super::Balancer;

/// Who failed is remembered up to this; more are asked again.
const FAILED_MAX: usize = 64;

/// The tries of one exchange.
#[derive(Debug)]
pub struct Tries {
    key: u64,
    left: u32,
    last: Option<u32>,
    failed: SmallVec<[u32; 8]>,
}

impl Tries {
    /// As many tries as `retries` says, and one. `key` is what is hashed.
    #[must_use]
    pub fn new(key: u64, retries: u32) -> Self {
        Self { key, left: retries.saturating_add(1), last: None, failed: SmallVec::new() }
    }

    /// Whether a try is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// The place of the peer for the next try: one that has not failed in this exchange; when all
    /// have, they get another chance. None when no try is left, or nobody may be asked.
    pub fn next(&mut self, balancer: &Balancer, now_us: u64) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let failed = &self.failed;
        let fresh = balancer.pick(self.key, now_us, |place| !failed.contains(&place));
        let picked = match fresh {
            None if !failed.is_empty() => {
                self.failed.clear();
                balancer.pick(self.key, now_us, |_| true)
            }
            picked => picked,
        };
        self.last = picked;
        picked
    }

    /// The peer of the last try has failed.
    pub fn failed(&mut self) {
        if let Some(last) = self.last.filter(|_| self.failed.len() < FAILED_MAX) {
            self.failed.push(last);
        }
    }

    /// Whether every open peer has failed in this exchange.
    #[must_use]
    pub fn all_failed(&self, balancer: &Balancer) -> bool {
        let failed = |place: &u32| self.failed.contains(place);
        self.failed.len() >= FAILED_MAX || balancer.open.iter().all(failed)
    }

    /// The last try shall not count: nothing was sent, and the peer gets a moment.
    pub fn again(&mut self) {
        self.left = self.left.saturating_add(1);
    }
}
