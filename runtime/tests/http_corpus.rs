//! Hostile requests: everything ambiguous is refused, and what passes leaves clean.
//!
//! `data/http1.tsv`: id, class, expectation, bytes; `{n*unit}` repeats, the rest is escaped as in
//! Rust. The recorded cases are what Kong 3.9.1 answered to raw bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a whole file of tests")]

use runtime::http::body::{self, BodyFault, Decoder, Framing};
use runtime::http::head::{self, HeadFault, Known, Limits, Request};
use runtime::http::write;

const CORPUS: &str = include_str!("data/http1.tsv");

/// How a gateway made of this codec deals with the bytes of one connection.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// All requests that were complete, as they go to the upstream.
    Clean(Vec<Vec<u8>>),
    /// These requests passed, then one was refused.
    Refused(Vec<Vec<u8>>, Refusal),
    /// The head or the body is not complete.
    Waits(Vec<Vec<u8>>),
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Refusal {
    Head(HeadFault),
    Body(BodyFault),
}

impl Refusal {
    fn status(self) -> u16 {
        match self {
            Self::Head(fault) => fault.status(),
            Self::Body(fault) => fault.status(),
        }
    }
}

/// Reads all requests in `bytes`, and frames each anew for an upstream.
fn serve(mut bytes: &[u8]) -> Outcome {
    let (mut request, mut sent) = (Request::default(), Vec::new());
    while bytes.iter().any(|b| !matches!(b, b'\r' | b'\n')) {
        let used = match head::parse_request(bytes, &Limits::default(), &mut request) {
            Ok(None) => return Outcome::Waits(sent),
            Ok(Some(used)) => used,
            Err(fault) => return Outcome::Refused(sent, Refusal::Head(fault)),
        };
        let framing = match body::request_framing(&request) {
            Ok(framing) => framing,
            Err(fault) => return Outcome::Refused(sent, Refusal::Head(fault)),
        };
        bytes = &bytes[used..];
        let mut decoder = Decoder::new(framing);
        let mut content = Vec::new();
        while !decoder.is_done() && !bytes.is_empty() {
            match decoder.step(bytes) {
                Ok(step) => {
                    content.extend_from_slice(&bytes[step.piece]);
                    bytes = &bytes[step.used..];
                }
                Err(fault) => return Outcome::Refused(sent, Refusal::Body(fault)),
            }
        }
        if !decoder.is_done() {
            return Outcome::Waits(sent);
        }
        sent.push(upstream(&mut request, framing, &content));
    }
    Outcome::Clean(sent)
}

fn upstream(request: &mut Request, framing: Framing, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write::remove_hop_by_hop(&mut request.fields);
    if framing != Framing::None {
        request.fields.set("Content-Length", content.len().to_string());
    }
    if !request.fields.has(Known::Host) {
        request.fields.add("Host", "upstream");
    }
    write::request_head(&mut out, request.method(), request.target(), &request.fields);
    out.extend_from_slice(content);
    out
}

/// What is unclean about one request that goes to an upstream, by RFC 9112 to the letter and
/// without any code of the codec.
fn stains(sent: &[u8]) -> Vec<String> {
    let mut stains = Vec::new();
    let end = sent.windows(4).position(|four| four == b"\r\n\r\n").expect("a head has an end");
    let (head, content) = (&sent[..end], &sent[end + 4..]);
    let lines: Vec<&[u8]> = split_crlf(head);
    let parts: Vec<&[u8]> = lines[0].split(|&b| b == b' ').collect();
    let plain = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|&b| b > b' ' && b != 0x7f);
    if parts.len() != 3 || !plain(parts[0]) || !plain(parts[1]) || parts[2] != b"HTTP/1.1" {
        stains.push("request line".to_owned());
    }
    let (mut hosts, mut lengths) = (0, Vec::new());
    for line in &lines[1..] {
        let colon = line.iter().position(|&b| b == b':').unwrap_or(0);
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon..].to_vec());
        if colon == 0 || !name.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)) {
            stains.push(format!("name {:?}", String::from_utf8_lossy(line)));
        }
        if value.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f) {
            stains.push("control byte".to_owned());
        }
        match name.as_slice() {
            b"host" => hosts += 1,
            b"content-length" => lengths.push(String::from_utf8(value[2..].to_vec()).unwrap()),
            b"transfer-encoding" | b"transfer_encoding" | b"content_length" | b"connection" => {
                stains.push("framing".to_owned());
            }
            _ => {}
        }
    }
    if hosts != 1 {
        stains.push(format!("{hosts} hosts"));
    }
    let declared = match lengths.as_slice() {
        [] => 0,
        [one] => one.parse().unwrap(),
        _ => usize::MAX,
    };
    if declared != content.len() {
        stains.push("length".to_owned());
    }
    stains
}

fn split_crlf(head: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut start) = (Vec::new(), 0);
    while let Some(end) = head[start..].windows(2).position(|two| two == b"\r\n") {
        lines.push(&head[start..start + end]);
        start += end + 2;
    }
    lines.push(&head[start..]);
    lines
}

/// The bytes of a row.
fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(next) = rest.chars().next() {
        if next == '{' {
            let (times, after) = rest[1..].split_once('*').unwrap();
            let (unit, after) = after.split_once('}').unwrap();
            out.extend(unescape(unit).repeat(times.parse().unwrap()));
            rest = after;
        } else if next == '\\' {
            let (byte, taken) = match rest.as_bytes()[1] {
                b'r' => (b'\r', 2),
                b'n' => (b'\n', 2),
                b't' => (b'\t', 2),
                b'x' => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
                other => (other, 2),
            };
            out.push(byte);
            rest = &rest[taken..];
        } else {
            out.push(next as u8);
            rest = &rest[1..];
        }
    }
    out
}

