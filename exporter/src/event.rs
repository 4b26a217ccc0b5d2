//! What a core reports of one finished exchange, and the record it becomes in the ring.
//!
//! A [`Report`] borrows everything. [`Report::commit`] puts the heads together in a buffer of the
//! core, and copies them and the bodies into the ring: no allocation, no JSON. All that costs
//! thought (masks, inflating, JSON, identification) happens later, on the exporter's thread, from a
//! [`record::Record`].

pub mod record;

use record::Writer;
use runtime::http::head::Fields;
use runtime::ring::Producer;
use std::net::IpAddr;
use uuid::Uuid;

/// Version of the bytes that [`Report::commit`] writes. A new one for each change of their order.
pub const RECORD_VERSION: u32 = 3;
/// Most plugin rows that one exchange can be reported to; further ones are not taken.
pub const ROWS_MAX: usize = 8;
/// Most header lines a side that are kept; the rest is left out.
pub const HEADERS_MAX: usize = 1_000;
/// Most hosts of a route that are kept.
pub const ROUTE_HOSTS_MAX: usize = 64;

/// One plugin row that wants this exchange, at the version that the exchange ran with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowRef {
    /// The plugin row.
    pub id: Uuid,
    /// The change that wrote it (`Row::version`).
    pub version: u64,
    /// [`crate::moesif::settings::Settings::fingerprint`] of its masks; an event is never made
    /// with settings of another fingerprint.
    pub fingerprint: u64,
}

/// Which way a call went, seen from the gateway's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A client called us. All that Kong's plugin ever says.
    Incoming,
    /// We called someone.
    Outgoing,
    /// One of ours called one of ours.
    Internal,
}

/// The scheme of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyState {
    /// The message had none: no length, no coding.
    None,
    /// All of it is in `pieces`, also when that is nothing (`Content-Length: 0`).
    Captured,
    /// Longer than the limit.
    TooLarge,
    /// The configuration asks for none.
    Disabled,
    /// The exchange ended before anyone read it, or the access phase never ran.
    NotRead,
    /// The core's capture budget was used up.
    LeftOut,
}

/// One body as it passed.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// What became of it.
    pub state: BodyState,
    /// Its bytes in order; only read when `state` is [`BodyState::Captured`].
    pub pieces: &'a [&'a [u8]],
}

impl Body<'_> {
    /// A body of which nothing was captured.
    pub const fn without(state: BodyState) -> Self {
        Self { state, pieces: &[] }
    }

    /// What is kept of it.
    fn captured(&self) -> &[&[u8]] {
        if self.state == BodyState::Captured { self.pieces } else { &[] }
    }

    fn len(&self) -> usize {
        self.captured().iter().map(|piece| piece.len()).sum()
    }
}

/// Header lines in order, as they stand in the log phase.
#[derive(Debug, Clone, Copy)]
pub enum Lines<'a> {
    /// The fields of a message.
    Fields(&'a Fields),
    /// Name and value.
    Pairs(&'a [(&'a [u8], &'a [u8])]),
}

impl Lines<'_> {
    /// How many lines are kept.
    fn len(&self) -> usize {
        let all = match self {
            Self::Fields(fields) => fields.len(),
            Self::Pairs(pairs) => pairs.len(),
        };
        all.min(HEADERS_MAX)
    }
}

/// Who was authenticated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Consumer<'a> {
    /// The consumer's id.
    pub id: Option<&'a str>,
    /// Its username.
    pub username: Option<&'a str>,
    /// Its custom id.
    pub custom_id: Option<&'a str>,
}

/// With what it was authenticated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credential<'a> {
    /// The credential's id.
    pub id: Option<&'a str>,
    /// Its key, where it has one.
    pub key: Option<&'a str>,
}

