//! What stands in Moesif's place: takes batches of events and keeps the books.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
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

/// How batches are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// With 201, at once.
    #[default]
    Takes,
    /// With this status; nothing is booked.
    Refuses(u16),
    /// With 201, but so many milliseconds late.
    Late(u64),
    /// Not at all, until the manner is another one.
    Frozen,
    /// The batch is booked, and the connection ends without an answer.
    Cuts,
    /// Nobody listens, and open connections end.
    Gone,
}

/// What is said about the application, with tags that tell when it is new.
#[derive(Debug, Clone)]
pub struct Says {
    /// `GET /v1/config`.
    pub config: String,
    /// `GET /v1/rules`.
    pub rules: String,
    /// `X-Moesif-Config-ETag`, left out where empty.
    pub config_tag: String,
    /// `X-Moesif-Rules-Tag`, left out where empty.
    pub rules_tag: String,
}

impl Default for Says {
    fn default() -> Self {
        Self {
            config: r#"{"sample_rate":100}"#.into(),
            rules: "[]".into(),
            config_tag: String::new(),
            rules_tag: String::new(),
        }
    }
}

/// How often a manner is looked at by those who wait for another one.
const LOOK: Duration = Duration::from_millis(5);

/// The books.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// Batches taken with 201.
    pub batches: u64,
    /// Batches that were not taken: refused, frozen or cut off.
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
    /// Events that began between half an hour and two hours before they were taken.
    pub behind: u64,
    /// When the first byte of each batch's POST was there, in whatever way it was answered then:
    /// milliseconds since the collector began, the first [`STARTS_MAX`].
    pub starts_ms: Vec<f64>,
    /// The last event taken.
    pub last: Value,
}

/// Posts whose times are kept.
const STARTS_MAX: usize = 1_000_000;

/// A running collector. Its threads end with the process.
#[derive(Debug, Clone)]
pub struct Collector {
    addr: SocketAddr,
    books: Arc<Mutex<Books>>,
    manner: Arc<Mutex<Manner>>,
    says: Arc<Mutex<Says>>,
    begun: Instant,
}

