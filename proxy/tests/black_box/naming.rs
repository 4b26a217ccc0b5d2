//! Names of targets and services: records, their times to live, and name servers that are gone.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::dns::{NameServer, Record};
use super::gateway::Gateway;
use super::http;
use super::peers::Peer;

const HERE: Record = Record::A(Ipv4Addr::LOCALHOST);
/// How long something may take to happen on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A gateway that asks this name server.
fn named(server: &NameServer, more: &[(&str, &str)]) -> Gateway {
    let address = format!("127.0.0.1:{}", server.port);
    let mut env = vec![("KONG_DNS_RESOLVER", address.as_str())];
    env.extend(more);
    Gateway::start("epoll", &env)
}

fn made(gateway: &Gateway, path: &str, body: &Value) {
    let answer = gateway.admin("POST", path, body);
    assert_eq!(answer.status, 201, "POST {path} {body}: {}", answer.text());
}

/// A service at a host, and a route `/r` for it.
fn service(gateway: &Gateway, host: &str, port: u16) {
    made(gateway, "/services", &json!({ "name": "s", "host": host, "port": port }));
    made(gateway, "/services/s/routes", &json!({ "paths": ["/r"] }));
}

fn get(gateway: &Gateway) -> (u16, String) {
    let answer = http::get(gateway.proxy, "/r", &[]);
    (answer.status, answer.text())
}

