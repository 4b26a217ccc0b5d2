//! What a core reports of one finished exchange to the log plugins.
//!
//! A [`LogReport`] borrows everything. [`LogReport::commit`] writes lengths and bytes into the
//! ring: no allocation, no JSON. One record serves every log plugin of the exchange. Routes,
//! services and consumers stand in it by id and version; the exporter asks for their rows later, as
//! they were then.

use crate::event::record::{self, Writer};
use crate::event::{Lines, Scheme};
use runtime::ring::Producer;
use std::net::{IpAddr, SocketAddr};
use uuid::Uuid;

/// The first byte of the record; reports of events begin with their version instead.
pub(super) const KIND: u8 = 0x81;
/// Most plugin rows that one exchange is reported to; further ones are not taken.
pub const ROWS_MAX: usize = 16;
/// Most tries of one exchange that are kept.
pub const TRIES_MAX: usize = 64;
/// The number that stands for "none".
pub(super) const NONE_U64: u64 = u64::MAX;
pub(super) const NONE_U32: u32 = u32::MAX;

/// A row of the configuration at one version: always the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowKey {
    /// The row's id.
    pub id: Uuid,
    /// The change that wrote it (`Row::version`).
    pub version: u64,
}

/// One try with one address of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// When it began, microseconds since 1970.
    pub started_us: u64,
    /// How long choosing the address took, in microseconds.
    pub chosen_us: u32,
    /// The address.
    pub address: SocketAddr,
    /// The status that came, or the one that the failure stands for (502, 504).
    pub status: u16,
    /// Whether it failed.
    pub failed: bool,
}

/// How long things took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Until the upstream was asked, or until the gateway's own answer.
    pub kong_ms: u32,
    /// Until the head of the upstream's answer; none if no upstream was asked.
    pub proxy_ms: Option<u32>,
    /// From that head to the end of its body.
    pub receive_ms: u32,
    /// All of it.
    pub request_ms: u32,
}

/// What a client's TLS handshake agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsNames<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'a str,
    /// The cipher, by OpenSSL's name.
    pub cipher: &'a str,
}

/// Everything that log plugins may want to know of one finished exchange.
#[derive(Debug, Clone, Copy)]
pub struct LogReport<'a> {
    /// The plugin rows that want it; at most [`ROWS_MAX`].
    pub rows: &'a [RowKey],
    /// The request's id.
    pub request_id: &'a [u8; 32],
    /// When the first byte of the request was there, microseconds since 1970.
    pub started_us: u64,
    /// How long things took.
    pub latencies: Latencies,
    /// Bytes of the request on the wire.
    pub request_bytes: u64,
    /// Bytes of the response on the wire.
    pub response_bytes: u64,
    /// The length that the client was told, if it was.
    pub content_length: Option<u64>,
    /// Whether the body was sent in chunks.
    pub chunked: bool,
    /// Whether the connection stays open.
    pub keep_alive: bool,
    /// Whether the upstream made the answer.
    pub from_upstream: bool,
    /// The client's scheme.
    pub scheme: Scheme,
    /// What its handshake agreed on.
    pub tls: Option<TlsNames<'a>>,
    /// The port on which it arrived, as the outside knows it.
    pub port: u16,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The host without its port.
    pub host: &'a [u8],
    /// The method.
    pub method: &'a str,
    /// The client's raw request target.
    pub target: &'a [u8],
    /// The path that went upstream.
    pub upstream_path: &'a [u8],
    /// The query that went upstream.
    pub upstream_query: Option<&'a [u8]>,
    /// The status of the answer.
    pub status: u16,
    /// The request's lines as they are in the log phase.
    pub request_fields: Lines<'a>,
    /// The response's lines as sent, without what frames its body.
    pub response_fields: Lines<'a>,
    /// The matched route.
    pub route: Option<RowKey>,
    /// The matched service.
    pub service: Option<RowKey>,
    /// The authenticated consumer.
    pub consumer: Option<RowKey>,
    /// The id of the credential.
    pub credential: Option<&'a str>,
    /// What was tried.
    pub tries: &'a [Try],
    /// What plugins add to the document, by its name there.
    pub values: Lines<'a>,
}

impl LogReport<'_> {
    /// Writes the report into the ring; false if there was no room, which the ring has counted.
    ///
    /// No allocation, no system call (but the bell's, at most once per round of the exporter).
    pub fn commit(&self, ring: &mut Producer) -> bool {
        let rows = self.rows.len().min(ROWS_MAX) as u32;
        record::commit(ring, rows, std::iter::empty(), |to| self.write(to))
    }

    /// The one place that knows the order of the bytes; `LogRecord::read` is its mirror. As in
    /// every record the second byte is the number of rows.
    fn write(&self, to: &mut Writer) {
        let rows = self.rows.get(..ROWS_MAX).unwrap_or(self.rows);
        to.u8(KIND);
        to.u8(rows.len() as u8);
        to.u8(self.flags());
        to.u16(self.status);
        to.u16(self.port);
        to.u64(self.started_us);
        to.u32(self.latencies.kong_ms);
        to.u32(self.latencies.proxy_ms.unwrap_or(NONE_U32));
        to.u32(self.latencies.receive_ms);
        to.u32(self.latencies.request_ms);
        to.u64(self.request_bytes);
        to.u64(self.response_bytes);
        to.u64(self.content_length.unwrap_or(NONE_U64));
        to.put(self.request_id);
        rows.iter().for_each(|row| key(to, *row));
        for row in [self.route, self.service, self.consumer] {
            to.u8(u8::from(row.is_some()));
            if let Some(row) = row {
                key(to, row);
            }
        }
        address(to, self.client_ip);
        to.bytes(self.host);
        to.bytes(self.method.as_bytes());
        to.bytes(self.target);
        to.bytes(self.upstream_path);
        to.u8(u8::from(self.upstream_query.is_some()));
        to.bytes(self.upstream_query.unwrap_or_default());
        to.text(self.credential);
        to.text(self.tls.map(|tls| tls.version));
        to.text(self.tls.map(|tls| tls.cipher));
        self.write_tries(to);
        to.lines(&[self.request_fields]);
        to.lines(&[self.response_fields]);
        to.lines(&[self.values]);
    }

    fn flags(&self) -> u8 {
        u8::from(self.scheme == Scheme::Https)
            | u8::from(self.chunked) << 1
            | u8::from(self.keep_alive) << 2
            | u8::from(self.from_upstream) << 3
    }

    fn write_tries(&self, to: &mut Writer) {
        let tries = self.tries.get(..TRIES_MAX).unwrap_or(self.tries);
        to.u8(tries.len() as u8);
        for one in tries {
            to.u64(one.started_us);
            to.u32(one.chosen_us);
            address(to, one.address.ip());
            to.u16(one.address.port());
            to.u16(one.status);
            to.u8(u8::from(one.failed));
        }
    }
}

fn key(to: &mut Writer, row: RowKey) {
    to.put(row.id.as_bytes());
    to.u64(row.version);
}

fn address(to: &mut Writer, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => to.bytes(&ip.octets()),
        IpAddr::V6(ip) => to.bytes(&ip.octets()),
    }
}
