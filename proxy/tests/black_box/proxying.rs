//! What goes upstream and what comes back: framing, bodies, persistence, faults.

use std::thread;
use std::time::{Duration, Instant};

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http::{self, Connection};

fn proxied(driver: &str) -> (Gateway, Echo) {
    let upstream = Echo::start();
    let gateway = Gateway::start(driver, &[]);
    gateway.route("/r", upstream.port);
    (gateway, upstream)
}

#[test]
fn one_connection_carries_many_requests_on_both_sides() {
    for driver in drivers() {
        let (gateway, upstream) = proxied(driver);
        let mut client = Connection::open(gateway.proxy);
        client.call("GET", "/r/first", &[], b"");
        let before = upstream.connections();
        for n in 0..50 {
            let answer = client.call("POST", &format!("/r/{n}"), &[], b"some body");
            assert_eq!(answer.json()["uri"], format!("/{n}"), "{driver}");
            assert_eq!(answer.json()["body"], "some body", "{driver}");
        }
        assert_eq!(upstream.connections(), before, "{driver}: the upstream's connection is kept");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for driver in drivers() {
        let (gateway, _upstream) = proxied(driver);
        let mut client = Connection::open(gateway.proxy);
        let all: Vec<u8> =
            (0..20).flat_map(|n| http::request("POST", &format!("/r/{n}"), &[], b"xy")).collect();
        client.send(&all);
        for n in 0..20 {
            assert_eq!(client.read(false).unwrap().json()["uri"], format!("/{n}"), "{driver}");
        }
    }
}

#[test]
fn bodies_of_every_size_go_through_whole() {
    for driver in drivers() {
        let (gateway, _upstream) = proxied(driver);
        let mut client = Connection::open(gateway.proxy);
        for size in [1, 4_000, 16_383, 16_384, 16_385, 200_000, 1_048_576, 3_000_000] {
            let body: Vec<u8> = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
            let up = client.call("POST", "/r/up", &[], &body).json();
            assert_eq!(up["headers"]["content-length"][0], size.to_string(), "{driver}");
            let shown = up["body"].as_str().unwrap();
            assert!(shown == format!("{size} bytes") || shown.len() == size, "{driver}: {size}");
            let down = client.call("GET", &format!("/r/bytes/{size}"), &[], b"");
            assert!(down.body == body, "{driver}: {size} bytes come back as they were");
        }
    }
}

#[test]
fn a_chunked_body_arrives_with_its_length_and_a_large_one_chunked() {
    for driver in drivers() {
        let (gateway, _upstream) = proxied(driver);
        let mut client = Connection::open(gateway.proxy);
        let chunked = [("Transfer-Encoding", "chunked")];
        let small =
            client.call("POST", "/r", &chunked, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").json();
        assert_eq!(
            (&small["body"], &small["headers"]["content-length"][0]),
            (&"abcde".into(), &"5".into())
        );
        let chunk = [b"10000\r\n".as_slice(), &[b'z'; 0x10000], b"\r\n"].concat();
        let large = [chunk.repeat(40), b"0\r\n\r\n".to_vec()].concat();
        let large = client.call("POST", "/r", &chunked, &large).json();
        assert_eq!(large["headers"]["transfer-encoding"][0], "chunked", "{driver}");
        assert_eq!(large["body"], format!("{} bytes", 40 * 0x10000), "{driver}");
    }
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on() {
    for driver in drivers() {
        let (gateway, _upstream) = proxied(driver);
        let mut client = Connection::open(gateway.proxy);
        client.send(
            b"POST /r HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        );
        let mut interim = [0; 25];
        std::io::Read::read_exact(client.stream(), &mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n", "{driver}");
        client.send(b"abc");
        assert_eq!(client.read(false).unwrap().json()["body"], "abc", "{driver}");
    }
}

#[test]
fn an_answer_before_the_body_reaches_the_client() {
    for driver in drivers() {
        let (gateway, _upstream) = proxied(driver);
        let mut client = Connection::open(gateway.proxy);
        let length = 8 * 1024 * 1024;
        client.send(
            format!("POST /r/early HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
                .as_bytes(),
        );
        client.send(&vec![b'x'; 2 * 1024 * 1024]);
        let answer = client.read(false).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (403, "early"), "{driver}");
    }
}

#[test]
fn head_204_and_304_have_no_body() {
    for driver in drivers() {
        let (gateway, _upstream) = proxied(driver);
        let mut client = Connection::open(gateway.proxy);
        let head = client.call("HEAD", "/r/bytes/100", &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, Some("100")), "{driver}");
        for status in [204, 304] {
            let answer = client.call("GET", &format!("/r/status/{status}"), &[], b"");
            assert_eq!(answer.status, status, "{driver}");
        }
        assert_eq!(client.call("GET", "/r", &[], b"").status, 200, "{driver}: still in step");
    }
}

#[test]
fn a_refused_request_gets_a_clear_answer_and_the_connection_ends() {
    for driver in drivers() {
        let (gateway, _upstream) = proxied(driver);
        for (request, status) in [
            ("GET /r HTTP/1.1\r\n\r\n", 400),
            ("GET /r HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (
                "POST /r HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            ("POST /r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            ("GET /r HTTP/3.0\r\nHost: a\r\n\r\n", 505),
            ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ] {
            let mut client = Connection::open(gateway.proxy);
            client.send(request.as_bytes());
            let answer = client.read(false).unwrap();
            assert_eq!(answer.status, status, "{driver}: {request:?}");
            assert!(client.is_closed(), "{driver}: {request:?}");
        }
    }
}

#[test]
fn an_upstream_that_fails_is_a_502_and_one_that_is_slow_a_504() {
    for driver in drivers() {
        let (gateway, upstream) = proxied(driver);
        let service = serde_json::json!({
            "name": "slow", "host": "127.0.0.1", "port": upstream.port, "read_timeout": 200, "retries": 0,
        });
        assert_eq!(gateway.admin("POST", "/services", &service).status, 201);
        gateway.post("/services/slow/routes", "paths[]=/slow");
        gateway.until("/slow", |response| response.status == 200);
        let begun = Instant::now();
        assert_eq!(http::get(gateway.proxy, "/slow/delay/5000", &[]).status, 504, "{driver}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{driver}");
        assert_eq!(http::get(gateway.proxy, "/slow/close", &[]).status, 502, "{driver}");
        assert_eq!(
            http::call(gateway.proxy, "POST", "/slow/close", &[], b"x").status,
            502,
            "{driver}"
        );
    }
}

#[test]
fn a_change_is_live_within_a_moment_and_no_request_fails_meanwhile() {
    for driver in drivers() {
        let (gateway, _upstream) = proxied(driver);
        let port = gateway.proxy;
        let asking = thread::spawn(move || {
            let mut client = Connection::open(port);
            (0..3_000).filter(|_| client.call("GET", "/r/x", &[], b"").status != 200).count()
        });
        let mut slowest = Duration::ZERO;
        for n in 0..50 {
            gateway.post("/services/r/routes", &format!("paths[]=/new-{n}"));
            let begun = Instant::now();
            gateway.until(&format!("/new-{n}"), |response| response.status == 200);
            slowest = slowest.max(begun.elapsed());
        }
        assert_eq!(asking.join().unwrap(), 0, "{driver}: no request fails");
        assert!(slowest < Duration::from_secs(1), "{driver}: {slowest:?}");
    }
}

#[test]
fn http_2_takes_the_same_road() {
    for driver in drivers() {
        let (gateway, _upstream) = proxied(driver);
        let body = vec![b'q'; 100_000];
        let file = gateway.prefix.path().join("body");
        std::fs::write(&file, &body).unwrap();
        let nghttp = |scheme: &str, port: u16, arguments: &[&str]| {
            let url = format!("{scheme}://127.0.0.1:{port}/r/two?x=1");
            let out = std::process::Command::new("nghttp").args(arguments).arg(url).output();
            let out = out.expect("nghttp is installed: Debian's package nghttp2-client");
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        for (scheme, port) in [("http", gateway.proxy), ("https", gateway.tls)] {
            let got = nghttp(scheme, port, &[]);
            let whole = got.contains(r#""uri":"/two?x=1""#) && got.contains(r#""method":"GET""#);
            assert!(whole, "{driver} {scheme}: {got}");
            let posted = nghttp(scheme, port, &["-d", &file.display().to_string()]);
            assert!(posted.contains(r#""body":"100000 bytes""#), "{driver} {scheme}: {posted}");
        }
    }
}

#[test]
fn a_node_that_is_told_to_end_ends_well() {
    for driver in drivers() {
        let (mut gateway, _upstream) = proxied(driver);
        let mut idle = Connection::open(gateway.proxy);
        assert_eq!(idle.call("GET", "/r", &[], b"").status, 200, "{driver}");
        assert!(gateway.terminate().success(), "{driver}");
        assert!(idle.is_closed(), "{driver}");
    }
}
