//! The phases of each authentication plugin, on a request that it lets in.
//!
//! Budget: 2 µs, but for the first request with a token or a cookie: those that come again are
//! remembered. `new` marks requests whose token or cookie the plugin has not seen.

#![allow(clippy::expect_used, reason = "a benchmark stops where it is wrong")]

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _};
use aws_lc_rs::{hmac, rand};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use plugins::bundled;
use plugins::pdk::credentials::{to_base64_unpadded, to_base64url};
use plugins::pdk::script::Script;
use plugins::pdk::{Credential, Exchange, Outcome, Spec, Step, identity};
use serde_json::{Value, json};
use std::hint::black_box;

const BOB: &str = "00000000-0000-4000-8000-000000000001";
const APP: &str = "00000000-0000-4000-8000-000000000003";
/// The date of the signed requests.
const THEN_US: u64 = 1_767_225_600_000_000;
/// More tokens and cookies than a plugin remembers.
const MANY: usize = 4_096;

/// The lines of one request.
type Lines = Vec<(&'static str, String)>;

/// One plugin with its rows, and requests that it lets in, which come in turn.
struct Case {
    name: &'static str,
    spec: &'static Spec,
    config: Value,
    rows: Vec<(&'static str, Value)>,
    asks: Vec<Lines>,
}

fn line(name: &'static str, value: impl Into<String>) -> Lines {
    vec![(name, value.into())]
}

/// Tokens that differ in one claim, signed by `sign`.
fn tokens(count: usize, alg: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Lines> {
    let token = |number: usize| {
        let parts = [json!({"typ": "JWT", "alg": alg}), json!({"iss": "iss1", "n": number})];
        let signed = parts.map(|part| to_base64url(part.to_string().as_bytes())).join(".");
        let signature = to_base64url(&sign(signed.as_bytes()));
        line("Authorization", format!("Bearer {signed}.{signature}"))
    };
    (0..count).map(token).collect()
}

fn jwt(name: &'static str, alg: &str, count: usize) -> Case {
    let mut row = json!({"consumer": {"id": BOB}, "key": "iss1", "algorithm": alg});
    let asks = if alg == "HS256" {
        row["secret"] = "s3cret".into();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
        tokens(count, alg, |signed| hmac::sign(&key, signed).as_ref().to_vec())
    } else {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der = pair.public_key().as_der().expect("a public key");
        let pem = to_base64_unpadded(der.as_ref());
        let padding = "=".repeat((4 - pem.len() % 4) % 4);
        let text =
            format!("-----BEGIN PUBLIC KEY-----\n{pem}{padding}\n-----END PUBLIC KEY-----\n");
        row["rsa_public_key"] = text.into();
        tokens(count, alg, |signed| {
            let mut signature = vec![0; pair.public_modulus_len()];
            let random = rand::SystemRandom::new();
            pair.sign(&signature::RSA_PKCS1_SHA256, &random, signed, &mut signature)
                .expect("a signature");
            signature
        })
    };
    Case {
        name,
        spec: &bundled::jwt::PLUGIN,
        config: json!({}),
        rows: vec![("jwt_secrets", row)],
        asks,
    }
}

/// Cookies of bob's sessions.
fn session(name: &'static str, count: usize) -> Case {
    let spec = &bundled::session::PLUGIN;
    let config = json!({"secret": "s3cr3t-s3cr3t-s3cr3t-s3cr3t-1234"});
    let script = known(spec, &config, &[]);
    let plugin = script.plugin();
    let cookie = |_| {
        let mut exchange = request(&script, &Lines::new());
        plugin.header_filter(&mut exchange);
        let set = exchange.response.fields.get("set-cookie").expect("a cookie").to_vec();
        let set = String::from_utf8(set).expect("text");
        line("Cookie", format!("a=1; {}", set.split(';').next().expect("a pair")))
    };
    let asks = (0..count).map(cookie).collect();
    Case { name, spec, config, rows: Vec::new(), asks }
}

fn cases() -> Vec<Case> {
    let bob = || json!({"id": BOB});
    let case =
        |name, spec, config, rows, lines| Case { name, spec, config, rows, asks: vec![lines] };
    vec![
        case(
            "key-auth",
            &bundled::key_auth::PLUGIN,
            json!({}),
            vec![("keyauth_credentials", json!({"consumer": bob(), "key": "key-of-bob"}))],
            line("apikey", "key-of-bob"),
        ),
        case(
            "basic-auth",
            &bundled::basic_auth::PLUGIN,
            json!({}),
            vec![(
                "basicauth_credentials",
                json!({"consumer": bob(), "username": "u", "password": "pa:ss"}),
            )],
            line("Authorization", "Basic dTpwYTpzcw=="),
        ),
        jwt("jwt HS256", "HS256", 1),
        jwt("jwt HS256, new", "HS256", MANY),
        jwt("jwt RS256", "RS256", 1),
        jwt("jwt RS256, new", "RS256", MANY / 2),
        case(
            "hmac-auth",
            &bundled::hmac_auth::PLUGIN,
            json!({}),
            vec![(
                "hmacauth_credentials",
                json!({"consumer": bob(), "username": "h", "secret": "hs"}),
            )],
            vec![
                ("Date", "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
                (
                    "Authorization",
                    "hmac username=\"h\", algorithm=\"hmac-sha256\", headers=\"date request-line\", \
                     signature=\"wXyu5OJFhtsr+wTZ2xKglqCeN7B1KyE2J/1fb4py3K0=\""
                        .to_owned(),
                ),
            ],
        ),
        case(
            "oauth2",
            &bundled::oauth2::PLUGIN,
            json!({"enable_client_credentials": true, "global_credentials": true}),
            vec![
                ("oauth2_credentials", json!({"id": APP, "consumer": bob(), "name": "app"})),
                (
                    "oauth2_tokens",
                    json!({"credential": {"id": APP}, "access_token": "tok", "expires_in": 0}),
                ),
            ],
            line("Authorization", "Bearer tok"),
        ),
        case(
            "acl",
            &bundled::acl::PLUGIN,
            json!({"allow": ["gold"]}),
            vec![("acls", json!({"consumer": bob(), "group": "gold"}))],
            Lines::new(),
        ),
        session("session", 1),
        session("session, new", MANY),
    ]
}

/// A node with the plugin, bob, and these rows.
fn known(spec: &'static Spec, config: &Value, rows: &[(&'static str, Value)]) -> Script {
    let bob = json!({"id": BOB, "username": "bob"});
    let script = Script::new(spec, config.clone()).row("consumers", bob);
    rows.iter().fold(script, |script, (entity, row)| script.row(entity, row.clone()))
}

/// A request; without lines, one that another plugin has let in.
fn request(script: &Script, lines: &Lines) -> Exchange {
    let sent: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut exchange = script.get("/r", &sent);
    exchange.times.started_wall_us = THEN_US;
    if lines.is_empty() {
        let bob = exchange.tables().get("consumers", BOB.parse().expect("an id")).cloned();
        let credential = Credential { id: "key".to_owned(), key: None };
        identity::identify(&mut exchange, bob, Some(credential));
    }
    exchange
}

fn is_next(step: &Step<'_>) -> bool {
    matches!(step, Step::Done(Outcome::Next))
}

fn access(criterion: &mut Criterion) {
    for case in cases() {
        let script = known(case.spec, &case.config, &case.rows);
        let plugin = script.plugin();
        let mut asks = case.asks.iter().cycle();
        criterion.bench_function(&format!("access: {}", case.name), |bencher| {
            bencher.iter_batched(
                || request(&script, asks.next().expect("a request")),
                |mut exchange| {
                    let let_in = is_next(&black_box(plugin.access(&mut exchange)));
                    assert!(let_in, "{} refuses", case.name);
                    exchange
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// The one plugin of these that looks at answers: it passes a session that goes on, and seals one
/// for somebody who was just let in.
fn header_filter(criterion: &mut Criterion) {
    let case = session("session", 1);
    let script = known(case.spec, &case.config, &case.rows);
    let plugin = script.plugin();
    let mut phase = |name: &str, lines: &Lines| {
        criterion.bench_function(&format!("header_filter: {name}"), |bencher| {
            bencher.iter_batched(
                || {
                    let mut exchange = request(&script, lines);
                    drop(plugin.access(&mut exchange));
                    exchange
                },
                |mut exchange| {
                    plugin.header_filter(&mut exchange);
                    exchange
                },
                BatchSize::SmallInput,
            );
        });
    };
    for lines in &case.asks {
        phase("session", lines);
    }
    phase("session, begun", &Lines::new());
}

criterion_group!(benches, access, header_filter);
criterion_main!(benches);
