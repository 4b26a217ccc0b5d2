//! The bytes of one report in the ring: lengths and bytes, little-endian.

use super::{BodyState, Direction, HEADERS_MAX, Lines, RECORD_VERSION, ROWS_MAX, RowRef, Scheme};
use runtime::ring::Producer;
use std::cell::Cell;
use std::net::IpAddr;
use uuid::Uuid;

/// Optional texts of a record, in the order of `Report::texts`.
pub(super) const TEXTS: usize = 7;
/// The length that stands for "absent".
const ABSENT: u32 = u32::MAX;

/// What separates a name from its value, and what ends a line: as on the wire.
const COLON: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";
/// Bytes of a line beside its name and its value.
const LINE_MORE_BYTES: usize = COLON.len() + LINE_END.len();
/// A buffer that a record of unusual heads has made larger than this is not kept.
const KEPT_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// Where records are put together, bodies apart: one buffer for each core.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Commits what `write` writes, and these bytes behind it, as one record that stands for so many
/// events; false if there was no room, which the ring has counted.
pub(crate) fn commit<'b>(
    ring: &mut Producer,
    events: u32,
    bodies: impl Iterator<Item = &'b [u8]> + Clone,
    write: impl FnOnce(&mut Writer),
) -> bool {
    let mut writer = Writer { bytes: BUFFER.take() };
    writer.bytes.clear();
    write(&mut writer);
    let mut bytes = writer.bytes;
    let len = bytes.len() + bodies.clone().map(<[u8]>::len).sum::<usize>();
    let committed = ring.reserve(len, events).is_ok_and(|mut slot| {
        slot.write(&bytes);
        bodies.for_each(|body| slot.write(body));
        slot.commit()
    });
    if bytes.capacity() > KEPT_BYTES_MAX {
        bytes = Vec::new();
    }
    BUFFER.set(bytes);
    committed
}

/// Puts a record's bytes together.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.put(bytes);
    }

    pub(crate) fn text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.bytes(text.as_bytes()),
            None => self.u32(ABSENT),
        }
    }

    /// Header lines: how many and how long, the lengths of each, then all as on the wire, so that
    /// lines which nobody changed are one copy.
    pub(crate) fn lines(&mut self, sources: &[Lines<'_>]) {
        let begin = self.bytes.len();
        let lines: usize = sources.iter().map(Lines::len).sum();
        let table_end = begin + (1 + lines) * LENGTHS_BYTES;
        self.bytes.resize(table_end, 0);
        let (table, _) = self.bytes.get_mut(begin..).unwrap_or_default().as_chunks_mut();
        let mut table = table.iter_mut().skip(1);
        for source in sources {
            match source {
                Lines::Fields(fields) => fill(&mut table, fields.lengths()),
                Lines::Pairs(pairs) => {
                    fill(&mut table, pairs.iter().map(|(name, value)| (name.len(), value.len())));
                }
            }
        }
        for source in sources {
            match source {
                Lines::Fields(fields) => fields.runs(HEADERS_MAX).for_each(|run| self.put(run)),
                Lines::Pairs(pairs) => {
                    for (name, value) in pairs.iter().take(HEADERS_MAX) {
                        [name, COLON, value, LINE_END].iter().for_each(|part| self.put(part));
                    }
                }
            }
        }
        let len = self.bytes.len() - table_end;
        if let Some(front) = self.bytes.get_mut(begin..begin + LENGTHS_BYTES) {
            front.copy_from_slice(&lengths(lines, len));
        }
    }
}

/// Notes the lengths of the first lines of a source.
fn fill<'t>(
    table: &mut impl Iterator<Item = &'t mut [u8; LENGTHS_BYTES]>,
    lines: impl Iterator<Item = (usize, usize)>,
) {
    // The lines first: a place that is taken is used.
    for ((name, value), to) in lines.take(HEADERS_MAX).zip(table) {
        *to = lengths(name, value);
    }
}

/// Bytes of a pair of lengths.
const LENGTHS_BYTES: usize = 8;

fn lengths(first: usize, second: usize) -> [u8; LENGTHS_BYTES] {
    (first as u64 | (second as u64) << 32).to_le_bytes()
}

fn of_lengths(bytes: [u8; LENGTHS_BYTES]) -> (usize, usize) {
    let both = u64::from_le_bytes(bytes);
    (both as u32 as usize, (both >> 32) as usize)
}

