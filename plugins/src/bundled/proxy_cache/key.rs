//! What a response is kept under, as Kong computes it.
//!
//! The SHA-256 digest of `who|method|line|arguments|headers`. Who is `<consumer>:<route>`,
//! `<route>` or `default`; the request line is cut at its question mark, so that one without
//! arguments keeps its version.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use runtime::http::head::{Fields, Version};
use uuid::Uuid;

use crate::pdk::Exchange;
use crate::pdk::cache::Key;
use crate::pdk::{lines, query};

/// What the key is made of.
#[derive(Debug, Default)]
pub(super) struct Keying {
    pub(super) ignore_uri_case: bool,
    /// Arguments that count; all of them where none is named.
    pub(super) query_params: Vec<String>,
    /// Request headers that count.
    pub(super) headers: Vec<String>,
}

/// The values of an argument; none where it stands without `=`.
type Arguments = BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>;

impl Keying {
    pub(super) fn key(&self, exchange: &Exchange) -> Key {
        let mut text = Vec::with_capacity(256);
        let mut id = Uuid::encode_buffer();
        match (exchange.consumer.as_ref(), exchange.route_id()) {
            (Some(consumer), Some(route)) => {
                text.extend_from_slice(consumer.id().hyphenated().encode_lower(&mut id).as_bytes());
                text.push(b':');
                text.extend_from_slice(route.hyphenated().encode_lower(&mut id).as_bytes());
            }
            (None, Some(route)) => {
                text.extend_from_slice(route.hyphenated().encode_lower(&mut id).as_bytes());
            }
            (_, None) => text.extend_from_slice(b"default"),
        }
        text.push(b'|');
        text.extend_from_slice(exchange.request.method().as_bytes());
        text.push(b'|');
        let from = text.len();
        self.write_line(exchange, &mut text);
        if self.ignore_uri_case {
            text.iter_mut().skip(from).for_each(u8::make_ascii_lowercase);
        }
        text.push(b'|');
        self.write_arguments(&exchange.onward.query, &mut text);
        text.push(b'|');
        self.write_headers(&exchange.request.fields, &mut text);
        let mut key = Key::default();
        key.copy_from_slice(digest(&SHA256, &text).as_ref());
        key
    }

    fn write_line(&self, exchange: &Exchange, out: &mut Vec<u8>) {
        out.extend_from_slice(exchange.request.method().as_bytes());
        out.push(b' ');
        out.extend_from_slice(exchange.raw_path());
        if exchange.query().is_none() {
            out.extend_from_slice(match exchange.request.version {
                Version::H10 => b" HTTP/1.0",
                Version::H2 => b" HTTP/2.0",
                _ => b" HTTP/1.1",
            });
        }
    }

    fn write_arguments(&self, text: &[u8], out: &mut Vec<u8>) {
        let mut arguments = arguments(text);
        let mut first = true;
        let mut write = |name: &[u8], values: &mut Vec<Option<Vec<u8>>>, out: &mut Vec<u8>| {
            if !std::mem::replace(&mut first, false) {
                out.push(b':');
            }
            out.extend_from_slice(name);
            if values.as_slice() != [None] {
                let mut texts: Vec<&[u8]> =
                    values.iter().map(|value| value.as_deref().unwrap_or(b"true")).collect();
                texts.sort_unstable();
                out.push(b'=');
                out.extend_from_slice(&texts.join(&b","[..]));
            }
        };
        if self.query_params.is_empty() {
            for (name, values) in &mut arguments {
                write(name, values, out);
            }
            return;
        }
        for name in &self.query_params {
            if let Some(values) = arguments.get_mut(name.as_bytes()) {
                write(name.as_bytes(), values, out);
            }
        }
    }

    fn write_headers(&self, fields: &Fields, out: &mut Vec<u8>) {
        let mut first = true;
        for name in &self.headers {
            let mut values: Vec<&[u8]> = fields.all(&lines::spelled(fields, name)).collect();
            if values.is_empty() {
                continue;
            }
            if !std::mem::replace(&mut first, false) {
                out.push(b':');
            }
            values.sort_unstable();
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            out.extend_from_slice(&values.join(&b","[..]));
        }
    }
}

fn arguments(text: &[u8]) -> Arguments {
    let mut all = Arguments::new();
    for part in text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
        let (name, value) = match memchr::memchr(b'=', part) {
            Some(at) => (part.get(..at).unwrap_or_default(), part.get(at + 1..)),
            None => (part, None),
        };
        if !name.is_empty() {
            let value = value.map(|value| query::decoded(value).into_owned());
            all.entry(query::decoded(name).into_owned()).or_default().push(value);
        }
    }
    all
}

/// The key that 64 digits stand for.
pub(super) fn of_hex(text: &str) -> Option<Key> {
    let mut key = Key::default();
    (text.len() == 64).then_some(())?;
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        pair.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::credentials;
    use crate::pdk::script::Script;
    use serde_json::json;

    /// The text that the digest is of, behind the route's part.
    #[track_caller]
    fn check(keying: &Keying, target: &str, fields: &[(&str, &str)], expected: &str) {
        let script = Script::new(&super::super::PLUGIN, json!({"strategy": "memory"}));
        let exchange = script.get(target, fields);
        let expected = digest(&SHA256, format!("default|{expected}").as_bytes());
        assert_eq!(keying.key(&exchange).as_slice(), expected.as_ref(), "{target}");
    }

    #[test]
    fn the_key_is_that_of_kong() {
        let all = Keying::default();
        check(&all, "/r/a?x=1", &[], "GET|GET /r/a|x=1|");
        check(&all, "/r/1", &[], "GET|GET /r/1 HTTP/1.1||");
        check(&all, "/r?b=2&a=1&c&b=1&d=", &[], "GET|GET /r|a=1:b=1,2:c:d=|");
        check(&all, "/r?a=%41+b&=1", &[], "GET|GET /r|a=A b|");
        let some = Keying {
            ignore_uri_case: true,
            query_params: vec!["q".into(), "a".into()],
            headers: vec!["x-v".into(), "X-W".into()],
        };
        let sent = [("X-V", "b"), ("x-v", "a"), ("x-w", "")];
        check(&some, "/R/v?q=1&z=1&a=2", &sent, "GET|get /r/v|q=1:a=2|x-v=a,b:X-W=");
        check(&some, "/V", &[], "GET|get /v http/1.1||");
    }

    #[test]
    fn keys_are_written_as_digits() {
        let key: Key = std::array::from_fn(|at| (at * 37) as u8);
        assert_eq!(of_hex(&credentials::hex(&key)), Some(key));
        for text in ["", "0", &"g".repeat(64), &"+1".repeat(32), &"0".repeat(63), &"0".repeat(66)] {
            assert_eq!(of_hex(text), None);
        }
    }
}
