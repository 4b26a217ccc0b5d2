//! What a client asks for: the arguments of the query, those of the body laid over them.
//!
//! A body is a form or a JSON object (multipart forms, which Kong takes too, are not read).

use serde_json::{Map, Value as Json};

use crate::pdk::{Exchange, query};

/// Named arguments. Texts nearly always; what came twice is a list, what has no `=` is `true`.
#[derive(Debug, Default)]
pub(super) struct Parameters(Map<String, Json>);

impl Parameters {
    /// All arguments of a request. The body must have been read, where there may be one.
    pub(super) fn of(exchange: &Exchange) -> Self {
        let mut all = Self::default();
        all.take_form(exchange.query().unwrap_or_default());
        if !may_have_body(exchange) {
            return all;
        }
        let body = exchange.whole_body().unwrap_or_default();
        if is_form(exchange) {
            let mut form = Self::default();
            form.take_form(&body);
            all.0.extend(form.0);
        } else if is_type(exchange, "application/json")
            && let Ok(Json::Object(members)) = serde_json::from_slice(&body)
        {
            all.0.extend(members);
        }
        all
    }

    fn take_form(&mut self, form: &[u8]) {
        for (name, value) in query::arguments(form) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let value = value.map_or(Json::Bool(true), |value| text(&value).into());
            match self.0.get_mut(&text(&name)) {
                Some(Json::Array(before)) => before.push(value),
                Some(before) => *before = Json::Array(vec![before.take(), value]),
                None => drop(self.0.insert(text(&name), value)),
            }
        }
    }

    /// An argument, if it is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// An argument of any kind.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }
}

/// Whether Kong looks for arguments in the body.
pub(super) fn may_have_body(exchange: &Exchange) -> bool {
    matches!(exchange.request.method(), "POST" | "PUT" | "PATCH")
}

/// Whether the body is a form.
pub(super) fn is_form(exchange: &Exchange) -> bool {
    is_type(exchange, "application/x-www-form-urlencoded")
}

fn is_type(exchange: &Exchange, name: &str) -> bool {
    let kind = exchange.request.fields.get("content-type").unwrap_or_default();
    let start = kind.get(..name.len()).unwrap_or_default();
    start.eq_ignore_ascii_case(name.as_bytes())
}

/// Arguments written as a query: by name, escaped as nginx's Lua module does.
pub(super) fn encoded(arguments: &std::collections::BTreeMap<String, String>) -> String {
    let pairs = arguments.iter().map(|(name, value)| match value.as_str() {
        "" => format!("{}=", escaped(name)),
        value => format!("{}={}", escaped(name), escaped(value)),
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"!'()*-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&crate::pdk::credentials::hex(&[byte]));
        }
    }
    out
}

/// The arguments of a query, to be written again.
pub(super) fn decoded(query: &str) -> std::collections::BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = query::arguments(query.as_bytes());
    all.map(|(name, value)| (text(&name), text(&value.unwrap_or_default()))).collect()
}
