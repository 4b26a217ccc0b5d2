//! Arguments in a request's body: a form, a multipart form, or a JSON document, as
//! `kong.request.get_body` reads them.
//!
//! Source: Kong `kong/pdk/request.lua` (`get_body`).

use runtime::http::head::Fields;
use serde_json::{Map, Value as Json};

use super::multipart::Form;
use super::query;

/// How a body can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
    /// `multipart/form-data`.
    Multipart,
}

impl Content {
    /// By the first Content-Type, which begins with one of the three.
    pub fn of(fields: &Fields) -> Option<Self> {
        let kind = fields.get("content-type")?;
        let is = |name: &str| {
            kind.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        };
        [
            ("application/x-www-form-urlencoded", Self::Form),
            ("application/json", Self::Json),
            ("multipart/form-data", Self::Multipart),
        ]
        .into_iter()
        .find_map(|(name, content)| is(name).then_some(content))
    }
}

/// The arguments of a body: an object, or the list that the JSON document is; none where the body
/// is nothing of that kind. What came twice is a list, what has no `=` is `true`.
pub fn of_body(fields: &Fields, body: &[u8]) -> Option<Json> {
    match Content::of(fields)? {
        Content::Form => Some(of_form(body).into()),
        Content::Json => {
            let document: Json = serde_json::from_slice(body).ok()?;
            (document.is_object() || document.is_array()).then_some(document)
        }
        Content::Multipart => {
            let form = Form::parse(body, fields.get("content-type")?)?;
            let mut all = Map::new();
            for (name, value) in form.parts() {
                put(&mut all, text(name), text(value).into());
            }
            Some(all.into())
        }
    }
}

/// The arguments of a query or an urlencoded form.
pub fn of_form(form: &[u8]) -> Map<String, Json> {
    let mut all = Map::new();
    for (name, value) in query::arguments(form) {
        let value = value.map_or(Json::Bool(true), |value| text(&value).into());
        put(&mut all, text(&name), value);
    }
    all
}

/// A body without an argument, in its own form; none if the argument is not there.
pub fn without(fields: &Fields, body: &[u8], name: &str) -> Option<Vec<u8>> {
    match Content::of(fields)? {
        Content::Form => query::without(body, name),
        Content::Json => {
            let mut members: Map<String, Json> = serde_json::from_slice(body).ok()?;
            members.shift_remove(name)?;
            serde_json::to_vec(&members).ok()
        }
        Content::Multipart => {
            let mut form = Form::parse(body, fields.get("content-type")?)?;
            form.find(name.as_bytes())?;
            form.remove(name.as_bytes());
            Some(form.write())
        }
    }
}

/// Adds a value under a name; the second of a name makes a list of both.
pub fn put(all: &mut Map<String, Json>, name: String, value: Json) {
    match all.get_mut(&name) {
        Some(Json::Array(before)) => before.push(value),
        Some(before) => *before = Json::Array(vec![before.take(), value]),
        None => drop(all.insert(name, value)),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(kind: &str) -> Fields {
        let mut fields = Fields::new();
        assert!(kind.is_empty() || fields.add("Content-Type", kind));
        fields
    }

    const PARTS: &str = "--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--xx\r\n\
        Content-Disposition: form-data; name=\"b\"\r\n\r\n2\r\n--xx\r\n\
        Content-Disposition: form-data; name=\"a\"\r\n\r\n3\r\n--xx--\r\n";
    const MULTIPART: &str = "multipart/form-data; boundary=xx";

    #[test]
    fn arguments_are_read_by_the_type_of_the_body() {
        #[track_caller]
        fn check(kind: &str, body: &str, expected: Option<Json>) {
            assert_eq!(of_body(&fields(kind), body.as_bytes()), expected, "{kind}: {body}");
        }
        let form = "application/x-www-form-urlencoded";
        check(form, "a=1&b=%20&a=2&c", Some(json!({"a": ["1", "2"], "b": " ", "c": true})));
        check("Application/JSON; charset=utf-8", r#"{"a": 1}"#, Some(json!({"a": 1})));
        check("application/json", "[1]", Some(json!([1])));
        check("application/json", "1", None);
        check("application/json", "{", None);
        check(MULTIPART, PARTS, Some(json!({"a": ["1", "3"], "b": "2"})));
        check("multipart/form-data", PARTS, None);
        check("text/plain", "a=1", None);
        check("", "a=1", None);
    }

    #[test]
    fn an_argument_is_taken_out_in_the_bodys_own_form() {
        let rest = |kind: &str, body: &str, name: &str| {
            without(&fields(kind), body.as_bytes(), name).map(|b| String::from_utf8(b).unwrap())
        };
        let form = "application/x-www-form-urlencoded";
        assert_eq!(rest(form, "k=1&b=2", "k").as_deref(), Some("b=2"));
        assert_eq!(rest(form, "b=2", "k"), None);
        let json = "application/json";
        assert_eq!(rest(json, r#"{"z":1,"k":2,"a":3}"#, "k").as_deref(), Some(r#"{"z":1,"a":3}"#));
        let parts = rest(MULTIPART, PARTS, "a").unwrap();
        assert!(parts.contains("name=\"b\"") && !parts.contains("name=\"a\""), "{parts}");
        assert_eq!(rest(MULTIPART, PARTS, "k"), None);
        assert_eq!(rest("text/plain", "k=1", "k"), None);
    }
}
