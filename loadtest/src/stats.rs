//! Means of paired rounds with their 95 % intervals.

use std::fmt;

/// A mean and the interval that holds the true one with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl fmt::Display for Estimate {
    /// As many digits as the format asks for, three where it does not.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = out.precision().unwrap_or(3);
        let Self { mean, low, high } = self;
        write!(out, "{mean:.digits$} [{low:.digits$}, {high:.digits$}]")
    }
}

/// Two-sided 95 % points of Student's distribution for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// The mean of `values`; the interval is infinite for fewer than two.
pub fn mean(values: &[f64]) -> Estimate {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return Estimate { mean, low: f64::NEG_INFINITY, high: f64::INFINITY };
    }
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let student = STUDENT.get(values.len() - 2).copied().unwrap_or(1.96);
    let half = student * (variance / count).sqrt();
    Estimate { mean, low: mean - half, high: mean + half }
}

/// The geometric mean of `ours[i] / theirs[i]`, round by round.
pub fn ratio(ours: &[f64], theirs: &[f64]) -> Estimate {
    let logs: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| (a / b).ln()).collect();
    let Estimate { mean, low, high } = mean(&logs);
    Estimate { mean: mean.exp(), low: low.exp(), high: high.exp() }
}

/// The mean of `ours[i] - theirs[i]`, round by round.
pub fn difference(ours: &[f64], theirs: &[f64]) -> Estimate {
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    mean(&differences)
}

/// The median of `ours[i] - theirs[i]`, round by round, between two of the differences themselves:
/// so a round in which the machine stood still counts as one round, however long it stood. The
/// interval is infinite below six rounds.
pub fn middle_difference(ours: &[f64], theirs: &[f64]) -> Estimate {
    let mut differences: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    differences.sort_by(f64::total_cmp);
    let count = differences.len();
    // How many of the differences lie below the true median is a matter of so many coins.
    let (mut outside, mut coins, mut beyond) = (0, 1.0, 0.0);
    while outside < count / 2 {
        beyond += coins / 2_f64.powi(count as i32);
        if beyond > 0.025 {
            break;
        }
        outside += 1;
        coins *= (count + 1 - outside) as f64 / outside as f64;
    }
    let end =
        |at: Option<usize>, none| at.and_then(|at| differences.get(at)).copied().unwrap_or(none);
    let low = end(outside.checked_sub(1), f64::NEG_INFINITY);
    let high = end((outside > 0).then(|| count - outside), f64::INFINITY);
    Estimate { mean: median(&differences), low, high }
}

/// The slope of the straight line through points (x, y), by least squares; the interval is infinite
/// for fewer than three. It takes the points' distances from the line for independent.
pub fn slope(points: &[(f64, f64)]) -> Estimate {
    let count = points.len() as f64;
    let x_mean = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let y_mean = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    let common: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let mean = if spread > 0.0 { common / spread } else { 0.0 };
    if points.len() < 3 {
        return Estimate { mean, low: f64::NEG_INFINITY, high: f64::INFINITY };
    }
    let away = |(x, y): &(f64, f64)| (y - y_mean - mean * (x - x_mean)).powi(2);
    let variance = points.iter().map(away).sum::<f64>() / (count - 2.0);
    let student = STUDENT.get(points.len() - 3).copied().unwrap_or(1.96);
    let half = student * (variance / spread).sqrt();
    Estimate { mean, low: mean - half, high: mean + half }
}

/// The middle value; 0 if there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: Estimate, mean: f64, half: f64) {
        assert!((found.mean - mean).abs() < 1e-3, "{found:?}");
        assert!((found.high - found.mean - half).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn intervals_are_those_of_the_textbook() {
        check(mean(&[1.0, 2.0, 3.0, 4.0]), 2.5, 3.182 * (5.0_f64 / 3.0 / 4.0).sqrt());
        check(difference(&[3.0, 5.0], &[1.0, 1.0]), 3.0, 12.706);
    }

    #[test]
    fn the_median_of_differences_lies_between_two_of_them() {
        #[track_caller]
        fn check(count: u32, expected: [f64; 3]) {
            let ours: Vec<f64> = (1..=count).map(|at| f64::from(at).powi(3)).collect();
            let theirs = vec![0.0; ours.len()];
            let found = middle_difference(&ours, &theirs);
            assert_eq!([found.mean, found.low, found.high].map(f64::cbrt), expected, "{count}");
        }
        check(5, [3.0, f64::NEG_INFINITY, f64::INFINITY]);
        check(6, [4.0, 1.0, 6.0]);
        check(10, [6.0, 2.0, 9.0]);
        check(12, [7.0, 3.0, 10.0]);
        check(20, [11.0, 6.0, 15.0]);
    }

    #[test]
    fn ratios_are_geometric() {
        let found = ratio(&[1.0, 4.0], &[2.0, 2.0]);
        assert!((found.mean - 1.0).abs() < 1e-9, "{found:?}");
        assert!(found.low < 0.1 && found.high > 10.0);
    }

    #[test]
    fn a_slope_is_found_with_its_doubt() {
        let line: Vec<(f64, f64)> =
            (0..10).map(|x| (f64::from(x), 5.0 + 2.0 * f64::from(x))).collect();
        check(slope(&line), 2.0, 0.0);
        let half = 4.303 * (0.7_f64 / 2.0 / 5.0).sqrt();
        check(slope(&[(1.0, 1.0), (2.0, 2.0), (3.0, 2.0), (4.0, 4.0)]), 0.9, half);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[]), 0.0);
    }
}
