//! Heads of HTTP/1 messages: read strictly, kept in buffers that are used again.
//!
//! httparse finds the lines; everything it lets through and two readers could understand
//! differently is refused here. Behaviour follows what was measured on nginx and Kong, except
//! where that is ambiguous: then the head is refused.
//!
//! Refused although nginx accepts it: HTTP/0.9; `HTTP/1.2`; two spaces in the request line; a
//! header line without a colon; names with bytes outside a token (nginx drops the line); `@`, `,`
//! and the like in `Host`, or a port that is no number; `Content_Length` and `Transfer_Encoding`
//! (servers that fold `_` into `-` would frame by them); a target with more `..` than folders when
//! `//` counts as one slash. Names that are tokens but not of `A-Za-z0-9-_` are dropped, as nginx
//! does.

mod fault;
mod fields;
mod names;
mod target;

pub use fault::HeadFault;
pub use fields::{FIELDS_BYTES_MAX, Fields};
pub use names::{Known, Name, Seen};
pub use target::{check_host, check_target, query_of};

pub(crate) use fields::{is_disguised, is_odd, is_token, push_clean};
pub(crate) use target::push_target;

use httparse::{Error, Header, Status};
use std::mem::MaybeUninit;

/// Room for header lines on the stack of the first attempt: 2 KiB, enough for almost all heads.
const FIELDS_FIRST: usize = 64;
/// Most header lines of a message, whatever [`Limits::headers_max`] says.
pub const HEADERS_MAX: usize = 1000;

/// How large a head may be. Bytes count line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line or status line; beyond: 414.
    pub request_line_bytes_max: usize,
    /// Bytes of one header line.
    pub header_line_bytes_max: usize,
    /// Bytes of the whole head, with the empty lines before it.
    pub head_bytes_max: usize,
    /// Header lines; at most [`HEADERS_MAX`].
    pub headers_max: usize,
}

impl Default for Limits {
    /// nginx's `large_client_header_buffers 4 8k`.
    fn default() -> Self {
        Self {
            request_line_bytes_max: 8192,
            header_line_bytes_max: 8192,
            head_bytes_max: 32_768,
            headers_max: HEADERS_MAX,
        }
    }
}

/// The protocol version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// HTTP/1.0: one message a connection unless `keep-alive` is agreed, no chunks.
    H10,
    /// HTTP/1.1.
    #[default]
    H11,
    /// HTTP/2: names are lower case, framing is not in the head.
    H2,
}

/// The head of a request. Keep one per connection: its buffers are used again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The version the client spoke.
    pub version: Version,
    /// The header lines.
    pub fields: Fields,
    method: String,
    target: Vec<u8>,
    /// Of an absolute form; else empty.
    target_host: Vec<u8>,
}

impl Request {
    /// The method, as sent: upper-case letters, `-` and `_` when it came from a client.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The request target: path and query as received; of an absolute form only these two.
    pub fn target(&self) -> &[u8] {
        &self.target
    }

    /// The host and port in a target in absolute form, which Kong tells upstreams about, and does
    /// not route by.
    pub fn target_host(&self) -> Option<&[u8]> {
        (!self.target_host.is_empty()).then_some(self.target_host.as_slice())
    }

    /// Sets the method. False, and nothing changed, if it is not a token.
    pub fn set_method(&mut self, method: &str) -> bool {
        let fits = is_token(method.as_bytes());
        if fits {
            self.method.clear();
            self.method.push_str(method);
        }
        fits
    }

    /// Sets the target. Spaces and control bytes are percent-encoded; nothing becomes `/`.
    pub fn set_target(&mut self, target: &[u8]) {
        self.target.clear();
        target::push_target(&mut self.target, target);
    }

    /// Forgets the message, keeps the buffers.
    pub fn clear(&mut self) {
        self.version = Version::H11;
        self.method.clear();
        self.target.clear();
        self.target_host.clear();
        self.fields.clear();
    }
}

/// The head of a response. Its buffers are used again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The version the server spoke.
    pub version: Version,
    /// The header lines.
    pub fields: Fields,
    reason: String,
}

