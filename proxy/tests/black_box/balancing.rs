//! Upstreams and targets: who gets which request, health, and what a retry may do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::gateway::{Gateway, drivers, free_port};
use super::http::{self, Response};
use super::peers::{Mood, Peer};

/// How long something may take to happen on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// A gateway with an upstream `up`, its settings, a service for it and a route `/r`.
fn balanced(driver: &str, upstream: &Value, service: &Value) -> Gateway {
    let gateway = Gateway::start(driver, &[]);
    let mut upstream = upstream.clone();
    upstream["name"] = json!("up");
    made(&gateway, "/upstreams", &upstream);
    let mut service = service.clone();
    service["name"] = json!("s");
    service["host"] = json!("up");
    made(&gateway, "/services", &service);
    made(&gateway, "/services/s/routes", &json!({ "name": "r", "paths": ["/r"] }));
    gateway
}

fn made(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let answer = gateway.admin("POST", path, body);
    assert_eq!(answer.status, 201, "POST {path} {body}: {}", answer.text());
    answer.json()
}

fn target(gateway: &Gateway, target: &str, weight: u32) {
    made(gateway, "/upstreams/up/targets", &json!({ "target": target, "weight": weight }));
}

fn get(gateway: &Gateway, headers: &[(&str, &str)]) -> Response {
    http::get(gateway.proxy, "/r", headers)
}

/// Who answered so many requests, each on a connection of its own, and how often.
fn who(gateway: &Gateway, requests: usize) -> BTreeMap<String, usize> {
    let mut met = BTreeMap::new();
    for _ in 0..requests {
        let answer = get(gateway, &[]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        *met.entry(answer.text()).or_default() += 1;
    }
    met
}

fn counts<const N: usize>(pairs: [(&str, usize); N]) -> BTreeMap<String, usize> {
    pairs.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Waits until something holds.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The health of each target.
fn health(gateway: &Gateway) -> BTreeMap<String, String> {
    let answer = gateway.admin("GET", "/upstreams/up/health", &json!({})).json();
    let rows = answer["data"].as_array().unwrap().clone();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(row, "target"), text(row, "health"))).collect()
}

#[test]
fn weights_are_honoured_by_the_node_as_a_whole() {
    for driver in drivers() {
        let gateway = balanced(driver, &json!({}), &json!({}));
        let (a, b, c) = (Peer::start("a"), Peer::start("b"), Peer::start("c"));
        assert_eq!(get(&gateway, &[]).status, 503, "no target");
        target(&gateway, &a.target(), 30);
        target(&gateway, &b.target(), 10);
        assert_eq!(who(&gateway, 16), counts([("a", 12), ("b", 4)]), "{driver}");
        target(&gateway, &c.target(), 0);
        assert_eq!(who(&gateway, 8), counts([("a", 6), ("b", 2)]), "{driver}: weight 0");
        let path = format!("/upstreams/up/targets/{}", c.target());
        assert_eq!(gateway.admin("PATCH", &path, &json!({ "weight": 40 })).status, 200);
        assert_eq!(who(&gateway, 16), counts([("a", 6), ("b", 2), ("c", 8)]), "{driver}");
        let path = format!("/upstreams/up/targets/{}", a.target());
        assert_eq!(gateway.admin("DELETE", &path, &json!({})).status, 204);
        assert_eq!(who(&gateway, 10), counts([("b", 2), ("c", 8)]), "{driver}");
        assert_eq!(gateway.admin("DELETE", "/upstreams/up", &json!({})).status, 204);
        let answer = get(&gateway, &[]);
        assert_eq!(answer.json()["message"], "name resolution failed", "the upstream is gone");
    }
}

