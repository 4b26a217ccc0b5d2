//! Upstreams and clients that do what is allowed but unusual: each test is named after what once
//! went wrong, or nearly did.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::echo::Echo;
use super::gateway::{Gateway, drivers, free_port};
use super::http::{self, Connection};

/// An upstream that plays a script on each connection; its threads end with the test process.
pub(crate) fn upstream(script: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let script = Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            let script = Arc::clone(&script);
            thread::spawn(move || script(stream));
        }
    });
    port
}

/// Reads one head, byte by byte so that nothing of the body is taken; empty at the end.
pub(crate) fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A service with settings of its own, and a route.
pub(crate) fn serve(
    gateway: &Gateway,
    port: u16,
    service: serde_json::Value,
    route: serde_json::Value,
) {
    let mut all = serde_json::json!({"name": "s", "host": "127.0.0.1", "port": port});
    all.as_object_mut().unwrap().extend(service.as_object().unwrap().clone());
    assert_eq!(gateway.admin("POST", "/services", &all).status, 201);
    let mut all = serde_json::json!({"name": "s", "paths": ["/s"]});
    all.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
    assert_eq!(gateway.admin("POST", "/services/s/routes", &all).status, 201);
}

pub(crate) fn nothing() -> serde_json::Value {
    serde_json::json!({})
}

#[test]
fn an_answer_without_a_body_claims_no_length_that_nobody_declared() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            loop {
                let asked = head(&mut stream);
                let answer = match asked.split(' ').nth(1) {
                    Some("/304") => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
                    Some("/long") => "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
                    Some("/head") => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    _ => return,
                };
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), nothing());
        let mut client = Connection::open(gateway.proxy);
        for (method, target, length) in
            [("GET", "/s/304", None), ("GET", "/s/long", Some("7")), ("HEAD", "/s/head", None)]
        {
            let answer = client.call(method, target, &[], b"");
            assert_eq!(answer.header("content-length"), length, "{driver}: {target}");
            assert_eq!(answer.header("transfer-encoding"), None, "{driver}: {target}");
            assert_eq!(answer.header("connection"), Some("keep-alive"), "{driver}: {target}");
        }
    }
}

#[test]
fn a_body_above_the_limit_is_refused_however_it_is_framed_or_buffered() {
    for driver in drivers() {
        let echo = Echo::start();
        let gateway = Gateway::start(driver, &[("KONG_NGINX_HTTP_CLIENT_MAX_BODY_SIZE", "100k")]);
        gateway.route("/held", echo.port);
        serve(&gateway, echo.port, nothing(), serde_json::json!({"request_buffering": false}));
        let chunk = [b"4000\r\n".as_slice(), &[b'z'; 0x4000], b"\r\n"].concat();
        let chunks = |count| [chunk.repeat(count), b"0\r\n\r\n".to_vec()].concat();
        for target in ["/held", "/s"] {
            for (count, status) in [(6, 200), (7, 413), (100, 413)] {
                let coded = [("Transfer-Encoding", "chunked")];
                let answer = http::call(gateway.proxy, "POST", target, &coded, &chunks(count));
                assert_eq!(answer.status, status, "{driver}: {target}, {count} chunks");
            }
            let body = vec![b'x'; 102_401];
            let answer = http::call(gateway.proxy, "POST", target, &[], &body);
            assert_eq!(answer.status, 413, "{driver}: {target}");
            let answer = http::call(gateway.proxy, "POST", target, &[], &body[1..]);
            assert_eq!(answer.status, 200, "{driver}: {target}");
        }
    }
}

#[test]
fn an_early_answer_is_not_lost_while_a_held_body_is_sent() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            head(&mut stream);
            let answer = b"HTTP/1.1 403 Early\r\nContent-Length: 5\r\n\r\nearly";
            stream.write_all(answer).unwrap();
            thread::sleep(Duration::from_secs(5)); // never reads the body
        });
        let gateway = Gateway::start(driver, &[]);
        let service = serde_json::json!({"write_timeout": 1_000, "retries": 0});
        serve(&gateway, port, service, nothing());
        let body = vec![b'x'; 1_000_000];
        let answer = http::call(gateway.proxy, "POST", "/s", &[], &body);
        assert_eq!((answer.status, answer.text().as_str()), (403, "early"), "{driver}");
    }
}

#[test]
fn the_timeout_of_an_abandoned_upload_does_not_cut_the_answer() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            head(&mut stream);
            thread::sleep(Duration::from_millis(250)); // by now the upload is stuck
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst";
            stream.write_all(answer).unwrap();
            thread::sleep(Duration::from_millis(1_500));
            let _sent = stream.write_all(b"later");
            thread::sleep(Duration::from_secs(5));
        });
        let gateway = Gateway::start(driver, &[]);
        let service = serde_json::json!({"write_timeout": 500, "retries": 0});
        serve(&gateway, port, service, serde_json::json!({"request_buffering": false}));
        let mut client = Connection::open(gateway.proxy);
        let length = 64 * 1024 * 1024;
        client.send(
            format!("POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
        );
        let mut upload = client.stream().try_clone().unwrap();
        thread::spawn(move || upload.write_all(&vec![b'x'; length]));
        let answer = client.read(false).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "firstlater"), "{driver}");
    }
}

