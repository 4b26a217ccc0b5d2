//! What Moesif's own plugin made of an exchange, and what it makes of it through the whole gateway:
//! the pairs of `exporter/tests/data`, with a real client, upstream and collector.
//!
//! Each pair has a route, a plugin and an application of its own, told apart by a header. What a
//! socket cannot show (times, drawn numbers, a credential without its plugin) is left out.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::gateway::{Gateway, drivers, free_port};
use super::http::{Connection, Response};

const MARK: &str = "x-pair";
const TOLD: &str = "00000000-0000-4000-8000-000000000000";
/// How long all events may take together.
const PATIENCE: Duration = Duration::from_secs(60);

fn pairs() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter/tests/data/");
    let mut pairs = Vec::new();
    for name in ["moesif-pairs.json", "moesif-pairs-more.json"] {
        let text = std::fs::read_to_string(format!("{folder}{name}")).unwrap();
        let mut document: Value = serde_json::from_str(&text).unwrap();
        let Value::Array(found) = document["pairs"].take() else { panic!("{name}") };
        pairs.extend(found);
    }
    pairs.retain(can_be_played);
    assert!(pairs.len() > 200, "{}", pairs.len());
    pairs
}

/// Whether a socket can show it.
fn can_be_played(pair: &Value) -> bool {
    let (request, ctx) = (&pair["input"]["request"], &pair["input"]["ctx"]);
    let rejected = request["rejected"] == true;
    ctx["authenticated_credential"].is_null()
        && ctx["route"].is_null()
        && request["body_spooled"].is_null()
        && (!rejected || pair["id"] == "rejected-before-access" || pair["id"] == "rejected-basic")
        && certain(&pair["input"]["config"])
        // Only a row that an older version wrote can have an empty name.
        && pair["input"]["conf"]["user_id_header"] != ""
}

/// Whether no number has to be drawn.
fn certain(config: &Value) -> bool {
    match config {
        Value::Object(members) => members.iter().all(|(name, value)| match value {
            Value::Number(rate) if name == "sample_rate" => [0, 100].map(Into::into).contains(rate),
            Value::Object(rates) if name.ends_with("_sample_rate") => {
                rates.values().all(|rate| *rate == 0 || *rate == 100)
            }
            value => certain(value),
        }),
        Value::Array(items) => items.iter().all(certain),
        _ => true,
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    use base64::Engine;
    match (value.as_str(), value["b64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        (None, None) => {
            value["repeat"].as_str().unwrap().repeat(value["n"].as_u64().unwrap() as usize).into()
        }
    }
}

/// Lines of a message as they go over the wire; true if a line says where its body ends.
fn push_lines(out: &mut Vec<u8>, lines: &Value) -> bool {
    let mut framed = false;
    for line in lines.as_array().unwrap() {
        let name = line[0].as_str().unwrap();
        framed |= name.eq_ignore_ascii_case("content-length");
        if !name.eq_ignore_ascii_case("transfer-encoding") {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend(bytes(&line[1]));
            out.extend_from_slice(b"\r\n");
        }
    }
    framed
}

fn push_chunk(out: &mut Vec<u8>, chunk: &[u8]) {
    out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
    out.extend_from_slice(chunk);
    out.extend_from_slice(b"\r\n");
}

fn request_of(number: usize, pair: &Value) -> Vec<u8> {
    let request = &pair["input"]["request"];
    let (method, uri) = (request["method"].as_str().unwrap(), request["uri"].as_str().unwrap());
    let mut out = format!("{method} {uri} HTTP/1.1\r\n{MARK}: {number}\r\n").into_bytes();
    let framed = push_lines(&mut out, &request["headers"]);
    let body = if request["body"].is_null() { Vec::new() } else { bytes(&request["body"]) };
    if framed || request["body"].is_null() {
        out.extend_from_slice(b"\r\n");
        out.extend(body);
    } else {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        push_chunk(&mut out, &body);
        push_chunk(&mut out, b"");
    }
    out
}

fn response_of(pair: &Value, head: bool) -> Vec<u8> {
    let response = &pair["input"]["response"];
    let status = response["status"].as_u64().unwrap();
    let mut out = format!("HTTP/1.1 {status} Some\r\n").into_bytes();
    let framed = push_lines(&mut out, &response["headers"]);
    let chunks = response["chunks"].as_array().unwrap();
    let bare = head || matches!(status, 204 | 304);
    if framed || bare {
        out.extend_from_slice(b"\r\n");
        chunks.iter().filter(|_| !bare).for_each(|chunk| out.extend(bytes(chunk)));
        return out;
    }
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    chunks.iter().for_each(|chunk| push_chunk(&mut out, &bytes(chunk)));
    push_chunk(&mut out, b"");
    out
}

/// One request's line, lines (names in lower case) and body.
type Asked = (String, HashMap<String, String>, Vec<u8>);

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|bytes| *bytes > 0)?;
    let mut lines = HashMap::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).ok().filter(|bytes| *bytes > 0)?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        lines.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = lines.get("content-length") {
        body.resize(length.parse().unwrap(), 0);
        reader.read_exact(&mut body).ok()?;
    } else if lines.contains_key("transfer-encoding") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    }
    Some((first, lines, body))
}

