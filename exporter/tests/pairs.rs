//! Events compared with those of the original plugin, recorded from the same inputs.
//!
//! A `parity` pair must be equal. An `original_defect` pair must differ exactly as its `ours` says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: a panic is its fault report")]

#[path = "common/python.rs"]
mod python;

use exporter::event::record::Record;
use exporter::event::{
    Body, BodyState, Consumer, Credential, Direction, Lines, RECORD_VERSION, Report, Scheme,
};
use exporter::moesif::conditions::Asked;
use exporter::moesif::event::push_event;
use exporter::moesif::headers::Headers;
use exporter::moesif::identify::{Traces, identify};
use exporter::moesif::pattern::Searches;
use exporter::moesif::remote::Remote;
use exporter::moesif::sampling::weight;
use exporter::moesif::settings::Settings;
use python::{environment, told};
use runtime::http::head::Fields;
use runtime::ring::{self, Next};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The recorded pairs, and those that the same harness gave for further inputs.
fn pairs() -> Vec<Value> {
    let mut pairs = Vec::new();
    for (name, least) in [("moesif-pairs.json", 50), ("moesif-pairs-more.json", 200)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        let mut document: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let Value::Array(found) = document["pairs"].take() else { panic!("{name} has no pairs") };
        assert!(found.len() > least, "{name} was cut");
        pairs.extend(found);
    }
    pairs
}

#[test]
fn events_are_the_originals_or_better() {
    let pairs = pairs();
    let faults: Vec<String> = pairs.iter().filter_map(|pair| check(pair).err()).collect();
    assert!(faults.is_empty(), "{} of {} pairs:\n{}", faults.len(), pairs.len(), faults.join("\n"));
}

/// Runs one pair; the fault says what is different.
fn check(pair: &Value) -> Result<(), String> {
    let id = pair["id"].as_str().unwrap();
    let mut expected = pair["event"].clone();
    let better: Vec<_> = pair["ours"].as_object().into_iter().flatten().collect();
    let parity = pair["verdict"] == "parity";
    assert!(!parity || better.is_empty(), "{id} is parity: no difference is allowed");
    for (place, value) in better {
        put(&mut expected, place, value.clone());
    }
    let found = event_of(pair);
    if expected.is_null() || found.is_null() {
        return match found == expected {
            true => Ok(()),
            false => Err(format!("{id}\n  ours     {found}\n  expected {expected}")),
        };
    }
    // Three digits and Z everywhere, from integers: the recorded times went through floats.
    put(&mut expected, "/request/time", json!(time(&pair["input"]["request"]["start_time"], 123)));
    put(&mut expected, "/response/time", json!(time(&pair["input"]["now"], 456)));
    put(&mut expected, "/transaction_id", json!("07070707-0707-0707-0707-070707070707"));
    if found == expected {
        return Ok(());
    }
    Err(format!("{id}\n  ours     {found}\n  expected {expected}\n  note {}", pair["note"]))
}

fn put(event: &mut Value, place: &str, value: Value) {
    if place.is_empty() {
        *event = value;
        return;
    }
    let (parent, name) = place.rsplit_once('/').unwrap();
    let parent = event.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => parent.remove(name),
        value => parent.insert(name.to_owned(), value),
    };
}

fn micros(seconds: &Value, default_ms: u64) -> u64 {
    let text = seconds.as_number().map(ToString::to_string);
    let text = text.unwrap_or_else(|| format!("1700000000.{default_ms:03}"));
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let fraction = format!("{fraction:0<6}");
    whole.parse::<u64>().unwrap() * 1_000_000 + fraction.parse::<u64>().unwrap()
}

