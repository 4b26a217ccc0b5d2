//! Too many connections, too little memory, no descriptors left: who cannot be served is told so,
//! nobody else notices, and it is over as soon as its cause is.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http::{self, Connection, Response};

fn status(gateway: &Gateway) -> Value {
    http::get(gateway.admin, "/status", &[]).json()
}

/// Waits until `/status` is as wanted.
fn until(gateway: &Gateway, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let status = status(gateway);
        if wanted(&status) {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "/status stays {status}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// That this is the answer to one too many.
#[track_caller]
fn is_turned_away(answer: &Response, driver: &str) {
    assert_eq!(answer.status, 503, "{driver}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{driver}");
    let body = answer.json();
    assert_eq!(body["message"], "The upstream server is currently unavailable", "{driver}");
    assert_eq!(body["request_id"].as_str(), answer.header("x-kong-request-id"), "{driver}");
}

const JSON: &[(&str, &str)] = &[("Accept", "application/json")];

#[test]
fn a_connection_too_many_is_told_and_the_others_go_on() {
    for driver in drivers() {
        let echo = Echo::start();
        let gateway = Gateway::start(driver, &[("KONG_NGINX_EVENTS_WORKER_CONNECTIONS", "5")]);
        gateway.route("/r", echo.port);
        until(&gateway, |status| status["server"]["connections_active"] == 0);
        let mut open: Vec<Connection> = (0..10).map(|_| Connection::open(gateway.proxy)).collect();
        for client in &mut open {
            assert_eq!(client.call("GET", "/r", &[], b"").status, 200, "{driver}");
        }
        let shown = until(&gateway, |status| status["server"]["connections_waiting"] == 10);
        assert_eq!(shown["server"]["connections_active"], 10, "{driver}");
        assert_eq!(shown["tollgate"]["overload"]["connections_max"], 10, "{driver}");
        for port in [gateway.proxy, gateway.proxy] {
            let mut late = Connection::open(port);
            is_turned_away(&late.call("GET", "/r", JSON, b""), driver);
            assert!(late.is_closed(), "{driver}");
        }
        let url = format!("https://127.0.0.1:{}/r", gateway.tls);
        let out = std::process::Command::new("nghttp").args(["-v", &url]).output();
        let out = out.expect("nghttp is installed: Debian's package nghttp2-client");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(said.contains(":status: 503") && said.contains("retry-after: 1"), "{said}");
        // One that says nothing is let go before long.
        let mut silent = Connection::open(gateway.proxy);
        assert!(silent.is_closed(), "{driver}");
        for client in &mut open {
            assert_eq!(client.call("GET", "/r", &[], b"").status, 200, "{driver}");
        }
        open.truncate(9);
        until(&gateway, |status| status["server"]["connections_active"] == 9);
        assert_eq!(
            http::get(gateway.proxy, "/r", &[]).status,
            200,
            "{driver}: there is room again"
        );
        let shown = status(&gateway);
        assert_eq!(shown["tollgate"]["overload"]["requests_shed"], 3, "{driver}: {shown}");
    }
}

#[test]
fn short_memory_turns_away_what_is_beyond_a_few() {
    for driver in drivers() {
        let echo = Echo::start();
        let gateway = Gateway::start(driver, &[("TOLLGATE_MEMORY_BYTES_MAX", "1m")]);
        gateway.route("/r", echo.port);
        until(&gateway, |status| status["tollgate"]["overload"]["memory_is_short"] == true);
        let mut clients: Vec<_> = (0..220).map(|_| Connection::open(gateway.proxy)).collect();
        for client in &mut clients {
            client.send(&http::request("GET", "/r/delay/1500", JSON, b""));
        }
        let (mut served, mut turned_away) = (0, 0);
        for client in &mut clients {
            let answer = client.read(false).unwrap();
            if answer.status == 200 {
                served += 1;
            } else {
                is_turned_away(&answer, driver);
                turned_away += 1;
            }
        }
        assert!(served >= 64 && turned_away > 0, "{driver}: {served} and {turned_away}");
        // Few are served however short it is.
        assert_eq!(http::get(gateway.proxy, "/r", &[]).status, 200, "{driver}");
    }
}

/// Seconds of CPU that a process has used.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
fn without_descriptors_accepting_pauses_and_is_well_within_a_second_of_having_some() {
    for driver in drivers() {
        let echo = Echo::start();
        let limit = ("KONG_NGINX_MAIN_WORKER_RLIMIT_NOFILE", "160");
        let gateway = Gateway::start(driver, &[limit]);
        gateway.route("/r", echo.port);
        let mut kept = Connection::open(gateway.proxy);
        assert_eq!(kept.call("GET", "/r", &[], b"").status, 200, "{driver}");
        let files = || fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
        let mut open = Vec::new();
        while files() < 159 && open.len() < 160 {
            let mut stream = TcpStream::connect(("127.0.0.1", gateway.proxy)).unwrap();
            stream.write_all(b"GET /r HTTP/1.1\r\n").unwrap();
            open.push(stream);
            thread::sleep(Duration::from_millis(2));
        }
        // Those wait in the queue, or are told that they are too many.
        for _ in 0..40 {
            open.push(TcpStream::connect(("127.0.0.1", gateway.proxy)).unwrap());
        }
        let (before, begun) = (cpu_seconds(gateway.pid()), Instant::now());
        thread::sleep(Duration::from_secs(1));
        let used = (cpu_seconds(gateway.pid()) - before) / begun.elapsed().as_secs_f64();
        assert!(used < 0.5, "{driver}: {used} of a CPU while nothing can be done");
        assert_eq!(kept.call("GET", "/r", &[], b"").status, 200, "{driver}: who is in goes on");
        drop(open);
        let begun = Instant::now();
        assert_eq!(http::get(gateway.proxy, "/r", &[]).status, 200, "{driver}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{driver}: {:?}", begun.elapsed());
    }
}

#[test]
fn an_upstream_is_not_blamed_for_a_lack_of_descriptors() {
    for driver in drivers() {
        let echo = Echo::start();
        let gateway = Gateway::start(driver, &[("KONG_NGINX_MAIN_WORKER_RLIMIT_NOFILE", "160")]);
        let checks = json!({"passive": {"unhealthy": {"tcp_failures": 1}}});
        let row = json!({"name": "up", "healthchecks": checks});
        assert_eq!(gateway.admin("POST", "/upstreams", &row).status, 201);
        gateway.post("/upstreams/up/targets", &format!("target=127.0.0.1:{}", echo.port));
        gateway.post("/services", "name=up&host=up");
        gateway.post("/services/up/routes", "paths[]=/r");
        gateway.until("/r", |answer| answer.status == 200);
        // Every client that is in asks at once: there are descriptors for some of them.
        let mut clients: Vec<_> = (0..90).map(|_| Connection::open(gateway.proxy)).collect();
        for client in &mut clients {
            client.send(&http::request("GET", "/r/delay/800", JSON, b""));
        }
        let answers: Vec<_> =
            clients.iter_mut().filter_map(|client| client.read(false).ok()).collect();
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
        assert!(!refused.is_empty() && refused.len() < answers.len(), "{driver}");
        refused.iter().for_each(|answer| is_turned_away(answer, driver));
        drop(clients);
        gateway.until("/r", |answer| answer.status == 200);
    }
}
