//! Every exchange arrives at the collector once, whatever happens on the way.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use super::collector::Collector;
use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http;

fn reported(driver: &str, config: &str) -> (Gateway, Echo, Collector) {
    let (upstream, collector) = (Echo::start(), Collector::start());
    let gateway = Gateway::start(driver, &[]);
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let form =
        format!("name=moesif&config.application_id=app&config.api_endpoint={endpoint}{config}");
    gateway.route("/posts", upstream.port);
    gateway.post("/plugins", &form);
    gateway.until("/posts", |r| r.header("x-moesif-transaction-id").is_some());
    (gateway, upstream, collector)
}

/// The id by which the collector tells events apart.
fn id(event: &serde_json::Value) -> String {
    event["transaction_id"].as_str().expect("every event has an id").to_owned()
}

#[test]
fn an_event_tells_what_was_asked_who_asked_and_what_was_answered() {
    for driver in drivers() {
        let (gateway, _upstream, collector) = reported(
            driver,
            "&config.request_header_masks[]=x-secret&config.request_body_masks[]=pin",
        );
        gateway.post("/services/posts/plugins", "name=key-auth&config.hide_credentials=true");
        gateway.post("/consumers", "username=admin");
        gateway.post("/consumers/admin/key-auth", "key=letmein");
        gateway.until("/posts", |response| response.status == 401);
        let before = collector.wait(2).len();
        let headers =
            [("Content-Type", "application/json"), ("X-Secret", "s"), ("apikey", "letmein")];
        let body = br#"{"title":"x","pin":1234,"n":10000000000000001}"#;
        let answer = http::call(gateway.proxy, "POST", "/posts?q=1", &headers, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = answer.header("x-moesif-transaction-id").unwrap();
        let events = collector.wait(before + 1);
        let event = events.iter().find(|event| id(event) == sent).expect("the event of this call");
        assert_eq!(event["user_id"], "admin", "{event}");
        assert_eq!(event["request"]["verb"], "POST");
        let uri = event["request"]["uri"].as_str().unwrap();
        assert!(uri.ends_with("/posts?q=1"), "{uri}");
        assert_eq!(event["response"]["status"], 200);
        assert_eq!(event["request"]["headers"].get("x-secret"), None, "{event}");
        assert_eq!(event["request"]["headers"].get("apikey"), None, "{event}");
        let kept = serde_json::json!({"title": "x", "n": 10_000_000_000_000_001_u64});
        assert_eq!(event["request"]["body"], kept);
        assert_eq!(event["response"]["body"]["method"], "POST", "{event}");
    }
}

#[test]
fn a_collector_that_is_away_for_a_while_costs_no_event_and_doubles_none() {
    for driver in drivers() {
        let (gateway, _upstream, collector) = reported(driver, "");
        let before = collector.wait(1).len();
        collector.answer(503);
        let sent: Vec<String> = (0..40)
            .map(|n| {
                let answer = http::get(gateway.proxy, &format!("/posts?n={n}"), &[]);
                answer.header("x-moesif-transaction-id").unwrap().to_owned()
            })
            .collect();
        while collector.refused() == 0 {
            thread::sleep(Duration::from_millis(20));
        }
        collector.answer(201);
        count_each_once(&collector.wait(before + sent.len()), &sent, driver);
    }
}

#[test]
fn what_a_client_saw_answered_is_reported_once_after_a_kill() {
    for driver in drivers() {
        let (mut gateway, _upstream, collector) = reported(driver, "");
        let mut sent = Vec::new();
        for round in 0..3 {
            for n in 0..25 {
                let answer = http::get(gateway.proxy, &format!("/posts?r={round}&n={n}"), &[]);
                sent.push(answer.header("x-moesif-transaction-id").unwrap().to_owned());
            }
            gateway.kill_and_restart();
        }
        count_each_once(&collector.wait(sent.len()), &sent, driver);
    }
}

/// A collector discards repeats by the id, so an event may come twice, but never under two ids.
fn count_each_once(events: &[serde_json::Value], sent: &[String], driver: &str) {
    let mut by_target: HashMap<String, Vec<String>> = HashMap::new();
    for event in events {
        let target = event["request"]["uri"].as_str().unwrap().to_owned();
        let ids = by_target.entry(target).or_default();
        if !ids.contains(&id(event)) {
            ids.push(id(event));
        }
    }
    for wanted in sent {
        let under: Vec<_> = by_target.values().filter(|ids| ids.contains(wanted)).collect();
        assert_eq!(under.len(), 1, "{driver}: {wanted} is reported once");
        assert_eq!(under[0].len(), 1, "{driver}: {wanted} is reported under one id");
    }
}

#[test]
fn the_sums_add_up() {
    for driver in drivers() {
        let (gateway, _upstream, collector) = reported(driver, "");
        for _ in 0..20 {
            http::get(gateway.proxy, "/posts", &[]);
        }
        collector.wait(20);
        let status = http::get(gateway.admin, "/status", &[]).json();
        let sums = &status["tollgate"]["events"];
        let sum = |name: &str| sums[name].as_u64().unwrap_or_else(|| panic!("{name}: {status}"));
        assert!(sum("received") >= 21, "{status}");
        assert_eq!(sum("received"), sum("delivered") + sum("queued") + sum("dropped"), "{status}");
    }
}