#[test]
fn an_upstream_that_takes_no_bytes_is_a_504() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            head(&mut stream);
            thread::sleep(Duration::from_secs(8));
        });
        let gateway = Gateway::start(driver, &[]);
        let service = serde_json::json!({"write_timeout": 400, "retries": 0});
        serve(&gateway, port, service, nothing());
        for _ in 0..3 {
            let mut client = Connection::open(gateway.proxy);
            let length = 64 * 1024 * 1024;
            let head = format!("POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            client.send(head.as_bytes());
            let mut upload = client.stream().try_clone().unwrap();
            thread::spawn(move || upload.write_all(&vec![b'x'; length]));
            assert_eq!(client.read(false).unwrap().status, 504, "{driver}");
        }
    }
}

#[test]
fn a_post_after_the_upstream_closed_silently_gets_a_fresh_connection() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            let asked = head(&mut stream);
            let has_body = asked.to_ascii_lowercase().contains("content-length: 1");
            let mut body = [0; 1];
            if has_body {
                stream.read_exact(&mut body).unwrap();
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).unwrap();
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), nothing());
        let mut client = Connection::open(gateway.proxy);
        for n in 0..100 {
            let answer = client.call("POST", "/s", &[], b"x");
            assert_eq!(answer.status, 200, "{driver}: {n}");
            thread::sleep(Duration::from_millis(3));
        }
    }
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            head(&mut stream);
            let answer =
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
            stream.write_all(answer).unwrap();
            thread::sleep(Duration::from_secs(2));
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), nothing());
        assert_eq!(http::get(gateway.proxy, "/s", &[]).status, 502, "{driver}");
    }
}

const UPGRADE: [(&str, &str); 2] = [("Connection", "Upgrade"), ("Upgrade", "websocket")];

#[test]
fn a_tunnel_carries_what_was_read_ahead_and_each_end_apart() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            head(&mut stream);
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                Upgrade: websocket\r\n\r\nahead";
            stream.write_all(answer).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), nothing());
        let mut client = Connection::open(gateway.proxy);
        client.send(&[&http::request("GET", "/s", &UPGRADE, b"")[..], b"early,"].concat());
        let stream = client.stream();
        assert!(head(stream).starts_with("HTTP/1.1 101 "), "{driver}");
        stream.write_all(b"late").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        assert_eq!(all, "aheadearly,late", "{driver}");
    }
}

/// Whatever becomes of its route and its service, and however often others change.
#[test]
fn a_tunnel_survives_changes_of_the_configuration() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            head(&mut stream);
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                Upgrade: websocket\r\n\r\n";
            stream.write_all(answer).unwrap();
            let mut bytes = [0; 100];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                stream.write_all(&bytes[..count]).unwrap();
            }
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), nothing());
        let mut client = Connection::open(gateway.proxy);
        client.send(&http::request("GET", "/s", &UPGRADE, b""));
        assert!(head(client.stream()).starts_with("HTTP/1.1 101 "), "{driver}");
        let mut echoed = |text: &[u8]| {
            client.send(text);
            let mut back = vec![0; text.len()];
            client.stream().read_exact(&mut back).unwrap();
            assert_eq!(back, text, "{driver}");
        };
        for number in 0..10 {
            let service = serde_json::json!({"name": format!("n{number}"), "host": "a.test"});
            assert_eq!(gateway.admin("POST", "/services", &service).status, 201);
            let changed = serde_json::json!({"paths": [format!("/s{number}")], "name": "s"});
            assert_eq!(gateway.admin("PATCH", "/routes/s", &changed).status, 200);
            echoed(format!("after change {number}").as_bytes());
        }
        assert_eq!(gateway.admin("DELETE", "/routes/s", &nothing()).status, 204);
        assert_eq!(gateway.admin("DELETE", "/services/s", &nothing()).status, 204);
        gateway.until("/s", |response| response.status == 404);
        gateway.reload();
        echoed(b"after its service is gone");
    }
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            head(&mut stream);
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                Upgrade: websocket\r\n\r\n";
            stream.write_all(answer).unwrap();
            let mut bytes = [0; 100];
            while let Ok(1..) = stream.read(&mut bytes) {}
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, serde_json::json!({"read_timeout": 600}), nothing());
        let mut client = Connection::open(gateway.proxy);
        client.send(&http::request("GET", "/s", &UPGRADE, b""));
        assert!(head(client.stream()).starts_with("HTTP/1.1 101 "), "{driver}");
        let begun = Instant::now();
        for _ in 0..4 {
            client.send(b"bytes that keep it open");
            thread::sleep(Duration::from_millis(300));
        }
        assert!(client.is_closed(), "{driver}");
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(1_400), "{driver}: open while bytes move: {took:?}");
        assert!(took < Duration::from_secs(6), "{driver}: {took:?}");
    }
}

