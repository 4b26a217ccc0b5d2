//! Whatever clients and upstreams send: an event is valid JSON, within its size, masked, and soon
//! made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: a panic is its fault report")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exporter::event::record::Record;
use exporter::event::{
    Body, BodyState, Consumer, Credential, Direction, Lines, RECORD_VERSION, Report, Scheme,
};
use exporter::moesif::event::{EVENT_BYTES_MAX, push_event};
use exporter::moesif::settings::Settings;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use runtime::ring::{self, Next};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The event of one exchange whose request and response have the same headers and body.
fn event(target: &[u8], headers: &Pairs, body: &[u8], config: &Value) -> (Vec<u8>, Duration) {
    let lines: Vec<(&[u8], &[u8])> =
        headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    let pieces = [body];
    let captured = Body { state: BodyState::Captured, pieces: &pieces };
    let report = Report {
        rows: &[],
        transaction_id: [7; 16],
        started_us: 1,
        ended_us: u64::MAX / 2,
        direction: Direction::Incoming,
        scheme: Scheme::Https,
        host: target,
        port: 1,
        target,
        method: "GET",
        client_ip: [127, 0, 0, 1].into(),
        client_ip_headers_trusted: true,
        access_ran: true,
        request_fields: Lines::Pairs(&lines),
        request_body: captured,
        status: 200,
        response_fields: Lines::Pairs(&lines),
        response_fields_more: Lines::Pairs(&lines),
        response_body: captured,
        consumer: Consumer::default(),
        credential: Credential::default(),
        service_name: None,
        route_hosts: None,
        blocked_by: None,
        weight: 1,
    };
    let (mut producer, mut consumer) = ring::anonymous(8 << 20, RECORD_VERSION).unwrap();
    assert!(report.commit(&mut producer));
    let Next::Record { bytes, .. } = consumer.take() else { panic!("nothing was committed") };
    let settings = Settings::parse(config).unwrap();
    let mut out = Vec::new();
    let begun = Instant::now();
    push_event(&mut out, &Record::read(bytes).unwrap(), &settings);
    (out, begun.elapsed())
}

fn config() -> Value {
    json!({
        "application_id": "a",
        "request_body_masks": ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"],
        "response_body_masks": ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"],
        "request_query_masks": ["token"],
        "request_header_masks": ["x-secret"],
        "response_header_masks": ["x-secret"],
        "user_id_header": "x-user",
        "company_id_header": "x-company",
        "authorization_company_id_field": "org",
    })
}

fn json_type() -> Pairs {
    of_type("application/json")
}

fn of_type(kind: &str) -> Pairs {
    vec![(b"Content-Type".to_vec(), kind.as_bytes().to_vec())]
}

fn coded(coding: &str) -> Pairs {
    let mut pairs = json_type();
    pairs.push((b"Content-Encoding".to_vec(), coding.as_bytes().to_vec()));
    pairs
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Five milliseconds in a release build. A debug build is up to a hundred times slower, and sees
/// only what grows with the square.
const MADE_WITHIN: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 5 });

