//! Tokens against the plugin. How tokens are made is tested over sockets, where there is an office.

use super::*;
use crate::pdk::script::{self, Script, answered};
use serde_json::json;

const BOB: &str = "00000000-0000-4000-8000-000000000001";
const APP: &str = "00000000-0000-4000-8000-000000000003";
/// When the rows of a script are made.
const MADE_S: u64 = 1_795_262_400;

fn script(mut config: serde_json::Value) -> Script {
    config["enable_client_credentials"] = true.into();
    config["global_credentials"] = true.into();
    Script::new(&PLUGIN, config)
        .row("consumers", json!({"id": BOB, "username": "bob"}))
        .row("consumers", json!({"username": "anon"}))
        .row(
            "oauth2_credentials",
            json!({"id": APP, "consumer": {"id": BOB}, "name": "app", "client_id": "cid"}),
        )
        .row(
            "oauth2_tokens",
            json!({
                "credential": {"id": APP}, "access_token": "tok", "expires_in": 60,
                "scope": "a b", "authenticated_userid": "u-7"
            }),
        )
}

/// Sends a request so many seconds after the token was made; gives the consumer or the fault.
fn told(script: &Script, exchange: &mut Exchange, age_s: u64) -> String {
    exchange.times.started_wall_us = (MADE_S + age_s) * 1_000_000;
    match answered(script.plugin().access(exchange)) {
        Some((401, body)) => {
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            body["error"].as_str().unwrap_or_default().to_owned()
        }
        Some(other) => format!("{other:?}"),
        None => {
            let consumer = exchange.consumer.as_ref().and_then(|row| row.text("username"));
            consumer.unwrap_or_default().to_owned()
        }
    }
}

#[track_caller]
fn check(target: &str, lines: &[(&str, &str)], age_s: u64, expected: &str) {
    let script = script(json!({}));
    let mut exchange = script.get(target, lines);
    assert_eq!(told(&script, &mut exchange, age_s), expected, "{target} {lines:?}");
}

#[test]
fn a_token_opens() {
    let line = |value| [("Authorization", value)];
    for value in ["Bearer tok", "bearer tok", "Token  tok", "tok"] {
        check("/", &line(value), 0, "bob");
    }
    check("/?access_token=tok", &[], 60, "bob");
    check("/?access_token=tok", &[], 61, "invalid_token");
    for value in ["Bearer", "Bearer tok x", "Basic tok", "no", "Bearer no"] {
        check("/", &line(value), 0, "invalid_token");
    }
    check("/", &line(""), 0, "invalid_request");
    check("/", &[], 0, "invalid_request");
    check("/?access_token", &[], 0, "invalid_request");
    check("/?access_token=tok&access_token=tok", &[], 0, "invalid_request");
}

#[test]
fn the_upstream_is_told_and_the_token_hidden() {
    let script = script(json!({"hide_credentials": true}));
    let spoofed = [("Authorization", "Bearer tok"), ("X-Authenticated-Userid", "root")];
    let mut exchange = script.get("/", &spoofed);
    assert_eq!(told(&script, &mut exchange, 0), "bob");
    let fields = &exchange.request.fields;
    assert_eq!(fields.get(SCOPE), Some(&b"a b"[..]));
    assert_eq!(fields.get(USER_ID), Some(&b"u-7"[..]));
    assert_eq!(fields.get("X-Credential-Identifier"), Some(&b"cid"[..]));
    assert!(!fields.contains("authorization"));
    for (target, left) in [("/r?access_token=tok", "/r"), ("/r?b=1&access_token=tok", "/r?b=1")] {
        let mut exchange = script.get(target, &[]);
        assert_eq!(told(&script, &mut exchange, 0), "bob");
        assert_eq!(script.onward(&exchange), left);
    }
    let multipart = [("Content-Type", "multipart/form-data; boundary=b")];
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let sent = [part("access_token", "tok"), part("x", "1"), "--b--\r\n".to_owned()].concat();
    let mut exchange = script.post("/r", &multipart, &sent);
    assert_eq!(told(&script, &mut exchange, 0), "bob");
    assert_eq!(&*exchange.whole_body().unwrap(), (part("x", "1") + "--b--\r\n").as_bytes());
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let mut exchange = script.post("/r", &form, "access_token=tok&x=1");
    assert_eq!(told(&script, &mut exchange, 0), "bob");
    assert_eq!(&*exchange.whole_body().unwrap(), b"x=1");
}

#[test]
fn anonymous_passes_without_what_others_may_claim() {
    let script = script(json!({"anonymous": "anon"}));
    let mut exchange = script.get("/", &[("X-Authenticated-Scope", "root")]);
    assert_eq!(told(&script, &mut exchange, 0), "anon");
    assert!(!exchange.request.fields.contains(SCOPE));
}

#[test]
fn endpoints_are_told_by_the_end_of_the_path() {
    let script = script(json!({}));
    for (target, expected) in [
        ("/oauth2/token", Place::Token),
        ("/r/oauth2/token/?x", Place::Token),
        ("/r/oauth2/authorize", Place::Authorize),
        ("/r//oauth2/./authorize", Place::Authorize),
        ("/r/oauth2%2Ftoken", Place::Resource),
        ("/r/oauth2/t%6fken", Place::Token),
        ("/oauth2/token/x", Place::Resource),
        ("/xoauth2/token", Place::Resource),
    ] {
        assert_eq!(place(&script.get(target, &[])), expected, "{target}");
    }
    let mut exchange = script.get("/oauth2/token", &[]);
    let (status, body) = answered(script.plugin().access(&mut exchange)).unwrap();
    assert!(
        status == 405 && body.contains("The HTTP method GET is invalid for the token endpoint")
    );
}

#[test]
fn who_says_that_tls_ended_before_says_it_once() {
    let script = script(json!({"accept_http_if_already_terminated": true}));
    let told = |lines: &[(&str, &str)]| {
        let mut exchange = script.post("/oauth2/token", lines, "");
        exchange.client.trusted = true;
        let plugin = script.plugin();
        let Step::Wait(mut issued) = plugin.access(&mut exchange) else { panic!("an endpoint") };
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(outcome) = issued.as_mut().poll(&mut context) else {
            panic!("nothing to wait for")
        };
        drop(issued);
        answered(Step::Done(outcome)).unwrap().1
    };
    assert!(told(&[("X-Forwarded-Proto", "HTTPS")]).contains("invalid_client"));
    assert!(told(&[("X-Forwarded-Proto", "http")]).contains("You must use HTTPS"));
    assert!(told(&[]).contains("You must use HTTPS"));
    let twice = "Only one X-Forwarded-Proto header allowed";
    assert!(told(&[("X-Forwarded-Proto", "https,https")]).contains(twice));
    let lines = [("X-Forwarded-Proto", "https"), ("x-forwarded-proto", "https")];
    assert!(told(&lines).contains(twice));
}

#[test]
fn one_flow_is_asked_for() {
    let fault = script::fault(&PLUGIN, json!({})).unwrap_or_default();
    assert!(fault.contains("at least one of these fields must be true: enable_"), "{fault}");
}
