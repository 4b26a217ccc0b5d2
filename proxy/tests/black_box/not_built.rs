//! Plugins whose behaviour is not built: stored, listed as inactive, and their routes closed.

use serde_json::json;

use super::echo::Echo;
use super::gateway::Gateway;
use super::http;

#[test]
fn an_enabled_row_closes_its_scope_and_is_listed() {
    let echo = Echo::start();
    let gateway = Gateway::start("epoll", &[]);
    gateway.route("/open", echo.port);
    gateway.route("/closed", echo.port);
    let config = json!({"deny_patterns": ["x"]});
    let row = json!({"name": "ai-prompt-guard", "config": config});
    let made = gateway.admin("POST", "/routes/closed/plugins", &row);
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].clone();
    let answer = gateway.until("/closed", |answer| answer.status != 200);
    assert_eq!(answer.status, 503);
    assert_eq!(http::get(gateway.proxy, "/open", &[]).status, 200, "the rest serves");
    let inactive = || {
        let status = http::call(gateway.admin, "GET", "/status", &[], b"");
        status.json()["tollgate"]["inactive"].clone()
    };
    let listed = inactive();
    assert_eq!(listed["total"], 1);
    assert_eq!(listed["plugins"][0]["id"], id);
    assert_eq!(listed["plugins"][0]["name"], "ai-prompt-guard");
    assert!(listed["plugins"][0]["route"]["id"].is_string());
    let off = json!({"enabled": false});
    let path = format!("/plugins/{}", id.as_str().unwrap());
    assert_eq!(gateway.admin("PATCH", &path, &off).status, 200);
    gateway.until("/closed", |answer| answer.status == 200);
    assert_eq!(inactive()["total"], 0);
}
