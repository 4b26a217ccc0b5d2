//! A response that has begun: its body, piece by piece, and what becomes of the connection.

use plugins::pdk::Exchange;
use runtime::buffers::Piece;
use runtime::http::body::{self, Decoder, Framing};
use runtime::http::head::Fields;
use runtime::http::write;

use super::Connection;
use super::grpc::Streamed;
use crate::client::Length;
use crate::core::Core;
use crate::fault::{Fault, What};
use crate::forwarded::{is_websocket, trailers};

/// A response whose head is known.
pub enum Answered {
    /// Over HTTP/1.
    H1(Http1),
    /// Over HTTP/2: the request may still be on its way.
    H2(Box<Streamed>),
}

impl Answered {
    /// How long the body is, as the client is told. For an answer without a body this is what the
    /// upstream declared, if it did, so that HEAD tells the same as GET.
    pub fn length(&self, declared: Option<u64>) -> Length {
        match self {
            Self::H1(answered) => answered.length(declared),
            Self::H2(answered) => answered.length(declared),
        }
    }

    /// Whether the next piece, or the end, is here without waiting.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::H1(answered) => answered.is_ready(),
            Self::H2(answered) => answered.is_done(),
        }
    }

    /// Whether nothing follows.
    pub fn is_done(&self) -> bool {
        match self {
            Self::H1(answered) => answered.done,
            Self::H2(answered) => answered.is_done(),
        }
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// `TimedOut`, or `Unreachable` when the response breaks off.
    pub async fn next(&mut self) -> Result<Option<Piece>, Fault> {
        match self {
            Self::H1(answered) => answered.next().await,
            Self::H2(answered) => answered.next().await,
        }
    }

    /// The lines after the body, once it has ended: those that may pass. Gives them once.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::H1(answered) => answered.decoder.take_trailers().and_then(trailers::passing),
            Self::H2(answered) => answered.take_trailers(),
        }
    }

    /// Lets go of the connection: into the pool if it is at rest, else it is closed.
    pub fn finish(self, core: &Core) {
        if let Self::H1(answered) = self {
            answered.finish(core);
        }
    }

    /// The connection, after the upstream has agreed to another protocol, and how long it may be
    /// silent. HTTP/2 has no such answer.
    pub fn into_tunnel(self) -> Option<(Connection, u64)> {
        match self {
            Self::H1(answered) => Some((answered.connection, answered.read_timeout_ms)),
            Self::H2(_) => None,
        }
    }
}

/// A response over HTTP/1.
pub struct Http1 {
    connection: Connection,
    framing: Framing,
    decoder: Decoder,
    done: bool,
    reusable: bool,
    read_timeout_ms: u64,
}

impl Http1 {
    /// Decides how the body ends. `sent` says whether the whole request was sent: a connection that
    /// still owes a part of it carries no other.
    pub(super) fn new(
        connection: Connection,
        exchange: &Exchange,
        sent: bool,
        read_timeout_ms: u64,
    ) -> Result<Self, Fault> {
        let response = &exchange.response;
        let framing = body::response_framing(response, exchange.request.method())
            .map_err(|fault| Fault::new(What::BadResponse).because(fault.words()))?;
        let request = &exchange.request;
        if response.status == 101 && !is_websocket(&request.fields, request.version) {
            let why = "it switched to a protocol that nobody asked for";
            return Err(Fault::new(What::BadResponse).because(why));
        }
        let reusable = sent
            && framing != Framing::UntilClose
            && response.status != 101
            && write::persists(response.version, &response.fields);
        Ok(Self {
            connection,
            framing,
            decoder: Decoder::new(framing),
            done: matches!(framing, Framing::None | Framing::Length(0)),
            reusable,
            read_timeout_ms,
        })
    }

    fn length(&self, declared: Option<u64>) -> Length {
        match self.framing {
            Framing::None => declared.map_or(Length::Unknown, Length::Known),
            Framing::Length(bytes) => Length::Known(bytes),
            Framing::Chunked | Framing::UntilClose => Length::Unknown,
        }
    }

    fn is_ready(&self) -> bool {
        self.done || !self.connection.inbox.ready().is_empty()
    }

    async fn next(&mut self) -> Result<Option<Piece>, Fault> {
        while !self.done {
            if !self.fill().await? {
                if self.framing == Framing::UntilClose {
                    self.done = true;
                    break;
                }
                return Err(Fault::new(What::Unreachable).because("the body broke off"));
            }
            let inbox = &mut self.connection.inbox;
            let step = self
                .decoder
                .step(inbox.ready())
                .map_err(|fault| Fault::new(What::BadResponse).because(fault.words()))?;
            self.done = step.done;
            let piece = inbox.ready().slice(step.piece);
            let _used = inbox.take(step.used);
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    async fn fill(&mut self) -> Result<bool, Fault> {
        if !self.connection.inbox.ready().is_empty() {
            return Ok(true);
        }
        self.connection.read_deadline.arm(self.read_timeout_ms);
        let more = self.connection.inbox.fill().await;
        let missed = self.connection.read_deadline.missed();
        self.connection.read_deadline.disarm();
        if missed {
            return Err(What::TimedOut.into());
        }
        more.map_err(|error| Fault::new(What::Unreachable).because(error))
    }

    fn finish(self, core: &Core) {
        let quiet = self.connection.inbox.ready().is_empty();
        if self.reusable && self.done && quiet {
            // Some servers send a body where none can be: look before the next request follows.
            core.pool.borrow_mut().put(self.connection, self.framing == Framing::None);
        } else {
            core.pool.borrow_mut().answered(self.connection.key());
        }
    }
}