#[track_caller]
fn check(name: &str, headers: &Pairs, body: &[u8]) -> Value {
    // The shortest of three: the machine may be busy.
    let target = format!("/?{}", "token=1&".repeat(200));
    let run = || event(target.as_bytes(), headers, body, &config());
    let (event, took) = (0..3).map(|_| run()).min_by_key(|(_, took)| *took).unwrap();
    assert!(event.len() <= EVENT_BYTES_MAX, "{name}: {} bytes", event.len());
    println!("{name}: {:.3} ms for {} bytes, twice", took.as_secs_f64() * 1e3, body.len());
    assert!(took < MADE_WITHIN, "{name}: {took:?}");
    serde_json::from_slice(&event).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

#[test]
fn hostile_bodies_cost_little() {
    check("deep arrays", &json_type(), "[".repeat(100_000).as_bytes());
    check("deep objects", &json_type(), "{\"a\":".repeat(20_000).as_bytes());
    // The text of these is checked by a parser that stops at a depth of 128.
    let nested = format!("{}1{}", "{\"m0\":{\"a\":".repeat(60), "}}".repeat(60));
    let found = check("masks in depth", &json_type(), nested.as_bytes());
    assert_eq!(found["request"]["body"], json!({}));
    let wide =
        format!("{{{}\"z\":1}}", "\"m7\":{\"m6\":[1,2,3]},\"b\":[{\"m1\":2}],".repeat(2_000));
    let found = check("masks in width", &json_type(), wide.as_bytes());
    assert!(!found["request"]["body"].to_string().contains("\"m"), "masked");
    // Each level has all eight masked names and two further levels.
    let tree = (0..8).fold("1".to_owned(), |inner, _| {
        let masked: String = (0..8).map(|mask| format!("\"m{mask}\":{{\"x\":[1]}},")).collect();
        format!("{{{masked}\"a\":{inner},\"b\":{inner}}}")
    });
    let found = check("eight masks at depth eight", &json_type(), tree.as_bytes());
    assert!(!found["request"]["body"].to_string().contains("\"m"), "masked");
    check("a bomb", &coded("gzip"), &gzip(&vec![b' '; 20_000_000]));
    check("a bomb in a bomb", &coded("gzip, gzip"), &gzip(&gzip(&vec![b' '; 20_000_000])));
    // A window of 128 KiB and blocks that repeat one byte as often: 1.3 GB.
    let block = [2, 0, 16, b'['].repeat(10_000);
    let bomb = [b"\x28\xb5\x2f\xfd\0\x38", block.as_slice()].concat();
    check("a bomb of zstd", &coded("zstd"), &bomb);
    check("not utf-8", &json_type(), &[b"{\"a\":\"", &[0xff; 50_000][..], b"\"}"].concat());
    check("escapes", &json_type(), format!("{{\"{}\":1}}", "\\u006d".repeat(10_000)).as_bytes());
    let many: Pairs = (0..1_000)
        .map(|number| (format!("x-{}", number % 300).into_bytes(), b"v\"\xff\\".to_vec()))
        .collect();
    check("a thousand headers", &many, b"{}");
    let one = |name: &str, value: String| (name.as_bytes().to_vec(), value.into_bytes());
    let token = format!("Bearer a.{}.c", "eyJh".repeat(4_000));
    let same: Pairs = (0..1_000).map(|_| one("Authorization", "Bearer a.b.c".into())).collect();
    check("the same header a thousand times", &same, b"{}");
    let who = vec![one("Authorization", token), one("Forwarded", "for=x;".repeat(10_000))];
    check("a long token, a long list of addresses", &who, b"{}");
    let large = check("a large event", &Pairs::new(), &vec![0xff; 600_000]);
    let body = large["response"]["body"].as_str().unwrap();
    let body = STANDARD.decode(body).unwrap();
    assert!(body.ends_with(b" of 600000 bytes]") && body.len() > 300_000, "cut, and says so");
}

#[test]
fn hostile_forms_and_texts_cost_little() {
    let form = of_type("application/x-www-form-urlencoded");
    check("a form of many fields", &form, "a[b]=%&".repeat(14_000).as_bytes());
    check("a form of one long name", &form, "%5b.".repeat(25_000).as_bytes());
    let multipart = of_type("multipart/form-data; boundary=x");
    let part = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n";
    let parts = part.repeat(2_000) + "--x--\r\n";
    check("a form of many parts", &multipart, parts.as_bytes());
    check(
        "a part of many lines",
        &multipart,
        (part.to_owned() + &"\r\n--".repeat(25_000)).as_bytes(),
    );
    let head = format!("--x\r\nContent-Disposition: a{}", ";name=a".repeat(14_000));
    check("a part of many names", &multipart, (head + "\r\n\r\n\r\n--x--").as_bytes());
    let text = of_type("text/plain");
    check("a text of quotes", &text, "\"".repeat(100_000).as_bytes());
    check("a text of keys", &text, "\"m\":".repeat(25_000).as_bytes());
    check("a text of escapes", &text, "\"\\u006d\\u0031x\" :".repeat(6_000).as_bytes());
}

const FORM: &[u8] = b"application/x-www-form-urlencoded";
const MULTIPART: &[u8] = b"multipart/form-data; boundary=x";
const SECRET_FORM: &[u8] = b"a=1&m0=SECRET&b";
const SECRET_PART: &[u8] =
    b"--x\r\nContent-Disposition: form-data; name=\"m0\"\r\n\r\nSECRET\r\n--x--\r\n";

/// Whether the body is a form of this type, and nothing in the head says so.
fn is_disguised(body: &[u8], form: &[u8], kind: &[u8], headers: &Pairs) -> bool {
    let says = |(name, value): &(Vec<u8>, Vec<u8>)| {
        name.eq_ignore_ascii_case(b"content-type") && value == kind
    };
    body == form && !headers.iter().any(says)
}

fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let names = prop_oneof![
        Just(b"content-type".to_vec()),
        Just(b"content-encoding".to_vec()),
        Just(b"Authorization".to_vec()),
        Just(b"x-forwarded-for".to_vec()),
        Just(b"forwarded".to_vec()),
        Just(b"x-user".to_vec()),
        Just(b"X-Secret".to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    let values = prop_oneof![
        Just(b"application/json".to_vec()),
        Just(FORM.to_vec()),
        Just(MULTIPART.to_vec()),
        Just(b"gzip, deflate".to_vec()),
        Just(b"br".to_vec()),
        Just(b"zstd".to_vec()),
        Just(b"Basic YTpi".to_vec()),
        Just(b"Bearer a.eyJzdWIiOjF9.c".to_vec()),
        Just(b"for=\"[::1]:1\"".to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    (names, values)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "[\\[\\]{}:,\"am01 .\\\\e+-]{0,30}".prop_map(String::into_bytes),
        Just(b"{\"m0\":\"SECRET\",\"a\":[{\"m1\":\"SECRET\"}]}".to_vec()),
        Just(b"{\"m0\":\"SECRET\",\"a\":[".to_vec()),
        Just(SECRET_FORM.to_vec()),
        Just(SECRET_PART.to_vec()),
        Just(b")]}'\n{\"m0\":\"SECRET\"}".to_vec()),
        Just(b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x03\0\0\0\0\0\0\0\0\0".to_vec()),
        Just(b"\x28\xb5\x2f\xfd\x04\x58\x29\0\0hello".to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn an_event_is_always_valid_and_masked(
        target in "/[a-z?&=%+]{0,12}(\\?token=SECRET)?",
        headers in prop::collection::vec(header(), 0..6),
        body in body(),
    ) {
        let mut headers = headers;
        headers.push((b"x-secret".to_vec(), b"SECRET".to_vec()));
        let (event, _) = event(target.as_bytes(), &headers, &body, &config());
        let parsed: Value = serde_json::from_slice(&event).unwrap();
        prop_assert!(event.len() <= EVENT_BYTES_MAX);
        for side in ["request", "response"] {
            prop_assert!(parsed[side]["headers"].get("x-secret").is_none());
            let shown = match parsed[side]["body"].as_str() {
                Some(text) => String::from_utf8_lossy(&STANDARD.decode(text).unwrap()).into_owned(),
                None => parsed[side]["body"].to_string(),
            };
            let disguised = is_disguised(&body, SECRET_FORM, FORM, &headers)
                || is_disguised(&body, SECRET_PART, MULTIPART, &headers);
            prop_assert!(disguised || !shown.contains("SECRET"), "{shown}");
        }
        // JSON that is cut off is left out; it would be base64 otherwise.
        if body == b"{\"m0\":\"SECRET\",\"a\":[" {
            prop_assert_eq!(&parsed["request"]["body"], "");
        }
    }
}
