//! Answers without what differs from run to run: ids, times, secrets, ports.
//!
//! A port of the conformance runner's rules, so that its golden files can be used as they are.

use regex::Regex;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use store::admin::Reply;

const TIME_KEYS: &[&str] = &["created_at", "updated_at", "expire_at", "last_seen"];
const SECRET_KEYS: &[&str] =
    &["key", "secret", "client_id", "client_secret", "request_id", "provision_key"];
const IGNORED: &[&str] = &["date", "connection", "content-length", "vary", "server"];

/// Ports of the runner's upstreams and of the Admin API, as the cases name them.
pub(crate) const UPSTREAM_PORT: u64 = 41_001;
/// The second upstream.
pub(crate) const OTHER_PORT: u64 = 41_002;
/// The Admin API.
pub(crate) const ADMIN_PORT: u64 = 8001;

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

static UUID: LazyLock<Regex> =
    LazyLock::new(|| regex("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
static HEX32: LazyLock<Regex> = LazyLock::new(|| regex(r"\b[0-9a-f]{32}\b"));
static KEY: LazyLock<Regex> = LazyLock::new(|| regex(r"\b[0-9A-Za-z]{32}\b"));
static SHA1: LazyLock<Regex> = LazyLock::new(|| regex(r"\b[0-9a-f]{40}\b"));

/// Lives as long as one case, so that equal ids get equal names.
#[derive(Default)]
pub(crate) struct Normaliser {
    /// Values that the case saved, and their names.
    pub(crate) saved: Vec<(String, String)>,
    uuids: Vec<String>,
}

impl Normaliser {
    /// Replaces what differs from run to run.
    pub(crate) fn value(&mut self, value: &Value, key: &str) -> Value {
        match value {
            Value::Object(fields) => {
                let mut sorted: Vec<_> = fields.iter().collect();
                sorted.sort_by_key(|(name, _)| *name);
                let mut shown = Map::new();
                for (name, value) in sorted {
                    let last = name.rsplit('.').next().unwrap_or(name);
                    let value = self.value(value, last);
                    shown.insert(self.text(name, ""), value);
                }
                Value::Object(shown)
            }
            Value::Array(items) => items.iter().map(|item| self.value(item, key)).collect(),
            Value::Number(_) if TIME_KEYS.contains(&key) => json!("<time>"),
            // Seconds that are left may pass while a case runs.
            Value::Number(_) if key == "ttl" => json!("<seconds>"),
            Value::Number(number) if key == "port" => match number.as_u64() {
                Some(UPSTREAM_PORT) => json!("<upstream-port>"),
                Some(OTHER_PORT) => json!("<other-port>"),
                Some(ADMIN_PORT) => json!("<admin-port>"),
                _ => value.clone(),
            },
            Value::String(text) => json!(self.text(text, key)),
            other => other.clone(),
        }
    }

    fn text(&mut self, text: &str, key: &str) -> String {
        let mut text = text.to_owned();
        for (real, name) in &self.saved {
            text = text.replace(real, name);
        }
        text = UUID.replace_all(&text, |found: &regex::Captures<'_>| self.uuid(&found[0])).into();
        text = HEX32.replace_all(&text, "<hex32>").into();
        for (port, name) in [(UPSTREAM_PORT, "upstream"), (OTHER_PORT, "other")] {
            text = text.replace(&format!("127.0.0.1:{port}"), &format!("<{name}>"));
            text = text.replace(&port.to_string(), &format!("<{name}-port>"));
        }
        text = text.replace(&format!("127.0.0.1:{ADMIN_PORT}"), "<admin>");
        if key == "password" {
            text = SHA1.replace_all(&text, "<sha1>").into();
        }
        if SECRET_KEYS.contains(&key) {
            text = KEY.replace_all(&text, "<key>").into();
        }
        text
    }

    fn uuid(&mut self, id: &str) -> String {
        let at = self.uuids.iter().position(|known| known == id).unwrap_or_else(|| {
            self.uuids.push(id.to_owned());
            self.uuids.len() - 1
        });
        format!("<uuid-{}>", at + 1)
    }
}

/// A reply as the golden files have it, before anything is replaced.
pub(crate) fn answer_of(reply: &Reply) -> Value {
    let mut headers = Map::new();
    for (name, value) in &reply.headers {
        let name = name.to_ascii_lowercase();
        if !IGNORED.contains(&name.as_str()) && !name.starts_with("access-control") {
            let values = headers.entry(name).or_insert_with(|| json!([]));
            values.as_array_mut().expect("made above").push(json!(value));
        }
    }
    let body = serde_json::from_slice(&reply.body)
        .unwrap_or_else(|_| json!(String::from_utf8_lossy(&reply.body)));
    json!({ "status": reply.status, "headers": headers, "body": body })
}

/// The value at a dotted path, or `<absent>`.
pub(crate) fn probe(answer: &Value, path: &str) -> Value {
    let found = path.split('.').try_fold(answer, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get(part),
        _ => None,
    });
    found.cloned().unwrap_or_else(|| json!("<absent>"))
}

/// A value as Python's `str` prints it: the cases' patterns are written against that.
pub(crate) fn python(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{text}'"),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let shown = fields.iter().map(|(name, value)| format!("'{name}': {}", repr(value)));
            format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
        }
    }
}
