//! What a real Kong answered, replayed without sockets: recorded suites and one long session
//! against the Admin API over an embedded store.
//!
//! Lists of known failures may only shrink: a case that passes and is still listed fails the test.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says why")]

#[path = "replay/case.rs"]
mod case;
#[path = "replay/document.rs"]
mod document;
#[path = "replay/gateway.rs"]
mod gateway;
#[path = "replay/hostile.rs"]
mod hostile;
#[path = "replay/normal.rs"]
mod normal;
#[path = "replay/recorded.rs"]
mod recorded;
#[path = "replay/schemas.rs"]
mod schemas;
#[path = "replay/suite.rs"]
mod suite;

use std::sync::Arc;
use store::schema::Catalogue;
use suite::Known;

/// The core entities alone: what plugins bring along is replayed where they are.
fn catalogue() -> Arc<Catalogue> {
    Arc::new(Catalogue::new(Vec::new(), &[]))
}

#[track_caller]
fn check(suite: &str, known: &[Known]) {
    let catalogue = catalogue();
    suite::replay(&suite::data(), suite, known, &|| gateway::gateway(&catalogue));
}

#[test]
fn admin_services() {
    check("admin-services", &[]);
}

#[test]
fn admin_routes() {
    check("admin-routes", &[]);
}

/// Why a case of the suites below waits.
const PLUGIN: &str = "needs a plugin, which the store alone does not have: see plugins/tests";

#[test]
fn admin_certificates_snis() {
    check("admin-certificates-snis", &[]);
}

#[test]
fn admin_upstreams_targets() {
    check("admin-upstreams-targets", &[]);
}

#[test]
fn admin_misc() {
    let known = [
        (
            "the root document names the product, its version, its plugins and its configuration",
            PLUGIN,
        ),
        ("schemas are served for entities and plugins", PLUGIN),
        ("an entity can be validated without being stored", PLUGIN),
    ];
    check("admin-misc", &known);
}

/// Calls beside those of the suites, as the Admin API of Kong 3.9.1 answered them on Postgres.
#[test]
fn admin_neighbours() {
    check("admin-neighbours", &[]);
}

/// Up to the first call about a plugin's own entity.
const CORE_CALLS_MAX: u64 = 175;

#[test]
fn a_recorded_session() {
    let gateway = gateway::gateway(&catalogue());
    recorded::replay(&suite::data(), CORE_CALLS_MAX, &[], gateway);
}

/// Every recorded schema of the core: names of files without `.json`, which are the paths below
/// `/schemas`.
const SCHEMAS: &[&str] = &[
    "ca_certificates",
    "certificates",
    "clustering_data_planes",
    "consumers",
    "filter_chains",
    "key_sets",
    "keys",
    "parameters",
    "plugins",
    "routes",
    "services",
    "snis",
    "tags",
    "targets",
    "upstreams",
    "vaults",
    "vaults/env",
    "workspaces",
];

