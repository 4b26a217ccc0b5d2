//! One stream of an HTTP/2 client: an exchange like any other, but its neighbours run beside it.

use std::io;

use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::body::Framing;
use runtime::http::h2::{Body, Fault, Reply, Stream};
use runtime::http::head::{HeadFault, Request, Response};

use super::{ClientFault, Length};
use crate::settings::Patience;

/// One stream.
pub struct H2 {
    body: Body,
    reply: Reply,
    framing: Framing,
    patience: Patience,
    bodiless: bool,
    ended: bool,
    body_bytes: u64,
    sent_bytes: u64,
}

impl H2 {
    /// Takes a stream apart: its head goes into `request`. The second is what is wrong with it.
    pub fn new(
        stream: Stream,
        request: &mut Request,
        patience: Patience,
    ) -> (Self, Option<HeadFault>) {
        *request = stream.request;
        let client = Self {
            body: stream.body,
            reply: stream.reply,
            framing: stream.framing,
            patience,
            bodiless: false,
            ended: false,
            body_bytes: 0,
            sent_bytes: 0,
        };
        (client, stream.fault)
    }

    pub(super) fn body_length(&self) -> Option<u64> {
        match self.framing {
            Framing::None => Some(0),
            Framing::Length(bytes) => Some(bytes),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    pub(super) async fn body(&mut self) -> Result<Option<Piece>, ClientFault> {
        match clock::within(self.patience.client_body_ms, self.body.next()).await {
            None => Err(ClientFault::TimedOut),
            Some(next) => {
                let piece = next.transpose().map_err(gone)?;
                self.body_bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Ok(piece)
            }
        }
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub(super) fn head(&mut self, request: &Request, response: &Response, length: Length) {
        self.bodiless = request.method() == "HEAD" || matches!(response.status, 204 | 304);
        let mut response = response.clone();
        if let Length::Known(bytes) = length
            && response.status != 204
        {
            response.fields.set("content-length", itoa::Buffer::new().format(bytes));
        }
        self.ended = self.bodiless || length == Length::Known(0);
        if self.reply.head(&response, self.ended).is_err() {
            self.ended = true;
        }
    }

    pub(super) async fn piece(&mut self, piece: Piece) -> Result<(), ClientFault> {
        if piece.is_empty() || self.bodiless {
            return Ok(());
        }
        self.sent_bytes += piece.len() as u64;
        match clock::within(self.patience.send_ms, self.reply.piece(piece)).await {
            None => Err(ClientFault::TimedOut),
            Some(sent) => sent.map_err(gone),
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), ClientFault> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.reply.end().map_err(gone)
    }

    pub(super) fn abort(&mut self) {
        self.ended = true;
        self.reply.reset();
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}

fn gone(fault: Fault) -> ClientFault {
    ClientFault::Gone(io::Error::other(fault.to_string()))
}
