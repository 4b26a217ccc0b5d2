//! Nobody can pretend: what a client says about its address, its host or who it is reaches the
//! upstream only where the gateway has reason to believe it.

use serde_json::{Value, json};

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http::{self, Connection};

/// What a client might say to pass for another.
const SAID: &[(&str, &str)] = &[
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "bank.example"),
    ("X-Forwarded-Port", "9999"),
    ("X-Forwarded-Path", "/admin"),
    ("X-Forwarded-Prefix", "/secret"),
    ("X-Real-IP", "203.0.113.9"),
    ("X-Kong-Request-Id", "0123456789abcdef0123456789abcdef"),
];
/// Names by which upstreams know who was let in.
const IDENTITY: &[&str] = &[
    "X-Consumer-ID",
    "X-Consumer-Username",
    "X-Consumer-Custom-ID",
    "X-Credential-Identifier",
    "X-Anonymous-Consumer",
];

/// A gateway with `trusted_ips`, a route, and the upstream behind it.
fn start(driver: &str, trusted: &str, more: &[(&str, &str)]) -> (Gateway, Echo) {
    let echo = Echo::start();
    let gateway = Gateway::start(driver, &[&[("KONG_TRUSTED_IPS", trusted)], more].concat());
    gateway.route("/r", echo.port);
    (gateway, echo)
}

/// What the upstream got.
fn got(gateway: &Gateway, headers: &[(&str, &str)]) -> Value {
    let answer = http::get(gateway.proxy, "/r/x", headers);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["headers"].clone()
}

#[test]
fn a_stranger_names_no_address_no_host_and_no_request_id() {
    for driver in drivers() {
        for trusted in ["", "198.51.100.0/24"] {
            let (gateway, _echo) = start(driver, trusted, &[]);
            let got = got(&gateway, SAID);
            let about = format!("{driver}, trusted {trusted:?}: {got}");
            // The list goes on, with the truth at its end.
            assert_eq!(got["x-forwarded-for"], json!(["203.0.113.9, 127.0.0.1"]), "{about}");
            assert_eq!(got["x-forwarded-proto"], json!(["http"]), "{about}");
            assert_eq!(got["x-forwarded-host"], json!(["gateway.test"]), "{about}");
            assert_eq!(got["x-forwarded-port"], json!([gateway.proxy.to_string()]), "{about}");
            assert_eq!(got["x-forwarded-path"], json!(["/r/x"]), "{about}");
            assert_eq!(got["x-forwarded-prefix"], json!(["/r"]), "{about}");
            assert_eq!(got["x-real-ip"], json!(["127.0.0.1"]), "{about}");
            let id = got["x-kong-request-id"][0].as_str().unwrap();
            assert!(id.len() == 32 && id != SAID[7].1, "{about}");
        }
    }
}

#[test]
fn a_trusted_proxy_is_believed_but_for_the_request_id() {
    for driver in drivers() {
        let (gateway, _echo) = start(driver, "127.0.0.0/8", &[]);
        let got = got(&gateway, SAID);
        assert_eq!(got["x-forwarded-for"], json!(["203.0.113.9, 127.0.0.1"]), "{driver}: {got}");
        for (name, value) in &SAID[1..7] {
            assert_eq!(got[name.to_ascii_lowercase()], json!([value]), "{driver}: {name}: {got}");
        }
        assert_ne!(got["x-kong-request-id"], json!([SAID[7].1]), "{driver}");
    }
}

