//! HTTP/2 over real sockets on each driver, against the h2 crate's own client and ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a whole file of tests")]

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::h2::{Client, Fault, Limits, PREFACE, Preface, Stream, preface, serve};
use runtime::http::head;
use runtime::io::{self, ConnectOptions, IoChoice, Listener};
use runtime::tls;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// What the server side tells the test.
#[derive(Default)]
struct Seen {
    draining: AtomicBool,
    /// Streams that were given up by the client.
    resets: AtomicUsize,
    /// How connections ended.
    ends: Mutex<Vec<Result<(), Fault>>>,
}

/// Answers by path: `/echo` the body as it comes, `/size/N` N bytes, `/head` the head as text,
/// `/wait` never, `/broken` half an answer. A faulty head gets its status.
async fn answer(mut stream: Stream, seen: Arc<Seen>) {
    let mut response = head::Response::default();
    response.status = 200;
    response.fields.add("Connection", "close");
    response.fields.add("X-Framing", format!("{:?}", stream.framing));
    let target = String::from_utf8_lossy(stream.request.target()).into_owned();
    if let Some(fault) = stream.fault {
        response.status = fault.status();
        let _ = stream.reply.head(&response, true);
        return;
    }
    if let Some(size) = target.strip_prefix("/size/") {
        let mut left: usize = size.parse().unwrap();
        stream.reply.head(&response, false).unwrap();
        while left > 0 {
            let piece = Piece::from_vec(vec![b's'; left.min(50_000)]);
            left -= piece.len();
            if stream.reply.piece(piece).await.is_err() {
                return;
            }
        }
        stream.reply.end().unwrap();
        return;
    }
    match target.as_str() {
        "/head" => {
            let mut text = format!("{} {target}", stream.request.method());
            for (name, value) in stream.request.fields.iter() {
                let text_of = |bytes| String::from_utf8_lossy(bytes).into_owned();
                text += &format!("|{}={}", text_of(name), text_of(value));
            }
            stream.reply.head(&response, false).unwrap();
            stream.reply.piece(Piece::from_vec(text.into_bytes())).await.unwrap();
            stream.reply.end().unwrap();
        }
        "/wait" => {
            let fault = stream.reply.given_up().await;
            assert!(matches!(fault, Fault::Reset(_)), "{fault}");
            seen.resets.fetch_add(1, Ordering::SeqCst);
        }
        "/broken" => {
            stream.reply.head(&response, false).unwrap();
            stream.reply.piece(Piece::from_static(b"half")).await.unwrap();
            clock::sleep_ms(20).await;
            stream.reply.reset();
        }
        _ => echo(stream, &response, &seen).await,
    }
}

async fn echo(mut stream: Stream, response: &head::Response, seen: &Seen) {
    if stream.reply.head(response, false).is_err() {
        seen.resets.fetch_add(1, Ordering::SeqCst);
        return;
    }
    let mut count = 0;
    while let Some(piece) = stream.body.next().await {
        let Ok(piece) = piece else {
            seen.resets.fetch_add(1, Ordering::SeqCst);
            return;
        };
        count += piece.len();
        if stream.reply.piece(piece).await.is_err() {
            return;
        }
    }
    let mut trailers = stream.body.trailers().await.unwrap().unwrap_or_default();
    trailers.add("x-count", count.to_string());
    stream.reply.trailers(&trailers).unwrap();
}

fn listener() -> Listener {
    let first = 25_000 + (std::process::id() % 3_000) as u16;
    let bound = (first..first + 3_000)
        .find_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    Listener::new(bound.expect("a free port")).unwrap()
}

/// Runs a server on a core of its own and `client` against it, with every driver there is.
fn check<C, F>(limits: &Limits, client: C)
where
    C: Fn(SocketAddr, Arc<Seen>) -> F,
    F: Future<Output = ()>,
{
    for &choice in IoChoice::EACH {
        let seen = Arc::new(Seen::default());
        let (tell, told) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let server = std::thread::spawn({
            let (limits, seen, stop) = (*limits, Arc::clone(&seen), Arc::clone(&stop));
            move || {
                io::block_on_core(choice, async {
                    let listener = listener();
                    tell.send(listener.local_addr()).unwrap();
                    io::spawn(accept(listener, limits, seen));
                    while !stop.load(Ordering::SeqCst) {
                        clock::sleep_ms(10).await;
                    }
                })
                .unwrap();
            }
        });
        let addr = told.recv().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let limit = Duration::from_secs(60);
            tokio::time::timeout(limit, client(addr, seen)).await.expect("the client hangs");
        });
        stop.store(true, Ordering::SeqCst);
        server.join().unwrap();
        assert_eq!(io::panics(), 0, "{choice:?}");
    }
}

