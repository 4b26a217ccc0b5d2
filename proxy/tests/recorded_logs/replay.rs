//! One file of scenarios, replayed against one gateway.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gateway::{Gateway, free_port};
use crate::http::{self, Connection};
use crate::normal::entry;
use crate::stand_ins::{Heap, Server};

/// How long the sinks are waited for; then what is there is compared.
const PATIENCE: Duration = Duration::from_secs(8);
/// How much longer, for what must not come.
const EXTRA: Duration = Duration::from_millis(250);
/// Entities that a scenario may leave behind, children first.
const LEFT_BEHIND: [&str; 5] = ["/plugins", "/routes", "/services", "/consumers", "/upstreams"];
/// Ports of the recording that take lines.
const LINES: [u64; 2] = [9103, 8128];
/// Ports of the recording that take datagrams.
const DATAGRAMS: [u64; 5] = [9104, 8125, 8126, 8127, 514];

/// Everybody that a scenario needs.
struct Stage {
    gateway: Gateway,
    upstream: Server,
    sink: Server,
    heap: Heap,
    lines: u16,
    datagrams: u16,
}

/// Replays every scenario of a plugin.
pub(crate) fn replay(plugin: &str, known: &[(&str, &str)]) {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/logs/{plugin}.jsonl"));
    let text = std::fs::read_to_string(file).unwrap();
    let heap = Heap::default();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    heap.messages(&log);
    let env = [
        ("KONG_NGINX_MAIN_WORKER_PROCESSES", "1"),
        ("TOLLGATE_SYSLOG_SOCKET", log.to_str().unwrap()),
    ];
    let stage = Stage {
        gateway: Gateway::start("epoll", &env),
        upstream: Server::start(),
        sink: Server::start(),
        lines: heap.lines(),
        datagrams: heap.datagrams(),
        heap,
    };
    let mut differences = Vec::new();
    for line in text.lines() {
        let scenario: Value = serde_json::from_str(line).unwrap();
        let name = scenario["scenario"].as_str().unwrap();
        if let Some((_, why)) = known.iter().find(|(known, _)| *known == name) {
            eprintln!("{plugin}: {name}: not compared: {why}");
            continue;
        }
        let (found, expected) = stage.play(plugin, &scenario);
        for at in 0..found.len().max(expected.len()) {
            let (ours, theirs) = (found.get(at), expected.get(at));
            if ours != theirs {
                let shown =
                    |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
                let (ours, theirs) = (shown(ours), shown(theirs));
                differences.push(format!("{name}, {at}:\n  found    {ours}\n  expected {theirs}"));
            }
        }
        stage.clear();
    }
    assert!(differences.is_empty(), "{plugin}:\n{}", differences.join("\n"));
}

