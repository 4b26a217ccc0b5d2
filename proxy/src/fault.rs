//! What can go wrong on the road of a request.
//!
//! A fault says three things: what happened, on whose side, and whether a second try can help.
//! The client's answer follows from the first alone, so no code above this file names a status.

use crate::route::PathFault;
use runtime::http::body::BodyFault;
use runtime::http::head::HeadFault;

/// A fault on the road of a request.
#[derive(Debug)]
pub struct Fault {
    /// What happened.
    pub what: What,
    /// Whether the balancer may try once more. True only while no byte of the request body is lost.
    pub retry: bool,
    /// Whether nothing of the request was sent, so that nobody can have processed it.
    pub unsent: bool,
    /// The reason below this one, for the log and never for the client.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The request is malformed or has more than one reading.
    BadRequest,
    /// Its head is too large, or a line of it.
    HeadTooLarge,
    /// TRACE.
    MethodNotAllowed,
    /// It did not arrive in time.
    RequestTooSlow,
    /// A body without a length where one is needed.
    LengthRequired,
    /// A condition of the request does not hold.
    PreconditionFailed,
    /// The body is larger than a limit.
    BodyTooLarge,
    /// The body turned out to be larger than a plugin allows.
    OverPluginLimit,
    /// The request line is too long.
    TargetTooLong,
    /// `Expect` cannot be met.
    ExpectationFailed,
    /// A transfer coding that nobody speaks.
    NotImplemented,
    /// A version that is not served.
    VersionNotSupported,
    /// Plain HTTP on a TLS port.
    PlainOnTlsPort,
    /// The client has gone; nobody reads an answer.
    ClientGone,
    /// The route is for `https` only.
    NeedsHttps,
    /// The route is for `https` only, and says to redirect with this status.
    HttpsRedirect(u16),
    /// The route is for gRPC, which needs HTTP/2.
    NeedsHttp2,
    /// The route is for gRPC, the request is not.
    NotGrpc,
    /// The route is for gRPC over TLS only.
    NeedsGrpcs,
    /// No route fits.
    NoRoute,
    /// The route has no service, and no plugin answered.
    NoService,
    /// The upstream's name does not exist.
    NameNotFound,
    /// The upstream's name could not be looked up.
    NameFailed,
    /// The upstream entity has no target that may be asked.
    NoTarget,
    /// It had one, which failed, and has no other.
    PeersGone,
    /// A plugin of this route is not built yet, or a bound is reached.
    Unavailable,
    /// There are too many connections, or too little memory or too few descriptors are left.
    Overloaded,
    /// Our own fault.
    Internal,
    /// No connection to the upstream, or it was lost.
    Unreachable,
    /// The upstream's answer is malformed, or ended early.
    BadResponse,
    /// The upstream was too slow.
    TimedOut,
}

/// On whose side it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Client,
    /// Ours, or our configuration's.
    Gateway,
    /// The upstream's: the answer carries `Via` and both latencies, as a proxied one does.
    Upstream,
}

/// Which part of Kong the answer sounds like; it decides the type of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// The gateway's own code: by Accept, else JSON.
    Gateway,
    /// Its handler of nginx's errors: by Accept, else by the request's Content-Type, else plain.
    Server,
    /// nginx itself: always its small HTML page.
    Page,
    /// No body.
    Silent,
}

impl What {
    /// Whose side it happened on.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::NoRoute
            | Self::NoService
            | Self::NameNotFound
            | Self::NameFailed
            | Self::NoTarget
            | Self::Unavailable
            | Self::Overloaded
            | Self::Internal => Side::Gateway,
            Self::PeersGone | Self::Unreachable | Self::BadResponse | Self::TimedOut => {
                Side::Upstream
            }
            _ => Side::Client,
        }
    }

    /// The status and the message that the client gets.
    ///
    /// Source: Kong `kong/error_handlers.lua` (table `BODIES`), `kong/init.lua` (503) and
    /// `kong/runloop/handler.lua` (404, 415, 426). Clients match on these words: do not improve
    /// them. Of the page voice the message is nginx's headline.
    #[must_use]
    pub const fn answer(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest => (400, "Bad request"),
            Self::HeadTooLarge => (400, "Request header or cookie too large"),
            Self::MethodNotAllowed => (405, "Method not allowed"),
            Self::RequestTooSlow => (408, "Request timeout"),
            Self::LengthRequired => (411, "Length required"),
            Self::PreconditionFailed => (412, "Precondition failed"),
            Self::BodyTooLarge => (413, "Payload too large"),
            Self::OverPluginLimit => (413, "Request size limit exceeded"),
            Self::TargetTooLong => (414, "URI too long"),
            Self::ExpectationFailed => (417, "Expectation failed"),
            Self::NotImplemented => (501, "501 Not Implemented"),
            Self::VersionNotSupported => (505, "505 HTTP Version Not Supported"),
            Self::PlainOnTlsPort => (400, "400 The plain HTTP request was sent to HTTPS port"),
            Self::ClientGone => (499, ""),
            Self::NeedsHttps => (426, "Please use HTTPS protocol"),
            Self::HttpsRedirect(status) => (status, redirect_headline(status)),
            Self::NeedsHttp2 => (426, "Please use HTTP2 protocol"),
            Self::NotGrpc => (415, "Non-gRPC request matched gRPC route"),
            Self::NeedsGrpcs => (200, "gRPC request matched gRPCs route"),
            Self::NoRoute => (404, "no Route matched with those values"),
            Self::NoService => (503, "no Service found with those values"),
            Self::NameNotFound => (503, "name resolution failed"),
            Self::NoTarget => (503, "failure to get a peer from the ring-balancer"),
            Self::PeersGone | Self::Unavailable | Self::Overloaded => {
                (503, "The upstream server is currently unavailable")
            }
            Self::NameFailed | Self::Internal => (500, "An unexpected error occurred"),
            Self::Unreachable | Self::BadResponse => {
                (502, "An invalid response was received from the upstream server")
            }
            Self::TimedOut => (504, "The upstream server is timing out"),
        }
    }

    /// Which part of Kong the answer sounds like.
    #[must_use]
    pub const fn voice(self) -> Voice {
        match self {
            Self::NotImplemented
            | Self::VersionNotSupported
            | Self::PlainOnTlsPort
            | Self::HttpsRedirect(_) => Voice::Page,
            Self::ClientGone | Self::NeedsGrpcs => Voice::Silent,
            Self::NeedsHttps
            | Self::NeedsHttp2
            | Self::NotGrpc
            | Self::NoRoute
            | Self::NoService
            | Self::NameNotFound
            | Self::NameFailed
            | Self::NoTarget
            | Self::OverPluginLimit
            | Self::Unavailable => Voice::Gateway,
            _ => Voice::Server,
        }
    }

    /// Whether the client's connection ends with the answer, because where the next request would
    /// begin cannot be told.
    #[must_use]
    pub const fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest
                | Self::HeadTooLarge
                | Self::MethodNotAllowed
                | Self::RequestTooSlow
                | Self::LengthRequired
                | Self::BodyTooLarge
                | Self::OverPluginLimit
                | Self::TargetTooLong
                | Self::NotImplemented
                | Self::VersionNotSupported
                | Self::PlainOnTlsPort
                | Self::ClientGone
                | Self::Overloaded
        )
    }
}

