//! An HTTP/1 client: requests follow each other on one connection.

use std::cell::Cell;
use std::io;

use plugins::pdk::logging::Passed;
use runtime::buffers::{Pages, Piece};
use runtime::clock::Deadline;
use runtime::http::body::{self, Decoder, Framing};
use runtime::http::head::{self, Fields, Known, Limits, Name, Request, Response, Version};
use runtime::http::write;
use runtime::io::Pipe;
use runtime::wire::WireWriter;

use super::{ClientFault, Length};
use crate::forwarded::date::DATE_LEN;
use crate::inbox::{HeadEnd, Inbox};
use crate::settings::Patience;

/// Queued bytes above this are sent before more is queued.
const QUEUED_BYTES_MAX: usize = 64 * 1024;
/// Queued pieces above this are sent before more is queued (a `writev` takes 1,024).
const QUEUED_PIECES_MAX: usize = 48;
/// After an answer that the client did not wait for, so much of its body is read and thrown away,
/// so that the answer is not lost to a reset.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER_MS: u64 = 2_000;

const CONTENT_LENGTH: Name = Name::new("Content-Length: ");

/// The connection of an HTTP/1 client.
pub struct H1 {
    inbox: Inbox,
    writer: WireWriter,
    deadline: Deadline,
    patience: Patience,
    limits: Limits,
    framing: Framing,
    decoder: Decoder,
    body_done: bool,
    body_bytes: u64,
    expects_continue: bool,
    queued: Pages,
    queued_bytes: usize,
    sent_bytes: u64,
    /// Bytes on the wire: of the request so far, and of the answer beside its body.
    received_bytes: u64,
    frame_bytes: u64,
    told_length: Option<u64>,
    chunked: bool,
    /// The client sent HEAD, whatever the upstream is sent.
    asks_head: bool,
    bodiless: bool,
    persist: bool,
    /// It said `TE: trailers`.
    takes_trailers: bool,
    /// The client has left in the middle of an exchange: nothing is written any more.
    gone: bool,
}

impl H1 {
    /// A connection that was just accepted.
    pub fn new(inbox: Inbox, writer: WireWriter, patience: Patience, limits: Limits) -> Self {
        let deadline = Deadline::new(writer.closer());
        Self {
            inbox,
            writer,
            deadline,
            patience,
            limits,
            framing: Framing::None,
            decoder: Decoder::new(Framing::None),
            body_done: true,
            body_bytes: 0,
            expects_continue: false,
            queued: Pages::new(),
            queued_bytes: 0,
            sent_bytes: 0,
            received_bytes: 0,
            frame_bytes: 0,
            told_length: None,
            chunked: false,
            asks_head: false,
            bodiless: false,
            persist: true,
            takes_trailers: false,
            gone: false,
        }
    }

    /// Waits, without a buffer, for the next request. False when the client closed or was idle too
    /// long.
    pub async fn wait(&mut self, first: bool) -> bool {
        if first {
            self.deadline.arm(self.patience.client_header_ms);
        } else {
            self.deadline.arm_idle(self.patience.keepalive_ms);
        }
        let ready = self.inbox.wait().await.is_ok();
        let in_time = !self.deadline.missed();
        self.deadline.disarm();
        ready && in_time
    }

    /// Whether bytes of a next request are here already.
    pub fn has_more(&self) -> bool {
        !self.inbox.ready().is_empty()
    }

    /// Waits, without a buffer and without a limit, for the next request or the end. May be
    /// dropped.
    pub async fn more(&mut self) {
        // What failed shows in the read that follows.
        let _ready = self.inbox.wait().await;
    }

    /// Bytes at the start of the connection, to tell HTTP/2 from HTTP/1: as many as it takes until
    /// they are `enough`, or the end.
    ///
    /// # Errors
    /// The socket's.
    pub async fn first_bytes(&mut self, enough: impl Fn(&[u8]) -> bool) -> io::Result<&Piece> {
        self.deadline.arm(self.patience.client_header_ms);
        let mut more = self.inbox.fill().await?;
        while more && !enough(self.inbox.ready()) {
            more = self.inbox.grow().await?;
        }
        self.deadline.disarm();
        Ok(self.inbox.ready())
    }