fn time(seconds: &Value, default_ms: u64) -> String {
    let at = jiff::Timestamp::from_microsecond(micros(seconds, default_ms) as i64).unwrap();
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

fn bytes(value: &Value) -> Vec<u8> {
    use base64::Engine;
    if let Some(text) = value.as_str() {
        return text.as_bytes().to_vec();
    }
    if let Some(text) = value["b64"].as_str() {
        return base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    }
    value["repeat"].as_str().unwrap().repeat(value["n"].as_u64().unwrap() as usize).into_bytes()
}

fn headers(message: &Value, added: Option<&str>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut lines: Vec<(Vec<u8>, Vec<u8>)> = message["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (bytes(&line[0]), bytes(&line[1])))
        .collect();
    let name = b"x-moesif-transaction-id";
    let blank = |(line, value): &(Vec<u8>, Vec<u8>)| {
        line.eq_ignore_ascii_case(name) && value.trim_ascii().is_empty()
    };
    lines.retain(|line| added.is_none() || !blank(line));
    if let Some(id) = added
        && !lines.iter().any(|(line, _)| line.eq_ignore_ascii_case(name))
    {
        lines.push((name.to_vec(), id.as_bytes().to_vec()));
    }
    lines
}

/// What the plugin's capture would have made of a body, as documented.
fn state(reached: bool, body: Option<usize>, disabled: bool, bytes_max: u64) -> BodyState {
    match body {
        _ if !reached => BodyState::NotRead,
        _ if disabled => BodyState::Disabled,
        None => BodyState::None,
        Some(len) if len as u64 > bytes_max => BodyState::TooLarge,
        Some(_) => BodyState::Captured,
    }
}

/// The parts of one input that a report borrows.
struct Parts {
    settings: Settings,
    /// Whether the access phase ran: no other plugin had answered before.
    reached: bool,
    status: u16,
    weight: u32,
    blocked_by: Option<String>,
    request_headers: Vec<(Vec<u8>, Vec<u8>)>,
    response_headers: Vec<(Vec<u8>, Vec<u8>)>,
    request_body: Option<Vec<u8>>,
    chunks: Vec<Vec<u8>>,
}

impl Parts {
    fn of(pair: &Value) -> Self {
        let input = &pair["input"];
        let mut config = json!({"application_id": "APPID-0123456789"});
        for (name, value) in input["conf"].as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        let added = pair["transaction_id_header"].as_str();
        let chunks = input["response"]["chunks"].as_array().into_iter().flatten();
        let mut parts = Self {
            settings: Settings::parse(&config).unwrap(),
            reached: input["request"]["rejected"] != true,
            status: input["response"]["status"].as_u64().unwrap() as u16,
            weight: 1,
            blocked_by: None,
            request_headers: headers(&input["request"], added),
            response_headers: headers(&input["response"], added),
            request_body: input["request"].get("body").map(bytes),
            chunks: chunks.map(bytes).collect(),
        };
        parts.govern(pair, added);
        parts
    }

    /// What the plugin does on the road: rules first, then sampling.
    fn govern(&mut self, pair: &Value, id: Option<&str>) {
        let input = &pair["input"];
        let (remote, _faults) = Remote::compile(&input["config"], &input["rules"]);
        let mut fields = Fields::new();
        for (name, value) in &self.request_headers {
            fields.add(std::str::from_utf8(name).unwrap(), value);
        }
        let headers = Headers::Live(&fields);
        let body = self.request_body.clone().unwrap_or_default();
        let read = remote.body_fields.read(&headers, &body);
        let asked = Asked {
            verb: input["request"]["method"].as_str().unwrap().as_bytes(),
            target: input["request"]["uri"].as_str().unwrap().as_bytes(),
            client_ip: "203.0.113.9".parse().unwrap(),
            client_ip_headers_trusted: true,
            headers,
            body: &read,
            status: None,
        };
        let traces = Traces { request: headers, response: None, consumer: [None; 3], tokens: true };
        let who = identify(&traces, &self.settings);
        let mut searches = Searches::default();
        let verdict = remote.judge(&asked, &who, &mut searches);
        if let Some(blocked) = verdict.blocked() {
            self.response_headers.clear();
            let mut add = |name: &str, value: &str| {
                self.response_headers.push((name.into(), value.into()));
            };
            add("Content-Length", &blocked.body.len().to_string());
            if blocked.json {
                add("Content-Type", "application/json; charset=utf-8");
            }
            id.into_iter().for_each(|id| add("X-Moesif-Transaction-Id", id));
            (self.status, self.chunks) = (blocked.status, vec![blocked.body]);
            self.blocked_by = Some(blocked.rule_id.into());
            let told = &pair["blocked_with"];
            assert!(told.is_null() || told["status"] == blocked.status, "{pair}");
        }
        for (name, value) in verdict.headers() {
            self.response_headers.push((name.into(), value.into()));
        }
        let mut answered = Fields::new();
        for (name, value) in &self.response_headers {
            answered.add(std::str::from_utf8(name).unwrap(), value);
        }
        let response = Some(Headers::Live(&answered));
        let traces = Traces { response, tokens: self.reached, ..traces };
        let (asked, who) =
            (Asked { status: Some(self.status), ..asked }, identify(&traces, &self.settings));
        let drawn = input["random"][0].as_f64().unwrap_or(0.5) * 100.0;
        self.weight = weight(remote.sampling.rate(&asked, &who, &mut searches), drawn);
    }

    fn request_state(&self) -> BodyState {
        let settings = &self.settings;
        let len = self.request_body.as_ref().map(Vec::len);
        let (disabled, most) =
            (settings.disable_capture_request_body, settings.request_body_bytes_max);
        state(self.reached, len, disabled, most)
    }

    fn response_state(&self) -> BodyState {
        let settings = &self.settings;
        let len = self.chunks.iter().map(Vec::len).sum();
        let (disabled, most) =
            (settings.disable_capture_response_body, settings.response_body_bytes_max);
        state(self.reached, Some(len), disabled, most)
    }
}

fn lines(lines: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect()
}

/// As the road gives it: without its port.
fn host(request: &Value) -> Vec<u8> {
    let host = bytes(&request["headers"][0][1]);
    host.split(|byte| *byte == b':').next().unwrap().to_vec()
}

fn event_of(pair: &Value) -> Value {
    let parts = Parts::of(pair);
    if parts.weight == 0 {
        return Value::Null;
    }
    let (request, ctx) = (&pair["input"]["request"], &pair["input"]["ctx"]);
    let (request_lines, response_lines) =
        (lines(&parts.request_headers), lines(&parts.response_headers));
    let pieces: Vec<&[u8]> = parts.chunks.iter().map(Vec::as_slice).collect();
    let hosts: Option<Vec<&str>> = ctx["route"]["hosts"]
        .as_array()
        .map(|hosts| hosts.iter().map(|host| host.as_str().unwrap()).collect());
    let report = Report {
        rows: &[],
        transaction_id: [7; 16],
        started_us: micros(&request["start_time"], 123),
        ended_us: micros(&pair["input"]["now"], 456),
        direction: Direction::Incoming,
        scheme: Scheme::Http,
        host: &host(request),
        port: 8000,
        target: request["uri"].as_str().unwrap().as_bytes(),
        method: request["method"].as_str().unwrap(),
        client_ip: "203.0.113.9".parse().unwrap(),
        client_ip_headers_trusted: true,
        access_ran: parts.reached,
        request_fields: Lines::Pairs(&request_lines),
        request_body: Body {
            state: parts.request_state(),
            pieces: &[parts.request_body.as_deref().unwrap_or_default()],
        },
        status: parts.status,
        response_fields: Lines::Pairs(&response_lines),
        response_fields_more: Lines::Pairs(&[]),
        response_body: Body { state: parts.response_state(), pieces: &pieces },
        consumer: Consumer::default(),
        credential: Credential {
            id: ctx["authenticated_credential"]["id"].as_str(),
            key: ctx["authenticated_credential"]["key"].as_str(),
        },
        service_name: ctx["service"]["name"].as_str(),
        route_hosts: hosts.as_deref(),
        blocked_by: parts.blocked_by.as_deref(),
        weight: parts.weight,
    };
    let mut event = rendered(&report, &parts.settings);
    if let Some(pid) = event.pointer_mut("/response/headers/X-Kong-PID") {
        *pid = json!(4242);
    }
    event
}

/// Through a ring, as in life.
fn rendered(report: &Report<'_>, settings: &Settings) -> Value {
    let (mut producer, mut consumer) = ring::anonymous(1 << 20, RECORD_VERSION).unwrap();
    assert!(report.commit(&mut producer));
    let Next::Record { bytes, .. } = consumer.take() else { panic!("nothing was committed") };
    let mut out = Vec::new();
    let left_out = push_event(&mut out, &Record::read(bytes).unwrap(), settings);
    assert!(left_out <= 1, "{left_out} bodies");
    serde_json::from_slice(&out).unwrap()
}

/// Pinned, so that a new release breaks nobody's build.
const LIBRARY: &str = "moesifapi==1.5.5";

/// Moesif's own Python library reads every event of ours, whole.
#[test]
fn the_official_models_take_our_events() {
    let events = pairs();
    let events = events.iter().map(event_of);
    let events: Vec<Value> = events.filter(|event| !event.is_null()).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/official_models.py");
    let mut child = Command::new(environment("python-moesif", &[LIBRARY]))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = serde_json::to_vec(&events).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let out = told("official_models.py", child.wait_with_output());
    assert!(out.contains(&format!("{} events, 0 faults", events.len())), "{out}");
}