/// What nginx's page says of the redirects that a route can have.
const fn redirect_headline(status: u16) -> &'static str {
    match status {
        301 => "301 Moved Permanently",
        302 => "302 Found",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        _ => "",
    }
}

impl Fault {
    /// A fault that no second try can help.
    #[must_use]
    pub const fn new(what: What) -> Self {
        Self { what, retry: false, unsent: false, cause: None }
    }

    /// A fault that a second try may help, if `retry`.
    #[must_use]
    pub const fn retriable(what: What, retry: bool) -> Self {
        Self { what, retry, unsent: false, cause: None }
    }

    /// A fault before anything was sent: a second try may help.
    #[must_use]
    pub const fn unsent(what: What) -> Self {
        Self { what, retry: true, unsent: true, cause: None }
    }

    /// The same fault; a second try may help, if `retry`.
    #[must_use]
    pub fn retry(mut self, retry: bool) -> Self {
        self.retry |= retry;
        self
    }

    /// The same fault with the reason below it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl std::fmt::Display for Fault {
    /// For the log.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}", self.what)?;
        self.cause.iter().try_for_each(|cause| write!(out, ": {cause}"))
    }
}

impl std::error::Error for Fault {}

impl From<What> for Fault {
    fn from(what: What) -> Self {
        Self::new(what)
    }
}

impl From<HeadFault> for What {
    /// The client's head; a fault in an upstream's head is a [`What::BadResponse`].
    fn from(fault: HeadFault) -> Self {
        match fault {
            _ if fault.is_too_large() => Self::HeadTooLarge,
            HeadFault::Trace => Self::MethodNotAllowed,
            HeadFault::LineTooLong => Self::TargetTooLong,
            HeadFault::CodingUnknown => Self::NotImplemented,
            HeadFault::Version => Self::VersionNotSupported,
            _ => Self::BadRequest,
        }
    }
}

impl From<HeadFault> for Fault {
    fn from(fault: HeadFault) -> Self {
        Self::new(fault.into()).because(fault.words())
    }
}

impl From<BodyFault> for Fault {
    /// The client's body; a fault in an upstream's body is a [`What::BadResponse`].
    fn from(fault: BodyFault) -> Self {
        Self::new(What::BadRequest).because(fault.words())
    }
}

impl From<PathFault> for Fault {
    fn from(fault: PathFault) -> Self {
        Self::new(What::BadRequest).because(fault.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_codec_keep_their_status() {
        for (fault, status) in [
            (HeadFault::Trace, 405),
            (HeadFault::LineTooLong, 414),
            (HeadFault::FieldTooLong, 400),
            (HeadFault::CodingUnknown, 501),
            (HeadFault::Version, 505),
            (HeadFault::HostMissing, 400),
            (HeadFault::LengthAndCoding, 400),
        ] {
            assert_eq!(What::from(fault).answer().0, status, "{fault:?}");
            assert_eq!(fault.status(), status, "{fault:?}");
            assert!(What::from(fault).closes(), "{fault:?}");
        }
    }

    #[test]
    fn the_side_is_told() {
        assert_eq!(What::BadRequest.side(), Side::Client);
        assert_eq!(What::NeedsHttps.side(), Side::Client);
        assert_eq!(What::NoRoute.side(), Side::Gateway);
        assert_eq!(What::TimedOut.side(), Side::Upstream);
    }

    #[test]
    fn the_cause_is_for_the_log_only() {
        let fault = Fault::from(PathFault::EncodedNul);
        assert_eq!(fault.to_string(), "BadRequest: the path has an encoded NUL");
        assert_eq!(fault.what.answer().1, "Bad request");
    }
}
