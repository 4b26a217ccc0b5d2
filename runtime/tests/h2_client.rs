//! What a server of HTTP/2 can do to the asking side, case by case, with frames written by hand:
//! a gRPC upstream that breaks the rules is a fault of that call, and never half an answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::too_many_lines, reason = "cases are data")]
#![allow(dead_code, reason = "this binary needs a part of what h2_frames needs")]

#[path = "h2_frames/wire.rs"]
mod wire;

use runtime::clock;
use runtime::http::h2::{Client, Fault, Limits};
use runtime::http::head::{Request, Response};
use runtime::io::{self, ConnectOptions, IoChoice};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PUSH_PROMISE, RST_STREAM,
    SETTINGS, block, frame,
};

/// What must come of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// Status, body, and what `x-end` says in the trailers.
    Answer(u16, &'static str, Option<&'static str>),
    /// No head.
    NoHead,
    /// A head, and then the body breaks off.
    Broken,
    /// No head, because the server gave the call up with this code.
    Reset(u32),
}

/// A case: its name, what the server sends, whether it closes then, what must come.
type Case = (&'static str, Vec<u8>, bool, Want);

const LAST: u8 = END_HEADERS | END_STREAM;

fn head(flags: u8, lines: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, 1, &block(lines))
}

fn data(flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, 1, bytes)
}

fn away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

const OK: (&str, &str) = (":status", "200");

fn answers() -> Vec<Case> {
    let begun = head(END_HEADERS, &[OK]);
    let whole = |more: &[&[u8]]| [&begun, &more.concat()[..]].concat();
    let abc = data(END_STREAM, b"abc");
    let end = head(LAST, &[("x-end", "1")]);
    let (first, rest) = (block(&[OK]), block(&[("x-a", "1")]));
    vec![
        ("nothing but a head", head(LAST, &[OK]), false, Want::Answer(200, "", None)),
        ("a body", whole(&[&abc]), false, Want::Answer(200, "abc", None)),
        (
            "a body in parts, the last one empty",
            whole(&[&data(0, b"ab"), &data(0, b"c"), &data(END_STREAM, b"")]),
            false,
            Want::Answer(200, "abc", None),
        ),
        ("trailers", whole(&[&data(0, b"abc"), &end]), false, Want::Answer(200, "abc", Some("1"))),
        (
            "interim heads",
            [head(END_HEADERS, &[(":status", "103")]), whole(&[&abc])].concat(),
            false,
            Want::Answer(200, "abc", None),
        ),
        (
            "a head in two frames",
            [frame(HEADERS, END_STREAM, 1, &first), frame(CONTINUATION, END_HEADERS, 1, &rest)]
                .concat(),
            false,
            Want::Answer(200, "", None),
        ),
        (
            "a length that is right",
            [head(END_HEADERS, &[OK, ("content-length", "3")]), abc.clone()].concat(),
            false,
            Want::Answer(200, "abc", None),
        ),
        (
            "a farewell that lets the call finish",
            [away(1, 0), whole(&[&abc])].concat(),
            false,
            Want::Answer(200, "abc", None),
        ),
        (
            "an answer before the end of the connection",
            whole(&[&abc]),
            true,
            Want::Answer(200, "abc", None),
        ),
        (
            "a frame of an unknown kind",
            [frame(99, 0, 1, b"x"), whole(&[&abc])].concat(),
            false,
            Want::Answer(200, "abc", None),
        ),
        (
            "small frames that nobody reads for a while",
            whole(&[&data(0, b"x").repeat(3_000), &end]),
            false,
            Want::Answer(200, "x".repeat(3_000).leak(), Some("1")),
        ),
    ]
}