async fn accept(mut listener: Listener, limits: Limits, seen: Arc<Seen>) {
    loop {
        let (reader, writer, _) = listener.accept().await.unwrap();
        let seen = Arc::clone(&seen);
        io::spawn(async move {
            let asked = Arc::clone(&seen);
            let draining = move || asked.draining.load(Ordering::SeqCst);
            let ends = Arc::clone(&seen);
            let on_stream = move |stream| answer(stream, Arc::clone(&seen));
            let first = Piece::empty();
            let end = serve(reader.into(), writer.into(), first, &limits, draining, on_stream);
            let end = end.await;
            ends.ends.lock().unwrap().push(end);
        });
    }
}

type Driving = tokio::task::JoinHandle<Result<(), h2::Error>>;

async fn connect(addr: SocketAddr) -> (SendRequest<Bytes>, Driving) {
    let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    // A window per connection far above that of a stream: one stuck stream leaves room for others.
    let mut builder = client::Builder::new();
    builder.initial_connection_window_size(1 << 20);
    let (send, connection) = builder.handshake(socket).await.unwrap();
    (send, tokio::spawn(connection))
}

fn request(method: &str, target: &str) -> Request<()> {
    let uri = format!("http://Shop.test:81{target}");
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

async fn body_of(response: Response<RecvStream>) -> (Vec<u8>, Option<HeaderMap>) {
    let (mut body, mut all) = (response.into_body(), Vec::new());
    while let Some(bytes) = body.data().await {
        let bytes = bytes.unwrap();
        body.flow_control().release_capacity(bytes.len()).unwrap();
        all.extend_from_slice(&bytes);
    }
    (all, body.trailers().await.unwrap())
}

async fn get(send: &mut SendRequest<Bytes>, request: Request<()>) -> Response<RecvStream> {
    poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
    send.send_request(request, true).unwrap().0.await.unwrap()
}

/// Sends `size` bytes to `/echo` as the window allows; gives what came back.
async fn post(mut send: SendRequest<Bytes>, size: usize, trailers: Option<HeaderMap>) -> Vec<u8> {
    poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
    let (response, mut stream) = send.send_request(request("POST", "/echo"), false).unwrap();
    let sending = async {
        let mut place = 0;
        while place < size {
            stream.reserve_capacity(size - place);
            let room = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
            let bytes: Vec<u8> =
                (place..place + room.min(size - place)).map(|at| (at % 251) as u8).collect();
            place += bytes.len();
            stream.send_data(bytes.into(), place == size && trailers.is_none()).unwrap();
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).unwrap();
        }
    };
    let receiving = async { body_of(response.await.unwrap()).await };
    let ((), (body, trailers)) = tokio::join!(sending, receiving);
    let count = trailers.unwrap()["x-count"].to_str().unwrap().to_owned();
    assert_eq!(count, size.to_string());
    body
}

#[test]
fn heads_come_as_in_http_1() {
    check(&Limits::default(), |addr, _| async move {
        let (mut send, _driving) = connect(addr).await;
        let mut asked = request("GET", "/head");
        let lines = asked.headers_mut();
        lines.append("cookie", "a=1".parse().unwrap());
        lines.append("x-two", "1".parse().unwrap());
        lines.append("cookie", "b=2".parse().unwrap());
        lines.append("x-two", "2".parse().unwrap());
        lines.append("x.odd", "dropped".parse().unwrap());
        lines.append("te", "trailers".parse().unwrap());
        let response = get(&mut send, asked).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-framing"], "None");
        assert!(!response.headers().contains_key("connection"));
        let (body, _) = body_of(response).await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!(text, "GET /head|host=Shop.test:81|x-two=1|x-two=2|te=trailers|cookie=a=1; b=2");
    });
}

