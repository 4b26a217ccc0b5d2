//! What the traffic and transformation plugins cost an exchange: their phases on a scripted one.
//!
//! Each figure holds making the exchange's notes and changing its head; the exchange itself is made
//! outside. Budget: 2 µs for a plugin that only looks; a hit of the cache at most 0.6 of a proxied
//! request.

#![allow(clippy::expect_used, reason = "a benchmark stops where it is wrong")]

use aws_lc_rs::hmac;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use plugins::bundled::ALL;
use plugins::pdk::credentials::to_base64_unpadded;
use plugins::pdk::script::Script;
use plugins::pdk::{Exchange, Spec};
use runtime::buffers::Piece;
use serde_json::{Value, json};
use std::hint::black_box;

const SENT: &[(&str, &str)] = &[
    ("Host", "gateway.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "application/json, text/plain, */*"),
    ("Origin", "https://app.example.com"),
    ("Content-Length", "100"),
    ("X-User", "alice"),
];

fn spec(name: &str) -> &'static Spec {
    ALL.iter().find(|spec| spec.schema.name == name).copied().expect("a bundled plugin")
}

fn answered(exchange: &mut Exchange) {
    exchange.response.status = 200;
    exchange.response.fields.add("Content-Type", "application/json");
    exchange.response.fields.add("X-Kong-Limit", "video=1");
}

/// Access, head and a small JSON body.
fn phases(criterion: &mut Criterion, name: &str, what: &str, config: Value) {
    phases_of(criterion, name, what, config, |script| script.get("/r/42?q=7&a=1", SENT));
}

/// The same for exchanges that `ask` makes.
fn phases_of(
    criterion: &mut Criterion,
    name: &str,
    what: &str,
    config: Value,
    mut ask: impl FnMut(&Script) -> Exchange,
) {
    let script = Script::new(spec(name), config);
    let plugin = script.plugin();
    let body = br#"{"a":1,"b":{"c":[1,2,3]},"name":"x","list":[1,2]}"#;
    criterion.bench_function(&format!("{name}: {what}"), |bencher| {
        bencher.iter_batched(
            || {
                let mut exchange = ask(&script);
                answered(&mut exchange);
                exchange
            },
            |mut exchange| {
                black_box(plugin.access(&mut exchange));
                plugin.header_filter(&mut exchange);
                let mut piece = Piece::copy_of(body);
                plugin.body_filter(&mut exchange, &mut piece, true);
                (exchange, piece)
            },
            BatchSize::SmallInput,
        );
    });
}

fn looking(criterion: &mut Criterion) {
    phases(criterion, "cors", "any origin", json!({}));
    let listed = json!({"origins": ["https://app.example.com", "https://.*\\.b\\.example$"]});
    phases(criterion, "cors", "listed origins", listed);
    phases(criterion, "correlation-id", "a UUID", json!({"generator": "uuid"}));
    phases(criterion, "correlation-id", "a counter", json!({"echo_downstream": true}));
    let nets: Vec<String> = (0..250).map(|n| format!("10.{n}.0.0/16")).collect();
    phases(criterion, "ip-restriction", "250 blocks", json!({"deny": nets}));
    phases(criterion, "bot-detection", "a browser", json!({}));
    phases(criterion, "request-size-limiting", "a length", json!({}));
    let kept = json!({"location": "https://new.example/", "keep_incoming_path": true});
    phases(criterion, "redirect", "with its path", kept);
    let limits = json!({"limits": {"video": {"minute": 1_000_000_000}}});
    phases(criterion, "response-ratelimiting", "one limit", limits);
    let limits = json!({"second": 1_000_000_000, "hour": 1_000_000_000});
    phases(criterion, "rate-limiting", "two limits", limits);
    phases(criterion, "request-termination", "a message", json!({"message": "m"}));
    let unsigned = json!({"secret_v1": "s"});
    phases(criterion, "standard-webhooks", "unsigned", unsigned);
    let signed = json!({"secret_v1": "s", "tolerance_second": u32::MAX});
    phases_of(criterion, "standard-webhooks", "signed", signed, |script| {
        let lines = webhook(br#"{"a":1}"#);
        let lines: Vec<(&str, &str)> = lines.iter().map(|(n, v)| (*n, v.as_str())).collect();
        script.post("/r", &lines, r#"{"a":1}"#)
    });
}

/// The lines of a webhook that carries `body`, signed with the secret `s`.
fn webhook(body: &[u8]) -> [(&'static str, String); 3] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s");
    let signed = [b"m1.1767225600.".as_slice(), body].concat();
    let mut signature = to_base64_unpadded(hmac::sign(&key, &signed).as_ref());
    // 32 bytes are 43 characters and one of padding.
    signature.push('=');
    [
        ("webhook-id", "m1".to_owned()),
        ("webhook-timestamp", "1767225600".to_owned()),
        ("webhook-signature", format!("v1,{signature}")),
    ]
}

fn changing(criterion: &mut Criterion) {
    let headers = json!({"remove": {"headers": ["x-user"]}, "add": {"headers": ["x-a:1"]}});
    phases(criterion, "request-transformer", "headers", headers);
    let looks =
        json!({"add": {"headers": ["x-u:$(headers.x_user or 'nobody')-$(query_params.q)"]}});
    phases(criterion, "request-transformer", "look-ups", looks);
    phases(criterion, "request-transformer", "the query", json!({"add": {"querystring": ["z:1"]}}));
    phases(criterion, "response-transformer", "headers", json!({"add": {"headers": ["x-a:1"]}}));
    phases(criterion, "response-transformer", "a JSON body", json!({"add": {"json": ["z:1"]}}));
}

fn keeping(criterion: &mut Criterion) {
    phases(criterion, "proxy-cache", "a hit", json!({"strategy": "memory"}));
    // What is kept is published at once here, which is the work of another thread otherwise.
    let mut number = 0;
    phases_of(criterion, "proxy-cache", "a miss, kept", json!({"strategy": "memory"}), |script| {
        number += 1;
        script.get(&format!("/r/{number}"), SENT)
    });
    phases(
        criterion,
        "proxy-cache",
        "passed by",
        json!({"strategy": "memory", "request_method": ["POST"]}),
    );
}

criterion_group!(benches, looking, changing, keeping);
criterion_main!(benches);
