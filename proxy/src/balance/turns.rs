//! Round-robin by weight: whose turn it is, for every number of a turn.
//!
//! In one cycle of as many turns as the weights have in sum (divided by what they have in common)
//! everybody comes exactly as often as it weighs. Turns walk the cycle in steps of about its golden
//! section, so that nobody's turns come in a heap. Nothing is laid out: a thousand weights of any
//! size cost a thousand numbers, and a turn costs one search among them.
//!
//! Source: Kong `kong/runloop/balancer/round_robin.lua` (a wheel of as many places, shuffled).

/// Part of the cycle that one step goes: the golden section leaves the most even gaps.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// A cycle of turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    /// Where each one's share of the cycle ends.
    ends: Box<[u64]>,
    cycle: u64,
    /// Has no divisor in common with the cycle, so that every place is met once.
    step: u64,
}

impl Turns {
    /// A cycle for these weights, in their order. A weight of 0 gets no turn.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        let common = weights.iter().fold(0, |all, weight| divisor(all, u64::from(*weight))).max(1);
        let mut cycle = 0;
        let ends = weights.iter().map(|weight| {
            cycle += u64::from(*weight) / common;
            cycle
        });
        let ends = ends.collect();
        let mut step = ((cycle as f64 * GOLDEN).round() as u64).max(1);
        // Two numbers in a row are never both out, and few in a row share a divisor.
        while divisor(step, cycle) > 1 {
            step += 1;
        }
        Self { ends, cycle, step }
    }

    /// Whose turn it is; nobody's if all weights are 0.
    #[must_use]
    pub fn at(&self, turn: u64) -> Option<usize> {
        let place = u128::from(turn) * u128::from(self.step);
        let place = place.checked_rem(u128::from(self.cycle))? as u64;
        Some(self.ends.partition_point(|end| *end <= place))
    }

    /// How many turns a cycle has.
    #[must_use]
    pub fn cycle(&self) -> u64 {
        self.cycle
    }
}

/// The greatest common divisor.
const fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of one cycle, and the longest time that the rarest waits, in turns.
    #[track_caller]
    fn check(weights: &[u32], cycle: u64, counts: &[usize]) {
        let turns = Turns::new(weights);
        assert_eq!(turns.cycle(), cycle, "{weights:?}");
        for first in [0, 1, cycle, u64::MAX - cycle] {
            let mut met = vec![0; weights.len()];
            for turn in first..first + cycle {
                met[turns.at(turn).unwrap()] += 1;
            }
            assert_eq!(met, counts, "{weights:?} from turn {first}");
        }
    }

    #[test]
    fn everybody_comes_as_often_as_it_weighs() {
        check(&[100, 100], 2, &[1, 1]);
        check(&[30, 10], 4, &[3, 1]);
        check(&[0, 10], 1, &[0, 1]);
        check(&[7], 1, &[1]);
        check(&[5, 1, 1], 7, &[5, 1, 1]);
        check(&[100, 0, 50, 25], 7, &[4, 0, 2, 1]);
        check(&[3, 65_535], 21_846, &[1, 21_845]);
        check(&[1; 1_000], 1_000, &[1; 1_000]);
    }

    #[test]
    fn nobody_has_a_turn_where_nobody_weighs() {
        assert_eq!(Turns::new(&[]).at(7), None);
        assert_eq!(Turns::new(&[0, 0]).at(7), None);
    }

    /// Random weights: exact shares over a cycle, and near ones over any stretch of it.
    #[test]
    fn any_stretch_is_near_to_the_shares() {
        for seed in 1..=200_u64 {
            let mut random = crate::balance::samples::Random(seed);
            let count = 1 + random.below(12) as usize;
            let weights: Vec<u32> = (0..count).map(|_| random.below(50) as u32).collect();
            let turns = Turns::new(&weights);
            let sum: u32 = weights.iter().sum();
            let (first, stretch) = (random.below(1 << 40), 1_000);
            let mut met = vec![0_f64; count];
            for turn in first..first + stretch {
                if let Some(at) = turns.at(turn) {
                    met[at] += 1.0;
                }
            }
            for (met, weight) in met.iter().zip(&weights).filter(|_| sum > 0) {
                let share = stretch as f64 * f64::from(*weight) / f64::from(sum);
                assert!((met - share).abs() < 8.0, "seed {seed}: {weights:?} {met} {share}");
            }
        }
    }

    #[test]
    fn turns_do_not_come_in_a_heap() {
        let turns = Turns::new(&[10, 10, 10]);
        let whose: Vec<_> = (0..6).filter_map(|turn| turns.at(turn)).collect();
        assert!(whose.windows(2).all(|two| two[0] != two[1]), "{whose:?}");
        let turns = Turns::new(&[50, 50, 1]);
        let whose: Vec<_> = (0..101).filter_map(|turn| turns.at(turn)).collect();
        let longest = whose.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
        assert!(longest <= Some(3), "{whose:?}");
    }
}
