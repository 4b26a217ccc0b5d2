//! Lines of an access log, in nginx's combined format with the request's id behind it.
//!
//! A core writes its lines into a buffer of its own; full or once a second the buffer is swapped
//! for an empty one and handed to the writer.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use runtime::http::head::{Request, Version};

use super::writer::{Queue, Sink};

/// A buffer with so many bytes is handed over at once.
const BUFFER_BYTES_FULL: usize = 32 * 1024;

/// Longest Basic credentials that are looked into for a name, in bytes.
const CREDENTIALS_BYTES_MAX: usize = 1024;

/// The access log of one core or thread. Dropping it hands over what it holds.
pub struct AccessLog {
    queue: Arc<Queue>,
    sink: Option<Sink>,
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
}

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
}

impl AccessLog {
    pub(super) fn new(queue: Arc<Queue>, sink: Option<Sink>) -> Self {
        Self { queue, sink, buffer: Vec::new(), lines: 0, second: 0, time: String::new() }
    }

    /// Another writer of the same log, with a buffer of its own.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self::new(Arc::clone(&self.queue), self.sink)
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
            self.time = utc(line.ended_wall_us, "%d/%b/%Y:%H:%M:%S +0000");
        }
        let time = std::mem::take(&mut self.time);
        self.line(|out| combined(out, client, &time, line));
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