#[track_caller]
fn check_row(row: &str) {
    let columns: Vec<&str> = row.split('\t').collect();
    let [id, class, expected, escaped] = columns[..] else { panic!("{row}") };
    let bytes = unescape(escaped);
    let outcome = serve(&bytes);
    let (Outcome::Clean(sent) | Outcome::Refused(sent, _) | Outcome::Waits(sent)) = &outcome;
    for request in sent {
        assert_eq!(stains(request), [""; 0], "{id}: {:?}", String::from_utf8_lossy(request));
    }
    let passed = matches!(&outcome, Outcome::Clean(_));
    match expected {
        "accept" => assert!(!sent.is_empty(), "{id} has to be served, not {outcome:?}"),
        "reject" => assert!(!passed && sent.is_empty(), "{id} has to be refused, not {outcome:?}"),
        _ => {}
    }
    let smuggled = |request: &Vec<u8>| request.windows(9).any(|part| part == b"/smuggled");
    if ["transfer-encoding", "header-syntax", "chunked"].contains(&class) {
        assert!(!sent.iter().any(smuggled), "{id} smuggled a request: {outcome:?}");
    }
    // A head that is refused is refused at the latest when it is complete, however it arrives.
    if bytes.len() < 700 {
        let fate =
            |bytes: &[u8]| head::parse_request(bytes, &Limits::default(), &mut Request::default());
        let whole = fate(&bytes);
        for end in 0..bytes.len() {
            match (fate(&bytes[..end]), whole) {
                (Ok(None), _) => {}
                (Ok(early), late) => assert_eq!(Ok(early), late, "{id} cut at {end}"),
                (Err(_), Err(_)) => {}
                (early, late) => panic!("{id} cut at {end}: {early:?}, whole: {late:?}"),
            }
        }
    }
}

#[test]
fn hostile_rows_are_refused_or_leave_clean() {
    assert_eq!(CORPUS.lines().count(), 191);
    CORPUS.lines().for_each(check_row);
}

/// What Kong 3.9.1 answered; `None`: it served the request.
#[track_caller]
fn check_recorded(sent: &str, status: Option<u16>) {
    let found = match serve(sent.as_bytes()) {
        Outcome::Refused(_, refusal) => Some(refusal.status()),
        Outcome::Clean(sent) if !sent.is_empty() => None,
        other => panic!("{sent:?}: {other:?}"),
    };
    assert_eq!(found, status, "{sent:?}");
}

#[test]
fn recorded_answers_are_kept() {
    let long = "a".repeat(40_000);
    check_recorded("GET /e HTTP/1.1\r\n\r\n", Some(400));
    check_recorded("GET /e HTTP/1.0\r\n\r\n", None);
    check_recorded("GET /e HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Some(400));
    check_recorded("ge t /e HTTP/1.1\r\nHost: a\r\n\r\n", Some(400));
    check_recorded("\x16\x03\x01\0\r\n\r\n", Some(400));
    check_recorded("GET /e HTTP/3.0\r\nHost: a\r\n\r\n", Some(505));
    check_recorded("GET / HTTP/9.9\r\nHost: a\r\n\r\n", Some(505));
    check_recorded("GET http://h.test/zz?q=1 HTTP/1.1\r\nHost: other\r\n\r\n", None);
    check_recorded("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Some(400));
    check_recorded(&format!("GET /e HTTP/1.1\r\nHost: a\r\nX-L: {long}\r\n\r\n"), Some(400));
    check_recorded(&format!("GET /e/{long} HTTP/1.1\r\nHost: a\r\n\r\n"), Some(414));
    let many: String = (0..150).map(|n| format!("X-{n}: 1\r\n")).collect();
    check_recorded(&format!("GET /e HTTP/1.1\r\nHost: a\r\n{many}\r\n"), None);
    let post = "POST /e HTTP/1.1\r\nHost: a\r\n";
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check_recorded(&format!("{post}{both}"), Some(400));
    check_recorded(&format!("{post}Content-Length: abc\r\n\r\n"), Some(400));
    check_recorded(&format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), Some(400));
    check_recorded(&format!("{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), Some(400));
    check_recorded(&format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), Some(501));
    check_recorded("GET /e HTTP/1.1\nHost: a\nConnection: close\n\n", None);
    check_recorded("GET /e HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n 2\r\n\r\n", Some(400));
    check_recorded("GET /e HTTP/1.1\r\nHost: a\r\nX-A : 1\r\n\r\n", Some(400));
    check_recorded("GET /e HTTP/1.1\r\nHost: a\r\nX-A: a\0b\r\n\r\n", Some(400));
    check_recorded("GET /e/%zz HTTP/1.1\r\nHost: a\r\n\r\n", Some(400));
    check_recorded("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check_recorded("GET /e HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", None);
    check_recorded("GET /e HTTP/1.1\r\nHost: a/b\r\n\r\n", Some(400));
    check_recorded("GET /../../e HTTP/1.1\r\nHost: a\r\n\r\n", Some(400));
    check_recorded("GARBAGE\r\n\r\n", Some(400));
    check_recorded("GET / HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n", Some(400));
    check_recorded("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Some(405));
    check_recorded("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Some(400));
    check_recorded("get / HTTP/1.1\r\nHost: a\r\n\r\n", Some(400));
    check_recorded("X-MY_VERB / HTTP/1.1\r\nHost: a\r\n\r\n", None);
    // Kong serves these two; HTTP/0.9 and doubtful versions are refused here.
    check_recorded("GET /e\r\n\r\n", Some(400));
    check_recorded("GET /e HTTP/1.2\r\nHost: a\r\n\r\n", Some(505));
}
