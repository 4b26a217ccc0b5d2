//! An upstream that answers as it is told, and keeps what it got.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// What it got: the head as it came, and the body without its coding.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Value>,
    got: Vec<Got>,
}

pub(crate) struct Upstream {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Upstream {
    pub(crate) fn start(port: u16) -> Self {
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

    /// The answers to come, in order; forgets what was left and what it got.
    pub(crate) fn expect(&self, answers: Vec<Value>) {
        let mut state = self.state.lock().unwrap();
        *state = State { answers: answers.into(), got: Vec::new() };
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap().got.clone()
    }
}

/// Requests follow each other until the other end goes.
fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut ahead = Vec::new();
    loop {
        let head = until(&mut stream, &mut ahead, b"\r\n\r\n").ok()?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let body = body(&mut stream, &mut ahead, &head).ok()?;
        let answer = {
            let mut state = state.lock().unwrap();
            state.got.push(Got { head: head.clone(), body });
            state.answers.pop_front()
        };
        stream.write_all(&written(answer.as_ref(), head.starts_with("HEAD "))).ok()?;
    }
}

/// An answer as bytes; what was not expected is a 599.
fn written(answer: Option<&Value>, is_head: bool) -> Vec<u8> {
    let Some(answer) = answer else {
        return b"HTTP/1.1 599 Unexpected\r\nContent-Length: 0\r\n\r\n".to_vec();
    };
    let body = answer["body"].as_str().unwrap_or("");
    let mut out = format!("HTTP/1.1 {} Recorded\r\n", answer["status"]);
    for pair in answer["headers"].as_array().into_iter().flatten() {
        out += &format!("{}: {}\r\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    }
    out += &format!("Content-Length: {}\r\n\r\n", body.len());
    if !is_head {
        out += body;
    }
    out.into_bytes()
}

fn body(stream: &mut TcpStream, ahead: &mut Vec<u8>, head: &str) -> io::Result<Vec<u8>> {
    let field = |name: &str| {
        head.lines().filter_map(|line| line.split_once(':')).find_map(|(own, value)| {
            own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if field("transfer-encoding").is_some() {
        let mut body = Vec::new();
        loop {
            let line = until(stream, ahead, b"\r\n")?;
            let size =
                usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            let mut chunk = exactly(stream, ahead, size + 2)?;
            chunk.truncate(size);
            if size == 0 {
                return Ok(body);
            }
            body.extend(chunk);
        }
    }
    exactly(stream, ahead, field("content-length").map_or(0, |length| length.parse().unwrap()))
}

fn until(stream: &mut TcpStream, ahead: &mut Vec<u8>, mark: &[u8]) -> io::Result<Vec<u8>> {
    loop {
        if let Some(at) = ahead.windows(mark.len()).position(|window| window == mark) {
            return Ok(ahead.drain(..at + mark.len()).collect());
        }
        more(stream, ahead)?;
    }
}

fn exactly(stream: &mut TcpStream, ahead: &mut Vec<u8>, bytes: usize) -> io::Result<Vec<u8>> {
    while ahead.len() < bytes {
        more(stream, ahead)?;
    }
    Ok(ahead.drain(..bytes).collect())
}

fn more(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            ahead.extend_from_slice(&buffer[..read]);
            Ok(())
        }
    }
}
