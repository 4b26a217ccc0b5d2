//! Conditions of rules and of sampling: which exchanges they mean.
//!
//! Source: Moesif's API reference (`regex_config`); `kong-plugin-moesif`
//! `kong/plugins/moesif/regex_config_helpers.lua`, with real regular expressions, and with the
//! fields that Moesif's other libraries know.

use super::client_ip::client_ip;
use super::headers::Headers;
use super::member::member;
use super::pattern::{Pattern, Searches};
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;

/// Most fields of bodies that one application's rules may look at.
pub const BODY_FIELDS_MAX: usize = 32;
/// Most conditions of one rule.
const CONDITIONS_MAX: usize = 256;
/// Most bytes of a body that conditions look into.
pub const BODY_BYTES_MAX: usize = 128 << 10;

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Verb,
    Route,
    Ip,
    Status,
    Header(Box<str>),
    /// The place of the field in [`BodyFields`].
    Body(usize),
}

/// The fields of request bodies that some condition looks at.
#[derive(Debug, Default)]
pub struct BodyFields(Vec<Box<str>>);

impl BodyFields {
    fn place(&mut self, name: &str) -> Result<usize, String> {
        if let Some(at) = self.0.iter().position(|known| **known == *name) {
            return Ok(at);
        }
        if self.0.len() == BODY_FIELDS_MAX {
            return Err(format!("more than {BODY_FIELDS_MAX} fields of bodies are looked at"));
        }
        self.0.push(name.into());
        Ok(self.0.len() - 1)
    }

    /// Whether no condition looks at a body.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a body says in these fields; nothing where it cannot be read. A body of the type
    /// `application/graphql` is the field `query`.
    pub fn read<'a>(&self, headers: &Headers<'_>, body: &'a [u8]) -> Vec<Option<Cow<'a, [u8]>>> {
        let body = body.get(..BODY_BYTES_MAX + 1).unwrap_or(body);
        let field = |name: &str| match body_kind(headers) {
            Some(BodyKind::Json) if body.len() <= BODY_BYTES_MAX => member(body, name),
            Some(BodyKind::Graphql) if name == "query" => Some(Cow::Borrowed(body)),
            _ => None,
        };
        self.0.iter().map(|name| field(name)).collect()
    }
}

/// A request body that conditions can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// JSON, GraphQL in JSON included.
    Json,
    /// GraphQL as it is.
    Graphql,
}

/// What sort of body a request announces, if conditions can read it.
pub fn body_kind(headers: &Headers<'_>) -> Option<BodyKind> {
    let kind = headers.first(b"content-type")?;
    let kind = kind.split(|byte| *byte == b';').next()?.trim_ascii();
    if kind.eq_ignore_ascii_case(b"application/graphql") {
        return Some(BodyKind::Graphql);
    }
    let (_, subtype) = kind.split_at(kind.iter().position(|byte| *byte == b'/')?);
    let is = |name: &[u8]| subtype.eq_ignore_ascii_case(name);
    let (_, suffix) = subtype.split_at(subtype.len().saturating_sub(5));
    // A stream of documents has no end to wait for: gRPC, and lines or sequences of JSON.
    let streams = is(b"/grpc+json") || is(b"/stream+json");
    let json = is(b"/json") || is(b"/x-json") || suffix.eq_ignore_ascii_case(b"+json");
    (json && !streams).then_some(BodyKind::Json)
}

/// One exchange, as conditions see it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub verb: &'a [u8],
    /// The client's raw target.
    pub target: &'a [u8],
    /// The connection's peer, or what trusted forwarding said it is.
    pub client_ip: IpAddr,
    /// Whether the request's client address headers may be believed.
    pub client_ip_headers_trusted: bool,
    /// The request's headers.
    pub headers: Headers<'a>,
    /// The fields of the request's body, as [`BodyFields::read`] gave them; empty if unread.
    pub body: &'a [Option<Cow<'a, [u8]>>],
    /// The response's status, once it is known.
    pub status: Option<u16>,
}

impl Asked<'_> {
    fn value(&self, field: &Field) -> Option<Cow<'_, [u8]>> {
        match field {
            Field::Verb => Some(Cow::Borrowed(self.verb)),
            Field::Route => Some(Cow::Borrowed(path(self.target))),
            Field::Ip => {
                let named = self.client_ip_headers_trusted.then(|| client_ip(&self.headers, &[]));
                Some(match named.flatten() {
                    Some(ip) => Cow::Borrowed(ip.as_bytes()),
                    None => Cow::Owned(self.client_ip.to_string().into_bytes()),
                })
            }
            Field::Status => Some(Cow::Owned(self.status?.to_string().into_bytes())),
            Field::Header(name) => self.headers.first(name.as_bytes()).map(Cow::Borrowed),
            Field::Body(at) => self.body.get(*at)?.as_deref().map(Cow::Borrowed),
        }
    }
}