#[test]
fn a_key_stays_with_its_peer_and_only_the_keys_of_a_lost_peer_move() {
    let hash = json!({ "hash_on": "header", "hash_on_header": "X-User", "hash_fallback": "ip" });
    let gateway = balanced("epoll", &hash, &json!({}));
    let peers = [Peer::start("a"), Peer::start("b"), Peer::start("c")];
    peers.iter().for_each(|peer| target(&gateway, &peer.target(), 100));
    let ask = |user: usize| get(&gateway, &[("x-user", &user.to_string())]).text();
    let before: Vec<String> = (0..60).map(ask).collect();
    assert_eq!(before, (0..60).map(ask).collect::<Vec<_>>(), "a key stays");
    let used = |name: &str| before.iter().filter(|peer| *peer == name).count();
    assert!(["a", "b", "c"].iter().all(|name| used(name) > 5), "keys are spread: {before:?}");
    let path = format!("/upstreams/up/targets/{}", peers[1].target());
    assert_eq!(gateway.admin("DELETE", &path, &json!({})).status, 204);
    for (user, was) in before.iter().enumerate() {
        let is = ask(user);
        assert!(is == *was || was == "b", "user {user} of {was} went to {is}");
        assert_ne!(is, "b");
    }
    target(&gateway, &peers[1].target(), 100);
    assert_eq!(before, (0..60).map(ask).collect::<Vec<_>>(), "and comes back");
    assert_eq!(who(&gateway, 6).len(), 1, "without the header, the client's address");
}

#[test]
fn everything_that_can_be_hashed_is() {
    let gateway = balanced("epoll", &json!({ "algorithm": "consistent-hashing" }), &json!({}));
    let peers = [Peer::start("a"), Peer::start("b")];
    peers.iter().for_each(|peer| target(&gateway, &peer.target(), 100));
    made(&gateway, "/services/s/routes", &json!({ "paths": ["~/x/(?<user>[a-z0-9]+)/"] }));
    let hash = |settings: Value| {
        let answer = gateway.admin("PATCH", "/upstreams/up", &settings);
        assert_eq!(answer.status, 200, "{settings}: {}", answer.text());
    };
    // Peers of many values, asked twice; `same` is asked for every value.
    let check = |what: &str, ask: &dyn Fn(usize) -> String| {
        let all: Vec<String> =
            (0..24).map(|n| http::get(gateway.proxy, &ask(n), &[]).text()).collect();
        let again: Vec<String> =
            (0..24).map(|n| http::get(gateway.proxy, &ask(n), &[]).text()).collect();
        assert_eq!(all, again, "{what}");
        assert!(all.contains(&"a".to_owned()) && all.contains(&"b".to_owned()), "{what}: {all:?}");
    };
    hash(json!({ "hash_on": "path" }));
    check("path", &|n| format!("/r/{n}?q={n}"));
    hash(json!({ "hash_on": "query_arg", "hash_on_query_arg": "q" }));
    check("query argument", &|n| format!("/r?q={n}"));
    let fixed = |target: &str| http::get(gateway.proxy, target, &[]).text();
    assert_eq!(fixed("/r?q=1&q=2&x=5"), fixed("/r/other?x=7&q=2&q=1"), "in any order");
    hash(json!({ "hash_on": "uri_capture", "hash_on_uri_capture": "user" }));
    check("capture", &|n| format!("/x/u{n}/{}", 100 - n));
    assert_eq!(fixed("/x/u7/1"), fixed("/x/u7/2"));
    let all: Vec<String> = (0..8).map(|n| fixed(&format!("/r/{n}"))).collect();
    assert!(all.windows(2).all(|two| two[0] == two[1]), "nothing to hash: all to one {all:?}");
}

#[test]
fn a_cookie_keeps_a_client_at_its_peer() {
    let hash = json!({
        "hash_on": "cookie", "hash_on_cookie": "stick", "hash_on_cookie_path": "/r",
    });
    let gateway = balanced("epoll", &hash, &json!({}));
    let peers = [Peer::start("a"), Peer::start("b")];
    peers.iter().for_each(|peer| target(&gateway, &peer.target(), 100));
    let mut met = Vec::new();
    for _ in 0..16 {
        let first = get(&gateway, &[]);
        let line = first.header("set-cookie").unwrap().to_owned();
        let (pair, rest) = line.split_once(';').unwrap();
        assert_eq!(rest, " Path=/r; Same-Site=Lax; HttpOnly");
        assert_eq!(pair.len(), "stick=".len() + 36, "{line}");
        for _ in 0..3 {
            let again = get(&gateway, &[("cookie", &format!("x=1; {pair}"))]);
            assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
        }
        met.push(first.text());
    }
    assert!(met.contains(&"a".to_owned()) && met.contains(&"b".to_owned()), "{met:?}");
}

