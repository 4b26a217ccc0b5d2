//! Several authentication plugins on one route: all of them, or one of them with `anonymous`; what
//! follows them (acl, session, a plugin of the anonymous consumer).

use base64::Engine;
use serde_json::json;

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http::{self, Response};

/// HS256 with the secret `s`: `{"iss":"i"}`.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJpIn0.\
    5Y_KXINPw9nPQxoW79uUybvvM4IuYdHIw6lbiEyT_wg";

fn gateway(echo: &Echo) -> Gateway {
    let gateway = Gateway::start(drivers()[0], &[]);
    gateway.route("/r", echo.port);
    gateway.post("/consumers", "username=bob");
    gateway.post("/consumers", "username=al");
    gateway.post("/consumers", "username=anon");
    gateway.post("/consumers/bob/key-auth", "key=k1");
    gateway.post("/consumers/al/basic-auth", "username=u&password=p");
    gateway.post("/consumers/bob/jwt", "key=i&secret=s");
    gateway.post("/consumers/bob/acls", "group=g");
    gateway
}

fn add(gateway: &Gateway, plugin: &str, more: &str) {
    gateway.post("/services/r/plugins", &format!("name={plugin}{more}"));
}

fn basic(pair: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// Who the upstream was told of: the consumer, with a question mark where it is anonymous; else the
/// status.
fn told(response: &Response) -> String {
    if response.status != 200 {
        return response.status.to_string();
    }
    let headers = &response.json()["headers"];
    let name = headers["x-consumer-username"][0].as_str().unwrap_or("nobody").to_owned();
    if headers["x-anonymous-consumer"][0] == "true" { name + "?" } else { name }
}

#[track_caller]
fn check(gateway: &Gateway, lines: &[(&str, &str)], expected: &str) {
    assert_eq!(told(&http::get(gateway.proxy, "/r", lines)), expected, "{lines:?}");
}

#[test]
fn without_anonymous_all_must_let_in_and_with_it_one() {
    let echo = Echo::start();
    let gateway = gateway(&echo);
    add(&gateway, "key-auth", "");
    add(&gateway, "basic-auth", "");
    gateway.until("/r", |response| response.status == 401);
    let (right, wrong) = (basic("u:p"), basic("u:no"));
    let (key, right) = (("apikey", "k1"), ("Authorization", right.as_str()));
    check(&gateway, &[key], "401");
    check(&gateway, &[right], "401");
    // The last that let in says who it is.
    check(&gateway, &[key, right], "al");

    let plugins = http::get(gateway.admin, "/plugins", &[]).json();
    for row in plugins["data"].as_array().unwrap() {
        let path = format!("/plugins/{}", row["id"].as_str().unwrap());
        let anonymous = json!({"config": {"anonymous": "anon"}});
        assert_eq!(gateway.admin("PATCH", &path, &anonymous).status, 200);
    }
    add(&gateway, "jwt", "&config.anonymous=anon");
    gateway.until("/r", |response| response.status == 200);
    check(&gateway, &[], "anon?");
    check(&gateway, &[key], "bob");
    check(&gateway, &[right], "al");
    // jwt goes first, key-auth before basic-auth: who is known is not asked again.
    check(&gateway, &[key, right], "bob");
    check(&gateway, &[key, ("Authorization", &wrong)], "bob");
    check(&gateway, &[("apikey", "no"), right], "al");
    check(&gateway, &[("apikey", "no"), ("Authorization", &wrong)], "anon?");
    check(&gateway, &[("Authorization", &format!("Bearer {TOKEN}"))], "bob");
    check(&gateway, &[("X-Consumer-Username", "root"), ("X-Consumer-ID", "1")], "anon?");

    // What is configured for the anonymous consumer is for nobody else.
    gateway.post("/consumers/anon/plugins", "name=request-termination&config.status_code=403");
    gateway.until("/r", |response| response.status == 403);
    check(&gateway, &[key], "bob");
}

#[test]
fn a_group_of_the_anonymous_consumer_opens_for_everybody() {
    let echo = Echo::start();
    let gateway = gateway(&echo);
    add(&gateway, "key-auth", "&config.anonymous=anon");
    add(&gateway, "acl", "&config.allow[]=g");
    // Who is not known gets another answer than who is known and may not.
    gateway.until("/r", |response| response.status == 401);
    check(&gateway, &[("apikey", "k1")], "bob");
    gateway.post("/consumers/al/key-auth", "key=k2");
    check(&gateway, &[("apikey", "k2")], "403");
    gateway.post("/consumers/anon/acls", "group=g");
    check(&gateway, &[], "anon?");
    let shown = http::get(gateway.proxy, "/r", &[]).json();
    assert_eq!(shown["headers"]["x-consumer-groups"], json!(["g"]));
}

#[test]
fn a_session_goes_on_for_whoever_let_in() {
    let echo = Echo::start();
    let gateway = gateway(&echo);
    for plugin in ["key-auth", "basic-auth", "jwt"] {
        add(&gateway, plugin, "&config.anonymous=anon");
    }
    add(&gateway, "session", "&config.secret=s&config.cookie_secure=false");
    gateway.post("/consumers/anon/plugins", "name=request-termination&config.status_code=403");
    gateway.until("/r", |response| response.status == 403);
    let (basic, bearer) = (basic("u:p"), format!("Bearer {TOKEN}"));
    for (line, who) in [
        (("apikey", "k1"), "bob"),
        (("Authorization", basic.as_str()), "al"),
        (("Authorization", bearer.as_str()), "bob"),
    ] {
        let first = http::get(gateway.proxy, "/r", &[line]);
        assert_eq!(told(&first), who);
        let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        check(&gateway, &[("Cookie", &cookie)], who);
        let out = http::get(gateway.proxy, "/r?session_logout=1", &[("Cookie", &cookie)]);
        assert_eq!(told(&out), who, "a GET does not log out");
        let out =
            http::call(gateway.proxy, "POST", "/r?session_logout=1", &[("Cookie", &cookie)], b"");
        assert_eq!((out.status, out.body.len()), (200, 0), "{}", out.text());
    }
    check(&gateway, &[("Cookie", "session=abc")], "403");
}
