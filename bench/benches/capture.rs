//! What the moesif plugin costs a core: its three phases on a scripted exchange, the record in the
//! ring included. Budget: 1.5 us and one copy of the captured bytes.

#![allow(clippy::expect_used, reason = "a benchmark stops where it is wrong")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use exporter::event::RECORD_VERSION;
use plugins::bundled::ALL;
use plugins::pdk::script::Script;
use plugins::pdk::{Exchange, Plugin, Spec};
use runtime::buffers::Piece;
use runtime::ring::{self, Next};
use serde_json::json;
use std::hint::black_box;

const SENT: &[(&str, &str)] = &[
    ("Host", "gateway.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "application/json, text/plain, */*"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("X-Consumer-Username", "alice"),
    ("Content-Type", "application/json"),
    ("Content-Length", "49"),
];
const ANSWERED: &[(&str, &str)] = &[
    ("Content-Type", "application/json"),
    ("Date", "Sat, 21 Nov 2026 21:28:58 GMT"),
    ("Server", "upstream"),
    ("Via", "1.1 tollgate"),
    ("X-Kong-Upstream-Latency", "1"),
    ("X-Kong-Proxy-Latency", "0"),
];
const RING_BYTES: usize = 8 << 20;
const BODY: &str = r#"{"a":1,"b":{"c":[1,2,3]},"name":"x","list":[1,2]}"#;

/// One exchange from access to log; `answer` is the response's body.
fn run(plugin: &dyn Plugin, exchange: &mut Exchange, answer: &Piece) {
    black_box(plugin.access(exchange));
    plugin.header_filter(exchange);
    let kit = std::rc::Rc::clone(&exchange.kit);
    exchange.response_capture.keep(answer, &kit);
    plugin.log(exchange);
}

fn capture(criterion: &mut Criterion) {
    let spec: &'static Spec =
        ALL.iter().find(|spec| spec.schema.name == "moesif").copied().expect("a bundled plugin");
    for (name, bytes) in [("no body", 0), ("1 KiB", 1 << 10), ("64 KiB", 64 << 10)] {
        let script = Script::new(spec, json!({"application_id": "a"}));
        let (producer, mut events) = ring::anonymous(RING_BYTES, RECORD_VERSION).expect("memory");
        script.with_ring(producer);
        let plugin = script.plugin();
        let answer = Piece::from_vec(vec![b'x'; bytes]);
        criterion.bench_function(&format!("capture: an exchange, {name}"), |bencher| {
            bencher.iter_batched(
                || {
                    while let Next::Record { .. } = events.take() {}
                    events.release();
                    let mut exchange = script.post("/v1/items/42?page=7", SENT, BODY);
                    exchange.response.status = 200;
                    for (name, value) in ANSWERED {
                        exchange.response.fields.add(name, value.as_bytes());
                    }
                    exchange
                },
                |mut exchange| {
                    run(&*plugin, &mut exchange, &answer);
                    exchange
                },
                BatchSize::NumIterations(50),
            );
        });
    }
}

criterion_group!(benches, capture);
criterion_main!(benches);
