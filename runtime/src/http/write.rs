//! HTTP/1 messages as bytes, and what a proxy must not pass on.
//!
//! Everything appends to the caller's buffer. No value can end its line: control bytes are
//! percent-encoded here and in [`Fields`].

use super::head::{Fields, Known, Name, Seen, Version, is_token, push_clean};

/// Ends a head.
pub const HEAD_END: &[u8] = b"\r\n";
/// Ends a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Tells a client that expects it to send its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a whole request head.
pub fn request_head(out: &mut Vec<u8>, method: &str, target: &[u8], lines: &Fields) {
    request_line(out, method, target);
    fields(out, lines);
    out.extend_from_slice(HEAD_END);
}

/// Appends a whole response head.
pub fn response_head(out: &mut Vec<u8>, status: u16, reason: &str, lines: &Fields) {
    status_line(out, status, reason);
    fields(out, lines);
    out.extend_from_slice(HEAD_END);
}

/// Appends `METHOD target HTTP/1.1`. Bytes that would break the line are left out of the method
/// and percent-encoded in the target.
pub fn request_line(out: &mut Vec<u8>, method: &str, target: &[u8]) {
    if is_token(method.as_bytes()) {
        out.extend_from_slice(method.as_bytes());
    } else {
        out.extend(method.bytes().filter(|&b| is_token(&[b])));
    }
    out.push(b' ');
    super::head::push_target(out, target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends `HTTP/1.1 status reason`: the version is ours, whatever the peer speaks.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    push_clean(out, reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends one header line. A name that is not a token is left out with its value: false.
pub fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) -> bool {
    let fits = is_token(name.as_bytes());
    if fits {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        push_clean(out, value);
        out.extend_from_slice(b"\r\n");
    }
    fits
}

/// Appends one header line with a number.
pub fn line_number(out: &mut Vec<u8>, name: Name, value: u64) {
    out.extend_from_slice(name.start().as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends all lines, in order: one copy for each run of lines that nobody touched.
pub fn fields(out: &mut Vec<u8>, lines: &Fields) {
    for run in lines.runs(usize::MAX) {
        out.extend_from_slice(run);
    }
}

/// Appends the line before a chunk of `len` bytes. Nothing for 0: that would end the body.
pub fn chunk_head(out: &mut Vec<u8>, len: usize) {
    if len == 0 {
        return;
    }
    let first = (usize::BITS - len.leading_zeros()).div_ceil(4);
    for place in (0..first).rev() {
        let half = (len >> (place * 4) & 15) as u8;
        out.push(half + if half < 10 { b'0' } else { b'a' - 10 });
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body, with lines behind it.
pub fn last_chunk(out: &mut Vec<u8>, trailers: &Fields) {
    out.extend_from_slice(b"0\r\n");
    fields(out, trailers);
    out.extend_from_slice(HEAD_END);
}

/// Whether the connection may carry another message after this one, by what its sender says.
///
/// A message with both Content-Length and Transfer-Encoding ends its connection.
pub fn persists(version: Version, lines: &Fields) -> bool {
    if lines.has(Known::ContentLength) && lines.has(Known::TransferEncoding) {
        return false;
    }
    match version {
        Version::H10 => lists(lines, Known::Connection, "keep-alive") && !says_close(lines),
        Version::H11 => !says_close(lines),
        Version::H2 => true,
    }
}

fn says_close(lines: &Fields) -> bool {
    lists(lines, Known::Connection, "close")
}

/// Whether a comma-separated list (all lines of this name) holds `token`, in any case.
pub fn lists(lines: &Fields, name: Known, token: &str) -> bool {
    lines.all_known(name).any(|value| {
        value
            .split(|&b| b == b',')
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// The protocol that the sender asks to change to; only with `Connection: upgrade`.
pub fn upgrade(lines: &Fields) -> Option<&[u8]> {
    let protocol = lines.get_known(Known::Upgrade)?;
    lists(lines, Known::Connection, "upgrade").then_some(protocol)
}

const HOP_BY_HOP: Seen = Seen::of(&[
    Known::Connection,
    Known::KeepAlive,
    Known::Proxy,
    Known::ProxyConnection,
    Known::Te,
    Known::Trailer,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::Expect,
]);

/// Removes what is meant for this connection only, and what Connection names.
///
/// Host and Content-Length stay even if they are named: an attacker could unframe the message.
/// Call it before own lines are added, or a sender could name them. Also gone: Proxy (it would
/// become `HTTP_PROXY` in a CGI program), Trailer (of one framing only), Transfer-Encoding (what
/// is sent is framed anew) and Expect (answered here).
pub fn remove_hop_by_hop(lines: &mut Fields) {
    if lines.has(Known::Connection) {
        remove_named(lines);
    }
    lines.remove_known(HOP_BY_HOP);
}

/// Names in Connection that are looked at; a head of 8 KiB could list thousands. The rest pass on.
pub const CONNECTION_NAMES_MAX: usize = 64;
/// Names that Connection may list without any effect beyond [`HOP_BY_HOP`].
const NO_NAMES: [&str; 6] = ["close", "keep-alive", "upgrade", "te", "host", "content-length"];

fn remove_named(lines: &mut Fields) {
    let is_name = |item: &&[u8]| {
        !item.is_empty() && !NO_NAMES.iter().any(|no| item.eq_ignore_ascii_case(no.as_bytes()))
    };
    let named: Vec<Vec<u8>> = lines
        .all_known(Known::Connection)
        .flat_map(|value| value.split(|&b| b == b',').map(<[u8]>::trim_ascii))
        .filter(is_name)
        .take(CONNECTION_NAMES_MAX)
        .map(<[u8]>::to_vec)
        .collect();
    if !named.is_empty() {
        lines.retain(|name, _| !named.iter().any(|gone| gone.eq_ignore_ascii_case(name)));
    }
}

/// nginx's words for a status; empty for one that it does not know.
///
/// Source: nginx `ngx_http_status_lines`.
pub const fn reason_of(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Time-out",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        lines.iter().for_each(|(name, value)| assert!(fields.add(name, value)));
        fields
    }

    #[track_caller]
    fn check(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn heads() {
        let fields = lines(&[("Host", "a"), ("X-a", "b")]);
        let head = "GET /x HTTP/1.1\r\nHost: a\r\nX-a: b\r\n\r\n";
        check(|out| request_head(out, "GET", b"/x", &fields), head);
        let head = "HTTP/1.1 404 Not Found\r\nHost: a\r\nX-a: b\r\n\r\n";
        check(|out| response_head(out, 404, reason_of(404), &fields), head);
        check(|out| status_line(out, 426, reason_of(426)), "HTTP/1.1 426 \r\n");
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let target = b"/a b\r\nEvil: 1";
        check(|out| request_line(out, "G\r\nT", target), "GT /a%20b%0D%0AEvil:%201 HTTP/1.1\r\n");
        check(|out| request_line(out, "GET", b""), "GET / HTTP/1.1\r\n");
        check(|out| status_line(out, 200, "a\r\nb"), "HTTP/1.1 200 a%0D%0Ab\r\n");
        check(|out| assert!(line(out, "A", b"b\nc")), "A: b%0Ac\r\n");
        check(|out| assert!(!line(out, "A\r\nB", b"c")), "");
        check(|out| line_number(out, Name::new("N: "), u64::MAX), "N: 18446744073709551615\r\n");
    }

    #[test]
    fn chunk_sizes() {
        for len in [1, 9, 10, 15, 16, 255, 256, 65_536, usize::MAX] {
            check(|out| chunk_head(out, len), &format!("{len:x}\r\n"));
        }
        check(|out| chunk_head(out, 0), "");
    }

    #[test]
    fn connections_persist() {
        let persists = |version, values: &[&str]| {
            let values: Vec<(&str, &str)> = values.iter().map(|v| ("connection", *v)).collect();
            super::persists(version, &lines(&values))
        };
        assert!(persists(Version::H11, &[]) && persists(Version::H11, &["x, Keep-Alive"]));
        assert!(!persists(Version::H11, &["x ,CLOSE"]) && !persists(Version::H11, &["a", "close"]));
        assert!(!persists(Version::H10, &[]) && persists(Version::H10, &["keep-alive"]));
        assert!(!persists(Version::H10, &["keep-alive, close"]));
    }

    #[test]
    fn upgrades_need_both_lines() {
        let fields = lines(&[("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")]);
        assert_eq!(upgrade(&fields), Some(&b"websocket"[..]));
        assert_eq!(upgrade(&lines(&[("Upgrade", "websocket")])), None);
    }

    #[test]
    fn hop_by_hop_lines_go_and_framing_cannot_be_named_away() {
        let mut fields = lines(&[
            ("Host", "a"),
            ("Connection", "close, X-Gone , te,Host, content-length,,X-b"),
            ("x-gone", "1"),
            ("X-Kept", "1"),
            ("Content-Length", "5"),
            ("TE", "trailers"),
            ("Expect", "100-continue"),
            ("Proxy", "evil"),
            ("Upgrade", "h2c"),
            ("Keep-Alive", "5"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "x-later"),
            ("X-Later", "1"),
            ("X-B", "1"),
        ]);
        remove_hop_by_hop(&mut fields);
        assert_eq!(fields, lines(&[("Host", "a"), ("X-Kept", "1"), ("Content-Length", "5")]));
    }
}
