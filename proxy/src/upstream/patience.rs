//! Waiting for an upstream that was there a moment ago.
//!
//! A service that is started anew refuses connections for a second. Nothing of a request is sent
//! before it is connected, so the request can wait, whatever its method is. But only where the
//! address answered of late, and only so many requests: those who wait for what is gone for good
//! must not pile up.

use runtime::clock;

use crate::core::Core;
use crate::pool::Key;

/// The first pause; each is twice the one before.
const PAUSE_FIRST_MS: u64 = 10;
/// The longest pause.
const PAUSE_MS_MAX: u64 = 200;
/// All pauses of one exchange together.
const PAUSES_MS_MAX: u64 = 5_000;

/// The pauses of one exchange. While it lives and has paused, it counts among those who wait.
pub(super) struct Patience<'a> {
    core: &'a Core,
    paused_ms: u64,
    next_ms: u64,
}

impl<'a> Patience<'a> {
    /// Has not paused yet.
    pub(super) fn new(core: &'a Core) -> Self {
        Self { core, paused_ms: 0, next_ms: PAUSE_FIRST_MS }
    }

    /// Pauses, if that may help with this address; tells whether it did.
    pub(super) async fn pause(&mut self, key: Key) -> bool {
        let hope = self.paused_ms + self.next_ms <= PAUSES_MS_MAX
            && self.core.pool.borrow().answered_lately(key)
            && (self.paused_ms > 0 || self.core.may_wait());
        if !hope {
            return false;
        }
        if self.paused_ms == 0 {
            self.core.waits(true);
        }
        self.paused_ms += self.next_ms;
        clock::sleep_ms(self.next_ms).await;
        self.next_ms = (2 * self.next_ms).min(PAUSE_MS_MAX);
        true
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.paused_ms > 0 {
            self.core.waits(false);
        }
    }
}
