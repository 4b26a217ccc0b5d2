//! A collector in Moesif's place: it keeps every event, and can refuse them for a while.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A running collector.
pub(crate) struct Collector {
    pub(crate) port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    config: Option<String>,
    rules: Option<String>,
    status: u16,
    refused: usize,
    events: Vec<serde_json::Value>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let port = super::gateway::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let seen = Arc::new(Mutex::new(Seen { status: 201, ..Seen::default() }));
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { port, seen }
    }

    /// What it answers from now on.
    pub(crate) fn answer(&self, status: u16) {
        self.seen.lock().unwrap().status = status;
    }

    /// What it says about the application; nothing at first, and then it answers 404.
    pub(crate) fn say(&self, config: &serde_json::Value, rules: &serde_json::Value) {
        let mut seen = self.seen.lock().unwrap();
        seen.config = Some(config.to_string());
        seen.rules = Some(rules.to_string());
    }

    /// How many batches it refused.
    pub(crate) fn refused(&self) -> usize {
        self.seen.lock().unwrap().refused
    }

    /// The events that it accepted so far.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        self.seen.lock().unwrap().events.clone()
    }

    /// Waits until so many events are here, and a little longer for what must not come.
    pub(crate) fn wait(&self, events: usize) -> Vec<serde_json::Value> {
        let begun = Instant::now();
        while self.events().len() < events {
            assert!(begun.elapsed() < Duration::from_secs(30), "{} events", self.events().len());
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(300));
        self.events()
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let (mut line, mut length, mut post) = (String::new(), 0, false);
        let (mut config, mut rules) = (false, false);
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            post |= line.starts_with("POST /v1/events/batch ");
            config |= line.starts_with("GET /v1/config ");
            rules |= line.starts_with("GET /v1/rules ");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut seen = seen.lock().unwrap();
        let said = match (config, rules) {
            (true, _) => seen.config.clone(),
            (_, true) => seen.rules.clone(),
            _ => None,
        };
        let status = match (post, &said) {
            (true, _) => seen.status,
            (false, Some(_)) => 200,
            (false, None) => 404,
        };
        let said = said.unwrap_or_default();
        if post && status == 201 {
            let batch: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
            seen.events.extend(batch);
        } else if post {
            seen.refused += 1;
        }
        let length = said.len();
        let answer = format!("HTTP/1.1 {status} Some\r\nContent-Length: {length}\r\n\r\n{said}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