#[test]
fn fewest_requests_under_way() {
    let gateway = balanced("epoll", &json!({ "algorithm": "least-connections" }), &json!({}));
    let (slow, fast) = (Peer::start("slow"), Peer::start("fast"));
    target(&gateway, &slow.target(), 100);
    target(&gateway, &fast.target(), 100);
    slow.delay(3_000);
    let port = gateway.proxy;
    let held: Vec<_> = (0..4).map(|_| thread::spawn(move || http::get(port, "/r", &[]))).collect();
    until("the slow peer is busy", || !slow.heads("/").is_empty());
    until("the fast one is idle", || fast.heads("/").len() + slow.heads("/").len() >= 4);
    let met = who(&gateway, 6);
    assert_eq!(met, counts([("fast", 6)]), "whoever is busy is left alone");
    held.into_iter().for_each(|one| assert_eq!(one.join().unwrap().status, 200));
}

#[test]
fn the_slow_one_gets_less() {
    let gateway = balanced("epoll", &json!({ "algorithm": "latency" }), &json!({}));
    let (slow, fast) = (Peer::start("slow"), Peer::start("fast"));
    target(&gateway, &slow.target(), 100);
    target(&gateway, &fast.target(), 100);
    slow.delay(300);
    fast.delay(2);
    let met = who(&gateway, 30);
    let of = |name| met.get(name).copied().unwrap_or(0);
    assert!(of("slow") <= 10 && of("fast") >= 20, "{met:?}");
}

#[test]
fn a_mark_by_hand_takes_a_target_out_and_survives_other_changes() {
    for driver in drivers() {
        let checks = json!({ "healthchecks": { "active": { "healthy": { "interval": 1000 } } } });
        let gateway = balanced(driver, &checks, &json!({}));
        let (a, b) = (Peer::start("a"), Peer::start("b"));
        target(&gateway, &a.target(), 100);
        target(&gateway, &b.target(), 100);
        let mark = |peer: &Peer, word: &str| {
            let path = format!("/upstreams/up/targets/{}/{word}", peer.target());
            let answer = gateway.admin("PUT", &path, &json!({}));
            assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{path}");
        };
        mark(&a, "unhealthy");
        assert_eq!(who(&gateway, 8), counts([("b", 8)]), "{driver}");
        assert_eq!(
            health(&gateway),
            BTreeMap::from([
                (a.target(), "UNHEALTHY".to_owned()),
                (b.target(), "HEALTHY".to_owned())
            ])
        );
        // Another upstream, another target, a changed setting, and the same target again.
        made(&gateway, "/upstreams", &json!({ "name": "other" }));
        let c = Peer::start("c");
        target(&gateway, &c.target(), 100);
        let patch = json!({ "host_header": "x.example", "algorithm": "least-connections" });
        assert_eq!(gateway.admin("PATCH", "/upstreams/up", &patch).status, 200);
        assert_eq!(who(&gateway, 8), counts([("b", 4), ("c", 4)]), "{driver}");
        let path = format!("/upstreams/up/targets/{}", a.target());
        assert_eq!(gateway.admin("DELETE", &path, &json!({})).status, 204);
        target(&gateway, &a.target(), 100);
        assert_eq!(who(&gateway, 8), counts([("b", 4), ("c", 4)]), "{driver}");
        let whole = gateway.admin("GET", "/upstreams/up/health?balancer_health=1", &json!({}));
        let weight = whole.json()["data"]["details"]["weight"].clone();
        assert_eq!(weight, json!({ "total": 300, "available": 200, "unavailable": 100 }));
        mark(&b, "unhealthy");
        mark(&c, "unhealthy");
        let answer = get(&gateway, &[]);
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["message"], "failure to get a peer from the ring-balancer");
        let one = format!("/upstreams/up/targets/{}/{}/healthy", a.target(), a.target());
        assert_eq!(gateway.admin("PUT", &one, &json!({})).status, 204);
        assert_eq!(who(&gateway, 3), counts([("a", 3)]), "{driver}");
        // Without checks nobody is out, and no mark is taken.
        let off = json!({ "healthchecks": { "active": { "healthy": { "interval": 0 } } } });
        assert_eq!(gateway.admin("PATCH", "/upstreams/up", &off).status, 200);
        assert_eq!(who(&gateway, 9), counts([("a", 3), ("b", 3), ("c", 3)]), "{driver}");
        let answer = gateway.admin("PUT", &one, &json!({}));
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(health(&gateway).values().all(|health| health == "HEALTHCHECKS_OFF"));
    }
}