#[test]
fn a_refused_post_whose_body_is_here_keeps_its_connection() {
    for driver in drivers() {
        let echo = Echo::start();
        let gateway = Gateway::start(driver, &[]);
        gateway.route("/r", echo.port);
        gateway.post("/routes/r/plugins", "name=key-auth");
        gateway.until("/r", |response| response.status == 401);
        let mut client = Connection::open(gateway.proxy);
        for _ in 0..3 {
            let answer = client.call("POST", "/r", &[], b"a short body");
            assert_eq!(answer.status, 401, "{driver}");
            assert_eq!(answer.header("connection"), Some("keep-alive"), "{driver}");
        }
    }
}

#[test]
fn a_body_that_drips_is_not_held_in_a_page_for_each_byte() {
    for driver in drivers() {
        let echo = Echo::start();
        let gateway = Gateway::start(driver, &[]);
        gateway.route("/r", echo.port);
        let mut client = Connection::open(gateway.proxy);
        let length = 8_000;
        client.send(
            format!("POST /r HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
        );
        let before = gateway.resident_bytes();
        for _ in 0..length - 1 {
            client.send(b"x");
            thread::sleep(Duration::from_micros(100));
        }
        let held = gateway.resident_bytes().saturating_sub(before);
        client.send(b"x");
        assert_eq!(client.read(false).unwrap().status, 200, "{driver}");
        assert!(held < 32 * 1024 * 1024, "{driver}: {held} bytes for a body of {length}");
    }
}

#[test]
fn a_node_that_quits_answers_what_is_open_and_keeps_no_connection() {
    for driver in drivers() {
        let echo = Echo::start();
        let mut gateway = Gateway::start(driver, &[]);
        gateway.route("/s", echo.port);
        let open = |target: &str| {
            let mut stream = TcpStream::connect(("127.0.0.1", gateway.proxy)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        };
        let mut idle = open("/s/bytes/1");
        assert_eq!(idle.read(&mut [0; 4_096]).map(|bytes| bytes > 0).ok(), Some(true));
        let mut slow: Vec<_> = (0..4).map(|_| open("/s/delay/1500/bytes/9")).collect();
        // A busy machine takes a while to read them.
        thread::sleep(Duration::from_millis(800));
        let begun = Instant::now();
        gateway.begin_to_quit();
        for stream in &mut slow {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{driver}: {answer:?}");
            assert!(answer.contains("Connection: close") && answer.ends_with("abcdefghi"));
        }
        assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0, "the idle one is closed");
        assert!(gateway.ended().success());
        // Longer means that a connection was kept until the time for open requests was up.
        assert!(begun.elapsed() < Duration::from_secs(9), "{driver}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_preface_of_http_2_may_come_byte_by_byte() {
    for driver in drivers() {
        let gateway = Gateway::start(driver, &[]);
        let mut client = Connection::open(gateway.proxy);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        for byte in preface {
            client.send(std::slice::from_ref(byte));
            thread::sleep(Duration::from_millis(2));
        }
        let mut first = [0; 9];
        client.stream().read_exact(&mut first).unwrap();
        assert_eq!(first[3..], [4, 0, 0, 0, 0, 0], "{driver}: settings of the server come first");
    }
}

#[test]
fn a_service_may_be_a_unix_socket_as_nginx_writes_it() {
    for driver in drivers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.sock");
        let listener = std::os::unix::net::UnixListener::bind(&file).unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let (mut asked, mut byte) = (Vec::new(), [0]);
                    while matches!(stream.read(&mut byte), Ok(1)) {
                        asked.push(byte[0]);
                        if asked.ends_with(b"\r\n\r\n") {
                            let head = format!(
                                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                                asked.len()
                            );
                            stream.write_all(&[head.as_bytes(), &asked].concat()).unwrap();
                            asked.clear();
                        }
                    }
                });
            }
        });
        let gateway = Gateway::start(driver, &[]);
        let url = format!("http://unix:{}:/base", file.display());
        let made =
            gateway.admin("POST", "/services", &serde_json::json!({"name": "u", "url": url}));
        assert_eq!(made.status, 201, "{driver}: {}", made.text());
        gateway.post("/services/u/routes", "paths[]=/u");
        let mut client = Connection::open(gateway.proxy);
        for _ in 0..3 {
            let answer = client.call("GET", "/u/x?y=1", &[], b"");
            let asked = answer.text();
            assert!(asked.starts_with("GET /base/x?y=1 HTTP/1.1\r\n"), "{driver}: {asked}");
            assert!(asked.contains("\r\nHost: localhost\r\n"), "{driver}: {asked}");
            assert!(answer.header("date").is_some(), "{driver}: what has no date gets one");
        }
    }
}
