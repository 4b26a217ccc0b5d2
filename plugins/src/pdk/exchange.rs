//! One request and its response on their way, as plugins see them.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use exporter::logs::{RowKey, TRIES_MAX, TlsNames, Try};
use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::head::{Fields, Known, Request, Response, query_of};
use smallvec::SmallVec;
use store::snapshot::Tables;
use store::value::Row;
use uuid::Uuid;

use super::logging::Passed;
use super::{Captures, Kit, Notes};

/// All configuration at one moment, as the board carries it to the cores.
pub struct Snapshot {
    /// Rises by one with each published change.
    pub number: u64,
    /// The rows.
    pub tables: Arc<Tables>,
    /// What the program compiled out of them: the router and the plan. Opaque here, since plugins
    /// neither route nor see each other.
    pub road: Box<dyn Any + Send + Sync>,
}

/// The id of one request: 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(pub [u8; 32]);

impl RequestId {
    /// Writes 128 random bits as digits.
    pub fn from_bits(high: u64, low: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let bits = (u128::from(high) << 64) | u128::from(low);
        Self(std::array::from_fn(|place| {
            let nibble = (bits >> (124 - 4 * place)) & 15;
            DIGITS.get(nibble as usize).copied().unwrap_or(b'0')
        }))
    }

    /// The digits as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Who sent the request, and where it arrived.
#[derive(Clone, Debug)]
pub struct Client {
    /// The client's address: the peer's, or what a trusted peer says.
    pub ip: IpAddr,
    /// The port that belongs to `ip`.
    pub port: u16,
    /// The other end of the socket.
    pub peer: SocketAddr,
    /// Whether the peer is one of `trusted_ips`.
    pub trusted: bool,
    /// How the client speaks to this node.
    pub scheme: Scheme,
    /// The address on which it arrived.
    pub local_ip: IpAddr,
    /// The port on which it arrived.
    pub local_port: u16,
    /// That port as the outside knows it (`port_maps`).
    pub shown_port: u16,
    /// The server name of the TLS handshake.
    pub sni: Option<Rc<str>>,
    /// The number of the connection among all of this core.
    pub connection: u64,
    /// How many requests the connection has carried, this one counted.
    pub requests: u64,
    /// What the TLS handshake agreed on, for logs.
    pub tls: Option<TlsNames<'static>>,
}

/// The route and the service that a request was matched to; both absent on a 404.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The route's row.
    pub route: Option<Arc<Row>>,
    /// The service's row.
    pub service: Option<Arc<Row>>,
}

/// Who made the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The service.
    Upstream,
    /// A plugin (`exit` in Kong's words).
    Plugin,
    /// The gateway itself (`error` in Kong's words).
    Gateway,
}

/// The credential that an authentication plugin accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The row's id, as text.
    pub id: String,
    /// The key itself, where the credential is one.
    pub key: Option<String>,
}

impl Credential {
    /// That of a row, without a key.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        // Without a formatter.
        let mut id = Uuid::encode_buffer();
        Self { id: row.id().hyphenated().encode_lower(&mut id).to_owned(), key: None }
    }
}

/// What goes upstream in place of what the client sent. The client's own target stays in
/// `Exchange::request`, for logs.
#[derive(Clone, Debug, Default)]
pub struct Onward {
    /// The path, percent-encoded, with its leading slash.
    pub path: Vec<u8>,
    /// The query without its question mark.
    pub query: Vec<u8>,
    /// Whether there is a question mark, which may stand before an empty query.
    pub has_query: bool,
    /// What the route stripped from the path.
    pub prefix: Vec<u8>,
    /// What the Host line says where a balancer decides it; empty: the service's host.
    pub host: Vec<u8>,
    /// What the Host line says where a plugin decides it, whatever a balancer says.
    pub chosen_host: Option<Vec<u8>>,
}

/// How much of the request's body the gateway holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BodyState {
    /// Nothing was read yet.
    #[default]
    Unread,
    /// All of it.
    Whole,
    /// Its beginning; the rest streams.
    TooLarge,
}

/// What becomes of the response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ResponseBody {
    /// It has the length that it came with.
    #[default]
    AsItComes,
    /// A body_filter gives it another length.
    OtherLength,
    /// It is thrown away: the client gets none.
    Dropped,
}

/// Why a body that was wanted is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It is larger than the limit.
    TooLarge,
    /// The core's budget for captured bodies is used up.
    NoRoom,
}

