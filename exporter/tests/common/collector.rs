//! A collector on loopback: takes batches, remembers every event, answers as it is told.

#![allow(dead_code, reason = "each test file uses a part of it")]

use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// One POST as it came.
pub(crate) struct Post {
    pub(crate) head: String,
    pub(crate) events: Vec<Value>,
    pub(crate) status: u16,
    pub(crate) at: Instant,
}

pub(crate) type Answer = Box<dyn Fn(&[Value]) -> u16 + Send + Sync>;

/// Instead of a status: the connection ends without an answer.
pub(crate) const CUT: u16 = 0;

/// The collector; lives until the test ends.
pub(crate) struct Collector {
    pub(crate) url: String,
    pub(crate) posts: Mutex<Vec<Post>>,
    status: AtomicU16,
    answer: Mutex<Option<Arc<Answer>>>,
    accepted: Mutex<HashMap<String, usize>>,
    /// What it says about the application; nothing at first, and then it answers 404.
    pub(crate) says: Mutex<Says>,
    /// The paths of the GETs that came.
    pub(crate) gets: Mutex<Vec<String>>,
}

/// Configuration and rules with their tags.
#[derive(Clone, Default)]
pub(crate) struct Says {
    pub(crate) config: Option<Value>,
    pub(crate) rules: Option<Value>,
    pub(crate) config_tag: String,
    pub(crate) rules_tag: String,
}

impl Says {
    fn tags(&self) -> String {
        let line = |name: &str, tag: &str| match tag {
            "" => String::new(),
            tag => format!("X-Moesif-{name}: {tag}\r\n"),
        };
        line("Config-ETag", &self.config_tag) + &line("Rules-Tag", &self.rules_tag)
    }
}

impl Collector {
    pub(crate) fn start() -> Arc<Self> {
        let listener = listener();
        let collector = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            posts: Mutex::default(),
            status: AtomicU16::new(201),
            answer: Mutex::default(),
            accepted: Mutex::default(),
            says: Mutex::default(),
            gets: Mutex::default(),
        });
        let accepting = Arc::clone(&collector);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let collector = Arc::clone(&accepting);
                thread::spawn(move || collector.serve(stream.unwrap()));
            }
        });
        collector
    }

    /// The status of all answers from now on.
    pub(crate) fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Decides the status by the batch.
    pub(crate) fn answer_by(&self, answer: Answer) {
        *self.answer.lock().unwrap() = Some(Arc::new(answer));
    }

    /// How often each transaction id was accepted.
    pub(crate) fn accepted(&self) -> HashMap<String, usize> {
        self.accepted.lock().unwrap().clone()
    }

    /// Waits until so many different ids are accepted.
    #[track_caller]
    pub(crate) fn wait_for(&self, ids: usize, seconds: u64) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while self.accepted.lock().unwrap().len() < ids {
            let found = self.accepted.lock().unwrap().len();
            assert!(Instant::now() < deadline, "{found} of {ids} events after {seconds} s");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some((head, body)) = read_request(&mut reader) {
            if head.starts_with("get ") {
                let answer = self.told(&head);
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
                continue;
            }
            let body =
                if head.contains("content-encoding: deflate") { inflated(&body) } else { body };
            let events: Vec<Value> = serde_json::from_slice(&body).unwrap();
            let answer = self.answer.lock().unwrap().clone();
            let by = answer.map(|answer| answer(&events));
            let status = by.unwrap_or_else(|| self.status.load(Ordering::SeqCst));
            if status == 201 {
                let mut accepted = self.accepted.lock().unwrap();
                for event in &events {
                    let id = event["transaction_id"].as_str().unwrap().to_owned();
                    *accepted.entry(id).or_default() += 1;
                }
            }
            self.posts.lock().unwrap().push(Post { head, events, status, at: Instant::now() });
            if status == CUT {
                return;
            }
            let tags = self.says.lock().unwrap().tags();
            let answer = format!("HTTP/1.1 {status} x\r\n{tags}Content-Length: 2\r\n\r\n{{}}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

impl Collector {
    /// The answer to a GET.
    fn told(&self, head: &str) -> String {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let says = self.says.lock().unwrap().clone();
        let body = if path.ends_with("/config") { &says.config } else { &says.rules };
        let status = if body.is_some() { 200 } else { 404 };
        let body = body.as_ref().map(ToString::to_string).unwrap_or_default();
        self.gets.lock().unwrap().push(path);
        let (tags, length) = (says.tags(), body.len());
        format!("HTTP/1.1 {status} x\r\n{tags}Content-Length: {length}\r\n\r\n{body}")
    }
}

/// A listener on a free port that clients are not given by the system.
fn listener() -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 400) as u16 * 25;
    for _attempt in 0..10_000 {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener;
        }
    }
    panic!("no free port");
}

/// Head in lower case, and body; `None` when the connection is over (also in the middle, as when
/// the sender is killed).
fn read_request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let head = head.to_ascii_lowercase();
    if head.starts_with("get ") {
        return Some((head, Vec::new()));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = Vec::new();
    if let Some(length) = length {
        body.resize(length.trim().parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
        return Some((head, body));
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(body.get_mut(start..)?).ok()?;
        reader.read_line(&mut line).ok()?;
        if length == 0 {
            return Some((head, body));
        }
    }
}

fn inflated(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::ZlibDecoder::new(body).read_to_end(&mut out).unwrap();
    out
}
