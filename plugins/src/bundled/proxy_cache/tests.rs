//! What is kept, for whom it is played back, and what passes by.

use super::*;
use crate::pdk::script::{Script, answered, check_fault, lines};
use crate::pdk::{ResponseBody, Scheme, credentials};
use serde_json::json;

/// One request through the plugin: the status line of the cache, and what the client gets.
struct Call<'a> {
    script: &'a Script,
    plugin: &'a dyn Plugin,
}

impl Call<'_> {
    /// The upstream answers with this, if it is asked; gives X-Cache-Status and the body.
    fn get(&self, sent: &[(&str, &str)], answer: (u16, &[(&str, &str)], &str)) -> (String, String) {
        let mut exchange = self.script.get("/r?x=1", sent);
        let decided = match self.plugin.access(&mut exchange) {
            Step::Done(Outcome::Replay(body)) => Ok(Some(body)),
            Step::Done(Outcome::Next) => Ok(None),
            step => Err(answered(step).map(|(s, b)| (s.to_string(), b))),
        };
        let mut piece = match decided {
            Ok(Some(body)) => body,
            Ok(None) => {
                exchange.response.status = answer.0;
                for (name, value) in answer.1 {
                    exchange.response.fields.add(name, value);
                }
                Piece::copy_of(answer.2.as_bytes())
            }
            Err(answered) => return answered.unwrap(),
        };
        for (name, value) in exchange.early.clone().iter() {
            exchange.response.fields.set(std::str::from_utf8(name).unwrap(), value);
        }
        self.plugin.header_filter(&mut exchange);
        let status = exchange.response.fields.get(STATUS.as_str()).unwrap_or(b"none").to_vec();
        self.plugin.body_filter(&mut exchange, &mut piece, true);
        let body = String::from_utf8(piece.to_vec()).unwrap();
        (String::from_utf8(status).unwrap(), body)
    }
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Asks twice; gives the cache's status of both. The upstream's second answer has another body, so
/// that a hit is a hit.
#[track_caller]
fn twice(config: serde_json::Value, sent: &[(&str, &str)], answer: &[(&str, &str)]) -> String {
    asked(config, [sent, sent], (200, answer))
}

#[track_caller]
fn asked(
    config: serde_json::Value,
    sent: [&[(&str, &str)]; 2],
    (status, answer): (u16, &[(&str, &str)]),
) -> String {
    let mut all = json!({"strategy": "memory"});
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let script = Script::new(&PLUGIN, all);
    let plugin = script.plugin();
    let call = Call { script: &script, plugin: &*plugin };
    let first = call.get(sent[0], (status, answer, "one"));
    let second = call.get(sent[1], (status, answer, "two"));
    assert_eq!(second.1 == "one", second.0 == "Hit", "{second:?}");
    format!("{} {}", first.0, second.0)
}

#[test]
fn the_second_time_is_a_hit() {
    assert_eq!(twice(json!({}), &[], &[JSON]), "Miss Hit");
    assert_eq!(twice(json!({}), &[("Cache-Control", "no-store")], &[JSON]), "Miss Hit");
    let quiet = json!({"response_headers": {"X-Cache-Status": false}});
    assert_eq!(twice(quiet, &[("Kong-Debug", "1")], &[JSON]), "Miss Hit");
}

#[test]
fn what_is_not_configured_passes_by() {
    assert_eq!(twice(json!({"request_method": ["POST"]}), &[], &[JSON]), "Bypass Bypass");
    assert_eq!(twice(json!({"content_type": ["text/plain"]}), &[], &[JSON]), "Bypass Bypass");
    assert_eq!(twice(json!({}), &[], &[]), "Bypass Bypass");
    let charset = [("Content-Type", "application/json; charset=utf-8")];
    assert_eq!(twice(json!({}), &[], &charset), "Bypass Bypass");
    let exact = json!({"content_type": ["application/json; charset=utf-8"]});
    assert_eq!(twice(exact, &[], &charset), "Miss Hit");
    assert_eq!(twice(json!({"content_type": ["*/*"]}), &[], &[JSON]), "Miss Hit");
    assert_eq!(asked(json!({}), [&[], &[]], (500, &[JSON])), "Bypass Bypass");
    assert_eq!(asked(json!({}), [&[], &[]], (404, &[JSON])), "Miss Hit");
}

#[test]
fn cache_control_of_the_upstream_counts_where_it_is_configured() {
    for (told, expected) in [
        ("max-age=100", "Miss Hit"),
        ("s-maxage=5, max-age=1", "Miss Hit"),
        ("no-store", "Bypass Bypass"),
        ("private", "Bypass Bypass"),
        ("no-cache", "Bypass Bypass"),
        ("max-age=0", "Bypass Bypass"),
        ("public", "Bypass Bypass"),
    ] {
        let answer = [JSON, ("Cache-Control", told)];
        assert_eq!(twice(json!({"cache_control": true}), &[], &answer), expected, "{told}");
        assert_eq!(twice(json!({}), &[], &answer), "Miss Hit", "{told}");
    }
    let expires = [JSON, ("Expires", "Fri, 31 Dec 9999 23:59:59 GMT")];
    assert_eq!(twice(json!({"cache_control": true}), &[], &expires), "Miss Hit");
}

