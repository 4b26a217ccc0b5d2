//! Health of one peer: counts of good and bad answers, and what they make of it.
//!
//! ```text
//!            a failure                    failures reach their threshold
//!   healthy ───────────► mostly healthy ─────────────────────────────────► unhealthy
//!      ▲ ◄── successes reach theirs ──┘                                  │ a success
//!      └────────────────────────── successes reach theirs ◄── mostly unhealthy
//! ```
//! A success forgets the failures and a failure the successes. Whoever is healthy or mostly so may
//! be asked. One word that cores and the office write: every core sees a mark at once.
//!
//! Source: lua-resty-healthcheck `lib/resty/healthcheck.lua` (`incr_counter`, `set_target_status`).

use std::sync::atomic::{AtomicU64, Ordering};

/// What a peer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Answered with a status that counts as good, or took a connection.
    Success,
    /// Refused or broke a connection.
    TcpFailure,
    /// Answered with a status that counts as bad.
    HttpFailure,
    /// Did not answer in time.
    Timeout,
}

impl Sign {
    const fn shift(self) -> u32 {
        match self {
            Self::Success => 0,
            Self::TcpFailure => 8,
            Self::HttpFailure => 16,
            Self::Timeout => 24,
        }
    }
}

/// The states above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing bad was seen.
    Healthy,
    /// Something bad was seen, not enough of it.
    MostlyHealthy,
    /// Was unhealthy; something good was seen, not enough of it.
    MostlyUnhealthy,
    /// Must not be asked.
    Unhealthy,
}

const SUCCESSES: u64 = 0xff;
const FAILURES: u64 = 0xffff_ff00;
const STATE_SHIFT: u32 = 32;

/// The marks of one peer. Starts healthy.
#[derive(Debug, Default)]
pub struct Marks(AtomicU64);

impl Marks {
    /// Counts a sign; `limit` is its threshold, 0 counts nothing. Tells whether the peer may be
    /// asked from now on, where that has changed.
    pub fn note(&self, sign: Sign, limit: u8) -> Option<bool> {
        if limit == 0 {
            return None;
        }
        self.update(|word| step(word, sign, limit))
    }

    /// Marks the peer by hand and forgets what was counted. Tells as [`Marks::note`] does.
    pub fn set(&self, healthy: bool) -> Option<bool> {
        let state = if healthy { State::Healthy } else { State::Unhealthy };
        self.update(|_| (state as u64) << STATE_SHIFT)
    }

    fn update(&self, next: impl Fn(u64) -> u64) -> Option<bool> {
        let mut before = self.0.load(Ordering::Acquire);
        loop {
            let after = next(before);
            if after == before {
                return None;
            }
            let changed =
                self.0.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire);
            match changed {
                Ok(_) => {
                    let may = may_be_asked(after);
                    return (may != may_be_asked(before)).then_some(may);
                }
                Err(other) => before = other,
            }
        }
    }

    /// Whether the peer may be asked.
    #[must_use]
    pub fn are_good(&self) -> bool {
        may_be_asked(self.0.load(Ordering::Acquire))
    }

    /// What is known of the peer.
    #[must_use]
    pub fn state(&self) -> State {
        state(self.0.load(Ordering::Acquire))
    }
}

const fn state(word: u64) -> State {
    match word >> STATE_SHIFT {
        0 => State::Healthy,
        1 => State::MostlyHealthy,
        2 => State::MostlyUnhealthy,
        _ => State::Unhealthy,
    }
}

const fn may_be_asked(word: u64) -> bool {
    matches!(state(word), State::Healthy | State::MostlyHealthy)
}

