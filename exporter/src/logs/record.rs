//! A log report as it lies in the ring.

use super::report::{KIND, NONE_U32, NONE_U64, ROWS_MAX, RowKey, TRIES_MAX, Try};
use crate::event::Scheme;
use crate::event::record::{Cursor, LineBytes, RecordFault, ip};
use std::net::{IpAddr, SocketAddr};
use uuid::Uuid;

/// A log record: a view of its bytes, but for its two short lists.
#[derive(Debug, Clone)]
pub(crate) struct LogRecord<'a> {
    /// The plugin rows that want it.
    pub(crate) rows: Vec<RowKey>,
    /// The request's id, 32 digits.
    pub(crate) request_id: [u8; 32],
    /// Start, microseconds since 1970.
    pub(crate) started_us: u64,
    /// See `report::Latencies`.
    pub(crate) latencies: super::Latencies,
    /// Bytes of the request on the wire.
    pub(crate) request_bytes: u64,
    /// Bytes of the response on the wire.
    pub(crate) response_bytes: u64,
    /// The length that the client was told.
    pub(crate) content_length: Option<u64>,
    /// Whether the body was sent in chunks.
    pub(crate) chunked: bool,
    /// Whether the connection stays open.
    pub(crate) keep_alive: bool,
    /// Whether the upstream made the answer.
    pub(crate) from_upstream: bool,
    /// The client's scheme.
    pub(crate) scheme: Scheme,
    /// TLS version and cipher.
    pub(crate) tls: Option<(&'a [u8], &'a [u8])>,
    /// The port on which it arrived.
    pub(crate) port: u16,
    /// The client's address.
    pub(crate) client_ip: IpAddr,
    /// The host without its port.
    pub(crate) host: &'a [u8],
    /// The method.
    pub(crate) method: &'a [u8],
    /// The client's raw request target.
    pub(crate) target: &'a [u8],
    /// The path that went upstream.
    pub(crate) upstream_path: &'a [u8],
    /// The query that went upstream.
    pub(crate) upstream_query: Option<&'a [u8]>,
    /// The status.
    pub(crate) status: u16,
    /// Request header lines.
    pub(crate) request_lines: LineBytes<'a>,
    /// Response header lines.
    pub(crate) response_lines: LineBytes<'a>,
    /// The matched route.
    pub(crate) route: Option<RowKey>,
    /// The matched service.
    pub(crate) service: Option<RowKey>,
    /// The consumer.
    pub(crate) consumer: Option<RowKey>,
    /// The credential's id.
    pub(crate) credential: Option<&'a [u8]>,
    /// What was tried.
    pub(crate) tries: Vec<Try>,
    /// What plugins add.
    pub(crate) values: LineBytes<'a>,
}

impl<'a> LogRecord<'a> {
    /// Whether these are the bytes of a log record.
    pub(crate) fn begins(bytes: &[u8]) -> bool {
        bytes.first() == Some(&KIND)
    }

    /// Reads a record; all lengths are checked.
    ///
    /// # Errors
    /// [`RecordFault`]; never panics, whatever the bytes.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, RecordFault> {
        let mut from = Cursor::new(bytes);
        if from.u8()? != KIND {
            return Err(RecordFault::UnknownVersion);
        }
        let rows_len = usize::from(from.u8()?);
        let flags = from.u8()?;
        let (status, port) = (from.u16()?, from.u16()?);
        let started_us = from.u64()?;
        let latencies = super::Latencies {
            kong_ms: from.u32()?,
            proxy_ms: Some(from.u32()?).filter(|ms| *ms != NONE_U32),
            receive_ms: from.u32()?,
            request_ms: from.u32()?,
        };
        let (request_bytes, response_bytes) = (from.u64()?, from.u64()?);
        let content_length = Some(from.u64()?).filter(|bytes| *bytes != NONE_U64);
        let request_id = from.array::<32>()?;
        if rows_len > ROWS_MAX {
            return Err(RecordFault::Malformed);
        }
        let rows = (0..rows_len).map(|_| key(&mut from)).collect::<Result<_, _>>()?;
        let (route, service) = (maybe_key(&mut from)?, maybe_key(&mut from)?);
        let consumer = maybe_key(&mut from)?;
        let client_ip = ip(from.bytes()?)?;
        let (host, method, target) = (from.bytes()?, from.bytes()?, from.bytes()?);
        let upstream_path = from.bytes()?;
        let has_query = from.u8()? != 0;
        let upstream_query = Some(from.bytes()?).filter(|_| has_query);
        let credential = from.text()?;
        let tls = from.text()?.zip(from.text()?);
        let tries = tries(&mut from)?;
        let (request_lines, response_lines) = (from.lines()?, from.lines()?);
        let values = from.lines()?;
        Ok(Self {
            rows,
            request_id,
            started_us,
            latencies,
            request_bytes,
            response_bytes,
            content_length,
            chunked: flags & 2 != 0,
            keep_alive: flags & 4 != 0,
            from_upstream: flags & 8 != 0,
            scheme: if flags & 1 != 0 { Scheme::Https } else { Scheme::Http },
            tls,
            port,
            client_ip,
            host,
            method,
            target,
            upstream_path,
            upstream_query,
            status,
            request_lines,
            response_lines,
            route,
            service,
            consumer,
            credential,
            tries,
            values,
        })
    }
}

