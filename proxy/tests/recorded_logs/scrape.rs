//! What a real Kong's `/metrics` showed after some traffic, compared with ours after the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::http::{self, Connection};
use crate::stand_ins::Server;

/// Families whose values are the same in every run.
const EXACT: [&str; 3] =
    ["kong_http_requests_total", "kong_upstream_target_health", "kong_datastore_reachable"];
/// Families of which the labels are the same, and the counts.
const COUNTED: [&str; 3] =
    ["kong_kong_latency_ms", "kong_request_latency_ms", "kong_upstream_latency_ms"];

/// Replays every scenario, each on a gateway that has counted nothing.
pub(crate) fn replay() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/logs/prometheus.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    for line in text.lines() {
        let scenario: Value = serde_json::from_str(line).unwrap();
        let name = scenario["scenario"].as_str().unwrap();
        let upstream = Server::start();
        upstream.expect(scenario["answered"].as_array().unwrap().clone());
        let gateway = Gateway::start("epoll", &[]);
        set_up(&gateway, &upstream, &scenario);
        sleep(Duration::from_millis(300));
        for request in scenario["request"].as_array().unwrap() {
            ask(&gateway, request, name);
        }
        let ours = http::get(gateway.admin, "/metrics", &[]).text();
        let ours = ours.replace(&format!(":{}\"", upstream.port), ":9999\"");
        compare(name, &ours, scenario["metrics"].as_str().unwrap());
    }
}

fn set_up(gateway: &Gateway, upstream: &Server, scenario: &Value) {
    for step in scenario["setup"].as_array().unwrap() {
        let body = step["body"].to_string();
        let body = body.replace("127.0.0.1:9999", &format!("127.0.0.1:{}", upstream.port));
        let body: Value = serde_json::from_str(&body).unwrap();
        let (method, path) = (step["method"].as_str().unwrap(), step["path"].as_str().unwrap());
        let reply = gateway.admin(method, path, &body);
        let expected = step["status"].as_u64().unwrap();
        assert_eq!(u64::from(reply.status), expected, "{path}: {}", reply.text());
    }
}

fn ask(gateway: &Gateway, request: &Value, name: &str) {
    let text = |member: &str| request[member].as_str().unwrap_or("");
    let mut bytes = format!("{} {} HTTP/1.1\r\n", text("method"), text("path"));
    for pair in request["headers"].as_array().unwrap() {
        bytes += &format!("{}: {}\r\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    }
    bytes += "\r\n";
    let mut connection = Connection::open(gateway.proxy);
    connection.send(bytes.as_bytes());
    let answer = connection.read(false).unwrap();
    let expected = request["expected_status"].as_u64().unwrap();
    assert_eq!(u64::from(answer.status), expected, "{name}: {}", text("path"));
}

type Lines = BTreeMap<String, String>;

/// Metric with labels → value.
fn lines(text: &str) -> Lines {
    let own = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    own.map(|line| line.rsplit_once(' ').unwrap())
        .map(|(metric, value)| (metric.to_owned(), value.to_owned()))
        .collect()
}

fn heads(text: &str) -> BTreeSet<&str> {
    text.lines().filter(|line| line.starts_with("# ") && line.contains(" kong_")).collect()
}

fn compare(name: &str, ours: &str, theirs: &str) {
    assert!(ours.lines().all(|line| !line.starts_with("kong_") || line.contains(' ')));
    let missing: Vec<_> = heads(theirs).difference(&heads(ours)).copied().collect();
    assert_eq!(json!(missing), json!([]), "{name}: families");
    let (found, expected) = (lines(ours), lines(theirs));
    let of = |lines: &Lines, families: &[&str], part: &str| -> Lines {
        let wanted = |metric: &str| {
            let own = metric.split('{').next().unwrap_or(metric);
            families.iter().any(|family| own == format!("{family}{part}"))
        };
        let kept = lines.iter().filter(|(metric, _)| wanted(metric));
        kept.map(|(metric, value)| (metric.clone(), value.clone())).collect()
    };
    assert_eq!(of(&found, &EXACT, ""), of(&expected, &EXACT, ""), "{name}");
    assert_eq!(of(&found, &COUNTED, "_count"), of(&expected, &COUNTED, "_count"), "{name}");
    let labels = |lines: &Lines| of(lines, &COUNTED, "_bucket").into_keys().collect::<Vec<_>>();
    assert_eq!(labels(&found), labels(&expected), "{name}");
    for (metric, value) in of(&expected, &["kong_bandwidth_bytes"], "") {
        let ours = found.get(&metric).unwrap_or_else(|| panic!("{name}: {metric}"));
        if metric.contains("direction=\"ingress\"") {
            assert_eq!(*ours, value, "{name}: {metric}");
        } else {
            // The answer's size turns on the program's name.
            assert!(ours.parse::<u64>().unwrap() > 100, "{name}: {metric} {ours}");
        }
    }
}
