//! Any frames from a client of HTTP/2: no panic, no hang, and the connection ends when the client
//! does. The first byte says whether the rest is raw bytes or frames, and how the wire behaves.
#![no_main]

use std::cell::Cell;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use runtime::buffers::{Page, Pages, Piece};
use runtime::clock;
use runtime::http::h2::{Limits, PREFACE, Stream, serve};
use runtime::http::head::Response;
use runtime::io::script::{self, Plan};
use runtime::io::{self, ConnectOptions};

const ADDR: ([u8; 4], u16) = ([192, 0, 2, 7], 80);
/// How long one connection may take, in its own time.
const LIFE_MS_MAX: u64 = 600_000;

/// Frames out of arbitrary bytes: kind, flags, stream, length, payload.
fn frames(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, flags, stream, length, rest @ ..] = input {
        let (payload, after) = rest.split_at(usize::from(*length).min(rest.len()));
        out.extend([0, 0, payload.len() as u8, kind % 12, *flags, 0, 0, 0, stream % 16]);
        out.extend_from_slice(payload);
        input = after;
    }
    out
}

/// Sends the body back; a faulty head gets its status.
async fn answer(mut stream: Stream) {
    let mut response = Response::default();
    response.status = stream.fault.map_or(200, |fault| fault.status());
    if stream.reply.head(&response, stream.fault.is_some()).is_err() || stream.fault.is_some() {
        return;
    }
    while let Some(Ok(piece)) = stream.body.next().await {
        let sent = clock::within(1_000, stream.reply.piece(piece)).await;
        if !matches!(sent, Some(Ok(()))) {
            return;
        }
    }
    if let Ok(trailers) = stream.body.trailers().await {
        let _gone = stream.reply.trailers(&trailers.unwrap_or_default());
    }
}

async fn live(sent: Vec<u8>) {
    let Ok(mut listener) = io::listen(ADDR.into()) else { unreachable!("nobody listens there") };
    let ended = Rc::new(Cell::new(false));
    let over = Rc::clone(&ended);
    io::spawn(async move {
        let Ok((reader, writer, _)) = listener.accept().await else { return };
        let limits = Limits { idle_ms: 2_000, linger_ms: 500, ..Limits::default() };
        let first = Piece::empty();
        let served = serve(reader.into(), writer.into(), first, &limits, || false, answer);
        let _fault = served.await;
        over.set(true);
    });
    let Ok((mut reader, mut writer)) = io::connect(ADDR.into(), &ConnectOptions::default()).await
    else {
        unreachable!("somebody listens")
    };
    io::spawn(async move { while let (Ok(1..), _) = reader.read(Page::take()).await {} });
    if writer.write(Pages::from_iter([Piece::from_vec(sent)])).await.is_ok() {
        let _gone = writer.shutdown().await;
    }
    let all = async {
        while !ended.get() {
            clock::sleep_ms(100).await;
        }
    };
    assert!(clock::within(LIFE_MS_MAX, all).await.is_some(), "the connection does not end");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, input)) = bytes.split_first() else { return };
    let start = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let more = if mode & 1 == 0 { input.to_vec() } else { frames(input) };
    let plan = if mode & 2 == 0 { Plan::calm(7) } else { Plan::rough(u64::from(mode)) };
    let lived = script::run(&plan, live([start, more].concat()));
    assert!(lived.is_ok(), "it hangs: {lived:?}");
});