/// The path of a target, without its query; `/` where there is none.
fn path(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let path = target.get(..end).unwrap_or(target);
    // The absolute form of a target, as a client sends it to a proxy.
    let relative = path.first() == Some(&b'/');
    let authority = path.windows(3).position(|part| part == b"://").filter(|_| !relative);
    let path = match authority.and_then(|at| path.get(at + 3..)) {
        Some(rest) => match rest.iter().position(|byte| *byte == b'/') {
            Some(slash) => rest.get(slash..).unwrap_or_default(),
            None => b"",
        },
        None => path,
    };
    if path.is_empty() { b"/" } else { path }
}

#[derive(Debug)]
struct Condition {
    field: Field,
    pattern: Pattern,
}

/// Groups of conditions: one group must hold, with all its conditions.
#[derive(Debug, Default)]
pub struct Groups(Vec<Vec<Condition>>);

impl Groups {
    /// Reads `[{"conditions": [{"path": …, "value": …}, …]}, …]`.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub fn parse(groups: &Value, fields: &mut BodyFields) -> Result<Self, String> {
        let groups = groups.as_array().ok_or("its regex_config is no list")?;
        let mut count = 0;
        let group = |group: &Value| group_of(group, fields, &mut count);
        groups.iter().map(group).collect::<Result<_, _>>().map(Self)
    }

    /// One group alone, as sampling has it.
    ///
    /// # Errors
    /// As [`Groups::parse`].
    pub fn one(group: &Value, fields: &mut BodyFields) -> Result<Self, String> {
        Ok(Self(vec![group_of(group, fields, &mut 0)?]))
    }

    /// Whether there is no group at all: then everything is meant.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one group holds. A group without conditions never does.
    pub fn hold(&self, asked: &Asked<'_>, searches: &mut Searches) -> bool {
        self.0.iter().any(|group| {
            let mut holds = |condition: &Condition| {
                let value = asked.value(&condition.field);
                value.is_some_and(|value| searches.is_match(&condition.pattern, &value))
            };
            !group.is_empty() && group.iter().all(&mut holds)
        })
    }

    /// Whether some condition waits for the response's status or looks at the body.
    pub fn is_late(&self) -> bool {
        let late = |c: &Condition| matches!(c.field, Field::Status | Field::Body(_));
        self.0.iter().flatten().any(late)
    }

    /// Whether some condition looks at the request's body.
    pub fn reads_body(&self) -> bool {
        self.0.iter().flatten().any(|c| matches!(c.field, Field::Body(_)))
    }
}

fn group_of(
    group: &Value,
    fields: &mut BodyFields,
    count: &mut usize,
) -> Result<Vec<Condition>, String> {
    let conditions = group.get("conditions").and_then(Value::as_array);
    let conditions = conditions.ok_or("a group of its regex_config has no conditions")?;
    *count += conditions.len();
    if *count > CONDITIONS_MAX {
        return Err(format!("it has more than {CONDITIONS_MAX} conditions"));
    }
    conditions.iter().map(|condition| condition_of(condition, fields)).collect()
}

