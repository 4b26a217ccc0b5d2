//! What stands in Moesif's place: takes batches of events and keeps the books.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::Value;

/// How closely batches are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Counts events by their `transaction_id` fields: costs next to nothing.
    Count,
    /// Reads every event and books its transaction id and its request number.
    Book,
}

/// The books.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// Batches taken with 201.
    pub batches: u64,
    /// Batches refused with 503 while told to.
    pub refused: u64,
    /// Requests that were no batch or could not be read.
    pub strange: u64,
    /// Events in the batches taken, repeated ones included.
    pub events: u64,
    /// How often each transaction id came (`Depth::Book` only).
    pub ids: HashMap<String, u64>,
    /// The transaction ids of each request number, which stands in the URI as `n=`.
    pub numbers: HashMap<u64, Vec<String>>,
    /// Events without a transaction id.
    pub nameless: u64,
    /// The last event taken.
    pub last: Value,
}

/// A running collector. Its threads end with the process.
#[derive(Debug, Clone)]
pub struct Collector {
    addr: SocketAddr,
    books: Arc<Mutex<Books>>,
    refusing: Arc<AtomicBool>,
}

impl Collector {
    /// Listens at `listen`.
    ///
    /// # Errors
    /// The kernel's: address in use.
    pub fn start(listen: SocketAddr, depth: Depth) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        let collector =
            Self { addr: listener.local_addr()?, books: Arc::default(), refusing: Arc::default() };
        let own = collector.clone();
        thread::Builder::new().name("collector".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                thread::spawn(move || own.serve(stream, depth));
            }
        })?;
        Ok(collector)
    }

    /// The address for `config.api_endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers 503 to batches from now on, or no longer.
    pub fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::Relaxed);
    }

    /// The books, to read now.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream, depth: Depth) {
        let _ = stream.set_nodelay(true);
        let mut stream = BufReader::new(stream);
        while let Ok(Some(request)) = read_request(&mut stream) {
            let answer = self.answer(&request, depth);
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request, depth: Depth) -> String {
        let path = request.path.split('?').next().unwrap_or_default();
        let (status, body) = match (request.method.as_str(), path) {
            ("GET", path) if path.ends_with("/v1/config") => ("200 OK", r#"{"sample_rate":100}"#),
            ("GET", path) if path.ends_with("/v1/rules") => ("200 OK", "[]"),
            ("POST", path) if path.ends_with("/v1/events/batch") => {
                if self.refusing.load(Ordering::Relaxed) {
                    self.books().refused += 1;
                    ("503 Service Unavailable", "")
                } else {
                    self.books().take(&request.body, depth);
                    ("201 Created", r#"{"success":true}"#)
                }
            }
            _ => {
                self.books().strange += 1;
                ("404 Not Found", "")
            }
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n");
        format!("{head}Content-Length: {length}\r\n\r\n{body}")
    }
}

impl Books {
    /// Books one batch.
    fn take(&mut self, body: &[u8], depth: Depth) {
        self.batches += 1;
        if depth == Depth::Count {
            self.events += memchr::memmem::find_iter(body, b"\"transaction_id\"").count() as u64;
            return;
        }
        let Ok(Value::Array(events)) = serde_json::from_slice(body) else {
            self.strange += 1;
            return;
        };
        for event in events {
            self.events += 1;
            let Some(id) = event["transaction_id"].as_str().map(str::to_owned) else {
                self.nameless += 1;
                continue;
            };
            let uri = event["request"]["uri"].as_str().unwrap_or_default();
            if let Some(number) = number_of(uri) {
                let ids = self.numbers.entry(number).or_default();
                if !ids.contains(&id) {
                    ids.push(id.clone());
                }
            }
            *self.ids.entry(id).or_default() += 1;
            self.last = event;
        }
    }
}

/// The number in `…?n=<number>`.
fn number_of(uri: &str) -> Option<u64> {
    let (_, rest) = uri.split_once("?n=")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// One request, its body unpacked.
struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
}

/// Reads one request; `None` when the connection ended before it or within it: a sender that was
/// killed half-way has sent no batch.
fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut chunked, mut encoding) = (0_u64, false, String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Ok(None);
        }
        let line = line.trim_end().to_ascii_lowercase();
        let Some((name, value)) = line.split_once(':') else { break };
        match name {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "transfer-encoding" => chunked = true,
            "content-encoding" => encoding = value.trim().to_owned(),
            "expect" => stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(stream, &mut body)?;
    } else {
        read_exactly(stream, length, &mut body)?;
    }
    Ok(Some(Request { method, path, body: unpack(&encoding, body)? }))
}

