//! An upstream that says who it is, answers as it is told to, and can be killed and revived.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a peer does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers.
    Answers,
    /// Reads the request and closes.
    Closes,
    /// Answers with what is no HTTP.
    Babbles,
    /// Reads the request and says nothing.
    IsSilent,
}

/// A running peer. Its body is its name.
pub(crate) struct Peer {
    pub(crate) port: u16,
    name: &'static str,
    own: Arc<Own>,
    ear: Option<thread::JoinHandle<()>>,
}

struct Own {
    status: AtomicU16,
    delay_ms: AtomicU64,
    mood: Mutex<Mood>,
    heads: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

impl Peer {
    pub(crate) fn start(name: &'static str) -> Self {
        let own = Arc::new(Own {
            status: AtomicU16::new(200),
            delay_ms: AtomicU64::new(0),
            mood: Mutex::new(Mood::Answers),
            heads: Mutex::default(),
            open: Mutex::default(),
            stopped: AtomicBool::new(true),
        });
        let mut peer = Self { port: super::gateway::free_port(), name, own, ear: None };
        peer.revive();
        peer
    }

    /// As a target of an upstream.
    pub(crate) fn target(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Listens again, on the same port.
    pub(crate) fn revive(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.own.stopped.store(false, Ordering::SeqCst);
        let (own, name) = (Arc::clone(&self.own), self.name);
        self.ear = Some(thread::spawn(move || {
            while !own.stopped.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        own.open.lock().unwrap().push(stream.try_clone().unwrap());
                        let own = Arc::clone(&own);
                        thread::spawn(move || serve(&own, name, stream));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        }));
    }

    /// Closes every connection and the port.
    pub(crate) fn kill(&mut self) {
        self.own.stopped.store(true, Ordering::SeqCst);
        self.ear.take().unwrap().join().unwrap();
        for stream in self.own.open.lock().unwrap().drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn answer_with(&self, status: u16) {
        self.own.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn delay(&self, ms: u64) {
        self.own.delay_ms.store(ms, Ordering::SeqCst);
    }

    pub(crate) fn is(&self, mood: Mood) {
        *self.own.mood.lock().unwrap() = mood;
    }

    /// The heads of the requests so far whose line contains `part`.
    pub(crate) fn heads(&self, part: &str) -> Vec<String> {
        let heads = self.own.heads.lock().unwrap();
        let has = |head: &&String| head.lines().next().is_some_and(|line| line.contains(part));
        heads.iter().filter(has).cloned().collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.ear.is_some() {
            self.kill();
        }
    }
}

fn serve(own: &Own, name: &str, mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(head) = head(&mut reader) {
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        own.heads.lock().unwrap().push(head);
        thread::sleep(Duration::from_millis(own.delay_ms.load(Ordering::SeqCst)));
        let mood = *own.mood.lock().unwrap();
        let status = own.status.load(Ordering::SeqCst);
        let answer = match mood {
            Mood::Answers => {
                format!("HTTP/1.1 {status} Fine\r\nContent-Length: {}\r\n\r\n{name}", name.len())
            }
            Mood::Babbles => "what do you mean?\r\n\r\n".to_owned(),
            Mood::Closes => {
                let _gone = stream.shutdown(Shutdown::Both);
                return;
            }
            Mood::IsSilent => continue,
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(head);
        }
        head.push_str(&line);
    }
}
