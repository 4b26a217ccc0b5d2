//! How a connection begins: the PROXY protocol, and what the first bytes tell.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::echo::Echo;
use super::gateway::{Gateway, drivers, free_port};

/// Sends bytes to a port, ends, and gives all that comes back.
fn exchange(port: u16, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for part in parts {
        // The gateway may have closed at an earlier part.
        let _gone = stream.write_all(part);
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const REQUEST: &[u8] = b"GET /s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n";
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\x12\x67\0\x50";

struct Ports {
    _gateway: Gateway,
    plain: u16,
    tls: u16,
}

fn start(driver: &str, echo: &Echo, settings: &[(&str, &str)]) -> Ports {
    let (plain, tls) = (free_port(), free_port());
    let listen =
        format!("127.0.0.1:{plain} proxy_protocol, 127.0.0.1:{tls} ssl http2 proxy_protocol");
    let mut all = vec![("KONG_PROXY_LISTEN", listen.as_str())];
    all.extend_from_slice(settings);
    let gateway = Gateway::start(driver, &all);
    gateway.post("/services", &format!("name=s&url=http://127.0.0.1:{}", echo.port));
    gateway.post("/services/s/routes", "name=s&paths[]=/s");
    Ports { _gateway: gateway, plain, tls }
}

const BY_HEADER: [(&str, &str); 2] =
    [("KONG_TRUSTED_IPS", "127.0.0.0/8"), ("KONG_REAL_IP_HEADER", "proxy_protocol")];

#[test]
fn a_trusted_proxy_names_the_client_before_the_first_byte() {
    for driver in drivers() {
        let echo = Echo::start();
        let ports = start(driver, &echo, &BY_HEADER);
        for header in [LINE, BINARY] {
            let (begin, end) = header.split_at(9);
            let together = [header, REQUEST].concat();
            for parts in [vec![together.as_slice()], vec![begin, end, REQUEST]] {
                let answer = exchange(ports.plain, &parts);
                assert!(answer.contains(r#""x-real-ip":["203.0.113.7"]"#), "{driver}: {answer}");
            }
        }
        let unknown = exchange(ports.plain, &[b"PROXY UNKNOWN\r\n", REQUEST]);
        assert!(unknown.contains(r#""x-real-ip":["127.0.0.1"]"#), "{driver}: {unknown}");
        // What the client itself says is not believed.
        let lie = b"GET /s HTTP/1.1\r\nHost: a\r\nX-Real-IP: 6.6.6.6\r\nConnection: close\r\n\r\n";
        let lied = exchange(ports.plain, &[LINE, lie]);
        assert!(lied.contains(r#""x-real-ip":["203.0.113.7"]"#), "{driver}: {lied}");
    }
}

#[test]
fn others_may_not_name_the_client_and_a_missing_header_ends_the_connection() {
    for driver in drivers() {
        let echo = Echo::start();
        let ports = start(driver, &echo, &[("KONG_REAL_IP_HEADER", "proxy_protocol")]);
        let answer = exchange(ports.plain, &[LINE, REQUEST]);
        assert!(answer.contains(r#""x-real-ip":["127.0.0.1"]"#), "{driver}: {answer}");
        for broken in [REQUEST, b"PROXY TCP4 203.0.113.7\r\n", b"PROXY "] {
            let mut stream = TcpStream::connect(("127.0.0.1", ports.plain)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(broken).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer);
            assert_eq!(answer, b"", "{driver}");
        }
    }
}

#[test]
fn the_header_stands_before_the_handshake() {
    for driver in drivers() {
        let echo = Echo::start();
        let ports = start(driver, &echo, &BY_HEADER);
        let url = format!("https://127.0.0.1:{}/s", ports.tls);
        let curl = std::process::Command::new("curl")
            .args(["-sk", "--haproxy-protocol", "--max-time", "20", "--http1.1", &url])
            .output()
            .expect("curl runs: install curl");
        let answer = String::from_utf8_lossy(&curl.stdout);
        assert!(answer.contains(r#""x-forwarded-proto":["https"]"#), "{driver}: {curl:?}");
        assert!(answer.contains(r#""x-real-ip":["127.0.0.1"]"#), "{driver}: {answer}");
    }
}

#[test]
fn the_first_bytes_tell_what_is_spoken() {
    for driver in drivers() {
        let (plain, tls) = (free_port(), free_port());
        let listen = format!("127.0.0.1:{plain}, 127.0.0.1:{tls} ssl http2");
        let gateway = Gateway::start(driver, &[("KONG_PROXY_LISTEN", listen.as_str())]);
        let refused = exchange(tls, &[b"GET /", b"x HTTP/1.1\r\nHost: a\r\n\r\n"]);
        assert!(refused.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{driver}: {refused}");
        let words = "<center>The plain HTTP request was sent to HTTPS port</center>";
        assert!(refused.contains(words), "{driver}: {refused}");
        // One port with HTTP/2 is enough for the others to know its preface.
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let mut stream = TcpStream::connect(("127.0.0.1", plain)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(preface).unwrap();
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).unwrap();
        assert_eq!(frame[3], 4, "{driver}: SETTINGS come first");
        let trace = b"TRACE / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        let refused = exchange(plain, &[trace]);
        assert!(refused.starts_with("HTTP/1.1 405 "), "{driver}: {refused}");
        assert!(refused.contains("\"message\":\"Method not allowed\""), "{driver}: {refused}");
        drop(gateway);
    }
}
