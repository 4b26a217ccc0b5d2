//! The upstream and the sinks: they answer as they are told, and keep what they get.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::free_port;

/// How long something that never answers keeps its connection.
const SILENCE: Duration = Duration::from_secs(3);

/// A request: its head and its body.
pub(crate) type Got = (String, String);

#[derive(Default)]
struct State {
    answers: VecDeque<Value>,
    got: Vec<Got>,
}

/// A server of requests.
pub(crate) struct Server {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { port, state }
    }

    /// The answers to come, in order; forgets what it got. A null is never answered.
    pub(crate) fn expect(&self, answers: Vec<Value>) {
        *self.state.lock().unwrap() = State { answers: answers.into(), got: Vec::new() };
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap().got.clone()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
        });
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let answer = {
            let mut state = state.lock().unwrap();
            state.got.push((head.clone(), String::from_utf8_lossy(&body).into_owned()));
            state.answers.pop_front()
        };
        if answer.as_ref().is_some_and(Value::is_null) {
            thread::sleep(SILENCE);
            return;
        }
        let answer = answer.unwrap_or(Value::Null);
        let body = answer["body"].as_str().unwrap_or("ok").to_owned();
        let mut text = format!("HTTP/1.1 {} X\r\n", answer["status"].as_u64().unwrap_or(200));
        for pair in answer["headers"].as_array().into_iter().flatten() {
            let (name, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n", body.len());
        if !head.starts_with("HEAD ") {
            text += &body;
        }
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// What takes lines and datagrams, in order of arrival.
#[derive(Clone, Default)]
pub(crate) struct Heap(Arc<Mutex<Vec<String>>>);

impl Heap {
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Lines over connections; gives the port.
    pub(crate) fn lines(&self) -> u16 {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let heap = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heap = heap.clone();
                thread::spawn(move || {
                    for line in BufReader::new(stream).lines().map_while(Result::ok) {
                        heap.0.lock().unwrap().push(line);
                    }
                });
            }
        });
        port
    }

    /// Messages to a socket of this machine.
    pub(crate) fn messages(&self, path: &std::path::Path) {
        let socket = std::os::unix::net::UnixDatagram::bind(path).unwrap();
        let heap = self.clone();
        thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            while let Ok(read) = socket.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                heap.0.lock().unwrap().push(text);
            }
        });
    }

    /// Datagrams; gives the port.
    pub(crate) fn datagrams(&self) -> u16 {
        let port = free_port();
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        let heap = self.clone();
        thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            while let Ok(read) = socket.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                heap.0.lock().unwrap().push(text);
            }
        });
        port
    }
}
