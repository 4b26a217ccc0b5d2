//! A gateway without a database, from outside.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::echo::Echo;
use super::gateway::{Gateway, free_port};
use super::http;

fn document(name: &str, upstream: u16) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: {name}\n  url: http://127.0.0.1:{upstream}\n  \
         routes:\n  - name: {name}\n    paths: [/{name}]\n"
    )
}

fn start(folder: &Path, text: &str, more: &[(&str, &str)]) -> Gateway {
    let file = folder.join("kong.yml");
    std::fs::write(&file, text).unwrap();
    let shown = file.display().to_string();
    let mut env = vec![("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", shown.as_str())];
    env.extend(more);
    Gateway::start("epoll", &env)
}

fn post(gateway: &Gateway, target: &str, text: &str) -> http::Response {
    let headers = [("Content-Type", "text/yaml")];
    http::call(gateway.admin, "POST", target, &headers, text.as_bytes())
}

fn get(gateway: &Gateway, path: &str) -> serde_json::Value {
    http::call(gateway.admin, "GET", path, &[], b"").json()
}

#[test]
fn a_file_is_served_reloaded_and_kept() {
    let echo = Echo::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kong.yml");
    let mut gateway = start(folder.path(), &document("a", echo.port), &[]);
    gateway.until("/a", |answer| answer.status == 200);
    let hash = get(&gateway, "/status")["configuration_hash"].clone();
    assert_ne!(hash, "0".repeat(32));

    std::fs::write(&file, document("b", echo.port)).unwrap();
    gateway.reload();
    gateway.until("/b", |answer| answer.status == 200);
    assert_eq!(http::get(gateway.proxy, "/a", &[]).status, 404);
    assert_ne!(get(&gateway, "/status")["configuration_hash"], hash);

    std::fs::write(&file, "_format_version: \"3.0\"\nservices:\n- name: c\n").unwrap();
    gateway.reload();
    gateway.said("the old configuration stays");
    assert_eq!(http::get(gateway.proxy, "/b", &[]).status, 200);

    let kept = gateway.prefix.path().join("declarative.kept");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&file).unwrap();
    gateway.kill_and_restart();
    gateway.until("/b", |answer| answer.status == 200);
    gateway.said("the last good configuration is used");
}

#[test]
fn a_document_replaces_everything_at_once() {
    let echo = Echo::start();
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path(), &document("a", echo.port), &[]);
    let text = document("b", echo.port);
    assert_eq!(post(&gateway, "/config", &text).status, 201);
    assert_eq!(http::get(gateway.proxy, "/b", &[]).status, 200, "live when the answer is there");
    assert_eq!(http::get(gateway.proxy, "/a", &[]).status, 404);
    assert_eq!(post(&gateway, "/config?check_hash=1", &text).status, 304);
    let refused = post(&gateway, "/config", "_format_version: \"3.0\"\nservices: [{name: c}]\n");
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!(14)));
    assert_eq!(http::get(gateway.proxy, "/b", &[]).status, 200);
    let exported = get(&gateway, "/config")["config"].as_str().unwrap().to_owned();
    assert_eq!(post(&gateway, "/config", &exported).status, 201);
    assert_eq!(http::get(gateway.proxy, "/b", &[]).status, 200);
    let row = json!({"name": "x", "host": "h"});
    let refused = gateway.admin("POST", "/services", &row);
    assert_eq!((refused.status, &refused.json()["code"]), (405, &json!(12)));
    assert_eq!(gateway.admin("DELETE", "/services/b", &json!({})).status, 405);
    assert_eq!(gateway.admin("DELETE", "/services/none", &json!({})).status, 204);
}

#[test]
fn what_did_not_change_goes_on() {
    let echo = Echo::start();
    let folder = tempfile::tempdir().unwrap();
    let limited = |name: &str| {
        document(name, echo.port)
            + "plugins:\n- name: rate-limiting\n  config: {hour: 3, limit_by: ip}\n"
    };
    let gateway = start(folder.path(), &limited("a"), &[]);
    gateway.until("/a", |answer| answer.status == 200);
    let made = get(&gateway, "/plugins")["data"][0].clone();
    assert_eq!(post(&gateway, "/config", &limited("b")).status, 201);
    assert_eq!(get(&gateway, "/plugins")["data"][0], made, "the row stays as it is");
}

#[test]
fn the_status_port_tells_what_kongs_does() {
    let (status, folder) = (free_port(), tempfile::tempdir().unwrap());
    let listen = format!("127.0.0.1:{status}");
    let text = "_format_version: '3.0'\nupstreams:\n- name: u\n  targets: [{target: 127.0.0.1}]\n";
    let gateway = start(folder.path(), text, &[("KONG_STATUS_LISTEN", listen.as_str())]);
    let ask = |method, path, body: &str| {
        let headers = [("Content-Type", "application/json")];
        http::call(status, method, path, &headers, body.as_bytes())
    };
    let ready = |wanted: (u16, &str)| {
        let answer = ask("GET", "/status/ready", "");
        assert_eq!((answer.status, answer.json()["message"].as_str()), (wanted.0, Some(wanted.1)));
    };
    ready((200, "ready"));

    let health = ask("GET", "/upstreams/u/health", "").json();
    assert_eq!(health["data"][0]["target"], "127.0.0.1:8000");
    assert_eq!(health["data"][0]["data"]["addresses"][0]["port"], 8000);
    assert_eq!(ask("GET", "/upstreams/u/targets/127.0.0.1:8000", "").status, 200);
    for (method, path, status) in [
        ("GET", "/upstreams/u/targets", 200),
        ("GET", "/upstreams/u/targets/all", 200),
        ("POST", "/upstreams/u/targets", 405),
        ("GET", "/upstreams", 404),
        ("GET", "/config", 404),
    ] {
        assert_eq!(ask(method, path, "{}").status, status, "{method} {path}");
    }

    let text =
        "_format_version: '3.0'\nconsumers:\n- username: c\n  keyauth_credentials: [{key: k}]\n";
    assert_eq!(post(&gateway, "/config", text).status, 201);
    assert_eq!(get(&gateway, "/key-auths/k").get("ttl"), None, "none is set");
    assert_eq!(get(&gateway, "/key-auths")["data"][0].get("ttl"), None);

    assert_eq!(ask("POST", "/status/ready", "{\"status\":\"x\"}").status, 400);
    ready((200, "ready"));
    assert_eq!(ask("POST", "/status/ready", "{\"status\":\"draining\"}").status, 204);
    ready((503, "draining"));
}