fn key(from: &mut Cursor<'_>) -> Result<RowKey, RecordFault> {
    Ok(RowKey { id: Uuid::from_bytes(from.array::<16>()?), version: from.u64()? })
}

fn maybe_key(from: &mut Cursor<'_>) -> Result<Option<RowKey>, RecordFault> {
    match from.u8()? {
        0 => Ok(None),
        _ => key(from).map(Some),
    }
}

fn tries(from: &mut Cursor<'_>) -> Result<Vec<Try>, RecordFault> {
    let len = usize::from(from.u8()?);
    if len > TRIES_MAX {
        return Err(RecordFault::Malformed);
    }
    let one = |_| {
        let (started_us, chosen_us) = (from.u64()?, from.u32()?);
        let address = SocketAddr::new(ip(from.bytes()?)?, from.u16()?);
        let (status, failed) = (from.u16()?, from.u8()? != 0);
        Ok(Try { started_us, chosen_us, address, status, failed })
    };
    (0..len).map(one).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::report::{LogReport, TlsNames};
    use super::*;
    use crate::event::Lines;
    use runtime::ring::{self, Next};

    const fn key_of(id: u128, version: u64) -> RowKey {
        RowKey { id: Uuid::from_u128(id), version }
    }

    const ROWS: [RowKey; 2] = [key_of(1, 10), key_of(2, 20)];
    const TRIES: [Try; 1] = [Try {
        started_us: 1_795_300_901_852_500,
        chosen_us: 16,
        address: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9999),
        status: 200,
        failed: false,
    }];

    /// A report of an exchange that went well.
    pub(crate) fn report<'a>() -> LogReport<'a> {
        LogReport {
            rows: &ROWS,
            request_id: b"0123456789abcdef0123456789abcdef",
            started_us: 1_795_300_901_852_123,
            latencies: super::super::Latencies {
                kong_ms: 1,
                proxy_ms: Some(2),
                receive_ms: 3,
                request_ms: 6,
            },
            request_bytes: 131,
            response_bytes: 248,
            content_length: Some(11),
            chunked: false,
            keep_alive: false,
            from_upstream: true,
            scheme: Scheme::Http,
            tls: None,
            port: 8000,
            client_ip: "127.0.0.1".parse().unwrap(),
            host: b"127.0.0.1",
            method: "GET",
            target: b"/r?a=1&b=2&a=3",
            upstream_path: b"/",
            upstream_query: Some(b"a=1&b=2&a=3"),
            status: 200,
            request_fields: Lines::Pairs(&[
                (b"Host", b"127.0.0.1:8000"),
                (b"Authorization", b"Bearer secret"),
            ]),
            response_fields: Lines::Pairs(&[(b"Content-Type", b"application/json")]),
            route: Some(key_of(3, 30)),
            service: Some(key_of(4, 40)),
            consumer: None,
            credential: None,
            tries: &TRIES,
            values: Lines::Pairs(&[(b"correlation_id", b"c-1")]),
        }
    }

    /// One report through a ring, as bytes.
    pub(crate) fn bytes_of(report: &LogReport<'_>) -> Vec<u8> {
        let (mut producer, mut consumer) = ring::anonymous(0, 1).unwrap();
        assert!(report.commit(&mut producer));
        match consumer.take() {
            Next::Record { bytes, .. } => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_report_comes_back_as_it_was() {
        let tls = Some(TlsNames { version: "TLSv1.3", cipher: "c" });
        let sent = LogReport {
            consumer: Some(key_of(5, 50)),
            credential: Some("cred"),
            scheme: Scheme::Https,
            tls,
            ..report()
        };
        let bytes = bytes_of(&sent);
        assert!(LogRecord::begins(&bytes));
        let record = LogRecord::read(&bytes).unwrap();
        assert_eq!(record.rows, sent.rows);
        assert_eq!(record.request_id, *sent.request_id);
        assert_eq!(record.latencies, sent.latencies);
        assert_eq!(record.content_length, Some(11));
        assert_eq!((record.route, record.service), (sent.route, sent.service));
        assert_eq!((record.consumer, record.credential), (sent.consumer, Some(&b"cred"[..])));
        assert_eq!(record.tls, Some((&b"TLSv1.3"[..], &b"c"[..])));
        assert_eq!(record.tries, sent.tries);
        assert_eq!(record.upstream_query, sent.upstream_query);
        assert!(record.from_upstream && !record.chunked && !record.keep_alive);
        assert_eq!(record.scheme, Scheme::Https);
        assert_eq!(record.request_lines.len(), 2);
    }

    #[test]
    fn damaged_bytes_are_a_fault_and_no_more() {
        let bytes = bytes_of(&report());
        for len in 0..bytes.len() {
            assert!(LogRecord::read(&bytes[..len]).is_err(), "cut at {len}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                // Either a fault or another record, but never a panic.
                let _other = LogRecord::read(&damaged);
            }
        }
    }
}
