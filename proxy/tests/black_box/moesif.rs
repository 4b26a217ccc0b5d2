//! What Moesif says about an application holds on the road: rules, sampling, and what people see.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::collector::Collector;
use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http;

struct Stage {
    gateway: Gateway,
    _upstream: Echo,
    collector: Collector,
}

fn stage(driver: &str, config: &Value, rules: &Value, more: &str) -> Stage {
    let (upstream, collector) = (Echo::start(), Collector::start());
    collector.say(config, rules);
    let gateway = Gateway::start(driver, &[]);
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let form = format!(
        "name=moesif&config.application_id=app-0123456789&config.api_endpoint={endpoint}\
         &config.user_id_header=X-User{more}"
    );
    gateway.route("/posts", upstream.port);
    gateway.post("/plugins", &form);
    Stage { gateway, _upstream: upstream, collector }
}

fn rule(id: &str, kind: &str, more: &Value) -> Value {
    let mut rule = json!({
        "_id": id, "name": id, "type": kind, "block": true, "regex_config": [],
        "variables": [{"name": "0"}],
        "response": {"status": 429, "headers": {"X-Rule": "{{0}}"}, "body": {"msg": "over {{0}}"}},
    });
    for (name, value) in more.as_object().unwrap() {
        rule[name] = value.clone();
    }
    rule
}

