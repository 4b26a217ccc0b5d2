//! What is known of one peer's life, shared by every core and by the office: its health, the
//! requests that it is busy with, how fast it answers.
//!
//! It outlives the lists that it stands in: a change of other peers, or of this one's weight, keeps
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::marks::Marks;

/// Time after which what was measured counts for a third.
const DECAY_US: f32 = 10_000_000.0;

/// One peer's life.
#[derive(Debug, Default)]
pub struct Vital {
    /// Its health.
    pub marks: Marks,
    /// Requests under way, counted where the algorithm asks for it.
    busy: AtomicU32,
    /// Smoothed time of an answer in microseconds (`f32`), and when it was measured, in
    /// milliseconds of the process's clock; one word, so that both belong together.
    pace: AtomicU64,
}

impl Vital {
    /// Requests under way.
    #[must_use]
    pub fn busy(&self) -> u32 {
        self.busy.load(Ordering::Relaxed)
    }

    /// The smoothed time of an answer as it counts now, in microseconds; 0 if none was measured.
    #[must_use]
    pub fn pace_us(&self, now_us: u64) -> f32 {
        let (pace_us, at_ms) = self.paced();
        pace_us * faded(since_us(at_ms, now_us))
    }

    /// Takes one more measurement into account.
    pub fn measured(&self, took_us: u64, now_us: u64) {
        let (pace_us, at_ms) = self.paced();
        let old = faded(since_us(at_ms, now_us));
        // Two cores may measure at once: the later word stands, one measurement is lost.
        self.set_pace(pace_us * old + took_us as f32 * (1.0 - old), now_us);
    }

    /// Begins with this pace: a new peer is taken to be as fast as the others are.
    pub fn set_pace(&self, pace_us: f32, now_us: u64) {
        let at_ms = u64::from((now_us / 1_000) as u32);
        self.pace.store((u64::from(pace_us.to_bits()) << 32) | at_ms, Ordering::Relaxed);
    }

    /// Whether its pace was ever set or measured.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.pace.load(Ordering::Relaxed) != 0
    }

    fn paced(&self) -> (f32, u32) {
        let word = self.pace.load(Ordering::Relaxed);
        (f32::from_bits((word >> 32) as u32), word as u32)
    }
}

/// Microseconds since a time in milliseconds, of which the lower 32 bits are known: they begin
/// anew every 49 days.
fn since_us(at_ms: u32, now_us: u64) -> u64 {
    u64::from(((now_us / 1_000) as u32).wrapping_sub(at_ms)) * 1_000
}

/// About e^(-t/10 s), by three terms of its reciprocal: cheap, and it only falls.
fn faded(since_us: u64) -> f32 {
    let x = since_us as f32 / DECAY_US;
    1.0 / (1.0 + x + x * x / 2.0)
}

/// A request under way at a peer. Dropping it ends the request: it counts no longer, and its time
/// is measured.
#[derive(Debug)]
pub struct Lease {
    vital: Arc<Vital>,
    /// When it began, where the time counts.
    since_us: Option<u64>,
}

impl Lease {
    /// Begins a request whose number counts.
    #[must_use]
    pub fn counted(vital: &Arc<Vital>) -> Self {
        vital.busy.fetch_add(1, Ordering::Relaxed);
        Self { vital: Arc::clone(vital), since_us: None }
    }

    /// Begins a request whose time counts.
    #[must_use]
    pub fn timed(vital: &Arc<Vital>, now_us: u64) -> Self {
        vital.busy.fetch_add(1, Ordering::Relaxed);
        Self { vital: Arc::clone(vital), since_us: Some(now_us) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.vital.busy.fetch_sub(1, Ordering::Relaxed);
        if let Some(since_us) = self.since_us {
            let now_us = runtime::clock::now_us();
            self.vital.measured(now_us.saturating_sub(since_us), now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn a_lease_counts_while_it_lives() {
        let vital = Arc::new(Vital::default());
        let (one, two) = (Lease::counted(&vital), Lease::timed(&vital, 1));
        assert_eq!(vital.busy(), 2);
        drop(one);
        assert_eq!((vital.busy(), vital.is_paced()), (1, false));
        drop(two);
        assert_eq!((vital.busy(), vital.is_paced()), (0, true));
    }

    #[test]
    fn what_was_measured_fades() {
        let vital = Vital::default();
        vital.set_pace(800.0, 100 * SECOND_US);
        let at = |s: u64| vital.pace_us((100 + s) * SECOND_US);
        assert!((at(0) - 800.0).abs() < 1.0);
        assert!((at(10) - 320.0).abs() < 1.0, "{}", at(10));
        assert!(at(60) < 40.0 && at(60) > 0.0);
    }

    #[test]
    fn a_process_may_be_old() {
        let vital = Vital::default();
        let turn_us = (1_u64 << 32) * 1_000;
        vital.set_pace(800.0, 5 * turn_us - SECOND_US);
        assert!((vital.pace_us(5 * turn_us + 9 * SECOND_US) - 320.0).abs() < 1.0);
    }

    #[test]
    fn measurements_move_it_by_their_distance() {
        let vital = Vital::default();
        vital.set_pace(100.0, 100 * SECOND_US);
        vital.measured(1_100, 100 * SECOND_US);
        assert!((vital.pace_us(100 * SECOND_US) - 100.0).abs() < 1.0, "no time has passed");
        vital.measured(1_100, 110 * SECOND_US);
        assert!((vital.pace_us(110 * SECOND_US) - 700.0).abs() < 1.0);
    }
}
