//! Lines of an access log, in nginx's combined format with the request's id behind it, or as JSON.
//!
//! A core writes its lines into a buffer of its own; full or once a second the buffer is swapped
//! for an empty one and handed to the writer.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use runtime::http::head::{Request, Version};
use uuid::Uuid;

use super::writer::{Queue, Sink};

/// A buffer with so many bytes is handed over at once.
const BUFFER_BYTES_FULL: usize = 32 * 1024;

/// Longest Basic credentials that are looked into for a name, in bytes.
const CREDENTIALS_BYTES_MAX: usize = 1024;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    /// nginx's, with the request's id.
    #[default]
    Combined,
    /// One JSON object.
    Json,
}

impl Style {
    /// Reads the second word of a log setting, nginx's name of a format: `json` is ours, any other
    /// means the usual line.
    pub(super) fn of(setting: &str) -> Self {
        match setting.split_whitespace().nth(1) {
            Some("json") => Self::Json,
            _ => Self::Combined,
        }
    }
}

/// The access log of one core or thread. Dropping it hands over what it holds.
pub struct AccessLog {
    queue: Arc<Queue>,
    sink: Option<Sink>,
    style: Style,
    buffer: Vec<u8>,
    lines: u64,
    /// The second that `time` says.
    second: u64,
    time: String,
}

/// One finished request. Absent texts are empty and shown as `-`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line<'a> {
    /// When it ended, microseconds since the Unix epoch.
    pub ended_wall_us: u64,
    /// The name in a Basic `Authorization`.
    pub user: &'a [u8],
    /// The method.
    pub method: &'a str,
    /// The target as the client sent it.
    pub target: &'a [u8],
    /// The protocol: `HTTP/1.1`.
    pub protocol: &'a str,
    /// The status.
    pub status: u16,
    /// Bytes of the answer's body.
    pub sent_bytes: u64,
    /// `Referer`.
    pub referer: &'a [u8],
    /// `User-Agent`.
    pub agent: &'a [u8],
    /// The request's id; empty leaves the last part of the line out.
    pub id: &'a str,
    /// What only the JSON line tells.
    pub more: More<'a>,
}

/// What the road knows of a request and nginx's line has no place for.
#[derive(Clone, Copy, Debug, Default)]
pub struct More<'a> {
    /// The Host line.
    pub host: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a str,
    /// From the request's arrival to its end, microseconds.
    pub request_us: u64,
    /// From asking the upstream to its head; none where nobody was asked or answered.
    pub upstream_us: Option<u64>,
    /// Who was asked last, and how that ended, where anybody was asked.
    pub upstream: Option<(SocketAddr, u16)>,
    /// The route that fits.
    pub route: Option<Named<'a>>,
    /// Its service.
    pub service: Option<Named<'a>>,
    /// Who the client is.
    pub consumer: Option<Named<'a>>,
}

/// A row's id, and its name if it has one.
type Named<'a> = (Uuid, Option<&'a str>);

/// What a request's head does not tell about its end.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// When it ended, microseconds since the Unix epoch.
    pub ended_wall_us: u64,
    /// The status that the client got.
    pub status: u16,
    /// Bytes of the answer's body.
    pub sent_bytes: u64,
    /// The request's id.
    pub id: &'a str,
    /// What only the JSON line tells.
    pub more: More<'a>,
}

impl AccessLog {
    pub(super) fn new(queue: Arc<Queue>, sink: Option<Sink>, style: Style) -> Self {
        let (buffer, time) = (Vec::new(), String::new());
        Self { queue, sink, style, buffer, lines: 0, second: 0, time }
    }

