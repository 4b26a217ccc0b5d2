//! What a node lets people see: the lines it adds by `headers`, `Kong-Debug`, its access log.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http::{self, Response};

/// Every line that the setting `headers` is about.
const LINES: &[&str] = &[
    "Server",
    "Via",
    "X-Kong-Upstream-Latency",
    "X-Kong-Proxy-Latency",
    "X-Kong-Response-Latency",
    "X-Kong-Upstream-Status",
    "X-Kong-Request-Id",
];

/// Which of the lines an answer has.
fn shown(answer: &Response) -> Vec<&'static str> {
    LINES.iter().copied().filter(|name| answer.header(name).is_some()).collect()
}

#[test]
fn the_setting_headers_decides_which_lines_are_added() {
    const ALL: &str = "Server,Via,X-Kong-Upstream-Latency,X-Kong-Proxy-Latency,\
        X-Kong-Response-Latency,X-Kong-Admin-Latency,X-Kong-Upstream-Status,X-Kong-Request-Id";
    let driver = "epoll";
    let echo = Echo::start();
    for (setting, proxied, own) in [
        (
            "server_tokens, latency_tokens, X-Kong-Request-Id",
            &[
                "Server",
                "Via",
                "X-Kong-Upstream-Latency",
                "X-Kong-Proxy-Latency",
                "X-Kong-Request-Id",
            ][..],
            &["Server", "X-Kong-Response-Latency", "X-Kong-Request-Id"][..],
        ),
        ("off", &[], &[]),
        ("x-kong-upstream-status", &["X-Kong-Upstream-Status"], &[]),
        (
            ALL,
            &[
                "Server",
                "Via",
                "X-Kong-Upstream-Latency",
                "X-Kong-Proxy-Latency",
                "X-Kong-Upstream-Status",
                "X-Kong-Request-Id",
            ],
            &["Server", "X-Kong-Response-Latency", "X-Kong-Request-Id"],
        ),
        (
            "latency_tokens",
            &["X-Kong-Upstream-Latency", "X-Kong-Proxy-Latency"],
            &["X-Kong-Response-Latency"],
        ),
    ] {
        let gateway = Gateway::start(driver, &[("KONG_HEADERS", setting)]);
        gateway.route("/r", echo.port);
        let answer = http::get(gateway.proxy, "/r", &[]);
        assert_eq!(shown(&answer), proxied, "{setting}");
        assert_eq!(shown(&http::get(gateway.proxy, "/nowhere", &[])), own, "{setting}");
        let answer = http::get(gateway.proxy, "/r/close", &[]);
        assert_eq!(answer.status, 502, "{setting}");
        let but_status = |names: &[&'static str]| -> Vec<_> {
            names.iter().copied().filter(|name| *name != "X-Kong-Upstream-Status").collect()
        };
        assert_eq!(but_status(&shown(&answer)), but_status(proxied), "{setting}");
    }
}

#[test]
fn kong_debug_tells_route_and_service_where_it_is_allowed() {
    for driver in drivers() {
        let echo = Echo::start();
        for (allowed, sent, told) in
            [("on", "1", true), ("on", "0", false), ("on", "true", false), ("off", "1", false)]
        {
            let gateway = Gateway::start(driver, &[("KONG_ALLOW_DEBUG_HEADER", allowed)]);
            gateway.route("/r", echo.port);
            let route = http::get(gateway.admin, "/routes/r", &[]).json();
            let expected = |value: &Value| told.then(|| value.as_str().unwrap().to_owned());
            // The gateway's own answers tell it too, once a route is found.
            gateway.post("/routes/r/plugins", "name=request-termination&config.trigger=stop");
            for target in ["/r", "/r?stop=1"] {
                let answer = http::get(gateway.proxy, target, &[("Kong-Debug", sent)]);
                let line = |name| answer.header(name).map(str::to_owned);
                assert_eq!(line("Kong-Route-Id"), expected(&route["id"]), "{driver}: {target}");
                assert_eq!(line("Kong-Route-Name"), expected(&json!("r")), "{driver}: {target}");
                let service = &route["service"]["id"];
                assert_eq!(line("Kong-Service-Id"), expected(service), "{driver}: {target}");
                assert_eq!(line("Kong-Service-Name"), expected(&json!("r")), "{driver}: {target}");
            }
            let answer = http::get(gateway.proxy, "/nowhere", &[("Kong-Debug", sent)]);
            assert_eq!(answer.header("Kong-Route-Id"), None, "{driver}");
        }
    }
}

/// The lines of a log, once there are so many.
fn lines(gateway: &Gateway, name: &str, count: usize) -> Vec<String> {
    let (begun, file) = (Instant::now(), gateway.prefix.path().join(name));
    loop {
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        if log.lines().count() >= count {
            return log.lines().map(str::to_owned).collect();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{name} has no {count} lines: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The first line of the proxy's log with these words. Each core writes its own lines, so those of
/// another may be there first.
#[track_caller]
fn line_with(gateway: &Gateway, words: &str) -> String {
    let begun = Instant::now();
    loop {
        let found = lines(gateway, "logs/proxy.log", 1).into_iter().find(|l| l.contains(words));
        if let Some(line) = found {
            return line;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no line with {words}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_access_log_is_nginxs_or_json() {
    for driver in drivers() {
        let echo = Echo::start();
        let settings = [("KONG_PROXY_ACCESS_LOG", "logs/proxy.log json")];
        let gateway = Gateway::start(driver, &settings);
        gateway.route("/r", echo.port);
        gateway.post("/services/r/plugins", "name=key-auth");
        gateway.post("/consumers", "username=bob");
        gateway.post("/consumers/bob/key-auth", "key=k1");
        gateway.until("/r", |answer| answer.status == 401);
        let headers = [("apikey", "k1"), ("User-Agent", "a\"b\\c"), ("Referer", "http://x/")];
        let answer = http::get(gateway.proxy, "/r/x?y=\"", &headers);
        assert_eq!(answer.status, 200, "{driver}");
        let id = answer.header("X-Kong-Request-Id").unwrap();
        let line = line_with(&gateway, id);
        let mut told: Value = serde_json::from_str(&line).unwrap();
        for key in ["time", "request_ms", "upstream_ms", "route_id", "service_id", "consumer_id"] {
            let value = told.as_object_mut().unwrap().remove(key).unwrap();
            assert!(!value.is_null(), "{driver}: {key}: {line}");
        }
        let expected = json!({
            "remote_addr": "127.0.0.1", "remote_user": null, "method": "GET", "scheme": "http",
            "host": told["host"], "uri": "/r/x?y=\"", "protocol": "HTTP/1.1", "status": 200,
            "bytes_sent": answer.body.len(), "referer": "http://x/", "user_agent": "a\"b\\c",
            "request_id": id, "route": "r", "service": "r", "consumer": "bob",
            "upstream_addr": format!("127.0.0.1:{}", echo.port), "upstream_status": 200,
        });
        assert_eq!(told, expected, "{driver}");
        // Where nobody was asked there is nothing to tell of an upstream.
        let told: Value = serde_json::from_str(&line_with(&gateway, ":401,")).unwrap();
        assert_eq!((&told["upstream_addr"], &told["upstream_ms"]), (&Value::Null, &Value::Null));
        assert_eq!((&told["route"], &told["consumer"]), (&json!("r"), &Value::Null), "{driver}");
        // The Admin API's own log keeps nginx's format.
        let admin = lines(&gateway, "logs/admin_access.log", 2);
        assert!(admin[0].starts_with("127.0.0.1 - - ["), "{driver}: {}", admin[0]);
    }
}
