//! Which plain words are numbers, booleans and nulls: YAML 1.1, as Kong's reader has it.

use serde_json::{Number, Value as Json};

/// The value of a plain word.
pub(super) fn resolve(word: &str) -> Json {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => return Json::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return true.into();
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return false.into();
        }
        _ => {}
    }
    number(word).unwrap_or_else(|| word.into())
}

/// Longest word that is looked at as a number.
const NUMBER_BYTES_MAX: usize = 64;

fn number(word: &str) -> Option<Json> {
    let numeric = |byte: &u8| byte.is_ascii_hexdigit() || b"+-._:xb".contains(byte);
    if word.len() > NUMBER_BYTES_MAX || !word.as_bytes().iter().all(numeric) {
        return None;
    }
    let (negative, rest) = match word.as_bytes().first()? {
        b'-' => (true, word.get(1..)?),
        b'+' => (false, word.get(1..)?),
        _ => (false, word),
    };
    let signed = |number: f64| if negative { -number } else { number };
    whole(rest)
        .or_else(|| fraction(rest))
        .or_else(|| sixties(rest))
        .and_then(|number| json(signed(number)))
}

fn json(number: f64) -> Option<Json> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return Some((number as i64).into());
    }
    Number::from_f64(number).map(Json::Number)
}

/// `010` is eight, `0x10` sixteen, `0b10` two, `1_000` a thousand.
fn whole(word: &str) -> Option<f64> {
    let digits = word.replace('_', "");
    if let Some(hex) = digits.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(|number| number as f64);
    }
    if let Some(binary) = digits.strip_prefix("0b") {
        return u64::from_str_radix(binary, 2).ok().map(|number| number as f64);
    }
    if !word.starts_with(|first: char| first.is_ascii_digit())
        || !digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    match digits.strip_prefix('0') {
        Some(octal) if !octal.is_empty() && octal.bytes().all(|byte| byte < b'8') => {
            u64::from_str_radix(octal, 8).ok().map(|number| number as f64)
        }
        _ => digits.parse().ok(),
    }
}

fn fraction(word: &str) -> Option<f64> {
    let digits = word.replace('_', "");
    let plain = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    let has_digit = digits.bytes().any(|byte| byte.is_ascii_digit());
    if !has_digit || !digits.bytes().all(plain) || !digits.contains(['.', 'e', 'E']) {
        return None;
    }
    digits.parse().ok().filter(|number: &f64| number.is_finite())
}

/// `1:30` is ninety: times of old YAML.
fn sixties(word: &str) -> Option<f64> {
    let (whole, fraction) = match word.split_once('.') {
        Some((whole, digits)) if !digits.is_empty() => {
            (whole, format!("0.{digits}").parse::<f64>().ok()?)
        }
        Some(_) => return None,
        None => (word, 0.0),
    };
    let parts: Vec<&str> = whole.split(':').collect();
    let second = parts.get(1)?;
    let two_digits = matches!(second.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    if !two_digits {
        return None;
    }
    let mut number = 0.0;
    for part in parts {
        number = number * 60.0 + f64::from(part.parse::<u32>().ok()?);
    }
    Some(number + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn check(words: &[&str], expected: Json) {
        for word in words {
            assert_eq!(resolve(word), expected, "{word}");
        }
    }

    #[test]
    fn words_are_what_kong_takes_them_for() {
        check(&["", "~", "null", "NULL"], Json::Null);
        check(&["true", "Yes", "ON"], json!(true));
        check(&["false", "no", "Off"], json!(false));
        check(&["8", "+8", "010", "0x8", "0b1000", "0_10", "8.0", "8e0"], json!(8));
        check(&["-1_000", "-1000", "-1e3"], json!(-1000));
        check(&["0.5", ".5", "5e-1"], json!(0.5));
        check(&["1:30"], json!(90));
        check(&["1:30.5"], json!(90.5));
        check(&["089"], json!(89));
        check(&["0", "-0"], json!(0));
        for word in [
            "a",
            "nO",
            "y",
            "10.0.0.1",
            "10.0.0.1:80",
            "1:80",
            "a:80",
            "1.2.3",
            "-",
            "+",
            ".",
            "e",
            "0x",
            "0xg",
            "::1",
            "1e999",
            "127.0.0.1",
            "/a",
            "bad",
            "-a",
            "1:2:",
            "feed",
        ] {
            check(&[word], json!(word));
        }
    }
}
