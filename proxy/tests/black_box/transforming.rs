//! What plugins change about a request's body, method and path, where the wire shows it.

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http::{self, Connection};

fn plugin(gateway: &Gateway, name: &str, config: &serde_json::Value) {
    let row = serde_json::json!({"name": name, "config": config});
    let reply = gateway.admin("POST", "/services/t/plugins", &row);
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[test]
fn a_body_without_a_length_is_counted_as_it_streams() {
    const PIECE: usize = 64 * 1024;
    for driver in drivers() {
        let upstream = Echo::start();
        let gateway = Gateway::start(driver, &[]);
        gateway.route("/t", upstream.port);
        plugin(&gateway, "request-size-limiting", &serde_json::json!({"allowed_payload_size": 2}));
        for (pieces, status) in [(32, 200), (33, 413), (100, 413)] {
            let mut connection = Connection::open(gateway.proxy);
            let head = "POST /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            connection.send(head.as_bytes());
            let chunk = [format!("{PIECE:x}\r\n").as_bytes(), &[b'x'; PIECE], b"\r\n"].concat();
            for _ in 0..pieces {
                // Past the limit the gateway may close while this still sends.
                use std::io::Write;
                if connection.stream().write_all(&chunk).is_err() {
                    break;
                }
            }
            use std::io::Write;
            let _closed = connection.stream().write_all(b"0\r\n\r\n");
            let found = connection.read(false).map(|response| response.status);
            // An answer may be lost to a reset where the client goes on sending.
            let lost = pieces > 33 && found.is_err();
            assert!(lost || found.as_ref().ok() == Some(&status), "{driver}: {pieces}: {found:?}");
        }
    }
}

#[test]
fn a_method_that_a_plugin_changes_leaves_no_client_waiting() {
    let upstream = Echo::start();
    let gateway = Gateway::start("epoll", &[]);
    gateway.route("/t", upstream.port);
    plugin(&gateway, "request-transformer", &serde_json::json!({"http_method": "HEAD"}));
    let mut connection = Connection::open(gateway.proxy);
    for _ in 0..3 {
        let response = connection.call("GET", "/t/bytes/100", &[], b"");
        assert_eq!((response.status, response.body.len()), (200, 0));
    }
    let head = connection.call("HEAD", "/t/bytes/100", &[], b"");
    assert_eq!(head.status, 200);
    let again = connection.call("GET", "/t", &[], b"");
    assert_eq!(again.status, 200);
}

#[test]
fn a_template_sees_what_the_route_took() {
    let upstream = Echo::start();
    let gateway = Gateway::start("epoll", &[]);
    let service = format!("name=t&url=http://127.0.0.1:{}", upstream.port);
    gateway.post("/services", &service);
    let route = serde_json::json!({"name": "t", "paths": ["~/u/(?<id>\\d+)/(a|b)$"]});
    assert_eq!(gateway.admin("POST", "/services/t/routes", &route).status, 201);
    let config = serde_json::json!({
        "replace": {"uri": "/users/$(uri_captures.id)/$(uri_captures[2])"},
    });
    plugin(&gateway, "request-transformer", &config);
    gateway.until("/u/42/b?x=1", |response| response.status == 200);
    let seen = http::get(gateway.proxy, "/u/42/b?x=1", &[]).json();
    assert_eq!(seen["uri"], "/users/42/b?x=1", "{seen}");
}