fn read_exactly(stream: &mut impl BufRead, bytes: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = stream.take(bytes).read_to_end(body)? as u64;
    if read == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        read_exactly(stream, size, body)?;
        line.clear();
        stream.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn unpack(encoding: &str, body: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match encoding {
        "gzip" => flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut out)?,
        "deflate" => flate2::read::ZlibDecoder::new(&body[..]).read_to_end(&mut out)?,
        _ => return Ok(body),
    };
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends one request and gives back the status line of the answer.
    fn send(collector: &Collector, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(collector.addr).unwrap();
        stream.write_all(request).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn batch(body: &[u8], headers: &str) -> Vec<u8> {
        let head = "POST /v1/events/batch HTTP/1.1\r\n";
        let head = format!("{head}{headers}Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn start(depth: Depth) -> Collector {
        Collector::start("127.0.0.1:0".parse().unwrap(), depth).unwrap()
    }

    const TWO: &str = r#"[{"transaction_id":"a","request":{"uri":"http://h/x?n=7"}},
        {"transaction_id":"b","request":{"uri":"http://h/x?n=7"}}]"#;

    #[test]
    fn events_are_booked_by_id_and_number() {
        let collector = start(Depth::Book);
        for _ in 0..2 {
            assert_eq!(send(&collector, &batch(TWO.as_bytes(), "")), "HTTP/1.1 201 Created");
        }
        let books = collector.books();
        assert_eq!((books.batches, books.events, books.strange), (2, 4, 0));
        assert_eq!(books.ids["a"], 2);
        assert_eq!(books.numbers[&7], ["a", "b"]);
    }

    #[test]
    fn packed_batches_are_unpacked() {
        let collector = start(Depth::Count);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(TWO.as_bytes()).unwrap();
        let request = batch(&packed.finish().unwrap(), "Content-Encoding: gzip\r\n");
        assert_eq!(send(&collector, &request), "HTTP/1.1 201 Created");
        assert_eq!(collector.books().events, 2);
    }

    #[test]
    fn a_batch_that_was_cut_is_no_batch() {
        let collector = start(Depth::Book);
        for whole in [batch(TWO.as_bytes(), ""), b"POST /v1/events/batch HTTP/1.1\r\n\r\n".into()] {
            let mut stream = TcpStream::connect(collector.addr).unwrap();
            stream.write_all(&whole[..whole.len() - 1]).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "");
        }
        let books = collector.books();
        assert_eq!((books.batches, books.strange), (0, 0));
    }

    #[test]
    fn it_refuses_when_told_to() {
        let collector = start(Depth::Book);
        collector.refuse(true);
        let line = send(&collector, &batch(TWO.as_bytes(), ""));
        assert_eq!(line, "HTTP/1.1 503 Service Unavailable");
        let books = collector.books();
        assert_eq!((books.refused, books.events), (1, 0));
    }

    #[test]
    fn it_has_no_rules() {
        let collector = start(Depth::Count);
        assert_eq!(send(&collector, b"GET /v1/rules HTTP/1.1\r\n\r\n"), "HTTP/1.1 200 OK");
        assert_eq!(send(&collector, b"GET /x HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
        assert_eq!(collector.books().strange, 1);
    }
}