/// A piece below this is copied when it is gathered behind others: it would hold a page of its own
/// for a few bytes, and a body can drip in one byte at a time.
const SMALL_BYTES: usize = 4 * 1024;

/// Adds a piece to those of a body that is held. Small ones are put together, each time two
/// neighbours are of like size, so that what is held stays in proportion to its bytes.
pub fn gather(pieces: &mut SmallVec<[Piece; 2]>, piece: Piece) {
    if pieces.is_empty() || piece.len() >= SMALL_BYTES {
        return pieces.push(piece);
    }
    let mut tail = piece.to_vec();
    // The first is as it came: most bodies are one piece, and are never copied.
    while pieces.len() > 1
        && let Some(before) = pieces.last()
        && before.len() < SMALL_BYTES
        && before.len() <= tail.len()
    {
        tail = [&**before, &tail].concat();
        pieces.pop();
    }
    pieces.push(Piece::from_vec(tail));
}

/// A body that is kept, as references to the pages that stream past.
#[derive(Default)]
pub struct Capture {
    /// The largest body that is kept; none keeps nothing.
    pub bytes_max: Option<usize>,
    /// What was kept.
    pub pieces: SmallVec<[Piece; 2]>,
    /// How much was kept.
    pub bytes: usize,
    /// Set when nothing is kept: a body is captured whole or not at all.
    pub left_out: Option<LeftOut>,
    /// Whether the message has no body at all: neither a length nor a coding was declared, and no
    /// byte came (HTTP/2 has bodies without either).
    pub absent: bool,
}

impl Capture {
    /// Keeps one more piece, or drops all when a limit is passed.
    pub fn keep(&mut self, piece: &Piece, kit: &Kit) {
        let Some(bytes_max) = self.bytes_max else { return };
        if self.left_out.is_some() || piece.is_empty() {
            return;
        }
        self.absent = false;
        if self.bytes + piece.len() > bytes_max {
            self.leave_out(LeftOut::TooLarge, kit);
        } else if !kit.take_capture(piece.len()) {
            self.leave_out(LeftOut::NoRoom, kit);
        } else {
            self.bytes += piece.len();
            gather(&mut self.pieces, piece.clone());
        }
    }

    /// Whether pieces that come are still kept.
    pub fn keeps(&self) -> bool {
        self.bytes_max.is_some() && self.left_out.is_none()
    }

    /// Leaves the body out at once if its declared length is above the limit.
    pub fn declare(&mut self, declared: Option<u64>, kit: &Kit) {
        if let (Some(declared), Some(bytes_max)) = (declared, self.bytes_max)
            && declared > bytes_max as u64
        {
            self.leave_out(LeftOut::TooLarge, kit);
        }
    }

    fn leave_out(&mut self, why: LeftOut, kit: &Kit) {
        kit.give_capture(self.bytes);
        self.pieces.clear();
        self.bytes = 0;
        self.left_out = Some(why);
    }

    fn reset(&mut self, kit: &Kit) {
        kit.give_capture(self.bytes);
        *self = Self::default();
    }
}

/// When what happened, on the core's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The first byte of the request, microseconds since the Unix epoch.
    pub started_wall_us: u64,
    /// The same on the monotonic clock.
    pub started_us: u64,
    /// When the upstream was first asked, monotonic; 0 if it never was.
    pub upstream_started_us: u64,
    /// When the upstream's head was there, monotonic; 0 if it never was.
    pub upstream_answered_us: u64,
    /// When the head of the answer was finished, monotonic.
    pub left_us: u64,
}

/// What the plugin that reports has decided about an exchange's event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reporting {
    /// How many exchanges the event stands for: 0 when it is sampled out, none while that is open.
    pub weight: Option<u32>,
    /// The rule that has blocked the exchange.
    pub blocked_by: Option<Box<str>>,
}