impl Response {
    /// The reason phrase; empty when there was none or it was not ASCII.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Sets the reason phrase. Control bytes and non-ASCII are left out.
    pub fn set_reason(&mut self, reason: &str) {
        self.reason.clear();
        self.reason.extend(reason.chars().filter(|c| matches!(c, ' '..='~')));
    }

    /// Whether another response to the same request follows. 101 is the last one.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Forgets the message, keeps the buffers.
    pub fn clear(&mut self) {
        self.status = 0;
        self.version = Version::H11;
        self.reason.clear();
        self.fields.clear();
    }
}

/// Reads the head of a request from the start of `bytes`.
///
/// `None`: more bytes are needed; call again with all of them. `Some(n)`: the head took `n` bytes,
/// empty lines before it included. Nothing is allocated once `request`'s buffers have grown.
/// Framing is a second step: [`super::body::request_framing`].
///
/// # Errors
/// The first fault found; the connection cannot go on, and [`HeadFault::status`] is the answer.
pub fn parse_request(
    bytes: &[u8],
    limits: &Limits,
    request: &mut Request,
) -> Result<Option<usize>, HeadFault> {
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_FIRST];
    let (few, _) = room.split_at_mut(limits.headers_max.min(FIELDS_FIRST));
    match read_request(bytes, limits, few, request) {
        Err(HeadFault::TooManyFields) if limits.headers_max > FIELDS_FIRST => {
            let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
            let (many, _) = room.split_at_mut(limits.headers_max.min(HEADERS_MAX));
            read_request(bytes, limits, many, request)
        }
        outcome => outcome,
    }
}

/// Reads the head of a response from the start of `bytes`; like [`parse_request`].
///
/// # Errors
/// The first fault found; the upstream connection cannot be used again.
pub fn parse_response(
    bytes: &[u8],
    limits: &Limits,
    response: &mut Response,
) -> Result<Option<usize>, HeadFault> {
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_FIRST];
    let (few, _) = room.split_at_mut(limits.headers_max.min(FIELDS_FIRST));
    match read_response(bytes, limits, few, response) {
        Err(HeadFault::TooManyFields) if limits.headers_max > FIELDS_FIRST => {
            let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
            let (many, _) = room.split_at_mut(limits.headers_max.min(HEADERS_MAX));
            read_response(bytes, limits, many, response)
        }
        outcome => outcome,
    }
}

fn read_request<'b>(
    bytes: &'b [u8],
    limits: &Limits,
    room: &mut [MaybeUninit<Header<'b>>],
    request: &mut Request,
) -> Result<Option<usize>, HeadFault> {
    request.clear();
    let mut parsed = httparse::Request::new(&mut []);
    let used = match parsed.parse_with_uninit_headers(bytes, room) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) => return check_partial(bytes, limits).map(|()| None),
        Err(error) => return Err(fault::of_request(bytes, limits, error)),
    };
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    // One space on both sides of the target, then `HTTP/1.x` and a line end of at most two bytes.
    let line_bytes = method.len() + target.len() + " ".len() * 2 + "HTTP/1.1\r\n".len();
    if line_bytes > limits.request_line_bytes_max {
        return Err(HeadFault::LineTooLong);
    }
    if used > limits.head_bytes_max {
        return Err(HeadFault::HeadTooLarge);
    }
    let served = check_method(method);
    // The answer to TRACE looks at the request's lines.
    if served != Err(HeadFault::Trace) {
        served?;
    }
    request.version = version(parsed.version);
    request.method.push_str(method);
    let (target, host) = (target.as_bytes(), &mut request.target_host);
    target::push_received(&mut request.target, host, target)?;
    load_fields(&mut request.fields, bytes.get(..used), parsed.headers, limits, Role::Server)?;
    check_hosts(request)?;
    served.map(|()| Some(used))
}