/// The word after a sign.
fn step(word: u64, sign: Sign, limit: u8) -> u64 {
    let before = state(word);
    let good = sign == Sign::Success;
    if before == if good { State::Healthy } else { State::Unhealthy } {
        return word;
    }
    let kept = word & if good { SUCCESSES } else { FAILURES };
    let count = ((kept >> sign.shift()) & 0xff).saturating_add(1).min(0xff);
    let counts = (kept & !(0xff << sign.shift())) | (count << sign.shift());
    let after = match before {
        _ if count >= u64::from(limit) && good => State::Healthy,
        _ if count >= u64::from(limit) => State::Unhealthy,
        State::Healthy => State::MostlyHealthy,
        State::Unhealthy => State::MostlyUnhealthy,
        between => between,
    };
    counts | ((after as u64) << STATE_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Sign::{HttpFailure, Success, TcpFailure, Timeout};
    use State::{Healthy, MostlyHealthy, MostlyUnhealthy, Unhealthy};

    /// Signs with their thresholds, and the state after each.
    #[track_caller]
    fn check(signs: &[(Sign, u8, State)]) {
        let marks = Marks::default();
        for (number, (sign, limit, expected)) in signs.iter().enumerate() {
            let before = marks.are_good();
            let told = marks.note(*sign, *limit);
            assert_eq!(marks.state(), *expected, "sign {number} of {signs:?}");
            assert_eq!(told, (before != marks.are_good()).then(|| marks.are_good()));
        }
    }

    #[test]
    fn failures_add_up_until_their_threshold() {
        check(&[(HttpFailure, 2, MostlyHealthy), (HttpFailure, 2, Unhealthy)]);
        check(&[(TcpFailure, 1, Unhealthy), (TcpFailure, 1, Unhealthy)]);
        check(&[(Timeout, 0, Healthy), (TcpFailure, 0, Healthy), (HttpFailure, 0, Healthy)]);
    }

    #[test]
    fn kinds_of_failures_are_counted_apart() {
        check(&[
            (HttpFailure, 2, MostlyHealthy),
            (TcpFailure, 2, MostlyHealthy),
            (Timeout, 2, MostlyHealthy),
            (TcpFailure, 2, Unhealthy),
        ]);
    }

    #[test]
    fn a_success_forgets_failures_and_a_failure_successes() {
        check(&[
            (HttpFailure, 2, MostlyHealthy),
            (Success, 1, Healthy),
            (HttpFailure, 2, MostlyHealthy),
            (HttpFailure, 2, Unhealthy),
            (Success, 2, MostlyUnhealthy),
            (HttpFailure, 2, MostlyUnhealthy),
            (Success, 2, MostlyUnhealthy),
            (Success, 2, Healthy),
        ]);
    }

    #[test]
    fn without_a_threshold_for_successes_a_failure_is_remembered() {
        check(&[
            (HttpFailure, 2, MostlyHealthy),
            (Success, 0, MostlyHealthy),
            (HttpFailure, 2, Unhealthy),
            (Success, 0, Unhealthy),
        ]);
    }

    #[test]
    fn a_mark_by_hand_forgets_the_counts() {
        let marks = Marks::default();
        assert_eq!(marks.note(HttpFailure, 2), None);
        assert_eq!((marks.set(false), marks.set(false)), (Some(false), None));
        assert_eq!((marks.set(true), marks.state()), (Some(true), Healthy));
        assert_eq!((marks.note(HttpFailure, 2), marks.state()), (None, MostlyHealthy));
    }

    #[test]
    fn counts_do_not_run_over() {
        let marks = Marks::default();
        assert_eq!(marks.note(TcpFailure, 255), None);
        let often = |sign| (0..1_000).filter_map(|_| marks.note(sign, 255)).count();
        assert_eq!(often(HttpFailure), 1);
        assert_eq!(marks.state(), Unhealthy);
        assert_eq!(often(Success), 1);
        assert_eq!(marks.state(), Healthy);
    }

    #[test]
    fn threads_count_together() {
        let marks = Marks::default();
        let turned: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..25).filter_map(|_| marks.note(Timeout, 100)).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((turned, marks.state()), (1, Unhealthy));
    }
}
