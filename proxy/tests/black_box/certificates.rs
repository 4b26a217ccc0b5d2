//! Certificates and SNIs of the configuration, as clients and upstreams see them.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::echo::Echo;
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

/// An authority, a server's certificate for `up.test` and a client's, made by openssl.
fn authority(folder: &std::path::Path) {
    let script = "set -e; cd \"$1\"
        new() { openssl req -newkey rsa:2048 -nodes -keyout $1.key -subj /CN=$1 \"${@:2}\"; }
        new ca -x509 -days 30 -addext keyUsage=keyCertSign -out ca.crt
        for name in up.test client.test; do
            new $name -out $name.csr
            printf 'subjectAltName=DNS:%s' $name > extensions
            openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
                -extfile extensions -out $name.crt
        done";
    let made = Command::new("bash").args(["-c", script, "bash"]).arg(folder).output();
    let made = made.expect("bash runs");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}

/// `openssl s_server`, which shows what it learned of its client.
struct Server(std::process::Child, u16);

impl Server {
    /// `asks` is how it asks its clients for certificates.
    fn start(folder: &std::path::Path, asks: &str) -> Self {
        let port = super::gateway::free_port();
        let own = ["-cert", "up.test.crt", "-key", "up.test.key"];
        let child = Command::new("openssl")
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-www", asks, "1"])
            .args(own)
            .current_dir(folder)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("openssl runs");
        let begun = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed().as_secs() < 20, "openssl does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self(child, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[test]
fn upstreams_are_checked_and_shown_a_certificate_as_their_service_says() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let server = Server::start(folder.path(), "-verify");
    for driver in drivers() {
        let gateway = Gateway::start(driver, &[]);
        let must = |method: &str, path: &str, body: &serde_json::Value| {
            let reply = gateway.admin(method, path, body);
            assert!(reply.status < 300, "{method} {path}: {}", reply.text());
            reply.json()["id"].clone()
        };
        let pair = json!({"cert": text("client.test.crt"), "key": text("client.test.key")});
        let shown = must("POST", "/certificates", &pair);
        let trusted = must("POST", "/ca_certificates", &json!({"cert": text("ca.crt")}));
        let service = json!({"name": "s", "url": format!("https://127.0.0.1:{}/", server.1)});
        must("POST", "/services", &service);
        let route = json!({"paths": ["/s"], "preserve_host": true});
        must("POST", "/services/s/routes", &route);
        let asked = || {
            let host = [("Host", "up.test")];
            super::http::call(gateway.proxy, "GET", "/s", &host, b"")
        };
        let change = |body| must("PATCH", "/services/s", &body);
        let answer = asked();
        assert_eq!(answer.status, 200, "{driver}: everybody is believed");
        assert!(answer.text().contains("no client certificate available"), "{}", answer.text());
        change(json!({"tls_verify": true}));
        assert_eq!(asked().status, 502, "{driver}: browsers do not know this authority");
        change(json!({"ca_certificates": [trusted], "client_certificate": {"id": shown}}));
        let answer = asked();
        assert_eq!(answer.status, 200, "{driver}: {}", answer.text());
        assert!(answer.text().contains("CN=client.test") || answer.text().contains("CN = client"));
        let other = super::http::call(gateway.proxy, "GET", "/s", &[("Host", "other.test")], b"");
        assert_eq!(other.status, 502, "{driver}: the certificate is for another name");
    }
}

/// One handshake of openssl's, then a request; what it says about the session.
fn session(gateway: &Gateway, arguments: &[&str], file: (&str, &Path)) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-ign_eof", "-connect", &format!("127.0.0.1:{}", gateway.tls)])
        .args(arguments)
        .args([file.0, &file.1.display().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs: install openssl");
    let asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    child.stdin.take().unwrap().write_all(asked).unwrap();
    let mut said = String::new();
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    child.wait().unwrap();
    said.push_str(&String::from_utf8_lossy(&out));
    let line = said.lines().find(|line| line.starts_with("New,") || line.starts_with("Reused,"));
    let line = line.unwrap_or_else(|| panic!("no handshake: {said}"));
    line.split(',').next().unwrap().to_owned()
}

/// Two cores share what it takes: each handshake may come to either.
#[test]
fn sessions_are_resumed_by_tickets_and_by_ids_on_every_core() {
    let kinds: [&[&str]; 3] = [&["-tls1_3"], &["-tls1_2"], &["-tls1_2", "-no_ticket"]];
    for driver in drivers() {
        let gateway = Gateway::start(driver, &[]);
        for kind in kinds {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("session");
            assert_eq!(session(&gateway, kind, ("-sess_out", &file)), "New", "{driver} {kind:?}");
            for _ in 0..6 {
                let again = session(&gateway, kind, ("-sess_in", &file));
                assert_eq!(again, "Reused", "{driver} {kind:?}");
            }
        }
    }
}

/// A connection over TLS that stays open.
struct Kept {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Kept {
    fn open(gateway: &Gateway) -> Self {
        let address = format!("127.0.0.1:{}", gateway.tls);
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-servername", "a.test", "-connect", &address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs: install openssl");
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    /// Asks and reads the answer; its status line, or nothing where the connection has ended.
    fn ask(&mut self) -> String {
        let sent = self.to.write_all(b"GET /s HTTP/1.1\r\nHost: a.test\r\n\r\n");
        if sent.and_then(|()| self.to.flush()).is_err() {
            return String::new();
        }
        let (mut status, mut length) = (String::new(), 0);
        self.from.read_line(&mut status).unwrap();
        loop {
            let mut line = String::new();
            self.from.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.from.read_exact(&mut body).unwrap();
        status.trim_end().to_owned()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_change_of_certificates_costs_no_request_and_no_idle_connection() {
    for driver in drivers() {
        let gateway = Gateway::start(driver, &[]);
        let echo = Echo::start();
        gateway.route("/s", echo.port);
        let mut first = pair("first.test");
        first["snis"] = json!(["a.test"]);
        let made = gateway.admin("POST", "/certificates", &first);
        let path = format!("/certificates/{}", made.json()["id"].as_str().unwrap());
        let mut idle: Vec<Kept> = (0..4).map(|_| Kept::open(&gateway)).collect();
        for kept in &mut idle {
            assert_eq!(kept.ask(), "HTTP/1.1 200 Fine", "{driver}");
        }
        let changed = AtomicBool::new(false);
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut asked = 0;
                while !changed.load(Ordering::Relaxed) {
                    assert_eq!(Kept::open(&gateway).ask(), "HTTP/1.1 200 Fine", "{driver}");
                    asked += 1;
                }
                asked
            });
            for number in 0..20 {
                let changed = gateway.admin("PATCH", &path, &pair(&format!("n{number}.test")));
                assert_eq!(changed.status, 200, "{}", changed.text());
            }
            gateway.reload();
            assert_eq!(shown(&gateway, "a.test"), "subject=CN=n19.test", "{driver}");
            changed.store(true, Ordering::Relaxed);
            asking.join().unwrap()
        });
        assert!(asked > 0);
        for kept in &mut idle {
            assert_eq!(kept.ask(), "HTTP/1.1 200 Fine", "{driver}: it was closed");
        }
    }
}

#[test]
fn checks_show_the_certificate_of_their_upstream() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    // Who shows none is not served.
    let server = Server::start(folder.path(), "-Verify");
    let gateway = Gateway::start("epoll", &[]);
    let must = |method: &str, path: &str, body: &serde_json::Value| {
        let reply = gateway.admin(method, path, body);
        assert!(reply.status < 300, "{method} {path}: {}", reply.text());
        reply.json()["id"].clone()
    };
    let pair = json!({"cert": text("client.test.crt"), "key": text("client.test.key")});
    let shown = must("POST", "/certificates", &pair);
    let active = json!({
        "type": "https", "https_verify_certificate": false, "timeout": 5,
        "healthy": {"interval": 0.2, "successes": 1},
        "unhealthy": {"interval": 0.2, "tcp_failures": 1, "timeouts": 1, "http_failures": 1},
    });
    must("POST", "/upstreams", &json!({"name": "up", "healthchecks": {"active": active}}));
    must("POST", "/upstreams/up/targets", &json!({"target": format!("127.0.0.1:{}", server.1)}));
    let until = |wanted: &str| {
        let begun = std::time::Instant::now();
        loop {
            let health = gateway.admin("GET", "/upstreams/up/health", &json!({})).json();
            let health = health["data"][0]["health"].clone();
            if health == wanted {
                return;
            }
            assert!(begun.elapsed().as_secs() < 20, "it stays {health}, not {wanted}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    until("UNHEALTHY");
    must("PATCH", "/upstreams/up", &json!({"client_certificate": {"id": shown}}));
    until("HEALTHY");
    must("PATCH", "/upstreams/up", &json!({"client_certificate": null}));
    until("UNHEALTHY");
}