/// Why a record cannot be read. Only a record that another program wrote can be the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// Written by a version that this one does not know.
    UnknownVersion,
    /// Shorter than its own lengths say, or a value outside of its set.
    Malformed,
}

/// A record as it lies in the ring: a view, nothing is copied.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Who wants it.
    pub rows: Rows,
    /// The exchange's id.
    pub transaction_id: [u8; 16],
    /// Start, microseconds since 1970.
    pub started_us: u64,
    /// End, microseconds since 1970.
    pub ended_us: u64,
    /// Which way.
    pub direction: Direction,
    /// The client's scheme.
    pub scheme: Scheme,
    /// Host without port.
    pub host: &'a [u8],
    /// The listener's port.
    pub port: u16,
    /// Raw request target.
    pub target: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// The peer.
    pub client_ip: IpAddr,
    /// Whether client address headers may be believed.
    pub client_ip_headers_trusted: bool,
    /// Whether the access phase ran.
    pub access_ran: bool,
    /// The status.
    pub status: u16,
    /// Request header lines.
    pub request_lines: LineBytes<'a>,
    /// Response header lines.
    pub response_lines: LineBytes<'a>,
    /// State and bytes of the request's body.
    pub request_body: (BodyState, &'a [u8]),
    /// State and bytes of the response's body.
    pub response_body: (BodyState, &'a [u8]),
    /// The consumer's id.
    pub consumer_id: Option<&'a [u8]>,
    /// The consumer's username.
    pub consumer_username: Option<&'a [u8]>,
    /// The consumer's custom id.
    pub consumer_custom_id: Option<&'a [u8]>,
    /// The credential's id.
    pub credential_id: Option<&'a [u8]>,
    /// The credential's key.
    pub credential_key: Option<&'a [u8]>,
    /// The service's name.
    pub service_name: Option<&'a [u8]>,
    /// The blocking rule.
    pub blocked_by: Option<&'a [u8]>,
    /// How many exchanges it stands for.
    pub weight: u32,
    /// The route's hosts.
    pub route_hosts: Option<Vec<&'a [u8]>>,
}

/// The rows of one record, without an allocation.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    rows: [RowRef; ROWS_MAX],
    len: usize,
}

impl Rows {
    /// The rows.
    pub fn as_slice(&self) -> &[RowRef] {
        self.rows.get(..self.len).unwrap_or(&self.rows)
    }
}

/// Header lines inside a record, checked when the record was read.
#[derive(Debug, Clone, Copy)]
pub struct LineBytes<'a> {
    lengths: &'a [[u8; LENGTHS_BYTES]],
    bytes: &'a [u8],
}

impl<'a> LineBytes<'a> {
    /// Number of lines.
    pub const fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let (mut lengths, mut from) = (self.lengths.iter(), Cursor { rest: self.bytes });
        std::iter::from_fn(move || {
            let (name, value) = of_lengths(*lengths.next()?);
            let name = from.take(name).ok()?;
            from.take(COLON.len()).ok()?;
            let value = from.take(value).ok()?;
            from.take(LINE_END.len()).ok()?;
            Some((name, value))
        })
    }

    /// The first line of this name, any case.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl<'a> Record<'a> {
    /// Reads a record. Checks all lengths; copies nothing but the list of route hosts.
    ///
    /// # Errors
    /// [`RecordFault`]; never panics, whatever the bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self, RecordFault> {
        let mut from = Cursor { rest: bytes };
        if u32::from(from.u8()?) != RECORD_VERSION {
            return Err(RecordFault::UnknownVersion);
        }
        let rows_len = usize::from(from.u8()?);
        let direction = direction(from.u8()?)?;
        let scheme = scheme(from.u8()?)?;
        let (request_state, response_state) = (state(from.u8()?)?, state(from.u8()?)?);
        let flags = from.u8()?;
        let (status, port, weight) = (from.u16()?, from.u16()?, from.u32()?);
        let (started_us, ended_us) = (from.u64()?, from.u64()?);
        let transaction_id = from.array::<16>()?;
        let rows = rows(&mut from, rows_len)?;
        let client_ip = ip(from.bytes()?)?;
        let (host, target, method) = (from.bytes()?, from.bytes()?, from.bytes()?);
        let mut texts = [None; TEXTS];
        for text in &mut texts {
            *text = from.text()?;
        }
        let route_hosts = route_hosts(&mut from)?;
        let (request_lines, response_lines) = (from.lines()?, from.lines()?);
        let (request_len, response_len) = (from.u32()? as usize, from.u32()? as usize);
        let (request_body, response_body) = (from.take(request_len)?, from.take(response_len)?);
        let [id, username, custom_id, credential_id, credential_key, service, blocked] = texts;
        Ok(Self {
            rows,
            transaction_id,
            started_us,
            ended_us,
            direction,
            scheme,
            host,
            port,
            target,
            method,
            client_ip,
            client_ip_headers_trusted: flags & 1 != 0,
            access_ran: flags & 2 != 0,
            status,
            request_lines,
            response_lines,
            request_body: (request_state, request_body),
            response_body: (response_state, response_body),
            consumer_id: id,
            consumer_username: username,
            consumer_custom_id: custom_id,
            credential_id,
            credential_key,
            service_name: service,
            blocked_by: blocked,
            weight,
            route_hosts,
        })
    }
}