#[test]
fn entities_are_described_as_by_kong() {
    let mut gateway = gateway::gateway(&catalogue());
    let mut faults = Vec::new();
    for name in SCHEMAS {
        let reply = gateway(store::admin::Call::new("GET", &format!("/schemas/{name}")));
        assert_eq!(reply.status, 200, "{name}");
        let ours: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
        let path = suite::data().join(format!("schemas/{name}.json"));
        faults.extend(schemas::between(&path, &ours, name).expect("a recorded schema"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn there_is_no_path_that_kong_does_not_have() {
    let text = std::fs::read_to_string(suite::data().join("endpoints.json")).expect("recorded");
    let theirs: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let reply = (gateway::gateway(&catalogue()))(store::admin::Call::new("GET", "/endpoints"));
    let ours: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    let list = |document: &serde_json::Value| document["data"].as_array().cloned();
    let (ours, theirs) = (list(&ours).expect("a list"), list(&theirs).expect("a list"));
    let strange: Vec<_> = ours.iter().filter(|path| !theirs.contains(path)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    let in_order: Vec<_> = theirs.iter().filter(|path| ours.contains(path)).collect();
    assert_eq!(ours.iter().collect::<Vec<_>>(), in_order, "sorted as Kong does");
    println!("{} of Kong's {} paths", ours.len(), theirs.len());
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let call = |method: &str, target: &str, body: &str| {
        store::admin::Call::new(method, target)
            .header("Content-Type", b"application/x-www-form-urlencoded")
            .with_body(body.as_bytes().to_vec())
    };
    let store = gateway::open(folder.path(), &catalogue());
    let made = gateway::ask(&store, call("POST", "/services", "name=s&url=http://a.example:81/p"));
    assert_eq!(made.status, 201);
    assert_eq!(gateway::ask(&store, call("POST", "/services/s/routes", "paths[]=/r")).status, 201);
    assert_eq!(gateway::ask(&store, call("POST", "/services", "name=t")).status, 400);
    store.stop();
    let store = gateway::open(folder.path(), &catalogue());
    assert_eq!(gateway::ask(&store, call("GET", "/services/s", "")).body, made.body);
    let routes = gateway::ask(&store, call("GET", "/services/s/routes", ""));
    let routes: serde_json::Value = serde_json::from_slice(&routes.body).expect("JSON");
    assert_eq!(routes["data"][0]["paths"], serde_json::json!(["/r"]));
    assert_eq!(gateway::ask(&store, call("GET", "/services/t", "")).status, 404);
}

/// Calls in order on one gateway: the call, its form, the status, a part of the answer. What no
/// recorded case shows, from Kong's source.
const CALLS: &[(&str, &str, u16, &str)] = &[
    ("POST /upstreams", "name=u", 201, r#""slots":10000"#),
    ("POST /upstreams/u/targets", "target=[::1]:81&tags[]=a", 201, ":0001]:81\""),
    ("POST /upstreams/u/targets", "target=a.example", 201, r#""target":"a.example:8000""#),
    ("GET /upstreams/u/targets/a.example", "", 404, "Not found"),
    ("PUT /upstreams/u/targets/a.example:8000", "weight=3", 200, r#""weight":3"#),
    ("PUT /upstreams/u/targets/b.example:80", "weight=3", 404, "Not found"),
    ("PATCH /upstreams/u/targets/a.example:8000", "target=a b", 400, "target ('a b'); not a"),
    ("GET /upstreams/u/targets?size=1", "", 200, r#""next":"/upstreams/u/targets?offset=1""#),
    ("GET /upstreams/u/targets?size=1&offset=1", "", 200, r#""next":null"#),
    ("GET /upstreams/u/targets?tags=a&size=1", "", 200, r#""offset":"1""#),
    ("GET /upstreams/u/targets?offset=x", "", 400, r#""code":7"#),
    ("PUT /upstreams/u/targets/a.example:8000/healthy", "", 400, "Upstream u has no balancer"),
    ("GET /upstreams/u/health", "", 200, r#""health":"DNS_ERROR""#),
    ("PATCH /upstreams/u", "hash_on=consumer", 200, r#""algorithm":"consistent-hashing""#),
    ("PATCH /upstreams/u", "algorithm=latency", 200, r#""hash_on":"none""#),
    ("POST /targets", "", 404, "Not found"),
    ("GET /certificates/a.example", "", 404, "SNI not found"),
    ("GET /certificates/a%20b", "", 400, r#""name":"invalid unique name""#),
    ("GET /certificates/00000000-0000-4000-8000-000000000000", "", 404, r#""code":6"#),
    ("GET /snis/a.example/certificate", "", 404, "Not found"),
    ("PUT /vaults/env", "name=env", 400, r#""name":"invalid unique prefix""#),
    ("PUT /vaults/my-env", "name=env&config.prefix=X_", 200, r#""config":{"prefix":"X_"}"#),
    ("PATCH /vaults/my-env", "name=aws", 400, "vault 'aws' is not installed"),
    ("POST /schemas/vaults/validate", "name=env&prefix=q-r", 200, "successful"),
    ("GET /schemas/vaults/none", "", 404, "No vault named 'none'"),
    ("GET /workspaces", "", 404, "Not found"),
    ("GET /robots.txt", "", 200, "Disallow: /"),
];

#[test]
fn entities_behave_as_in_kong() {
    let mut gateway = gateway::gateway(&catalogue());
    for (line, form, status, part) in CALLS {
        let (method, target) = line.split_once(' ').expect("a call");
        let call = store::admin::Call::new(method, target)
            .header("Content-Type", b"application/x-www-form-urlencoded")
            .with_body(form.as_bytes().to_vec());
        let reply = gateway(call);
        let body = String::from_utf8(reply.body).expect("text");
        assert!(reply.status == *status && body.contains(part), "{line}: {} {body}", reply.status);
    }
}

#[test]
fn plugins_bring_endpoints_along() {
    let own = |path, listed| store::admin::OwnEndpoint {
        path,
        methods: &[store::admin::Method::Get],
        listed,
        described: None,
        answer: Box::new(|asked| {
            let words =
                format!("{:?} {} {}", asked.method, asked.parameters.join(","), asked.query);
            store::admin::Reply::message(200, &words)
        }),
    };
    let mut node = gateway::node();
    node.endpoints = vec![own("/x/{a}/y/{b}", true), own("/plugins/x/status", false)];
    let folder = tempfile::tempdir().expect("a folder");
    let store = gateway::open_with(folder.path(), &catalogue(), node);
    let ask = |line: &str| {
        let (method, target) = line.split_once(' ').expect("a call");
        let reply = gateway::ask(&store, store::admin::Call::new(method, target));
        (reply.status, String::from_utf8(reply.body).expect("text"))
    };
    assert_eq!(ask("GET /x/1%202/y/3?q=r"), (200, r#"{"message":"Get 1 2,3 q=r"}"#.to_owned()));
    assert_eq!(ask("GET /plugins/x/status").0, 200);
    assert_eq!(ask("POST /x/1/y/2").0, 405);
    assert_eq!(ask("OPTIONS /x/1/y/2").0, 204);
    let (_, endpoints) = ask("GET /endpoints");
    assert!(endpoints.contains("/x/{a}/y/{b}") && !endpoints.contains("/plugins/x/status"));
}

#[test]
fn calls_of_any_content_are_answered() {
    hostile::throw(2_000, gateway::gateway(&catalogue()));
}
