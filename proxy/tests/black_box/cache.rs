//! proxy-cache: one cache for all cores, bounded; a hit asks no upstream.

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http::{self, Response};

/// Requests on connections of their own, so that they come to all cores.
const REQUESTS: usize = 24;
/// Answers that are asked for twice.
const ANSWERS: usize = 100;

fn status(response: &Response) -> &str {
    response.header("x-cache-status").unwrap_or("none")
}

fn cached(gateway: &Gateway, upstream: u16) {
    gateway.route("/c", upstream);
    let config = serde_json::json!({
        "name": "proxy-cache",
        "config": {"strategy": "memory", "content_type": ["*/*"], "cache_ttl": 3_600},
    });
    let reply = gateway.admin("POST", "/services/c/plugins", &config);
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[test]
fn every_core_finds_what_one_has_kept() {
    for driver in drivers() {
        let upstream = Echo::start();
        let gateway = Gateway::start(driver, &[]);
        cached(&gateway, upstream.port);
        let first = http::get(gateway.proxy, "/c/x?a=1", &[]);
        assert_eq!((status(&first), first.status), ("Miss", 200), "{driver}");
        gateway.until("/c/x?a=1", |response| status(response) == "Hit");
        let mut asked = upstream.connections();
        let mut misses = 0;
        for _ in 0..REQUESTS {
            let next = http::get(gateway.proxy, "/c/x?a=1", &[]);
            assert_eq!(next.body, first.body, "{driver}");
            // The other core may not have looked at the board yet.
            misses += usize::from(status(&next) != "Hit");
        }
        assert!(misses <= 1, "{driver}: {misses} misses");
        asked += misses;
        assert!(upstream.connections() <= asked, "{driver}: a hit asks no upstream");
        let key = first.header("x-cache-key").unwrap().to_owned();
        let path = format!("/proxy-cache/{key}");
        let shown = http::get(gateway.admin, &path, &[]);
        assert_eq!(shown.status, 200, "{}", shown.text());
        assert_eq!(shown.json()["status"], 200);
        assert_eq!(http::call(gateway.admin, "DELETE", &path, &[], b"").status, 204);
        assert_eq!(http::get(gateway.admin, &path, &[]).status, 404);
        gateway.until("/c/x?a=1", |response| status(response) == "Hit");
        assert_eq!(http::call(gateway.admin, "DELETE", "/proxy-cache", &[], b"").status, 204);
        assert_eq!(http::get(gateway.admin, &path, &[]).status, 404);
    }
}

#[test]
fn who_has_an_answer_gets_it_from_every_core_the_next_time() {
    for driver in drivers() {
        let upstream = Echo::start();
        let gateway = Gateway::start(driver, &[]);
        cached(&gateway, upstream.port);
        gateway.until("/c/warm", |response| status(response) != "none");
        for number in 0..ANSWERS {
            let path = format!("/c/{number}");
            let told = [0, 1].map(|_| status(&http::get(gateway.proxy, &path, &[])).to_owned());
            assert_eq!(told, ["Miss", "Hit"], "{driver}: {path}");
        }
        for number in 0..ANSWERS {
            let path = format!("/c/gone/{number}");
            let purged = |_| {
                let answer = http::get(gateway.proxy, &path, &[]);
                let key = answer.header("x-cache-key").unwrap();
                let place = format!("/proxy-cache/{key}");
                let gone = http::call(gateway.admin, "DELETE", &place, &[], b"").status;
                (status(&answer).to_owned(), gone)
            };
            assert_eq!([0, 1].map(purged), ["Miss", "Miss"].map(|told| (told.into(), 204)));
        }
    }
}

#[test]
fn a_kept_answer_to_head_tells_the_length_that_get_has() {
    let upstream = Echo::start();
    let gateway = Gateway::start(drivers()[0], &[]);
    cached(&gateway, upstream.port);
    let mut connection = http::Connection::open(gateway.proxy);
    let head = |connection: &mut http::Connection| {
        let response = connection.call("HEAD", "/c/bytes/321", &[], b"");
        let length = response.header("content-length").map(str::to_owned);
        (status(&response).to_owned(), length)
    };
    let length = Some("321".to_owned());
    gateway.until("/c/bytes/1", |response| status(response) == "Miss");
    assert_eq!(head(&mut connection), ("Miss".to_owned(), length.clone()));
    assert_eq!(head(&mut connection), ("Hit".to_owned(), length));
    let get = connection.call("GET", "/c/bytes/321", &[], b"");
    assert_eq!((status(&get), get.body.len()), ("Miss", 321), "HEAD is kept apart");
}

#[test]
fn memory_stays_within_the_bound() {
    const MIB: usize = 1 << 20;
    let upstream = Echo::start();
    let gateway = Gateway::start("epoll", &[("TOLLGATE_CACHE_BYTES_MAX", "8388608")]);
    cached(&gateway, upstream.port);
    let mut connection = http::Connection::open(gateway.proxy);
    let before = gateway.resident_bytes();
    for number in 0..400 {
        let target = format!("/c/bytes/200000?n={number}");
        let response = connection.call("GET", &target, &[], b"");
        assert_eq!((response.status, response.body.len()), (200, 200_000));
    }
    // What is under way on a core, and what was freed a moment ago, come on top of the 8 MiB.
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "80 MB were kept in {grown} bytes");
}
