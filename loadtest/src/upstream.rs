//! The upstream: reads requests, throws their bodies away, answers with JSON of a known length.
//!
//! `/bytes/N` anywhere at the end of the path asks for N bytes, else the length is fixed.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use crate::{body::Body, engine::Poll};

/// More header lines than this in a request are a fault.
const HEADERS_MAX: usize = 100;
/// The longest answer that a path can ask for.
const ANSWER_BYTES_MAX: usize = 1 << 24;

/// The listening socket and all its connections.
#[derive(Debug)]
pub struct Upstream {
    /// None while it is down.
    listener: Option<TcpListener>,
    addr: SocketAddr,
    served: Vec<Option<Served>>,
    free: Vec<usize>,
    answers: Answers,
    /// Requests answered since the start.
    pub requests: u64,
}

/// The answer made last: nearly every request wants the same.
#[derive(Debug, Default)]
struct Answers {
    body_bytes: usize,
    made_for: Option<usize>,
    made: Vec<u8>,
}

/// One connection of the gateway.
#[derive(Debug)]
struct Served {
    stream: TcpStream,
    head: Vec<u8>,
    body: Body,
    /// The length of the answer that follows the body.
    owed: Option<usize>,
    unsent: Vec<u8>,
    sent: usize,
}

impl Upstream {
    /// Listens at `listen`; answers have `body_bytes` where the path does not say.
    ///
    /// # Errors
    /// The kernel's: address in use.
    pub fn new(listen: SocketAddr, body_bytes: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let (addr, listener) = (listener.local_addr()?, Some(listener));
        let answers = Answers { body_bytes, ..Answers::default() };
        Ok(Self { listener, addr, served: Vec::new(), free: Vec::new(), answers, requests: 0 })
    }

    /// The listening socket, to be watched; none while it is down.
    pub fn listener(&self) -> Option<&TcpListener> {
        self.listener.as_ref()
    }

    /// Closes the port and every connection, as the end of its process would.
    pub fn kill(&mut self) {
        self.listener = None;
        self.served.clear();
        self.free.clear();
    }

    /// Opens the same port again; its listener has to be watched.
    ///
    /// # Errors
    /// The kernel's: somebody else has taken the port.
    pub fn revive(&mut self) -> io::Result<&TcpListener> {
        let listener = TcpListener::bind(self.addr)?;
        listener.set_nonblocking(true)?;
        Ok(self.listener.insert(listener))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.served.iter().flatten().count()
    }

    /// Takes every connection that waits.
    ///
    /// # Errors
    /// The kernel's, if a connection cannot be watched.
    pub fn accept(&mut self, poll: &Poll) -> io::Result<()> {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or(self.served.len());
            if index == self.served.len() {
                self.served.push(None);
            }
            poll.add_served(&stream, index)?;
            self.served[index] = Some(Served {
                stream,
                head: Vec::new(),
                body: Body::None,
                owed: None,
                unsent: Vec::new(),
                sent: 0,
            });
        }
        Ok(())
    }

    /// Reads and answers what came for connection `index`; forgets it when it is over.
    pub fn ready(&mut self, index: usize, gone: bool, page: &mut [u8]) {
        let Some(served) = self.served.get_mut(index).and_then(Option::as_mut) else { return };
        let requests = &mut self.requests;
        if !served.ready(gone, page, &mut self.answers, requests) {
            self.served[index] = None;
            self.free.push(index);
        }
    }
}

