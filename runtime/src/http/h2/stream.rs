//! One stream: heads, bodies, and the reply.

use super::intake::{Crowd, Intake, Next};
use crate::buffers::Piece;
use crate::http::body::{Framing, declared_length};
use crate::http::head::{
    self, Fields, HeadFault, Known, Limits, Request, Response, Seen, Version, check_host,
};
use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use ::http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};
use ::http::request::Parts;
use bytes::{Buf, Bytes};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;

/// Body pieces from here on keep a page of the pool; smaller ones get memory of their size.
const PAGED_BYTES_MIN: usize = 4096;

/// What ended a stream or the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The peer gave the stream up, with this code of RFC 9113, section 7.
    Reset(u32),
    /// The connection is gone or was ended with this code.
    Connection(u32),
    /// What was to be sent cannot be said in HTTP/2, or comes after the end.
    Misuse,
}

impl From<::h2::Error> for Fault {
    fn from(error: ::h2::Error) -> Self {
        let code = error.reason().map_or(u32::from(Reason::INTERNAL_ERROR), u32::from);
        if error.is_reset() {
            Self::Reset(code)
        } else if error.reason().is_some() || error.is_io() {
            Self::Connection(code)
        } else {
            Self::Misuse
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the stream was reset: {}", Reason::from(*code)),
            Self::Connection(code) => write!(f, "the connection ended: {}", Reason::from(*code)),
            Self::Misuse => f.write_str("this cannot be sent in HTTP/2"),
        }
    }
}

impl std::error::Error for Fault {}

/// Response bytes on their way into h2.
pub(super) struct Chunk(Piece);

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.0
    }

    fn advance(&mut self, count: usize) {
        self.0.advance(count);
    }
}

/// A request that came in on a connection of HTTP/2, and the means to answer it.
///
/// Dropping its parts without an end resets the stream.
pub struct Stream {
    /// The head. Names are lower case; Host stands first and is what `:authority` said.
    pub request: Request,
    /// What is wrong with the head: answer with its status, as for HTTP/1.
    pub fault: Option<HeadFault>,
    /// How the body would be framed in HTTP/1: none, by its declared length, or chunked.
    pub framing: Framing,
    /// The body.
    pub body: Body,
    /// The answer.
    pub reply: Reply,
}

impl Stream {
    pub(super) fn new(
        received: ::http::Request<RecvStream>,
        respond: SendResponse<Chunk>,
        limits: &Limits,
        crowd: &Rc<Crowd>,
    ) -> Self {
        let (parts, stream) = received.into_parts();
        let mut request = Request::default();
        let mut framing = Framing::None;
        let fault = load(&mut request, &parts, limits).and_then(|()| {
            let length = declared_length(request.fields.all_known(Known::ContentLength))?;
            framing = match length {
                _ if stream.is_end_stream() => Framing::None,
                Some(length) => Framing::Length(length),
                None => Framing::Chunked,
            };
            Ok(())
        });
        Self {
            request,
            fault: fault.err(),
            framing,
            body: Body::new(crowd, stream),
            reply: Reply { respond, sender: None },
        }
    }
}

/// Fills `request` from a received head, as strictly as [`head::parse_request`].
fn load(request: &mut Request, parts: &Parts, limits: &Limits) -> Result<(), HeadFault> {
    request.version = Version::H2;
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    // Both are set before they are judged, so that the log can tell them.
    request.set_method(parts.method.as_str());
    request.set_target(target.as_bytes());
    head::check_method(parts.method.as_str())?;
    if target.len() > limits.request_line_bytes_max {
        return Err(HeadFault::LineTooLong);
    }
    if parts.headers.len() > limits.headers_max {
        return Err(HeadFault::TooManyFields);
    }
    head::check_target(target.as_bytes())?;
    let host = host(parts)?;
    check_host(host)?;
    request.fields.add("host", host);
    for (name, value) in &parts.headers {
        let (name, value) = (name.as_str(), value.as_bytes());
        if name.len() + value.len() + 4 > limits.header_line_bytes_max {
            return Err(HeadFault::FieldTooLong);
        }
        if head::is_disguised(name.as_bytes()) {
            return Err(HeadFault::Disguised);
        }
        if name == "host" || name == "cookie" || head::is_odd(name.as_bytes()) {
            continue;
        }
        request.fields.add(name, value);
    }
    join_cookies(&mut request.fields, &parts.headers);
    Ok(())
}