/// What an endpoint shows once there is something; it is renewed several times a second.
fn shown(gateway: &Gateway, path: &str) -> Value {
    let begun = Instant::now();
    loop {
        let shown = http::get(gateway.admin, path, &[]).json();
        if shown["data"].as_array().is_some_and(|data| !data.is_empty()) {
            return shown;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{path}: {shown}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rules_block_add_headers_and_are_reported() {
    for driver in drivers() {
        let drop = json!([{"conditions": [
            {"path": "request.body.operationName", "value": "^Drop"},
            {"path": "request.route", "value": "^/posts/(graphql|query)$"}]}]);
        let rules = json!([
            rule("by-user", "user", &json!({})),
            rule("graphql", "regex", &json!({"regex_config": drop})),
            rule(
                "broken",
                "regex",
                &json!({"regex_config": [{"conditions": [
                {"path": "request.verb", "value": "("}]}]})
            ),
            rule(
                "soft",
                "regex",
                &json!({"block": false, "response": {"headers": {"X-Soft": "yes"}}})
            ),
        ]);
        let config = json!({"sample_rate": 100, "user_rules":
            {"greedy": [{"rules": "by-user", "values": {"0": "100 calls"}}]}});
        let stage = stage(driver, &config, &rules, "");
        let gateway = &stage.gateway;
        gateway.until("/posts", |answer| answer.header("x-soft") == Some("yes"));

        let answer = http::get(gateway.proxy, "/posts?blocked", &[("X-User", "greedy")]);
        assert_eq!((answer.status, answer.json()), (429, json!({"msg": "over 100 calls"})));
        assert_eq!(answer.header("x-rule"), Some("100 calls"));
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        let id = answer.header("x-moesif-transaction-id").unwrap().to_owned();

        let kind = [("Content-Type", "application/json")];
        let post = |body: &str| {
            http::call(gateway.proxy, "POST", "/posts/graphql", &kind, body.as_bytes())
        };
        assert_eq!(post(r#"{"operationName":"DropAll","query":"mutation{x}"}"#).status, 429);
        let answer = post(r#"{"operationName":"List"}"#);
        assert_eq!((answer.status, answer.header("x-soft")), (200, Some("yes")));
        assert_eq!(answer.json()["body"], r#"{"operationName":"List"}"#, "{}", answer.text());
        assert_eq!(post(r#"{"operationName":"Drop"#).status, 200, "broken JSON is no crime");

        let reported = |blocked_by: &str| {
            let begun = Instant::now();
            loop {
                let events = stage.collector.events();
                let found = events.into_iter().find(|event| event["blocked_by"] == blocked_by);
                if let Some(event) = found {
                    return event;
                }
                assert!(begun.elapsed() < Duration::from_secs(20), "{blocked_by} is not reported");
                thread::sleep(Duration::from_millis(20));
            }
        };
        let event = reported("by-user");
        assert_eq!((&event["transaction_id"], &event["user_id"]), (&json!(id), &json!("greedy")));
        assert_eq!(event["response"]["body"], json!({"msg": "over 100 calls"}));
        assert_eq!(event["response"]["headers"]["content-length"], "24", "{event}");
        let event = reported("graphql");
        assert_eq!(event["request"]["body"]["operationName"], "DropAll", "{event}");

        let status = shown(gateway, "/plugins/moesif/status");
        let application = &status["data"][0];
        assert_eq!(application["configuration"]["rules"], 4, "{status}");
        let off = application["configuration"]["switched_off"].to_string();
        assert!(off.contains("rule broken is switched off"), "{status}");
        let sum = |name: &str| application[name].as_u64().unwrap();
        assert_eq!(sum("received"), sum("delivered") + sum("queued") + sum("dropped"), "{status}");
    }
}

#[test]
fn what_is_sampled_out_is_not_reported_and_the_rest_says_how_many_it_stands_for() {
    for driver in drivers() {
        let half = json!([{"conditions": [{"path": "request.route", "value": "/half$"}],
            "sample_rate": 50}]);
        let config = json!({"sample_rate": 0, "user_sample_rate": {"watched": 100},
            "regex_config": half});
        let rules = json!([rule(
            "soft",
            "regex",
            &json!({"block": false,
            "response": {"headers": {"X-Soft": "yes"}}})
        )]);
        let stage = stage(driver, &config, &rules, "&config.debug=true");
        let gateway = &stage.gateway;
        gateway.until("/posts", |answer| answer.header("x-soft") == Some("yes"));
        for _ in 0..40 {
            http::get(gateway.proxy, "/posts/none", &[]);
            http::get(gateway.proxy, "/posts/half", &[]);
        }
        http::get(gateway.proxy, "/posts/last", &[("X-User", "watched")]);
        let begun = Instant::now();
        let of = |end: &str| {
            let events = stage.collector.events().into_iter();
            let uri = |event: &Value| event["request"]["uri"].as_str().unwrap().to_owned();
            events.filter(|event| uri(event).ends_with(end)).collect::<Vec<_>>()
        };
        while of("/posts/last").is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the last event does not come");
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(of("/posts/last")[0]["weight"], 1);
        assert_eq!(of("/posts/none").len(), 0);
        let halves = of("/posts/half");
        assert!((4..37).contains(&halves.len()), "{} of 40", halves.len());
        assert!(halves.iter().all(|event| event["weight"] == 2));

        let recent = shown(gateway, "/plugins/moesif/recent");
        let events = recent["data"][0]["events"].as_array().unwrap();
        assert!(events.len() <= 20 && !events.is_empty(), "{recent}");
        let last = stage.collector.events().pop().unwrap();
        assert_eq!(events.last(), Some(&last), "as it was sent");
    }
}

#[test]
fn address_headers_are_believed_of_trusted_peers_or_of_all() {
    for (trusted, expected) in
        [("", "198.51.100.7"), ("127.0.0.0/8", "198.51.100.7"), ("10.0.0.0/8", "127.0.0.1")]
    {
        let driver = drivers()[0];
        let (upstream, collector) = (Echo::start(), Collector::start());
        let gateway = Gateway::start(driver, &[("KONG_TRUSTED_IPS", trusted)]);
        let endpoint = format!("http://127.0.0.1:{}", collector.port);
        gateway.route("/posts", upstream.port);
        let form = format!("name=moesif&config.application_id=a&config.api_endpoint={endpoint}");
        gateway.post("/plugins", &form);
        gateway.until("/posts", |answer| answer.header("x-moesif-transaction-id").is_some());
        http::get(gateway.proxy, "/posts?xff", &[("X-Forwarded-For", "198.51.100.7, 10.0.0.1")]);
        let events = collector.wait(2);
        let uri = |event: &Value| event["request"]["uri"].as_str().unwrap().to_owned();
        let event = events.iter().find(|event| uri(event).ends_with("?xff")).unwrap();
        assert_eq!(event["request"]["ip_address"], expected, "trusted_ips={trusted:?}");
    }
}
