//! One recorded case: its steps, run against anything that answers calls.

use super::normal::{ADMIN_PORT, Normaliser, OTHER_PORT, UPSTREAM_PORT, answer_of, probe, python};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use store::admin::{Call, Reply};

/// What became of a case.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Differences between the recorded answers and ours.
    pub(crate) wrong: Vec<String>,
    /// Steps that went through the Admin API.
    pub(crate) ran: usize,
    /// Steps that are not about the Admin API: proxy, TLS, waiting.
    pub(crate) skipped: usize,
}

/// Runs one case against `gateway`, which holds no entity yet.
pub(crate) fn run(
    case: &Value,
    golden: &[Value],
    gateway: &mut dyn FnMut(Call) -> Reply,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut normal = Normaliser::default();
    let mut names = names();
    let steps = case["steps"].as_array().expect("a case has steps");
    for (at, step) in steps.iter().enumerate() {
        let Some(line) = step["admin"].as_str().filter(|_| step.get("repeat").is_none()) else {
            outcome.skipped += 1;
            continue;
        };
        outcome.ran += 1;
        let raw = answer_of(&gateway(call(&fill(step, &names))));
        save(step, &raw["body"], &mut names, &mut normal);
        let shown = normal.value(&parts(step, &raw), "");
        let expected = golden.get(at).unwrap_or(&Value::Null);
        let mut found = Vec::new();
        differences(expected, &shown, "", &mut found);
        outcome.wrong.extend(found.iter().map(|found| format!("step {} {line} {found}", at + 1)));
    }
    outcome
}

fn names() -> BTreeMap<String, String> {
    [
        ("upstream_host", "127.0.0.1".to_owned()),
        ("upstream_port", UPSTREAM_PORT.to_string()),
        ("other_port", OTHER_PORT.to_string()),
        ("admin_port", ADMIN_PORT.to_string()),
        ("upstream", format!("http://127.0.0.1:{UPSTREAM_PORT}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Puts saved values in the places of their names.
fn fill(value: &Value, names: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => {
            let braces = Regex::new(r"\{(\w+)\}").expect("a valid pattern");
            let filled = braces.replace_all(text, |found: &regex::Captures<'_>| {
                names.get(&found[1]).cloned().unwrap_or_else(|| found[0].to_owned())
            });
            json!(filled)
        }
        Value::Object(fields) => {
            let filled: Map<_, _> = fields
                .iter()
                .map(|(name, value)| {
                    let name = fill(&json!(name), names);
                    (python(&name), fill(value, names))
                })
                .collect();
            match filled.get("int") {
                Some(number) if filled.len() == 1 => {
                    json!(python(number).parse::<i64>().expect("a whole number"))
                }
                _ => Value::Object(filled),
            }
        }
        Value::Array(items) => items.iter().map(|item| fill(item, names)).collect(),
        other => other.clone(),
    }
}

/// The request of a step.
fn call(step: &Value) -> Call {
    let (method, target) =
        step["admin"].as_str().and_then(|line| line.split_once(' ')).expect("method and target");
    let mut call = Call::new(method, target);
    for header in step["headers"].as_array().into_iter().flatten() {
        call = call.header(&python(&header[0]), python(&header[1]).as_bytes());
    }
    if let Some(document) = step.get("json") {
        let call = call.header("Content-Type", b"application/json");
        return call.with_body(document.to_string().into_bytes());
    }
    if let Some(form) = step["form"].as_str() {
        let call = call.header("Content-Type", b"application/x-www-form-urlencoded");
        return call.with_body(form.as_bytes().to_vec());
    }
    let body: Vec<u8> =
        step["body"].as_str().unwrap_or_default().chars().map(|symbol| symbol as u8).collect();
    let times = step["times"].as_u64().unwrap_or(1);
    call.with_body(body.repeat(usize::try_from(times).expect("few times")))
}

fn save(step: &Value, body: &Value, names: &mut BTreeMap<String, String>, normal: &mut Normaliser) {
    for (name, path) in step["save"].as_object().into_iter().flatten() {
        let value = python(&probe(body, &python(path)));
        if value.len() > 7 && value != "<absent>" {
            normal.saved.push((value.clone(), format!("<{name}>")));
        }
        names.insert(name.clone(), value);
    }
}

/// The parts of an answer that the step compares.
fn parts(step: &Value, answer: &Value) -> Value {
    if step.get("only").is_none() && step.get("matches").is_none() {
        return answer.clone();
    }
    let mut parts = Map::new();
    for path in step["only"].as_array().into_iter().flatten() {
        let path = python(path);
        parts.insert(path.clone(), probe(answer, &path));
    }
    for (path, pattern) in step["matches"].as_object().into_iter().flatten() {
        let pattern = python(pattern);
        let fits = Regex::new(&pattern).expect("a valid pattern");
        let fits = fits.is_match(&python(&probe(answer, path)));
        parts.insert(format!("{path} matches {pattern}"), json!(fits));
    }
    Value::Object(parts)
}

fn differences(want: &Value, got: &Value, path: &str, found: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            for (name, value) in got.iter().filter(|(name, _)| !want.contains_key(*name)) {
                found.push(format!("{path}.{name}: unexpected {value}"));
            }
            for (name, value) in want {
                match got.get(name) {
                    Some(other) => differences(value, other, &format!("{path}.{name}"), found),
                    None => found.push(format!("{path}.{name}: missing, want {value}")),
                }
            }
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            for (at, (want, got)) in want.iter().zip(got).enumerate() {
                differences(want, got, &format!("{path}[{at}]"), found);
            }
        }
        _ if want == got => {}
        _ => found.push(format!("{path}: want {want}, got {got}")),
    }
}
