//! Calls of an Admin API over one connection.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::Fault;

/// A longer answer is a fault.
const BODY_BYTES_MAX: u64 = 64 << 20;
const WAIT_SECONDS_MAX: u64 = 120;

/// A client of an Admin API.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Admin {
    /// A client that connects at its first call.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, stream: None }
    }

    /// Makes one call: the status and the body, null where it is no JSON.
    ///
    /// # Errors
    /// No connection, no complete answer within two minutes.
    pub fn call(&mut self, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.get_mut().write_all(request.as_bytes())?;
        let (status, close, bytes) = read_answer(&mut stream)?;
        if !close {
            self.stream = Some(stream);
        }
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// Makes a call that must be answered with 2xx: the body.
    ///
    /// # Errors
    /// As [`Admin::call`], and any other status, with the answer in the words.
    pub fn must(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, Fault> {
        match self.call(method, path, body)? {
            (200..=299, answer) => Ok(answer),
            (status, answer) => Err(format!("{method} {path}: {status} {answer}").into()),
        }
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let wait = Duration::from_secs(WAIT_SECONDS_MAX);
        let stream = TcpStream::connect_timeout(&self.addr, wait)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(wait))?;
        Ok(BufReader::new(stream))
    }
}

/// Reads one answer: status, whether the connection ends, body.
fn read_answer(stream: &mut impl BufRead) -> io::Result<(u16, bool, Vec<u8>)> {
    let bad = |words: &str| io::Error::new(io::ErrorKind::InvalidData, words.to_owned());
    let first = read_line(stream)?;
    let status = first.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| bad("no status line"))?;
    let (mut length, mut chunked, mut close) = (None, false, false);
    loop {
        let line = read_line(stream)?.to_ascii_lowercase();
        let Some((name, value)) = line.split_once(':') else { break };
        match (name, value.trim()) {
            ("content-length", value) => length = value.parse::<u64>().ok(),
            ("transfer-encoding", "chunked") => chunked = true,
            ("connection", "close") => close = true,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if status == 204 {
        return Ok((status, close, body));
    }
    if chunked {
        loop {
            let size = u64::from_str_radix(read_line(stream)?.trim(), 16);
            let size = size.map_err(|_| bad("no chunk size"))?;
            stream.take(size.min(BODY_BYTES_MAX)).read_to_end(&mut body)?;
            read_line(stream)?;
            if size == 0 {
                return Ok((status, close, body));
            }
        }
    }
    stream.take(length.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX)).read_to_end(&mut body)?;
    Ok((status, close || length.is_none(), body))
}

/// One line without its end; an ended connection is a fault.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, status: u16, close: bool, body: &str) {
        let found = read_answer(&mut answer.as_bytes()).unwrap();
        assert_eq!(found, (status, close, body.as_bytes().to_vec()));
    }

    #[test]
    fn answers_end_where_they_say() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}x", 200, false, "{}");
        let chunked = "HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        check(chunked, 201, false, "{}");
        check("HTTP/1.1 204 No\r\nConnection: close\r\n\r\n", 204, true, "");
        check("HTTP/1.0 404 No\r\n\r\nabc", 404, true, "abc");
        assert!(read_answer(&mut "HTTP/1.1 200 OK\r\n".as_bytes()).is_err());
    }
}