#[test]
fn answers_that_count_as_failures_take_a_target_out() {
    for driver in drivers() {
        let checks = json!({ "healthchecks": { "passive": {
            "unhealthy": { "http_failures": 3, "http_statuses": [500, 503] },
        } } });
        let gateway = balanced(driver, &checks, &json!({}));
        let (a, b) = (Peer::start("a"), Peer::start("b"));
        target(&gateway, &a.target(), 100);
        target(&gateway, &b.target(), 100);
        a.answer_with(404);
        (0..12).for_each(|_| assert!([200, 404].contains(&get(&gateway, &[]).status)));
        assert!(health(&gateway).values().all(|health| health == "HEALTHY"), "404 is no failure");
        a.answer_with(503);
        let failures = (0..20).filter(|_| get(&gateway, &[]).status == 503).count();
        assert_eq!(failures, 3, "{driver}: as many as the threshold, then no more");
        assert_eq!(health(&gateway)[&a.target()], "UNHEALTHY");
        b.answer_with(500);
        let statuses: Vec<u16> = (0..5).map(|_| get(&gateway, &[]).status).collect();
        assert_eq!(statuses, [500, 500, 500, 503, 503], "{driver}: nobody is left");
        assert_eq!(b.heads("/").len() + a.heads("/").len(), 12 + 20 + 3);
    }
}

#[test]
fn refused_connections_and_silence_take_a_target_out() {
    let checks =
        |what: &str| json!({ "healthchecks": { "passive": { "unhealthy": { what: 1 } } } });
    let gateway = balanced("epoll", &checks("tcp_failures"), &json!({}));
    target(&gateway, &format!("127.0.0.1:{}", free_port()), 100);
    // The retry of the very first request finds nobody.
    assert_eq!(get(&gateway, &[]).status, 503);
    assert_eq!(
        get(&gateway, &[]).json()["message"],
        "failure to get a peer from the ring-balancer"
    );
    drop(gateway);
    let gateway = balanced("epoll", &checks("timeouts"), &json!({ "read_timeout": 300 }));
    let (a, b) = (Peer::start("a"), Peer::start("b"));
    target(&gateway, &a.target(), 100);
    target(&gateway, &b.target(), 100);
    a.is(Mood::IsSilent);
    let answers = who(&gateway, 6);
    assert_eq!(answers, counts([("b", 6)]), "a GET is asked again elsewhere");
    assert_eq!(health(&gateway)[&a.target()], "UNHEALTHY");
    assert_eq!(a.heads("/").len(), 1);
}

#[test]
fn active_checks_take_a_target_out_and_bring_it_back() {
    for driver in drivers() {
        let checks = json!({
            "host_header": "check.example",
            "healthchecks": { "active": {
                "http_path": "/ping",
                "headers": { "X-Probe": ["one", "two"] },
                "healthy": { "interval": 0.1, "successes": 2 },
                "unhealthy": { "interval": 0.1, "http_failures": 2, "tcp_failures": 1, "timeouts": 1 },
            } },
        });
        let gateway = balanced(driver, &checks, &json!({}));
        let (mut a, b) = (Peer::start("a"), Peer::start("b"));
        target(&gateway, &a.target(), 100);
        target(&gateway, &b.target(), 100);
        until("both are checked", || a.heads("/ping").len() > 1 && b.heads("/ping").len() > 1);
        let head = a.heads("/ping").swap_remove(0).to_ascii_lowercase();
        for line in ["get /ping http/1.1", "host: check.example", "x-probe: one", "x-probe: two"] {
            assert!(head.lines().any(|own| own == line), "{line} in {head}");
        }
        a.answer_with(500);
        until("a is out", || health(&gateway)[&a.target()] == "UNHEALTHY");
        assert_eq!(who(&gateway, 6), counts([("b", 6)]), "{driver}");
        a.answer_with(200);
        until("a is back", || health(&gateway)[&a.target()] == "HEALTHY");
        assert_eq!(who(&gateway, 6), counts([("a", 3), ("b", 3)]), "{driver}");
        a.kill();
        until("a is out again", || health(&gateway)[&a.target()] == "UNHEALTHY");
        a.revive();
        until("a is back again", || health(&gateway)[&a.target()] == "HEALTHY");
    }
}

