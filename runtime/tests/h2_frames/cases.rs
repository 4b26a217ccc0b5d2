//! The cases, as data: what a client sends behind its preface and settings, and what must come of
//! it. The numbers in names are sections of RFC 9113.

use super::wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
};

pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// What must come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    /// The answer to stream 1 has this status.
    Status(u16),
    /// It is 200, and its body is this.
    Body(&'static str),
    /// So much of its body comes, and no more.
    Data(&'static str),
    /// A stream is reset, or the connection ended, with this code: each is allowed.
    Fault(u32),
    /// The connection is ended with this code.
    GoAway(u32),
    /// It never reaches the service: reset, or answered with 400 to 499 or 501.
    Refused,
    /// PING is answered with its payload.
    Pong,
    /// The connection ends without a fault.
    Closed,
}

/// A case: its name, the frames, what must come.
pub(crate) type Case = (&'static str, Vec<u8>, Want);

type Lines = Vec<(&'static str, &'static str)>;

pub(crate) fn get(path: &'static str) -> Lines {
    vec![(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "shop.test")]
}

fn with(mut lines: Lines, more: &[(&'static str, &'static str)]) -> Lines {
    lines.extend_from_slice(more);
    lines
}

fn without(lines: Lines, name: &str) -> Lines {
    lines.into_iter().filter(|(own, _)| *own != name).collect()
}

pub(crate) fn changed(lines: Lines, name: &str, value: &'static str) -> Lines {
    lines.into_iter().map(|(own, old)| (own, if own == name { value } else { old })).collect()
}

/// The whole request of stream 1.
pub(crate) fn asked(lines: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(lines))
}

/// The head of stream 1, whose body follows.
pub(crate) fn begun(lines: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &block(lines))
}

pub(crate) fn data(flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, 1, bytes)
}

pub(crate) fn post() -> Lines {
    changed(get("/echo"), ":method", "POST")
}