/// Answers every request with what `answer` makes of it.
fn serve(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> u16 {
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                while let Some(asked) = read_request(&mut reader) {
                    if stream.write_all(&answer(&asked)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn upstream(pairs: &Arc<Vec<Value>>) -> u16 {
    let pairs = Arc::clone(pairs);
    serve(move |(first, lines, _)| {
        let number: usize = lines[MARK].parse().unwrap();
        response_of(&pairs[number], first.starts_with("HEAD "))
    })
}

/// Events by the number of their pair.
type Events = Arc<Mutex<HashMap<usize, Vec<Value>>>>;

fn application(number: usize) -> String {
    format!("application-of-{number:05}")
}

fn collector(pairs: &Arc<Vec<Value>>, events: &Events) -> u16 {
    let (pairs, events) = (Arc::clone(pairs), Arc::clone(events));
    serve(move |(first, lines, body)| {
        let id = &lines["x-moesif-application-id"];
        let number: usize = id.rsplit('-').next().unwrap().parse().unwrap();
        let input = &pairs[number]["input"];
        let said = match first.split(' ').nth(1).unwrap() {
            "/v1/config" if input["config"].is_null() => json!({"sample_rate": 100}),
            "/v1/config" => input["config"].clone(),
            "/v1/rules" if input["rules"].is_null() => json!([]),
            "/v1/rules" => input["rules"].clone(),
            path => {
                assert_eq!(path, "/v1/events/batch");
                let batch: Vec<Value> = serde_json::from_slice(body).unwrap();
                events.lock().unwrap().entry(number).or_default().extend(batch);
                json!({})
            }
        }
        .to_string();
        let status = if first.starts_with("POST") { "201 Created" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{said}", said.len()).into_bytes()
    })
}

/// A route and a plugin for each pair.
fn furnish(gateway: &Gateway, pairs: &[Value], upstream: u16, collector: u16) {
    gateway.post("/services", &format!("name=pairs&url=http://127.0.0.1:{upstream}"));
    for (number, pair) in pairs.iter().enumerate() {
        let route = json!({
            "name": format!("pair-{number}"),
            "headers": {MARK: [number.to_string()]},
            "paths": ["/"],
            "strip_path": false,
        });
        let made = gateway.admin("POST", "/services/pairs/routes", &route);
        assert_eq!(made.status, 201, "{}", made.text());
        let mut config = json!({});
        for (name, value) in pair["input"]["conf"].as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        config["application_id"] = json!(application(number));
        config["api_endpoint"] = json!(format!("http://127.0.0.1:{collector}"));
        let path = format!("/routes/pair-{number}/plugins");
        let made = gateway.admin("POST", &path, &json!({"name": "moesif", "config": config}));
        assert_eq!(made.status, 201, "{}: {}", pair["id"], made.text());
        if pair["input"]["request"]["rejected"] == true {
            gateway.post(&path, "name=key-auth");
        }
    }
    let begun = Instant::now();
    loop {
        let shown = super::http::get(gateway.admin, "/plugins/moesif/status", &[]).json();
        let all = shown["data"].as_array().unwrap();
        let fetched = |shown: &&Value| !shown["configuration"]["fetched_age_ms"].is_null();
        if all.iter().filter(fetched).count() == pairs.len() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {} fetched", all.len(), pairs.len());
        thread::sleep(Duration::from_millis(50));
    }
}

fn play(gateway: &Gateway, number: usize, pair: &Value) -> Response {
    let mut connection = Connection::open(gateway.proxy);
    connection.send(&request_of(number, pair));
    let head = pair["input"]["request"]["method"] == "HEAD";
    connection.read(head).unwrap_or_else(|fault| panic!("{}: {fault}", pair["id"]))
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

/// What the gateway must report: as recorded, or better.
fn expected(pair: &Value, port: u16) -> Value {
    let mut event = pair["event"].clone();
    for (place, value) in pair["ours"].as_object().into_iter().flatten() {
        put(&mut event, place, value.clone());
    }
    if event.is_null() {
        return event;
    }
    let uri = event["request"]["uri"].as_str().unwrap();
    event["request"]["uri"] = json!(uri.replacen(":8000/", &format!(":{port}/"), 1));
    if event["request"]["ip_address"] == "203.0.113.9" {
        event["request"]["ip_address"] = json!("127.0.0.1");
    }
    event
}

/// Takes away what differs by nature; of the response's headers only those of `wanted` stay.
fn comparable(event: &Value, wanted: &Value, rejected: bool) -> Value {
    let mut event = event.clone();
    let wanted: Vec<String> = wanted["response"]["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|h| h.0.clone())
        .collect();
    for name in ["transaction_id", "metadata"] {
        put(&mut event, &format!("/{name}"), Value::Null);
    }
    for side in ["request", "response"] {
        put(&mut event, &format!("/{side}/time"), Value::Null);
        let headers = event[side]["headers"].as_object_mut().unwrap();
        for name in [MARK, "connection", "transfer-encoding"] {
            headers.remove(name);
        }
        headers.retain(|name, _| side == "request" || wanted.contains(name));
        for (name, value) in headers.iter_mut() {
            // Kong's nginx names the charset of texts, and so does the gateway.
            if let Some(kind) = value.as_str().and_then(|v| v.strip_suffix("; charset=UTF-8")) {
                *value = json!(kind);
            }
            let made = name == "x-moesif-transaction-id"
                && value.as_str().is_some_and(|id| id.len() == 36);
            if made || name == "X-Kong-PID" {
                *value = json!(TOLD);
            }
        }
    }
    if rejected {
        event["response"] = json!(event["response"].get("body"));
    }
    event
}

#[test]
fn the_gateway_reports_what_the_original_reports_or_better() {
    let pairs = Arc::new(pairs());
    let events = Events::default();
    let driver = drivers()[0];
    // Who was let in stands in lines that only a trusted peer may send.
    let gateway = Gateway::start(driver, &[("KONG_TRUSTED_IPS", "127.0.0.1")]);
    furnish(&gateway, &pairs, upstream(&pairs), collector(&pairs, &events));
    let statuses: Vec<u16> = pairs
        .iter()
        .enumerate()
        .map(|(number, pair)| play(&gateway, number, pair).status)
        .collect();
    let wanted: Vec<Value> = pairs.iter().map(|pair| expected(pair, gateway.proxy)).collect();
    let (begun, due) = (Instant::now(), wanted.iter().filter(|event| !event.is_null()).count());
    while events.lock().unwrap().len() < due && begun.elapsed() < Duration::from_secs(15) {
        thread::sleep(Duration::from_millis(50));
    }
    let events = events.lock().unwrap();
    let mut faults = Vec::new();
    for (number, pair) in pairs.iter().enumerate() {
        let rejected = pair["input"]["request"]["rejected"] == true;
        let wanted = &wanted[number];
        let shown = |event: &Value| match event {
            Value::Null => Value::Null,
            event => comparable(event, wanted, rejected),
        };
        let found = events.get(&number).map_or(&[][..], Vec::as_slice);
        let (ours, theirs) = (shown(found.first().unwrap_or(&Value::Null)), shown(wanted));
        if ours != theirs || found.len() > 1 {
            let (id, status) = (pair["id"].as_str().unwrap(), statuses[number]);
            faults.push(format!("{id}\n  ours     {ours}\n  expected {theirs}\n  status {status}"));
        }
    }
    let (of, all) = (faults.len(), pairs.len());
    assert!(faults.is_empty(), "{of} of {all} pairs:\n{}", faults.join("\n"));
}
