//! How long to wait after a failure. Pure.

/// The first wait, in milliseconds.
pub const DELAY_MS_MIN: u64 = 200;
/// The longest wait of our own, in milliseconds: a destination that came back is not kept waiting.
pub const DELAY_MS_MAX: u64 = 4_000;
/// The longest wait that a destination may ask for with `Retry-After`.
pub const RETRY_AFTER_MS_MAX: u64 = 60_000;
/// The wait after 401, 402 or 403: someone has to do something first.
pub const PAUSE_MS: u64 = 30_000;

/// Milliseconds to wait after `failures` failures in a row: doubled each time, between half and all
/// of it by `random`, so that gateways that failed together do not return together.
pub const fn delay_ms(failures: u32, random: u64) -> u64 {
    let doublings = if failures > 16 { 16 } else { failures.saturating_sub(1) };
    let whole = DELAY_MS_MIN << doublings;
    let whole = if whole > DELAY_MS_MAX { DELAY_MS_MAX } else { whole };
    whole / 2 + random % (whole / 2 + 1)
}

/// The next number of a small generator; good enough to spread waits.
pub const fn next_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_their_bounds() {
        for (failures, whole) in
            [(0, 200), (1, 200), (2, 400), (3, 800), (5, 3_200), (6, 4_000), (u32::MAX, 4_000)]
        {
            for random in [0, 1, 99, 1 << 31, u64::MAX] {
                let delay = delay_ms(failures, random);
                assert!((whole / 2..=whole).contains(&delay), "{failures} {random}: {delay}");
            }
        }
    }
}
