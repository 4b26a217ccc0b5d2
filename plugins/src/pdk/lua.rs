//! How Kong's language writes what clients see.

/// A number as Lua prints it: whole ones without a fraction, others with 14 digits (`%.14g`).
pub fn number(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return itoa::Buffer::new().format(number as i64).to_owned();
    }
    let (exponent, digits) = match format!("{number:.13e}").split_once('e') {
        Some((digits, exponent)) => (exponent.parse().unwrap_or(0_i32), digits.to_owned()),
        None => return number.to_string(),
    };
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..14).contains(&exponent) {
        let places = usize::try_from(13 - exponent).unwrap_or(0);
        return trimmed(&format!("{number:.places$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(&digits), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_lua_does() {
        for (value, text) in [
            (0.0, "0"),
            (600.0, "600"),
            (-3.0, "-3"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (1e15, "1e+15"),
            (12_345_678_901_234_567_890.0, "1.2345678901235e+19"),
            (1.0 / 3.0, "0.33333333333333"),
            (0.000_012_5, "1.25e-05"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
