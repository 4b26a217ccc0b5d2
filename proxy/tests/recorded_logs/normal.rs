//! What two runs may differ in, taken out of what sinks get: ids, times, ports, sizes that turn on
//! the product's name.

use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Members that differ from run to run, wherever they stand.
const OWN: &[&str] = &[
    "id",
    "ws_id",
    "workspace",
    "created_at",
    "updated_at",
    "started_at",
    "balancer_start",
    "balancer_start_ns",
    "balancer_latency",
    "balancer_latency_ns",
    "x-kong-request-id",
    "x-kong-proxy-latency",
    "x-kong-upstream-latency",
    "x-kong-response-latency",
    "x-consumer-id",
    "x-credential-identifier",
    "port",
];

/// What a sink got: a document, documents, lines of metrics, or a head before a document.
pub(crate) fn entry(text: &str) -> Value {
    if let Ok(json) = serde_json::from_str(text) {
        return document(&json);
    }
    if let Some((head, rest)) = text.split_once(" {") {
        let inner = serde_json::from_str(&format!("{{{rest}")).unwrap_or(Value::Null);
        return json!([head_of(head), document(&inner)]);
    }
    let own = |line: &&str| !line.contains(".shdict.");
    let mut lines: Vec<String> = text.lines().filter(own).map(line).collect();
    lines.sort();
    json!(lines)
}

/// `<14>1 TIME HOST kong - - […]` without time and host; `<14>Nov … kong[1]:` without all of it.
fn head_of(head: &str) -> String {
    if head.contains(" kong[") {
        let end = head.find('>').map_or(0, |at| at + 1);
        return head[..end].to_owned();
    }
    let words: Vec<&str> = head.split(' ').collect();
    let kept = words.iter().enumerate().filter(|(at, _)| !matches!(at, 1 | 2));
    kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

/// A line of metrics: times and sizes of answers are numbers, ids are ids.
fn line(line: &str) -> String {
    let line = ids(line);
    let measured = ["latency", "response.size"];
    let Some((name, rest)) = line.split_once(':').filter(|(name, _)| {
        let own = name.split(['#', ',', '[']).next().unwrap_or(name);
        measured.iter().any(|word| own.ends_with(word))
    }) else {
        return hosts(&line);
    };
    let tail = rest.rsplit_once('|').map_or(rest, |(_, tail)| tail);
    let sign = if rest.starts_with("-1|") { "-1" } else { "<number>" };
    // Tags may stand before or behind the value.
    match line.split_once("]:").or_else(|| line.rsplit_once(">:")) {
        Some((name, _)) => hosts(&format!("{name}:{sign}|{tail}")),
        None => {
            let kind = rest.split_once('|').map_or("", |(_, kind)| kind);
            hosts(&format!("{name}:{sign}|{kind}"))
        }
    }
}

fn hosts(text: &str) -> String {
    let here = rustix::system::uname().nodename().to_string_lossy().replace('.', "_");
    let named = |text: &str, host: &str| {
        text.replace(&format!("node:{host}"), "node:<host>")
            .replace(&format!("node={host}"), "node=<host>")
            .replace(&format!("node.{host}"), "node.<host>")
    };
    named(&named(text, "gateway"), &here)
}

/// UUIDs become `<id>`, in either way of writing.
fn ids(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let candidate = rest.get(..36).map(|id| id.replace('_', "-"));
        let boundary = out.chars().last().is_none_or(|c| !c.is_ascii_hexdigit() || c == 'a');
        if boundary && candidate.is_some_and(|id| Uuid::try_parse(&id).is_ok()) {
            out.push_str("<id>");
            rest = &rest[36..];
        } else {
            let next = rest.chars().next().unwrap();
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

fn document(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(document).collect(),
        Value::Object(members) => {
            let mut kept = Map::new();
            for (name, value) in members {
                let shown = match name.as_str() {
                    own if OWN.contains(&own) => json!("<own>"),
                    "latencies" => latencies(value),
                    "response" => response(value),
                    "url" => json!(without_port(value.as_str().unwrap_or(""))),
                    _ => document(value),
                };
                kept.insert(name.clone(), shown);
            }
            kept.sort_keys();
            Value::Object(kept)
        }
        Value::String(text) => json!(product(&ids(text))),
        other => other.clone(),
    }
}

fn latencies(value: &Value) -> Value {
    let shown = |value: &Value| if *value == json!(-1) { json!(-1) } else { json!("<number>") };
    let members = value.as_object().into_iter().flatten();
    Value::Object(members.map(|(name, value)| (name.clone(), shown(value))).collect())
}

/// The size turns on the product's name and on the digits of latencies.
fn response(value: &Value) -> Value {
    let mut response = document(value);
    if let Some(size) = response.get_mut("size") {
        *size = json!("<number>");
    }
    if let Some(length) = response["headers"].get_mut("content-length") {
        *length = json!("<number>");
    }
    response
}

fn without_port(url: &str) -> String {
    let digits = url.rsplit(':').next().unwrap_or("");
    let end = digits.find('/').unwrap_or(digits.len());
    url.replacen(&format!(":{}", &digits[..end]), ":<port>", 2)
}

fn product(text: &str) -> String {
    let own = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
    text.replace(own, "<gateway>").replace("kong/3.9.1", "<gateway>")
}