    /// Another writer of the same log, with a buffer of its own.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self::new(Arc::clone(&self.queue), self.sink, self.style)
    }

    /// Whether the log is `off`, so that there is no need to make a line.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.sink.is_none()
    }

    /// Writes one line; `write` appends it without its end. Not called when the log is off.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.sink.is_none() {
            return;
        }
        write(&mut self.buffer);
        self.buffer.push(b'\n');
        self.lines += 1;
        if self.buffer.len() >= BUFFER_BYTES_FULL {
            self.flush();
        }
    }

    /// Writes the line of a finished request from this client.
    pub fn request(&mut self, client: std::net::IpAddr, line: &Line<'_>) {
        if self.sink.is_none() {
            return;
        }
        let second = line.ended_wall_us / 1_000_000;
        if second != self.second {
            self.second = second;
            self.time = match self.style {
                Style::Combined => utc(line.ended_wall_us, "%d/%b/%Y:%H:%M:%S +0000"),
                Style::Json => utc(line.ended_wall_us, "%Y-%m-%dT%H:%M:%S"),
            };
        }
        let time = std::mem::take(&mut self.time);
        match self.style {
            Style::Combined => self.line(|out| combined(out, client, &time, line)),
            Style::Json => self.line(|out| json(out, client, &time, line)),
        }
        self.time = time;
    }

    /// Writes the line of a finished request, out of its head.
    pub fn finished(&mut self, client: std::net::IpAddr, request: &Request, end: &End<'_>) {
        if self.sink.is_none() {
            return;
        }
        let field = |name| request.fields.get(name).unwrap_or_default();
        let user = basic_user(field("authorization"));
        let line = Line {
            ended_wall_us: end.ended_wall_us,
            user: &user,
            method: request.method(),
            target: request.target(),
            protocol: match request.version {
                Version::H10 => "HTTP/1.0",
                Version::H11 => "HTTP/1.1",
                Version::H2 => "HTTP/2.0",
            },
            status: end.status,
            sent_bytes: end.sent_bytes,
            referer: field("referer"),
            agent: field("user-agent"),
            id: end.id,
            more: end.more,
        };
        self.request(client, &line);
    }

    /// Hands over what is buffered. The road calls it once a second.
    pub fn flush(&mut self) {
        let Some(sink) = self.sink else { return };
        if !self.buffer.is_empty() {
            let full = std::mem::replace(&mut self.buffer, self.queue.buffer());
            self.queue.put(sink, full, std::mem::take(&mut self.lines));
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A moment as UTC text.
pub(super) fn utc(wall_us: u64, format: &str) -> String {
    let moment = i64::try_from(wall_us).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    moment.unwrap_or_default().strftime(format).to_string()
}

/// `ip - user [time] "request" status bytes "referer" "agent" kong_request_id: "id"`.
fn combined(out: &mut Vec<u8>, client: std::net::IpAddr, time: &str, line: &Line<'_>) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _written = write!(out, "{client} - ");
    escape(out, line.user);
    out.extend_from_slice(b" [");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"] \"");
    escape(out, line.method.as_bytes());
    out.push(b' ');
    escape(out, line.target);
    out.push(b' ');
    out.extend_from_slice(line.protocol.as_bytes());
    out.extend_from_slice(b"\" ");
    out.extend_from_slice(itoa::Buffer::new().format(line.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(line.sent_bytes).as_bytes());
    out.extend_from_slice(b" \"");
    escape(out, line.referer);
    out.extend_from_slice(b"\" \"");
    escape(out, line.agent);
    out.push(b'"');
    if !line.id.is_empty() {
        out.extend_from_slice(b" kong_request_id: \"");
        out.extend_from_slice(line.id.as_bytes());
        out.push(b'"');
    }
}

/// One JSON object: every key always there, `null` where there is nothing to say, times in
/// milliseconds with three decimals.
fn json(out: &mut Vec<u8>, client: std::net::IpAddr, time: &str, line: &Line<'_>) {
    use std::io::Write;
    let more = &line.more;
    // Writing to a Vec cannot fail.
    let _written = write!(
        out,
        r#"{{"time":"{time}.{:03}Z","remote_addr":"{client}","status":{},"bytes_sent":{}"#,
        line.ended_wall_us / 1_000 % 1_000,
        line.status,
        line.sent_bytes,
    );
    let ms = |us: u64| format!("{}.{:03}", us / 1_000, us % 1_000);
    let _written = match more.upstream_us {
        Some(us) => {
            write!(out, r#","request_ms":{},"upstream_ms":{}"#, ms(more.request_us), ms(us))
        }
        None => write!(out, r#","request_ms":{},"upstream_ms":null"#, ms(more.request_us)),
    };
    let _written = match more.upstream {
        Some((addr, status)) => {
            write!(out, r#","upstream_addr":"{addr}","upstream_status":{status}"#)
        }
        None => write!(out, r#","upstream_addr":null,"upstream_status":null"#),
    };
    for (key, row) in
        [("route", more.route), ("service", more.service), ("consumer", more.consumer)]
    {
        let _written = match row {
            Some((id, _)) => write!(out, r#","{key}_id":"{id}""#),
            None => write!(out, r#","{key}_id":null"#),
        };
        text(out, key, row.and_then(|(_, name)| name).unwrap_or_default().as_bytes());
    }
    for (key, said) in [
        ("remote_user", line.user),
        ("method", line.method.as_bytes()),
        ("scheme", more.scheme.as_bytes()),
        ("host", more.host),
        ("uri", line.target),
        ("protocol", line.protocol.as_bytes()),
        ("referer", line.referer),
        ("user_agent", line.agent),
        ("request_id", line.id.as_bytes()),
    ] {
        text(out, key, said);
    }
    out.push(b'}');
}

/// Appends a key and its text; `null` for none.
fn text(out: &mut Vec<u8>, key: &str, said: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    if said.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        // Writing to a Vec cannot fail.
        let _written = serde_json::to_writer(out, &String::from_utf8_lossy(said));
    }
}

/// The name in a Basic `Authorization`; empty when there is none. Allocates only for Basic.
fn basic_user(authorization: &[u8]) -> Vec<u8> {
    let Some((scheme, rest)) = authorization.split_at_checked(6) else { return Vec::new() };
    if !scheme.eq_ignore_ascii_case(b"basic ") || rest.len() > CREDENTIALS_BYTES_MAX {
        return Vec::new();
    }
    let mut pair = STANDARD.decode(rest.trim_ascii()).unwrap_or_default();
    let user = pair.iter().position(|byte| *byte == b':').unwrap_or(0);
    pair.truncate(user);
    pair
}

/// nginx's default escape: quotes, backslashes and what is not printable become `\xXX`.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        out.push(b'-');
        return;
    }
    let plain = |b: &u8| (0x20..0x7f).contains(b) && *b != b'"' && *b != b'\\';
    if text.iter().all(plain) {
        out.extend_from_slice(text);
        return;
    }
    for byte in text {
        if plain(byte) {
            out.push(*byte);
        } else {
            let digit = |n: u8| b"0123456789ABCDEF".get(usize::from(n)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes one line with this agent and id and compares it.
    #[track_caller]
    fn check(agent: &[u8], id: &str, expected: &str) {
        let line = Line {
            ended_wall_us: 0,
            method: "GET",
            target: b"/a?b=\"c",
            protocol: "HTTP/1.1",
            status: 200,
            sent_bytes: 12,
            agent,
            id,
            ..Line::default()
        };
        let mut out = Vec::new();
        let time = utc(1_700_000_000_000_000, "%d/%b/%Y:%H:%M:%S +0000");
        combined(&mut out, "127.0.0.1".parse().unwrap(), &time, &line);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn lines_are_nginxs() {
        let start =
            r#"127.0.0.1 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=\x22c HTTP/1.1" 200 12 "#;
        check(b"curl/8", "00ff", &format!(r#"{start}"-" "curl/8" kong_request_id: "00ff""#));
        check(b"", "", &format!(r#"{start}"-" "-""#));
        check(b"\x01\xff\\", "", &format!(r#"{start}"-" "\x01\xFF\x5C""#));
    }

    #[test]
    fn the_json_line_can_be_read_whatever_the_client_sent() {
        let line = Line {
            ended_wall_us: 1_700_000_000_045_678,
            method: "GET",
            target: b"/a?b=\"c\\\x01",
            protocol: "HTTP/1.1",
            status: 499,
            agent: b"\xff\n",
            id: "00ff",
            more: More {
                host: b"a.example",
                scheme: "https",
                request_us: 12_345,
                upstream_us: Some(7),
                upstream: Some(("127.0.0.1:80".parse().unwrap(), 200)),
                route: Some((Uuid::from_u128(1), Some("r"))),
                service: Some((Uuid::from_u128(2), None)),
                ..More::default()
            },
            ..Line::default()
        };
        let mut out = Vec::new();
        json(&mut out, "::1".parse().unwrap(), "2023-11-14T22:13:20", &line);
        assert!(!out.contains(&b'\n'));
        let shown: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "time": "2023-11-14T22:13:20.045Z", "remote_addr": "::1", "status": 499,
            "bytes_sent": 0, "request_ms": 12.345, "upstream_ms": 0.007,
            "upstream_addr": "127.0.0.1:80", "upstream_status": 200,
            "route_id": "00000000-0000-0000-0000-000000000001",
            "service_id": "00000000-0000-0000-0000-000000000002", "consumer_id": null,
            "remote_user": null, "method": "GET", "scheme": "https", "host": "a.example",
            "uri": "/a?b=\"c\\\u{1}", "protocol": "HTTP/1.1", "referer": null,
            "user_agent": "\u{fffd}\n", "request_id": "00ff", "route": "r", "service": null,
            "consumer": null,
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_second_word_names_the_format() {
        for (setting, style) in [
            ("logs/access.log", Style::Combined),
            ("logs/access.log basic", Style::Combined),
            ("/dev/stdout json", Style::Json),
        ] {
            assert_eq!(Style::of(setting), style, "{setting}");
        }
    }

    #[test]
    fn the_user_is_the_one_of_basic() {
        for (value, user) in [
            ("Basic dXNlcjpwYXNz", "user"),
            ("basic  dXNlcjpwYXNz ", "user"),
            ("Basic dXNlcg==", ""),
            ("Basic !!", ""),
            ("Bearer dXNlcjpwYXNz", ""),
            ("", ""),
        ] {
            assert_eq!(basic_user(value.as_bytes()), user.as_bytes(), "{value}");
        }
    }
}