#[test]
fn faulty_heads_get_their_status() {
    check(&Limits::default(), |addr, _| async move {
        let (mut send, _driving) = connect(addr).await;
        let mut asked = request("GET", "/head");
        asked.headers_mut().append("host", "other".parse().unwrap());
        assert_eq!(get(&mut send, asked).await.status(), 400);
        let mut asked = request("GET", "/head");
        asked.headers_mut().append("transfer_encoding", "chunked".parse().unwrap());
        assert_eq!(get(&mut send, asked).await.status(), 400);
        for (method, target, status) in [
            ("TRACE", "/", 405),
            ("get", "/", 400),
            ("GET", "/../x", 400),
            ("GET", "/%zz", 400),
            ("GET", "/%00", 400),
            ("GET", "/size/0", 200),
        ] {
            let response = get(&mut send, request(method, target)).await;
            assert_eq!(response.status(), status, "{method} {target}");
        }
    });
}

#[test]
fn bodies_go_both_ways_at_once() {
    check(&Limits::default(), |addr, _| async move {
        let (mut send, _driving) = connect(addr).await;
        let size = 3_000_000;
        let whole: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let posts: Vec<_> =
            (0..8).map(|n| tokio::spawn(post(send.clone(), size - n * 100_000, None))).collect();
        let (body, _) = body_of(get(&mut send, request("GET", "/size/5000000")).await).await;
        assert!(body.len() == 5_000_000 && body.iter().all(|&b| b == b's'));
        for (n, post) in posts.into_iter().enumerate() {
            assert!(post.await.unwrap() == whole[..size - n * 100_000], "post {n}");
        }
    });
}

#[test]
fn trailers_pass_and_a_length_is_known() {
    check(&Limits::default(), |addr, _| async move {
        let (mut send, _driving) = connect(addr).await;
        let mut trailers = HeaderMap::new();
        trailers.append("grpc-status", "0".parse().unwrap());
        assert_eq!(post(send.clone(), 10, Some(trailers)).await.len(), 10);
        let mut asked = request("POST", "/echo");
        asked.headers_mut().append("content-length", "5".parse().unwrap());
        poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
        let (response, mut stream) = send.send_request(asked, false).unwrap();
        stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["x-framing"], "Length(5)");
        assert_eq!(body_of(response).await.0, b"hello");
    });
}

#[test]
fn a_stream_may_end_early_on_either_side() {
    check(&Limits::default(), |addr, seen| async move {
        let (mut send, _driving) = connect(addr).await;
        for target in ["/wait", "/echo"] {
            poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
            let (_response, mut stream) =
                send.send_request(request("POST", target), false).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.send_reset(Reason::CANCEL);
        }
        while seen.resets.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut body = get(&mut send, request("GET", "/broken")).await.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "half");
        let end = body.data().await.unwrap().unwrap_err();
        assert_eq!(end.reason(), Some(Reason::INTERNAL_ERROR));
        // The connection lives on.
        assert_eq!(get(&mut send, request("GET", "/size/1")).await.status(), 200);
    });
}

/// A client that does not read stops the server; nothing is piled up, nothing hangs for others.
#[test]
fn a_client_that_does_not_read_holds_up_only_itself() {
    check(&Limits::default(), |addr, _| async move {
        let (mut send, _driving) = connect(addr).await;
        let stuck = get(&mut send, request("GET", "/size/10000000")).await;
        let (body, _) = body_of(get(&mut send, request("GET", "/head")).await).await;
        assert!(!body.is_empty());
        let (body, _) = body_of(stuck).await;
        assert_eq!(body.len(), 10_000_000);
    });
}

