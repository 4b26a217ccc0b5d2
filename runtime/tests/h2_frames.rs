//! What an adapter on h2 can break, case by case, with frames written by hand: pseudo-headers,
//! connection headers, lengths, trailers, misplaced frames, windows, floods. The cases cover what
//! h2spec asks of a server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::too_many_lines, reason = "cases are data")]

#[path = "h2_frames/cases.rs"]
mod cases;
#[path = "h2_frames/states.rs"]
mod states;
#[path = "h2_frames/wire.rs"]
mod wire;

use cases::{Case, Want};
use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::h2::{Limits, PREFACE, Stream, serve};
use runtime::http::head::Response;
use runtime::io::{self, IoChoice, Listener};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use wire::{ACK, Came, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame, talk};

/// Answers by path: `/wait` never, `/cookie` with its cookies, others with the request's body, which
/// `/late` begins to read late.
async fn answer(mut stream: Stream) {
    let mut response = Response::default();
    response.status = 200;
    if let Some(fault) = stream.fault {
        response.status = fault.status();
        let _gone = stream.reply.head(&response, true);
        return;
    }
    let mut body = Vec::new();
    match stream.request.target() {
        b"/wait" => drop(stream.reply.given_up().await),
        b"/cookie" => body.extend_from_slice(stream.request.fields.get("cookie").unwrap()),
        target => {
            if target == b"/late" {
                clock::sleep_ms(100).await;
            }
            while let Some(piece) = stream.body.next().await {
                let Ok(piece) = piece else { return };
                body.extend_from_slice(&piece);
            }
            if stream.body.trailers().await.is_err() {
                return;
            }
        }
    }
    if stream.reply.head(&response, false).is_ok()
        && stream.reply.piece(Piece::from_vec(body)).await.is_ok()
    {
        let _gone = stream.reply.end();
    }
}

/// Whether what came is what a case wants; none while more must come.
fn is_met(want: Want, came: &[Came], ended: bool) -> Option<bool> {
    let own = || came.iter().filter(|frame| frame.stream == 1);
    let reset = came.iter().find(|frame| frame.kind == RST_STREAM).map(Came::code);
    let away = came.iter().find(|frame| frame.kind == GOAWAY && frame.code() != 0).map(Came::code);
    let status = own().find(|frame| frame.kind == HEADERS).map(Came::status);
    let whole = own().any(|f| matches!(f.kind, HEADERS | DATA) && f.flags & END_STREAM != 0);
    let data = own().filter(|frame| frame.kind == DATA);
    let body: Vec<u8> = data.flat_map(|frame| frame.payload.clone()).collect();
    let nothing = ended.then_some(false);
    match want {
        Want::Status(_) | Want::Body(_) | Want::Data(_) if reset.or(away).is_some() => Some(false),
        Want::Status(wanted) => status.map(|status| status == wanted).or(nothing),
        Want::Body(wanted) if whole => Some(status == Some(200) && body == wanted.as_bytes()),
        Want::Data(wanted) if body.len() >= wanted.len() => Some(body == wanted.as_bytes()),
        Want::Data(_) => nothing,
        Want::Body(_) => nothing,
        Want::Fault(code) => reset.or(away).map(|got| is_code(got, code)).or(nothing),
        Want::GoAway(code) => away.map(|got| is_code(got, code)).or(nothing),
        Want::Refused => {
            let refused = status.map(|status| matches!(status, 400..=499 | 501));
            reset.or(away).map(|_| true).or(refused).or(nothing)
        }
        Want::Pong => {
            let pong = |frame: &Came| frame.kind == PING && frame.flags == ACK;
            let found = came.iter().find(|frame| pong(frame));
            found.map(|frame| frame.payload == b"12345678").or(nothing)
        }
        Want::Closed => ended.then_some(away.is_none() && reset.is_none()),
    }
}

/// Whether a code is the wanted one. h2 says PROTOCOL_ERROR where a narrower code is meant for
/// faults of frames; h2spec takes that, too, if the connection ends.
fn is_code(got: u32, wanted: u32) -> bool {
    got == wanted || got == cases::PROTOCOL_ERROR && wanted < cases::ENHANCE_YOUR_CALM
}

/// Serves on a core of its own and sends each case on a connection of its own.
#[track_caller]
fn check(cases: &[Case]) {
    let (tell, told) = mpsc::channel::<SocketAddr>();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let server = std::thread::spawn(move || {
        io::block_on_core(IoChoice::Epoll, async {
            let bound = (21_000..24_000)
                .map(|port| port + (std::process::id() % 500) as u16)
                .find_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok());
            let mut listener = Listener::new(bound.unwrap()).unwrap();
            tell.send(listener.local_addr()).unwrap();
            io::spawn(async move {
                loop {
                    let (reader, writer, _) = listener.accept().await.unwrap();
                    let limits = Limits { linger_ms: 100, ..Limits::default() };
                    io::spawn(async move {
                        let first = Piece::empty();
                        let (reader, writer) = (reader.into(), writer.into());
                        let served = serve(reader, writer, first, &limits, || false, answer);
                        let _ended = served.await;
                    });
                }
            });
            while !stopped.load(Ordering::SeqCst) {
                clock::sleep_ms(10).await;
            }
        })
        .unwrap();
    });
    let addr = told.recv().unwrap();
    let start = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let mut wrong = Vec::new();
    for (name, bytes, want) in cases {
        let enough = |came: &[Came]| is_met(*want, came, false).is_some();
        let (came, ended) = talk(addr, &[&start, &**bytes].concat(), enough);
        if is_met(*want, &came, ended) != Some(true) {
            let end = if ended { " and the end" } else { "" };
            let few = &came[..came.len().min(12)];
            wrong.push(format!("{name}: wanted {want:?}, came {few:?}{end}"));
        }
    }
    stop.store(true, Ordering::SeqCst);
    server.join().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(io::panics(), 0);
}

#[test]
fn heads_are_refused_as_strictly_as_in_http_1() {
    check(&cases::heads());
}

#[test]
fn bodies_are_as_long_as_they_say() {
    check(&cases::bodies());
}

#[test]
fn misplaced_frames_end_the_stream_or_the_connection() {
    check(&cases::frames());
}

#[test]
fn each_state_takes_its_frames_and_no_others() {
    check(&states::states());
    check(&states::between());
}

#[test]
fn windows_hold_and_small_frames_do_no_harm() {
    check(&states::flow());
}

#[test]
fn header_blocks_are_read_by_the_letter() {
    check(&states::blocks());
}

#[test]
fn floods_end_the_connection() {
    check(&cases::floods());
}
