//! How full the machine is for this process: a thread of its own looks, the cores read one flag.
//!
//! Above the limit of memory a core begins no further exchange while it has more than
//! `EXCHANGES_ALWAYS` under way: the clients get 503 with Retry-After. Those few are always served,
//! so a node whose memory does not fall again goes on serving.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::process;

/// Exchanges that each core may have under way however little memory there is.
pub const EXCHANGES_ALWAYS: usize = 64;
/// How often the process's memory is looked at.
const LOOK_MS: u64 = 100;
/// Of the limit, this share of a hundred has to be free again before all are served.
const RELIEF_PERCENT: u64 = 5;
/// Without a limit of the operator's, this share of a hundred of the control group's.
const GROUP_PERCENT: u64 = 90;
/// Where the control group's limit stands: version 2, version 1.
const GROUP_FILES: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// A control group of version 1 without a limit says something above this.
const GROUP_BYTES_MAX: u64 = 1 << 60;

/// What the cores see.
#[derive(Debug, Default)]
pub struct Pressure {
    high: AtomicBool,
    bytes_max: AtomicU64,
}

impl Pressure {
    /// Whether memory is above its limit.
    pub fn is_high(&self) -> bool {
        self.high.load(Ordering::Relaxed)
    }

    /// The limit in bytes; 0 is none.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// Notes a reading; tells whether the answer of `is_high` has changed.
    fn note(&self, bytes: u64) -> bool {
        let most = self.bytes_max();
        let free_again = most - most / 100 * RELIEF_PERCENT;
        let high = if self.is_high() { bytes > free_again } else { bytes > most };
        self.high.swap(high, Ordering::Relaxed) != high
    }
}

/// Starts to look, if there is a limit. The thread ends with what it is looked for.
///
/// # Errors
/// One sentence: no thread can be started.
pub fn start(given: Option<u64>) -> Result<Arc<Pressure>, String> {
    let pressure = Arc::new(Pressure::default());
    let Some(bytes_max) = given.or_else(of_group).filter(|bytes| *bytes > 0) else {
        return Ok(pressure);
    };
    pressure.bytes_max.store(bytes_max, Ordering::Relaxed);
    let seen = Arc::downgrade(&pressure);
    let look = move || {
        while let Some(pressure) = seen.upgrade() {
            let bytes = process::memory_bytes();
            if pressure.note(bytes) {
                let words = if pressure.is_high() { "above" } else { "below" };
                log::warn!("memory is {words} its limit: {bytes} of {bytes_max} bytes");
            }
            drop(pressure);
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
    };
    let started = thread::Builder::new().name("pressure".to_owned()).spawn(look);
    started.map_err(|fault| format!("memory cannot be watched: {fault}"))?;
    Ok(pressure)
}

/// The share of the control group's limit that is ours to use, if there is a limit.
fn of_group() -> Option<u64> {
    let limit = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let bytes = GROUP_FILES.into_iter().find_map(limit)?;
    (bytes < GROUP_BYTES_MAX).then_some(bytes / 100 * GROUP_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relief_needs_some_room() {
        let pressure = Pressure { bytes_max: AtomicU64::new(1_000), ..Pressure::default() };
        for (bytes, changed, high) in [
            (1_000, false, false),
            (1_001, true, true),
            (960, false, true),
            (950, true, false),
            (1_000, false, false),
        ] {
            assert_eq!((pressure.note(bytes), pressure.is_high()), (changed, high), "{bytes}");
        }
    }

    #[test]
    fn the_process_is_looked_at() {
        let pressure = start(Some(1)).unwrap();
        for _ in 0..500 {
            if pressure.is_high() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("more than one byte is in use");
    }
}
