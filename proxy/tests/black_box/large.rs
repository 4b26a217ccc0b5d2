//! Large bodies, which go past the program inside the kernel where they may.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::gateway::{Gateway, drivers};
use super::http::{self, Connection};

const BYTES: usize = 1 << 20;

/// The bytes of a body: any shift or gap shows.
fn body(bytes: usize) -> Vec<u8> {
    let words = (0..bytes.div_ceil(4) as u32).map(u32::to_le_bytes);
    let mut body = words.flatten().collect::<Vec<u8>>();
    body.truncate(bytes);
    body
}

/// An upstream that declares `declared` bytes, sends `sent`, and closes if that is less.
fn upstream(declared: usize, sent: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let body: Arc<[u8]> = body(sent).into();
        for stream in listener.incoming() {
            let (stream, body) = (stream.unwrap(), Arc::clone(&body));
            thread::spawn(move || serve(&stream, declared, &body));
        }
    });
    port
}

fn serve(mut stream: &TcpStream, declared: usize, body: &[u8]) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    loop {
        let mut any = false;
        for line in lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()) {
            any |= line.starts_with("GET ");
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {declared}\r\n\r\n");
        let whole = any
            && stream.write_all(head.as_bytes()).is_ok()
            && stream.write_all(body).is_ok()
            && declared == body.len();
        if !whole {
            return;
        }
    }
}

#[test]
fn a_large_body_arrives_whole_at_a_slow_reader_and_the_connection_goes_on() {
    for driver in drivers() {
        let gateway = Gateway::start(driver, &[]);
        gateway.route("/large", upstream(BYTES, BYTES));
        let expected = body(BYTES);
        let mut client = Connection::open(gateway.proxy);
        for round in 0..3 {
            client.send(&http::request("GET", "/large", &[], b""));
            // The kernel's buffers fill up: the gateway has to wait for room.
            thread::sleep(Duration::from_millis(30));
            let response = client.read(false).unwrap();
            assert!(response.body == expected, "{driver}, round {round}");
        }
        let old = http::call(gateway.proxy, "GET", "/large", &[("Connection", "close")], b"");
        assert!(old.body == expected, "{driver}");
    }
}

#[test]
fn a_large_body_that_breaks_off_is_not_made_whole() {
    for driver in drivers() {
        let gateway = Gateway::start(driver, &[]);
        let cut = upstream(BYTES, BYTES / 2);
        gateway.post("/services", &format!("name=cut&url=http://127.0.0.1:{cut}"));
        gateway.post("/services/cut/routes", "paths[]=/cut");
        gateway.route("/large", upstream(BYTES, BYTES));
        let mut client = TcpStream::connect(("127.0.0.1", gateway.proxy)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(&http::request("GET", "/cut", &[], b"")).unwrap();
        let mut all = Vec::new();
        let _reset = client.read_to_end(&mut all);
        let begins = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let got = &all[begins..];
        assert!(got.len() <= BYTES / 2 && body(BYTES / 2).starts_with(got), "{driver}");
        let response = http::get(gateway.proxy, "/large", &[]);
        assert!(response.body == body(BYTES), "{driver}: nothing is left of the other");
    }
}

#[test]
fn a_client_that_leaves_disturbs_nobody() {
    for driver in drivers() {
        let gateway = Gateway::start(driver, &[]);
        gateway.route("/large", upstream(8 * BYTES, 8 * BYTES));
        for _ in 0..10 {
            let mut client = TcpStream::connect(("127.0.0.1", gateway.proxy)).unwrap();
            client.write_all(&http::request("GET", "/large", &[], b"")).unwrap();
            client.read_exact(&mut [0; 100_000]).unwrap();
        }
        let response = http::get(gateway.proxy, "/large", &[]);
        assert!(response.body == body(8 * BYTES), "{driver}");
    }
}

#[test]
fn a_plugin_that_looks_at_the_body_sees_all_of_it() {
    let gateway = Gateway::start(drivers()[0], &[]);
    gateway.route("/large", upstream(BYTES, BYTES));
    let config = r#"{"name":"response-transformer","config":{"remove":{"headers":["x"]}}}"#;
    let json = serde_json::from_str(config).unwrap();
    assert_eq!(gateway.admin("POST", "/plugins", &json).status, 201);
    let response = http::get(gateway.proxy, "/large", &[]);
    assert!(response.body == body(BYTES));
}
