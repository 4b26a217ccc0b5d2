//! What a report and rules cost the core, and what an event costs the exporter.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use exporter::event::record::Record;
use exporter::event::{
    Body, BodyState, Consumer, Credential, Direction, Lines, RECORD_VERSION, Report, RowRef, Scheme,
};
use exporter::moesif::conditions::Asked;
use exporter::moesif::event::push_event;
use exporter::moesif::headers::Headers;
use exporter::moesif::identify::{Traces, identify};
use exporter::moesif::pattern::Searches;
use exporter::moesif::remote::Remote;
use exporter::moesif::settings::Settings;
use runtime::http::head::Fields;
use runtime::ring::{self, Next};
use serde_json::json;
use std::hint::black_box;
use uuid::Uuid;

const REQUEST: &[(&[u8], &[u8])] = &[
    (b"host", b"api.example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
    (b"accept", b"*/*"),
    (b"content-type", b"application/json"),
    (b"content-length", b"27"),
    (b"authorization", b"Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2ln"),
    (b"x-consumer-username", b"alice"),
    (b"x-moesif-transaction-id", b"9c8edd39-32e5-4503-889c-30f6fa45b610"),
];
const RESPONSE: &[(&[u8], &[u8])] = &[
    (b"content-type", b"application/json"),
    (b"content-length", b"4096"),
    (b"date", b"Sat, 21 Nov 2026 21:28:58 GMT"),
    (b"via", b"1.1 tollgate"),
    (b"x-kong-upstream-latency", b"1"),
    (b"x-kong-proxy-latency", b"0"),
];

fn report<'a>(rows: &'a [RowRef], response_body: &'a [&'a [u8]]) -> Report<'a> {
    Report {
        rows,
        transaction_id: [7; 16],
        started_us: 1_700_000_000_123_456,
        ended_us: 1_700_000_000_456_789,
        direction: Direction::Incoming,
        scheme: Scheme::Https,
        host: b"api.example.com",
        port: 8443,
        target: b"/v1/items?page=2&token=secret",
        method: "POST",
        client_ip: [203, 0, 113, 9].into(),
        client_ip_headers_trusted: true,
        access_ran: true,
        request_fields: Lines::Pairs(REQUEST),
        request_body: Body {
            state: BodyState::Captured,
            pieces: &[b"{\"password\":\"x\",\"item\":4711}"],
        },
        status: 200,
        response_fields: Lines::Pairs(RESPONSE),
        response_fields_more: Lines::Pairs(&[]),
        response_body: Body { state: BodyState::Captured, pieces: response_body },
        consumer: Consumer { username: Some("alice"), ..Consumer::default() },
        credential: Credential { key: Some("key-of-alice"), id: None },
        service_name: Some("items"),
        route_hosts: Some(&["api.example.com"]),
        blocked_by: None,
        weight: 1,
    }
}

fn exporter_benches(bench: &mut Criterion) {
    let rows = [RowRef { id: Uuid::from_u128(1), version: 1, fingerprint: 1 }];
    let text = format!("{{\"items\":[{}]}}", "{\"id\":1,\"name\":\"lorem ipsum\"},".repeat(135));
    let text = text.replace(",]", "]");
    let config = json!({
        "application_id": "a",
        "request_body_masks": ["password"],
        "response_body_masks": ["secret"],
        "request_query_masks": ["token"],
    });
    let Some(settings) = Settings::parse(&config) else { return };
    for (name, body) in [("small", "{\"ok\":true}"), ("4 KiB", text.as_str())] {
        let pieces = [body.as_bytes()];
        let report = report(&rows, &pieces);
        let Ok((mut producer, mut consumer)) = ring::anonymous(8 << 20, RECORD_VERSION) else {
            return;
        };
        let mut group = bench.benchmark_group("exporter");
        group.throughput(Throughput::Elements(1));
        // A release now and then keeps room; it is one store.
        group.bench_function(format!("commit a report, {name}"), |bencher| {
            bencher.iter_batched_ref(
                || {
                    while let Next::Record { .. } = consumer.take() {}
                    consumer.release();
                },
                |()| black_box(&report).commit(&mut producer),
                BatchSize::NumIterations(200),
            );
        });
        while let Next::Record { .. } = consumer.take() {}
        consumer.release();
        report.commit(&mut producer);
        let Next::Record { bytes, .. } = consumer.take() else { return };
        let mut out = Vec::new();
        group.bench_function(format!("make a masked event, {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                if let Ok(record) = Record::read(black_box(bytes)) {
                    push_event(&mut out, &record, &settings);
                }
                out.len()
            });
        });
        group.finish();
    }
}

/// Twenty rules over an exchange that none of them means, which is what most exchanges pay.
fn rules_benches(bench: &mut Criterion) {
    let rule = |number: usize| {
        let route = format!("^/v{number}/(orders|users)/[0-9]+$");
        json!({
            "_id": format!("rule-{number}"), "type": "regex", "block": true,
            "regex_config": [{"conditions": [
                {"path": "request.verb", "value": "^(POST|PUT)$"},
                {"path": "request.route", "value": route}]}],
            "response": {"status": 429, "headers": {}, "body": {"error": "quota"}},
        })
    };
    let rules: serde_json::Value = (0..20).map(rule).collect();
    let (remote, _faults) = Remote::compile(&json!({"user_sample_rate": {"u": 10}}), &rules);
    let Some(settings) = Settings::parse(&json!({"application_id": "a"})) else { return };
    let mut fields = Fields::new();
    for (name, value) in REQUEST {
        fields.add(std::str::from_utf8(name).unwrap_or_default(), value);
    }
    let headers = Headers::Live(&fields);
    let asked = Asked {
        verb: b"POST",
        target: b"/v1/items?page=2&token=secret",
        client_ip: [203, 0, 113, 9].into(),
        client_ip_headers_trusted: true,
        headers,
        body: &[],
        status: None,
    };
    let traces = Traces { request: headers, response: None, consumer: [None; 3], tokens: true };
    let mut searches = Searches::default();
    let mut group = bench.benchmark_group("rules");
    group.bench_function("identify by a token", |bencher| {
        bencher.iter(|| identify(black_box(&traces), &settings));
    });
    let who = identify(&traces, &settings);
    group.bench_function("judge by twenty rules", |bencher| {
        bencher.iter(|| remote.judge(black_box(&asked), &who, &mut searches).is_empty());
    });
    group.finish();
}

criterion_group!(benches, exporter_benches, rules_benches);
criterion_main!(benches);
