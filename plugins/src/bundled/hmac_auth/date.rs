//! Dates of HTTP in their three forms, as nginx reads them (`ngx_parse_http_time`): the names of
//! days are not looked at, and nothing behind the time is.

/// Unix time in seconds.
pub(super) fn unix_s(text: &[u8]) -> Option<i64> {
    let mark = text.iter().position(|byte| matches!(byte, b',' | b' '))?;
    let is_asctime = text.get(mark) == Some(&b' ');
    let rest = text.get(mark + 1..)?.trim_ascii_start();
    let (year, month, day, time) = if is_asctime { asctime(rest)? } else { rfc(rest)? };
    let (hour, minute, second) = clock(time)?;
    if hour > 23 || minute > 59 || second > 59 || day < 1 || day > days_of(year, month) {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// `06 Nov 1994 08:49:37`, or `06-Nov-94 08:49:37`.
fn rfc(text: &[u8]) -> Option<(i64, i64, i64, &[u8])> {
    let day = number(text, 0, 2)?;
    let dash = *text.get(2)?;
    let month = month(text.get(3..6)?)?;
    if !matches!(dash, b' ' | b'-') || text.get(6) != Some(&dash) {
        return None;
    }
    if dash == b' ' {
        return Some((number(text, 7, 4)?, month, day, after_space(text, 11)?));
    }
    let year = number(text, 7, 2)?;
    let century = if year < 70 { 2_000 } else { 1_900 };
    Some((century + year, month, day, after_space(text, 9)?))
}

/// `Nov  6 08:49:37 1994`.
fn asctime(text: &[u8]) -> Option<(i64, i64, i64, &[u8])> {
    let month = month(text.get(..3)?)?;
    let day = match text.get(4)? {
        b' ' => number(text, 5, 1)?,
        _ => number(text, 4, 2)?,
    };
    Some((number(text, 16, 4)?, month, day, text.get(7..15)?))
}

fn after_space(text: &[u8], at: usize) -> Option<&[u8]> {
    text.get(at..)?.strip_prefix(b" ")
}

fn clock(text: &[u8]) -> Option<(i64, i64, i64)> {
    if text.get(2) != Some(&b':') || text.get(5) != Some(&b':') {
        return None;
    }
    Some((number(text, 0, 2)?, number(text, 3, 2)?, number(text, 6, 2)?))
}

fn number(text: &[u8], at: usize, digits: usize) -> Option<i64> {
    let digits = text.get(at..at + digits)?;
    digits.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

fn month(name: &[u8]) -> Option<i64> {
    Some(match name {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    })
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date of the Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(unix_s(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn three_forms_are_read() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199));
        check("Thu, 01 Jan 2026 00:00:00 GMT", Some(1_767_225_600));
        check("x,01 Jan 2026 00:00:00", Some(1_767_225_600));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for odd in [
            "",
            "nonsense",
            "Thu, 30 Feb 2024 00:00:00 GMT",
            "Thu, 00 Jan 2024 00:00:00 GMT",
            "Thu, 01 Jan 2024 24:00:00 GMT",
            "Thu, 01 Jan 2024 00:00",
            "Thu, 1 Jan 2024 00:00:00 GMT",
            "Thu, 01 Xxx 2024 00:00:00 GMT",
            "2026-01-01T00:00:00Z",
            "1767225600",
            ", , ,",
        ] {
            check(odd, None);
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut expected = days(1800, 1, 1);
        for year in 1800..2200 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    assert_eq!(days(year, month, day), expected, "{year}-{month}-{day}");
                    expected += 1;
                }
            }
        }
    }
}
