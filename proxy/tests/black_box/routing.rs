//! Which route a request takes, as the Admin API explains it.

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http;

#[test]
fn a_request_is_explained_by_the_router_that_serves() {
    for flavor in ["traditional_compatible", "traditional"] {
        let gateway = Gateway::start(drivers()[0], &[("KONG_ROUTER_FLAVOR", flavor)]);
        gateway.post("/services", "name=s&url=http://127.0.0.1:1/base");
        gateway.post("/services/s/routes", "name=one&paths[]=/a");
        gateway.post("/services/s/routes", "name=two&paths[]=/a&methods[]=GET");
        gateway.post("/services/s/routes", "name=match&paths[]=/m");
        let nothing = serde_json::Value::Null;
        let ask = |method: &str, target: &str| gateway.admin(method, target, &nothing);
        let told = ask("GET", "/routes/match?path=/a/b&method=GET").json();
        assert_eq!(told["router_flavor"], flavor);
        assert_eq!(
            (&told["matched"]["route"]["name"], &told["decided_by"]),
            (&"two".into(), &"conditions".into())
        );
        assert_eq!(told["matched"]["service"]["name"], "s");
        assert_eq!(told["runners_up"][0]["route"]["name"], "one");
        // The route of that name is where it was.
        assert_eq!(ask("GET", "/routes/match").json()["name"], "match");
        assert_eq!(ask("DELETE", "/routes/match").status, 204);
        assert_eq!(ask("GET", "/routes/match").status, 404);
        assert_eq!(ask("GET", "/routes/match?path=a").json()["code"], 2);
        let operation = &ask("GET", "/openapi.json").json()["paths"]["/routes/match"]["get"];
        assert_eq!(operation["parameters"].as_array().map(Vec::len), Some(7), "{operation}");
    }
}

#[test]
fn strict_paths_refuse_what_could_be_read_in_two_ways() {
    let echo = Echo::start();
    for strict in ["on", "off"] {
        let gateway = Gateway::start(drivers()[0], &[("TOLLGATE_STRICT_PATHS", strict)]);
        gateway.post("/services", &format!("name=s&url=http://127.0.0.1:{}", echo.port));
        gateway.post("/services/s/routes", "paths[]=/");
        for (target, two_readings) in [
            ("/files/a.json?x=%2F;y", false),
            ("/a%20b/%C3%A9", false),
            ("/x/../a", false),
            ("/a%2Fb", true),
            ("/a;v=1", true),
            ("/a%5Cb", true),
            ("/a%09", true),
            ("/a.", true),
        ] {
            let answer = http::get(gateway.proxy, target, &[]);
            let expected = if two_readings && strict == "on" { 400 } else { 200 };
            assert_eq!(answer.status, expected, "{strict}: {target}: {}", answer.text());
        }
        let target = "/routes/match?path=/a%252Fb";
        let told = gateway.admin("GET", target, &serde_json::Value::Null).json();
        let refused = &told["refused"]["status"];
        assert_eq!(refused.as_u64(), (strict == "on").then_some(400), "{strict}: {told}");
    }
}
