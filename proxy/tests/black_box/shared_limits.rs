//! Rate limits that several gateways count together, on a real Redis.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::echo::Echo;
use super::gateway::{Gateway, drivers, free_port};
use super::http;

const MISSING: &str = "redis-server is not installed: on Debian, `apt-get install redis-server`";
const LONG: Duration = Duration::from_secs(30);

/// A Redis of its own, gone with the test.
struct Redis {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let redis = Self { child: Self::spawn(port, folder.path()), port, folder };
        redis.wait();
        redis
    }

    fn spawn(port: u16, folder: &std::path::Path) -> Child {
        Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--requirepass", "secret", "--port", &port.to_string(), "--dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|why| panic!("{MISSING} ({why})"))
    }

    fn wait(&self) {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < LONG, "redis does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The names of all keys, one after another.
    fn keys(&self) -> String {
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.write_all(b"AUTH secret\r\nKEYS *\r\nQUIT\r\n").unwrap();
        let mut told = String::new();
        socket.read_to_string(&mut told).unwrap();
        told
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn again(&mut self) {
        self.child = Self::spawn(self.port, self.folder.path());
        self.wait();
    }

    /// A global rate limit on it; without a scope the gateways' rows count under one name.
    fn limit(&self, gateway: &Gateway, more: &str) -> String {
        let form = format!(
            "name=rate-limiting&config.policy=redis&config.limit_by=ip&config.redis.host=127.0.0.1\
             &config.redis.port={}&config.redis.password=secret&{more}",
            self.port
        );
        gateway.post("/plugins", &form)["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn pair(upstream: &Echo) -> [Gateway; 2] {
    let driver = drivers()[0];
    [(); 2].map(|()| {
        let gateway = Gateway::start(driver, &[]);
        gateway.route("/r", upstream.port);
        gateway
    })
}

fn status(gateway: &Gateway) -> u16 {
    http::get(gateway.proxy, "/r", &[]).status
}

#[test]
fn redis_decides_exactly_for_all_nodes() {
    let (upstream, mut redis) = (Echo::start(), Redis::start());
    let gateways = pair(&upstream);
    let ids = gateways.each_ref().map(|gateway| redis.limit(gateway, "config.year=10"));
    let passed = (0..30).filter(|n| status(&gateways[n % 2]) == 200).count();
    assert_eq!(passed, 10);
    let refused = http::get(gateways[0].proxy, "/r", &[]);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("X-RateLimit-Remaining-Year"), Some("0"));

    redis.stop();
    // The default is to let requests pass when nobody can say.
    let open = gateways[0].until("/r", |response| response.status == 200);
    assert_eq!(open.header("X-RateLimit-Limit-Year"), None);
    let strict = serde_json::json!({"config": {"fault_tolerant": false}});
    let path = format!("/plugins/{}", ids[0]);
    assert_eq!(gateways[0].admin("PATCH", &path, &strict).status, 200);
    let closed = gateways[0].until("/r", |response| response.status == 500);
    assert!(closed.text().contains("An unexpected error occurred"), "{}", closed.text());
    redis.again();
    gateways[0].until("/r", |response| response.status == 200);
}

#[test]
fn nodes_that_sync_pass_no_more_than_their_share() {
    let (upstream, redis) = (Echo::start(), Redis::start());
    let gateways = pair(&upstream);
    for gateway in &gateways {
        redis.limit(gateway, "config.year=20&config.sync_rate=0.05");
    }
    // One node uses a part of the limit up; the other hears of it with its first request.
    assert_eq!((0..15).filter(|_| status(&gateways[0]) == 200).count(), 15);
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    let mut passed = 0;
    while status(&gateways[1]) == 200 {
        passed += 1;
        assert!(passed <= 20, "no more than a node that has heard nothing");
        assert!(begun.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(passed, 5, "what the other node had left");
}

#[test]
fn what_upstreams_report_is_counted_together() {
    let (upstream, redis) = (Echo::start(), Redis::start());
    let gateways = pair(&upstream);
    let form = format!(
        "name=response-ratelimiting&config.policy=redis&config.redis.host=127.0.0.1\
         &config.redis.port={}&config.redis.password=secret&config.limits.v.year=10",
        redis.port
    );
    gateways.iter().for_each(|gateway| drop(gateway.post("/plugins", &form)));
    let left = |gateway: &Gateway, expected: &str| {
        gateway.until("/r", |told| told.header("X-RateLimit-Remaining-v") == Some(expected));
    };
    for (round, expected) in ["10", "8", "6", "4", "2"].into_iter().enumerate() {
        let gateway = &gateways[round % 2];
        left(gateway, expected);
        assert_eq!(http::get(gateway.proxy, "/r/reports/2", &[]).status, 200);
    }
    gateways.iter().for_each(|gateway| left(gateway, "0"));
    let refused = http::get(gateways[0].proxy, "/r/reports/1", &[]);
    assert_eq!((refused.status, refused.body.len()), (429, 0));
    assert_eq!(refused.header("X-RateLimit-Remaining-v-year"), Some("0"));
    let keys = redis.keys();
    let nil = "00000000-0000-0000-0000-000000000000";
    let start = format!("response-ratelimit:{nil}:{nil}:127.0.0.1:");
    assert!(keys.contains(&start) && keys.contains(":v:year"), "{keys}");
}
