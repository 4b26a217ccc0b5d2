//! When a batch may leave. Pure: the clock is an argument.

/// A cycle of the original's timer, in milliseconds.
pub const CYCLE_MS: u64 = 1_500;
/// How often the exporter looks, in milliseconds.
pub const TICK_MS: u64 = 10;
/// How long an event may wait for company, in milliseconds.
pub const LINGER_MS: u64 = 100;
/// Most bytes of one batch: far below the 50 MB that Moesif takes, because memory is held for it.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Most events of one batch, whatever `batch_size` says.
pub const BATCH_EVENTS_MAX: usize = 10_000;

/// Time the exporter may spend on Moesif in one cycle.
///
/// Takes and gives milliseconds of wall time. The answer is the smaller of the operator's
/// `max_callback_time_spent` (750 by default) and half of the wake-up period (1,500 in Moesif's
/// plugin), so that one slow answer from Moesif can never fill a whole period. Rounds down; never
/// fails.
///
/// Source: `kong-plugin-moesif`, `kong/plugins/moesif/log.lua`, lines 21 and 295.
pub const fn cycle_budget_ms(max_callback_time_spent_ms: u64, wake_up_ms: u64) -> u64 {
    let half_period_ms = wake_up_ms / 2;
    if half_period_ms < max_callback_time_spent_ms {
        half_period_ms
    } else {
        max_callback_time_spent_ms
    }
}

/// One look at one destination.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Now, in milliseconds of a clock that only runs forward.
    pub now_ms: u64,
    /// The last look at which batches could start.
    pub last_open_ms: u64,
    /// Milliseconds at the beginning of each cycle in which posts may start.
    pub budget_ms: u64,
    /// How long the oldest unsent event has waited, in milliseconds.
    pub oldest_ms: u64,
    /// Whether there is enough for a full batch.
    pub full: bool,
    /// Whether so much waits that the budget no longer counts.
    pub pressed: bool,
}

impl Look {
    /// Whether this is the part of the cycle in which posts may start: its first `budget_ms`. A
    /// budget below the distance between two looks has one look.
    pub const fn is_within(&self) -> bool {
        let phase_ms = self.now_ms % CYCLE_MS;
        let first = self.now_ms / CYCLE_MS != self.last_open_ms / CYCLE_MS;
        phase_ms < self.budget_ms || (first && phase_ms < TICK_MS)
    }

    /// The same, or nothing could start for a whole cycle: who is always too late on a machine that
    /// is too busy must send all the same.
    pub const fn is_open(&self) -> bool {
        self.is_within() || self.now_ms / CYCLE_MS > self.last_open_ms / CYCLE_MS + 1
    }

    /// Whether a batch may start now: when it is full, when its oldest event has waited long
    /// enough, or when the next look would be too late for this cycle.
    pub const fn may_start(&self) -> bool {
        if self.pressed {
            return true;
        }
        let last = self.now_ms % CYCLE_MS + TICK_MS >= self.budget_ms;
        self.is_open() && (self.full || self.oldest_ms >= LINGER_MS || last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_at_most_half_a_cycle() {
        assert_eq!(cycle_budget_ms(750, CYCLE_MS), 750);
        assert_eq!(cycle_budget_ms(10, CYCLE_MS), 10);
        assert_eq!(cycle_budget_ms(5_000, CYCLE_MS), 750);
        assert_eq!(cycle_budget_ms(u64::MAX, 0), 0);
    }

    #[track_caller]
    fn check(phase_ms: u64, before_ms: u64, budget_ms: u64, oldest_ms: u64, full: bool) -> bool {
        let now_ms = 30_000 + phase_ms;
        let last_open_ms = now_ms - before_ms;
        Look { now_ms, last_open_ms, budget_ms, oldest_ms, full, pressed: false }.may_start()
    }

    #[test]
    fn posts_start_in_the_first_part_of_a_cycle() {
        assert!(check(0, 10, 750, 500, false));
        assert!(check(400, 10, 750, 0, true));
        assert!(check(400, 10, 750, 100, false));
        assert!(!check(400, 10, 750, 99, false), "it may wait for company");
        assert!(check(745, 10, 750, 0, false), "the last look of this cycle");
        assert!(!check(750, 10, 750, 1_000, true));
        assert!(!check(1_499, 1_500, 750, 1_000, true), "too late for this cycle");
        assert!(check(1_499, 3_000, 750, 1_000, true), "nothing could start for a whole cycle");
        assert!(!check(10, 1_500, 10, 1_000, true));
        assert!(check(10, 1_511, 10, 1_000, true));
        assert!(check(3, 10, 10, 0, false));
        assert!(!check(20, 10, 10, 1_000, true));
        assert!(check(5, 10, 0, 0, false), "even without a budget one look a cycle counts");
        assert!(!check(8, 5, 0, 1_000, true), "and no second one");
    }

    /// With the default budget no event waits longer than half a cycle and a look.
    #[test]
    fn an_event_never_waits_a_second() {
        for came_ms in 0..CYCLE_MS {
            let waited = (0..).map(|look| look * TICK_MS).find(|now_ms| {
                let look = Look {
                    now_ms: *now_ms,
                    last_open_ms: now_ms.saturating_sub(TICK_MS),
                    budget_ms: 750,
                    oldest_ms: now_ms.saturating_sub(came_ms),
                    full: false,
                    pressed: false,
                };
                *now_ms >= came_ms && look.may_start()
            });
            assert!(waited.unwrap() - came_ms <= 760, "came at {came_ms}");
        }
    }
}