#[test]
fn a_check_can_be_a_connection_alone_and_has_a_time_limit() {
    let checks = |kind: &str| {
        json!({ "healthchecks": { "active": {
            "type": kind, "timeout": 0.3,
            "healthy": { "interval": 0.1, "successes": 1 },
            "unhealthy": { "interval": 0.1, "tcp_failures": 1, "timeouts": 1 },
        } } })
    };
    let gateway = balanced("epoll", &checks("tcp"), &json!({}));
    let mut a = Peer::start("a");
    a.is(Mood::IsSilent);
    target(&gateway, &a.target(), 100);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(health(&gateway)[&a.target()], "HEALTHY", "it takes connections");
    a.kill();
    until("it refuses", || health(&gateway)[&a.target()] == "UNHEALTHY");
    a.revive();
    until("it accepts", || health(&gateway)[&a.target()] == "HEALTHY");
    assert_eq!(a.heads("/"), Vec::<String>::new(), "nothing was asked");
    assert_eq!(gateway.admin("PATCH", "/upstreams/up", &checks("http")).status, 200);
    until("it says nothing", || health(&gateway)[&a.target()] == "UNHEALTHY");
    a.is(Mood::Answers);
    assert_eq!(gateway.admin("PATCH", "/upstreams/up", &checks("https")).status, 200);
    // The last check in the clear may have found it well.
    thread::sleep(Duration::from_millis(400));
    until("it speaks no TLS", || health(&gateway)[&a.target()] == "UNHEALTHY");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(health(&gateway)[&a.target()], "UNHEALTHY", "it still speaks none");
}

#[test]
fn a_retry_goes_to_another_target_but_never_repeats_what_may_have_been_done() {
    for driver in drivers() {
        let gateway = balanced(driver, &json!({}), &json!({}));
        let (a, b) = (Peer::start("a"), Peer::start("b"));
        target(&gateway, &a.target(), 100);
        target(&gateway, &b.target(), 100);
        let ask = |method: &str| http::call(gateway.proxy, method, "/r", &[], b"body");
        a.is(Mood::Closes);
        assert_eq!(who(&gateway, 6), counts([("b", 6)]), "{driver}: GET is repeated");
        let seen = |peer: &Peer, method: &str| peer.heads(&format!("{method} ")).len();
        for (method, again) in [("PUT", true), ("DELETE", true), ("POST", false), ("PATCH", false)]
        {
            let failed = (0..6).filter(|_| ask(method).status == 502).count();
            assert_eq!(failed == 0, again, "{driver}: {method}");
            let sent = seen(&a, method) + seen(&b, method);
            assert_eq!(sent > 6, again, "{driver}: {method} was sent {sent} times");
        }
        a.is(Mood::Babbles);
        let before = seen(&a, "GET") + seen(&b, "GET");
        let statuses: Vec<u16> = (0..6).map(|_| get(&gateway, &[]).status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 3, "{statuses:?}");
        assert_eq!(seen(&a, "GET") + seen(&b, "GET") - before, 6, "{driver}: it is an answer");
    }
}

#[test]
fn tries_are_bounded_by_the_service() {
    let gateway = balanced("epoll", &json!({}), &json!({ "retries": 2 }));
    let a = Peer::start("a");
    target(&gateway, &a.target(), 100);
    a.is(Mood::Closes);
    assert_eq!(get(&gateway, &[]).status, 502);
    assert_eq!(a.heads("/").len(), 3);
    assert_eq!(gateway.admin("PATCH", "/services/s", &json!({ "retries": 0 })).status, 200);
    assert_eq!(get(&gateway, &[]).status, 502);
    assert_eq!(a.heads("/").len(), 4);
}

