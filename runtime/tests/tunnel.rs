//! The proof of the drivers: a tunnel with both directions busy, the same body on each of them.
//!
//! A client and an upstream send each other several megabytes at the same time through a tunnel of
//! two pumps; every byte must arrive, in order, and both ends must end.

#![allow(clippy::expect_used, clippy::panic)] // a test may

use runtime::buffers::{Page, Pages, Piece};
use runtime::clock;
use runtime::io::{self, ConnectOptions, IoChoice, IoKind, Listener, script};
use runtime::tls::{self, Acceptor, AcceptorPlan, Connector, ConnectorPlan, Identity, Names};
use runtime::wire::{WireReader, WireWriter};
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

const STREAM_BYTES: usize = 6 * 1024 * 1024 + 123;

/// Listens where nobody else does; below the ports that the kernel gives to connecting sockets.
fn listener() -> Listener {
    let first = 21_000 + (std::process::id() % 4_000) as u16;
    let mut ports = first..first + 2_000;
    let free = ports.find_map(|port| io::listen(([127, 0, 0, 1], port).into()).ok());
    free.expect("a free port")
}

/// The byte at `place` of the stream with `key`.
fn byte(key: usize, place: usize) -> u8 {
    ((place * 31 + key * 7 + place / 251) % 256) as u8
}

/// Sends the whole stream in lists of one to six pieces of uneven lengths, then ends.
async fn send(mut writer: WireWriter, key: usize) {
    let mut place = 0;
    while place < STREAM_BYTES {
        let mut pages = Pages::new();
        for n in 0..1 + place % 6 {
            let len = (1 + (place * 13 + n * 5_001) % 20_000).min(STREAM_BYTES - place);
            pages.push(Piece::from_vec((place..place + len).map(|at| byte(key, at)).collect()));
            place += len;
        }
        writer.write(pages).await.expect("a write");
    }
    writer.shutdown().await.expect("a half close");
}

/// Receives until the end and compares every byte.
async fn receive(mut reader: WireReader, key: usize) -> usize {
    let mut place = 0;
    loop {
        reader.readable().await.expect("readiness");
        let (count, page) = reader.read(Page::take()).await;
        if count.expect("a read") == 0 {
            return place;
        }
        for got in page.bytes() {
            assert_eq!(*got, byte(key, place), "stream {key}, byte {place}");
            place += 1;
        }
    }
}

/// Carries one direction of the tunnel.
async fn pump(mut from: WireReader, mut to: WireWriter) {
    loop {
        let (count, page) = from.read(Page::take()).await;
        if count.expect("a read in the tunnel") == 0 {
            break;
        }
        let mut pages = Pages::new();
        pages.push(page.freeze());
        to.write(pages).await.expect("a write in the tunnel");
    }
    to.shutdown().await.expect("the end passes through the tunnel");
}

/// How the connections are made: plain, or TLS with both roles of it.
type Tls = Option<(Acceptor, Connector)>;

async fn accept(listener: &mut Listener, tls: &Tls) -> (WireReader, WireWriter) {
    let (reader, writer, _) = listener.accept().await.expect("a client");
    match tls {
        None => (reader.into(), writer.into()),
        Some((acceptor, _)) => {
            let done = acceptor.accept(reader, writer, Piece::empty()).await;
            let (reader, writer, greeting) = done.expect("the handshake of the server");
            assert!(greeting.http2 && greeting.server_name.as_deref() == Some("tunnel.test"));
            (reader.into(), writer.into())
        }
    }
}

async fn connect(addr: std::net::SocketAddr, tls: &Tls) -> (WireReader, WireWriter) {
    let options = ConnectOptions::default();
    let (reader, writer) = io::connect(addr, &options).await.expect("a connection");
    match tls {
        None => (reader.into(), writer.into()),
        Some((_, connector)) => {
            let done = connector.connect(reader, writer, "tunnel.test").await;
            let (reader, writer, greeting) = done.expect("the handshake of the client");
            assert!(greeting.http2 && greeting.peer_chain.len() == 1);
            (reader.into(), writer.into())
        }
    }
}

