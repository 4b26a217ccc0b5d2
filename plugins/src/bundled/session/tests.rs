//! Sessions in their cookie; those that are stored are tested over sockets, where there is an
//! office.

use super::*;
use crate::pdk::script::{Script, answered};
use serde_json::json;

const BOB: &str = "00000000-0000-4000-8000-000000000001";
const NOW_S: i64 = 1_795_301_000;

fn script(config: &serde_json::Value) -> Script {
    let mut config = config.clone();
    config["secret"] = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-1234".into();
    Script::new(&PLUGIN, config).row("consumers", json!({"id": BOB, "username": "bob"}))
}

fn at(mut exchange: Exchange, now_s: i64) -> Exchange {
    exchange.times.started_wall_us = (now_s * 1_000_000).cast_unsigned();
    exchange
}

/// Lets bob in as another plugin does; gives the cookie's value and the whole line.
fn logged_in(script: &Script, now_s: i64) -> (String, String) {
    let mut exchange = at(script.get("/", &[]), now_s);
    let bob = exchange.tables().get("consumers", BOB.parse().unwrap()).cloned();
    let plugin = script.plugin();
    assert!(answered(plugin.access(&mut exchange)).is_none());
    identity::identify(&mut exchange, bob, Some(Credential { id: "key-1".into(), key: None }));
    plugin.header_filter(&mut exchange);
    let lines = set(&exchange);
    let [line] = lines.as_slice() else { panic!("one cookie: {lines:?}") };
    let value = line.split(';').next().and_then(|pair| pair.split_once('=')).unwrap().1;
    (value.to_owned(), line.clone())
}

