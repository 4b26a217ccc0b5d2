//! The client's side of one exchange: a closed set of protocols behind one set of verbs.
//!
//! The road reads body pieces and sends head, pieces and end, and does not know whether it speaks
//! HTTP/1 or HTTP/2.

mod h1;
mod h2;

use std::io;

use plugins::pdk::logging::Passed;
use runtime::buffers::Piece;
use runtime::http::body::BodyFault;
use runtime::http::head::{Fields, Request, Response};

use crate::fault::{Fault, What};
use crate::forwarded::{date, trailers};

pub use h1::H1;
pub use h2::{H2, Upload};

/// How long the answer's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Known(u64),
    /// Ends when it ends.
    Unknown,
    /// There is none, and nothing is said of its length.
    Nothing,
}

/// What went wrong on the client's side.
#[derive(Debug)]
pub enum ClientFault {
    /// The connection ended or failed; nobody is there to be told.
    Gone(io::Error),
    /// The body breaks the rules of its framing.
    Framing(BodyFault),
    /// The client was too slow.
    TimedOut,
    /// The body is larger than `client_max_body_size`.
    TooLarge,
}

impl From<io::Error> for ClientFault {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<ClientFault> for Fault {
    fn from(fault: ClientFault) -> Self {
        match fault {
            ClientFault::Gone(error) => Self::new(What::ClientGone).because(error),
            ClientFault::Framing(fault) => fault.into(),
            ClientFault::TimedOut => Self::new(What::RequestTooSlow),
            ClientFault::TooLarge => Self::new(What::BodyTooLarge),
        }
    }
}

/// The client's side of one exchange.
#[allow(clippy::large_enum_variant)] // one for each active connection; a box would cost more
pub enum Client {
    /// HTTP/1.0 or 1.1: the connection itself.
    H1(H1),
    /// One stream of an HTTP/2 connection.
    H2(H2),
}

impl Client {
    /// The declared length of the request's body; `Some(0)` without a body, none if it is unknown.
    pub fn body_length(&self) -> Option<u64> {
        match self {
            Self::H1(client) => client.body_length(),
            Self::H2(client) => client.body_length(),
        }
    }

    /// How many bytes of the request's body came so far.
    pub fn body_bytes(&self) -> u64 {
        match self {
            Self::H1(client) => client.body_bytes(),
            Self::H2(client) => client.body_bytes(),
        }
    }

    /// Whether the client sent HEAD. Plugins may have changed the method that the upstream is sent.
    pub fn asks_head(&self) -> bool {
        match self {
            Self::H1(client) => client.asks_head(),
            Self::H2(client) => client.asks_head(),
        }
    }

    /// The next piece of the request's body; none at its end.
    ///
    /// # Errors
    /// See `ClientFault`. After one, the connection cannot be used again.
    pub async fn body(&mut self) -> Result<Option<Piece>, ClientFault> {
        match self {
            Self::H1(client) => client.body().await,
            Self::H2(client) => client.body().await,
        }
    }

    /// The lines after the request's body, once it has ended: those that may pass. Gives them once.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn trailers(&mut self) -> Result<Option<Fields>, ClientFault> {
        let came = match self {
            Self::H1(client) => client.trailers(),
            Self::H2(client) => client.trailers().await?,
        };
        Ok(came.and_then(trailers::passing))
    }

    /// Whether the client said that it understands lines after the answer's body, or may be
    /// expected to: HTTP/2 always has a place for them.
    pub fn takes_trailers(&self) -> bool {
        match self {
            Self::H1(client) => client.takes_trailers(),
            Self::H2(_) => true,
        }
    }

    /// Whether the client speaks HTTP/2, and so can send and receive at once.
    pub fn is_h2(&self) -> bool {
        matches!(self, Self::H2(_))
    }

    /// Takes the request's body away from a client of HTTP/2, to be read beside the response.
    /// More than `bytes_max` bytes are a fault; 0 is no limit.
    pub fn take_upload(&mut self, bytes_max: u64) -> Option<Upload> {
        match self {
            Self::H1(_) => None,
            Self::H2(client) => client.take_upload(bytes_max),
        }
    }

    /// Waits until the client gives its request up: a stream of HTTP/2 is reset, a connection of
    /// HTTP/1 ended (as in nginx a client that ends only its own direction has left, too). For the
    /// time after the request's last byte; nothing is sent to the client then. May be dropped.
    pub async fn given_up(&mut self) -> ClientFault {
        match self {
            Self::H1(client) => client.given_up().await,
            Self::H2(client) => client.given_up().await,
        }
    }

    /// Whether the client has given its request up by now. As [`Self::given_up`] otherwise.
    pub fn has_left(&mut self) -> bool {
        match self {
            Self::H1(client) => client.has_left(),
            Self::H2(client) => client.has_left(),
        }
    }

    /// Ends the client's connection with this answer, because it cannot be told where the next
    /// request would begin. A stream of HTTP/2 ends by itself.
    pub fn end_after_this(&mut self) {
        if let Self::H1(client) = self {
            client.end_after_this();
        }
    }

    /// Queues the answer's head; it leaves with the first piece, `flush` or `finish`. An answer
    /// without a date gets one, as from nginx past the plugins and the logs.
    pub fn head(&mut self, request: &Request, response: &Response, length: Length) {
        let date = date::missing(response);
        match self {
            Self::H1(client) => client.head(request, response, length, date),
            Self::H2(client) => client.head(response, length, date),
        }
    }

    /// Queues the head of an answer after which both sides leave HTTP; with a date, too.
    pub fn upgrade(&mut self, response: &Response) {
        match self {
            Self::H1(client) => client.upgrade(response, date::missing(response)),
            Self::H2(client) => client.abort(),
        }
    }

    /// Queues one piece of the answer's body.
    ///
    /// # Errors
    /// The client is gone, or too slow.
    pub async fn piece(&mut self, piece: Piece) -> Result<(), ClientFault> {
        match self {
            Self::H1(client) => client.piece(piece).await,
            Self::H2(client) => client.piece(piece).await,
        }
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// The client is gone, or too slow.
    pub async fn flush(&mut self) -> Result<(), ClientFault> {
        match self {
            Self::H1(client) => client.flush().await,
            Self::H2(_) => Ok(()),
        }
    }

    /// Sends the last piece of the body, which may be empty, and ends the answer. Trailers are
    /// dropped where the client did not ask for them, or where the answer's framing has no place
    /// for them.
    ///
    /// # Errors
    /// The client is gone, or too slow.
    pub async fn end(&mut self, last: Piece, trailers: Option<&Fields>) -> Result<(), ClientFault> {
        match self {
            Self::H1(client) => {
                client.piece(last).await?;
                client.finish(trailers).await
            }
            Self::H2(client) => client.end(last, trailers).await,
        }
    }

    /// Breaks the answer off so that the client can tell that it is not whole.
    pub fn abort(&mut self) {
        match self {
            Self::H1(client) => client.abort(),
            Self::H2(client) => client.abort(),
        }
    }

    /// What passed on the connection for this exchange, if the answer ends with `unsent` bytes
    /// more and these trailers.
    pub fn passed(&self, unsent: usize, trailers: Option<&Fields>) -> Passed {
        match self {
            Self::H1(client) => client.passed(unsent, trailers),
            Self::H2(client) => client.passed(unsent),
        }
    }

    /// How many bytes of body the client was sent, if the answer ends with `unsent` bytes more.
    pub fn sent_bytes(&self, unsent: usize) -> u64 {
        match self {
            Self::H1(client) => client.sent_bytes(unsent),
            Self::H2(client) => client.sent_bytes(unsent),
        }
    }
}
