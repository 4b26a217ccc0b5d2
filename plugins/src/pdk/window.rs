//! Windows of time: fixed, in UTC, the calendar's months and years.

use runtime::http::head::Name;

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month of the calendar.
    Month,
    /// A year of the calendar.
    Year,
}

/// Every period, from the shortest.
pub const PERIODS: [Period; 6] =
    [Period::Second, Period::Minute, Period::Hour, Period::Day, Period::Month, Period::Year];

const DAY_S: i64 = 86_400;

impl Period {
    /// The name of its field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Tells its counters from those of other periods.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The header that tells rate-limiting's limit.
    pub const fn limit_header(self) -> Name {
        match self {
            Self::Second => const { Name::new("X-RateLimit-Limit-Second: ") },
            Self::Minute => const { Name::new("X-RateLimit-Limit-Minute: ") },
            Self::Hour => const { Name::new("X-RateLimit-Limit-Hour: ") },
            Self::Day => const { Name::new("X-RateLimit-Limit-Day: ") },
            Self::Month => const { Name::new("X-RateLimit-Limit-Month: ") },
            Self::Year => const { Name::new("X-RateLimit-Limit-Year: ") },
        }
    }

    /// The header that tells what is left of it.
    pub const fn left_header(self) -> Name {
        match self {
            Self::Second => const { Name::new("X-RateLimit-Remaining-Second: ") },
            Self::Minute => const { Name::new("X-RateLimit-Remaining-Minute: ") },
            Self::Hour => const { Name::new("X-RateLimit-Remaining-Hour: ") },
            Self::Day => const { Name::new("X-RateLimit-Remaining-Day: ") },
            Self::Month => const { Name::new("X-RateLimit-Remaining-Month: ") },
            Self::Year => const { Name::new("X-RateLimit-Remaining-Year: ") },
        }
    }

    /// Seconds by which Kong computes RateLimit-Reset: 30 and 365 days for months and years.
    pub const fn usual_length_s(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => DAY_S,
            Self::Month => 30 * DAY_S,
            Self::Year => 365 * DAY_S,
        }
    }

    /// The number of the window that holds a moment, in seconds since the Unix epoch.
    pub fn window(self, now_s: i64) -> u64 {
        let today = || civil(now_s.div_euclid(DAY_S));
        let number = match self {
            Self::Month => {
                let (year, month) = today();
                year * 12 + month - 1
            }
            Self::Year => today().0,
            _ => now_s.div_euclid(self.usual_length_s()),
        };
        number.max(0).cast_unsigned()
    }

    /// An end of that window, at the earliest its own: months count as 31 days, years as 366.
    pub fn ends_s(self, now_s: i64) -> u64 {
        let longest_s = match self {
            Self::Month => 31 * DAY_S,
            Self::Year => 366 * DAY_S,
            _ => self.usual_length_s(),
        };
        (self.start_s(now_s) + longest_s).max(0).cast_unsigned()
    }

    /// When the window that holds a moment began.
    pub fn start_s(self, now_s: i64) -> i64 {
        let today = || civil(now_s.div_euclid(DAY_S));
        match self {
            Self::Month => {
                let (year, month) = today();
                days_before(year, month) * DAY_S
            }
            Self::Year => days_before(today().0, 1) * DAY_S,
            _ => now_s - now_s.rem_euclid(self.usual_length_s()),
        }
    }
}

/// Year and month (1 to 12) of a day counted from the Unix epoch, in the Gregorian calendar.
fn civil(day: i64) -> (i64, i64) {
    // Counted from 1 March of year 0, so that the leap day is the last of a year.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month)
}

/// Days from the Unix epoch to the first of a month.
fn days_before(year: i64, month: i64) -> i64 {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(now_s: i64, period: Period, start_s: i64) {
        assert_eq!(period.start_s(now_s), start_s, "{period:?} at {now_s}");
        assert_eq!(period.window(start_s), period.window(now_s), "{period:?} at {now_s}");
        assert_ne!(period.window(start_s - 1), period.window(now_s), "{period:?} at {now_s}");
    }

    #[test]
    fn windows_begin_where_the_calendar_says() {
        // 2026-11-21 12:34:56 UTC.
        let now_s = 1_795_264_496;
        check(now_s, Period::Second, now_s);
        check(now_s, Period::Minute, 1_795_264_440);
        check(now_s, Period::Hour, 1_795_262_400);
        check(now_s, Period::Day, 1_795_219_200);
        check(now_s, Period::Month, 1_793_491_200);
        check(now_s, Period::Year, 1_767_225_600);
        // 2024-02-29 and 2024-03-01.
        check(1_709_164_800, Period::Month, 1_706_745_600);
        check(1_709_251_200, Period::Month, 1_709_251_200);
    }

    #[test]
    fn every_day_of_a_thousand_years_is_in_the_month_that_begins_before_it() {
        let (mut year, mut month) = (1970, 1);
        for day in 0..365_000 {
            let found = civil(day);
            if found != (year, month) {
                (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                assert_eq!(found, (year, month), "day {day}");
                assert_eq!(days_before(year, month), day);
            }
        }
    }
}