/// One request and its response. Reused from request to request: `reset` keeps the buffers.
pub struct Exchange {
    /// What the core lends.
    pub kit: Rc<Kit>,
    /// The configuration that this exchange began with, and keeps.
    pub snapshot: Rc<Arc<Snapshot>>,
    /// The request's id.
    pub id: RequestId,
    /// Who asks.
    pub client: Client,
    /// What was matched.
    pub scope: Rc<Scope>,
    /// The client's head, as plugins changed its fields. Its target is the client's own, always.
    pub request: Request,
    /// What the client sent as a body, as far as it was read before the upstream is asked.
    pub request_body: SmallVec<[Piece; 2]>,
    /// How much of it that is.
    pub request_body_state: BodyState,
    /// A plugin's limit of the body's length: the request ends when what streams passes it.
    pub request_bytes_max: Option<u64>,
    /// What goes upstream.
    pub onward: Onward,
    /// What the groups of the route's regular expression took; kept only where a plugin asked for
    /// it in `Prepared::with_captures`.
    pub captures: Captures,
    /// The response's head, from the header_filter phase on.
    pub response: Response,
    /// The length of the body that the upstream declared, if it did.
    pub declared_bytes: Option<u64>,
    /// What the header_filter phase says about the response's body.
    pub response_body: ResponseBody,
    /// Lines that a plugin wants in the response, whoever makes it; laid over its head before the
    /// header_filter phase.
    pub early: Fields,
    /// Who made the answer.
    pub origin: Origin,
    /// Who the client is known to be.
    pub consumer: Option<Arc<Row>>,
    /// What proved it.
    pub credential: Option<Credential>,
    /// The JSON Web Token that proved it, for look-ups of templates.
    pub jwt: Option<Vec<u8>>,
    /// Groups that an authentication plugin found beside the consumer's own.
    pub authenticated_groups: Option<Vec<String>>,
    /// The request's body for reports.
    pub request_capture: Capture,
    /// The response's body for reports.
    pub response_capture: Capture,
    /// When what happened.
    pub times: Times,
    /// What plugins noted for their later phases.
    pub notes: Notes,
    /// What plugins add to the document that the log plugins send, by its name there
    /// (`kong.log.set_serialize_value`).
    pub log_values: Vec<(&'static str, String)>,
    /// Whether the access phase of a plugin that reports has run.
    pub reported_access: bool,
    /// What that plugin has decided about the event.
    pub reporting: Reporting,
    /// What was tried with the upstream, for logs; at most [`TRIES_MAX`].
    pub tries: SmallVec<[Try; 2]>,
    /// What passed on the client's connection; known in the log phase.
    pub passed: Passed,
    /// The rows of log plugins that want this exchange; see [`super::logging`].
    pub logged_to: SmallVec<[RowKey; 4]>,
    event_id: Option<[u8; 16]>,
}

impl Exchange {
    /// An exchange that has not begun.
    pub fn new(kit: Rc<Kit>, snapshot: Rc<Arc<Snapshot>>, client: Client) -> Self {
        Self {
            kit,
            snapshot,
            id: RequestId([b'0'; 32]),
            client,
            scope: Rc::default(),
            request: Request::default(),
            request_body: SmallVec::new(),
            request_body_state: BodyState::Unread,
            request_bytes_max: None,
            onward: Onward::default(),
            captures: Captures::default(),
            response: Response::default(),
            declared_bytes: None,
            response_body: ResponseBody::AsItComes,
            early: Fields::default(),
            origin: Origin::Gateway,
            consumer: None,
            credential: None,
            jwt: None,
            authenticated_groups: None,
            request_capture: Capture::default(),
            response_capture: Capture::default(),
            times: Times::default(),
            notes: Notes::default(),
            log_values: Vec::new(),
            reported_access: false,
            reporting: Reporting::default(),
            tries: SmallVec::new(),
            passed: Passed::default(),
            logged_to: SmallVec::new(),
            event_id: None,
        }
    }

    /// Forgets one exchange and keeps its buffers for the next on the same connection.
    pub fn reset(&mut self) {
        self.request.clear();
        self.request_body.clear();
        self.request_body_state = BodyState::Unread;
        self.request_bytes_max = None;
        self.onward.path.clear();
        self.onward.query.clear();
        self.onward.prefix.clear();
        self.onward.host.clear();
        self.onward.has_query = false;
        self.onward.chosen_host = None;
        self.captures.clear();
        self.declared_bytes = None;
        self.response_body = ResponseBody::AsItComes;
        self.response.clear();
        self.early.clear();
        self.origin = Origin::Gateway;
        self.consumer = None;
        self.credential = None;
        self.jwt = None;
        self.authenticated_groups = None;
        self.request_capture.reset(&self.kit);
        self.response_capture.reset(&self.kit);
        self.times = Times::default();
        self.notes.clear();
        self.log_values.clear();
        self.reported_access = false;
        self.reporting = Reporting::default();
        self.tries.clear();
        self.passed = Passed::default();
        self.logged_to.clear();
        self.event_id = None;
    }

    /// Notes that an address of the upstream is tried now; `chosen_us` is how long choosing took.
    pub fn begin_try(&mut self, address: SocketAddr, chosen_us: u32) {
        if self.tries.len() >= TRIES_MAX {
            return;
        }
        let started_us = self.ended_wall_us();
        self.tries.push(Try { started_us, chosen_us, address, status: 0, failed: false });
    }

