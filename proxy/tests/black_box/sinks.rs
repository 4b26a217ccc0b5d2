//! Stand-ins for log sinks: they keep what they get, and misbehave when told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for entries.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a sink does with a request.
#[derive(Clone, Copy)]
pub(crate) enum Mood {
    /// Answers with a status.
    Answers(u16),
    /// Answers 200, late.
    Slow(Duration),
    /// Reads and never answers.
    Hangs,
    /// Closes in the middle of the request.
    Closes,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Post {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// A server for log entries.
pub(crate) struct HttpSink {
    pub(crate) port: u16,
    kept: Arc<Mutex<(Mood, Vec<Post>, usize)>>,
}

impl HttpSink {
    pub(crate) fn start() -> Self {
        let port = super::gateway::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let kept = Arc::new(Mutex::new((Mood::Answers(200), Vec::new(), 0)));
        let shared = Arc::clone(&kept);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { port, kept }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.kept.lock().unwrap().0 = mood;
    }

    /// What was accepted so far.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.kept.lock().unwrap().1.clone()
    }

    /// How many requests were not accepted.
    pub(crate) fn refused(&self) -> usize {
        self.kept.lock().unwrap().2
    }

    /// Waits for so many accepted requests.
    pub(crate) fn wait(&self, posts: usize) -> Vec<Post> {
        until(|| Some(self.posts()).filter(|kept| kept.len() >= posts))
    }
}

/// Repeats a look until it finds something.
pub(crate) fn until<T>(look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain");
        thread::sleep(Duration::from_millis(10));
    }
}

fn serve(stream: TcpStream, kept: &Mutex<(Mood, Vec<Post>, usize)>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mood = kept.lock().unwrap().0;
        let headers: Vec<(String, String)> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
        if matches!(mood, Mood::Closes) {
            kept.lock().unwrap().2 += 1;
            return;
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let status = match mood {
            Mood::Answers(status) => status,
            Mood::Slow(time) => {
                thread::sleep(time);
                200
            }
            _ => {
                kept.lock().unwrap().2 += 1;
                thread::sleep(PATIENCE);
                return;
            }
        };
        let post = Post { line: lines[0].clone(), headers, body };
        {
            let mut kept = kept.lock().unwrap();
            if (200..300).contains(&status) {
                kept.1.push(post);
            } else {
                kept.2 += 1;
            }
        }
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A server that keeps lines, one list for each connection.
pub(crate) struct LineSink {
    pub(crate) port: u16,
    lines: Arc<Mutex<Vec<Vec<String>>>>,
}

impl LineSink {
    pub(crate) fn start() -> Self {
        Self::closing_after(usize::MAX)
    }

    /// Closes each connection after so many lines.
    pub(crate) fn closing_after(lines_max: usize) -> Self {
        let port = super::gateway::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                let number = {
                    let mut lines = shared.lock().unwrap();
                    lines.push(Vec::new());
                    lines.len() - 1
                };
                thread::spawn(move || {
                    let lines = BufReader::new(stream).lines().map_while(Result::ok);
                    for line in lines.take(lines_max) {
                        shared.lock().unwrap()[number].push(line);
                    }
                });
            }
        });
        Self { port, lines }
    }

    /// How many lines it has in all.
    pub(crate) fn count(&self) -> usize {
        self.lines.lock().unwrap().iter().map(Vec::len).sum()
    }

    /// Waits for so many lines in all.
    pub(crate) fn wait(&self, count: usize) -> Vec<Vec<String>> {
        until(|| {
            let lines = self.lines.lock().unwrap().clone();
            (lines.iter().map(Vec::len).sum::<usize>() >= count).then_some(lines)
        })
    }
}

/// A receiver of datagrams.
pub(crate) struct Datagrams {
    pub(crate) port: u16,
    socket: UdpSocket,
}

impl Datagrams {
    pub(crate) fn start() -> Self {
        let port = super::gateway::free_port();
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { port, socket }
    }

    /// The next datagrams.
    pub(crate) fn wait(&self, count: usize) -> Vec<String> {
        let mut bytes = vec![0; 65_536];
        let mut next = || {
            let read = self.socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..read].to_vec()).unwrap()
        };
        (0..count).map(|_| next()).collect()
    }
}
