//! What two runs may differ in, taken out: ids, times, ports, latencies, orders that mean nothing.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value, json};

/// Header lines that are the gateway's or the connection's own, or say how the body travels.
const OWN_LINES: &[&str] = &[
    "date",
    "connection",
    "keep-alive",
    "content-length",
    "transfer-encoding",
    "via",
    "x-kong-upstream-latency",
    "x-kong-proxy-latency",
    "x-kong-response-latency",
    "x-kong-admin-latency",
    "x-kong-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-real-ip",
];

/// Takes out what differs from run to run. Ids become `<id 1>` and so on, in the order in which
/// this side showed them: equal ids must be equal on the other side too.
pub(crate) struct Normal {
    seen: BTreeMap<String, String>,
    pattern: Regex,
}

impl Normal {
    pub(crate) fn new() -> Self {
        let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
        let pattern = format!(r"{uuid}|\b[0-9a-f]{{64}}\b|\b[0-9a-f]{{32}}\b|127\.0\.0\.1:[0-9]+");
        Self { seen: BTreeMap::new(), pattern: Regex::new(&pattern).unwrap() }
    }

    /// A text without ids and ports.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let (seen, pattern) = (&mut self.seen, &self.pattern);
        let replaced = pattern.replace_all(text, |found: &regex::Captures<'_>| {
            let found = &found[0];
            match found.len() {
                _ if found.starts_with("127.") => "<address>".to_owned(),
                32 => "<request>".to_owned(),
                _ => {
                    let next = format!("<id {}>", seen.len() + 1);
                    seen.entry(found.to_owned()).or_insert(next).clone()
                }
            }
        });
        replaced.into_owned()
    }

    /// Header lines in order of name, without the gateway's own.
    pub(crate) fn lines<'a>(&mut self, lines: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
        let mut kept: Vec<_> = lines
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .filter(|(name, _)| !OWN_LINES.contains(&name.as_str()))
            .collect();
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        let line = |(name, value): &(String, &str)| match name.as_str() {
            "server" => json!([name, value.split('/').next().map(product)]),
            "age" | "ratelimit-reset" | "retry-after" => json!([name, "<number>"]),
            // In the order of random ids.
            "x-consumer-groups" => {
                let mut groups: Vec<_> = value.split(", ").collect();
                groups.sort_unstable();
                json!([name, groups])
            }
            "set-cookie" => json!([name, without_end(&self.text(value))]),
            _ => json!([name, self.text(value)]),
        };
        kept.iter().map(line).collect()
    }

    /// A body: JSON by its meaning, anything else as text.
    pub(crate) fn body(&mut self, body: &[u8]) -> Value {
        match serde_json::from_slice(body) {
            Ok(json) => self.json(&json),
            Err(_) => Value::from(self.text(&String::from_utf8_lossy(body))),
        }
    }

    fn json(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            // Numbers by their value, as far as a double goes; not those that are times.
            Value::Number(number) => match number.as_f64() {
                Some(number) if number > 1.7e9 && number < 2.0e12 => "<time>".into(),
                Some(number) => json!(format!("{number:.12e}")),
                None => Value::Null,
            },
            Value::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Value::Object(members) => {
                let mut names: Vec<_> = members.keys().collect();
                names.sort();
                let member = |name: &String| match name.as_str() {
                    "ttl" if members[name].is_number() => (name.clone(), "<number>".into()),
                    _ => (name.clone(), self.json(&members[name])),
                };
                Value::Object(names.into_iter().map(member).collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }

    /// A request as the upstream got it.
    pub(crate) fn request(&mut self, head: &str, body: &[u8]) -> Value {
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or("");
        let pairs: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        json!({
            "line": self.text(&sorted(first)),
            "headers": self.lines(pairs.into_iter()),
            "body": self.body(body),
        })
    }
}

/// A cookie without the time at which it ends, unless that has passed.
fn without_end(line: &str) -> String {
    match line.split_once("; Expires=") {
        Some((start, end)) if !end.starts_with("Thu, 01 Jan 1970") => {
            let rest = end.split_once(';').map_or("", |(_, rest)| rest);
            format!("{start}; Expires=<time>;{rest}")
        }
        _ => line.to_owned(),
    }
}

/// Either product's name.
fn product(name: &str) -> &str {
    if name == "kong" || name == "tollgate" { "<gateway>" } else { name }
}

/// A request line with its arguments in order.
fn sorted(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if let Some((path, query)) = words.get(1).and_then(|target| target.split_once('?')) {
        let mut arguments: Vec<&str> = query.split('&').collect();
        arguments.sort_unstable();
        words[1] = format!("{path}?{}", arguments.join("&"));
    }
    words.join(" ")
}
