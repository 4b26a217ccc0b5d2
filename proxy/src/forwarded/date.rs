//! The time as HTTP writes it.

use runtime::clock;
use runtime::http::head::Response;

/// Bytes of a date.
pub const DATE_LEN: usize = 29;

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// `Sat, 21 Nov 2026 21:33:50 GMT` of a time in Unix seconds; years beyond 9999 wrap.
#[must_use]
pub fn http_date(unix_s: u64) -> [u8; DATE_LEN] {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Counts from 1 March of year 0, so that a leap day ends its year.
    // Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
    let from_march = days + 719_468;
    let (era, of_era) = (from_march / 146_097, from_march % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 2 } else { shifted - 10 };
    let year = era * 400 + year_of_era + u64::from(month < 2);

    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    put(&mut out, 0, *name(&DAYS, days % 7));
    put(&mut out, 5, two(day));
    put(&mut out, 8, *name(&MONTHS, month));
    put(&mut out, 12, two(year / 100));
    put(&mut out, 14, two(year));
    put(&mut out, 17, two(second / 3_600));
    put(&mut out, 20, two(second / 60 % 60));
    put(&mut out, 23, two(second % 60));
    out
}

/// Now, for an answer that does not tell when it was made.
#[must_use]
pub fn missing(response: &Response) -> Option<[u8; DATE_LEN]> {
    (!response.fields.contains("date")).then(|| http_date(clock::wall_us() / 1_000_000))
}

fn name<'a>(names: &[&'a [u8; 3]], at: u64) -> &'a [u8; 3] {
    usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or(b"???")
}

fn two(number: u64) -> [u8; 2] {
    let digit = |n: u64| b'0' + u8::try_from(n % 10).unwrap_or_default();
    [digit(number / 10), digit(number)]
}

fn put<const N: usize>(out: &mut [u8; DATE_LEN], at: usize, text: [u8; N]) {
    if let Some(slot) = out.get_mut(at..at + N) {
        slot.copy_from_slice(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unix_s: u64, expected: &str) {
        assert_eq!(std::str::from_utf8(&http_date(unix_s)).unwrap(), expected);
    }

    #[test]
    fn dates_that_others_worked_out() {
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT");
        check(1_795_296_830, "Sat, 21 Nov 2026 21:33:50 GMT");
        check(4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