    /// Takes the connection apart again, with what was read.
    pub fn into_parts(self) -> (Inbox, WireWriter) {
        (self.inbox, self.writer)
    }

    /// Reads the next head.
    ///
    /// # Errors
    /// See `HeadEnd`; a missed deadline is a broken connection.
    pub async fn request(&mut self, request: &mut Request) -> Result<(), HeadEnd> {
        self.deadline.arm(self.patience.client_header_ms);
        let (limits, mut head_bytes) = (&self.limits, 0);
        let parse = |bytes: &[u8]| {
            let used = head::parse_request(bytes, limits, request)?;
            head_bytes = used.unwrap_or(0) as u64;
            Ok(used)
        };
        let read = self.inbox.head(parse).await;
        self.deadline.disarm();
        self.begin(Framing::None);
        self.asks_head = request.method() == "HEAD";
        self.received_bytes = head_bytes;
        read?;
        let framing = body::request_framing(request).map_err(HeadEnd::Fault)?;
        self.begin(framing);
        self.asks_head = request.method() == "HEAD";
        self.received_bytes = head_bytes;
        self.persist = write::persists(request.version, &request.fields);
        self.takes_trailers = request.version == Version::H11
            && request.fields.has(Known::Te)
            && write::lists(&request.fields, Known::Te, "trailers");
        self.expects_continue = request.version == Version::H11
            && request
                .fields
                .get_known(Known::Expect)
                .is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"));
        Ok(())
    }

    fn begin(&mut self, framing: Framing) {
        self.framing = framing;
        self.decoder = Decoder::new(framing);
        self.body_done = matches!(framing, Framing::None | Framing::Length(0));
        self.body_bytes = 0;
        self.expects_continue = false;
        self.sent_bytes = 0;
        self.received_bytes = 0;
        self.frame_bytes = 0;
        self.told_length = None;
        self.chunked = false;
        self.asks_head = false;
        self.bodiless = false;
        self.takes_trailers = false;
    }

    pub(super) fn trailers(&mut self) -> Option<Fields> {
        self.decoder.take_trailers()
    }

    pub(super) fn takes_trailers(&self) -> bool {
        self.takes_trailers
    }

