//! What the log plugins and prometheus cost the core: the phase of each with the record that it
//! asks for, and the parts of both.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use exporter::event::{Lines, RECORD_VERSION, Scheme};
use exporter::logs::{Latencies, LogReport, RowKey, Try};
use plugins::bundled::{ALL, prometheus};
use plugins::pdk::meters::{Counters, Histogram, Labels, Table};
use plugins::pdk::script::Script;
use plugins::pdk::{Exchange, Origin, Scope, logging};
use runtime::ring::{self, Next};
use serde_json::{Value, json};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

const REQUEST: &[(&[u8], &[u8])] = &[
    (b"host", b"api.example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
    (b"accept", b"*/*"),
    (b"authorization", b"Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2ln"),
    (b"x-consumer-username", b"alice"),
];
const RESPONSE: &[(&[u8], &[u8])] = &[
    (b"content-type", b"application/json"),
    (b"via", b"1.1 tollgate"),
    (b"x-kong-upstream-latency", b"1"),
    (b"x-kong-proxy-latency", b"0"),
];

fn commit(c: &mut Criterion) {
    let Ok((mut producer, mut consumer)) = ring::anonymous(8 << 20, RECORD_VERSION) else { return };
    let row = RowKey { id: Uuid::from_u128(1), version: 7 };
    let tries = [Try {
        started_us: 1_700_000_000_123_500,
        chosen_us: 0,
        address: ([127, 0, 0, 1], 9_000).into(),
        status: 200,
        failed: false,
    }];
    let report = LogReport {
        rows: &[row, row],
        request_id: b"0123456789abcdef0123456789abcdef",
        started_us: 1_700_000_000_123_456,
        latencies: Latencies { kong_ms: 0, proxy_ms: Some(1), receive_ms: 0, request_ms: 1 },
        request_bytes: 300,
        response_bytes: 4_500,
        content_length: Some(4_096),
        chunked: false,
        keep_alive: true,
        from_upstream: true,
        scheme: Scheme::Https,
        tls: None,
        port: 8443,
        client_ip: [203, 0, 113, 9].into(),
        host: b"api.example.com",
        method: "GET",
        target: b"/v1/items?page=2",
        upstream_path: b"/items",
        upstream_query: Some(b"page=2"),
        status: 200,
        request_fields: Lines::Pairs(REQUEST),
        response_fields: Lines::Pairs(RESPONSE),
        route: Some(row),
        service: Some(row),
        consumer: Some(row),
        credential: Some("0f2c2e3f-9944-4bb6-b504-ac95513c04ef"),
        tries: &tries,
        values: Lines::Pairs(&[]),
    };
    c.bench_function("log_commit", |b| {
        b.iter(|| {
            if !black_box(&report).commit(&mut producer) {
                while let Next::Record { .. } = consumer.take() {}
                consumer.release();
            }
        });
    });
}

fn count(c: &mut Criterion) {
    let table = Arc::new(Table::new(1_024));
    let counters = Counters::new(table);
    let labels = Labels { service: "items", route: "items-v1", consumer: "alice" };
    let times =
        [(Histogram::OWN, Some(0)), (Histogram::UPSTREAM, Some(1)), (Histogram::WHOLE, Some(1))];
    c.bench_function("count_all", |b| {
        b.iter(|| {
            counters.count(200, true, black_box(labels));
            counters.add_bytes(300, 4_500, black_box(labels));
            counters.observe(&times, black_box(labels));
        });
    });
}

/// A plugin's log phase, and the record for it.
fn phase(c: &mut Criterion, name: &str, config: Value) {
    let Some(spec) = ALL.iter().find(|spec| spec.schema.name == name) else { return };
    let Ok((producer, mut consumer)) = ring::anonymous(8 << 20, RECORD_VERSION) else { return };
    let script = Script::new(spec, config);
    script.with_ring(producer);
    let plugin = script.plugin();
    c.bench_function(&format!("log: {name}"), |b| {
        b.iter_batched(
            || {
                while let Next::Record { .. } = consumer.take() {}
                consumer.release();
                answered(&script)
            },
            |mut exchange| {
                plugin.log(&mut exchange);
                if !exchange.logged_to.is_empty() {
                    logging::commit(&exchange);
                }
                exchange
            },
            BatchSize::SmallInput,
        );
    });
}

/// An exchange that an upstream has answered.
fn answered(script: &Script) -> Exchange {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let sent: Vec<(&str, &str)> = REQUEST.iter().map(|(n, v)| (text(n), text(v))).collect();
    let mut exchange = script.get("/v1/items?page=2", &sent);
    exchange.origin = Origin::Upstream;
    exchange.response.status = 200;
    for (name, value) in RESPONSE {
        exchange.response.fields.add(text(name), *value);
    }
    exchange
}

fn phases(c: &mut Criterion) {
    let to = || json!({"host": "127.0.0.1", "port": 9});
    phase(c, "http-log", json!({"http_endpoint": "http://127.0.0.1:9/"}));
    phase(c, "file-log", json!({"path": "/dev/null"}));
    phase(c, "tcp-log", to());
    phase(c, "udp-log", to());
    phase(c, "syslog", json!({}));
    phase(c, "loggly", json!({"key": "k"}));
    phase(c, "statsd", to());
    phase(c, "datadog", to());
    counted(c);
}

/// prometheus counts only what has a route.
fn counted(c: &mut Criterion) {
    const ROUTE: &str = "00000000-0000-4000-8000-000000000004";
    const SERVICE: &str = "00000000-0000-4000-8000-000000000005";
    let all = json!({
        "per_consumer": true, "status_code_metrics": true, "latency_metrics": true,
        "bandwidth_metrics": true, "upstream_health_metrics": true,
    });
    let service = json!({"id": SERVICE, "name": "items", "host": "items.example"});
    let route =
        json!({"id": ROUTE, "name": "items-v1", "paths": ["/v1"], "service": {"id": SERVICE}});
    let script = Script::new(&prometheus::PLUGIN, all);
    let script = script.row("services", service).row("routes", route);
    let plugin = script.plugin();
    c.bench_function("log: prometheus", |b| {
        b.iter_batched(
            || {
                let mut exchange = answered(&script);
                let row = |entity, id: &str| {
                    let id = id.parse().ok()?;
                    exchange.tables().get(entity, id).cloned()
                };
                let (route, service) = (row("routes", ROUTE), row("services", SERVICE));
                exchange.scope = Rc::new(Scope { route, service });
                exchange
            },
            |mut exchange| {
                plugin.log(&mut exchange);
                exchange
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, commit, count, phases);
criterion_main!(benches);
