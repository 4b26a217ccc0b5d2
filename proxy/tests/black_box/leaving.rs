//! Clients that leave before they are answered: the upstream is let go, and the log says 499.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::dns::NameServer;
use super::gateway::{Gateway, drivers, free_port};
use super::http::{self, Connection};
use super::sinks::{HttpSink, Post, until};
use super::unusual::{head, nothing, serve, upstream};

/// How long an upstream may wait to hear that nobody wants its answer. The gateway's own timeouts
/// are a minute.
const HEARD: Duration = Duration::from_secs(10);

/// Waits until the access log has a line with these words; gives it.
fn logged(gateway: &Gateway, words: &str) -> String {
    let (begun, file) = (Instant::now(), gateway.prefix.path().join("logs/access.log"));
    loop {
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some(line) = log.lines().find(|line| line.contains(words)) {
            return line.to_owned();
        }
        assert!(begun.elapsed() < HEARD, "the access log has no {words}: {log}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Tells when the other end has closed; what it still sends is passed over.
fn tell_of_end(mut stream: &TcpStream, tell: &Arc<Mutex<Sender<()>>>) {
    let mut room = [0; 4_096];
    while matches!(stream.read(&mut room), Ok(1..)) {}
    let _test_over = tell.lock().unwrap().send(());
}

/// An upstream that says `words` and then nothing, and tells when its connection ends.
fn silent(words: &'static [u8]) -> (u16, Receiver<()>) {
    let (tell, told) = channel();
    let tell = Arc::new(Mutex::new(tell));
    let port = upstream(move |mut stream| {
        head(&mut stream);
        stream.write_all(words).unwrap();
        tell_of_end(&stream, &tell);
    });
    (port, told)
}

#[test]
fn a_client_that_leaves_a_silent_upstream_ends_the_exchange_with_499() {
    for driver in drivers() {
        let (port, told) = silent(b"");
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), json!({"request_buffering": true}));
        let sink = HttpSink::start();
        let config = json!({"http_endpoint": format!("http://127.0.0.1:{}/log", sink.port)});
        let row = json!({"name": "http-log", "config": config});
        assert_eq!(gateway.admin("POST", "/services/s/plugins", &row).status, 201);
        let body = http::request("POST", "/s/body", &[], &[b'x'; 100_000]);
        let two = http::request("GET", "/s/two", &[], b"").repeat(2);
        for (path, sent, half) in [
            ("/s/plain", http::request("GET", "/s/plain", &[], b""), false),
            ("/s/body", body, false),
            ("/s/two", two, false),
            // As in nginx: who ends only its own direction has left as well.
            ("/s/half", http::request("GET", "/s/half", &[], b""), true),
        ] {
            let mut client = Connection::open(gateway.proxy);
            client.send(&sent);
            // Long enough for the request to be under way.
            thread::sleep(Duration::from_millis(200));
            if half {
                client.stream().shutdown(Shutdown::Write).unwrap();
                assert!(client.is_closed(), "{driver}: {path}: no answer is made up");
            }
            drop(client);
            told.recv_timeout(HEARD).unwrap_or_else(|_| panic!("{driver}: {path} goes on"));
            let line = logged(&gateway, path);
            assert!(line.contains("\" 499 0 \""), "{driver}: {line}");
            let reported = |post: &Post| post.json()["request"]["uri"] == path;
            let post = until(|| sink.posts().into_iter().find(reported));
            assert_eq!(post.json()["response"]["status"], 499, "{driver}: {path}");
        }
    }
}

#[test]
fn a_client_that_leaves_a_streamed_upload_or_a_stalled_answer_ends_the_exchange() {
    for driver in drivers() {
        let (port, told) =
            silent(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), nothing());
        let mut client = Connection::open(gateway.proxy);
        client.send(&http::request("GET", "/s/stalled", &[], b""));
        assert!(head(client.stream()).starts_with("HTTP/1.1 200 "), "{driver}");
        drop(client);
        told.recv_timeout(HEARD).unwrap_or_else(|_| panic!("{driver}: the answer goes on"));
        assert!(logged(&gateway, "/s/stalled").contains("\" 200 3 \""), "{driver}");

        let (port, told) = silent(b"");
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), json!({"request_buffering": false}));
        let mut client = Connection::open(gateway.proxy);
        client.send(&http::request("POST", "/s/streamed", &[], &[b'x'; 100_000]));
        thread::sleep(Duration::from_millis(200));
        drop(client);
        told.recv_timeout(HEARD).unwrap_or_else(|_| panic!("{driver}: the upload goes on"));
        assert!(logged(&gateway, "/s/streamed").contains("\" 499 0 \""), "{driver}");

        // Within its body it is nginx's 400.
        gateway.post("/services/s/routes", "paths[]=/held");
        let mut client = Connection::open(gateway.proxy);
        client.send(b"POST /held/cut HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
        drop(client);
        let line = logged(&gateway, "/held/cut");
        assert!(line.contains("\" 400 0 \""), "{driver}: {line}");
    }
}

