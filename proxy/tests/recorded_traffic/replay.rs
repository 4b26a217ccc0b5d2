//! One file of scenarios, replayed against one gateway.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::compare::Normal;
use crate::gateway::{Gateway, free_port};
use crate::http::{self, Response};
use crate::learn::learn;
use crate::tls;
use crate::upstream::Upstream;

/// A deliberate difference: the scenario, what of it (`setup 2`, `response 0`, `received 1`, or
/// `all` of it, which is then not replayed), and why.
pub(crate) struct Known(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

/// How a file is replayed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plan {
    pub(crate) known: &'static [Known],
    /// Something is counted within a minute of the clock: a scenario waits for a fresh one.
    pub(crate) in_one_minute: bool,
    /// A rest before a request: the scenario, the number of the request, milliseconds.
    pub(crate) rests: &'static [(&'static str, usize, u64)],
    /// Requests that are not sent: the scenario, the number of the request.
    pub(crate) skips: &'static [(&'static str, usize)],
}

/// Seconds of a minute that a scenario may need.
const SCENARIO_S: u64 = 15;
/// Entities that a scenario may leave behind, children first.
const LEFT_BEHIND: [&str; 5] = ["/plugins", "/routes", "/services", "/consumers", "/upstreams"];

/// Replays every scenario of a plugin.
pub(crate) fn replay(plugin: &str, plan: &Plan) {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/plugins/{plugin}.jsonl"));
    let text = std::fs::read_to_string(file).unwrap();
    let gateway = Gateway::start("epoll", &[("KONG_NGINX_MAIN_WORKER_PROCESSES", "1")]);
    let upstream = Upstream::start(free_port());
    let (mut differences, mut used) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let scenario: Value = serde_json::from_str(line).unwrap();
        let name = scenario["scenario"].as_str().unwrap().to_owned();
        let known: Vec<_> = plan.known.iter().filter(|known| known.0 == name).collect();
        if known.iter().any(|known| known.1 == "all") {
            eprintln!("{plugin}: {name}: not replayed: {}", known[0].2);
            continue;
        }
        for (what, found, expected) in one(&gateway, &upstream, &scenario, plan) {
            if known.iter().any(|known| known.1 == what) {
                used.push((name.clone(), what));
            } else {
                differences
                    .push(format!("{name}, {what}:\n  found    {found}\n  expected {expected}"));
            }
        }
        clear(&gateway);
    }
    assert!(differences.is_empty(), "{plugin}:\n{}", differences.join("\n"));
    for Known(name, what, _) in plan.known.iter().filter(|known| known.1 != "all") {
        let differs = used.iter().any(|(n, w)| n == name && w == what);
        assert!(differs, "{plugin}: {name}, {what} no longer differs: take it off the list");
    }
}

type Difference = (String, Value, Value);

fn one(gateway: &Gateway, upstream: &Upstream, scenario: &Value, plan: &Plan) -> Vec<Difference> {
    if plan.in_one_minute {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 60;
        if 60 - now_s < SCENARIO_S {
            sleep(Duration::from_secs(60 - now_s));
        }
    }
    let received = scenario["received"].as_array().unwrap();
    upstream.expect(received.iter().map(|row| row["answered"].clone()).collect());
    let mut run = Run {
        gateway,
        upstream,
        ours: Normal::new(),
        theirs: Normal::new(),
        names: BTreeMap::new(),
        differences: Vec::new(),
    };
    for (at, step) in scenario["setup"].as_array().unwrap().iter().enumerate() {
        run.set_up(at, step);
    }
    let requests = scenario["request"].as_array().unwrap();
    let responses = scenario["response"].as_array().unwrap();
    for (at, (request, response)) in requests.iter().zip(responses).enumerate() {
        let name = scenario["scenario"].as_str().unwrap();
        if plan.skips.contains(&(name, at)) {
            continue;
        }
        let rest = plan.rests.iter().find(|rest| rest.0 == name && rest.1 == at);
        sleep(Duration::from_millis(rest.map_or(0, |rest| rest.2)));
        run.ask(at, request, response);
    }
    let got = upstream.got();
    for at in 0..got.len().max(received.len()) {
        let ours = got.get(at).map(|got| run.ours.request(&got.head, &got.body));
        let theirs = received.get(at).map(|row| {
            let head = run.renamed(text(&row["head"]));
            let sent = run.renamed_bytes(body(row));
            run.theirs.request(&head, &sent)
        });
        run.compare(format!("received {at}"), ours.into(), theirs.into());
    }
    run.differences
}

