//! What Cache-Control and Expires say (RFC 9111).
//!
//! Source: Kong `kong/tools/http.lua` (`parse_directive_header`, `calculate_resource_ttl`).

/// Directives that are looked at; the rest cannot make a response less fresh.
const DIRECTIVES_MAX: usize = 64;
/// A longer time is as good as for ever: some 68 years.
const SECONDS_MAX: u64 = i32::MAX as u64;

/// The directives of Cache-Control, of a request or a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Do not keep, do not answer from what is kept.
    pub no_store: bool,
    /// Do not answer from what is kept without asking.
    pub no_cache: bool,
    /// For one client only.
    pub private: bool,
    /// Answer from what is kept, or not at all.
    pub only_if_cached: bool,
    /// Seconds.
    pub max_age: Option<u64>,
    /// Seconds, for shared caches.
    pub s_maxage: Option<u64>,
    /// Seconds after its end for which a response is still good enough.
    pub max_stale: Option<u64>,
    /// Seconds for which it must still be fresh.
    pub min_fresh: Option<u64>,
}

impl Directives {
    /// Reads all lines of a Cache-Control header. What is not understood is passed over; with more
    /// directives than are read, nothing is kept, since the rest may forbid it.
    pub fn of<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::default();
        let parts = lines.flat_map(|line| line.split(|byte| *byte == b','));
        for (number, part) in parts.enumerate() {
            if number == DIRECTIVES_MAX {
                found.no_store = true;
                break;
            }
            let Ok(part) = std::str::from_utf8(part) else { continue };
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = seconds(value.trim().trim_matches('"'));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" => found.no_store = true,
                "no-cache" => found.no_cache = true,
                "private" => found.private = true,
                "only-if-cached" => found.only_if_cached = true,
                "max-age" => found.max_age = value,
                "s-maxage" => found.s_maxage = value,
                "max-stale" => found.max_stale = Some(value.unwrap_or(SECONDS_MAX)),
                "min-fresh" => found.min_fresh = value,
                _ => {}
            }
        }
        found
    }

    /// For how many seconds a response is fresh: 0 where nothing says so.
    pub fn fresh_s(&self, expires: Option<&[u8]>, now_s: u64) -> u64 {
        let told = self.s_maxage.or(self.max_age);
        told.or_else(|| Some(http_date_s(expires?)?.saturating_sub(now_s)))
            .unwrap_or(0)
            .min(SECONDS_MAX)
    }
}

/// A whole number of seconds; a fraction is cut off.
fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    Some(whole.parse().unwrap_or(SECONDS_MAX).min(SECONDS_MAX))
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since the Unix epoch of a date in any of the three forms of RFC 9110, 5.6.7; none for
/// what is no date, or before 1970.
pub fn http_date_s(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let words: Vec<&str> =
        text.split([' ', ',', '-']).filter(|word| !word.is_empty()).take(7).collect();
    match *words.as_slice() {
        // Sun, 06 Nov 1994 08:49:37 GMT · Sunday, 06-Nov-94 08:49:37 GMT
        [_, day, month, year, time, "GMT"] => {
            let short = year.len() == 2;
            let year: u64 = number(year)?;
            let year = match (short, year) {
                (true, 70..) => 1900 + year,
                (true, _) => 2000 + year,
                (false, year) => year,
            };
            at(year, month, number(day)?, time)
        }
        // Sun Nov  6 08:49:37 1994
        [_, month, day, time, year] => at(number(year)?, month, number(day)?, time),
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    (text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    text.parse().ok()
}

fn at(year: u64, month: &str, day: u64, time: &str) -> Option<u64> {
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let mut parts = time.split(':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let fits = (1970..=9999).contains(&year)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && parts.next().is_none();
    fits.then_some(())?;
    // Days since the epoch, with the year begun in March (H. Hinnant, "chrono-compatible
    // low-level date algorithms").
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era_days = y / 400 * 146_097;
    let of_era = y % 400;
    let days = era_days + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)?) * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Directives) {
        assert_eq!(Directives::of(std::iter::once(text.as_bytes())), expected, "{text}");
    }

    #[test]
    fn directives_are_read() {
        let none = Directives::default();
        check("", none);
        check("max-age=100", Directives { max_age: Some(100), ..none });
        check(
            "s-maxage=5, Max-Age = 1",
            Directives { s_maxage: Some(5), max_age: Some(1), ..none },
        );
        check(
            "no-store,NO-CACHE , private=\"x\"",
            Directives { no_store: true, no_cache: true, private: true, ..none },
        );
        check("only-if-cached", Directives { only_if_cached: true, ..none });
        check("max-stale", Directives { max_stale: Some(SECONDS_MAX), ..none });
        check(
            "max-stale=5,min-fresh=1.9",
            Directives { max_stale: Some(5), min_fresh: Some(1), ..none },
        );
        check("max-age=-1, s-maxage=x, min-fresh=", none);
        check("max-age=\"7\"", Directives { max_age: Some(7), ..none });
        check("max-age=99999999999999999999", Directives { max_age: Some(SECONDS_MAX), ..none });
        check("public, immutable, =, ==", none);
    }

    #[test]
    fn a_directive_behind_more_than_are_read_still_forbids() {
        let many = |last: &str| format!("{}{last}", "public,".repeat(DIRECTIVES_MAX));
        check(&many("private"), Directives { no_store: true, ..Directives::default() });
        check(many("").trim_end_matches(','), Directives::default());
    }

    #[test]
    fn freshness_is_that_of_shared_caches() {
        let fresh = |text: &str, expires: Option<&str>| {
            let directives = Directives::of(std::iter::once(text.as_bytes()));
            directives.fresh_s(expires.map(str::as_bytes), 784_111_777)
        };
        assert_eq!(fresh("s-maxage=5, max-age=1", None), 5);
        assert_eq!(fresh("max-age=0", Some("Sun, 06 Nov 1994 08:50:37 GMT")), 0);
        assert_eq!(fresh("public", Some("Sun, 06 Nov 1994 08:50:37 GMT")), 60);
        assert_eq!(fresh("", Some("Sun, 06 Nov 1994 08:40:37 GMT")), 0);
        assert_eq!(fresh("", Some("0")), 0);
        assert_eq!(fresh("", None), 0);
    }

    #[test]
    fn dates_have_three_forms() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2028 23:59:60 GMT", Some(1_835_481_600)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 6 November 1994 08:49:37 GMT", None),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(http_date_s(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_much(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let found = Directives::of(std::iter::once(text.as_slice()));
            prop_assert!(found.fresh_s(Some(&text), 0) <= SECONDS_MAX);
        }

        #[test]
        fn no_date_is_too_much(
            text in "[A-Za-z]{3},? [0-9]{1,4}[ -][A-Z][a-z]{2}[ -][0-9]{1,5} [0-9:]{1,9} GMT",
        ) {
            let _either = http_date_s(text.as_bytes());
        }
    }
}