fn faults() -> Vec<Case> {
    let begun = head(END_HEADERS, &[OK]);
    let whole = |more: &[&[u8]]| [&begun, &more.concat()[..]].concat();
    let with = |line| head(LAST, &[OK, line]);
    let large = "v".repeat(15_000);
    let grows = frame(CONTINUATION, 0, 1, &block(&[("x", &large)]));
    let length = |length| head(END_HEADERS, &[OK, ("content-length", length)]);
    let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
    vec![
        ("no status", head(LAST, &[("x-a", "1")]), false, Want::NoHead),
        ("two statuses", with((":status", "201")), false, Want::NoHead),
        ("a status of letters", head(LAST, &[(":status", "abc")]), false, Want::NoHead),
        // It should be a fault; h2 drops it without a word, so that it never gets further.
        ("a request's pseudo-header", with((":path", "/")), false, Want::Answer(200, "", None)),
        ("a capital in a name", with(("X-a", "1")), false, Want::NoHead),
        ("connection", with(("connection", "close")), false, Want::NoHead),
        ("transfer-encoding", with(("transfer-encoding", "chunked")), false, Want::NoHead),
        ("a body without a head", data(END_STREAM, b"abc"), false, Want::NoHead),
        ("an answer to nobody", frame(HEADERS, LAST, 3, &block(&[OK])), false, Want::NoHead),
        ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), false, Want::NoHead),
        (
            "no frame of HTTP/2 at all",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            true,
            Want::NoHead,
        ),
        (
            "a head that is too large",
            [frame(HEADERS, 0, 1, &block(&[OK])), grows.repeat(40)].concat(),
            false,
            Want::NoHead,
        ),
        ("the end before the head", Vec::new(), true, Want::NoHead),
        ("a farewell that leaves the call out", away(0, 0), true, Want::NoHead),
        ("refused", reset(7), false, Want::Reset(7)),
        ("given up before the head", reset(2), false, Want::Reset(2)),
        ("given up within the body", whole(&[&data(0, b"ab"), &reset(2)]), false, Want::Broken),
        ("the end within the body", whole(&[&data(0, b"ab")]), true, Want::Broken),
        ("a shorter body", [length("5"), data(END_STREAM, b"abc")].concat(), false, Want::Broken),
        ("a longer body", [length("2"), data(END_STREAM, b"abc")].concat(), false, Want::Broken),
    ]
}

/// Plays one case on one connection, behind the call's head.
fn serve(listener: &TcpListener, case: &Case) {
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let (_, bytes, closes, _) = case;
    let settings = frame(SETTINGS, 0, 0, &[]);
    let mut got = Vec::new();
    let mut room = [0; 4_096];
    socket.write_all(&settings).unwrap();
    while !has_head(&got) {
        match socket.read(&mut room) {
            Ok(count @ 1..) => got.extend_from_slice(&room[..count]),
            _ => return,
        }
    }
    let _gone = socket.write_all(bytes);
    if *closes {
        let _gone = socket.shutdown(std::net::Shutdown::Write);
    }
    while let Ok(1..) = socket.read(&mut room) {}
}

/// Whether the head of a call is among what came.
fn has_head(got: &[u8]) -> bool {
    let mut at = 24;
    while let Some(head) = got.get(at..at + 9) {
        if head[3] == HEADERS {
            return true;
        }
        at += 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    }
    false
}

/// One call, and what came of it.
async fn call(addr: SocketAddr, want: Want) -> Result<(u16, Vec<u8>, Option<Vec<u8>>), Want> {
    let (reader, writer) = io::connect(addr, &ConnectOptions::default()).await.unwrap();
    let limits = Limits::default();
    let mut client = Client::new(reader.into(), writer.into(), &limits).await.unwrap();
    client.ready().await.unwrap();
    let mut request = Request::default();
    request.set_method("POST");
    request.set_target(b"/x");
    request.fields.add("host", "a");
    let mut call = client.ask(&request, false, true).unwrap();
    let mut response = Response::default();
    let mut body = match call.response.head(&mut response).await {
        Ok(body) => body,
        Err(Fault::Reset(code)) if matches!(want, Want::Reset(_)) => return Err(Want::Reset(code)),
        Err(_) => return Err(Want::NoHead),
    };
    let mut whole = Vec::new();
    if matches!(want, Want::Answer(_, body, _) if body.len() > 1_000) {
        clock::sleep_ms(100).await;
    }
    while let Some(piece) = body.next().await {
        whole.extend_from_slice(&piece.map_err(|_| Want::Broken)?);
    }
    let trailers = body.trailers().await.map_err(|_| Want::Broken)?;
    let end = trailers.and_then(|trailers| trailers.get("x-end").map(<[u8]>::to_vec));
    Ok((response.status, whole, end))
}

#[track_caller]
fn check(cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let ports = (24_000..27_000).map(|port| port + (std::process::id() % 500) as u16);
        let mut bound = ports.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
        let listener = bound.next().unwrap();
        let addr = listener.local_addr().unwrap();
        let (name, _, _, want) = case;
        let came = std::thread::scope(|scope| {
            scope.spawn(|| serve(&listener, case));
            let asked = async { clock::within(15_000, call(addr, *want)).await };
            io::block_on_core(IoChoice::Epoll, asked).unwrap()
        });
        let met = match (&came, want) {
            (Some(Ok((status, body, end))), Want::Answer(wanted, text, last)) => {
                let end = end.as_deref();
                status == wanted && body == text.as_bytes() && end == last.map(str::as_bytes)
            }
            (Some(Err(got)), want) => got == want,
            _ => false,
        };
        if !met {
            wrong.push(format!("{name}: wanted {want:?}, came {came:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(io::panics(), 0);
}

#[test]
fn good_answers_are_understood() {
    check(&answers());
}

#[test]
fn bad_answers_are_faults() {
    check(&faults());
}