    /// Notes how the newest try ended: with the upstream's status, or the one that its failure
    /// stands for.
    pub fn end_try(&mut self, status: u16, failed: bool) {
        if let Some(newest) = self.tries.last_mut() {
            (newest.status, newest.failed) = (status, failed);
        }
    }

    /// The unique id of this exchange's event: a random UUID, version 4. Made by the gateway when
    /// first asked for, so that nothing a client sends can be mistaken for it.
    pub fn event_id(&mut self) -> [u8; 16] {
        *self.event_id.get_or_insert_with(|| {
            let bits = (u128::from(clock::random()) << 64) | u128::from(clock::random());
            *uuid::Builder::from_random_bytes(bits.to_be_bytes()).as_uuid().as_bytes()
        })
    }

    /// When the exchange ended, if that is now: microseconds since the Unix epoch, by the
    /// monotonic clock from its start, so that a step of the wall clock makes no odd duration.
    pub fn ended_wall_us(&self) -> u64 {
        let took_us = clock::now_us().saturating_sub(self.times.started_us);
        self.times.started_wall_us + took_us
    }

    /// Wants the request's body kept for a report, up to so many bytes; what was read counts.
    pub fn capture_request(&mut self, bytes_max: usize) {
        let fields = &self.request.fields;
        let declared = fields.get_known(Known::ContentLength);
        let capture = &mut self.request_capture;
        capture.bytes_max = Some(bytes_max);
        capture.absent = declared.is_none() && !fields.has(Known::TransferEncoding);
        let length =
            declared.and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok());
        capture.declare(length, &self.kit);
        for piece in &self.request_body {
            capture.keep(piece, &self.kit);
        }
    }

    /// The rows of this exchange's configuration.
    pub fn tables(&self) -> &Tables {
        &self.snapshot.tables
    }

    /// The id of the matched route.
    pub fn route_id(&self) -> Option<Uuid> {
        self.scope.route.as_ref().map(|row| row.id())
    }

    /// The id of the matched service.
    pub fn service_id(&self) -> Option<Uuid> {
        self.scope.service.as_ref().map(|row| row.id())
    }

    /// The client's query without its question mark and without a fragment; none if the target has
    /// no question mark.
    pub fn query(&self) -> Option<&[u8]> {
        query_of(self.request.target())
    }

    /// The client's path as it stands in the target, without the query.
    pub fn raw_path(&self) -> &[u8] {
        let target = self.request.target();
        let end = memchr::memchr(b'?', target).unwrap_or(target.len());
        target.get(..end).unwrap_or(target)
    }

    /// The whole request body in one slice, if it was read whole. Copies only when it lies in
    /// several pages.
    pub fn whole_body(&self) -> Option<std::borrow::Cow<'_, [u8]>> {
        if self.request_body_state != BodyState::Whole {
            return None;
        }
        Some(match self.request_body.as_slice() {
            [] => std::borrow::Cow::Borrowed(&[]),
            [only] => std::borrow::Cow::Borrowed(only),
            many => std::borrow::Cow::Owned(many.iter().flat_map(|p| p.iter().copied()).collect()),
        })
    }

    /// Puts another body in place of the client's, which was read whole.
    pub fn replace_body(&mut self, body: Vec<u8>) {
        debug_assert_eq!(self.request_body_state, BodyState::Whole);
        self.request_body.clear();
        self.request_body.push(Piece::from_vec(body));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.request_capture.reset(&self.kit);
        self.response_capture.reset(&self.kit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lengths: impl Iterator<Item = usize>, pieces_max: usize) {
        let (mut pieces, mut expected) = (SmallVec::new(), Vec::new());
        for (at, length) in lengths.enumerate() {
            let bytes = vec![(at % 251) as u8; length];
            expected.extend_from_slice(&bytes);
            gather(&mut pieces, Piece::from_vec(bytes));
        }
        let held: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        assert!(held == expected, "the bytes are the same, in order");
        assert!(pieces.len() <= pieces_max, "{} pieces", pieces.len());
    }

    #[test]
    fn small_pieces_are_put_together() {
        check([10, 10].into_iter(), 2);
        check(std::iter::repeat_n(1, 4_096), 15);
        check(std::iter::repeat_n(1, 100_000), 45);
        check((0..1_000).map(|n| n * 37 % 5_000 + 1), 1_000);
        check(std::iter::repeat_n(16_384, 64), 64);
    }
}
