//! From the body of a call to named arguments, whatever type it was sent as.

use super::coerce::coerce;
use super::form::{Unreadable, nest, pairs};
use super::multipart::{self, media_type};
use super::{ADMIN_ARGUMENTS_MAX, ADMIN_BODY_BYTES_MAX, ADMIN_VALUES_MAX, Call, Reply};
use crate::schema::{Catalogue, Entity};
use crate::value::Value;
use serde_json::{Map, Value as Json};

/// What a client sent to be stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sent {
    /// The arguments by name.
    pub(super) fields: Map<String, Json>,
    /// They came as JSON, so their types are what they are; those of forms are texts whose
    /// meaning the schema decides.
    pub(super) typed: bool,
}

impl Sent {
    /// The arguments as an object of `entity`. `variant` is what decides about the row's variant
    /// (a plugin's name) where the arguments do not have it.
    pub(super) fn take(
        &mut self,
        catalogue: &Catalogue,
        entity: &Entity,
        variant: Option<&str>,
    ) -> Value {
        let mut input = Value::from(Json::Object(std::mem::take(&mut self.fields)));
        if !self.typed {
            coerce(catalogue, entity, variant, &mut input);
        }
        input
    }
}

/// Reads the body of a POST, PUT or PATCH.
///
/// # Errors
/// The answer to give: 400, 413 or 415.
pub(super) fn read(call: &Call) -> Result<Sent, Reply> {
    one_type(call)?;
    if call.body.len() > ADMIN_BODY_BYTES_MAX {
        return Err(Reply::message(413, "Payload too large"));
    }
    let Some(content_type) = call.content_type.as_deref() else { return Ok(Sent::default()) };
    match Form::of(content_type) {
        Some(Form::Json) => json(&call.body),
        Some(Form::Pairs) => form(pairs(&call.body)),
        Some(Form::Parts) if call.body.is_empty() => Ok(Sent::default()),
        Some(Form::Parts) => form(multipart::pairs(content_type, &call.body)),
        None => Err(unsupported()),
    }
}

/// What a body is written as.
enum Form {
    Json,
    Pairs,
    Parts,
}

impl Form {
    /// Kong looks at the beginning alone: `application/json-patch+json` is JSON to it.
    fn of(content_type: &str) -> Option<Self> {
        let begins = |kind: &str| media_type(content_type).starts_with(kind);
        if begins("application/json") {
            Some(Self::Json)
        } else if begins("application/x-www-form-urlencoded") {
            Some(Self::Pairs)
        } else if begins("multipart/form-data") {
            Some(Self::Parts)
        } else {
            None
        }
    }
}

/// Whether the body of a POST, PUT or PATCH is of a type that is read anywhere, which is asked
/// before anybody looks where the path leads. YAML is for `/config` alone.
///
/// # Errors
/// 415.
pub(super) fn accepted(call: &Call) -> Result<(), Reply> {
    let accepted = match call.content_type.as_deref() {
        None => call.body.is_empty(),
        Some(content_type) if Form::of(content_type).is_some() => true,
        Some(content_type) => {
            let kind = media_type(content_type);
            let is_yaml = kind.starts_with("application/yaml") || kind.starts_with("text/yaml");
            is_yaml && call.path.trim_end_matches('/') == "/config"
        }
    };
    if accepted { Ok(()) } else { Err(unsupported()) }
}

/// Whether the call says once at most of what type its body is.
///
/// # Errors
/// 400.
pub(super) fn one_type(call: &Call) -> Result<(), Reply> {
    if call.content_type_repeated {
        let words = b"Multiple Content-Type headers not allowed".to_vec();
        return Err(Reply::of_type(400, "text/plain; charset=utf-8", words));
    }
    Ok(())
}

pub(super) fn unsupported() -> Reply {
    Reply::message(415, "Unsupported media type")
}

/// Kong answers 500 to a list with items or a plain value; that is an accident nobody should copy.
/// An empty list is an empty object to it.
fn json(body: &[u8]) -> Result<Sent, Reply> {
    if values(body) > ADMIN_VALUES_MAX {
        return Err(Unreadable::TooMany.into());
    }
    match serde_json::from_slice(body) {
        Ok(Json::Object(fields)) => {
            if fields.len() > ADMIN_ARGUMENTS_MAX || fields.values().any(is_wide) {
                return Err(Unreadable::TooMany.into());
            }
            Ok(Sent { fields, typed: true })
        }
        Ok(Json::Array(items)) if items.is_empty() => Ok(Sent { fields: Map::new(), typed: true }),
        Ok(_) => Err(Reply::message(400, "JSON body must be an object")),
        Err(_) => Err(Unreadable::NotJson.into()),
    }
}