/// `:authority`, or the one Host line; if both are there they must agree.
fn host(parts: &Parts) -> Result<&[u8], HeadFault> {
    let mut hosts = parts.headers.get_all("host").iter().map(HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, hosts.next(), hosts.next()) {
        (None, None, _) => Err(HeadFault::HostMissing),
        (_, Some(_), Some(_)) => Err(HeadFault::HostRepeated),
        (Some(authority), Some(host), None) if authority != host => Err(HeadFault::HostBad),
        (Some(host), _, None) | (None, Some(host), None) => Ok(host),
        (Some(_), None, Some(_)) => Err(HeadFault::HostRepeated),
    }
}

/// HTTP/2 clients split cookies into lines; HTTP/1 knows only one (RFC 9113, section 8.2.3).
fn join_cookies(fields: &mut Fields, headers: &HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        fields.add("cookie", cookies.join(&b"; "[..]));
    }
}

/// A body that is received, piece by piece.
pub struct Body {
    /// None: it had ended before it began.
    intake: Option<Rc<Intake>>,
    /// Of the piece that was given out last: the peer may send as much again once the next one
    /// is asked for.
    unreleased_bytes: usize,
}

impl Body {
    pub(super) fn new(crowd: &Rc<Crowd>, stream: RecvStream) -> Self {
        let intake = (!stream.is_end_stream()).then(|| crowd.add(stream));
        Self { intake, unreleased_bytes: 0 }
    }

    /// The next piece; nothing at the end. Asking for it lets the peer send as much as the last
    /// piece had, so a reader that stops stops the peer. May be dropped.
    ///
    /// # Errors
    /// The peer gave up, or sent less or more than it had declared.
    pub async fn next(&mut self) -> Option<Result<Piece, Fault>> {
        self.release();
        let intake = self.intake.as_deref()?;
        loop {
            let piece = match poll_fn(|cx| intake.poll_next(cx)).await? {
                Err(fault) => return Some(Err(fault)),
                Ok(Next::Frame(bytes)) => piece_of(&bytes),
                Ok(Next::Gathered(bytes)) => Piece::from_vec(bytes),
            };
            if !piece.is_empty() {
                self.unreleased_bytes = piece.len();
                return Some(Ok(piece));
            }
        }
    }

    /// Whether nothing more comes: no body, or all of it was read.
    pub fn is_ended(&self) -> bool {
        self.intake.as_deref().is_none_or(Intake::is_ended)
    }

    /// The lines after the body, once it has ended; framing left out. h2 drops pseudo-headers
    /// among them without a word, where RFC 9113, section 8.1, asks for a fault: nobody behind it
    /// can see that they were there, and nothing of them gets further.
    ///
    /// # Errors
    /// The client gave up.
    pub async fn trailers(&mut self) -> Result<Option<Fields>, Fault> {
        self.release();
        let Some(intake) = self.intake.as_deref() else { return Ok(None) };
        let Some(trailers) = poll_fn(|cx| intake.poll_trailers(cx)).await? else {
            return Ok(None);
        };
        let mut fields = Fields::new();
        for (name, value) in &trailers {
            fields.add(name.as_str(), value.as_bytes());
        }
        fields.remove_known(NOT_SENT);
        Ok(Some(fields))
    }

    fn release(&mut self) {
        let bytes = std::mem::take(&mut self.unreleased_bytes);
        if let Some(intake) = self.intake.as_deref().filter(|_| bytes > 0) {
            intake.release(bytes);
        }
    }
}

