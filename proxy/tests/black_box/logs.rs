//! Log plugins: every entry arrives or is counted, and a sink in trouble costs nobody else.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::echo::Echo;
use super::gateway::{Gateway, drivers, free_port};
use super::http;
use super::sinks::{Datagrams, HttpSink, LineSink, Mood, Post, until};

fn add(gateway: &Gateway, plugin: &str, config: Value) -> Value {
    let row = json!({"name": plugin, "config": config});
    let made = gateway.admin("POST", "/plugins", &row);
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

/// The book: received = delivered + queued + dropped.
fn events(gateway: &Gateway) -> Value {
    let status = http::get(gateway.admin, "/status", &[]).json();
    let events = status["tollgate"]["events"].clone();
    let sum = |name: &str| events[name].as_u64().unwrap();
    assert_eq!(sum("received"), sum("delivered") + sum("queued") + sum("dropped"), "{events}");
    events
}

#[test]
fn a_document_tells_what_was_asked_and_answered() {
    for driver in drivers() {
        let (echo, sink) = (Echo::start(), HttpSink::start());
        let gateway = Gateway::start(driver, &[]);
        gateway.route("/r", echo.port);
        gateway.post("/services/r/plugins", "name=key-auth");
        gateway.post("/consumers", "username=bob&custom_id=c-1&tags[]=t");
        gateway.post("/consumers/bob/key-auth", "key=k1");
        gateway.until("/r", |answer| answer.status == 401);
        add(
            &gateway,
            "http-log",
            json!({"http_endpoint": format!("http://127.0.0.1:{}/log", sink.port)}),
        );
        gateway.until("/nowhere", |_| !sink.posts().is_empty());
        let lost = sink.wait(1)[0].json();
        assert_eq!((&lost["response"]["status"], lost.get("tries")), (&json!(404), None));
        assert_eq!((&lost["latencies"]["proxy"], &lost["source"]), (&json!(-1), &json!("kong")));
        let headers = [("apikey", "k1"), ("Authorization", "Bearer secret"), ("X-A", "1")];
        let answer = http::call(gateway.proxy, "POST", "/r/x?a=1&a=2", &headers, b"12345678");
        assert_eq!(answer.status, 200);
        let asked = |post: &Post| post.json()["request"]["uri"] == "/r/x?a=1&a=2";
        let post = until(|| sink.posts().into_iter().find(asked));
        assert_eq!(post.line, "POST /log HTTP/1.1");
        assert_eq!(post.header("content-type"), Some("application/json"));
        let document = post.json();
        let request = &document["request"];
        assert_eq!(request["querystring"], json!({"a": ["1", "2"]}));
        assert_eq!(request["headers"]["authorization"], "REDACTED");
        assert_eq!(request["headers"]["x-consumer-username"], "bob");
        assert_eq!(request["url"], format!("http://gateway.test:{}/r/x?a=1&a=2", gateway.proxy));
        assert_eq!(document["upstream_uri"], "/x?a=1&a=2");
        assert_eq!(
            (&document["upstream_status"], &document["source"]),
            (&json!("200"), &json!("upstream"))
        );
        assert_eq!(document["tries"][0]["port"], echo.port);
        assert_eq!(
            (&document["consumer"]["username"], &document["consumer"]["custom_id"]),
            (&json!("bob"), &json!("c-1"))
        );
        assert_eq!(
            (&document["service"]["name"], &document["route"]["name"]),
            (&json!("r"), &json!("r"))
        );
        assert!(document["authenticated_entity"]["id"].is_string(), "{document}");
        assert_eq!(document["workspace_name"], "default");
        let shown = answer.header("x-kong-request-id").unwrap();
        assert_eq!(document["response"]["headers"]["x-kong-request-id"], shown);
        let length = answer.body.len().to_string();
        assert_eq!(document["response"]["headers"]["content-length"], length);
        let size = document["response"]["size"].as_u64().unwrap();
        assert!(size > answer.body.len() as u64 + 100, "{size}");
        events(&gateway);
    }
}

#[test]
fn a_document_tells_every_try() {
    let (echo, sink, nobody) = (Echo::start(), HttpSink::start(), free_port());
    let gateway = Gateway::start("epoll", &[]);
    gateway.post("/upstreams", "name=up");
    // The one that refuses is far more likely to be asked first.
    gateway.post("/upstreams/up/targets", &format!("target=127.0.0.1:{nobody}&weight=1000"));
    gateway.post("/upstreams/up/targets", &format!("target=127.0.0.1:{}&weight=1", echo.port));
    gateway.post("/services", "name=s&host=up");
    gateway.post("/services/s/routes", "name=r&paths[]=/r");
    let endpoint = format!("http://127.0.0.1:{}", sink.port);
    add(&gateway, "http-log", json!({"http_endpoint": endpoint}));
    let twice = |post: &Post| post.json()["tries"].as_array().is_some_and(|all| all.len() > 1);
    gateway.until("/r", |_| sink.posts().iter().any(twice));
    let document = sink.posts().iter().find(|post| twice(post)).unwrap().json();
    let tries = document["tries"].as_array().unwrap();
    let (last, failed) = tries.split_last().unwrap();
    for one in failed {
        assert_eq!((&one["port"], &one["ip"]), (&json!(nobody), &json!("127.0.0.1")));
        assert_eq!((&one["state"], &one["code"]), (&json!("failed"), &json!(502)));
    }
    assert_eq!((&last["port"], last.get("state")), (&json!(echo.port), None));
    let statuses = ["502"].repeat(failed.len()).join(", ") + ", 200";
    assert_eq!(document["upstream_status"], statuses);
    assert_eq!(document["response"]["status"], 200);
}

#[test]
fn a_document_tells_of_tls() {
    let (echo, sink) = (Echo::start(), HttpSink::start());
    let gateway = Gateway::start("epoll", &[]);
    gateway.route("/r", echo.port);
    let endpoint = format!("http://127.0.0.1:{}", sink.port);
    add(&gateway, "http-log", json!({"http_endpoint": endpoint}));
    std::thread::sleep(Duration::from_millis(300));
    let address = format!("127.0.0.1:{}", gateway.tls);
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-tls1_3", "-connect", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs: install openssl");
    let request = b"GET /r HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    client.stdin.as_mut().unwrap().write_all(request).unwrap();
    let document = sink.wait(1)[0].json();
    client.wait().unwrap();
    let tls = &document["request"]["tls"];
    assert_eq!((&tls["version"], &tls["client_verify"]), (&json!("TLSv1.3"), &json!("NONE")));
    assert!(tls["cipher"].as_str().unwrap().starts_with("TLS_AES_"), "{tls}");
    assert_eq!(document["request"]["url"], format!("https://a.test:{}/r", gateway.tls));
}

