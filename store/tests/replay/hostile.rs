//! Calls of any content: no panic, no 5xx, and what is answered is well formed.

use super::document::Document;
use super::suite::Gateway;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use store::admin::{Call, Reply};

const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", ""];
const WORDS: &[&str] = &[
    "services",
    "config",
    "routes",
    "consumers",
    "plugins",
    "tags",
    "schemas",
    "status",
    "validate",
    "s",
    "r",
    "key-auth",
    "key-auths",
    "enabled",
    "schema",
    "service",
    "cache",
    "debug",
    "node",
    "log-level",
    "notice",
    "%00",
    "%ff",
    "%",
    "é",
    "..",
    "00000000-0000-4000-8000-000000000000",
    "{id}",
    "'",
    "\"",
];
const TYPES: &[&str] = &[
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=X",
    "multipart/form-data",
    "text/plain",
    "text/yaml",
];
const NAMES: &[&str] = &[
    "name",
    "_format_version",
    "services",
    "routes",
    "host",
    "port",
    "path",
    "paths",
    "protocols",
    "tags",
    "service",
    "id",
    "url",
    "config",
    "retries",
    "headers",
    "created_at",
    "ttl",
    "username",
    "custom_id",
    "enabled",
    "methods",
    "hosts",
    "snis",
    "sources",
    "consumer",
    "instance_name",
    "key",
    "x",
];

fn leaf() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        (0_i64..100).prop_map(Into::into),
        "(http|https|tcp|grpc|/a|~/b\\(?|a\\.example|\\*\\.b|s|r|key-auth)".prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ]
}

fn document() -> impl Strategy<Value = serde_json::Value> {
    leaf().prop_recursive(4, 40, 6, |inner| {
        let name = prop_oneof![prop::sample::select(NAMES), Just("minute"), Just("ip")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((name, inner), 0..6).prop_map(|pairs| {
                let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
                serde_json::Value::Object(pairs.collect())
            }),
        ]
    })
}

/// Objects whose top names are those of real fields.
fn object() -> impl Strategy<Value = serde_json::Value> {
    prop::collection::btree_map(prop::sample::select(NAMES), document(), 0..7).prop_map(|pairs| {
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
        serde_json::Value::Object(pairs.collect())
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let form = "((name|host|paths|config|tags|service)(\\[\\]|\\[1\\]|\\.id|\\.name|\\.minute)?=[a-z/%0-9]{0,6}&){0,6}";
    prop_oneof![
        object().prop_map(|document| document.to_string().into_bytes()),
        form.prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..200),
        "--X\r\nContent-Disposition: form-data; name=\"host\"\r\n\r\na\r\n(--X--)?"
            .prop_map(String::into_bytes),
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    let path = prop_oneof![
        prop::collection::vec(prop::sample::select(WORDS), 0..6)
            .prop_map(|words| format!("/{}", words.join("/"))),
        "/(services|routes|consumers|plugins)(/(s|r|new))?(/(routes|plugins|service))?",
        any::<String>(),
    ];
    let query = prop_oneof![
        "((size|offset|tags|custom_id|unit|scale)=[a-zA-Z0-9,/%!]{0,12}&?){0,3}",
        any::<String>(),
    ];
    let kind = prop::option::of(prop::sample::select(TYPES));
    (prop::sample::select(METHODS), path, query, kind, body()).prop_map(
        |(method, path, query, kind, body)| {
            let call = Call::new(method, &format!("{path}?{query}")).with_body(body);
            match kind {
                Some(kind) => call.header("Content-Type", kind.as_bytes()),
                None => call,
            }
        },
    )
}

fn seeds() -> [Call; 3] {
    let json = |target: &str, body: &str| {
        Call::new("POST", target)
            .header("Content-Type", b"application/json")
            .with_body(body.as_bytes().to_vec())
    };
    [
        json("/services", r#"{"name": "s", "host": "a.example", "tags": ["a", "b"]}"#),
        json("/services/s/routes", r#"{"name": "r", "paths": ["/r"]}"#),
        json("/consumers", r#"{"username": "s", "custom_id": "r"}"#),
    ]
}

/// Throws `count` calls at the gateway; the rows that they make stay for the next ones.
///
/// # Panics
/// With the smallest call that gets a 5xx or a malformed answer.
pub(crate) fn throw(count: u32, mut gateway: Gateway) {
    // Without a database everything comes at once; with one, row by row.
    let whole = r#"{"_format_version": "3.0", "services": [{"name": "s", "host": "a.example",
        "routes": [{"name": "r", "paths": ["/r"]}]}], "consumers": [{"username": "s"}]}"#;
    let whole = Call::new("POST", "/config")
        .header("Content-Type", b"application/json")
        .with_body(whole.as_bytes().to_vec());
    let loaded = gateway(whole).status == 201;
    for seed in seeds() {
        assert_eq!(gateway(seed).status, if loaded { 405 } else { 201 });
    }
    let document = Document::of(&mut *gateway);
    let gateway = std::cell::RefCell::new(gateway);
    let mut runner =
        TestRunner::new(Config { cases: count, failure_persistence: None, ..Config::default() });
    let thrown = runner.run(&calls(), |call| {
        let reply = (gateway.borrow_mut())(call.clone());
        check(&call, &reply, &document)
    });
    if let Err(fault) = thrown {
        panic!("{fault}");
    }
}

fn check(call: &Call, reply: &Reply, document: &Document) -> Result<(), TestCaseError> {
    let dns = call.path.starts_with("/status/dns");
    prop_assert!(reply.status < 500 || dns && reply.status == 501, "{:?}", reply);
    prop_assert!(reply.status >= 200);
    for (name, value) in &reply.headers {
        prop_assert!(!value.contains(['\r', '\n', '\0']), "{name}: {value:?}");
    }
    let json =
        reply.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    if json && call.method != "HEAD" {
        let body: Result<serde_json::Value, _> = serde_json::from_slice(&reply.body);
        prop_assert!(body.is_ok_and(|body| body.is_object()));
        let length = reply.body.len().to_string();
        prop_assert_eq!(reply.header("content-length"), Some(length.as_str()));
        prop_assert_eq!(document.broken(call, reply), None);
    }
    Ok(())
}
