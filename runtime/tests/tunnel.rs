//! The proof of the drivers: a tunnel with both directions busy, the same body on each of them.
//!
//! A client and an upstream send each other several megabytes at the same time through a tunnel of
//! two pumps; every byte must arrive, in order, and both ends must end.

#![allow(clippy::expect_used, clippy::panic)] // a test may

use runtime::buffers::{Page, Pages, Piece};
use runtime::clock;
use runtime::io::{self, ConnectOptions, IoChoice, IoKind, Listener, Reader, Writer};
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

const STREAM_BYTES: usize = 6 * 1024 * 1024 + 123;

/// A port that is free now, outside the range that the kernel gives to connecting sockets.
fn listener() -> Listener {
    let first = 21_000 + (std::process::id() % 4_000) as u16;
    for port in first..first + 2_000 {
        if let Ok(socket) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            return Listener::new(socket).expect("the core takes the listener");
        }
    }
    panic!("no free port");
}

/// The byte at `place` of the stream with `key`.
fn byte(key: usize, place: usize) -> u8 {
    ((place * 31 + key * 7 + place / 251) % 256) as u8
}

/// Sends the whole stream in lists of one to six pieces of uneven lengths, then ends.
async fn send(mut writer: Writer, key: usize) -> Writer {
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
    writer
}

/// Receives until the end and compares every byte.
async fn receive(mut reader: Reader, key: usize) -> usize {
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
async fn pump(mut from: Reader, mut to: Writer) {
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

async fn tunnel(mut front: Listener, upstream: std::net::SocketAddr) {
    let (client_reader, client_writer, _) = front.accept().await.expect("the client");
    let options = ConnectOptions::default();
    let (reader, writer) = io::connect(upstream, &options).await.expect("the upstream");
    io::spawn(pump(client_reader, writer));
    pump(reader, client_writer).await;
}

async fn body() {
    let (front, mut back) = (listener(), listener());
    let (front_addr, back_addr) = (front.local_addr(), back.local_addr());
    let arrived = Rc::new(Cell::new([0_usize; 2]));
    io::spawn(tunnel(front, back_addr));
    let both = Rc::clone(&arrived);
    io::spawn(async move {
        let (reader, writer, _) = back.accept().await.expect("the tunnel");
        io::spawn(async move {
            send(writer, 2).await;
        });
        let count = receive(reader, 1).await;
        both.set([count, both.get()[1]]);
    });
    let options = ConnectOptions::default();
    let (reader, writer) = io::connect(front_addr, &options).await.expect("the tunnel's front");
    io::spawn(async move {
        send(writer, 1).await;
    });
    let count = receive(reader, 2).await;
    arrived.set([arrived.get()[0], count]);
    while arrived.get()[0] == 0 {
        clock::sleep_ms(10).await;
    }
    assert_eq!(arrived.get(), [STREAM_BYTES; 2]);
    assert_eq!(io::panics(), 0);
}

/// Runs the body; `false` where the kernel refuses the driver.
fn run(choice: IoChoice, kind: IoKind) -> bool {
    let done = io::block_on_core(choice, async {
        assert_eq!(io::kind(), Some(kind));
        clock::within(60_000, body()).await.expect("the tunnel hangs");
    });
    done.is_ok()
}

#[test]
fn a_busy_tunnel_on_epoll() {
    assert!(run(IoChoice::Epoll, IoKind::Epoll));
}

#[test]
fn a_busy_tunnel_on_io_uring() {
    if !run(IoChoice::IoUring, IoKind::IoUring) {
        // Not eprintln: the test harness would hide it.
        let _ = writeln!(std::io::stderr(), "\nNOT TESTED: this kernel refuses io_uring");
    }
}
