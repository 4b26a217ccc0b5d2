//! The access phase of each authentication plugin, on a request that it lets in.
//!
//! Budget: 2 µs, but for signatures with public keys.

#![allow(clippy::expect_used, reason = "a benchmark stops where it is wrong")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use plugins::bundled;
use plugins::pdk::script::Script;
use plugins::pdk::{Credential, Exchange, Spec, identity};
use serde_json::{Value, json};
use std::hint::black_box;

const BOB: &str = "00000000-0000-4000-8000-000000000001";
const APP: &str = "00000000-0000-4000-8000-000000000003";
/// The date of the signed requests.
const THEN_US: u64 = 1_767_225_600_000_000;

/// One plugin with its rows, and the lines that it lets in.
struct Case {
    name: &'static str,
    spec: &'static Spec,
    config: Value,
    rows: Vec<(&'static str, Value)>,
    lines: Vec<(&'static str, &'static str)>,
}

fn password() -> Value {
    json!({"consumer": {"id": BOB}, "username": "u", "password": "pa:ss"})
}

fn cases() -> Vec<Case> {
    let bob = || json!({"id": BOB});
    vec![
        Case {
            name: "basic-auth",
            spec: &bundled::basic_auth::PLUGIN,
            config: json!({}),
            rows: vec![("basicauth_credentials", password())],
            lines: vec![("Authorization", "Basic dTpwYTpzcw==")],
        },
        Case {
            name: "jwt HS256",
            spec: &bundled::jwt::PLUGIN,
            config: json!({}),
            rows: vec![(
                "jwt_secrets",
                json!({"consumer": bob(), "key": "iss1", "secret": "s3cret"}),
            )],
            lines: vec![(
                "Authorization",
                "Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJpc3MxIn0.\
                 _AGL1GeNGVwToXH8u1im45x-mNZUjRJhg5WKRB3NiAM",
            )],
        },
        Case {
            name: "hmac-auth",
            spec: &bundled::hmac_auth::PLUGIN,
            config: json!({}),
            rows: vec![(
                "hmacauth_credentials",
                json!({"consumer": bob(), "username": "h", "secret": "hs"}),
            )],
            lines: vec![
                ("Date", "Thu, 01 Jan 2026 00:00:00 GMT"),
                (
                    "Authorization",
                    "hmac username=\"h\", algorithm=\"hmac-sha256\", headers=\"date request-line\", \
                     signature=\"wXyu5OJFhtsr+wTZ2xKglqCeN7B1KyE2J/1fb4py3K0=\"",
                ),
            ],
        },
        Case {
            name: "oauth2",
            spec: &bundled::oauth2::PLUGIN,
            config: json!({"enable_client_credentials": true, "global_credentials": true}),
            rows: vec![
                ("oauth2_credentials", json!({"id": APP, "consumer": bob(), "name": "app"})),
                (
                    "oauth2_tokens",
                    json!({"credential": {"id": APP}, "access_token": "tok", "expires_in": 0}),
                ),
            ],
            lines: vec![("Authorization", "Bearer tok")],
        },
        Case {
            name: "acl",
            spec: &bundled::acl::PLUGIN,
            config: json!({"allow": ["gold"]}),
            rows: vec![("acls", json!({"consumer": bob(), "group": "gold"}))],
            lines: Vec::new(),
        },
        Case {
            name: "session",
            spec: &bundled::session::PLUGIN,
            config: json!({"secret": "s"}),
            rows: Vec::new(),
            lines: vec![("Cookie", "a=1; session=abc")],
        },
    ]
}

fn request(script: &Script, lines: &[(&str, &str)]) -> Exchange {
    let mut exchange = script.get("/r", lines);
    exchange.times.started_wall_us = THEN_US;
    if lines.is_empty() {
        let bob = exchange.tables().get("consumers", BOB.parse().expect("an id")).cloned();
        let credential = Credential { id: "key".to_owned(), key: None };
        identity::identify(&mut exchange, bob, Some(credential));
    }
    exchange
}

fn access(criterion: &mut Criterion) {
    for case in cases() {
        let consumer = json!({"id": BOB, "username": "bob"});
        let mut script = Script::new(case.spec, case.config).row("consumers", consumer);
        for (entity, row) in case.rows {
            script = script.row(entity, row);
        }
        let plugin = script.plugin();
        criterion.bench_function(&format!("access: {}", case.name), |bencher| {
            bencher.iter_batched(
                || request(&script, &case.lines),
                |mut exchange| {
                    black_box(&plugin.access(&mut exchange));
                    exchange
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, access);
criterion_main!(benches);
