//! What the upstream gets, as recorded from Kong and beyond.

use super::*;
use crate::pdk::script::{Script, answered, check_fault, lines};
use serde_json::json;

fn run(config: serde_json::Value, mut exchange: Exchange) -> (Script, Exchange) {
    let script = Script::new(&PLUGIN, config);
    let plugin = script.plugin();
    assert!(answered(plugin.access(&mut exchange)).is_none());
    drop(plugin);
    (script, exchange)
}

fn get(target: &str, fields: &[(&str, &str)]) -> Exchange {
    Script::new(&PLUGIN, json!({})).get(target, fields)
}

#[test]
fn headers() {
    let config = json!({
        "remove": {"headers": ["x-a"]}, "rename": {"headers": ["X-B:X-D"]},
        "replace": {"headers": ["X-C:new", "X-None:no", "Host:replaced.test"]},
        "add": {"headers": ["X-C:not", "X-E:e:f", "Host:h.test", "X-Empty:"]},
        "append": {"headers": ["X-C:more", "X-F:f"]},
    });
    let sent =
        [("Host", "h"), ("X-A", "1"), ("X-A", "2"), ("X-B", "b"), ("X-B", "b2"), ("X-C", "c")];
    let (_, exchange) = run(config, get("/", &sent));
    let expected = ["Host: h", "X-C: new", "x-d: b", "x-d: b2", "X-E: e:f", "X-C: more", "X-F: f"];
    assert_eq!(lines(&exchange.request.fields), expected);
    assert_eq!(exchange.onward.chosen_host.as_deref(), Some(&b"replaced.test"[..]));
}

#[track_caller]
fn query(config: serde_json::Value, sent: &str, expected: &str) {
    let (script, exchange) = run(config, get(sent, &[]));
    assert_eq!(script.onward(&exchange), expected);
}

#[test]
fn the_query() {
    let config = json!({
        "remove": {"querystring": ["a"]}, "rename": {"querystring": ["b:d"]},
        "replace": {"querystring": ["c:new", "none:no"]},
        "add": {"querystring": ["c:not", "e:e f&"]},
        "append": {"querystring": ["c:more", "f:f"]},
    });
    query(config.clone(), "/?a=1&b=2&c=3&a=4&g", "/?c=new&c=more&d=2&e=e%20f%26&f=f&g");
    query(config, "/", "/?c=not&c=more&e=e%20f%26&f=f");
    query(json!({"remove": {"querystring": ["a"]}}), "/?a=1", "/");
    query(json!({"append": {"querystring": ["g:1"]}}), "/?g", "/?g=1");
    query(json!({"rename": {"querystring": ["a:b", "z:y"]}}), "/?a=1&b=2&a=3", "/?b=1&b=3");
    query(json!({"add": {"headers": ["x:1"]}}), "/?b=1&a=%zz", "/?b=1&a=%zz");
}

#[track_caller]
fn body(config: serde_json::Value, kind: &str, sent: &str, expected: &str) {
    let script = Script::new(&PLUGIN, config);
    let mut exchange = script.post("/", &[("Content-Type", kind)], sent);
    assert!(answered(script.plugin().access(&mut exchange)).is_none());
    let found = String::from_utf8(exchange.whole_body().unwrap().into_owned()).unwrap();
    assert_eq!(found, expected, "{sent}");
    let told = exchange
        .request
        .fields
        .get("content-length")
        .map(|v| String::from_utf8_lossy(v).into_owned());
    assert!(told.is_none_or(|told| told == expected.len().to_string()));
}

