//! What a client asks for: the arguments of the query, those of the body laid over them.

use serde_json::{Map, Value as Json};

use crate::pdk::{Exchange, parameters, query};

/// Named arguments. Texts nearly always; what came twice is a list, what has no `=` is `true`.
#[derive(Debug, Default)]
pub(super) struct Parameters(Map<String, Json>);

impl Parameters {
    /// All arguments of a request. The body must have been read, where there may be one.
    pub(super) fn of(exchange: &Exchange) -> Self {
        let mut all = parameters::of_form(exchange.query().unwrap_or_default());
        if may_have_body(exchange)
            && let Some(body) = exchange.whole_body()
            && let Some(Json::Object(members)) =
                parameters::of_body(&exchange.request.fields, &body)
        {
            all.extend(members);
        }
        Self(all)
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
