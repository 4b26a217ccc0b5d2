//! What the endpoint tells, over routers that are made by hand.

use super::*;
use crate::plan::Slots;
use crate::route::{Flavor, RouteSpec, Router};
use crate::upstream_tls::UpstreamTls;

/// A roadmap with one route per line, see the tests of [`crate::route::spec`]; their ids are 1, 2,
/// 3, ….
fn roadmap(flavor: Flavor, routes: &[&str]) -> Roadmap {
    let slots = Arc::new(Slots::new([]));
    let tls = Arc::new(UpstreamTls::usual().unwrap());
    let specs = routes.iter().zip(1_u128..).map(|(text, id)| RouteSpec {
        id: uuid::Uuid::from_u128(id),
        name: Some(format!("r{id}")),
        flavor,
        ..crate::route::spec::tests::spec(text)
    });
    let (router, faults) = Router::new(specs);
    assert_eq!(faults, []);
    let mut map = Roadmap::empty(slots, tls, Router::empty(flavor));
    map.router = Arc::new(router);
    map
}

fn ask(roadmap: &Roadmap, query: &str) -> (u16, Json) {
    let reply = answer(roadmap, query);
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

/// `expected` names the routes in order, each but the last with what decided over the next.
#[track_caller]
fn check(flavor: Flavor, routes: &[&str], query: &str, expected: &str) {
    let (status, told) = ask(&roadmap(flavor, routes), query);
    assert_eq!(status, 200, "{told}");
    let name = |candidate: &Json| candidate["route"]["name"].as_str().unwrap_or("-").to_owned();
    let mut shown = name(&told["matched"]);
    for behind in told["runners_up"].as_array().unwrap() {
        shown += &format!(" {} {}", behind["behind_by"].as_str().unwrap(), name(behind));
    }
    assert_eq!(shown, expected, "{told}");
    let first = told["runners_up"].get(0).map(|behind| behind["behind_by"].clone());
    assert_eq!(told["decided_by"], first.unwrap_or(Json::Null));
}

#[test]
fn the_routes_in_order_and_what_decided() {
    let check = |routes: &[&str], query: &str, expected: &str| {
        check(Flavor::Compatible, routes, query, expected);
    };
    check(&["paths=/a", "paths=/a/b"], "path=/a/b/c", "r2 prefix_length r1");
    check(&["paths=/a", "paths=/a"], "path=/a", "r2 id r1");
    check(&["paths=/a", "paths=/a methods=GET"], "path=/a", "r2 conditions r1");
    check(
        &["paths=/a", "paths=~/a", "hosts=h"],
        "path=/a&host=h",
        "r3 plain_hosts r2 regex_path r1",
    );
    check(&["paths=~/a regex_priority=3", "paths=~/a"], "path=/a", "r1 regex_priority r2");
    let headers = &["headers=x:1,y:1", "headers=x:1"];
    check(headers, "headers.x=1&headers.Y=0&headers.Y=1", "r1 headers r2");
    check(&["paths=/a"], "path=/b", "-");
    check(&["paths=/a,/a/b,~/a"], "path=/a/b", "r1 regex_path r1 prefix_length r1");
    let overflow = &["paths=/a methods=GET headers=x:1 hosts=*.h", "hosts=a.h"];
    check(overflow, "path=/a&host=a.h&headers.x=1", "r1 conditions r2");
}

#[test]
fn the_traditional_order_is_told_field_by_field() {
    let check = |routes: &[&str], query: &str, expected: &str| {
        check(Flavor::Traditional, routes, query, expected);
    };
    check(&["paths=/a", "methods=GET", "hosts=h"], "path=/a&host=h", "r3 category r1 category r2");
    check(&["hosts=h.*", "hosts=h.x"], "host=h.x", "r2 plain_hosts r1");
    check(&["hosts=h.*", "hosts=h.*:80"], "host=h.x", "r2 wildcard_host_with_port r1");
    check(&["paths=/a created_at=2", "paths=/a created_at=1"], "path=/a", "r2 created_at r1");
    check(&["hosts=h snis=h", "hosts=h"], "host=h", "r2 snis r1");
    check(&["hosts=h snis=h", "hosts=h"], "host=h&sni=h", "r1 conditions r2");
    check(&["paths=~/a,~/(a)"], "path=/a", "r1 paths r1");
}

#[test]
fn a_candidate_is_told_with_all_that_matched() {
    let map = roadmap(Flavor::Compatible, &[r"paths=~/u/(?<id>\d+)(/x)? methods=PUT"]);
    let (_, told) = ask(&map, "method=PUT&path=/u/42/y%3Fq=1&scheme=https");
    let expected = json!({
        "route": { "id": "00000000-0000-0000-0000-000000000001", "name": "r1" },
        "service": null,
        "path": r"~/u/(?<id>\d+)(/x)?",
        "expression": null,
        "taken": "/u/42",
        "captures": [
            { "number": 1, "name": "id", "text": "42" },
            { "number": 2, "name": null, "text": null },
        ],
        "priority": {
            "value": "0x0008000040000000", "conditions": 2, "plain_hosts": false,
            "regex_path": true, "headers": 0, "regex_priority": 0, "prefix_length": 0,
            "id": "00000000-0000-0000-0000-000000000001",
        },
    });
    assert_eq!(told["matched"], expected);
    assert_eq!(
        (&told["request"]["path"], &told["request"]["query"]),
        (&json!("/u/42/y"), &json!("q=1"))
    );
    assert_eq!(told["request"]["destination"], json!("127.0.0.1:8443"));
    assert!(told.get("refused").is_none());
}

#[test]
fn what_the_client_would_get_is_told() {
    let check = |routes: &[&str], query: &str, expected: (u16, &str)| {
        let (_, told) = ask(&roadmap(Flavor::Compatible, routes), query);
        let expected = json!({ "status": expected.0, "message": expected.1 });
        assert_eq!(told["refused"], expected, "{told}");
    };
    check(&[], "path=/", (404, "no Route matched with those values"));
    check(&["paths=/ protocols=https"], "path=/", (426, "Please use HTTPS protocol"));
    check(&["paths=/ protocols=grpc"], "path=/", (415, "Non-gRPC request matched gRPC route"));
    let guarded = &["paths=/", "paths=/a/private"];
    check(guarded, "path=/a%252Fprivate", (400, "the path could be read as another route's"));
}

#[test]
fn arguments_that_cannot_be_read_are_told_all_at_once() {
    let (status, told) = ask(
        &roadmap(Flavor::Compatible, &[]),
        "path=x&method=get&scheme=ftp&sni=&source=1.2.3&headers.host=a&headers.%20=b&color=red\
         &host=a&host=b&destination",
    );
    assert_eq!((status, &told["code"]), (400, &json!(2)));
    let expected = json!({
        "path": "should start with: /",
        "method": "invalid value",
        "scheme": "expected one of: http, https, grpc, grpcs",
        "sni": "invalid value",
        "source": "expected an address or address:port",
        "headers.host": "cannot contain 'host' header, which must be specified as 'host'",
        "headers. ": "invalid header",
        "color": "unknown field",
        "host": "expected a single value",
        "destination": "expected a value",
    });
    assert_eq!(told["fields"], expected);
    let (_, told) = ask(&roadmap(Flavor::Compatible, &[]), "sni=a&scheme=http");
    let fault = "schema violation (sni: 'sni' can only be set when 'scheme' is 'https' or 'grpcs')";
    assert_eq!(told["message"], json!(fault));
    assert_eq!(ask(&roadmap(Flavor::Compatible, &[]), "path=/%25zz").0, 400);
}

#[test]
fn ends_are_addresses_with_or_without_a_port() {
    for (text, expected) in [
        ("1.2.3.4", Some("1.2.3.4:0")),
        ("1.2.3.4:80", Some("1.2.3.4:80")),
        ("::1", Some("[::1]:0")),
        ("[::1]", Some("[::1]:0")),
        ("[::1]:80", Some("[::1]:80")),
        ("a.com", None),
        ("1.2.3.4:", None),
    ] {
        assert_eq!(end(text).map(|end| end.to_string()).as_deref(), expected, "{text}");
    }
}