/// Pseudo-headers, names and values: 8.2 and 8.3.
pub(crate) fn heads() -> Vec<Case> {
    let bad = Want::Fault(PROTOCOL_ERROR);
    let more = |more: &[(&'static str, &'static str)]| asked(&with(get("/"), more));
    let late = vec![(":method", "GET"), (":scheme", "http"), ("x-a", "1"), (":path", "/")];
    vec![
        ("8.3.1 a plain request", asked(&get("/")), Want::Status(200)),
        ("8.3 a pseudo-header behind a header", asked(&with(late, &[(":authority", "a")])), bad),
        ("8.3 an unknown pseudo-header", more(&[(":x", "1")]), bad),
        ("8.3 a response's pseudo-header", more(&[(":status", "200")]), bad),
        ("8.3.1 two methods", more(&[(":method", "GET")]), bad),
        ("8.3.1 two paths", more(&[(":path", "/")]), bad),
        ("8.3.1 two schemes", more(&[(":scheme", "http")]), bad),
        ("8.3.1 two authorities", more(&[(":authority", "b")]), bad),
        ("8.3.1 no method", asked(&without(get("/"), ":method")), bad),
        ("8.3.1 no scheme", asked(&without(get("/"), ":scheme")), bad),
        ("8.3.1 no path", asked(&without(get("/"), ":path")), bad),
        ("8.3.1 an empty path", asked(&get("")), Want::Refused),
        ("8.3.1 a path without a slash", asked(&get("x")), Want::Refused),
        ("8.3.1 a path of nothing but a star", asked(&get("*")), Want::Refused),
        ("8.3.1 a path with a space", asked(&get("/a b")), Want::Refused),
        ("8.3.1 a path with a line end", asked(&get("/a\r\nx: y")), Want::Refused),
        ("a path above the root", asked(&get("/../x")), Want::Status(400)),
        ("a bad escape", asked(&get("/%zz")), Want::Status(400)),
        ("an escaped zero", asked(&get("/%00")), Want::Status(400)),
        ("a method in small letters", asked(&changed(get("/"), ":method", "get")), Want::Refused),
        ("an empty method", asked(&changed(get("/"), ":method", "")), Want::Refused),
        ("a method with a space", asked(&changed(get("/"), ":method", "G T")), Want::Refused),
        ("CONNECT", asked(&changed(get("/"), ":method", "CONNECT")), Want::Refused),
        ("TRACE", asked(&changed(get("/"), ":method", "TRACE")), Want::Status(405)),
        ("8.3.1 host and authority differ", more(&[("host", "other")]), Want::Status(400)),
        ("8.3.1 host and authority agree", more(&[("host", "shop.test")]), Want::Status(200)),
        (
            "8.3.1 host alone",
            asked(&with(without(get("/"), ":authority"), &[("host", "a")])),
            Want::Status(200),
        ),
        ("8.3.1 neither", asked(&without(get("/"), ":authority")), Want::Refused),
        ("an authority with a user", asked(&changed(get("/"), ":authority", "u@a")), Want::Refused),
        ("an empty authority", asked(&changed(get("/"), ":authority", "")), Want::Refused),
        (
            "two hosts",
            asked(&with(without(get("/"), ":authority"), &[("host", "a"), ("host", "a")])),
            Want::Status(400),
        ),
        ("8.2.1 a capital in a name", more(&[("X-a", "1")]), bad),
        ("8.2.1 an empty name", more(&[("", "1")]), Want::Refused),
        ("8.2.1 a space in a name", more(&[("x a", "1")]), Want::Refused),
        ("8.2.1 a colon in a name", more(&[("x:a", "1")]), Want::Refused),
        ("8.2.1 a zero in a value", more(&[("x", "a\0b")]), Want::Refused),
        ("8.2.1 a line end in a value", more(&[("x", "a\r\nb: c")]), Want::Refused),
        ("8.2.2 connection", more(&[("connection", "close")]), bad),
        ("8.2.2 keep-alive", more(&[("keep-alive", "1")]), bad),
        ("8.2.2 proxy-connection", more(&[("proxy-connection", "close")]), bad),
        ("8.2.2 transfer-encoding", more(&[("transfer-encoding", "chunked")]), bad),
        ("8.2.2 upgrade", more(&[("upgrade", "websocket")]), bad),
        ("8.2.2 te of something else", more(&[("te", "gzip")]), bad),
        ("8.2.2 te of trailers", more(&[("te", "trailers")]), Want::Status(200)),
        ("a disguised coding", more(&[("transfer_encoding", "chunked")]), Want::Status(400)),
        ("a disguised length", more(&[("content_length", "5")]), Want::Status(400)),
        (
            "8.2.3 cookies are joined",
            asked(&with(get("/cookie"), &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")])),
            Want::Body("a=1; b=2"),
        ),
    ]
}

/// Bodies and trailers: 8.1.
pub(crate) fn bodies() -> Vec<Case> {
    let bad = Want::Fault(PROTOCOL_ERROR);
    let length = |length| with(post(), &[("content-length", length)]);
    let trailers = |flags, lines: &[(&str, &str)]| frame(HEADERS, flags, 1, &block(lines));
    let behind = |flags, lines: &[(&str, &str)]| {
        [begun(&post()), data(0, b"abc"), trailers(flags, lines)].concat()
    };
    let last = END_HEADERS | END_STREAM;
    vec![
        ("a body", [begun(&post()), data(END_STREAM, b"abc")].concat(), Want::Body("abc")),
        (
            "a body in parts, the last one empty",
            [begun(&post()), data(0, b"ab"), data(0, b"c"), data(END_STREAM, b"")].concat(),
            Want::Body("abc"),
        ),
        (
            "a body as long as it says",
            [begun(&length("3")), data(0, b"ab"), data(END_STREAM, b"c")].concat(),
            Want::Body("abc"),
        ),
        ("8.1.1 a shorter body", [begun(&length("5")), data(END_STREAM, b"abc")].concat(), bad),
        ("8.1.1 a longer body", [begun(&length("2")), data(END_STREAM, b"abc")].concat(), bad),
        ("8.1.1 no body though one is said", asked(&length("5")), bad),
        ("8.1.1 none, as it is said", asked(&length("0")), Want::Status(200)),
        ("a length that is none", asked(&length("5x")), Want::Refused),
        ("a negative length", asked(&length("-1")), Want::Refused),
        ("a length with a sign", asked(&length("+0")), Want::Refused),
        ("two lengths", asked(&with(length("0"), &[("content-length", "1")])), Want::Refused),
        ("8.1 trailers", behind(last, &[("x-sum", "1")]), Want::Body("abc")),
        // It should be a fault; h2 drops it without a word, so that it never gets further.
        ("8.1 a pseudo-header in trailers", behind(last, &[(":path", "/")]), Want::Body("abc")),
        ("8.1 trailers that do not end", behind(END_HEADERS, &[("x-sum", "1")]), bad),
        (
            "8.1.1 trailers behind a shorter body",
            [begun(&length("5")), data(0, b"abc"), trailers(last, &[("x", "1")])].concat(),
            bad,
        ),
        (
            "5.1 data behind the end",
            [begun(&post()), data(END_STREAM, b"abc"), data(END_STREAM, b"x")].concat(),
            Want::Fault(STREAM_CLOSED),
        ),
        (
            "5.1 a head behind the end",
            [asked(&get("/wait")), asked(&get("/wait"))].concat(),
            Want::Fault(STREAM_CLOSED),
        ),
    ]
}

/// Frames where they may not be, or of a wrong length: 4 to 6.
pub(crate) fn frames() -> Vec<Case> {
    let ended = Want::GoAway(PROTOCOL_ERROR);
    let sized = Want::GoAway(FRAME_SIZE_ERROR);
    let setting = |number: u16, value: u32| {
        frame(SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
    };
    let wait = asked(&get("/wait"));
    let behind = |more: Vec<u8>| [wait.clone(), more].concat();
    let half = block(&get("/"));
    let (first, rest) = half.split_at(10);
    let split = frame(HEADERS, END_STREAM, 1, first);
    let most = 0x7fff_ffff_u32.to_be_bytes();
    vec![
        ("6.7 a ping", frame(PING, 0, 0, b"12345678"), Want::Pong),
        ("6.7 a ping on a stream", frame(PING, 0, 1, b"12345678"), ended),
        ("6.7 a short ping", frame(PING, 0, 0, b"1234567"), sized),
        ("6.1 data on no stream", frame(DATA, 0, 0, b"x"), ended),
        ("5.1 data on an idle stream", data(0, b"x"), ended),
        ("6.2 a head on no stream", frame(HEADERS, END_HEADERS, 0, &half), ended),
        ("5.1.1 a stream of the server's", frame(HEADERS, 5, 2, &half), ended),
        (
            "5.1.1 a stream behind a later one",
            [frame(HEADERS, 5, 3, &block(&get("/wait"))), asked(&get("/"))].concat(),
            Want::GoAway(PROTOCOL_ERROR),
        ),
        ("6.5 settings of a wrong length", frame(SETTINGS, 0, 0, b"12345"), sized),
        ("6.5 an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6]), sized),
        ("6.5 settings of a stream", frame(SETTINGS, 0, 1, &[]), ended),
        ("6.5.2 push of 2", setting(2, 2), ended),
        ("6.5.2 a window too large", setting(4, 1 << 31), Want::GoAway(FLOW_CONTROL_ERROR)),
        ("6.5.2 frames too small", setting(5, 100), ended),
        ("6.5.2 frames too large", setting(5, 1 << 24), ended),
        (
            "6.5.2 an unknown setting",
            [setting(77, 1), asked(&get("/"))].concat(),
            Want::Status(200),
        ),
        ("6.9 no window on the connection", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), ended),
        (
            "6.9 no window on a stream",
            behind(frame(WINDOW_UPDATE, 0, 1, &[0; 4])),
            Want::Fault(PROTOCOL_ERROR),
        ),
        ("6.9 a window of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), sized),
        ("5.1 a window for an idle stream", frame(WINDOW_UPDATE, 0, 1, &most), ended),
        (
            "6.9.1 a connection's window overflows",
            frame(WINDOW_UPDATE, 0, 0, &most),
            Want::GoAway(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.1 a stream's window overflows",
            behind(frame(WINDOW_UPDATE, 0, 1, &most)),
            Want::Fault(FLOW_CONTROL_ERROR),
        ),
        ("6.4 a reset of no stream", frame(RST_STREAM, 0, 0, &[0; 4]), ended),
        ("6.4 a reset of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), ended),
        ("6.4 a short reset", behind(frame(RST_STREAM, 0, 1, &[0; 3])), sized),
        ("6.3 a priority of no stream", frame(PRIORITY, 0, 0, &[0; 5]), ended),
        (
            "6.3 a short priority",
            behind(frame(PRIORITY, 0, 1, &[0; 4])),
            Want::Fault(FRAME_SIZE_ERROR),
        ),
        ("6.8 a client that says farewell", frame(GOAWAY, 0, 0, &[0; 8]), Want::Closed),
        ("6.8 a farewell on a stream", frame(GOAWAY, 0, 1, &[0; 8]), ended),
        ("8.4 a push of the client's", behind(frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])), ended),
        (
            "4.2 data above the limit",
            [begun(&post()), data(0, &[b'x'; 16_385])].concat(),
            Want::Fault(FRAME_SIZE_ERROR),
        ),
        (
            "4.1 a frame of an unknown kind",
            [frame(77, 3, 9, b"whatever"), asked(&get("/"))].concat(),
            Want::Status(200),
        ),
        (
            "6.10 a head in two frames",
            [split.clone(), frame(CONTINUATION, END_HEADERS, 1, rest)].concat(),
            Want::Status(200),
        ),
        ("6.10 a continuation of nothing", frame(CONTINUATION, 4, 1, rest), ended),
        (
            "6.10 a continuation of another stream",
            [split.clone(), frame(CONTINUATION, END_HEADERS, 3, rest)].concat(),
            ended,
        ),
        ("4.3 a ping within a head", [split, frame(PING, 0, 0, b"12345678")].concat(), ended),
        ("6.1 padding above the frame", [begun(&post()), data(PADDED, b"\x09abc")].concat(), ended),
        (
            "6.1 padding",
            [begun(&post()), data(PADDED | END_STREAM, b"\x02abc\0\0")].concat(),
            Want::Body("abc"),
        ),
        (
            "4.3 a block that is none",
            frame(HEADERS, 5, 1, &[0x80]),
            Want::GoAway(COMPRESSION_ERROR),
        ),
        ("4.3 an index of nothing", frame(HEADERS, 5, 1, &[0xfe]), Want::GoAway(COMPRESSION_ERROR)),
        (
            "4.3 a block that breaks off",
            frame(HEADERS, 5, 1, &[0, 5, b'a']),
            Want::GoAway(COMPRESSION_ERROR),
        ),
    ]
}

/// Too much of something: each has a bound, and who passes it is told to be calm.
pub(crate) fn floods() -> Vec<Case> {
    let calm = Want::GoAway(ENHANCE_YOUR_CALM);
    let many = |one: Vec<u8>| one.repeat(20_000);
    let streams = |one: &dyn Fn(u32) -> Vec<u8>, count: u32| -> Vec<u8> {
        (0..count).flat_map(|n| one(2 * n + 1)).collect()
    };
    let wait = block(&get("/wait"));
    let opened = |n| frame(HEADERS, END_HEADERS, n, &wait);
    let reset = |n| [opened(n), frame(RST_STREAM, 0, n, &8_u32.to_be_bytes())].concat();
    let short = block(&with(post(), &[("content-length", "5")]));
    let broken =
        |n| [frame(HEADERS, END_HEADERS, n, &short), frame(DATA, END_STREAM, n, b"x")].concat();
    let large = "v".repeat(16_000);
    let grows = |lines: &[(&str, &str)]| frame(CONTINUATION, 0, 1, &block(lines));
    let head = frame(HEADERS, 0, 1, &block(&get("/")));
    let pinged = [frame(PING, 0, 0, &[0; 8]), frame(HEADERS, 5, 1, &block(&get("/")))].concat();
    vec![
        ("pings", many(frame(PING, 0, 0, b"12345678")), calm),
        ("settings", many(frame(SETTINGS, 0, 0, &[])), calm),
        ("priorities", many(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])), calm),
        ("windows", many(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])), calm),
        ("frames of unknown kinds", many(frame(77, 0, 0, &[])), calm),
        ("empty data", [begun(&post()), many(data(0, b""))].concat(), calm),
        ("rapid resets", streams(&reset, 3_000), calm),
        ("streams that are broken", streams(&broken, 3_000), calm),
        ("empty continuations", [head.clone(), many(grows(&[]))].concat(), calm),
        ("a head without an end", [head, grows(&[("x", &large)]).repeat(200)].concat(), calm),
        ("more streams than are allowed", streams(&opened, 140), Want::Fault(REFUSED_STREAM)),
        (
            "a head that is too large",
            frame(HEADERS, 5, 1, &block(&[get("/"), vec![("x", "0123456789"); 1_400]].concat()))
                .into_iter()
                .collect(),
            Want::Fault(FRAME_SIZE_ERROR),
        ),
        ("a few pings", pinged, Want::Status(200)),
    ]
}
