//! Lines after a body: they pass where the framing has a place for them and the other end wants
//! them, and never say what only a head may say.

use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::calls::calls;
use super::gateway::{Gateway, drivers};
use super::http::Connection;
use super::unusual::{head, nothing, serve, upstream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
    3\r\nabc\r\n0\r\nX-Sum: 900150983cd24fb0\r\nContent-Length: 7\r\nSet-Cookie: a=b\r\n\
    X-Consumer-ID: 1\r\nx_forwarded_for: 1.1.1.1\r\nX-Late: \t yes \r\n\r\n";

/// Reads until `end` has come.
fn until(stream: &mut impl Read, end: &[u8]) -> String {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !all.ends_with(end) && matches!(stream.read(&mut byte), Ok(1)) {
        all.push(byte[0]);
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn an_answers_trailers_pass_to_who_takes_them() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            while !head(&mut stream).is_empty() {
                stream.write_all(ANSWER).unwrap();
            }
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), nothing());
        let mut client = Connection::open(gateway.proxy);
        for (te, trailer, end) in [
            ("TE: trailers\r\n", true, "0\r\nX-Sum: 900150983cd24fb0\r\nX-Late: yes\r\n\r\n"),
            ("", false, "0\r\n\r\n"),
            ("TE: deflate\r\n", false, "0\r\n\r\n"),
        ] {
            client.send(format!("GET /s HTTP/1.1\r\nHost: a\r\n{te}\r\n").as_bytes());
            let told = head(client.stream());
            assert_eq!(told.contains("Trailer: X-Sum"), trailer, "{driver}: {te}: {told}");
            let body = until(client.stream(), b"\r\n\r\n");
            assert_eq!(body, format!("3\r\nabc\r\n{end}"), "{driver}: {te}");
        }
        // A client of HTTP/1.0 knows no chunks, so there is no place.
        client.send(b"GET /s HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n");
        let told = head(client.stream());
        assert!(!told.contains("chunked"), "{driver}: {told}");
        assert_eq!(until(client.stream(), b"never"), "abc", "{driver}");

        let url = format!("http://127.0.0.1:{}/s", gateway.proxy);
        let out = std::process::Command::new("nghttp").args(["-v", &url]).output();
        let out = out.expect("nghttp is installed: Debian's package nghttp2-client");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(said.contains("x-sum: 900150983cd24fb0"), "{driver}: {said}");
        assert!(said.contains(" date: "), "{driver}: an answer without a date gets one: {said}");
        assert!(
            !said.contains("set-cookie") && !said.contains("x-consumer-id"),
            "{driver}: {said}"
        );
    }
}

#[test]
fn a_requests_trailers_pass_where_its_body_streams() {
    for driver in drivers() {
        let (tell, told) = channel();
        let tell = Arc::new(Mutex::new(tell));
        let port = upstream(move |mut stream| {
            loop {
                let asked = head(&mut stream);
                let end: &[u8] = if asked.contains("chunked") { b"\r\n\r\n" } else { b"abc" };
                if asked.is_empty() {
                    return;
                }
                let body = until(&mut stream, end);
                tell.lock().unwrap().send((asked, body)).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), json!({"request_buffering": false}));
        gateway.post("/services/s/routes", "name=held&paths[]=/held");
        let sent = |path: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                 Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nAuthorization: x\r\nX-Credential-Id: 2\r\n\r\n"
            )
        };
        let mut client = Connection::open(gateway.proxy);
        client.send(sent("/s").as_bytes());
        assert_eq!(client.read(false).unwrap().status, 200, "{driver}");
        let (asked, body) = told.recv().unwrap();
        assert!(asked.contains("\r\nTrailer: X-Sum\r\n"), "{driver}: {asked}");
        assert_eq!(body, "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", "{driver}");
        // A held body goes on with its length, which leaves no place behind it.
        client.send(sent("/held").as_bytes());
        assert_eq!(client.read(false).unwrap().status, 200, "{driver}");
        let (asked, body) = told.recv().unwrap();
        assert!(asked.contains("Content-Length: 3\r\n") && !asked.contains("Trailer"), "{asked}");
        assert_eq!(body, "abc", "{driver}");
    }
}

#[test]
fn trailers_pass_between_http_1_and_http_2_both_ways() {
    for driver in drivers() {
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, calls(), json!({"protocol": "grpc"}), nothing());
        // The same over TLS: through the gateway's own port, and so twice through it.
        let again = json!({"name": "t", "url": format!("grpcs://127.0.0.1:{}", gateway.tls)});
        assert_eq!(gateway.admin("POST", "/services", &again).status, 201);
        let route = json!({"paths": ["/s"], "hosts": ["tls.test"], "strip_path": false});
        assert_eq!(gateway.admin("POST", "/services/t/routes", &route).status, 201);
        // A plugin that reads the body must not cost what stands behind it.
        let plugin = json!({"name": "request-size-limiting", "config": {}});
        for host in ["a", "tls.test", "a"] {
            let mut client = Connection::open(gateway.proxy);
            for (body, sum) in [("3\r\nabc\r\n", "1"), ("", "2")] {
                let asked = format!(
                    "POST /s HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\n\
                     Transfer-Encoding: chunked\r\n\r\n{body}0\r\nX-Sum: {sum}\r\n\r\n"
                );
                client.send(asked.as_bytes());
                let told = head(client.stream());
                assert!(told.starts_with("HTTP/1.1 200 "), "{driver}: {told}");
                let end = until(client.stream(), b"\r\n\r\n").to_ascii_lowercase();
                let wanted = format!("{body}0\r\nx-sum: {sum}\r\ngrpc-status: 0\r\n\r\n");
                assert_eq!(end, wanted, "{driver}: {host}");
            }
            if host == "tls.test" {
                assert_eq!(gateway.admin("POST", "/services/s/plugins", &plugin).status, 201);
            }
        }
    }
}

#[test]
fn trailers_of_http_2_pass_to_a_service_of_http_1() {
    for driver in drivers() {
        let (tell, told) = channel();
        let tell = Arc::new(Mutex::new(tell));
        let port = upstream(move |mut stream| {
            while !head(&mut stream).is_empty() {
                tell.lock().unwrap().send(until(&mut stream, b"\r\n\r\n")).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), json!({"request_buffering": false}));
        let file = gateway.prefix.path().join("body");
        std::fs::write(&file, "abc").unwrap();
        let url = format!("http://127.0.0.1:{}/s", gateway.proxy);
        let ran = std::process::Command::new("nghttp")
            .args(["--trailer=x-sum: 1", "--no-content-length", "-d"])
            .args([file.to_str().unwrap(), &url])
            .output();
        assert!(
            ran.expect("nghttp is installed: Debian's package nghttp2-client").status.success()
        );
        assert_eq!(told.recv().unwrap(), "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n", "{driver}");
    }
}
