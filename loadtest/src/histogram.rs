//! Latencies in buckets: 1 % wide, from one nanosecond to centuries, in a fixed 18 KiB.

/// Buckets per doubling; a power of two.
const STEPS: u64 = 64;
const STEPS_BITS: u32 = STEPS.trailing_zeros();
const BUCKETS: usize = ((64 - STEPS_BITS as usize) + 1) * STEPS as usize;

/// Counts of latencies in nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_ns: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn add(&mut self, latency_ns: u64) {
        self.counts[bucket(latency_ns)] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(latency_ns);
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest latency, exact, in nanoseconds.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The latency in nanoseconds that the share `quantile` (0 to 1) does not exceed; 0 if empty.
    ///
    /// The answer is the upper end of its bucket, at most 1.6 % too high and never above the
    /// largest value counted.
    pub fn at(&self, quantile: f64) -> u64 {
        let wanted = ((quantile * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_end(index).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        (self.total, self.max_ns) = (0, 0);
    }
}

/// The index of the bucket of a value.
fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS_BITS;
    let doubling = u64::from(shift) + 1;
    (doubling * STEPS + (value >> shift) - STEPS) as usize
}

/// The largest value of a bucket.
fn upper_end(index: usize) -> u64 {
    let (doubling, step) = (index as u64 / STEPS, index as u64 % STEPS);
    if doubling == 0 {
        return step;
    }
    let shift = doubling - 1;
    ((u128::from(STEPS + step + 1) << shift) - 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_its_bucket() {
        for value in (0..70).chain((6..64).flat_map(|n| [(1 << n) - 1, 1 << n, (1 << n) + 1])) {
            let index = bucket(value);
            assert!(value <= upper_end(index), "{value}");
            assert!(index == 0 || value > upper_end(index - 1), "{value}");
            assert!(upper_end(index) as f64 <= value as f64 * 1.016 + 1.0, "{value}");
        }
        assert_eq!(upper_end(bucket(u64::MAX)), u64::MAX);
    }

    #[track_caller]
    fn check(values: impl Iterator<Item = u64>, quantile: f64, low: u64, high: u64) {
        let mut histogram = Histogram::default();
        values.for_each(|value| histogram.add(value));
        let found = histogram.at(quantile);
        assert!((low..=high).contains(&found), "{found}");
    }

    #[test]
    fn quantiles_are_near_the_truth() {
        check(1..=1_000, 0.5, 500, 508);
        check(1..=1_000, 0.99, 990, 1_000);
        check(1..=1_000, 1.0, 1_000, 1_000);
        check([7].into_iter(), 0.999, 7, 7);
        check([].into_iter(), 0.5, 0, 0);
    }
}