#[test]
fn cache_control_of_the_client_counts_where_it_is_configured() {
    let fresh = [JSON, ("Cache-Control", "max-age=100")];
    for (told, expected) in [
        ("no-cache", "Miss Bypass"),
        ("no-store", "Miss Bypass"),
        ("max-age=0", "Miss Refresh"),
        ("max-age=60", "Miss Hit"),
        ("only-if-cached", "Miss Hit"),
        ("max-stale=5", "Miss Hit"),
        ("min-fresh=1000", "Miss Refresh"),
        ("min-fresh=10", "Miss Hit"),
    ] {
        let sent = [("Cache-Control", told)];
        let found = asked(json!({"cache_control": true}), [&[], &sent], (200, &fresh));
        assert_eq!(found, expected, "{told}");
    }
    let sent = [("Authorization", "Basic x")];
    assert_eq!(twice(json!({"cache_control": true}), &sent, &fresh), "Bypass Bypass");
    assert_eq!(twice(json!({}), &sent, &fresh), "Miss Hit");
}

#[test]
fn a_client_who_wants_what_is_kept_gets_nothing_else() {
    let script = Script::new(&PLUGIN, json!({"strategy": "memory", "cache_control": true}));
    let plugin = script.plugin();
    let call = Call { script: &script, plugin: &*plugin };
    let only = [("Cache-Control", "only-if-cached")];
    let (status, body) = call.get(&only, (200, &[JSON], "one"));
    assert_eq!(status, "504");
    assert!(body.starts_with("The upstream server is timing out\nrequest_id: "));
}

#[test]
fn vary_is_heeded() {
    let vary = [JSON, ("Vary", "Accept-Language, X-V")];
    let (de, en) = ([("Accept-Language", "de")], [("Accept-Language", "en")]);
    assert_eq!(asked(json!({}), [&de, &de], (200, &vary)), "Miss Hit");
    assert_eq!(asked(json!({}), [&de, &en], (200, &vary)), "Miss Miss");
    assert_eq!(asked(json!({}), [&de, &[]], (200, &vary)), "Miss Miss");
    assert_eq!(twice(json!({}), &[], &[JSON, ("Vary", "*")]), "Bypass Bypass");
}

#[test]
fn keys_differ_by_what_is_configured() {
    let (a, b) = ([("X-V", "a")], [("X-V", "b")]);
    assert_eq!(asked(json!({}), [&a, &b], (200, &[JSON])), "Miss Hit");
    let config = json!({"vary_headers": ["x-v"]});
    assert_eq!(asked(config.clone(), [&a, &b], (200, &[JSON])), "Miss Miss");
    assert_eq!(asked(config, [&a, &a], (200, &[JSON])), "Miss Hit");
}

#[test]
fn a_hit_tells_its_age_and_leaves_out_what_counts() {
    let script = Script::new(&PLUGIN, json!({"strategy": "memory"}));
    let plugin = script.plugin();
    let call = Call { script: &script, plugin: &*plugin };
    let answer = [JSON, ("X-RateLimit-Remaining-Hour", "3"), ("Connection", "x"), ("Server", "up")];
    call.get(&[], (200, &answer, "one"));
    let mut exchange = script.get("/r?x=1", &[]);
    let Step::Done(Outcome::Replay(body)) = plugin.access(&mut exchange) else { panic!("no hit") };
    assert_eq!((&*body, exchange.response.status), (&b"one"[..], 200));
    assert_eq!(exchange.response.reason(), "OK");
    let key = credentials::hex(&key::Keying::default().key(&exchange));
    let expected = [
        "Content-Type: application/json".to_owned(),
        "Server: up".to_owned(),
        "age: 0".to_owned(),
        "X-Cache-Status: Hit".to_owned(),
        format!("X-Cache-Key: {key}"),
    ];
    assert_eq!(lines(&exchange.response.fields), expected);
}

#[test]
fn a_body_comes_in_pieces_and_a_broken_one_is_not_kept() {
    let script = Script::new(&PLUGIN, json!({"strategy": "memory"}));
    let plugin = script.plugin();
    for (pieces, whole) in [(&["ab", "cd"][..], false), (&["ab", "cd", ""], true)] {
        let mut exchange = script.get("/b", &[]);
        assert!(answered(plugin.access(&mut exchange)).is_none());
        exchange.response.status = 200;
        exchange.response.fields.add(JSON.0, JSON.1);
        plugin.header_filter(&mut exchange);
        for (at, piece) in pieces.iter().enumerate() {
            let mut piece = Piece::copy_of(piece.as_bytes());
            plugin.body_filter(&mut exchange, &mut piece, whole && at + 1 == pieces.len());
        }
        assert_eq!(exchange.response_body, ResponseBody::AsItComes);
        assert_eq!(exchange.client.scheme, Scheme::Http);
        drop(exchange);
        let mut next = script.get("/b", &[]);
        let hit = match plugin.access(&mut next) {
            Step::Done(Outcome::Replay(body)) => body.to_vec(),
            _ => Vec::new(),
        };
        assert_eq!(hit == b"abcd", whole);
    }
}

#[test]
fn what_cannot_be_is_a_fault() {
    check_fault(&PLUGIN, json!({}), "required field missing");
    let config = json!({"strategy": "memory", "memory": {"dictionary_name": "mine"}});
    check_fault(&PLUGIN, config, "missing shared dict 'mine'");
    check_fault(&PLUGIN, json!({"strategy": "memory", "cache_ttl": 0}), "greater than 0");
}