fn condition_of(condition: &Value, fields: &mut BodyFields) -> Result<Condition, String> {
    let text = |name: &str| condition.get(name).and_then(Value::as_str);
    let path = text("path").ok_or("a condition has no path")?;
    let value = match condition.get("value") {
        Some(Value::String(text)) => text.clone(),
        Some(number @ Value::Number(_)) => number.to_string(),
        _ => return Err(format!("the condition on {path} has no value")),
    };
    let field = match path {
        "request.verb" => Field::Verb,
        "request.route" => Field::Route,
        "request.ip_address" | "request.ip" => Field::Ip,
        "response.status" => Field::Status,
        _ => match (path.strip_prefix("request.headers."), path.strip_prefix("request.body.")) {
            (Some(name), _) if !name.is_empty() => Field::Header(name.into()),
            (_, Some(name)) if !name.is_empty() => Field::Body(fields.place(name)?),
            _ => return Err(format!("the condition on {path} is of a sort that is not known")),
        },
    };
    Ok(Condition { field, pattern: Pattern::new(&value)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::http::head::Fields;
    use serde_json::json;

    #[track_caller]
    fn check(groups: &Value, expected: bool) {
        let mut fields = BodyFields::default();
        let groups = Groups::parse(groups, &mut fields).unwrap();
        let mut lines = Fields::new();
        lines.add("Content-Type", "application/json; charset=utf-8");
        lines.add("X-Plan", "gold");
        lines.add("X-Forwarded-For", "198.51.100.7, 10.0.0.1");
        let headers = Headers::Live(&lines);
        let body = fields.read(&headers, br#"{"operationName":"DropAll","user":{"id":17}}"#);
        let asked = Asked {
            verb: b"POST",
            target: b"/v1/items?x=/admin",
            client_ip: [203, 0, 113, 9].into(),
            client_ip_headers_trusted: true,
            headers,
            body: &body,
            status: None,
        };
        assert_eq!(groups.hold(&asked, &mut Searches::default()), expected);
    }

    fn one(path: &str, value: &str) -> Value {
        json!([{ "conditions": [{ "path": path, "value": value }] }])
    }

    #[test]
    fn one_group_with_all_its_conditions() {
        check(&one("request.verb", "POST|PUT"), true);
        check(&one("request.route", "^/v1/items$"), true);
        check(&one("request.route", "admin"), false);
        check(&one("request.ip_address", r"^198\.51"), true);
        check(&one("request.ip", r"^203\."), false);
        check(&one("request.headers.x-plan", "^gold$"), true);
        check(&one("request.headers.x-other", ".*"), false);
        check(&one("request.body.operationName", "^Drop"), true);
        check(&one("request.body.user.id", "^17$"), true);
        check(&one("request.body.query", ""), false);
        check(&one("response.status", ".*"), false);
        check(&json!([]), false);
        check(&json!([{"conditions": []}]), false);
        let both = |verb: &str| {
            json!({"conditions": [
                {"path": "request.verb", "value": verb},
                {"path": "request.route", "value": "^/v1/"},
            ]})
        };
        check(&json!([both("POST")]), true);
        check(&json!([both("GET")]), false);
        check(&json!([both("GET"), both("POST")]), true);
    }

    #[test]
    fn what_is_no_condition_is_a_fault() {
        for (groups, why) in [
            (json!({}), "no list"),
            (json!([{}]), "no conditions"),
            (json!([{"conditions": [{"path": "request.verb"}]}]), "no value"),
            (json!([{"conditions": [{"value": "x"}]}]), "no path"),
            (one("request.weather", "x"), "not known"),
            (one("request.verb", "("), "cannot be used"),
        ] {
            let fault = Groups::parse(&groups, &mut BodyFields::default()).unwrap_err();
            assert!(fault.contains(why), "{fault}");
        }
    }

    #[test]
    fn a_target_has_a_path() {
        for (target, expected) in [
            ("/a?b", "/a"),
            ("", "/"),
            ("?x", "/"),
            ("http://h/a/b?c", "/a/b"),
            ("http://h", "/"),
            ("/x://y/z", "/x://y/z"),
            ("*", "*"),
        ] {
            assert_eq!(path(target.as_bytes()), expected.as_bytes(), "{target}");
        }
    }

    #[test]
    fn bodies_that_end_are_read() {
        for (kind, expected) in [
            ("application/json", Some(BodyKind::Json)),
            ("Application/JSON;charset=utf-8", Some(BodyKind::Json)),
            ("application/vnd.api+json", Some(BodyKind::Json)),
            ("application/graphql", Some(BodyKind::Graphql)),
            ("application/grpc+json", None),
            ("application/x-ndjson", None),
            ("application/json-seq", None),
            ("application/stream+json", None),
            ("text/plain", None),
            ("json", None),
            ("", None),
        ] {
            let mut lines = Fields::new();
            lines.add("Content-Type", kind);
            assert_eq!(body_kind(&Headers::Live(&lines)), expected, "{kind}");
        }
    }

    #[test]
    fn graphql_as_it_is_is_a_query() {
        let mut fields = BodyFields::default();
        Groups::parse(&one("request.body.query", "x"), &mut fields).unwrap();
        let mut lines = Fields::new();
        lines.add("Content-Type", "application/graphql");
        let read = fields.read(&Headers::Live(&lines), b"mutation { x }");
        assert_eq!(read, [Some(Cow::Borrowed(&b"mutation { x }"[..]))]);
        lines.set("Content-Type", "text/plain");
        assert_eq!(fields.read(&Headers::Live(&lines), b"{\"query\":1}"), [None]);
        lines.set("Content-Type", "application/json");
        assert_eq!(fields.read(&Headers::Live(&lines), b"{\"query\":"), [None]);
    }
}