impl Served {
    /// Does what can be done now; false when the connection is over.
    fn ready(
        &mut self,
        gone: bool,
        page: &mut [u8],
        answers: &mut Answers,
        requests: &mut u64,
    ) -> bool {
        if !self.flush() {
            return false;
        }
        loop {
            match self.stream.read(page) {
                Ok(0) => return false,
                Ok(n) => {
                    if !self.take(&page[..n], answers, requests) {
                        return false;
                    }
                    if n < page.len() && !gone {
                        return true;
                    }
                }
                Err(fault) => return fault.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Takes bytes of requests and answers each that is complete; false on nonsense.
    fn take(&mut self, bytes: &[u8], answers: &mut Answers, requests: &mut u64) -> bool {
        let mut bytes = bytes;
        loop {
            if self.owed.is_none() {
                if bytes.is_empty() {
                    return true;
                }
                match self.begin(bytes, answers.body_bytes) {
                    Some(Some(used)) => bytes = &bytes[used..],
                    Some(None) => return true,
                    None => return false,
                }
            }
            let Ok(used) = self.body.take(bytes) else { return false };
            bytes = &bytes[used..];
            if !self.body.is_over() {
                return true;
            }
            if let Some(body_bytes) = self.owed.take() {
                *requests += 1;
                if !self.answer(answers.get(body_bytes)) {
                    return false;
                }
            }
        }
    }

    /// Reads a head: `None` is nonsense, `Some(None)` wants more, else how many of `bytes` it took.
    fn begin(&mut self, bytes: &[u8], body_bytes: usize) -> Option<Option<usize>> {
        let before = self.head.len();
        if before > 0 {
            self.head.extend_from_slice(bytes);
        }
        let whole = if before > 0 { &self.head[..] } else { bytes };
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut lines);
        match head.parse(whole).ok()? {
            httparse::Status::Partial => {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                Some(None)
            }
            httparse::Status::Complete(n) => {
                self.body = Body::announced(head.headers).unwrap_or(Body::None);
                self.owed = Some(wanted_bytes(head.path.unwrap_or("/")).unwrap_or(body_bytes));
                self.head.clear();
                Some(Some(n - before))
            }
        }
    }

    /// Sends an answer, or keeps what the kernel does not take; false when the peer is gone.
    fn answer(&mut self, answer: &[u8]) -> bool {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(answer);
            return true;
        }
        match self.stream.write(answer) {
            Ok(n) => {
                self.unsent.extend_from_slice(&answer[n..]);
                n == answer.len() || self.flush()
            }
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(answer);
                true
            }
            Err(_) => false,
        }
    }

    /// Sends what is kept; false when the peer is gone.
    fn flush(&mut self) -> bool {
        while self.sent < self.unsent.len() {
            match self.stream.write(&self.unsent[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(fault) => return fault.kind() == io::ErrorKind::WouldBlock,
            }
        }
        self.unsent.clear();
        self.sent = 0;
        true
    }
}

impl Answers {
    /// The whole answer with a body of `body_bytes`.
    fn get(&mut self, body_bytes: usize) -> &[u8] {
        if self.made_for != Some(body_bytes) {
            self.made_for = Some(body_bytes);
            self.made.clear();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
            self.made.extend_from_slice(format!("{head}{body_bytes}\r\n\r\n").as_bytes());
            json_of(body_bytes, &mut self.made);
        }
        &self.made
    }
}

/// Appends JSON of exactly `bytes` bytes (below 10 there is no room for a string: digits).
pub fn json_of(bytes: usize, out: &mut Vec<u8>) {
    const FRAME: &[u8] = b"{\"pad\":\"\"}";
    let end = out.len() + bytes;
    if bytes < FRAME.len() {
        return out.resize(end, b'1');
    }
    out.extend_from_slice(&FRAME[..8]);
    out.resize(end - 2, b'x');
    out.extend_from_slice(&FRAME[8..]);
}

/// The N of a path that ends with `/bytes/N`, before any query; larger ones than allowed count as
/// the largest.
fn wanted_bytes(path: &str) -> Option<usize> {
    let path = path.split('?').next().unwrap_or(path);
    let (before, number) = path.rsplit_once('/')?;
    let number: usize = before.ends_with("/bytes").then(|| number.parse().ok()).flatten()?;
    Some(number.min(ANSWER_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_ask_for_a_length() {
        for (path, expected) in [
            ("/bytes/5", Some(5)),
            ("/load/bytes/1024?n=3", Some(1024)),
            ("/bytes/x", None),
            ("/5", None),
            ("/", None),
        ] {
            assert_eq!(wanted_bytes(path), expected, "{path}");
        }
    }

    #[test]
    fn bodies_are_json_of_the_length_asked_for() {
        for bytes in [1, 5, 9, 10, 11, 1_024, 65_536] {
            let mut body = Vec::new();
            json_of(bytes, &mut body);
            assert_eq!(body.len(), bytes);
            serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        }
    }

    /// Sends `asks` in pieces of `piece` bytes and counts the answers.
    #[track_caller]
    fn check(asks: &str, piece: usize, answers: usize) {
        let mut engine = crate::engine::Engine::new("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let mut client = TcpStream::connect(engine.upstream.addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        for part in asks.as_bytes().chunks(piece) {
            client.write_all(part).unwrap();
            engine.serve_for(2).unwrap();
        }
        client.set_nonblocking(true).unwrap();
        let mut got = Vec::new();
        let _ = client.read_to_end(&mut got);
        assert_eq!(String::from_utf8(got).unwrap().matches("200 OK").count(), answers);
        assert_eq!(engine.upstream.requests, answers as u64);
    }

    #[test]
    fn requests_are_answered_however_they_arrive() {
        let post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let chunked = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        let asks = format!("GET / HTTP/1.1\r\n\r\n{post}{chunked}");
        check(&asks, 1_000, 3);
        check(&asks, 7, 3);
        check(&post[..post.len() - 1], 1_000, 0);
    }
}