fn direction(value: u8) -> Result<Direction, RecordFault> {
    match value {
        0 => Ok(Direction::Incoming),
        1 => Ok(Direction::Outgoing),
        2 => Ok(Direction::Internal),
        _ => Err(RecordFault::Malformed),
    }
}

fn scheme(value: u8) -> Result<Scheme, RecordFault> {
    match value {
        0 => Ok(Scheme::Http),
        1 => Ok(Scheme::Https),
        _ => Err(RecordFault::Malformed),
    }
}

fn state(value: u8) -> Result<BodyState, RecordFault> {
    match value {
        0 => Ok(BodyState::None),
        1 => Ok(BodyState::Captured),
        2 => Ok(BodyState::TooLarge),
        3 => Ok(BodyState::Disabled),
        4 => Ok(BodyState::NotRead),
        5 => Ok(BodyState::LeftOut),
        _ => Err(RecordFault::Malformed),
    }
}

fn rows(from: &mut Cursor<'_>, len: usize) -> Result<Rows, RecordFault> {
    let none = RowRef { id: Uuid::nil(), version: 0, fingerprint: 0 };
    let mut rows = Rows { rows: [none; ROWS_MAX], len };
    if len > ROWS_MAX {
        return Err(RecordFault::Malformed);
    }
    for row in rows.rows.iter_mut().take(len) {
        let id = Uuid::from_bytes(from.array::<16>()?);
        *row = RowRef { id, version: from.u64()?, fingerprint: from.u64()? };
    }
    Ok(rows)
}

pub(crate) fn ip(bytes: &[u8]) -> Result<IpAddr, RecordFault> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .map_err(|_| RecordFault::Malformed)
}

fn route_hosts<'a>(from: &mut Cursor<'a>) -> Result<Option<Vec<&'a [u8]>>, RecordFault> {
    let count = from.u16()?;
    if count == u16::MAX {
        return Ok(None);
    }
    (0..count).map(|_| from.bytes()).collect::<Result<_, _>>().map(Some)
}

