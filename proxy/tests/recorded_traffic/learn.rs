//! What both sides made up: tokens, hashes, cookies. What was called so then is called so now.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use crate::http::Response;

/// Notes what a response shows for the first time.
pub(crate) fn learn(names: &mut BTreeMap<String, String>, expected: &Value, found: &Response) {
    let then = expected["body"].as_str().unwrap_or_default();
    let now = found.text();
    if let (Ok(then), Ok(now)) = (serde_json::from_str(then), serde_json::from_str(&now)) {
        walk(names, &then, &now);
    }
    for name in ["set-cookie", "session-id", "x-cache-key"] {
        let then = super::replay::pairs(&expected["headers"]);
        let then = then.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let now = found.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        for (then, (_, now)) in then.zip(now) {
            match name {
                "set-cookie" => cookie(names, then, now),
                _ => drop(names.insert(then.to_owned(), now.clone())),
            }
        }
    }
}

fn walk(names: &mut BTreeMap<String, String>, then: &Value, now: &Value) {
    match (then, now) {
        (Value::String(then), Value::String(now)) => texts(names, then, now),
        (Value::Array(then), Value::Array(now)) => {
            then.iter().zip(now).for_each(|(then, now)| walk(names, then, now));
        }
        (Value::Object(then), Value::Object(now)) => {
            for (name, then) in then {
                walk(names, then, now.get(name).unwrap_or(&Value::Null));
            }
        }
        _ => {}
    }
}

/// Secrets of letters and digits inside texts, and whole hashes.
fn texts(names: &mut BTreeMap<String, String>, then: &str, now: &str) {
    let secret = Regex::new(r"^\$pbkdf2-.*|[A-Za-z0-9]{32,}").unwrap();
    let all = |text: &str| -> Vec<String> {
        secret.find_iter(text).map(|found| found.as_str().to_owned()).collect()
    };
    let (then, now) = (all(then), all(now));
    if then.len() == now.len() {
        names.extend(then.into_iter().zip(now));
    }
}

/// The value of a cookie, where both have one of the same length.
fn cookie(names: &mut BTreeMap<String, String>, then: &str, now: &str) {
    let value = |line: &str| {
        let pair = line.split(';').next().unwrap_or_default();
        pair.split_once('=').map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let (then, now) = (value(then), value(now));
    if !then.is_empty() && then.len() == now.len() {
        names.insert(then, now);
    }
}