    /// Those of an answer's trailers that this client is sent.
    fn sent_trailers<'t>(&self, trailers: Option<&'t Fields>) -> Option<&'t Fields> {
        trailers.filter(|_| self.takes_trailers && self.chunked)
    }

    pub(super) fn body_length(&self) -> Option<u64> {
        match self.framing {
            Framing::None => Some(0),
            Framing::Length(bytes) => Some(bytes),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    pub(super) async fn body(&mut self) -> Result<Option<Piece>, ClientFault> {
        if self.expects_continue && !self.body_done {
            self.expects_continue = false;
            self.queue(Piece::from_vec(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));
            self.flush().await?;
        }
        while !self.body_done {
            if self.inbox.ready().is_empty() {
                self.deadline.arm(self.patience.client_body_ms);
                let more = self.inbox.fill().await;
                let missed = self.deadline.missed();
                self.deadline.disarm();
                if missed {
                    self.persist = false;
                    return Err(ClientFault::TimedOut);
                }
                if !more? {
                    return Err(self.leave());
                }
            }
            let step = self.decoder.step(self.inbox.ready()).map_err(|fault| {
                self.persist = false;
                ClientFault::Framing(fault)
            })?;
            self.body_done = step.done;
            self.received_bytes += step.used as u64;
            let piece = self.inbox.ready().slice(step.piece);
            let _used = self.inbox.take(step.used);
            if !piece.is_empty() {
                self.body_bytes += piece.len() as u64;
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// The client has ended its direction: from now on nothing is written.
    fn leave(&mut self) -> ClientFault {
        self.abort();
        self.gone = true;
        ClientFault::Gone(io::ErrorKind::UnexpectedEof.into())
    }

    pub(super) async fn given_up(&mut self) -> ClientFault {
        self.inbox.ended().await;
        self.leave()
    }

    pub(super) fn has_left(&mut self) -> bool {
        let left = self.inbox.has_ended();
        if left {
            let _fault = self.leave();
        }
        left
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub(super) fn asks_head(&self) -> bool {
        self.asks_head
    }

    /// Throws away what is here of a body that nobody wants. A short one is then done, and the
    /// connection can go on.
    fn discard_body(&mut self) {
        while !self.body_done && !self.inbox.ready().is_empty() {
            let Ok(step) = self.decoder.step(self.inbox.ready()) else { return };
            self.body_done = step.done;
            self.received_bytes += step.used as u64;
            let _used = self.inbox.take(step.used);
        }
    }

    pub(super) fn head(
        &mut self,
        request: &Request,
        response: &Response,
        length: Length,
        date: Option<[u8; DATE_LEN]>,
    ) {
        if self.gone {
            return;
        }
        let status = response.status;
        self.bodiless = self.asks_head || matches!(status, 204 | 304);
        self.discard_body();
        // An answer given before the body was read ends the connection: what is still on its way
        // must not be taken for a request.
        self.persist &= self.body_done;
        let mut line = lent_line();
        write::status_line(&mut line, status, response.reason());
        write::fields(&mut line, &response.fields);
        if let Some(date) = date {
            write::line(&mut line, "Date", &date);
        }
        match length {
            Length::Known(_) if status == 204 => {}
            Length::Known(bytes) => {
                self.told_length = Some(bytes);
                write::line_number(&mut line, CONTENT_LENGTH, bytes);
            }
            Length::Nothing => {
                write::line_number(&mut line, CONTENT_LENGTH, 0);
            }
            Length::Unknown if self.bodiless => {}
            Length::Unknown if request.version == Version::H11 => {
                self.chunked = true;
                line.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            }
            Length::Unknown => self.persist = false,
        }
        let connection: &[u8] = match (self.persist, request.version) {
            (true, Version::H10) => b"Connection: keep-alive\r\n\r\n",
            (true, _) => b"Connection: keep-alive\r\n\r\n",
            (false, _) => b"Connection: close\r\n\r\n",
        };
        line.extend_from_slice(connection);
        self.frame_bytes += line.len() as u64;
        self.queue_line(line);
    }

    pub(super) fn upgrade(&mut self, response: &Response, date: Option<[u8; DATE_LEN]>) {
        self.persist = false;
        let mut line = lent_line();
        write::status_line(&mut line, response.status, response.reason());
        write::fields(&mut line, &response.fields);
        if let Some(date) = date {
            write::line(&mut line, "Date", &date);
        }
        line.extend_from_slice(write::HEAD_END);
        self.frame_bytes += line.len() as u64;
        self.queue_line(line);
    }

    /// Both directions, for a tunnel.
    pub fn halves(&mut self) -> (&mut Inbox, &mut WireWriter) {
        (&mut self.inbox, &mut self.writer)
    }

    /// Closes the connection after the answer that comes.
    pub fn end_after_this(&mut self) {
        self.persist = false;
    }

    pub(super) async fn piece(&mut self, piece: Piece) -> Result<(), ClientFault> {
        if piece.is_empty() || self.bodiless || self.gone {
            return Ok(());
        }
        self.sent_bytes += piece.len() as u64;
        if self.chunked {
            let mut line = lent_line();
            write::chunk_head(&mut line, piece.len());
            self.frame_bytes += line.len() as u64 + 2;
            self.queue_line(line);
            self.queue(piece);
            self.queue(Piece::from_static(b"\r\n"));
        } else {
            self.queue(piece);
        }
        if self.queued_bytes >= QUEUED_BYTES_MAX || self.queued.len() >= QUEUED_PIECES_MAX {
            return self.flush().await;
        }
        Ok(())
    }

    /// Whether bytes of the body can go to the socket past this code: framed by their length, and
    /// not encrypted.
    pub fn takes_splices(&mut self) -> bool {
        let counted = self.told_length.is_some() && !self.chunked && !self.bodiless;
        counted && self.writer.plain().is_some()
    }

    /// Sends what a pipe holds as a part of the body. What is queued must have left.
    ///
    /// # Errors
    /// The client is gone, or too slow.
    pub async fn drain(&mut self, pipe: &mut Pipe) -> Result<(), ClientFault> {
        debug_assert!(self.queued.is_empty(), "the head goes first");
        self.sent_bytes += pipe.held_bytes() as u64;
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        let writer = self.writer.plain().ok_or_else(unsupported)?;
        self.deadline.arm(self.patience.send_ms);
        let written = writer.drain(pipe).await;
        let missed = self.deadline.missed();
        self.deadline.disarm();
        if written.is_err() || missed {
            self.persist = false;
        }
        if missed {
            return Err(ClientFault::TimedOut);
        }
        Ok(written?)
    }

    pub(super) async fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), ClientFault> {
        match self.sent_trailers(trailers) {
            Some(trailers) => {
                let mut line = lent_line();
                write::last_chunk(&mut line, trailers);
                self.queue_line(line);
            }
            None if self.chunked => self.queue(Piece::from_static(write::LAST_CHUNK)),
            None => {}
        }
        self.flush().await
    }

    pub(super) async fn flush(&mut self) -> Result<(), ClientFault> {
        if self.gone {
            return Err(ClientFault::Gone(io::ErrorKind::NotConnected.into()));
        }
        if self.queued.is_empty() {
            return Ok(());
        }
        let queued = std::mem::take(&mut self.queued);
        self.queued_bytes = 0;
        self.deadline.arm(self.patience.send_ms);
        let written = self.writer.write(queued).await;
        let missed = self.deadline.missed();
        self.deadline.disarm();
        if written.is_err() || missed {
            self.persist = false;
        }
        if missed {
            return Err(ClientFault::TimedOut);
        }
        Ok(written?)
    }

    pub(super) fn abort(&mut self) {
        self.persist = false;
        self.queued.clear();
        self.queued_bytes = 0;
    }

    pub(super) fn sent_bytes(&self, unsent: usize) -> u64 {
        self.sent_bytes + if self.bodiless || self.gone { 0 } else { unsent as u64 }
    }

    pub(super) fn passed(&self, unsent: usize, trailers: Option<&Fields>) -> Passed {
        let unsent = if self.bodiless || self.gone { 0 } else { unsent };
        let mut frame_bytes = self.frame_bytes;
        if self.chunked {
            let mut line = lent_line();
            write::chunk_head(&mut line, unsent);
            frame_bytes += line.len() as u64 + if unsent > 0 { 2 } else { 0 };
            line.clear();
            match self.sent_trailers(trailers) {
                Some(trailers) => write::last_chunk(&mut line, trailers),
                None => line.extend_from_slice(write::LAST_CHUNK),
            }
            frame_bytes += line.len() as u64;
            LINE.set(line);
        }
        Passed {
            received_bytes: self.received_bytes,
            sent_bytes: frame_bytes + self.sent_bytes + unsent as u64,
            content_length: self.told_length,
            chunked: self.chunked,
            keep_alive: self.persist,
        }
    }

    /// Whether the next request may follow.
    pub fn persists(&self) -> bool {
        self.persist && self.body_done
    }

    /// Closes so that an answer on its way is not lost: ends the sending direction first, then
    /// reads and drops what still comes, within bounds.
    pub async fn close(mut self) {
        self.deadline.arm(LINGER_MS);
        let _ended = self.writer.shutdown().await;
        let mut dropped = self.inbox.take_all().len();
        while dropped < LINGER_BYTES_MAX && matches!(self.inbox.fill().await, Ok(true)) {
            dropped += self.inbox.take_all().len();
        }
    }

    fn queue(&mut self, piece: Piece) {
        self.queued_bytes += piece.len();
        self.queued.push(piece);
    }

    /// Queues a head and gives its buffer back.
    fn queue_line(&mut self, line: Vec<u8>) {
        self.queue(Piece::copy_of(&line));
        LINE.set(line);
    }
}

thread_local! {
    /// Where heads are written before they are queued: one for the core, so that a connection that
    /// waits holds none.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn lent_line() -> Vec<u8> {
    let mut line = LINE.take();
    line.clear();
    line
}
