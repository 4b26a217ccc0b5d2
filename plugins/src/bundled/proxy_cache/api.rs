//! The endpoints of the cache in the Admin API.
//!
//! As in Kong, all rows of the plugin share one cache: a row only says whose it is.
//!
//! Source: Kong `kong/plugins/proxy-cache/api.lua`; recorded calls.

use serde_json::{Map, Value, json};
use store::admin::{Method, Reply};
use uuid::Uuid;

use super::key;
use crate::pdk::cache::Entry;
use crate::pdk::{Asked, Endpoint, Lent, credentials};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/proxy-cache",
        methods: &[Method::Delete],
        answer: |_, lent| {
            lent.cache.settle();
            lent.cache.clear();
            Reply::empty(204)
        },
        ..Endpoint::EMPTY
    },
    Endpoint {
        path: "/proxy-cache/{cache_key}",
        methods: &[Method::Delete, Method::Get],
        answer: |asked, lent| {
            let mut rows = asked.tables.all("plugins");
            let [digits] = asked.parameters else { return Reply::not_found() };
            match rows.any(|row| row.text("name") == Some("proxy-cache")) {
                true => one(asked, lent, digits),
                false => Reply::not_found(),
            }
        },
        ..Endpoint::EMPTY
    },
    Endpoint {
        path: "/proxy-cache/{plugin_id}/caches/{cache_key}",
        methods: &[Method::Delete, Method::Get],
        answer: |asked, lent| {
            let [plugin, digits] = asked.parameters else { return Reply::not_found() };
            let id = Uuid::parse_str(plugin).ok();
            let row = id.and_then(|id| asked.tables.get("plugins", id));
            match row.filter(|row| row.text("name") == Some("proxy-cache")) {
                Some(_) => one(asked, lent, digits),
                None => Reply::not_found(),
            }
        },
        ..Endpoint::EMPTY
    },
];

fn one(asked: &Asked<'_>, lent: &Lent, digits: &str) -> Reply {
    let now_us = asked.now_s.cast_unsigned().saturating_mul(1_000_000);
    lent.cache.settle();
    let found = key::of_hex(digits).and_then(|key| lent.cache.get(&key, now_us));
    match (found, asked.method) {
        (None, _) => Reply::not_found(),
        (Some(entry), Method::Delete) => {
            lent.cache.forget(&entry.key);
            Reply::empty(204)
        }
        (Some(entry), _) => Reply::json(200, &shown(&entry)),
    }
}

/// An entry as Kong shows it.
fn shown(entry: &Entry) -> Value {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
    let mut headers = Map::new();
    for (name, value) in entry.fields.iter() {
        let slot = headers.entry(String::from_utf8_lossy(name)).or_insert(Value::Null);
        *slot = match slot.take() {
            Value::Null => text(value),
            Value::Array(mut values) => {
                values.push(text(value));
                values.into()
            }
            first => vec![first, text(value)].into(),
        };
    }
    headers.insert("content-length".to_owned(), entry.body.len().to_string().into());
    headers.insert("X-Cache-Key".to_owned(), credentials::hex(&entry.key).into());
    json!({
        "version": 1,
        "status": entry.status,
        "headers": headers,
        "body": text(&entry.body),
        "body_len": entry.body.len(),
        "req_body": "",
        "timestamp": entry.kept_us / 1_000_000,
        "ttl": entry.fresh_s,
    })
}