const JSON: &str = "application/json; charset=utf-8";
const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn a_json_body() {
    let config = json!({
        "remove": {"body": ["a"]}, "rename": {"body": ["b:d"]},
        "replace": {"body": ["c:new", "none:no"]}, "add": {"body": ["c:not", "e:5"]},
        "append": {"body": ["c:more", "f:f", "list:4"]},
    });
    let sent = r#"{"a": 1, "b": [1], "c": 3, "list": [1, 2]}"#;
    let expected = r#"{"c":["new","more"],"list":[1, 2,"4"],"d":[1],"e":"5","f":["f"]}"#;
    body(config.clone(), JSON, sent, expected);
    body(config.clone(), JSON, "{bad", "{bad");
    body(config.clone(), JSON, "[1]", "[1]");
    body(config.clone(), JSON, "", r#"{"c":["not","more"],"e":"5","f":["f"],"list":["4"]}"#);
    body(config, "text/plain", "{}", "{}");
    body(json!({"remove": {"body": ["a"]}}), JSON, r#"{"a": 1}"#, "{}");
    body(
        json!({"add": {"body": ["a.b:1"]}, "remove": {"body": ["x.y"]}}),
        JSON,
        r#"{"x": {"y": 1}, "x.y": 2}"#,
        r#"{"x":{"y": 1},"a.b":"1"}"#,
    );
    body(json!({"add": {"body": ["a:1"]}}), JSON, r#"{"a":false}"#, r#"{"a":"1"}"#);
    body(json!({"add": {"body": ["a:1"]}}), JSON, r#"{"a":null}"#, r#"{"a":null}"#);
    body(
        json!({"replace": {"body": ["a:1"]}}),
        JSON,
        r#"{"a":false,"b":1}"#,
        r#"{"a":false,"b":1}"#,
    );
    body(json!({"append": {"body": ["a:2"]}}), JSON, r#"{"a":"1"}"#, r#"{"a":["1","2"]}"#);
}

#[test]
fn an_urlencoded_body() {
    let config = json!({"add": {"body": ["c:3"]}, "remove": {"body": ["a"]}});
    body(config.clone(), FORM, "a=1&b=2", "c=3&b=2");
    body(config, FORM, "", "c=3");
    let config = json!({
        "rename": {"body": ["a:z"]}, "replace": {"body": ["b:n"]}, "append": {"body": ["b:m"]},
    });
    body(config, FORM, "a=1&b=2&q=%20", "b=n&b=m&q=%20&z=1");
    body(json!({"replace": {"body": ["x:1"]}}), FORM, "a=%7E", "a=%7E");
}

#[test]
fn a_multipart_body() {
    let part = |name: &str, value: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let kind = "multipart/form-data; boundary=x";
    let sent = [part("a", "1"), part("b", "2"), part("c", "3"), "--x--\r\n".into()].concat();
    let config = json!({
        "remove": {"body": ["a"]}, "rename": {"body": ["b:d"]}, "replace": {"body": ["c:n"]},
        "add": {"body": ["e:5", "d:no"]},
    });
    let expected = [part("d", "2"), part("c", "n"), part("e", "5"), "--x--\r\n".into()].concat();
    body(config, kind, &sent, &expected);
    body(json!({"add": {"body": ["e:5"]}}), kind, "no form", "no form");
}

#[test]
fn method_and_path() {
    let config = json!({"http_method": "PUT", "replace": {"uri": "/new/$(query_params.q)"}});
    let (script, exchange) = run(config, get("/r/z?q=a%20b%3F%23/..", &[]));
    assert_eq!(exchange.request.method(), "PUT");
    assert_eq!(script.onward(&exchange), "/new/a%20b?%23/..?q=a%20b%3F%23/..");
    let script = Script::new(&PLUGIN, json!({"replace": {"uri": "$(headers.none)"}}));
    let mut exchange = script.get("/", &[]);
    let words = "An unexpected error occurred".to_owned();
    assert_eq!(answered(script.plugin().access(&mut exchange)), Some((500, words)));
}

#[test]
fn a_replaced_path_may_have_a_query() {
    let config = json!({"replace": {"uri": "/new?from=$(query_params.q)"}});
    let (script, exchange) = run(config.clone(), get("/r", &[]));
    assert_eq!(script.onward(&exchange), "/new?from=");
    let (script, exchange) = run(config, get("/r?q=7", &[]));
    assert_eq!(script.onward(&exchange), "/new?from=7?q=7", "as Kong does");
}

#[test]
fn a_form_moves_into_the_query_of_a_get() {
    let script = Script::new(&PLUGIN, json!({"http_method": "GET"}));
    let mut exchange = script.post("/?b=1", &[("Content-Type", FORM)], "a=x%20y&b=2");
    assert!(answered(script.plugin().access(&mut exchange)).is_none());
    assert_eq!(script.onward(&exchange), "/?a=x%20y&b=1&b=2");
}

#[test]
fn values_look_things_up() {
    let config = json!({
        "add": {
            "headers": [
                "X-H:$(headers['user-agent'])", "X-U:$(uri_captures.id)", "X-U1:$(uri_captures[1])",
                "X-Mix:pre-$(headers.x_b)-post", "X-None:$(headers.none)",
                "X-Q:$(query_params.q or 'none')",
            ],
            "querystring": ["id:$(uri_captures.id)"],
        },
        "remove": {"headers": ["x-b"]},
        "replace": {"uri": "/new/$(uri_captures.id)/$(query_params['q'])"},
    });
    let mut exchange = get("/r/42?q=zz", &[("User-Agent", "ua/1"), ("X-B", "bb")]);
    exchange.captures.push(None, Some(b"/r/42"));
    exchange.captures.push(Some("id"), Some(b"42"));
    let (script, exchange) = run(config, exchange);
    assert_eq!(script.onward(&exchange), "/new/42/zz?id=42&q=zz");
    let expected = [
        "User-Agent: ua/1",
        "X-H: ua/1",
        "X-U: 42",
        "X-U1: 42",
        "X-Mix: pre-bb-post",
        "X-None: ",
        "X-Q: zz",
    ];
    assert_eq!(lines(&exchange.request.fields), expected);
}

#[test]
fn a_body_is_read_only_where_a_rule_needs_it() {
    let asks = |config, kind| {
        let script = Script::new(&PLUGIN, config);
        let mut exchange = script.get("/", &[("Content-Type", kind)]);
        matches!(script.plugin().access(&mut exchange), Step::Body { .. })
    };
    let rules = json!({"add": {"body": ["a:1"]}});
    assert!(asks(rules.clone(), JSON) && asks(rules.clone(), FORM) && !asks(rules, "a/b"));
    assert!(!asks(json!({"add": {"headers": ["a:1"]}}), JSON));
    assert!(
        asks(json!({"http_method": "GET"}), FORM) && !asks(json!({"http_method": "GET"}), JSON)
    );
}

#[test]
fn what_cannot_be_done_is_a_fault() {
    let check = |config, words| check_fault(&PLUGIN, config, words);
    check(json!({"add": {"body": ["a"]}}), "key 'a' has no value");
    check(json!({"add": {"querystring": ["a:"]}}), "key 'a' has no value");
    check(json!({"add": {"headers": ["a b:1"]}}), "'a b' is not a valid header");
    check(json!({"add": {"headers": ["a"]}}), "invalid value: a");
    check(json!({"rename": {"headers": ["a:b c"]}}), "'b c' is not a valid header");
    check(json!({"remove": {"headers": ["a b"]}}), "'a b' is not a valid header");
    check(json!({"http_method": "get"}), "invalid value: get");
    check(
        json!({"add": {"querystring": ["a:$(os.exit())"]}}),
        "value '$(os.exit())' is not in supported format, error:'os' is none of",
    );
    check(json!({"add": {"headers": ["a:$(string.upper(1))"]}}), "'string' is none of");
    check(json!({"replace": {"uri": "/$(1 + 1)"}}), "'+' is not understood");
    check(json!({"replace": {"uri": "/$(headers.a or 'b')"}}), "");
}
