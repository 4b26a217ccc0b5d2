//! One answer of the Admin API, and the answers that every endpoint shares.

use super::{Call, Method};
use crate::fault::{Fault, Kind};
use serde_json::{Value, json};

/// One answer.
///
/// The transport adds `Date`, `X-Kong-Admin-Latency` (milliseconds since the request) and
/// `Server` behind [`Reply::headers`], in this order, and sends `headers` as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Header lines in the order in which Kong sends them, `Content-Length` included unless the
    /// status forbids it.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty for HEAD, whose `Content-Length` still is that of GET.
    pub body: Vec<u8>,
}

const JSON: &str = "application/json; charset=utf-8";

impl Reply {
    /// An answer without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A JSON document.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::of_type(status, JSON, body.to_string().into_bytes())
    }

    /// `{"message": …}`.
    #[must_use]
    pub fn message(status: u16, message: &str) -> Self {
        Self::json(status, &json!({ "message": message }))
    }

    /// A body of some other type.
    #[must_use]
    pub fn of_type(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self { status, headers: vec![("Content-Type", content_type.to_owned())], body }
    }

    /// 404 for what is not there.
    #[must_use]
    pub fn not_found() -> Self {
        Self::message(404, "Not found")
    }

    /// 405 for a method that the endpoint does not have; Kong sends no `Allow` with it.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::message(405, "Method not allowed")
    }

    /// 500; the cause is in the log, never in the answer.
    #[must_use]
    pub fn unexpected() -> Self {
        Self::message(500, "An unexpected error occurred")
    }

    /// What the transport answers when a body exceeds [`super::ADMIN_BODY_BYTES_MAX`].
    #[must_use]
    pub fn body_too_large(call: &Call) -> Self {
        Self::message(413, "Payload too large").finished(call, &[])
    }

    /// Adds what every answer carries: the CORS lines, and `Content-Length`.
    ///
    /// `origins` is `admin_gui_origin`: pages that may read the answers; empty means any page.
    #[must_use]
    pub fn finished(mut self, call: &Call, origins: &[String]) -> Self {
        let mut headers = Vec::with_capacity(8);
        let own = std::mem::take(&mut self.headers);
        let (first, rest): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|(name, _)| *name == "Content-Type");
        headers.extend(first);
        headers.push(("Access-Control-Allow-Origin", allowed_origin(call, origins)));
        headers.push(("Access-Control-Allow-Credentials", "true".to_owned()));
        headers.extend(rest);
        if self.status != 204 {
            headers.push(("Content-Length", self.body.len().to_string()));
        }
        if call.method == Method::Head.name() {
            self.body = Vec::new();
        }
        self.headers = headers;
        self
    }

    /// The value of a header, for tests and the transport.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The answer to a call with faults. A client's own faults are nobody's news; the store's are.
impl From<Fault> for Reply {
    fn from(fault: Fault) -> Self {
        if fault.kind == Kind::DatabaseError {
            log::error!("admin: the store failed");
        }
        Self::json(fault.kind.status(), &fault.to_json())
    }
}

/// The page that may read this answer. A header value may not carry what ends a line.
fn allowed_origin(call: &Call, origins: &[String]) -> String {
    let asked = call.origin.as_deref().map(clean);
    match (asked, origins.first()) {
        (Some(asked), None) => asked,
        (None, None) => "*".to_owned(),
        (Some(asked), Some(_)) if origins.contains(&asked) => asked,
        (_, Some(first)) => first.clone(),
    }
}

/// The answer to OPTIONS: what may be done here.
#[must_use]
pub(super) fn options(call: &Call, methods: &[Method]) -> Reply {
    let mut allowed = methods.to_vec();
    allowed.push(Method::Options);
    if methods.contains(&Method::Get) {
        allowed.push(Method::Head);
    }
    allowed.sort_unstable();
    allowed.dedup();
    let names: Vec<_> = allowed.into_iter().map(Method::name).collect();
    let list = names.join(", ");
    let headers = call.preflight_headers.as_deref().map_or("Content-Type".to_owned(), clean);
    Reply {
        status: 204,
        headers: vec![
            ("Access-Control-Allow-Methods", list.clone()),
            ("Allow", list),
            ("Access-Control-Allow-Headers", headers),
        ],
        body: Vec::new(),
    }
}

/// What a client sent, fit to be sent back in a header: plain ASCII.
fn clean(value: &str) -> String {
    value.chars().filter(|symbol| matches!(symbol, ' '..='~')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(reply: &Reply) -> Vec<&str> {
        reply.headers.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn headers_come_in_kongs_order() {
        let reply = Reply::not_found().finished(&Call::new("GET", "/x"), &[]);
        assert_eq!(
            names(&reply),
            [
                "Content-Type",
                "Access-Control-Allow-Origin",
                "Access-Control-Allow-Credentials",
                "Content-Length"
            ]
        );
        assert_eq!(reply.header("content-length"), Some("23"));
        assert_eq!(reply.body, br#"{"message":"Not found"}"#);
    }

    #[test]
    fn options_lists_the_methods_and_echoes_the_headers_asked_for() {
        let call = Call::new("OPTIONS", "/services");
        let reply = options(&call, &[Method::Get, Method::Post]).finished(&call, &[]);
        assert_eq!(reply.status, 204);
        assert_eq!(
            names(&reply),
            [
                "Access-Control-Allow-Origin",
                "Access-Control-Allow-Credentials",
                "Access-Control-Allow-Methods",
                "Allow",
                "Access-Control-Allow-Headers"
            ]
        );
        assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
        assert_eq!(reply.header("access-control-allow-headers"), Some("Content-Type"));
        let call = call.header("Access-Control-Request-Headers", b"x-a,\r\nEvil: b");
        let reply = options(&call, &[Method::Get]);
        assert_eq!(reply.header("access-control-allow-headers"), Some("x-a,Evil: b"));
    }

    #[track_caller]
    fn origin(sent: Option<&str>, listed: &[&str], expected: &str) {
        let mut call = Call::new("GET", "/");
        call.origin = sent.map(str::to_owned);
        let listed: Vec<_> = listed.iter().map(|&page| page.to_owned()).collect();
        let reply = Reply::empty(200).finished(&call, &listed);
        assert_eq!(reply.header("access-control-allow-origin"), Some(expected));
    }

    #[test]
    fn pages_are_allowed_as_listed() {
        origin(None, &[], "*");
        origin(Some("http://a"), &[], "http://a");
        origin(Some("http://a"), &["http://b", "http://a"], "http://a");
        origin(Some("http://c"), &["http://b", "http://a"], "http://b");
        origin(None, &["http://b"], "http://b");
    }

    #[test]
    fn head_has_the_length_of_get_and_no_body() {
        let reply = Reply::not_found().finished(&Call::new("HEAD", "/x"), &[]);
        assert_eq!((reply.header("content-length"), reply.body.len()), (Some("23"), 0));
    }
}