#[test]
fn a_list_is_believed_from_its_end_as_far_as_its_proxies_are_trusted() {
    for driver in drivers() {
        let settings =
            [("KONG_REAL_IP_HEADER", "X-Forwarded-For"), ("KONG_REAL_IP_RECURSIVE", "on")];
        let (gateway, _echo) = start(driver, "127.0.0.1,10.0.0.0/8", &settings);
        for (list, real) in [
            ("6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
            ("6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"),
            ("nonsense", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            let got = got(&gateway, &[("X-Forwarded-For", list)]);
            assert_eq!(got["x-real-ip"], json!([real]), "{driver}: {list:?}: {got}");
        }
        // A limit by address counts the believed one, so a forged first entry gains nothing.
        gateway
            .post("/services/r/plugins", "name=rate-limiting&config.minute=2&config.limit_by=ip");
        gateway.until("/r", |answer| answer.header("ratelimit-limit").is_some());
        let ask =
            |list: &str| http::get(gateway.proxy, "/r/x", &[("X-Forwarded-For", list)]).status;
        let all: Vec<u16> = (0..4).map(|n| ask(&format!("9.9.9.{n}, 203.0.113.77"))).collect();
        assert_eq!(all, [200, 200, 429, 429], "{driver}");
        assert_eq!(ask("9.9.9.9, 203.0.113.78"), 200, "{driver}");
    }
}

#[test]
fn who_was_let_in_is_said_by_the_gateway_alone() {
    for driver in drivers() {
        let (gateway, _echo) = start(driver, "127.0.0.0/8", &[]);
        gateway.post("/services/r/plugins", "name=key-auth");
        gateway.post("/consumers", "username=bob");
        gateway.post("/consumers/bob/key-auth", "key=k1");
        gateway.until("/r", |answer| answer.status == 401);
        let mut headers: Vec<(&str, &str)> = IDENTITY.iter().map(|name| (*name, "admin")).collect();
        headers.push(("apikey", "k1"));
        // Named in Connection they would be taken away again in Kong.
        headers.push(("Connection", "keep-alive, X-Consumer-ID, X-Consumer-Username"));
        let got = got(&gateway, &headers);
        let about = format!("{driver}: {got}");
        assert_eq!(got["x-consumer-username"], json!(["bob"]), "{about}");
        assert_eq!(got["x-consumer-id"][0].as_str().unwrap().len(), 36, "{about}");
        for name in IDENTITY {
            let name = name.to_ascii_lowercase();
            let values = got[&name].as_array().cloned().unwrap_or_default();
            assert!(!values.contains(&json!("admin")), "{about}: {name}");
        }
    }
}

#[test]
fn without_a_plugin_only_a_trusted_proxy_says_who_was_let_in() {
    for driver in drivers() {
        let mut headers: Vec<(&str, &str)> = IDENTITY.iter().map(|name| (*name, "admin")).collect();
        headers.extend([("x_consumer_id", "admin"), ("X-Credential-Username", "admin")]);
        for (trusted, passes) in [("", false), ("10.0.0.0/8", false), ("127.0.0.1", true)] {
            let (gateway, _echo) = start(driver, trusted, &[]);
            let got = got(&gateway, &headers);
            for (name, _) in &headers {
                let came = got.get(name.to_ascii_lowercase()).is_some();
                assert_eq!(came, passes, "{driver}, trusted {trusted:?}: {name}: {got}");
            }
        }
    }
}

#[test]
fn many_lines_and_odd_cases_hide_nothing() {
    for driver in drivers() {
        let (gateway, _echo) = start(driver, "", &[]);
        let mut client = Connection::open(gateway.proxy);
        client.send(
            b"GET /r/x HTTP/1.1\r\nHost: a.example\r\nx-REAL-ip: 1.1.1.1\r\nX-Real-IP: 2.2.2.2\r\n\
              x-forwarded-proto: https\r\nX-FORWARDED-PROTO: https\r\nX-Forwarded-For: 1.1.1.1\r\n\
              x-forwarded-for: 2.2.2.2\r\n\r\n",
        );
        let got = client.read(false).unwrap().json()["headers"].clone();
        assert_eq!(got["x-real-ip"], json!(["127.0.0.1"]), "{driver}: {got}");
        assert_eq!(got["x-forwarded-proto"], json!(["http"]), "{driver}: {got}");
        assert_eq!(
            got["x-forwarded-for"],
            json!(["1.1.1.1, 2.2.2.2, 127.0.0.1"]),
            "{driver}: {got}"
        );
    }
}
