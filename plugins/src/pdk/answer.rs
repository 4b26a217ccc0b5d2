//! An answer that a plugin gives in place of the upstream.

use std::borrow::Cow;
use std::sync::Arc;

/// An answer made by a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, 100 to 599.
    pub status: u16,
    /// What stands in the body.
    pub body: AnswerBody,
    /// Further header lines.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
}

/// The body of an answer. Kong answers in two ways, and clients see the difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerBody {
    /// A message in the error template, in the type that the client accepts, with the request's id
    /// (`kong.response.error`).
    Message(Cow<'static, str>),
    /// Bytes as they are (`kong.response.exit`).
    Exact {
        /// The Content-Type, none for no such line.
        content_type: Option<Cow<'static, str>>,
        /// The body.
        bytes: Arc<[u8]>,
    },
    /// No body.
    Empty,
}

impl Answer {
    /// A message in the error template.
    pub fn error(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, body: AnswerBody::Message(message.into()), headers: Vec::new() }
    }

    /// `{"message": …}` as compact JSON, whatever the client accepts.
    pub fn exit_message(status: u16, message: &str) -> Self {
        Self::exit_json(status, &serde_json::json!({ "message": message }))
    }

    /// A document as compact JSON, whatever the client accepts.
    pub fn exit_json(status: u16, body: &serde_json::Value) -> Self {
        let content_type = "application/json; charset=utf-8";
        Self::exact(status, Some(content_type.into()), body.to_string().into_bytes())
    }

    /// Bytes as they are.
    pub fn exact(
        status: u16,
        content_type: Option<Cow<'static, str>>,
        bytes: impl Into<Arc<[u8]>>,
    ) -> Self {
        let body = AnswerBody::Exact { content_type, bytes: bytes.into() };
        Self { status, body, headers: Vec::new() }
    }

    /// With one more header line.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
