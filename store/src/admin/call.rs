//! One request to the Admin API as the transport hands it over.

use super::Reply;
use crate::actor::Working;
use crate::backend::Turn;
use std::fmt;
use std::sync::Arc;

/// A method that the Admin API knows; what it does not know is refused everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Removes.
    Delete,
    /// Reads.
    Get,
    /// Reads without a body in the answer.
    Head,
    /// Asks what may be done; also a browser's preflight.
    Options,
    /// Changes some fields.
    Patch,
    /// Creates, or does.
    Post,
    /// Creates or replaces.
    Put,
}

impl Method {
    /// All methods in the order in which `Allow` lists them.
    pub const ALL: [Self; 7] =
        [Self::Delete, Self::Get, Self::Head, Self::Options, Self::Patch, Self::Post, Self::Put];

    /// The method of that name, exactly as it is written on the wire.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    /// Whether a request with this method may carry a body that means something.
    #[must_use]
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Patch | Self::Post | Self::Put)
    }
}

/// One request to the Admin API.
///
/// Every field may hold anything that a client can send: nothing has been checked yet.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The method as sent.
    pub method: String,
    /// The path of the request target: still percent-encoded, without the query.
    pub path: String,
    /// The query without its `?`; empty when there was none.
    pub query: String,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// More than one `Content-Type` line was sent.
    pub content_type_repeated: bool,
    /// `Origin`: a browser's page that calls.
    pub origin: Option<String>,
    /// `Access-Control-Request-Headers` of a preflight.
    pub preflight_headers: Option<String>,
    /// The whole body, at most [`super::ADMIN_BODY_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
    /// The program's own work on the rows, in place of all of the above; no client can ask for it.
    pub work: Option<Work>,
}

/// What the program itself does to rows, as a call among others. It may run more than once.
#[derive(Clone)]
pub struct Work(pub Arc<dyn Fn(&mut Working<'_>) -> Reply + Send + Sync>);

impl fmt::Debug for Work {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Work")
    }
}

/// First segments of paths whose answers need no rows.
const WITHOUT_ROWS: &[&str] =
    &["", "cache", "debug", "endpoints", "openapi.json", "schemas", "status", "timers"];

impl Call {
    /// What the call needs of a backend that other nodes write to; none: it is about this node.
    #[must_use]
    pub fn need(&self) -> Option<Turn> {
        if self.work.is_some() {
            return Some(Turn::Write);
        }
        let first = self.path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if WITHOUT_ROWS.contains(&first) {
            return None;
        }
        Some(match Method::named(&self.method) {
            Some(Method::Get | Method::Head) => Turn::Read,
            Some(Method::Options) | None => return None,
            Some(_) => Turn::Write,
        })
    }

    /// Work of the program on the rows. Its writes are taken back if it answers 400 or more.
    #[must_use]
    pub fn work(work: impl Fn(&mut Working<'_>) -> Reply + Send + Sync + 'static) -> Self {
        Self { work: Some(Work(Arc::new(work))), ..Self::new("POST", "/") }
    }

    /// A call without headers and body; `target` is the path with its query.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            ..Self::default()
        }
    }

    /// Takes note of one header line; names that mean nothing here are passed over, so the
    /// transport can hand over all it has. Bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn header(mut self, name: &str, value: &[u8]) -> Self {
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        if name.eq_ignore_ascii_case("content-type") {
            self.content_type_repeated = self.content_type.is_some();
            self.content_type = text();
        } else if name.eq_ignore_ascii_case("origin") {
            self.origin = text();
        } else if name.eq_ignore_ascii_case("access-control-request-headers") {
            self.preflight_headers = text();
        }
        self
    }

    /// The same call with this body.
    #[must_use]
    pub fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_listed_as_allow_lists_them() {
        let mut sorted = Method::ALL;
        sorted.sort_by_key(|method| method.name());
        assert_eq!(sorted, Method::ALL);
        assert_eq!(Method::named("get"), None, "methods are case-sensitive");
        assert_eq!(Method::named("PATCH"), Some(Method::Patch));
    }

    #[test]
    fn the_target_is_split_at_its_first_question_mark() {
        let call = Call::new("GET", "/a?b=c?d").header("ORIGIN", b"http://a").header("X", b"y");
        assert_eq!((call.path.as_str(), call.query.as_str()), ("/a", "b=c?d"));
        assert_eq!(call.origin.as_deref(), Some("http://a"));
        let call = call.header("Content-Type", b"a").header("content-type", b"b");
        assert!(call.content_type_repeated);
    }
}
