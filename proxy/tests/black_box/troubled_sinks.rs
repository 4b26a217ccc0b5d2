//! Log sinks in every kind of trouble at once, under load: no request fails, each entry is delivered
//! or counted. What the book says http-log delivered has arrived; of tcp-log it says what the kernel
//! took, as Kong does, though a sink that closes may not have read it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::echo::Echo;
use super::gateway::{Gateway, drivers, free_port};
use super::http::{self, Connection};
use super::sinks::{Datagrams, HttpSink, LineSink, Mood, until};

const CLIENTS: usize = 4;
/// How long the sink of http-log stays in one mood.
const MOOD: Duration = Duration::from_millis(150);
const MOODS: [Mood; 5] = [
    Mood::Answers(200),
    Mood::Slow(Duration::from_millis(60)),
    Mood::Answers(500),
    Mood::Closes,
    Mood::Hangs,
];

/// The book: what came, was given up, and waits; the rest has arrived.
#[derive(Clone, Copy, Debug)]
struct Book {
    received: u64,
    dropped: u64,
    queued: u64,
}

fn status(gateway: &Gateway) -> Value {
    http::get(gateway.admin, "/status", &[]).json()["tollgate"].clone()
}

fn book(gateway: &Gateway) -> Book {
    let events = &status(gateway)["events"];
    let [received, delivered, dropped, queued] =
        ["received", "delivered", "dropped", "queued"].map(|name| events[name].as_u64().unwrap());
    assert_eq!(received, delivered + dropped + queued, "{events}");
    Book { received, dropped, queued }
}

/// What the book says that a destination has taken.
fn delivered_to(gateway: &Gateway, plugin: &str) -> u64 {
    let status = status(gateway);
    let mut all = status["destinations"].as_array().unwrap().iter();
    let found = all.find(|to| to["to"].as_str().unwrap().starts_with(plugin));
    found.map_or(0, |to| to["delivered"].as_u64().unwrap())
}

/// The sinks, and the plugins that send to them.
struct World {
    http: HttpSink,
    lines: LineSink,
    /// Nobody reads what comes here.
    _datagrams: Datagrams,
    file: std::path::PathBuf,
}

/// Plugins that log each request.
const PLUGINS: u64 = 5;

impl World {
    fn around(gateway: &Gateway) -> Self {
        let (http, lines) = (HttpSink::start(), LineSink::closing_after(40));
        let datagrams = Datagrams::start();
        let file = gateway.prefix.path().join("entries.log");
        let queue = json!({
            "max_batch_size": 20, "max_coalescing_delay": 0.02, "max_entries": 300,
            "initial_retry_delay": 0.02, "max_retry_delay": 0.1, "max_retry_time": 1,
        });
        let (local, nobody) = ("127.0.0.1", free_port());
        let endpoint = format!("http://{local}:{}", http.port);
        for (name, config) in [
            ("http-log", json!({"http_endpoint": endpoint, "queue": queue, "timeout": 300})),
            ("tcp-log", json!({"host": local, "port": lines.port})),
            ("statsd", json!({"host": local, "port": nobody, "use_tcp": true, "queue": queue})),
            ("udp-log", json!({"host": local, "port": datagrams.port})),
            ("file-log", json!({"path": file})),
        ] {
            let made = gateway.admin("POST", "/plugins", &json!({"name": name, "config": config}));
            assert_eq!(made.status, 201, "{}", made.text());
        }
        let world = Self { http, lines, _datagrams: datagrams, file };
        let seen = |_: &_| !world.logged().is_empty();
        gateway.until("/r/warm", seen);
        world
    }

    /// The targets in the file.
    fn logged(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let uri = |line: &str| {
            let document: Value = serde_json::from_str(line).ok()?;
            Some(document["request"]["uri"].as_str()?.to_owned())
        };
        text.lines().filter_map(uri).collect()
    }

    /// The ids of the entries that the sink of http-log accepted.
    fn accepted(&self) -> HashSet<String> {
        let posts = self.http.posts();
        let entries = posts.iter().flat_map(|post| post.json().as_array().cloned().unwrap());
        entries.map(|entry| entry["request"]["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Sends so many requests over some connections; gives how long each took, sorted.
fn load(gateway: &Gateway, requests: usize) -> Vec<Duration> {
    let client = |number: usize| {
        let mut connection = Connection::open(gateway.proxy);
        let took = |at: usize| {
            let begun = Instant::now();
            let answer = connection.call("GET", &format!("/r/{number}/{at}"), &[], b"");
            assert_eq!(answer.status, 200);
            begun.elapsed()
        };
        (0..requests / CLIENTS).map(took).collect::<Vec<_>>()
    };
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(n))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    all.sort_unstable();
    all
}

fn check(driver: &str, requests: usize) {
    let echo = Echo::start();
    let gateway = Gateway::start(driver, &[]);
    gateway.route("/r", echo.port);
    let world = World::around(&gateway);
    until(|| (book(&gateway).queued == 0).then_some(()));
    let (before, warm) = (book(&gateway), world.logged().len());
    let done = AtomicBool::new(false);
    let took = std::thread::scope(|scope| {
        scope.spawn(|| {
            for mood in MOODS.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                world.http.set(*mood);
                std::thread::sleep(MOOD);
            }
            world.http.set(Mood::Answers(200));
        });
        let took = load(&gateway, requests);
        done.store(true, Ordering::Relaxed);
        took
    });
    let after = until(|| Some(book(&gateway)).filter(|book| book.queued == 0));
    assert_eq!(after.received - before.received, PLUGINS * requests as u64, "{after:?}");
    // The neighbour of all that trouble has everything, once.
    let logged = world.logged();
    let distinct: HashSet<_> = logged.iter().filter(|uri| *uri != "/r/warm").collect();
    assert_eq!((logged.len() - warm, distinct.len()), (requests, requests));
    let (delivered, accepted) = (delivered_to(&gateway, "http-log"), world.accepted().len());
    assert!(accepted as u64 >= delivered, "{delivered} are said to be delivered, {accepted} came");
    assert_eq!(delivered_to(&gateway, "statsd"), 0, "nobody listens");
    assert!(after.dropped > before.dropped, "{after:?}");
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    eprintln!(
        "{driver}: {requests} requests, {after:?}; http-log delivered {delivered}, its sink has \
         {accepted} and refused {}; tcp-log delivered {}, its sink has {}; p50 {:?} p99 {:?} max {:?}",
        world.http.refused(),
        delivered_to(&gateway, "tcp-log"),
        world.lines.count(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

#[test]
fn each_entry_is_delivered_or_counted_whatever_its_sink_does() {
    check("epoll", 1_200);
}

#[test]
#[ignore = "a minute"]
fn the_same_for_a_minute_on_every_driver() {
    for driver in drivers() {
        check(driver, 120_000);
    }
}