#[test]
fn a_row_that_changes_is_shown_as_it_was() {
    let (echo, sink) = (Echo::start(), HttpSink::start());
    let gateway = Gateway::start("epoll", &[]);
    gateway.route("/r", echo.port);
    let endpoint = format!("http://127.0.0.1:{}", sink.port);
    let queue = json!({"max_batch_size": 10, "max_coalescing_delay": 0.7});
    add(&gateway, "http-log", json!({"http_endpoint": endpoint, "queue": queue}));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(http::get(gateway.proxy, "/r/1", &[]).status, 200);
    let renamed = gateway.admin("PATCH", "/routes/r", &json!({"name": "renamed"}));
    assert_eq!(renamed.status, 200);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(http::get(gateway.proxy, "/r/2", &[]).status, 200);
    let names: Vec<String> = until(|| {
        let posts = sink.posts();
        let entries = posts.iter().flat_map(|post| post.json().as_array().cloned().unwrap());
        let names = entries.map(|entry| entry["route"]["name"].as_str().unwrap().to_owned());
        Some(names.collect::<Vec<_>>()).filter(|names| names.len() >= 2)
    });
    assert_eq!(names, ["r", "renamed"]);
}

#[test]
fn a_sink_in_trouble_costs_the_road_and_its_neighbours_nothing() {
    for mood in [Mood::Hangs, Mood::Closes, Mood::Answers(500)] {
        let (echo, bad) = (Echo::start(), HttpSink::start());
        let gateway = Gateway::start("epoll", &[]);
        gateway.route("/r", echo.port);
        bad.set(mood);
        let nobody = free_port();
        let queue = json!({"max_entries": 5, "initial_retry_delay": 0.05, "max_retry_delay": 0.1, "max_retry_time": 60});
        let config = |port: u16| json!({"http_endpoint": format!("http://127.0.0.1:{port}"), "queue": queue, "timeout": 500});
        let row = |config| json!({"name": "http-log", "config": config});
        assert_eq!(
            gateway.admin("POST", "/services/r/plugins", &row(config(bad.port))).status,
            201
        );
        add(&gateway, "tcp-log", json!({"host": "127.0.0.1", "port": nobody}));
        let path = gateway.prefix.path().join("entries.log");
        add(&gateway, "file-log", json!({"path": path}));
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        for n in 0..50 {
            assert_eq!(http::get(gateway.proxy, &format!("/r/{n}"), &[]).status, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        until(|| {
            let lines = std::fs::read_to_string(&path).unwrap_or_default();
            (lines.lines().count() >= 50).then_some(())
        });
        let sums = events(&gateway);
        assert!(sums["dropped_because"]["queue_full"].as_u64() >= Some(30), "{sums}");
        assert!(bad.refused() > 0);
        // The sink comes back: what waited arrives, and nothing is left but what nobody takes.
        bad.set(Mood::Answers(200));
        // Two cores report: what was pushed out is what was taken first, not what was asked first.
        until(|| {
            let status = http::get(gateway.admin, "/status", &[]).json();
            let destinations = status["tollgate"]["destinations"].as_array().cloned()?;
            let bad = destinations
                .into_iter()
                .find(|to| to["to"].as_str().is_some_and(|to| to.starts_with("http-log to ")))?;
            (bad["queued"] == 0 && bad["failures"] == 0).then_some(())
        });
        assert!(bad.posts().len() >= 5, "{}", bad.posts().len());
        until(|| (events(&gateway)["queued"] == json!(50)).then_some(()));
    }
}

#[test]
fn files_are_reopened_after_rotation_where_asked() {
    let echo = Echo::start();
    let gateway = Gateway::start("epoll", &[]);
    gateway.route("/r", echo.port);
    let folder = gateway.prefix.path().to_owned();
    let (kept, renewed) = (folder.join("kept.log"), folder.join("renewed.log"));
    add(&gateway, "file-log", json!({"path": kept}));
    let row = json!({"name": "file-log", "config": {"path": renewed, "reopen": true}});
    assert_eq!(gateway.admin("POST", "/services/r/plugins", &row).status, 201);
    let lines =
        |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let wait = |path: &std::path::Path, count| until(|| (lines(path) >= count).then_some(()));
    gateway.until("/none", |_| lines(&kept) > 0);
    gateway.until("/r", |_| lines(&renewed) > 0);
    let moved = |path: &std::path::Path| path.with_extension("1");
    for path in [&kept, &renewed] {
        std::fs::rename(path, moved(path)).unwrap();
    }
    http::get(gateway.proxy, "/none", &[]);
    http::get(gateway.proxy, "/r", &[]);
    wait(&renewed, 1);
    wait(&moved(&kept), 2);
    assert!(!kept.exists());
}

#[test]
fn an_orderly_end_delivers_what_waits() {
    let (echo, sink) = (Echo::start(), HttpSink::start());
    let mut gateway = Gateway::start("epoll", &[]);
    gateway.route("/r", echo.port);
    let endpoint = format!("http://127.0.0.1:{}", sink.port);
    let queue = json!({"max_batch_size": 100, "max_coalescing_delay": 600});
    add(&gateway, "http-log", json!({"http_endpoint": endpoint, "queue": queue}));
    std::thread::sleep(Duration::from_millis(300));
    for n in 0..7 {
        http::get(gateway.proxy, &format!("/r/{n}"), &[]);
    }
    assert!(sink.posts().is_empty());
    assert!(gateway.terminate().success());
    let posts = sink.wait(1);
    assert_eq!(posts.iter().map(|post| post.json().as_array().unwrap().len()).sum::<usize>(), 7);
}

#[test]
fn lines_and_datagrams_leave_as_kong_sends_them() {
    let (echo, lines, datagrams) = (Echo::start(), LineSink::start(), Datagrams::start());
    let gateway = Gateway::start("epoll", &[]);
    gateway.route("/r", echo.port);
    add(&gateway, "tcp-log", json!({"host": "127.0.0.1", "port": lines.port}));
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..3 {
        http::get(gateway.proxy, "/r", &[]);
    }
    let kept = lines.wait(3);
    assert_eq!(kept.len(), 1, "one connection");
    assert!(kept[0].iter().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let udp = add(&gateway, "udp-log", json!({"host": "127.0.0.1", "port": datagrams.port}));
    std::thread::sleep(Duration::from_millis(300));
    http::get(gateway.proxy, "/r", &[]);
    let document: Value = serde_json::from_str(&datagrams.wait(1)[0]).unwrap();
    assert_eq!(document["response"]["status"], 200);
    let path = format!("/plugins/{}", udp["id"].as_str().unwrap());
    assert_eq!(gateway.admin("DELETE", &path, &Value::Null).status, 204);
    let statsd = json!({"host": "127.0.0.1", "port": datagrams.port, "udp_packet_size": 1000});
    add(&gateway, "statsd", statsd);
    add(&gateway, "loggly", json!({"host": "127.0.0.1", "port": datagrams.port, "key": "K"}));
    std::thread::sleep(Duration::from_millis(300));
    http::get(gateway.proxy, "/r", &[]);
    let got = datagrams.wait(2);
    assert!(
        got.iter().any(|text| text.starts_with("kong.service.r.request.count:1|c\n")),
        "{got:?}"
    );
    assert!(got.iter().any(|text| text.starts_with("<14>1 ")), "{got:?}");
}

#[test]
fn a_scrape_shows_what_every_core_has_counted() {
    let echo = Echo::start();
    let status = free_port();
    let listen = format!("127.0.0.1:{status}");
    let gateway = Gateway::start("epoll", &[("KONG_STATUS_LISTEN", &listen)]);
    gateway.route("/r", echo.port);
    let switches = json!({
        "status_code_metrics": true, "latency_metrics": true, "bandwidth_metrics": true,
        "upstream_health_metrics": true, "per_consumer": true,
    });
    let before = http::get(gateway.admin, "/metrics", &[]);
    assert!(before.header("content-type").unwrap().starts_with("text/plain"));
    assert!(!before.text().contains("kong_http_requests_total"), "{}", before.text());
    add(&gateway, "prometheus", switches);
    std::thread::sleep(Duration::from_millis(300));
    for n in 0..20 {
        assert_eq!(http::get(gateway.proxy, &format!("/r/{n}"), &[]).status, 200);
    }
    assert_eq!(http::get(gateway.proxy, "/r/status/404", &[]).status, 404);
    assert_eq!(http::get(gateway.proxy, "/none", &[]).status, 404);
    for port in [gateway.admin, status] {
        let scrape = http::get(port, "/metrics", &[]);
        assert_eq!(scrape.status, 200);
        let text = scrape.text();
        for line in [
            "kong_http_requests_total{service=\"r\",route=\"r\",code=\"200\",source=\"service\",workspace=\"default\",consumer=\"\"} 20\n",
            "kong_http_requests_total{service=\"r\",route=\"r\",code=\"404\",source=\"service\",workspace=\"default\",consumer=\"\"} 1\n",
            "kong_request_latency_ms_count{service=\"r\",route=\"r\",workspace=\"default\"} 21\n",
            "kong_upstream_latency_ms_bucket{service=\"r\",route=\"r\",workspace=\"default\",le=\"+Inf\"} 21\n",
            "kong_datastore_reachable 1\n",
            "# TYPE kong_bandwidth_bytes counter\n",
            "# TYPE tollgate_snapshot_age_seconds gauge\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("service=\"\""), "what has no route is not counted");
    }
}