impl Collector {
    /// Listens at `listen`.
    ///
    /// # Errors
    /// The kernel's: address in use.
    pub fn start(listen: SocketAddr, depth: Depth) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        let collector = Self {
            addr: listener.local_addr()?,
            books: Arc::default(),
            manner: Arc::default(),
            says: Arc::default(),
            begun: Instant::now(),
        };
        let own = collector.clone();
        thread::Builder::new()
            .name("collector".into())
            .spawn(move || own.listen(Some(listener), depth))?;
        Ok(collector)
    }

    /// The address for `config.api_endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Milliseconds since it began: the clock of [`Books::starts_ms`].
    pub fn elapsed_ms(&self) -> f64 {
        self.begun.elapsed().as_secs_f64() * 1e3
    }

    /// Answers 503 to batches from now on, or no longer.
    pub fn refuse(&self, refusing: bool) {
        self.behave(if refusing { Manner::Refuses(503) } else { Manner::Takes });
    }

    /// Answers batches like this from now on.
    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
        if manner == Manner::Gone {
            // Whoever waits for a connection looks up.
            drop(TcpStream::connect(self.addr));
        }
    }

    /// Says this about the application from now on.
    pub fn say(&self, says: Says) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }

    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts for ever, but for the times when nobody is to be there.
    fn listen(&self, first: Option<TcpListener>, depth: Depth) {
        let mut listener = first;
        loop {
            let gone = self.manner() == Manner::Gone;
            match &listener {
                Some(_) if gone => listener = None,
                Some(open) => {
                    if let Ok((stream, _)) = open.accept() {
                        let own = self.clone();
                        thread::spawn(move || own.serve(stream, depth));
                    }
                    continue;
                }
                None if !gone => listener = TcpListener::bind(self.addr).ok(),
                None => {}
            }
            thread::sleep(LOOK);
        }
    }

    /// The books, to read now.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream, depth: Depth) {
        if self.manner() == Manner::Gone {
            return;
        }
        let _ = stream.set_nodelay(true);
        let mut stream = BufReader::new(stream);
        while let Ok(Some(request)) = read_request(&mut stream) {
            let Some(answer) = self.answer(&request, depth) else { return };
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    /// The answer to one request; none ends the connection.
    fn answer(&self, request: &Request, depth: Depth) -> Option<String> {
        let path = request.path.split('?').next().unwrap_or_default();
        let says = self.says.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (status, body) = match (request.method.as_str(), path) {
            _ if self.manner() == Manner::Gone => return None,
            ("GET", path) if path.ends_with("/v1/config") => ("200 OK".into(), &*says.config),
            ("GET", path) if path.ends_with("/v1/rules") => ("200 OK".into(), &*says.rules),
            ("POST", path) if path.ends_with("/v1/events/batch") => {
                (self.batch(request, depth)?, r#"{"success":true}"#)
            }
            _ => {
                self.books().strange += 1;
                ("404 Not Found".into(), "")
            }
        };
        let tag = |name: &str, tag: &str| match tag {
            "" => String::new(),
            tag => format!("X-Moesif-{name}: {tag}\r\n"),
        };
        let length = body.len();
        let tags = tag("Config-ETag", &says.config_tag) + &tag("Rules-Tag", &says.rules_tag);
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{tags}");
        Some(format!("{head}Content-Length: {length}\r\n\r\n{body}"))
    }

    /// The status of one batch; none if it gets no answer.
    fn batch(&self, request: &Request, depth: Depth) -> Option<String> {
        let (manner, body) = (self.manner(), &request.body);
        let start_ms = request.came.saturating_duration_since(self.begun).as_secs_f64() * 1e3;
        self.books().starts(start_ms);
        match manner {
            Manner::Takes | Manner::Late(_) | Manner::Cuts => self.books().take(body, depth),
            Manner::Refuses(_) | Manner::Frozen | Manner::Gone => self.books().refused += 1,
        }
        match manner {
            Manner::Takes => Some("201 Created".into()),
            Manner::Refuses(503) => Some("503 Service Unavailable".into()),
            Manner::Refuses(status) => Some(format!("{status} Refused")),
            Manner::Late(ms) => {
                thread::sleep(Duration::from_millis(ms));
                Some("201 Created".into())
            }
            Manner::Frozen => {
                while self.manner() == Manner::Frozen {
                    thread::sleep(LOOK);
                }
                None
            }
            Manner::Cuts | Manner::Gone => None,
        }
    }
}

impl Books {
    fn starts(&mut self, start_ms: f64) {
        if self.starts_ms.len() < STARTS_MAX {
            self.starts_ms.push(start_ms);
        }
    }

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
            let time = event["request"]["time"].as_str().unwrap_or_default();
            self.behind += u64::from(is_behind(time));
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

/// Whether a time of today or yesterday (UTC) is between half an hour and two hours ago.
fn is_behind(time: &str) -> bool {
    let digits = |at: usize| time.get(at..at + 2).and_then(|text| text.parse::<u64>().ok());
    let (Some(hour), Some(minute)) = (digits(11), digits(14)) else { return false };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ago = (now.as_secs() / 60 + 1_440 - (hour * 60 + minute) % 1_440) % 1_440;
    (30..120).contains(&ago)
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
    /// When its first byte was there.
    came: Instant,
}

/// Reads one request; `None` when the connection ended before it or within it: a sender that was
/// killed half-way has sent no batch.
fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    stream.fill_buf()?;
    let came = Instant::now();
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
    Ok(Some(Request { method, path, body: unpack(&encoding, body)?, came }))
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
    fn it_behaves_as_it_is_told() {
        let collector = start(Depth::Book);
        collector.behave(Manner::Cuts);
        assert_eq!(send(&collector, &batch(TWO.as_bytes(), "")), "");
        collector.behave(Manner::Gone);
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(collector.addr).is_ok() {
            assert!(std::time::Instant::now() < until, "somebody listens");
            thread::sleep(LOOK);
        }
        collector.behave(Manner::Late(50));
        while TcpStream::connect(collector.addr).is_err() {
            assert!(std::time::Instant::now() < until, "nobody listens");
            thread::sleep(LOOK);
        }
        let begun = std::time::Instant::now();
        assert_eq!(send(&collector, &batch(TWO.as_bytes(), "")), "HTTP/1.1 201 Created");
        assert!(begun.elapsed() >= Duration::from_millis(50));
        collector.behave(Manner::Refuses(402));
        assert_eq!(send(&collector, &batch(TWO.as_bytes(), "")), "HTTP/1.1 402 Refused");
        let books = collector.books();
        assert_eq!((books.batches, books.refused, books.ids["a"]), (2, 1, 2));
    }

    #[test]
    fn it_says_what_it_is_told() {
        let collector = start(Depth::Count);
        let (config, rules_tag) = ("{}".to_owned(), "r2".to_owned());
        collector.say(Says { config, rules_tag, ..Says::default() });
        let mut stream = TcpStream::connect(collector.addr).unwrap();
        stream.write_all(b"GET /v1/config HTTP/1.1\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "X-Moesif-Rules-Tag: r2"));
        assert!(lines.any(|line| line == "Content-Length: 2"));
    }

    #[test]
    fn it_has_no_rules() {
        let collector = start(Depth::Count);
        assert_eq!(send(&collector, b"GET /v1/rules HTTP/1.1\r\n\r\n"), "HTTP/1.1 200 OK");
        assert_eq!(send(&collector, b"GET /x HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
        assert_eq!(collector.books().strange, 1);
    }
}