/// Waits until an answer is as wanted.
#[track_caller]
fn until(gateway: &Gateway, wanted: impl Fn(&(u16, String)) -> bool) {
    let begun = Instant::now();
    loop {
        let answer = get(gateway);
        if wanted(&answer) {
            return;
        }
        assert!(begun.elapsed() < SOON, "it stays {answer:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn targets_by_name_follow_their_records() {
    let server = NameServer::start();
    let (a, b) = (Peer::start("a"), Peer::start("b"));
    server.set("up.test", 1, &[Record::Srv(1, 10, a.port, "a.test")]);
    server.set("a.test", 60, &[HERE]);
    server.set("b.test", 60, &[HERE]);
    let gateway = named(&server, &[]);
    made(&gateway, "/upstreams", &json!({ "name": "up" }));
    service(&gateway, "up", 80);
    made(&gateway, "/upstreams/up/targets", &json!({ "target": "up.test:1" }));
    // The very first request waits for the name.
    assert_eq!(get(&gateway), (200, "a".to_owned()));
    server.set(
        "up.test",
        1,
        &[
            Record::Srv(1, 30, a.port, "a.test"),
            Record::Srv(1, 10, b.port, "b.test"),
            Record::Srv(2, 90, 1, "c.test"),
        ],
    );
    until(&gateway, |answer| answer.1 == "b");
    let of_a = (0..16).filter(|_| get(&gateway).1 == "a").count();
    assert_eq!(of_a, 12, "by the weights of the records");
    let shown = gateway.admin("GET", "/upstreams/up/health", &json!({})).json();
    assert_eq!(shown["data"][0]["data"]["dns"], "SRV");
    assert_eq!(shown["data"][0]["data"]["addresses"].as_array().unwrap().len(), 2);
    server.set("up.test", 1, &[]);
    server.set("up.test", 1, &[Record::Srv(1, 10, b.port, "b.test")]);
    until(&gateway, |_| (0..4).all(|_| get(&gateway).1 == "b"));
}

#[test]
fn a_target_without_address_is_a_dns_error_until_it_has_one() {
    let server = NameServer::start();
    let a = Peer::start("a");
    let gateway = named(&server, &[("KONG_DNS_NOT_FOUND_TTL", "1")]);
    made(&gateway, "/upstreams", &json!({ "name": "up" }));
    service(&gateway, "up", 80);
    let target = format!("late.test:{}", a.port);
    made(&gateway, "/upstreams/up/targets", &json!({ "target": target }));
    let (status, text) = get(&gateway);
    assert_eq!(status, 503);
    assert!(text.contains("failure to get a peer from the ring-balancer"), "{text}");
    let shown = gateway.admin("GET", "/upstreams/up/health", &json!({})).json();
    assert_eq!(shown["data"][0]["health"], "DNS_ERROR");
    server.set("late.test", 60, &[HERE]);
    until(&gateway, |answer| answer.0 == 200);
    let shown = gateway.admin("GET", "/upstreams/up/health", &json!({})).json();
    assert_eq!(shown["data"][0]["health"], "HEALTHCHECKS_OFF");
    assert_eq!(shown["data"][0]["data"]["dns"], "A");
}

#[test]
fn services_by_name_use_srv_and_remember() {
    let server = NameServer::start();
    let (a, b) = (Peer::start("a"), Peer::start("b"));
    let both = [Record::Srv(1, 1, a.port, "a.test"), Record::Srv(1, 1, b.port, "b.test")];
    server.set("svc.test", 60, &both);
    server.set("a.test", 60, &[HERE]);
    server.set("b.test", 60, &[HERE]);
    let gateway = named(&server, &[]);
    service(&gateway, "svc.test", 1);
    let met: Vec<String> = (0..16).map(|_| get(&gateway).1).collect();
    assert!(met.contains(&"a".to_owned()) && met.contains(&"b".to_owned()), "{met:?}");
    let asked = server.asked();
    (0..8).for_each(|_| assert_eq!(get(&gateway).0, 200));
    assert_eq!(server.asked(), asked, "the answer is remembered");
}

#[test]
fn a_name_that_does_not_exist_is_told_and_remembered() {
    let server = NameServer::start();
    let gateway = named(&server, &[]);
    service(&gateway, "none.test", 80);
    let (status, text) = get(&gateway);
    assert_eq!((status, text.contains("name resolution failed")), (503, true), "{text}");
    let asked = server.asked();
    (0..5).for_each(|_| assert_eq!(get(&gateway).0, 503));
    assert_eq!(server.asked(), asked, "for dns_not_found_ttl");
}

/// Records have expired, the name server is gone: what was known serves, and no request waits.
#[test]
fn while_name_servers_are_gone_the_last_answer_serves() {
    let server = NameServer::start();
    let a = Peer::start("a");
    server.set("svc.test", 1, &[HERE]);
    server.set("tgt.test", 1, &[HERE]);
    let gateway = named(&server, &[("KONG_DNS_ORDER", "A")]);
    service(&gateway, "svc.test", a.port);
    made(&gateway, "/upstreams", &json!({ "name": "up" }));
    let target = format!("tgt.test:{}", a.port);
    made(&gateway, "/upstreams/up/targets", &json!({ "target": target }));
    made(&gateway, "/services", &json!({ "name": "t", "host": "up" }));
    made(&gateway, "/services/t/routes", &json!({ "paths": ["/t"] }));
    assert_eq!(get(&gateway).0, 200);
    assert_eq!(http::get(gateway.proxy, "/t", &[]).status, 200);
    server.is_gone(true);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        let asked = Instant::now();
        assert_eq!(get(&gateway), (200, "a".to_owned()), "after {:?}", begun.elapsed());
        assert_eq!(http::get(gateway.proxy, "/t", &[]).text(), "a");
        assert!(asked.elapsed() < Duration::from_millis(1_500), "{:?}", asked.elapsed());
        thread::sleep(Duration::from_millis(200));
    }
    server.is_gone(false);
    assert_eq!(get(&gateway).0, 200);
}

#[test]
fn the_hosts_file_comes_before_name_servers() {
    let server = NameServer::start();
    let a = Peer::start("a");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "127.0.0.1 svc.test # here\n").unwrap();
    let gateway = named(&server, &[("KONG_DNS_HOSTSFILE", file.path().to_str().unwrap())]);
    service(&gateway, "SVC.test", a.port);
    assert_eq!(get(&gateway), (200, "a".to_owned()));
    assert_eq!(server.asked(), 0);
}

/// Containers have such names.
#[test]
fn names_with_underscores_are_looked_up() {
    let server = NameServer::start();
    let peer = Peer::start("a");
    server.set("my_service.test", 60, &[HERE]);
    let gateway = named(&server, &[]);
    service(&gateway, "my_service.test", peer.port);
    until(&gateway, |answer| answer.0 == 200);
}