#[test]
fn a_client_that_leaves_while_a_name_resolves_ends_the_exchange_with_499() {
    for driver in drivers() {
        let server = NameServer::start();
        server.is_gone(true);
        let address = format!("127.0.0.1:{}", server.port);
        let gateway = Gateway::start(driver, &[("KONG_DNS_RESOLVER", &address)]);
        serve(&gateway, 80, json!({"host": "slow.test"}), nothing());
        let mut client = Connection::open(gateway.proxy);
        client.send(&http::request("GET", "/s/named", &[], b""));
        thread::sleep(Duration::from_millis(200));
        drop(client);
        let line = logged(&gateway, "/s/named");
        assert!(line.contains("\" 499 0 \""), "{driver}: {line}");
    }
}

#[test]
fn a_client_that_leaves_while_a_plugin_waits_never_reaches_the_upstream() {
    for driver in drivers() {
        let (port, told) = silent(b"");
        let redis = free_port();
        // It takes connections and says nothing.
        let _silent = std::net::TcpListener::bind(("127.0.0.1", redis)).unwrap();
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), nothing());
        let redis = json!({"host": "127.0.0.1", "port": redis, "timeout": 700});
        let config = json!({"minute": 9, "policy": "redis", "redis": redis});
        let row = json!({"name": "rate-limiting", "config": config});
        assert_eq!(gateway.admin("POST", "/services/s/plugins", &row).status, 201);
        let mut client = Connection::open(gateway.proxy);
        client.send(&http::request("GET", "/s/limited", &[], b""));
        thread::sleep(Duration::from_millis(200));
        drop(client);
        let line = logged(&gateway, "/s/limited");
        assert!(line.contains("\" 499 0 \""), "{driver}: {line}");
        assert!(told.try_recv().is_err(), "{driver}: the upstream was asked");
    }
}

#[test]
fn who_waits_is_answered_however_long_it_takes() {
    for driver in drivers() {
        let port = upstream(|mut stream| {
            while !head(&mut stream).is_empty() {
                thread::sleep(Duration::from_millis(700));
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").unwrap();
                thread::sleep(Duration::from_millis(700));
                stream.write_all(b"cd").unwrap();
            }
        });
        let gateway = Gateway::start(driver, &[]);
        serve(&gateway, port, nothing(), nothing());
        // The second request lies in the socket while the first one waits.
        let mut client = Connection::open(gateway.proxy);
        client.send(&http::request("GET", "/s", &[], b"").repeat(2));
        for _ in 0..2 {
            assert_eq!(client.read(false).unwrap().text(), "abcd", "{driver}");
        }
    }
}

#[test]
fn a_leaver_is_no_fault_of_the_upstream() {
    for driver in drivers() {
        let (port, told) = silent(b"");
        let gateway = Gateway::start(driver, &[]);
        let checks = json!({"passive": {"unhealthy": {"tcp_failures": 1, "timeouts": 1}}});
        let row = json!({"name": "up", "healthchecks": checks});
        assert_eq!(gateway.admin("POST", "/upstreams", &row).status, 201);
        gateway.post("/upstreams/up/targets", &format!("target=127.0.0.1:{port}"));
        serve(&gateway, port, json!({"host": "up"}), nothing());
        for _ in 0..3 {
            let mut client = Connection::open(gateway.proxy);
            client.send(&http::request("GET", "/s", &[], b""));
            thread::sleep(Duration::from_millis(100));
            drop(client);
            told.recv_timeout(HEARD).unwrap_or_else(|_| panic!("{driver}: it was not asked"));
        }
    }
}
