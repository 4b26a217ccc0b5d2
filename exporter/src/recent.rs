//! The last events of each application as they were sent, while its `debug` is on: so that a person
//! sees at once what Moesif sees.

use crate::moesif::member::elements;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Events that are kept of each application.
pub const EVENTS_MAX: usize = 20;
/// Bytes that are kept of each application, unless its last event alone is larger.
const BYTES_MAX: usize = 4 << 20;

/// The last events by [`crate::sink::Target::lane`].
#[derive(Default)]
pub struct Recents {
    by_lane: Mutex<HashMap<u64, VecDeque<Vec<u8>>>>,
}

impl Recents {
    /// Keeps the last events of a batch, a JSON array that was acknowledged.
    pub(crate) fn keep(&self, lane: u64, batch: &[u8]) {
        let last: Vec<&[u8]> = elements(batch);
        let mut by_lane = self.lock();
        let kept = by_lane.entry(lane).or_default();
        let from = last.len().saturating_sub(EVENTS_MAX);
        kept.extend(last.iter().skip(from).map(|event| event.to_vec()));
        let mut bytes: usize = kept.iter().map(Vec::len).sum();
        while kept.len() > EVENTS_MAX || (bytes > BYTES_MAX && kept.len() > 1) {
            bytes -= kept.pop_front().map_or(0, |event| event.len());
        }
    }

    /// Forgets an application, whose `debug` is off.
    pub(crate) fn forget(&self, lane: u64) {
        self.lock().remove(&lane);
    }

    /// Forgets those of which nothing may be kept any longer.
    pub(crate) fn keep_only(&self, may_keep: impl Fn(u64) -> bool) {
        self.lock().retain(|lane, _| may_keep(*lane));
    }

    /// The last events of an application, oldest first, as JSON texts.
    pub fn of(&self, lane: u64) -> Vec<Vec<u8>> {
        self.lock().get(&lane).map(|kept| kept.iter().cloned().collect()).unwrap_or_default()
    }

    /// Applications of which something is kept.
    pub fn lanes(&self) -> Vec<u64> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, VecDeque<Vec<u8>>>> {
        self.by_lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_are_kept() {
        let recents = Recents::default();
        recents.keep(7, b"[{\"n\":[0,\"]\"]},{\"n\":1}]");
        for number in 2..30 {
            recents.keep(7, format!("[{{\"n\":{number}}}]").as_bytes());
        }
        recents.keep(8, b"[{\"n\":[0,\"]\"]},{\"n\":1}]");
        let found = recents.of(7);
        assert_eq!((found.len(), found[0].as_slice()), (20, &b"{\"n\":10}"[..]));
        assert_eq!(recents.of(8), [b"{\"n\":[0,\"]\"]}".to_vec(), b"{\"n\":1}".to_vec()]);
        recents.forget(7);
        assert!(recents.of(7).is_empty() && recents.lanes() == [8]);
    }

    #[test]
    fn large_events_are_bounded() {
        let recents = Recents::default();
        let large = format!("[\"{}\"]", "x".repeat(BYTES_MAX));
        recents.keep(1, large.as_bytes());
        assert_eq!(recents.of(1).len(), 1);
        recents.keep(1, b"[1,2]");
        assert_eq!(recents.of(1), [b"1".to_vec(), b"2".to_vec()]);
    }
}