impl Stage {
    /// Plays one scenario: what the sinks got, and what they should have got.
    fn play(&self, plugin: &str, scenario: &Value) -> (Vec<Value>, Vec<Value>) {
        let received = scenario["received"].as_array().unwrap();
        let of = |port: &str| {
            let to = |row: &&Value| row["to"].as_str().is_some_and(|to| to.ends_with(port));
            received.iter().filter(to).map(|row| row["answered"].clone()).collect()
        };
        self.upstream.expect(of(":9999"));
        self.sink.expect(of(":9101"));
        self.heap.forget();
        let mut names = BTreeMap::new();
        let mut path = None;
        for step in scenario["setup"].as_array().unwrap() {
            self.set_up(plugin, step, &mut names, &mut path);
        }
        sleep(EXTRA);
        for request in scenario["request"].as_array().unwrap() {
            self.ask(request);
        }
        let expected = expected(received);
        let begun = Instant::now();
        while self.got(path.as_deref()).len() < expected.len() && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(20));
        }
        sleep(EXTRA);
        (self.got(path.as_deref()), expected)
    }

    fn set_up(
        &self,
        plugin: &str,
        step: &Value,
        names: &mut BTreeMap<String, String>,
        path: &mut Option<String>,
    ) {
        let mut body = self.moved(&step["body"]);
        if step["body"]["name"] == plugin {
            let config = &mut body["config"];
            if matches!(plugin, "statsd" | "datadog" | "loggly") && config.get("port").is_none() {
                config["port"] = json!(self.datagrams);
                config["host"] = json!("127.0.0.1");
            }
            if plugin == "file-log" {
                let file = self.gateway.prefix.path().join(format!("{}.log", free_port()));
                config["path"] = json!(file);
                *path = Some(file.display().to_string());
            }
        }
        let renamed =
            names.iter().fold(step["path"].as_str().unwrap().to_owned(), |text, (a, b)| {
                text.replace(a.as_str(), b)
            });
        let reply = self.gateway.admin(step["method"].as_str().unwrap(), &renamed, &body);
        assert_eq!(u64::from(reply.status), step["status"].as_u64().unwrap(), "{}", reply.text());
        if let (Some(then), true) = (step["id"].as_str(), reply.status == 201) {
            names.insert(then.to_owned(), reply.json()["id"].as_str().unwrap().to_owned());
        }
    }

    /// The ports of the recording become ours.
    fn moved(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let upstream = format!("127.0.0.1:{}", self.upstream.port);
                let sink = format!("127.0.0.1:{}", self.sink.port);
                let text = text.replace("127.0.0.1:9999", &upstream);
                json!(text.replace("127.0.0.1:9101", &sink))
            }
            Value::Number(number) => match number.as_u64() {
                Some(9999) => json!(self.upstream.port),
                Some(port) if LINES.contains(&port) => json!(self.lines),
                Some(port) if DATAGRAMS.contains(&port) => json!(self.datagrams),
                _ => value.clone(),
            },
            Value::Array(items) => items.iter().map(|item| self.moved(item)).collect(),
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| (name.clone(), self.moved(value));
                Value::Object(members.iter().map(member).collect())
            }
            other => other.clone(),
        }
    }

    /// The request byte by byte, so that sizes are the same.
    fn ask(&self, request: &Value) {
        let text = |name: &str| request[name].as_str().unwrap_or("");
        let mut bytes = format!("{} {} HTTP/1.1\r\n", text("method"), text("path"));
        for pair in request["headers"].as_array().into_iter().flatten() {
            bytes += &format!("{}: {}\r\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        }
        bytes += "\r\n";
        bytes += text("body");
        let mut connection = Connection::open(self.gateway.proxy);
        connection.send(bytes.as_bytes());
        let _answer = connection.read(text("method") == "HEAD").expect("an answer");
    }

    /// What the sinks got so far.
    fn got(&self, path: Option<&str>) -> Vec<Value> {
        let mut got: Vec<Value> = Vec::new();
        for (head, body) in self.sink.got() {
            got.push(json!([head_of(&head), entry(&body)]));
        }
        got.extend(self.heap.take().iter().map(|text| entry(text)));
        if let Some(path) = path {
            let lines = std::fs::read_to_string(path).unwrap_or_default();
            got.extend(lines.lines().map(entry));
        }
        got
    }

    fn clear(&self) {
        for entity in LEFT_BEHIND {
            let rows = http::get(self.gateway.admin, &format!("{entity}?size=1000"), &[]).json();
            for row in rows["data"].as_array().into_iter().flatten() {
                let path = format!("{entity}/{}", row["id"].as_str().unwrap());
                let reply = http::call(self.gateway.admin, "DELETE", &path, &[], b"");
                assert_eq!(reply.status, 204, "DELETE {path}");
            }
        }
    }
}

/// What a sink's head tells, without what turns on ports, lengths and the program's name.
fn head_of(head: &str) -> Value {
    let mut lines = head.lines().filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("").to_owned();
    let skipped = ["host", "content-length", "accept", "accept-encoding"];
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let mut kept: Vec<(String, String)> = pairs
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, value)| {
            let usual = value.starts_with("lua-resty-http/") || value.starts_with("tollgate/");
            !(skipped.contains(&name.as_str()) || name == "user-agent" && usual)
        })
        .collect();
    kept.sort();
    json!([first, kept])
}

/// What the recording says that sinks got, in order; lists of lines one by one.
fn expected(received: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for row in received {
        let protocol = row["protocol"].as_str().unwrap_or("");
        let to_upstream = row["to"].as_str().is_some_and(|to| to.ends_with(":9999"));
        match (protocol, &row["body"]) {
            ("http", _) if to_upstream => {}
            ("http", body) => {
                let head = head_of(row["head"].as_str().unwrap());
                all.push(json!([head, entry(&body.to_string())]));
            }
            (_, Value::Array(items)) => all.extend(items.iter().map(|item| match item {
                Value::String(text) => entry(text),
                json => entry(&json.to_string()),
            })),
            (_, Value::String(text)) => all.push(entry(text)),
            (_, json) => all.push(entry(&json.to_string())),
        }
    }
    all.retain(|entry| entry.as_array().is_none_or(|lines| !lines.is_empty()));
    all
}
