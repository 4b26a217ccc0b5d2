//! One answer of a gateway, as its bytes arrive.

use crate::body::Body;

/// More header lines than this in an answer are a fault.
const HEADERS_MAX: usize = 100;
/// A longer head of an answer is a fault.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A complete answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whether the connection ends with it.
    pub close: bool,
    /// The bytes of the body, chunk heads included.
    pub body_bytes: u64,
    /// The value of the wanted header line, empty if the answer has none.
    pub wanted: String,
}

/// Why bytes are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAnswer {
    /// The head cannot be read or is too large.
    Head,
    /// A chunk's length cannot be read.
    Chunk,
    /// More bytes came than belong to the answer.
    Surplus,
}

/// Reads one answer after another.
#[derive(Debug, Default)]
pub struct Parser {
    /// A header line whose value is kept; none costs least.
    want: Option<&'static str>,
    head: Vec<u8>,
    answer: Answer,
    body: Body,
    in_body: bool,
}

impl Parser {
    /// A parser that keeps the value of header line `want` of each answer.
    pub fn new(want: Option<&'static str>) -> Self {
        Self { want, ..Self::default() }
    }

    /// Whether the next byte would begin an answer.
    pub fn is_fresh(&self) -> bool {
        !self.in_body && self.head.is_empty()
    }

    /// Forgets a half-read answer.
    pub fn reset(&mut self) {
        self.head.clear();
        self.in_body = false;
    }

    /// Takes bytes; gives the answer when they complete it.
    ///
    /// # Errors
    /// [`BadAnswer`]: the connection is of no more use.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Answer>, BadAnswer> {
        let mut bytes = bytes;
        while !self.in_body {
            match self.head(bytes)? {
                Some(used) => bytes = &bytes[used..],
                None => return Ok(None),
            }
        }
        let used = self.body.take(bytes).map_err(|_| BadAnswer::Chunk)?;
        self.answer.body_bytes += used as u64;
        if !self.body.is_over() {
            return Ok(None);
        }
        if used < bytes.len() {
            return Err(BadAnswer::Surplus);
        }
        Ok(Some(self.finish()))
    }

    /// Tells that the connection ended; gives the answer if that completes it.
    pub fn closed(&mut self) -> Option<Answer> {
        let complete = self.in_body && self.body == Body::UntilClose;
        complete.then(|| self.finish())
    }

    fn finish(&mut self) -> Answer {
        self.reset();
        std::mem::take(&mut self.answer)
    }

    /// Tries to complete the head with `bytes`: how many of them belonged to it.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadAnswer> {
        let before = self.head.len();
        if before == 0 {
            let read = read_head(bytes, self.want)?;
            return Ok(self.begin(read, 0, bytes));
        }
        self.head.extend_from_slice(bytes);
        let read = read_head(&self.head, self.want)?;
        let used = self.begin(read, before, &[]);
        if used.is_some() {
            self.head.clear();
        }
        Ok(used)
    }

    fn begin(
        &mut self,
        read: Option<(usize, Answer, Body)>,
        before: usize,
        keep: &[u8],
    ) -> Option<usize> {
        let Some((head_bytes, answer, body)) = read else {
            self.head.extend_from_slice(keep);
            return None;
        };
        // An interim answer (100, 103) is followed by the real one.
        self.in_body = answer.status >= 200;
        (self.answer, self.body) = (answer, body);
        Some(head_bytes - before)
    }
}

/// Reads a head: its length, the answer so far, and the body that follows.
fn read_head(
    bytes: &[u8],
    want: Option<&'static str>,
) -> Result<Option<(usize, Answer, Body)>, BadAnswer> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut lines);
    let head_bytes = match head.parse(bytes).map_err(|_| BadAnswer::Head)? {
        httparse::Status::Complete(n) => n,
        httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => return Err(BadAnswer::Head),
        httparse::Status::Partial => return Ok(None),
    };
    let status = head.code.unwrap_or(0);
    let bare = status < 200 || status == 204 || status == 304;
    let announced = Body::announced(head.headers).unwrap_or(Body::UntilClose);
    let body = if bare { Body::None } else { announced };
    let value = |name: &str| {
        let line = head.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name));
        line.map(|line| line.value)
    };
    let says_close = value("connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
    let close = says_close || head.version == Some(0) || body == Body::UntilClose;
    let wanted =
        want.and_then(value).map_or_else(String::new, |v| String::from_utf8_lossy(v).into_owned());
    Ok(Some((head_bytes, Answer { status, close, body_bytes: 0, wanted }, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` whole and byte by byte and compares the answer.
    #[track_caller]
    fn check(text: &str, expected: &Result<Option<Answer>, BadAnswer>) {
        let mut parser = Parser::new(Some("X-Id"));
        assert_eq!(&parser.feed(text.as_bytes()), expected, "whole");
        let mut parser = Parser::new(Some("X-Id"));
        let mut last = Ok(None);
        for byte in text.bytes() {
            if last != Ok(None) {
                return;
            }
            last = parser.feed(&[byte]);
        }
        assert_eq!(&last, expected, "byte by byte");
    }

    fn answer(status: u16, body_bytes: u64, wanted: &str, close: bool) -> Answer {
        Answer { status, body_bytes, wanted: wanted.into(), close }
    }

    #[test]
    fn answers_are_read_however_they_arrive() {
        let full = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-id: 7\r\n\r\nok";
        check(full, &Ok(Some(answer(200, 2, "7", false))));
        check(&full[..full.len() - 1], &Ok(None));
        let chunked = "HTTP/1.1 429 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        check(chunked, &Ok(Some(answer(429, 11, "", false))));
        check("HTTP/1.1 204 No\r\nConnection: close\r\n\r\n", &Ok(Some(answer(204, 0, "", true))));
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        check(interim, &Ok(Some(answer(200, 0, "", false))));
        check("HTTQ", &Err(BadAnswer::Head));
    }

    #[test]
    fn surplus_bytes_are_a_fault() {
        let mut parser = Parser::default();
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab";
        assert_eq!(parser.feed(bytes), Err(BadAnswer::Surplus));
    }

    #[test]
    fn a_closed_connection_ends_a_body_without_length() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(b"HTTP/1.1 200 OK\r\n\r\nabc"), Ok(None));
        assert_eq!(parser.closed(), Some(answer(200, 3, "", true)));
        assert_eq!(parser.closed(), None);
    }
}