/// An upstream is killed for a second under load: no idempotent request is lost.
#[test]
fn a_moment_without_the_upstream_costs_no_idempotent_request() {
    for driver in drivers() {
        let gateway = balanced(driver, &json!({}), &json!({}));
        let mut a = Peer::start("a");
        target(&gateway, &a.target(), 100);
        assert_eq!(who(&gateway, 4), counts([("a", 4)]));
        let (port, over) = (gateway.proxy, std::sync::Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let over = std::sync::Arc::clone(&over);
                thread::spawn(move || {
                    let mut client = http::Connection::open(port);
                    let mut statuses = BTreeMap::new();
                    while !over.load(Ordering::SeqCst) {
                        let status = client.call("GET", "/r", &[], b"").status;
                        *statuses.entry(status).or_insert(0) += 1;
                    }
                    statuses
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(300));
        a.kill();
        thread::sleep(Duration::from_millis(1_000));
        a.revive();
        thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::SeqCst);
        for client in clients {
            let statuses = client.join().unwrap();
            assert_eq!(
                statuses.keys().copied().collect::<Vec<_>>(),
                [200],
                "{driver}: {statuses:?}"
            );
        }
    }
}

/// An upstream that was never there is told at once.
#[test]
fn a_dead_upstream_is_told_at_once() {
    let gateway = balanced("epoll", &json!({}), &json!({}));
    target(&gateway, &format!("127.0.0.1:{}", free_port()), 100);
    let begun = Instant::now();
    assert_eq!(get(&gateway, &[]).status, 502);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn the_host_line_names_the_target_or_what_the_upstream_says() {
    let gateway = balanced("epoll", &json!({}), &json!({}));
    let a = Peer::start("a");
    target(&gateway, &format!("localhost:{}", a.port), 100);
    let host = |gateway: &Gateway| {
        assert_eq!(get(gateway, &[("host", "client.example")]).text(), "a");
        let head = a.heads("/").pop().unwrap();
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("host:"));
        line.unwrap()[5..].trim().to_owned()
    };
    assert_eq!(host(&gateway), format!("localhost:{}", a.port));
    let patch = json!({ "host_header": "virtual.example" });
    assert_eq!(gateway.admin("PATCH", "/upstreams/up", &patch).status, 200);
    assert_eq!(host(&gateway), format!("virtual.example:{}", a.port));
    assert_eq!(gateway.admin("PATCH", "/routes/r", &json!({ "preserve_host": true })).status, 200);
    assert_eq!(host(&gateway), "client.example");
}

/// The peer gets an upstream's name, its rows, and what the threshold says.
#[test]
fn too_little_healthy_weight_closes_the_upstream() {
    let checks = json!({ "healthchecks": {
        "threshold": 50, "active": { "healthy": { "interval": 1000 } },
    } });
    let gateway = balanced("epoll", &checks, &json!({}));
    let (a, b, c) = (Peer::start("a"), Peer::start("b"), Peer::start("c"));
    [&a, &b, &c].iter().for_each(|peer| target(&gateway, &peer.target(), 100));
    let mark = |peer: &Peer, word: &str| {
        let path = format!("/upstreams/up/targets/{}/{word}", peer.target());
        assert_eq!(gateway.admin("PUT", &path, &json!({})).status, 204);
    };
    mark(&a, "unhealthy");
    assert_eq!(who(&gateway, 4), counts([("b", 2), ("c", 2)]), "two thirds are enough");
    mark(&b, "unhealthy");
    assert_eq!(get(&gateway, &[]).status, 503, "one third is not");
    let shown = gateway.admin("GET", "/upstreams/up/health?balancer_health=1", &json!({})).json();
    assert_eq!(shown["data"]["balancer_health"], "UNHEALTHY");
    mark(&b, "healthy");
    assert_eq!(get(&gateway, &[]).status, 200);
}
