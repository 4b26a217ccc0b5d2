//! Kong's recorded answers with `router_flavor = expressions`: which route wins, and what is
//! refused. In each scenario every route has a service of its own, whose path is its name.

use std::process::Command;

use serde_json::{Value, json};

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http;

const RECORDED: &str = include_str!("../facts/router_expressions.json");

/// Asks the TLS port, with or without a server name.
fn over_tls(gateway: &Gateway, asked: &Value) -> http::Response {
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let (name, path) = (asked["sni"].as_str().unwrap_or("127.0.0.1"), text("path"));
    let ran = Command::new("curl")
        .args(["-sik", "--http1.1", "--max-time", "20", "-H", &format!("Host: {}", text("host"))])
        .args(["--connect-to", &format!("{name}:443:127.0.0.1:{}", gateway.tls)])
        .arg(format!("https://{name}{path}"))
        .output()
        .expect("curl runs: install curl");
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    let status = out.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let body = out.split_once("\r\n\r\n").map(|(_, body)| body.as_bytes().to_vec());
    http::Response { status, headers: Vec::new(), body: body.unwrap_or_default() }
}

/// The route whose service was asked.
fn winner(response: &http::Response) -> Value {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let uri = body["uri"].as_str().unwrap_or_default();
    uri.trim_start_matches('/').split(['/', '?']).next().filter(|name| !name.is_empty()).into()
}

fn replay(driver: &str, scenario: &Value) {
    let title = format!("{driver}: {}", scenario["scenario"]);
    let echo = Echo::start();
    let gateway = Gateway::start(driver, &[("KONG_ROUTER_FLAVOR", "expressions")]);
    for step in scenario["setup"].as_array().unwrap() {
        let body = step["body"].to_string().replace("127.0.0.1:9999", &here(&echo));
        let body = serde_json::from_str(&body).unwrap();
        let reply = gateway.admin("POST", step["path"].as_str().unwrap(), &body);
        assert_eq!(json!(reply.status), step["status"], "{title}: {body}: {}", reply.text());
        if !step["answer"].is_null() {
            assert_eq!(reply.json(), step["answer"], "{title}: {body}");
        }
    }
    for asked in scenario["asked"].as_array().unwrap() {
        let text = |name: &str| asked[name].as_str().unwrap_or_default();
        let response = match text("to") {
            "tls" => over_tls(&gateway, asked),
            _ => {
                let host = [("Host", text("host"))];
                http::call(gateway.proxy, text("method"), text("path"), &host, b"")
            }
        };
        let found = (json!(response.status), winner(&response));
        let expected = (asked["status"].clone(), asked["winner"].clone());
        assert_eq!(found, expected, "{title}: {asked}");
    }
}

fn here(echo: &Echo) -> String {
    format!("127.0.0.1:{}", echo.port)
}

#[test]
fn expressions_choose_as_kongs_do() {
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    assert_eq!(recorded.len(), 17);
    // The router is the same on every driver.
    let driver = drivers()[0];
    for scenario in &recorded {
        replay(driver, scenario);
    }
}

#[test]
fn a_matched_prefix_is_stripped_and_captures_are_those_of_the_path() {
    let echo = Echo::start();
    let gateway = Gateway::start("epoll", &[("KONG_ROUTER_FLAVOR", "expressions")]);
    gateway.post("/services", &format!("name=s&url=http://{}/up", here(&echo)));
    for (expression, path, expected) in [
        (r#"http.path ^= "/one""#, "/one/two", "/up/two"),
        (r##"http.path ~ r#"^/\d+"# && http.headers.a ~ "^y""##, "/123/x", "/up/x"),
        (r#"http.path == "/whole""#, "/whole", "/up/whole"),
        (r#"http.path.segments.1_2 == "b/c""#, "/a/b/c/d", "/up/a/b/c/d"),
    ] {
        let made = gateway.admin("POST", "/services/s/routes", &json!({"expression": expression}));
        assert_eq!(made.status, 201, "{expression}: {}", made.text());
        let response = http::get(gateway.proxy, path, &[("A", "yes")]);
        assert_eq!(response.json()["uri"], expected, "{expression}");
        let id = made.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(gateway.admin("DELETE", &format!("/routes/{id}"), &json!({})).status, 204);
    }
}