fn read_response<'b>(
    bytes: &'b [u8],
    limits: &Limits,
    room: &mut [MaybeUninit<Header<'b>>],
    response: &mut Response,
) -> Result<Option<usize>, HeadFault> {
    response.clear();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let used = match config.parse_response_with_uninit_headers(&mut parsed, bytes, room) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) => return check_partial(bytes, limits).map(|()| None),
        Err(error) => return Err(fault::of_response(bytes, limits, error)),
    };
    if used > limits.head_bytes_max {
        return Err(HeadFault::HeadTooLarge);
    }
    response.version = version(parsed.version);
    response.status = parsed.code.unwrap_or_default();
    if response.status < 100 {
        return Err(HeadFault::StatusLine);
    }
    response.set_reason(parsed.reason.unwrap_or_default());
    load_fields(&mut response.fields, bytes.get(..used), parsed.headers, limits, Role::Client)?;
    Ok(Some(used))
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::H10 } else { Version::H11 }
}

/// nginx's methods: upper-case letters, `-` and `_`; CONNECT and TRACE are not served.
pub(crate) fn check_method(method: &str) -> Result<(), HeadFault> {
    match method {
        "GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "PATCH" | "OPTIONS" => Ok(()),
        "CONNECT" => Err(HeadFault::Connect),
        "TRACE" => Err(HeadFault::Trace),
        _ if method.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'-' | b'_')) => Ok(()),
        _ => Err(HeadFault::Method),
    }
}

/// Whose bytes these are: nginx drops odd names from clients and passes them on from upstreams.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Server,
    Client,
}

/// Copies the block of header lines once, then notes where each line is.
fn load_fields(
    fields: &mut Fields,
    head: Option<&[u8]>,
    lines: &[Header<'_>],
    limits: &Limits,
    role: Role,
) -> Result<(), HeadFault> {
    let (Some(head), Some(first)) = (head, lines.first()) else {
        return Ok(());
    };
    let origin = first.name.as_ptr() as usize;
    let Some(block) = head.get(origin.wrapping_sub(head.as_ptr() as usize)..) else {
        return Err(HeadFault::LineEnd);
    };
    fields.load(block, lines.len());
    for line in lines {
        let (name, value) = (line.name.as_bytes(), line.value);
        let start = (name.as_ptr() as usize).wrapping_sub(origin);
        let value_start = (value.as_ptr() as usize).wrapping_sub(origin);
        if value_start.wrapping_sub(start) + value.len() + 2 > limits.header_line_bytes_max {
            return Err(HeadFault::FieldTooLong);
        }
        if role == Role::Server {
            if is_odd(name) {
                continue;
            }
            if is_disguised(name) {
                return Err(HeadFault::Disguised);
            }
        }
        fields.adopt(start, name, value_start, value.len());
    }
    Ok(())
}

/// One usable `Host`, or none before HTTP/1.1.
fn check_hosts(request: &Request) -> Result<(), HeadFault> {
    let mut hosts = request.fields.all_known(Known::Host);
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version == Version::H10 => Ok(()),
        (None, _) => Err(HeadFault::HostMissing),
        (Some(_), Some(_)) => Err(HeadFault::HostRepeated),
        (Some(host), None) => check_host(host),
    }
}

/// Refuses a head that is not complete and already too large.
fn check_partial(bytes: &[u8], limits: &Limits) -> Result<(), HeadFault> {
    let smallest = limits.request_line_bytes_max.min(limits.header_line_bytes_max);
    if bytes.len() <= smallest.min(limits.head_bytes_max) {
        return Ok(());
    }
    let line = fault::without_empty_lines(bytes);
    let first_end = memchr::memchr(b'\n', line);
    if first_end.unwrap_or(line.len()) >= limits.request_line_bytes_max {
        return Err(HeadFault::LineTooLong);
    }
    if bytes.len() >= limits.head_bytes_max {
        return Err(HeadFault::HeadTooLarge);
    }
    // Blanks at its end do not count, as in a line that is whole: what is refused must not depend
    // on how it arrives.
    let last = memchr::memrchr(b'\n', line).and_then(|end| line.get(end + 1..));
    let last = last.unwrap_or_default();
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let line_bytes = last.iter().rposition(|byte| !blank(byte)).map_or(0, |at| at + 1);
    if line_bytes + 2 > limits.header_line_bytes_max {
        return Err(HeadFault::FieldTooLong);
    }
    Ok(())
}