fn piece_of(bytes: &Bytes) -> Piece {
    if bytes.len() < PAGED_BYTES_MIN {
        Piece::from_vec(bytes.to_vec())
    } else {
        Piece::copy_of(bytes)
    }
}

/// Lines that HTTP/2 does not have.
const NOT_SENT: Seen = Seen::of(&[
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::Host,
]);

/// The sending side of a stream after its head.
///
/// Dropping it without an end resets the stream.
pub struct Sender(pub(super) SendStream<Chunk>);

impl Sender {
    /// Sends body bytes as the peer's window allows. May be dropped; what was sent is sent.
    ///
    /// # Errors
    /// The peer gave up.
    pub async fn piece(&mut self, mut piece: Piece) -> Result<(), Fault> {
        while !piece.is_empty() {
            let part = self.part(&mut piece).await?;
            self.0.send_data(Chunk(part), false)?;
        }
        Ok(())
    }

    /// Sends the last body bytes, and ends the body with them: a frame of its own would cost as
    /// much as a short body. May be dropped; what was sent is sent.
    ///
    /// # Errors
    /// The peer gave up.
    pub async fn last(&mut self, mut piece: Piece) -> Result<(), Fault> {
        while !piece.is_empty() {
            let part = self.part(&mut piece).await?;
            self.0.send_data(Chunk(part), piece.is_empty())?;
            if piece.is_empty() {
                return Ok(());
            }
        }
        self.end()
    }

    /// Takes what the peer has room for, once it has any.
    async fn part(&mut self, piece: &mut Piece) -> Result<Piece, Fault> {
        self.0.reserve_capacity(piece.len());
        // h2 tells only of new capacity, so what is there is looked at first.
        let mut room = self.0.capacity();
        if room == 0 {
            let gone = Fault::Connection(u32::from(Reason::CANCEL));
            room = poll_fn(|cx| self.0.poll_capacity(cx)).await.ok_or(gone)??;
        }
        Ok(piece.split_to(room.min(piece.len())))
    }

    /// Ends the body.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn end(&mut self) -> Result<(), Fault> {
        self.0.send_data(Chunk(Piece::empty()), true).map_err(Fault::from)
    }

    /// Ends the body with lines behind it.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn trailers(&mut self, fields: &Fields) -> Result<(), Fault> {
        let mut headers = HeaderMap::with_capacity(fields.len());
        push_fields(&mut headers, fields)?;
        self.0.send_trailers(headers).map_err(Fault::from)
    }

    /// Waits until the peer gives the stream up; for ever if it never does. May be dropped.
    pub async fn given_up(&mut self) -> Fault {
        let reason = poll_fn(|cx| self.0.poll_reset(cx)).await;
        reason.map_or_else(Fault::from, |reason| Fault::Reset(reason.into()))
    }
}

/// The answer to one request: an optional interim head, a head, pieces, trailers.
pub struct Reply {
    respond: SendResponse<Chunk>,
    sender: Option<Sender>,
}

impl Reply {
    /// Sends an interim head (100 to 199).
    ///
    /// # Errors
    /// The stream is gone, or the status is not an interim one.
    pub fn interim(&mut self, response: &Response) -> Result<(), Fault> {
        let head = head_of(response, &Added::default())?;
        self.respond.send_informational(head).map_err(Fault::from)
    }

    /// Sends the head; with `end` there is no body. Connection, Transfer-Encoding and the like are
    /// left out.
    ///
    /// # Errors
    /// The stream is gone, or a head was sent already.
    pub fn head(&mut self, response: &Response, end: bool) -> Result<(), Fault> {
        self.head_with(response, &Added::default(), end)
    }

