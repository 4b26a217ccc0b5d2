//! `GET /schemas/…` against what a real Kong printed.

use serde_json::Value;
use std::path::Path;

/// Every difference between a recorded schema and ours; `None` if none is recorded.
pub(crate) fn between(path: &Path, ours: &Value, name: &str) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(path).ok()?;
    let theirs: Value = serde_json::from_str(&text).expect("JSON");
    let mut found = Vec::new();
    compare(&plain(&theirs), &plain(ours), name, &mut found);
    Some(found)
}

/// Without what Kong adds to a field at its first check (a string's minimum length, that elements
/// are required), and with the fields of the whole in the order of their names: Kong's is random.
fn plain(schema: &Value) -> Value {
    let mut schema = without_added(schema, false);
    if let Some(fields) = schema["fields"].as_array_mut() {
        fields.sort_by_key(ToString::to_string);
    }
    schema
}

fn without_added(value: &Value, element: bool) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, value)| {
                let added = *name == "len_min" && **value == 1;
                !(added || element && *name == "required" && **value == true)
            });
            let element = |name: &str| ["elements", "keys", "values"].contains(&name);
            let kept =
                kept.map(|(name, value)| (name.clone(), without_added(value, element(name))));
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(|item| without_added(item, false)).collect(),
        other => other.clone(),
    }
}

fn compare(want: &Value, got: &Value, path: &str, found: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            for (name, value) in got.iter().filter(|(name, _)| !want.contains_key(*name)) {
                found.push(format!("{path}.{name}: unexpected {value}"));
            }
            for (name, value) in want {
                match got.get(name) {
                    Some(other) => compare(value, other, &format!("{path}.{name}"), found),
                    None => found.push(format!("{path}.{name}: missing, want {value}")),
                }
            }
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            for (want, got) in want.iter().zip(got) {
                let name = want.as_object().and_then(|field| field.keys().next());
                let path = name.map_or(path.to_owned(), |name| format!("{path}/{name}"));
                compare(want, got, &path, found);
            }
        }
        _ if want == got => {}
        _ => found.push(format!("{path}: want {want}, got {got}")),
    }
}