/// How many values a JSON text has at most, without reading it: each but the first of its list or
/// object stands behind a comma, the first behind a bracket.
fn values(body: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// Whether an object in it has more names than anything real. Depth is bounded by the parser.
fn is_wide(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.iter().any(is_wide),
        Json::Object(fields) => fields.len() > ADMIN_ARGUMENTS_MAX || fields.values().any(is_wide),
        _ => false,
    }
}

fn form(pairs: Result<Vec<(String, Json)>, Unreadable>) -> Result<Sent, Reply> {
    let fields = pairs.and_then(nest).map_err(Reply::from)?;
    Ok(Sent { fields, typed: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(content_type: Option<&str>, body: &[u8]) -> Call {
        let call = Call::new("POST", "/services").with_body(body.to_vec());
        match content_type {
            Some(kind) => call.header("Content-Type", kind.as_bytes()),
            None => call,
        }
    }

    #[track_caller]
    fn refused(content_type: Option<&str>, body: &[u8], status: u16, message: &str) {
        let reply = read(&call(content_type, body)).expect_err("refused");
        let words = json!({ "message": message }).to_string();
        assert_eq!((reply.status, reply.body), (status, words.into_bytes()));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_kongs_words() {
        let parse = "Cannot parse JSON body";
        refused(Some("application/json"), b"", 400, parse);
        refused(Some("application/json"), b"{\"host\": ", 400, parse);
        refused(Some("application/json; charset=utf-8"), b"{} {}", 400, parse);
        refused(Some("application/json"), &b"[".repeat(1 << 16), 400, parse);
        refused(Some("application/json"), b"\xff", 400, parse);
        for body in ["[1]", "\"x\"", "null", "1"] {
            let words = "JSON body must be an object";
            refused(Some("application/json"), body.as_bytes(), 400, words);
        }
        refused(Some("text/plain"), b"host=a", 415, "Unsupported media type");
        let many = format!("{{\"a\": [{}1]}}", "1,".repeat(ADMIN_VALUES_MAX));
        refused(Some("application/json"), many.as_bytes(), 400, "Too many arguments");
        let names: Vec<_> = (0..1001).map(|number| format!("\"{number}\":1")).collect();
        let wide = format!("{{{}}}", names.join(","));
        refused(Some("application/json"), wide.as_bytes(), 400, "Too many arguments");
        let wide = format!("{{\"a\":[{wide}]}}");
        refused(Some("application/json"), wide.as_bytes(), 400, "Too many arguments");
        let many = "a&".repeat(1001);
        let form = Some("application/x-www-form-urlencoded");
        refused(form, many.as_bytes(), 400, "Too many arguments");
        refused(form, &vec![b'a'; ADMIN_BODY_BYTES_MAX + 1], 413, "Payload too large");
    }

    #[test]
    fn a_type_that_nobody_reads_is_refused_before_the_path_is_looked_at() {
        let accepts = |path: &str, kind: Option<&str>, body: &[u8]| {
            let call = Call::new("POST", path).with_body(body.to_vec());
            let call = match kind {
                Some(kind) => call.header("Content-Type", kind.as_bytes()),
                None => call,
            };
            accepted(&call).is_ok()
        };
        assert!(!accepts("/nope", Some("text/plain"), b"x"));
        assert!(!accepts("/services", None, b"host=a"));
        assert!(accepts("/services", None, b""));
        assert!(accepts("/services", Some("application/json-patch+json"), b"{}"));
        assert!(!accepts("/services", Some("text/yaml"), b"a: b"));
        assert!(accepts("/config", Some("text/yaml"), b"a: b"));
    }

    #[test]
    fn a_repeated_content_type_is_refused_in_plain_text() {
        let call = call(Some("application/json"), b"{}").header("content-type", b"text/plain");
        let reply = read(&call).expect_err("refused");
        assert_eq!(reply.body, b"Multiple Content-Type headers not allowed");
    }

    #[test]
    fn values_are_counted_outside_of_texts() {
        assert_eq!(values(br#"{"a,[{": "b\",[", "c": [1, 2, {}]}"#), 6);
        assert_eq!(values(b""), 0);
    }

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "so that calls read as a table")]
    fn reads(content_type: Option<&str>, body: &str, typed: bool, expected: Json) {
        let sent = read(&call(content_type, body.as_bytes())).expect("readable");
        assert_eq!((sent.typed, Json::Object(sent.fields)), (typed, expected));
    }

    #[test]
    fn every_accepted_type_is_read() {
        reads(None, "", false, json!({}));
        reads(Some("application/x-www-form-urlencoded"), "", false, json!({}));
        reads(Some("multipart/form-data"), "", false, json!({}));
        reads(Some("application/json"), "[]", true, json!({}));
        reads(Some("Application/JSON"), "{\"a\":{\"b\":1}}", true, json!({"a": {"b": 1}}));
        reads(
            Some("application/x-www-form-urlencoded; charset=UTF-8"),
            "a.b=1",
            false,
            json!({"a": {"b": "1"}}),
        );
    }
}
