//! Cases of h2spec beside those of `cases`: states of a stream, what may stand between the frames
//! of a head, windows, and header blocks written byte by byte. The numbers in names are sections of
//! RFC 9113, or of RFC 7541 where they begin with a letter.

use super::cases::{
    COMPRESSION_ERROR, Case, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED, Want, asked, begun,
    changed, data, get, post,
};
use super::wire::{
    ACK, CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
};

const FLAG_PRIORITY: u8 = 0x20;
const LAST: u8 = END_HEADERS | END_STREAM;

/// Shows that the connection goes on.
fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"12345678")
}

fn priority(stream: u32, on: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[15]].concat())
}

fn reset(code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &code.to_be_bytes())
}

fn windows(sizes: &[u32]) -> Vec<u8> {
    let one = |size: &u32| [&4_u16.to_be_bytes()[..], &size.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &sizes.iter().flat_map(one).collect::<Vec<_>>())
}

fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// What may come when: 5.1, 5.3, 5.5, 7.
pub(crate) fn states() -> Vec<Case> {
    let ended = Want::GoAway(PROTOCOL_ERROR);
    let bad = Want::Fault(PROTOCOL_ERROR);
    let gone = Want::Fault(STREAM_CLOSED);
    let wait = asked(&get("/wait"));
    let held = frame(HEADERS, END_HEADERS, 1, &block(&changed(post(), ":path", "/wait")));
    let rest = frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "1")]));
    let then = |parts: &[&[u8]]| parts.concat();
    let on_itself = [&[0, 0, 0, 1, 15], &block(&get("/"))[..]].concat();
    let weighed = [&[0x80, 0, 0, 0, 255], &block(&get("/"))[..]].concat();
    let padded = [&[3], &block(&get("/"))[..], &[0; 3]].concat();
    let overpadded = [&[255], &block(&get("/"))[..]].concat();
    let away = [0_u32.to_be_bytes(), 0xff_u32.to_be_bytes()].concat();
    vec![
        ("5.1 a priority on an idle stream", then(&[&priority(1, 0), &ping()]), Want::Pong),
        (
            "5.1 a head below a stream with a priority",
            then(&[&priority(5, 0), &asked(&get("/"))]),
            Want::Status(200),
        ),
        ("5.1 a priority when all was sent", then(&[&wait, &priority(1, 0), &ping()]), Want::Pong),
        ("5.1 a window when all was sent", then(&[&wait, &window(1, 100), &ping()]), Want::Pong),
        ("5.1 a reset when all was sent", then(&[&wait, &reset(8), &ping()]), Want::Pong),
        ("5.1 a continuation when all was sent", then(&[&wait, &rest]), ended),
        ("5.1 data behind a reset", then(&[&held, &reset(8), &data(END_STREAM, b"x")]), gone),
        ("5.1 a head behind a reset", then(&[&held, &reset(8), &asked(&get("/"))]), gone),
        ("5.1 a continuation behind a reset", then(&[&held, &reset(8), &rest]), ended),
        (
            "5.1 a priority behind a reset",
            then(&[&wait, &reset(8), &priority(1, 0), &ping()]),
            Want::Pong,
        ),
        (
            "5.3.1 a head that depends on itself",
            frame(HEADERS, LAST | FLAG_PRIORITY, 1, &on_itself),
            bad,
        ),
        ("5.3.1 a priority that depends on itself", then(&[&held, &priority(1, 1)]), bad),
        (
            "6.2 a head with a priority",
            frame(HEADERS, LAST | FLAG_PRIORITY, 1, &weighed),
            Want::Status(200),
        ),
        ("6.2 a head with padding", frame(HEADERS, LAST | PADDED, 1, &padded), Want::Status(200)),
        ("6.2 padding above the head", frame(HEADERS, LAST | PADDED, 1, &overpadded), ended),
        ("6.4 a reset with an unknown code", then(&[&wait, &reset(0xff), &ping()]), Want::Pong),
        (
            "6.7 a pong that nobody asked for",
            then(&[&frame(PING, ACK, 0, b"abcdefgh"), &ping()]),
            Want::Pong,
        ),
        ("6.8 a farewell with an unknown code", frame(GOAWAY, 0, 0, &away), Want::Closed),
        ("4.1 a flag that means nothing", frame(PING, 0x16, 0, b"12345678"), Want::Pong),
        ("4.1 the reserved bit", frame(PING, 0, 0x8000_0000, b"12345678"), Want::Pong),
    ]
}