/// The unread rest of a record.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordFault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(RecordFault::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordFault> {
        self.take(N)?.try_into().map_err(|_| RecordFault::Malformed)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordFault> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, RecordFault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RecordFault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RecordFault> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], RecordFault> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    pub(crate) fn text(&mut self) -> Result<Option<&'a [u8]>, RecordFault> {
        match self.u32()? {
            ABSENT => Ok(None),
            len => self.take(len as usize).map(Some),
        }
    }

    pub(crate) fn lines(&mut self) -> Result<LineBytes<'a>, RecordFault> {
        let (count, len) = of_lengths(self.array()?);
        let table = self.take(count.saturating_mul(LENGTHS_BYTES))?;
        let (lengths, _) = table.as_chunks::<LENGTHS_BYTES>();
        let lines = LineBytes { lengths, bytes: self.take(len)? };
        let all = lengths.iter().map(|each| of_lengths(*each));
        let whole: usize = all.map(|(name, value)| name + value + LINE_MORE_BYTES).sum();
        if whole == len { Ok(lines) } else { Err(RecordFault::Malformed) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{Body, Consumer, Credential, Report};
    use super::*;
    use runtime::ring::{self, Next};

    /// Header lines as they lie in a record.
    pub(crate) struct OwnedLines(Vec<u8>);

    impl OwnedLines {
        pub(crate) fn view(&self) -> LineBytes<'_> {
            Cursor::new(&self.0).lines().unwrap()
        }
    }

    pub(crate) fn lines_of(headers: &[(&str, &str)]) -> OwnedLines {
        let pairs: Vec<_> = headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        let mut writer = Writer { bytes: Vec::new() };
        writer.lines(&[Lines::Pairs(&pairs)]);
        OwnedLines(writer.bytes)
    }

    /// One report through a ring, as bytes.
    pub(crate) fn record_of(report: &Report<'_>) -> Vec<u8> {
        let (mut producer, mut consumer) = ring::anonymous(0, RECORD_VERSION).unwrap();
        assert!(report.commit(&mut producer));
        match consumer.take() {
            Next::Record { bytes, .. } => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    const ROW: RowRef = RowRef { id: Uuid::from_u128(7), version: 8, fingerprint: 9 };

    pub(crate) fn report<'a>() -> Report<'a> {
        Report {
            rows: &[ROW, ROW],
            transaction_id: [3; 16],
            started_us: 1,
            ended_us: 2,
            direction: Direction::Outgoing,
            scheme: Scheme::Https,
            host: b"h",
            port: 8443,
            target: b"/t?x",
            method: "GET",
            client_ip: "::1".parse().unwrap(),
            client_ip_headers_trusted: true,
            access_ran: false,
            request_fields: Lines::Pairs(&[(b"A", b"1"), (b"a", b"")]),
            request_body: Body { state: BodyState::Captured, pieces: &[b"ab", b"", b"c"] },
            status: 299,
            response_fields: Lines::Pairs(&[(b"B", b"2")]),
            response_fields_more: Lines::Pairs(&[(b"C", b"3")]),
            response_body: Body { state: BodyState::TooLarge, pieces: &[b"not this"] },
            consumer: Consumer { id: Some("ci"), username: None, custom_id: Some("") },
            credential: Credential { id: None, key: Some("k") },
            service_name: Some("s"),
            route_hosts: Some(&["h1", "h2"]),
            blocked_by: None,
            weight: 4,
        }
    }

    #[test]
    fn a_report_comes_back_as_it_was() {
        let bytes = record_of(&report());
        let record = Record::read(&bytes).unwrap();
        assert_eq!(record.rows.as_slice(), [ROW, ROW]);
        assert_eq!((record.started_us, record.ended_us, record.status), (1, 2, 299));
        assert_eq!((record.direction, record.scheme), (Direction::Outgoing, Scheme::Https));
        assert_eq!((record.host, record.port, record.target), (&b"h"[..], 8443, &b"/t?x"[..]));
        assert_eq!(record.client_ip, "::1".parse::<IpAddr>().unwrap());
        assert!(record.client_ip_headers_trusted && !record.access_ran);
        let lines: Vec<_> = record.request_lines.iter().collect();
        assert_eq!(lines, [(&b"A"[..], &b"1"[..]), (&b"a"[..], &b""[..])]);
        assert_eq!(record.response_lines.get(b"c"), Some(&b"3"[..]));
        assert_eq!(record.request_body, (BodyState::Captured, &b"abc"[..]));
        assert_eq!(record.response_body, (BodyState::TooLarge, &b""[..]));
        assert_eq!(
            (record.consumer_id, record.consumer_custom_id),
            (Some(&b"ci"[..]), Some(&b""[..]))
        );
        assert_eq!((record.consumer_username, record.credential_key), (None, Some(&b"k"[..])));
        assert_eq!(record.route_hosts, Some(vec![&b"h1"[..], &b"h2"[..]]));
        assert_eq!((record.service_name, record.blocked_by), (Some(&b"s"[..]), None));
        assert_eq!(record.weight, 4);
    }

    #[test]
    fn damaged_bytes_are_a_fault_and_no_more() {
        let bytes = record_of(&report());
        for len in 0..bytes.len() {
            assert!(Record::read(&bytes[..len]).is_err(), "cut at {len}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                // Either a fault or another record, but never a panic.
                let _other = Record::read(&damaged);
            }
        }
    }

    #[test]
    fn another_version_is_told_apart() {
        let mut bytes = record_of(&report());
        bytes[0] = 0xee;
        assert_eq!(Record::read(&bytes).unwrap_err(), RecordFault::UnknownVersion);
    }
}