    /// As [`Self::head`], with lines that `response` does not have.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub fn head_with(
        &mut self,
        response: &Response,
        added: &Added<'_>,
        end: bool,
    ) -> Result<(), Fault> {
        let head = head_of(response, added)?;
        self.sender = Some(Sender(self.respond.send_response(head, end)?));
        Ok(())
    }

    /// Sends body bytes as the client's window allows. May be dropped; what was sent is sent.
    ///
    /// # Errors
    /// The client gave up, or no head was sent.
    pub async fn piece(&mut self, piece: Piece) -> Result<(), Fault> {
        self.sender.as_mut().ok_or(Fault::Misuse)?.piece(piece).await
    }

    /// Sends the last body bytes and ends the body with them. May be dropped; what was sent is
    /// sent.
    ///
    /// # Errors
    /// The client gave up, or no head was sent.
    pub async fn last(&mut self, piece: Piece) -> Result<(), Fault> {
        self.sender.as_mut().ok_or(Fault::Misuse)?.last(piece).await
    }

    /// Ends the body.
    ///
    /// # Errors
    /// The stream is gone, or no head was sent.
    pub fn end(&mut self) -> Result<(), Fault> {
        self.sender.as_mut().ok_or(Fault::Misuse)?.end()
    }

    /// Ends the body with lines behind it.
    ///
    /// # Errors
    /// The stream is gone, or no head was sent.
    pub fn trailers(&mut self, fields: &Fields) -> Result<(), Fault> {
        self.sender.as_mut().ok_or(Fault::Misuse)?.trailers(fields)
    }

    /// Tells the client that this goes wrong (INTERNAL_ERROR): after a head there is no other way.
    /// What has not gone out yet is dropped.
    pub fn reset(&mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }

    /// Waits until the client gives the stream up; for ever if it never does. May be dropped.
    pub async fn given_up(&mut self) -> Fault {
        if let Some(sender) = &mut self.sender {
            return sender.given_up().await;
        }
        let reason = poll_fn(|cx| self.respond.poll_reset(cx)).await;
        reason.map_or_else(Fault::from, |reason| Fault::Reset(reason.into()))
    }
}

/// Lines that an answer gets as it leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added<'a> {
    /// The length of the body, in place of the one that the answer may have.
    pub length: Option<u64>,
    /// The time, for an answer that tells none.
    pub date: Option<&'a [u8]>,
}

fn head_of(response: &Response, added: &Added<'_>) -> Result<::http::Response<()>, Fault> {
    let mut head = ::http::Response::new(());
    *head.status_mut() =
        ::http::StatusCode::from_u16(response.status).map_err(|_| Fault::Misuse)?;
    head.headers_mut().reserve(response.fields.len() + 2);
    match added.length {
        None => push_fields(head.headers_mut(), &response.fields)?,
        Some(length) => {
            let without = NOT_SENT.and(Seen::of(&[Known::ContentLength]));
            push_some(head.headers_mut(), &response.fields, without)?;
            head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    if let Some(date) = added.date {
        let date = HeaderValue::from_bytes(date).map_err(|_| Fault::Misuse)?;
        head.headers_mut().insert(DATE, date);
    }
    Ok(head)
}

/// Copies the lines that HTTP/2 has. Of TE it has only `trailers`.
pub(super) fn push_fields(headers: &mut HeaderMap, fields: &Fields) -> Result<(), Fault> {
    push_some(headers, fields, NOT_SENT)
}

/// Copies the lines but those of `without`. All values lie in one piece of memory.
fn push_some(headers: &mut HeaderMap, fields: &Fields, without: Seen) -> Result<(), Fault> {
    let kept = || {
        fields.iter().filter(|(name, value)| {
            let known = Known::of(name);
            let odd_te = known == Known::Te && !value.eq_ignore_ascii_case(b"trailers");
            !odd_te && !without.meets(Seen::of(&[known]))
        })
    };
    let mut values = Vec::with_capacity(kept().map(|(_, value)| value.len()).sum());
    kept().for_each(|(_, value)| values.extend_from_slice(value));
    let mut values = Bytes::from(values);
    for (name, value) in kept() {
        let name = HeaderName::from_bytes(name).map_err(|_| Fault::Misuse)?;
        let value = values.split_to(value.len());
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Fault::Misuse)?;
        headers.try_append(name, value).map_err(|_| Fault::Misuse)?;
    }
    Ok(())
}