/// What stands between the frames of a head, and how large frames may be: 4.2, 4.3, 6.10.
pub(crate) fn between() -> Vec<Case> {
    let ended = Want::GoAway(PROTOCOL_ERROR);
    let sized = Want::Fault(FRAME_SIZE_ERROR);
    let half = block(&get("/"));
    let (first, rest) = half.split_at(10);
    let split = frame(HEADERS, END_STREAM, 1, first);
    let rest = frame(CONTINUATION, END_HEADERS, 1, rest);
    let late = frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "1")]));
    let within = |middle: Vec<u8>| [split.clone(), middle, rest.clone()].concat();
    let other = frame(HEADERS, LAST, 3, &block(&get("/")));
    vec![
        ("4.3 a priority within a head", within(priority(1, 0)), ended),
        ("4.3 another head within a head", within(other), ended),
        ("4.3 data within a head", within(data(0, b"x")), ended),
        ("5.5 a frame of an unknown kind within a head", within(frame(77, 0, 0, b"x")), ended),
        (
            "6.10 a head in many frames",
            {
                let parts = half.chunks(20).skip(1);
                let mut all = frame(HEADERS, END_STREAM, 1, &half[..20]);
                all.extend(parts.flat_map(|part| frame(CONTINUATION, 0, 1, part)));
                all.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
                all
            },
            Want::Status(200),
        ),
        (
            "6.10 a continuation on no stream",
            {
                let stray = frame(CONTINUATION, END_HEADERS, 0, &half[10..]);
                [split.clone(), stray].concat()
            },
            ended,
        ),
        (
            "6.10 a continuation of a whole head",
            [asked(&get("/wait")), late.clone()].concat(),
            ended,
        ),
        ("6.10 one continuation too many", [within(Vec::new()), late.clone()].concat(), ended),
        ("6.10 a continuation behind data", [begun(&post()), data(0, b"x"), late].concat(), ended),
        (
            "4.2 data of the largest frame",
            [begun(&post()), data(END_STREAM, &[b'x'; 16_384])].concat(),
            Want::Body("x".repeat(16_384).leak()),
        ),
        ("4.2 a head above the limit", frame(HEADERS, LAST, 1, &[0; 16_385]), sized),
    ]
}

/// What the client's window lets through: 6.9.
pub(crate) fn flow() -> Vec<Case> {
    let sent =
        |path| [begun(&changed(post(), ":path", path)), data(END_STREAM, b"abcdef")].concat();
    let then = |parts: &[Vec<u8>]| parts.concat();
    let small = |count| [b"x".repeat(count), Vec::new()].concat();
    let many: Vec<u8> = (0..3_000).flat_map(|_| data(0, &small(1))).collect();
    let late = begun(&changed(post(), ":path", "/late"));
    let padded: Vec<u8> = (0..3_000).flat_map(|_| data(PADDED, b"\x03x\0\0\0")).collect();
    let end = data(END_STREAM, b"");
    vec![
        ("6.9.1 a window of one byte", then(&[windows(&[1]), sent("/echo")]), Want::Data("a")),
        (
            "6.5.3 the last of two windows",
            then(&[windows(&[100, 1]), sent("/echo")]),
            Want::Data("a"),
        ),
        (
            "6.9.2 a window that is set later",
            then(&[windows(&[0]), sent("/echo"), windows(&[1])]),
            Want::Data("a"),
        ),
        (
            "6.9.2 a window below nothing",
            then(&[windows(&[3]), sent("/echo"), windows(&[2]), window(1, 2)]),
            Want::Data("abcd"),
        ),
        (
            "6.9 small frames that nobody reads for a while",
            then(&[late.clone(), many, end.clone()]),
            Want::Body("x".repeat(3_000).leak()),
        ),
        (
            "6.9 the same with padding",
            then(&[late, padded, end]),
            Want::Body("x".repeat(3_000).leak()),
        ),
    ]
}

/// Header blocks byte by byte: RFC 7541.
pub(crate) fn blocks() -> Vec<Case> {
    let bad = Want::GoAway(COMPRESSION_ERROR);
    let with = |path: &'static str, before: &[u8], behind: &[u8]| {
        frame(HEADERS, LAST, 1, &[before, &block(&get(path)), behind].concat())
    };
    let behind = |bytes: &[u8]| with("/cookie", &[], bytes);
    let cookie = |first: u8| [&[first, 6][..], b"cookie", &[3], b"a=1"].concat();
    // 32 is the place of `cookie` in the static table.
    let named = |first: &[u8]| [first, &[3], b"a=1"].concat();
    let one = Want::Body("a=1");
    vec![
        ("H6.2.1 a new name, indexed", behind(&cookie(0x40)), one),
        ("H6.2.1 a known name, indexed", behind(&named(&[0x60])), one),
        ("H6.2.2 a new name, not indexed", behind(&cookie(0)), one),
        ("H6.2.2 a known name, not indexed", behind(&named(&[0x0f, 17])), one),
        ("H6.2.3 a new name, never indexed", behind(&cookie(0x10)), one),
        ("H6.2.3 a known name, never indexed", behind(&named(&[0x1f, 17])), one),
        (
            "H6.1 a line of the dynamic table",
            behind(&[&cookie(0x40)[..], &[0xbe]].concat()),
            Want::Body("a=1; a=1"),
        ),
        ("H5.2 a value in Huffman's code", behind(&[0x60, 0x82, 0x1c, 0x01]), one),
        ("H6.3 a smaller table", with("/", &[0x20], &[]), Want::Status(200)),
        (
            "H6.3 a smaller table, and the usual",
            with("/", &[0x20, 0x3f, 0xe1, 0x1f], &[]),
            Want::Status(200),
        ),
        ("H6.3 a larger table than was offered", with("/", &[0x3f, 0xe1, 0x7f], &[]), bad),
        ("H4.2 a table's size behind a line", behind(&[0x20]), bad),
        ("H2.3.3 a name of nothing", behind(&[0x7f, 7, 1, b'a']), bad),
        ("H5.2 padding of more than seven bits", behind(&[0x60, 0x82, 0x1f, 0xff]), bad),
        ("H5.2 padding with zeros", behind(&[0x60, 0x81, 0x18]), bad),
        ("H5.2 the end of Huffman's code", behind(&[0x60, 0x84, 0xff, 0xff, 0xff, 0xff]), bad),
        ("H5.1 an integer without an end", behind(&[0xff; 20]), bad),
    ]
}