/// httparse's complaint about a header line, in our words. It does not say where: a folded line
/// is looked for.
fn of_line(head: &[u8], error: Error) -> HeadFault {
    match error {
        Error::TooManyHeaders => HeadFault::TooManyFields,
        Error::HeaderName if fault::has_fold(head) => HeadFault::Folded,
        Error::HeaderName => HeadFault::FieldName,
        Error::HeaderValue => HeadFault::FieldValue,
        _ => HeadFault::LineEnd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parses one request; gives method, target and bytes used.
    #[track_caller]
    fn check(head: &str, expected: Result<Option<(&str, &str)>, HeadFault>) {
        let mut request = Request::default();
        let outcome = parse_request(head.as_bytes(), &Limits::default(), &mut request);
        if let Ok(Some(used)) = outcome {
            assert_eq!(used, head.len(), "{head:?} was not used whole");
        }
        let found = outcome.map(|used| {
            used.map(|_| (request.method(), std::str::from_utf8(request.target()).unwrap()))
        });
        assert_eq!(found, expected, "{head:?}");
    }

    #[test]
    fn request_lines() {
        let h = "\r\nHost: a\r\n\r\n";
        check(&format!("GET /x?y HTTP/1.1{h}"), Ok(Some(("GET", "/x?y"))));
        check(&format!("\r\n\n\r\nGET / HTTP/1.1{h}"), Ok(Some(("GET", "/"))));
        check(&format!("M-SEARCH_X /a HTTP/1.0{h}"), Ok(Some(("M-SEARCH_X", "/a"))));
        check(&format!("GET /\u{e9}#f HTTP/1.1{h}"), Ok(Some(("GET", "/\u{e9}#f"))));
        check(&format!("GET HTTP://b.com:81/x?y HTTP/1.1{h}"), Ok(Some(("GET", "/x?y"))));
        check(&format!("GET https://b.com HTTP/1.1{h}"), Ok(Some(("GET", "/"))));
        check(&format!("GET http://b.com?x HTTP/1.1{h}"), Ok(Some(("GET", "/?x"))));
        check(&format!("GET /a?x=1#f?g HTTP/1.1{h}"), Ok(Some(("GET", "/a?x=1#f?g"))));
        check(&format!("GET http://b.com?#f HTTP/1.1{h}"), Ok(Some(("GET", "/?#f"))));
        check(&format!("GET http://u@b.com/ HTTP/1.1{h}"), Err(HeadFault::TargetHost));
        check(&format!("GET http:///x HTTP/1.1{h}"), Err(HeadFault::TargetHost));
        check(&format!("GET ftp://b/ HTTP/1.1{h}"), Err(HeadFault::TargetForm));
        check(&format!("GET x HTTP/1.1{h}"), Err(HeadFault::TargetForm));
        check(&format!("OPTIONS * HTTP/1.1{h}"), Err(HeadFault::TargetForm));
        check(&format!("CONNECT a:1 HTTP/1.1{h}"), Err(HeadFault::Connect));
        check(&format!("TRACE / HTTP/1.1{h}"), Err(HeadFault::Trace));
        check(&format!("get / HTTP/1.1{h}"), Err(HeadFault::Method));
        check(&format!("GET  / HTTP/1.1{h}"), Err(HeadFault::RequestLine));
        check(&format!("GET / x HTTP/1.1{h}"), Err(HeadFault::RequestLine));
        check(&format!("GET / http/1.1{h}"), Err(HeadFault::RequestLine));
        check(&format!("GET / HTTP/2.0{h}"), Err(HeadFault::Version));
        check(&format!("GET / HTTP/1.10{h}"), Err(HeadFault::LineEnd));
        check("GET / HTTP/1.1\r\nHost: a\r\n", Ok(None));
        check("", Ok(None));
        check("\r\n", Ok(None));
    }

    #[test]
    fn paths_stay_below_the_root() {
        let path = |path: &str| check_target(path.as_bytes());
        assert_eq!(path("/a/../b"), Ok(()));
        assert_eq!(path("/a/.."), Ok(()));
        assert_eq!(path("/a/./../b%20?%zz/../../.."), Ok(()));
        assert_eq!(path("/..a/.../b"), Ok(()));
        for above in ["/..", "/../a", "/a/../..", "/%2e%2E/a", "/.%2e", "/a%2f..%2f..", "//../a"] {
            assert_eq!(path(above), Err(HeadFault::TargetAboveRoot), "{above}");
        }
        for bad in ["/%", "/%1", "/%zz", "/%00", "/a%0"] {
            assert_eq!(path(bad), Err(HeadFault::TargetEscape), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        let fine = ["a", "a_b", "A.Com.:80", "a:", "[::1]:80", "[::ffff:1.2.3.4]", "1.2.3.4:65536"];
        for host in fine {
            assert_eq!(check_host(host.as_bytes()), Ok(()), "{host}");
        }
        let bad = ["", ":80", "a..b", "a/b", "a b", "u@a", "a:8x", "a:1:2", "[::1", "[]", "a,b"];
        for host in bad.into_iter().chain(["[::1]x", "[a/b]", "a\0", "a\\b", "a?b", "\u{e9}"]) {
            assert_eq!(check_host(host.as_bytes()), Err(HeadFault::HostBad), "{host}");
        }
    }

    #[test]
    fn header_lines() {
        let fault = |lines: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
            parse_request(head.as_bytes(), &Limits::default(), &mut Request::default()).err()
        };
        assert_eq!(fault("A: b"), None);
        assert_eq!(fault("A:\tb \t"), None);
        assert_eq!(fault("A : b"), Some(HeadFault::FieldName));
        assert_eq!(fault("A"), Some(HeadFault::FieldName));
        assert_eq!(fault(": b"), Some(HeadFault::FieldName));
        assert_eq!(fault("A(b: c"), Some(HeadFault::FieldName));
        assert_eq!(fault("A: b\r\n c"), Some(HeadFault::Folded));
        assert_eq!(fault("A: b\0"), Some(HeadFault::FieldValue));
        assert_eq!(fault("A: b\rc"), Some(HeadFault::FieldValue));
        assert_eq!(fault("Content_Length: 1"), Some(HeadFault::Disguised));
        assert_eq!(fault("transfer_Encoding: chunked"), Some(HeadFault::Disguised));
        assert_eq!(fault("Host: a"), Some(HeadFault::HostRepeated));
        let line = "A: ".to_owned() + &"b".repeat(8192 - 5);
        assert_eq!(fault(&line), None);
        assert_eq!(fault(&(line.clone() + "b")), Some(HeadFault::FieldTooLong));
        assert_eq!(fault(&vec![line; 4].join("\r\n")), Some(HeadFault::HeadTooLarge));
        assert_eq!(fault(&vec!["A: b"; 999].join("\r\n")), None);
        assert_eq!(fault(&vec!["A: b"; 1000].join("\r\n")), Some(HeadFault::TooManyFields));
    }

    #[test]
    fn what_nginx_drops_is_dropped() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX.y: 1\r\nX~: 2\r\nX-z_: 3\r\n\r\n";
        let mut request = Request::default();
        parse_request(head, &Limits::default(), &mut request).unwrap().unwrap();
        let names: Vec<&[u8]> = request.fields.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"Host"[..], b"X-z_"]);
        let head = b"HTTP/1.1 200 OK\r\nX.y: 1\r\n\r\n";
        let mut response = Response::default();
        parse_response(head, &Limits::default(), &mut response).unwrap().unwrap();
        assert_eq!(response.fields.get("x.Y"), Some(&b"1"[..]));
    }

    /// A head that never ends is refused as soon as it is too large.
    #[test]
    fn endless_heads() {
        let fault = |head: String| {
            parse_request(head.as_bytes(), &Limits::default(), &mut Request::default())
        };
        assert_eq!(fault("GET /".to_owned() + &"a".repeat(8186)), Ok(None));
        assert_eq!(fault("GET /".to_owned() + &"a".repeat(8188)), Err(HeadFault::LineTooLong));
        let start = "GET / HTTP/1.1\r\nHost: a\r\nB: ";
        assert_eq!(fault(start.to_owned() + &"a".repeat(8100)), Ok(None));
        assert_eq!(fault(start.to_owned() + &"a".repeat(8200)), Err(HeadFault::FieldTooLong));
        let many = start.to_owned() + &("a".repeat(90) + "\r\nB: ").repeat(400);
        assert_eq!(fault(many), Err(HeadFault::HeadTooLarge));
        assert_eq!(fault("\r\n".repeat(20_000)), Err(HeadFault::HeadTooLarge));
    }

    #[track_caller]
    fn check_status_line(line: &str, expected: Result<(u16, &str, Version), HeadFault>) {
        let mut response = Response::default();
        let head = format!("{line}\r\nA: b\r\n\r\n");
        let outcome = parse_response(head.as_bytes(), &Limits::default(), &mut response);
        let found = outcome.map(|used| {
            assert_eq!(used, Some(head.len()), "{line}");
            (response.status, response.reason(), response.version)
        });
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn status_lines() {
        check_status_line("HTTP/1.1 200 OK", Ok((200, "OK", Version::H11)));
        check_status_line("HTTP/1.0 404 Nope no", Ok((404, "Nope no", Version::H10)));
        check_status_line("HTTP/1.1 999", Ok((999, "", Version::H11)));
        check_status_line("HTTP/1.1 200 \u{e9}", Ok((200, "", Version::H11)));
        for bad in ["HTTP/1.1 099 OK", "HTTP/1.1 20 OK", "HTTP/1.1  200 OK", "HTTP/2 200", "ICY 1"]
        {
            check_status_line(bad, Err(HeadFault::StatusLine));
        }
        check_status_line("HTTP/1.1 200 OK\r\nA b: c", Err(HeadFault::FieldName));
    }

    #[test]
    fn statuses_are_those_of_nginx() {
        assert_eq!(HeadFault::Trace.status(), 405);
        assert_eq!(HeadFault::LineTooLong.status(), 414);
        assert_eq!(HeadFault::CodingUnknown.status(), 501);
        assert_eq!(HeadFault::Version.status(), 505);
        assert_eq!(HeadFault::FieldTooLong.status(), 400);
        assert!(HeadFault::FieldTooLong.is_too_large() && !HeadFault::FieldName.is_too_large());
    }

    /// Names and values as a client may send them.
    fn lines() -> impl Strategy<Value = Vec<(String, String)>> {
        let line = ("[A-Za-z0-9_-]{1,12}", "([!-~\u{e9}]([!-~ \t]{0,30}[!-~])?)?");
        proptest::collection::vec(line, 0..20)
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let limits = Limits { header_line_bytes_max: 40, ..Limits::default() };
            for start in ["", "GET / HTTP/1.1\r\n", "HTTP/1.1 200 O"] {
                let head = [start.as_bytes(), &bytes].concat();
                let _ = parse_request(&head, &limits, &mut Request::default());
                let _ = parse_response(&head, &limits, &mut Response::default());
            }
        }

        #[test]
        fn what_is_written_is_read_again(
            lines in lines(),
            method in "[A-Z_-]{1,9}",
            target in "/[!-$&-~]{0,40}",
            spaces in "[ \t]{0,3}",
            end in "\r?\n",
        ) {
            prop_assume!(!["CONNECT", "TRACE"].contains(&method.as_str()));
            prop_assume!(check_target(target.as_bytes()).is_ok());
            let mut head = format!("{method} {target} HTTP/1.1{end}");
            let mut expected = vec![("Host", "a")];
            expected.extend(lines.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            expected.retain(|(name, _)| {
                Known::of(name.as_bytes()) != Known::Host || *name == "Host"
            });
            for (name, value) in &expected {
                head += &format!("{name}:{spaces}{value}{spaces}{end}");
            }
            head += &end;
            let (mut first, mut second) = (Request::default(), Request::default());
            let limits = Limits::default();
            let outcome = parse_request(head.as_bytes(), &limits, &mut first);
            prop_assert_eq!(outcome, Ok(Some(head.len())));
            let found: Vec<_> = first.fields.iter().collect();
            let expected: Vec<_> =
                expected.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            prop_assert_eq!(found, expected);
            let mut out = Vec::new();
            crate::http::write::request_head(
                &mut out, first.method(), first.target(), &first.fields,
            );
            prop_assert_eq!(parse_request(&out, &limits, &mut second), Ok(Some(out.len())));
            prop_assert_eq!(first, second);
        }
    }
}