fn set(exchange: &Exchange) -> Vec<String> {
    let lines = exchange.response.fields.all("set-cookie");
    lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

/// Comes back with a cookie; gives the credential, and what is set.
fn back(script: &Script, cookie: &str, now_s: i64) -> (Option<String>, Vec<String>) {
    let line = format!("a=1; session={cookie}");
    let mut exchange = at(script.get("/", &[("Cookie", &line)]), now_s);
    let plugin = script.plugin();
    assert!(answered(plugin.access(&mut exchange)).is_none());
    plugin.header_filter(&mut exchange);
    (exchange.credential.as_ref().map(|credential| credential.id.clone()), set(&exchange))
}

#[test]
fn who_was_let_in_is_known_by_the_cookie_alone() {
    let script = script(&json!({}));
    let (cookie, line) = logged_in(&script, NOW_S);
    assert!(line.ends_with("; Path=/; SameSite=Strict; Secure; HttpOnly"), "{line}");
    assert_eq!(back(&script, &cookie, NOW_S + 1), (Some("key-1".into()), Vec::new()));
    assert_eq!(back(&script, &cookie[1..], NOW_S).0, None);
    assert_eq!(back(&script, "abc", NOW_S).0, None);
    assert_eq!(back(&script, &format!("{cookie}A"), NOW_S).0, None);
}

#[test]
fn a_cookie_that_was_opened_before_is_known_until_its_time_is_up() {
    let config = json!({"idling_timeout": 0, "rolling_timeout": 0, "absolute_timeout": 9});
    let script = script(&config);
    let (cookie, _) = logged_in(&script, NOW_S);
    let line = format!("session={cookie}");
    let plugin = script.plugin();
    let known = |line: &str, now_s: i64| {
        let mut exchange = at(script.get("/", &[("Cookie", line)]), now_s);
        assert!(answered(plugin.access(&mut exchange)).is_none());
        exchange.credential.as_ref().map(|credential| credential.id.clone())
    };
    for now_s in [NOW_S, NOW_S + 9] {
        assert_eq!(known(&line, now_s).as_deref(), Some("key-1"));
    }
    assert_eq!(known(&line, NOW_S + 10), None);
    assert_eq!(known(&format!("{line}A"), NOW_S), None);
    assert_eq!(known(&line.replace("session=", "session= "), NOW_S).as_deref(), Some("key-1"));
}

#[test]
fn a_session_ends_when_its_time_is_up() {
    let script = script(&json!({"idling_timeout": 0, "rolling_timeout": 0, "absolute_timeout": 9}));
    let (cookie, _) = logged_in(&script, NOW_S);
    assert!(back(&script, &cookie, NOW_S + 9).0.is_some());
    assert!(back(&script, &cookie, NOW_S + 10).0.is_none());
}

#[test]
fn a_session_that_no_cookie_holds_goes_on_in_others() {
    let script = script(&json!({}));
    let groups: Vec<String> = (0..400_u64)
        .map(|n| format!("group-{:016x}", n.wrapping_add(7).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let mut exchange = at(script.get("/", &[]), NOW_S);
    let bob = exchange.tables().get("consumers", BOB.parse().unwrap()).cloned();
    let plugin = script.plugin();
    identity::identify(&mut exchange, bob, Some(Credential { id: "key-1".into(), key: None }));
    exchange.authenticated_groups = Some(groups.clone());
    plugin.header_filter(&mut exchange);
    let lines = set(&exchange);
    assert!(lines.len() > 1, "{} bytes in one cookie", lines[0].len());
    let pairs: Vec<&str> = lines.iter().map(|line| line.split(';').next().unwrap()).collect();
    for (at, pair) in pairs.iter().enumerate() {
        let name = if at == 0 { "session=".to_owned() } else { format!("session{}=", at + 1) };
        assert!(pair.starts_with(&name) && pair.len() <= 4_096, "{}", pair.len());
    }
    let known = |pairs: &[&str]| {
        let mut exchange = at(script.get("/", &[("Cookie", &pairs.join("; "))]), NOW_S + 1);
        assert!(answered(plugin.access(&mut exchange)).is_none());
        exchange.authenticated_groups.clone()
    };
    assert_eq!(known(&pairs), Some(groups));
    assert_eq!(known(&pairs[..1]), None, "a part is missing");
    let line = pairs.join("; ");
    let mut exchange = at(script.get("/?session_logout", &[("Cookie", &line)]), NOW_S + 1);
    exchange.request.set_method("POST");
    assert!(answered(plugin.access(&mut exchange)).is_some());
    plugin.header_filter(&mut exchange);
    let gone = set(&exchange);
    assert_eq!(gone.len(), lines.len(), "all of them are taken away: {gone:?}");
}

#[test]
fn a_session_that_is_used_stays() {
    let script = script(&json!({"idling_timeout": 100, "rolling_timeout": 1_000}));
    let (mut cookie, _) = logged_in(&script, NOW_S);
    let mut changed = 0;
    for seconds in (50..2_000).step_by(50) {
        let (known, lines) = back(&script, &cookie, NOW_S + seconds);
        assert_eq!(known.as_deref(), Some("key-1"), "after {seconds} s");
        if let Some(line) = lines.first() {
            changed += 1;
            cookie = line.split([';', '=']).nth(1).unwrap().to_owned();
        }
    }
    assert!(changed > 10, "the cookie changed {changed} times");
    assert!(back(&script, &cookie, NOW_S + 1_950 + 101).0.is_none());
}

#[test]
fn logging_out_takes_the_cookie_away() {
    let script = script(&json!({"read_body_for_logout": true}));
    let (cookie, _) = logged_in(&script, NOW_S);
    let line = format!("session={cookie}");
    let lines = [("Cookie", &*line), ("Content-Type", "application/x-www-form-urlencoded")];
    let asks: [(&str, &str, bool); 4] = [
        ("/?session_logout", "", true),
        ("/?session_logout=1", "x=1", true),
        ("/", "session_logout=1", true),
        ("/?logout", "x=1", false),
    ];
    for (target, body, is_out) in asks {
        let mut exchange = at(script.post(target, &lines, body), NOW_S);
        let plugin = script.plugin();
        let answer = answered(plugin.access(&mut exchange));
        assert_eq!(answer.is_some_and(|(status, _)| status == 200), is_out, "{target} {body}");
        plugin.header_filter(&mut exchange);
        let gone = "session=; Path=/; SameSite=Strict; Secure; HttpOnly; Expires=Thu, 01 Jan 1970 \
                    00:00:01 GMT; Max-Age=0";
        let expected: &[&str] = if is_out { &[gone] } else { &[] };
        assert_eq!(set(&exchange), expected, "{target} {body}");
    }
}

#[test]
fn a_consumer_that_is_gone_has_no_session() {
    let (cookie, _) = logged_in(&script(&json!({})), NOW_S);
    let empty = Script::new(&PLUGIN, json!({"secret": "s3cr3t-s3cr3t-s3cr3t-s3cr3t-1234"}));
    let (known, lines) = back(&empty, &cookie, NOW_S);
    assert!(known.is_none() && lines.len() == 1 && lines[0].contains("Max-Age=0"), "{lines:?}");
}

#[test]
fn headers_tell_of_the_session() {
    let script = script(&json!({
        "response_headers": ["id", "audience", "subject", "timeout", "absolute-timeout"],
        "request_headers": ["subject"]
    }));
    let (cookie, _) = logged_in(&script, NOW_S);
    let line = format!("session={cookie}");
    let mut exchange = at(script.get("/", &[("Cookie", &line)]), NOW_S + 5);
    let plugin = script.plugin();
    assert!(answered(plugin.access(&mut exchange)).is_none());
    plugin.header_filter(&mut exchange);
    let told = |name: &str| {
        exchange.response.fields.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    };
    assert_eq!(told("Session-Subject").as_deref(), Some("bob"));
    assert_eq!(told("Session-Audience").as_deref(), Some("default"));
    assert_eq!(told("Session-Timeout").as_deref(), Some("895"));
    assert_eq!(told("Session-Absolute-Timeout").as_deref(), Some("86395"));
    assert_eq!(told("Session-Id").map(|id| id.len()), Some(43));
    assert_eq!(exchange.request.fields.get("Session-Subject"), Some(&b"bob"[..]));
}

#[test]
fn old_names_of_fields_are_taken() {
    let old = json!({"cookie_samesite": "off", "cookie_httponly": false, "cookie_lifetime": 60});
    let (_, line) = logged_in(&script(&old), NOW_S);
    assert!(line.ends_with("; Path=/; SameSite=Lax; Secure"), "{line}");
}
