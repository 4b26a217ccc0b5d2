//! One stream of an HTTP/2 client: an exchange like any other, but its neighbours run beside it.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Waker};

use plugins::pdk::logging::Passed;
use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::body::Framing;
use runtime::http::h2::{Added, Body, Fault, Reply, Stream};
use runtime::http::head::{Fields, HeadFault, Known, Request, Response};

use super::{ClientFault, Length};
use crate::forwarded::date::DATE_LEN;
use crate::settings::Patience;

/// One stream.
pub struct H2 {
    /// Gone once it was taken.
    upload: Option<Upload>,
    reply: Reply,
    framing: Framing,
    patience: Patience,
    /// The client sent HEAD, whatever the upstream is sent.
    asks_head: bool,
    bodiless: bool,
    ended: bool,
    sent_bytes: u64,
    /// What stands in the heads, uncompressed: the wire's own measure is the library's secret.
    request_head_bytes: u64,
    response_head_bytes: u64,
    told_length: Option<u64>,
}

/// The body of a request, as it comes.
pub struct Upload {
    body: Body,
    /// None waits for ever.
    patience_ms: Option<u64>,
    bytes: u64,
    /// 0 is no limit.
    bytes_max: u64,
}

impl Upload {
    /// The next piece; none at the end. May be dropped.
    ///
    /// # Errors
    /// See `ClientFault`.
    pub async fn next(&mut self) -> Result<Option<Piece>, ClientFault> {
        let next = match self.patience_ms {
            Some(ms) => clock::within(ms, self.body.next()).await.ok_or(ClientFault::TimedOut)?,
            None => self.body.next().await,
        };
        let piece = next.transpose().map_err(gone)?;
        self.bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if self.bytes_max > 0 && self.bytes > self.bytes_max {
            return Err(ClientFault::TooLarge);
        }
        Ok(piece)
    }

    /// The lines after the body, once it has ended.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn trailers(&mut self) -> Result<Option<Fields>, ClientFault> {
        self.body.trailers().await.map_err(gone)
    }
}

impl H2 {
    /// Takes a stream apart: its head goes into `request`. The second is what is wrong with it.
    pub fn new(
        stream: Stream,
        request: &mut Request,
        patience: Patience,
    ) -> (Self, Option<HeadFault>) {
        *request = stream.request;
        let request_head_bytes = bytes_of(&request.fields) + request.target().len() as u64;
        let client = Self {
            upload: Some(Upload {
                body: stream.body,
                patience_ms: Some(patience.client_body_ms),
                bytes: 0,
                bytes_max: 0,
            }),
            reply: stream.reply,
            framing: stream.framing,
            patience,
            asks_head: request.method() == "HEAD",
            bodiless: false,
            ended: false,
            sent_bytes: 0,
            request_head_bytes,
            response_head_bytes: 0,
            told_length: None,
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
        match &mut self.upload {
            Some(upload) => upload.next().await,
            None => Ok(None),
        }
    }

    pub(super) async fn trailers(&mut self) -> Result<Option<Fields>, ClientFault> {
        match &mut self.upload {
            Some(upload) => upload.trailers().await,
            None => Ok(None),
        }
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.upload.as_ref().map_or(0, |upload| upload.bytes)
    }

    pub(super) fn take_upload(&mut self, bytes_max: u64) -> Option<Upload> {
        // A stream without an end of its own may be open for hours without a byte.
        self.upload.take().map(|upload| Upload { bytes_max, patience_ms: None, ..upload })
    }

    pub(super) async fn given_up(&mut self) -> ClientFault {
        gone(self.reply.given_up().await)
    }

    pub(super) fn has_left(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        pin!(self.reply.given_up()).poll(&mut nobody).is_ready()
    }

    pub(super) fn asks_head(&self) -> bool {
        self.asks_head
    }

    pub(super) fn head(
        &mut self,
        response: &Response,
        length: Length,
        date: Option<[u8; DATE_LEN]>,
    ) {
        self.bodiless = self.asks_head || matches!(response.status, 204 | 304);
        self.told_length = match length {
            Length::Known(bytes) if response.status != 204 => Some(bytes),
            _ => None,
        };
        self.response_head_bytes = bytes_of(&response.fields);
        if let Some(bytes) = self.told_length
            && !response.fields.has(Known::ContentLength)
        {
            let digits = itoa::Buffer::new().format(bytes).len();
            self.response_head_bytes += ("content-length".len() + digits) as u64;
        }
        self.response_head_bytes += date.map_or(0, |date| ("date".len() + date.len()) as u64);
        self.ended = self.bodiless || matches!(length, Length::Known(0) | Length::Nothing);
        let added = Added { length: self.told_length, date: date.as_ref().map(|date| &date[..]) };
        if self.reply.head_with(response, &added, self.ended).is_err() {
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

    /// The last piece, and the end.
    pub(super) async fn end(
        &mut self,
        piece: Piece,
        trailers: Option<&Fields>,
    ) -> Result<(), ClientFault> {
        if piece.is_empty() || self.bodiless || self.ended || trailers.is_some() {
            self.piece(piece).await?;
            return self.finish(trailers);
        }
        self.ended = true;
        self.sent_bytes += piece.len() as u64;
        match clock::within(self.patience.send_ms, self.reply.last(piece)).await {
            None => Err(ClientFault::TimedOut),
            Some(sent) => sent.map_err(gone),
        }
    }

    pub(super) fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), ClientFault> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        match trailers {
            Some(trailers) => self.reply.trailers(trailers).map_err(gone),
            None => self.reply.end().map_err(gone),
        }
    }

    pub(super) fn abort(&mut self) {
        self.ended = true;
        self.reply.reset();
    }

    pub(super) fn sent_bytes(&self, unsent: usize) -> u64 {
        self.sent_bytes + if self.bodiless { 0 } else { unsent as u64 }
    }

    pub(super) fn passed(&self, unsent: usize) -> Passed {
        let unsent = if self.bodiless { 0 } else { unsent as u64 };
        Passed {
            received_bytes: self.request_head_bytes + self.body_bytes(),
            sent_bytes: self.response_head_bytes + self.sent_bytes + unsent,
            content_length: self.told_length,
            chunked: false,
            keep_alive: true,
        }
    }
}

/// Bytes of names and values.
fn bytes_of(fields: &Fields) -> u64 {
    fields.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
}

fn gone(fault: Fault) -> ClientFault {
    ClientFault::Gone(io::Error::other(fault.to_string()))
}