struct Run<'a> {
    gateway: &'a Gateway,
    upstream: &'a Upstream,
    ours: Normal,
    theirs: Normal,
    /// What was called so then, and is called so now: ids, keys, ports.
    names: BTreeMap<String, String>,
    differences: Vec<Difference>,
}

impl Run<'_> {
    fn set_up(&mut self, at: usize, step: &Value) {
        let port = format!("127.0.0.1:{}", self.upstream.port);
        let sent = self.renamed(&step["body"].to_string()).replace("127.0.0.1:9999", &port);
        let path = self.renamed(text(&step["path"]));
        let sent: Value = serde_json::from_str(&sent).unwrap();
        let reply = self.gateway.admin(text(&step["method"]), &path, &sent);
        if let (Some(then), Ok(now)) =
            (step["id"].as_str(), serde_json::from_slice::<Value>(&reply.body))
        {
            self.names.insert(then.to_owned(), text(&now["id"]).to_owned());
        }
        let (mut ours, mut theirs) = (Value::Null, Value::Null);
        if !step["answer"].is_null() {
            ours = self.ours.body(&reply.body);
            theirs = self.theirs.body(step["answer"].to_string().as_bytes());
        }
        let ours = json!({"status": reply.status, "answer": ours});
        let theirs = json!({"status": step["status"], "answer": theirs});
        self.compare(format!("setup {at}"), ours, theirs);
    }

    fn ask(&mut self, at: usize, request: &Value, expected: &Value) {
        let (port, call): (_, Call) = match text(&request["to"]) {
            "proxy" => (self.gateway.proxy, http::call),
            "admin" => (self.gateway.admin, http::call),
            "tls" => (self.gateway.tls, tls::call),
            other => panic!("this replay does not know the port of {other}"),
        };
        let headers: Vec<(String, String)> = pairs(&request["headers"])
            .filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))
            .map(|(name, value)| (name.to_owned(), self.renamed(value)))
            .collect();
        let mut headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let sent = self.renamed_bytes(body(request));
        if sent.is_empty() && pairs(&request["headers"]).any(|(n, _)| n == "Content-Length") {
            headers.push(("Content-Length", "0"));
        }
        let path = self.renamed(text(&request["path"]));
        let found = call(port, text(&request["method"]), &path, &headers, &sent);
        learn(&mut self.names, expected, &found);
        let expected: Value = serde_json::from_str(&self.renamed(&expected.to_string())).unwrap();
        let ours = json!({
            "status": found.status,
            "headers": self.ours.lines(found.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()))),
            "body": self.ours.body(&found.body),
        });
        let theirs = json!({
            "status": expected["status"],
            "headers": self.theirs.lines(pairs(&expected["headers"])),
            "body": self.theirs.body(&body(&expected)),
        });
        self.compare(format!("response {at}"), ours, theirs);
    }

    fn renamed(&self, text: &str) -> String {
        let rename = |text: String, (then, now): (&String, &String)| text.replace(then, now);
        self.names.iter().fold(text.to_owned(), rename)
    }

    /// A body that is text, renamed.
    fn renamed_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        match String::from_utf8(bytes) {
            Ok(text) => self.renamed(&text).into_bytes(),
            Err(other) => other.into_bytes(),
        }
    }

    fn compare(&mut self, what: String, ours: Value, theirs: Value) {
        if ours != theirs {
            self.differences.push((what, ours, theirs));
        }
    }
}

/// A request, in the clear or over TLS.
type Call = fn(u16, &str, &str, &[(&str, &str)], &[u8]) -> Response;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

pub(crate) fn pairs(value: &Value) -> impl Iterator<Item = (&str, &str)> {
    value.as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1])))
}

/// A body as bytes: `raw` and `body_base64` are base64, `body` is text, or JSON by its meaning.
fn body(row: &Value) -> Vec<u8> {
    use base64::Engine;
    let encoded = row["raw"].as_str().or(row["body_base64"].as_str());
    match (encoded, &row["body"]) {
        (Some(encoded), _) => base64::engine::general_purpose::STANDARD.decode(encoded).unwrap(),
        (None, Value::String(text)) => text.clone().into_bytes(),
        (None, Value::Null) => Vec::new(),
        (None, json) => json.to_string().into_bytes(),
    }
}

fn clear(gateway: &Gateway) {
    for entity in LEFT_BEHIND {
        let rows = http::get(gateway.admin, &format!("{entity}?size=1000"), &[]).json();
        for row in rows["data"].as_array().into_iter().flatten() {
            let path = format!("{entity}/{}", text(&row["id"]));
            let reply = http::call(gateway.admin, "DELETE", &path, &[], b"");
            assert_eq!(reply.status, 204, "DELETE {path}");
        }
    }
}
