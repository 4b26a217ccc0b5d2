//! An upstream that answers with a description of the request it received. Paths steer it:
//! `/status/N`, `/delay/MS`, `/bytes/N`, `/close`, `/early` (answers before it reads the body),
//! `/reports/N` (says `v=N` in X-Kong-Limit).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A running upstream; its threads end with the test process.
pub(crate) struct Echo {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let port = super::gateway::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || serve(stream));
            }
        });
        Self { port, connections }
    }

    /// How many connections it accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn serve(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some((line, headers)) = head(&mut reader) {
        let target = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let segments: Vec<&str> = target.split(['/', '?']).collect();
        let after = |name: &str| {
            let at = segments.iter().position(|segment| *segment == name)?;
            segments.get(at + 1)?.parse::<usize>().ok()
        };
        if segments.contains(&"early") {
            let answer = b"HTTP/1.1 403 Early\r\nContent-Length: 5\r\n\r\nearly";
            stream.write_all(answer).unwrap();
        }
        let Some(body) = body(&mut reader, &headers) else { return };
        if segments.contains(&"early") {
            continue;
        }
        if let Some(ms) = after("delay") {
            thread::sleep(Duration::from_millis(ms as u64));
        }
        if segments.contains(&"close") {
            return;
        }
        let method = line.split(' ').next().unwrap_or("");
        let answer = match after("bytes") {
            Some(bytes) => (0..bytes).map(|at| b'a' + (at % 26) as u8).collect(),
            None => description(method, &target, &headers, &body),
        };
        let status = after("status").unwrap_or(200);
        let mut out =
            format!("HTTP/1.1 {status} Fine\r\nContent-Type: application/json\r\n").into_bytes();
        if let Some(amount) = after("reports") {
            out.extend(format!("X-Kong-Limit: v={amount}\r\n").bytes());
        }
        let bodiless = matches!(status, 204 | 304);
        if !bodiless {
            out.extend(format!("Content-Length: {}\r\n", answer.len()).bytes());
        }
        out.extend_from_slice(b"\r\n");
        if method != "HEAD" && !bodiless {
            out.extend(answer);
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

type Headers = Vec<(String, String)>;

fn head(reader: &mut BufReader<TcpStream>) -> Option<(String, Headers)> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut headers = Vec::new();
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        let field = field.trim_end();
        if field.is_empty() {
            return Some((line.trim_end().to_owned(), headers));
        }
        let (name, value) = field.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn body(reader: &mut BufReader<TcpStream>, headers: &Headers) -> Option<Vec<u8>> {
    let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    if find("transfer-encoding") == Some("chunked") {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                return Some(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    let mut body = vec![0; find("content-length").map_or(0, |v| v.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn description(method: &str, target: &str, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut lines = serde_json::Map::new();
    for (name, value) in headers {
        let slot = lines.entry(name.clone()).or_insert_with(|| serde_json::json!([]));
        slot.as_array_mut().unwrap().push(value.as_str().into());
    }
    let text = String::from_utf8_lossy(body);
    let shown =
        if body.len() > 4_096 { format!("{} bytes", body.len()) } else { text.into_owned() };
    serde_json::json!({ "method": method, "uri": target, "headers": lines, "body": shown })
        .to_string()
        .into_bytes()
}