async fn tunnel(mut front: Listener, upstream: std::net::SocketAddr, tls: Tls) {
    let (client_reader, client_writer) = accept(&mut front, &tls).await;
    let (reader, writer) = connect(upstream, &tls).await;
    io::spawn(pump(client_reader, writer));
    pump(reader, client_writer).await;
}

async fn body(tls: Tls) {
    let (front, mut back) = (listener(), listener());
    let (front_addr, back_addr) = (front.local_addr(), back.local_addr());
    let arrived = Rc::new(Cell::new([0_usize; 2]));
    io::spawn(tunnel(front, back_addr, tls.clone()));
    let (both, own) = (Rc::clone(&arrived), tls.clone());
    io::spawn(async move {
        let (reader, writer) = accept(&mut back, &own).await;
        io::spawn(send(writer, 2));
        let count = receive(reader, 1).await;
        both.set([count, both.get()[1]]);
    });
    let (reader, writer) = connect(front_addr, &tls).await;
    io::spawn(send(writer, 1));
    let count = receive(reader, 2).await;
    arrived.set([arrived.get()[0], count]);
    while arrived.get()[0] == 0 {
        clock::sleep_ms(10).await;
    }
    assert_eq!(arrived.get(), [STREAM_BYTES; 2]);
    assert_eq!(io::panics(), 0);
}

/// Both roles of TLS, believing only the certificate that is shown.
fn tls() -> Tls {
    let (chain, key) = tls::self_signed(&["tunnel.test"]).expect("a certificate");
    let identity = Identity::from_pem(&chain, &key).expect("an identity");
    let names = Names::new(vec![identity]);
    let plan = AcceptorPlan { names, http2: true, versions: tls::Versions::default() };
    let acceptor = Acceptor::new(&plan).expect("an acceptor");
    let verify = tls::Verify::Roots(chain);
    let plan = ConnectorPlan { verify, http2: true, ..ConnectorPlan::default() };
    Some((acceptor, Connector::new(plan).expect("a connector")))
}

/// Runs the body; `false` where the kernel refuses the driver.
fn run(choice: IoChoice, kind: IoKind, tls: Tls) -> bool {
    let done = io::block_on_core(choice, async {
        assert_eq!(io::kind(), Some(kind));
        clock::within(60_000, body(tls)).await.expect("the tunnel hangs");
    });
    done.is_ok()
}

fn on_io_uring(tls: Tls) {
    if !run(IoChoice::IoUring, IoKind::IoUring, tls) {
        // Not eprintln: the test harness would hide it.
        let _ = writeln!(std::io::stderr(), "\nNOT TESTED: this kernel refuses io_uring");
    }
}

/// Where it was built in.
fn on_glommio(tls: Tls) {
    let built_in = IoChoice::EACH.contains(&IoChoice::Glommio);
    assert_eq!(run(IoChoice::Glommio, IoKind::Glommio, tls), built_in);
}

#[test]
fn a_busy_tunnel_on_epoll() {
    assert!(run(IoChoice::Epoll, IoKind::Epoll, None));
}

#[test]
fn a_busy_tunnel_on_io_uring() {
    on_io_uring(None);
}

#[test]
fn a_busy_tunnel_on_glommio() {
    on_glommio(None);
}

#[test]
fn a_busy_tunnel_over_tls_on_glommio() {
    on_glommio(tls());
}

#[test]
fn a_busy_tunnel_over_tls_on_epoll() {
    assert!(run(IoChoice::Epoll, IoKind::Epoll, tls()));
}

#[test]
fn a_busy_tunnel_over_tls_on_io_uring() {
    on_io_uring(tls());
}

fn on_script(tls: &Tls) {
    for seed in 0..2 {
        let done = script::run(&script::Plan::rough(seed), body(tls.clone()));
        done.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn a_busy_tunnel_on_script() {
    on_script(&None);
}

#[test]
fn a_busy_tunnel_over_tls_on_script() {
    on_script(&tls());
}
