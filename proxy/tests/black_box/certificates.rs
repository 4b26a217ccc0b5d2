//! Certificates and SNIs of the configuration, as clients and upstreams see them.

use std::process::Command;

use super::gateway::{Gateway, drivers};
use serde_json::json;

/// The subject of the certificate that is shown to a client who asks for `name`.
fn shown(gateway: &Gateway, name: &str) -> String {
    let address = format!("127.0.0.1:{}", gateway.tls);
    let mut arguments = vec!["s_client", "-connect", &address];
    match name {
        "" => arguments.push("-noservername"),
        name => arguments.extend(["-servername", name]),
    }
    let ran = Command::new("openssl")
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl runs: install openssl");
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    let subject = out.lines().find(|line| line.starts_with("subject="));
    subject.unwrap_or(&out).replace(' ', "")
}

fn pair(name: &str) -> serde_json::Value {
    let (cert, key) = runtime::tls::self_signed(&[name]).unwrap();
    json!({"cert": cert, "key": key})
}

#[test]
fn each_name_has_its_certificate_and_changes_need_no_restart() {
    for driver in drivers() {
        let gateway = Gateway::start(driver, &[]);
        assert_eq!(shown(&gateway, "a.test"), "subject=CN=localhost", "{driver}");
        let mut first = pair("first.test");
        first["snis"] = json!(["a.test", "*.wild.test"]);
        let made = gateway.admin("POST", "/certificates", &first);
        assert_eq!(made.status, 201, "{}", made.text());
        for name in ["a.test", "A.TEST", "x.wild.test"] {
            assert_eq!(shown(&gateway, name), "subject=CN=first.test", "{driver} {name}");
        }
        for name in ["", "b.test", "wild.test", "x.y.wild.test"] {
            assert_eq!(shown(&gateway, name), "subject=CN=localhost", "{driver} {name}");
        }
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let path = format!("/certificates/{id}");
        assert_eq!(gateway.admin("PATCH", &path, &pair("second.test")).status, 200);
        assert_eq!(shown(&gateway, "a.test"), "subject=CN=second.test", "{driver}");
        assert_eq!(gateway.admin("DELETE", "/snis/a.test", &json!({})).status, 204);
        assert_eq!(shown(&gateway, "a.test"), "subject=CN=localhost", "{driver}");
        let star = json!({"name": "*", "certificate": {"id": id}});
        assert_eq!(gateway.admin("POST", "/snis", &star).status, 201);
        assert_eq!(shown(&gateway, ""), "subject=CN=second.test", "{driver}");
        assert_eq!(gateway.admin("DELETE", &path, &json!({})).status, 204);
        assert_eq!(shown(&gateway, ""), "subject=CN=localhost", "{driver}");
    }
}

#[test]
fn a_restart_shows_the_same() {
    let mut gateway = Gateway::start("epoll", &[]);
    let mut kept = pair("kept.test");
    kept["snis"] = json!(["kept.test"]);
    assert_eq!(gateway.admin("POST", "/certificates", &kept).status, 201);
    gateway.kill_and_restart();
    assert_eq!(shown(&gateway, "kept.test"), "subject=CN=kept.test");
}