async fn ends(seen: &Seen) -> Vec<Result<(), Fault>> {
    loop {
        let ends = std::mem::take(&mut *seen.ends.lock().unwrap());
        if !ends.is_empty() {
            return ends;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends bytes that no good client would send; gives how the connection ended.
async fn attack(addr: SocketAddr, seen: &Seen, bytes: &[u8]) -> Vec<Result<(), Fault>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let reading = tokio::spawn(async move {
        let mut told = Vec::new();
        let _ = reader.read_to_end(&mut told).await;
    });
    let _ = writer.write_all(bytes).await;
    let ends = ends(seen).await;
    reading.await.unwrap();
    ends
}

#[test]
fn attacks_end_the_connection() {
    let calm = Fault::Connection(u32::from(Reason::ENHANCE_YOUR_CALM));
    let broken = Fault::Connection(u32::from(Reason::PROTOCOL_ERROR));
    let start = [PREFACE, &frame(4, 0, 0, &[])].concat();
    // `GET /wait` of `a` without an end: HPACK indices 2, 6, 4 and 1.
    let ask = b"\x82\x86\x04\x05/wait\x41\x01a";
    let cancel = u32::from(Reason::CANCEL).to_be_bytes();
    let rapid_reset: Vec<u8> = (0..2_000)
        .flat_map(|n| [frame(1, 4, 2 * n + 1, ask), frame(3, 0, 2 * n + 1, &cancel)].concat())
        .collect();
    let endless_head: Vec<u8> = std::iter::once(frame(1, 0, 1, ask))
        .chain(
            (0..100)
                .map(|_| frame(9, 0, 1, &[b"\x40\x01a\x7f\xff\x7d", &[b'v'; 16_000][..]].concat())),
        )
        .flatten()
        .collect();
    let attacks = [
        (rapid_reset, calm),
        (endless_head, broken),
        (frame(0, 0, 1, b"data of no stream"), broken),
    ];
    let attacks: Vec<(Vec<u8>, Fault)> = attacks
        .into_iter()
        .map(|(bytes, fault)| ([start.clone(), bytes].concat(), fault))
        .chain([(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), broken)])
        .collect();
    let limits = Limits { linger_ms: 200, ..Limits::default() };
    check(&limits, |addr, seen| {
        let attacks = attacks.clone();
        async move {
            for (number, (bytes, fault)) in attacks.into_iter().enumerate() {
                assert_eq!(attack(addr, &seen, &bytes).await, [Err(fault)], "attack {number}");
            }
        }
    });
}

#[test]
fn heads_and_streams_have_limits() {
    let mut limits = Limits { streams_max: 3, ..Limits::default() };
    limits.head.head_bytes_max = 4_000;
    check(&limits, |addr, _| async move {
        let (mut send, _driving) = connect(addr).await;
        assert_eq!(get(&mut send, request("GET", "/size/1")).await.status(), 200);
        let mut asked = request("GET", "/head");
        asked.headers_mut().append("x-large", "v".repeat(5_000).parse().unwrap());
        assert_eq!(get(&mut send, asked).await.status(), 431);
        let waiting: Vec<_> =
            (0..3).map(|_| send.send_request(request("GET", "/wait"), true).unwrap()).collect();
        // The client holds the fourth back, as it was told to.
        let mut fourth =
            tokio::spawn(async move { get(&mut send, request("GET", "/size/1")).await.status() });
        let early = tokio::time::timeout(Duration::from_millis(100), &mut fourth).await;
        assert!(early.is_err());
        drop(waiting);
        assert_eq!(fourth.await.unwrap(), 200);
    });
}

#[test]
fn draining_lets_open_streams_finish_and_ends() {
    check(&Limits::default(), |addr, seen| async move {
        let (mut send, driving) = connect(addr).await;
        let response = get(&mut send, request("GET", "/size/2000000")).await;
        seen.draining.store(true, Ordering::SeqCst);
        assert_eq!(body_of(response).await.0.len(), 2_000_000);
        driving.await.unwrap().unwrap();
        assert_eq!(ends(&seen).await, [Ok(())]);
    });
}

#[test]
fn an_idle_or_silent_client_is_let_go() {
    let limits = Limits { idle_ms: 100, linger_ms: 100, ..Limits::default() };
    check(&limits, |addr, seen| async move {
        let (mut send, driving) = connect(addr).await;
        assert_eq!(get(&mut send, request("GET", "/size/1")).await.status(), 200);
        let _ = driving.await.unwrap();
        assert_eq!(ends(&seen).await.len(), 1);
        let silent = tokio::net::TcpStream::connect(addr).await.unwrap();
        assert_eq!(ends(&seen).await.len(), 1);
        drop(silent);
    });
}

#[test]
fn a_connection_has_a_last_request() {
    let limits = Limits { requests_max: 3, ..Limits::default() };
    check(&limits, |addr, seen| async move {
        let (mut send, driving) = connect(addr).await;
        for _ in 0..3 {
            assert_eq!(get(&mut send, request("GET", "/size/1")).await.status(), 200);
        }
        driving.await.unwrap().unwrap();
        assert_eq!(ends(&seen).await, [Ok(())]);
    });
}

#[test]
fn prefaces() {
    assert_eq!(preface(b""), Preface::Partial);
    assert_eq!(preface(b"P"), Preface::Partial);
    assert_eq!(preface(b"POST / HTTP/1.1\r\n"), Preface::No);
    assert_eq!(preface(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), Preface::Partial);
    assert_eq!(preface(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"), Preface::Yes);
    assert_eq!(preface(b"PRI * HTTP/1.1\r\n\r\n"), Preface::No);
}

/// Our own two roles against each other, plain and under TLS with ALPN.
async fn ours_against_ours(https: bool) {
    let mut front = listener();
    let addr = front.local_addr();
    let (chain, key) = tls::self_signed(&["shop.test"]).unwrap();
    let identity = tls::Identity::from_pem(&chain, &key).unwrap();
    let plan = tls::AcceptorPlan {
        names: tls::Names::new(vec![identity]),
        http2: true,
        versions: tls::Versions::default(),
    };
    let acceptor = tls::Acceptor::new(&plan).unwrap();
    let seen = Arc::new(Seen::default());
    let served = Arc::clone(&seen);
    io::spawn(async move {
        let (reader, writer, _) = front.accept().await.unwrap();
        let answers = Arc::clone(&served);
        let on_stream = move |stream| answer(stream, Arc::clone(&answers));
        let (reader, writer) = if https {
            let (reader, writer, greeting) =
                acceptor.accept(reader, writer, Piece::empty()).await.unwrap();
            assert!(greeting.http2);
            (reader.into(), writer.into())
        } else {
            (reader.into(), writer.into())
        };
        let limits = Limits::default();
        let end = serve(reader, writer, Piece::empty(), &limits, || false, on_stream).await;
        served.ends.lock().unwrap().push(end);
    });
    let (reader, writer) = io::connect(addr, &ConnectOptions::default()).await.unwrap();
    let (reader, writer) = if https {
        let plan = tls::ConnectorPlan { http2: true, ..tls::ConnectorPlan::default() };
        let connector = tls::Connector::new(plan).unwrap();
        let (reader, writer, greeting) =
            connector.connect(reader, writer, "shop.test").await.unwrap();
        assert!(greeting.http2);
        (reader.into(), writer.into())
    } else {
        (reader.into(), writer.into())
    };
    let client = Client::new(reader, writer, &Limits::default()).await.unwrap();
    for size in [0, 10, 1_500_000] {
        call_echo(client.clone(), https, size).await;
    }
    let mut unasked = head::Request::default();
    assert_eq!(client.clone().ask(&unasked, https, true).err(), Some(Fault::Misuse));
    unasked.fields.add("Host", "a b");
    assert_eq!(client.clone().ask(&unasked, https, true).err(), Some(Fault::Misuse));
    assert!(!client.is_ended());
    drop(client);
    while seen.ends.lock().unwrap().is_empty() {
        clock::sleep_ms(10).await;
    }
    assert_eq!(*seen.ends.lock().unwrap(), [Ok(())]);
}

async fn call_echo(mut client: Client, https: bool, size: usize) {
    let mut request = head::Request::default();
    request.set_method("POST");
    request.set_target(b"/echo");
    for (name, value) in [("Host", "shop.test"), ("TE", "trailers"), ("Connection", "close")] {
        request.fields.add(name, value);
    }
    client.ready().await.unwrap();
    let mut call = client.ask(&request, https, false).unwrap();
    let mut response = head::Response::default();
    let mut body = call.response.head(&mut response).await.unwrap();
    assert_eq!((response.status, response.fields.get("x-framing")), (200, Some(&b"Chunked"[..])));
    let whole: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let mut sender = call.sender;
    let sent = whole.clone();
    io::spawn(async move {
        for part in sent.chunks(30_000) {
            sender.piece(Piece::from_vec(part.to_vec())).await.unwrap();
        }
        sender.end().unwrap();
    });
    let mut back = Vec::new();
    while let Some(piece) = body.next().await {
        back.extend_from_slice(&piece.unwrap());
    }
    assert!(back == whole, "{size} bytes");
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("x-count"), Some(size.to_string().as_bytes()));
}

#[test]
fn both_roles_speak_to_each_other_plain_and_under_tls() {
    for &choice in IoChoice::EACH {
        for https in [false, true] {
            io::block_on_core(choice, async {
                clock::within(30_000, ours_against_ours(https)).await.expect("it hangs");
            })
            .unwrap();
        }
    }
    assert_eq!(io::panics(), 0);
}