/// Everything a core knows of one finished exchange.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Who wants to know; at most [`ROWS_MAX`].
    pub rows: &'a [RowRef],
    /// Made by the gateway, unique per exchange; destinations discard repeats by it.
    pub transaction_id: [u8; 16],
    /// When the first byte of the request was there, microseconds since 1970.
    pub started_us: u64,
    /// When the response was complete (or the log phase began), microseconds since 1970.
    pub ended_us: u64,
    /// Which way.
    pub direction: Direction,
    /// The client's scheme.
    pub scheme: Scheme,
    /// Host as the client named it, without port.
    pub host: &'a [u8],
    /// The listener's port.
    pub port: u16,
    /// The client's raw request target.
    pub target: &'a [u8],
    /// The method.
    pub method: &'a str,
    /// The connection's peer, or what trusted forwarding said it is.
    pub client_ip: IpAddr,
    /// Whether client address headers of this peer may be believed: true while `trusted_ips` is
    /// empty (as Moesif's plugin does) or when it contains the peer.
    pub client_ip_headers_trusted: bool,
    /// Whether the reporting plugin's access phase ran (`api_version` is only reported then).
    pub access_ran: bool,
    /// Request headers: the client's, as plugins changed them, without the gateway's own.
    pub request_fields: Lines<'a>,
    /// The request's body.
    pub request_body: Body<'a>,
    /// The response's status.
    pub status: u16,
    /// Response headers as sent to the client.
    pub response_fields: Lines<'a>,
    /// More response header lines, for what is written outside of the fields.
    pub response_fields_more: Lines<'a>,
    /// The response's body.
    pub response_body: Body<'a>,
    /// The authenticated consumer.
    pub consumer: Consumer<'a>,
    /// The authenticated credential.
    pub credential: Credential<'a>,
    /// Name of the matched service.
    pub service_name: Option<&'a str>,
    /// Hosts of the matched route; `None` when the route has none.
    pub route_hosts: Option<&'a [&'a str]>,
    /// The governance rule that blocked the exchange.
    pub blocked_by: Option<&'a str>,
    /// How many exchanges this one stands for, where others were sampled out.
    pub weight: u32,
}

impl Report<'_> {
    /// Writes the report into the ring; false if there was no room, which the ring has counted.
    ///
    /// Must be called before the last bytes of the answer are handed to the kernel: what a client
    /// has completely received is then always in a ring. No allocation, no system call (but the
    /// bell's, at most once per round of the exporter).
    pub fn commit(&self, ring: &mut Producer) -> bool {
        let rows = self.rows.len().min(ROWS_MAX) as u32;
        let bodies = self.request_body.captured().iter().chain(self.response_body.captured());
        record::commit(ring, rows, bodies.copied(), |to| self.write(to))
    }

    /// The one place that knows the order of a record's bytes, up to the bodies, which come last;
    /// `Record::read` is its mirror.
    fn write(&self, to: &mut Writer) {
        let rows = self.rows.get(..ROWS_MAX).unwrap_or(self.rows);
        to.u8(RECORD_VERSION as u8);
        to.u8(rows.len() as u8);
        to.u8(self.direction as u8);
        to.u8(self.scheme as u8);
        to.u8(self.request_body.state as u8);
        to.u8(self.response_body.state as u8);
        to.u8(u8::from(self.client_ip_headers_trusted) | u8::from(self.access_ran) << 1);
        to.u16(self.status);
        to.u16(self.port);
        to.u32(self.weight);
        to.u64(self.started_us);
        to.u64(self.ended_us);
        to.put(&self.transaction_id);
        for row in rows {
            to.put(row.id.as_bytes());
            to.u64(row.version);
            to.u64(row.fingerprint);
        }
        match self.client_ip {
            IpAddr::V4(ip) => to.bytes(&ip.octets()),
            IpAddr::V6(ip) => to.bytes(&ip.octets()),
        }
        to.bytes(self.host);
        to.bytes(self.target);
        to.bytes(self.method.as_bytes());
        for text in self.texts() {
            to.text(text);
        }
        self.write_route_hosts(to);
        to.lines(&[self.request_fields]);
        to.lines(&[self.response_fields, self.response_fields_more]);
        to.u32(self.request_body.len() as u32);
        to.u32(self.response_body.len() as u32);
    }

    const fn texts(&self) -> [Option<&str>; record::TEXTS] {
        [
            self.consumer.id,
            self.consumer.username,
            self.consumer.custom_id,
            self.credential.id,
            self.credential.key,
            self.service_name,
            self.blocked_by,
        ]
    }

    fn write_route_hosts(&self, to: &mut Writer) {
        let Some(hosts) = self.route_hosts else { return to.u16(u16::MAX) };
        let hosts = hosts.get(..ROUTE_HOSTS_MAX).unwrap_or(hosts);
        to.u16(hosts.len() as u16);
        hosts.iter().for_each(|host| to.bytes(host.as_bytes()));
    }
}
