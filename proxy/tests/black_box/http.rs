//! A small HTTP/1.1 client for tests: it reads exactly one response, and shows all of it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a test waits for bytes before it fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// One response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// A connection that carries requests one after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, ahead: Vec::new() }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a request and reads its response.
    pub(crate) fn call(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        self.send(&request(method, target, headers, body));
        self.read(method == "HEAD").expect("a whole response")
    }

    /// Reads one response; interim ones are skipped.
    pub(crate) fn read(&mut self, headless: bool) -> io::Result<Response> {
        loop {
            let head = self.until(b"\r\n\r\n")?;
            let mut response = parse(&head);
            if response.status / 100 == 1 && response.status != 101 {
                continue;
            }
            if headless || matches!(response.status, 101 | 204 | 304) {
                return Ok(response);
            }
            if response.header("transfer-encoding").is_some_and(|v| v == "chunked") {
                response.body = self.chunks()?;
            } else if let Some(length) = response.header("content-length") {
                response.body = self.exactly(length.parse().unwrap())?;
            } else {
                self.stream.read_to_end(&mut self.ahead)?;
                response.body = std::mem::take(&mut self.ahead);
            }
            return Ok(response);
        }
    }

    /// Whether the other end has closed, and said nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let digits = std::str::from_utf8(&line).unwrap().trim();
            let size = usize::from_str_radix(digits, 16).unwrap();
            if size == 0 {
                self.until(b"\r\n")?;
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            self.exactly(2)?;
        }
    }

    fn until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.ahead.windows(mark.len()).position(|window| window == mark) {
                return Ok(self.ahead.drain(..at + mark.len()).collect());
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < bytes {
            self.more()?;
        }
        Ok(self.ahead.drain(..bytes).collect())
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.ahead.extend_from_slice(&buffer[..read]);
        Ok(())
    }
}

/// The bytes of a request. A body gets a Content-Length, unless a coding is given.
pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut out = format!("{method} {target} HTTP/1.1\r\n");
    if !has("host") {
        out += "Host: gateway.test\r\n";
    }
    for (name, value) in headers {
        out += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() && !has("transfer-encoding") {
        out += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut out = (out + "\r\n").into_bytes();
    out.extend_from_slice(body);
    out
}

fn parse(head: &[u8]) -> Response {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Response::new(&mut fields);
    parsed.parse(head).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Response {
        status: parsed.code.unwrap(),
        headers: parsed.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect(),
        body: Vec::new(),
    }
}

/// A response out of all bytes of a connection.
#[allow(dead_code, reason = "one of the programs that share this file needs it")]
pub(crate) fn whole(bytes: &[u8]) -> Response {
    let mark = b"\r\n\r\n";
    let end = bytes.windows(mark.len()).position(|window| window == mark).expect("a head");
    let (head, body) = bytes.split_at(end + mark.len());
    let mut response = parse(head);
    let chunked = response.header("transfer-encoding").is_some_and(|v| v == "chunked");
    assert!(!chunked, "this reader knows no chunks");
    response.body = body.to_vec();
    response
}

/// One request on a connection of its own.
pub(crate) fn call(
    port: u16,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    Connection::open(port).call(method, target, headers, body)
}

/// A GET request on a connection of its own.
pub(crate) fn get(port: u16, target: &str, headers: &[(&str, &str)]) -> Response {
    call(port, "GET", target, headers, b"")
}
