//! Bodies: how long they are, and where their bytes lie in what was received.
//!
//! The decoder gives ranges of the caller's slice, so nothing is copied. Chunks are read to the
//! letter: CRLF only, plain hex, bounded extensions and trailers. Extensions are dropped; trailers
//! that may be believed are kept, see [`super::trailers`].

use super::head::{Fields, HeadFault, Known, Request, Response, Seen, Version};
use super::trailers;
use std::fmt;
use std::ops::Range;

/// Longest body that Content-Length or one chunk may declare, in bytes: what fits a signed word.
pub const LENGTH_MAX: u64 = i64::MAX as u64;
/// Hex digits of a chunk size, leading zeros included.
pub const CHUNK_DIGITS_MAX: u8 = 16;
/// Bytes that the chunk extensions of one body may take together.
pub const EXTENSION_BYTES_MAX: u32 = 16 * 1024;
/// Bytes that the trailers of one body may take together.
pub const TRAILER_BYTES_MAX: u32 = 8 * 1024;

const FRAMES: Seen = Seen::of(&[Known::ContentLength, Known::TransferEncoding]);

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection; responses only.
    UntilClose,
}

/// How the body of a received HTTP/1 request ends.
///
/// # Errors
/// Anything that two servers could read differently: `Length…` and `Coding…` of [`HeadFault`].
///
/// Source: nginx `ngx_http_process_request_header`, in its order.
pub fn request_framing(request: &Request) -> Result<Framing, HeadFault> {
    if !request.fields.seen().meets(FRAMES) {
        return Ok(Framing::None);
    }
    let length = declared_length(request.fields.all_known(Known::ContentLength))?;
    let chunked = is_chunked(request.fields.all_known(Known::TransferEncoding), request.version)?;
    match (chunked, length) {
        (true, Some(_)) => Err(HeadFault::LengthAndCoding),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(length)) => Ok(Framing::Length(length)),
        (false, None) => Ok(Framing::None),
    }
}

/// How the body of a response ends, by the method of its request.
///
/// Content-Length beside `chunked` is read as chunked, as nginx does: what goes to the client is
/// framed anew, and [`super::write::persists`] never lets such a connection be used again.
/// The caller leaves HTTP behind after a 101.
///
/// # Errors
/// Two Content-Length lines (equal ones too), a bad one, a Transfer-Encoding other than `chunked`
/// or in HTTP/1.0: a 502.
pub fn response_framing(response: &Response, request_method: &str) -> Result<Framing, HeadFault> {
    let bodiless = matches!(response.status, 100..200 | 204 | 304) || request_method == "HEAD";
    if bodiless {
        return Ok(Framing::None);
    }
    let length = declared_length(response.fields.all_known(Known::ContentLength))?;
    let codings = response.fields.all_known(Known::TransferEncoding);
    match (is_chunked(codings, response.version)?, length) {
        (true, _) => Ok(Framing::Chunked),
        (false, Some(length)) => Ok(Framing::Length(length)),
        (false, None) => Ok(Framing::UntilClose),
    }
}

/// Whether the client waits for `100 Continue` before it sends its body.
pub fn expects_continue(request: &Request) -> bool {
    request.version == Version::H11
        && request
            .fields
            .get_known(Known::Expect)
            .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

pub(crate) fn declared_length<'v>(
    mut values: impl Iterator<Item = &'v [u8]>,
) -> Result<Option<u64>, HeadFault> {
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(HeadFault::LengthRepeated),
        (Some(value), None) => plain_number(value).map(Some).ok_or(HeadFault::LengthBad),
    }
}

/// Digits only, up to [`LENGTH_MAX`].
fn plain_number(value: &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for byte in value {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!value.is_empty() && number <= LENGTH_MAX).then_some(number)
}

fn is_chunked<'v>(
    mut values: impl Iterator<Item = &'v [u8]>,
    version: Version,
) -> Result<bool, HeadFault> {
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(_), Some(_)) => Err(HeadFault::CodingRepeated),
        (Some(_), None) if version == Version::H10 => Err(HeadFault::CodingTooOld),
        (Some(value), None) if value.eq_ignore_ascii_case(b"chunked") => Ok(true),
        (Some(_), None) => Err(HeadFault::CodingUnknown),
    }
}

/// What is wrong with a body. The status for a client is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// A chunk size that is not plain hex, too long, or not followed by CRLF.
    ChunkSize,
    /// A control byte in a chunk extension.
    Extension,
    /// More than [`EXTENSION_BYTES_MAX`].
    ExtensionTooLong,
    /// Chunk data that is not followed by CRLF.
    ChunkEnd,
    /// A malformed trailer line.
    Trailer,
    /// More than [`TRAILER_BYTES_MAX`].
    TrailerTooLong,
    /// The connection ended before the body did.
    Truncated,
}

impl BodyFault {
    /// The status that a client gets.
    pub const fn status(self) -> u16 {
        400
    }

    /// The fault in words, for the log.
    pub const fn words(self) -> &'static str {
        match self {
            Self::ChunkSize => "a chunk size is malformed",
            Self::Extension => "a chunk extension is malformed",
            Self::ExtensionTooLong => "the chunk extensions are too long",
            Self::ChunkEnd => "a chunk does not end where it said",
            Self::Trailer => "a trailer is malformed",
            Self::TrailerTooLong => "the trailers are too long",
            Self::Truncated => "the body ended early",
        }
    }
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for BodyFault {}

/// One step of a [`Decoder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// How many bytes of the input are dealt with; the piece lies among them.
    pub used: usize,
    /// Body bytes, as a range of the input; may be empty.
    pub piece: Range<usize>,
    /// Whether the body is complete. What follows `used` belongs to the next message.
    pub done: bool,
}

/// Where the reader of a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Length,
    UntilClose,
    /// Before the first digit of a chunk size.
    Size,
    SizeDigits,
    /// Spaces after a size; some old servers pad there.
    SizePadding,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataEnd,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
}

/// Finds the bytes of one body in what arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoder {
    state: State,
    /// Bytes left of the body or the chunk; while a size is read, the size so far.
    left: u64,
    digits: u8,
    extension_bytes: u32,
    /// The lines after the last chunk, each with `\n` behind it.
    trailers: Vec<u8>,
}

impl Decoder {
    /// A decoder at the start of a body.
    pub const fn new(framing: Framing) -> Self {
        let (state, left) = match framing {
            Framing::None | Framing::Length(0) => (State::Done, 0),
            Framing::Length(length) => (State::Length, length),
            Framing::Chunked => (State::Size, 0),
            Framing::UntilClose => (State::UntilClose, 0),
        };
        Self { state, left, digits: 0, extension_bytes: 0, trailers: Vec::new() }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The lines after a chunked body that has ended, without those that may not be there; none
    /// where there were none. Gives them once.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        if self.trailers.is_empty() || !self.is_done() {
            return None;
        }
        let fields = trailers::read(&std::mem::take(&mut self.trailers));
        (!fields.is_empty()).then_some(fields)
    }

    /// Bytes that are still to come, when that is known.
    pub fn bytes_left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length => Some(self.left),
            _ => None,
        }
    }

    /// Takes the next bytes; gives at most one piece.
    ///
    /// Call again with what follows `used`, until `done` or nothing is left. Always uses at least
    /// one byte unless the input is empty or the body is done.
    ///
    /// # Errors
    /// The chunks are malformed: nothing after this can be trusted, the connection has to close.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Decoded, BodyFault> {
        match self.state {
            State::Done => Ok(Decoded { used: 0, piece: 0..0, done: true }),
            State::UntilClose => {
                Ok(Decoded { used: bytes.len(), piece: 0..bytes.len(), done: false })
            }
            State::Length => {
                let take = self.take(bytes.len());
                if self.left == 0 {
                    self.state = State::Done;
                }
                Ok(Decoded { used: take, piece: 0..take, done: self.is_done() })
            }
            _ => self.step_chunked(bytes),
        }
    }

    /// The connection has ended; is the body complete?
    ///
    /// # Errors
    /// `Truncated`.
    pub fn end(&mut self) -> Result<(), BodyFault> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyFault::Truncated),
        }
    }

    /// How many of `offered` bytes are of this body or chunk; counts them.
    fn take(&mut self, offered: usize) -> usize {
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(offered);
        self.left -= take as u64;
        take
    }

    fn step_chunked(&mut self, bytes: &[u8]) -> Result<Decoded, BodyFault> {
        let (mut used, mut piece) = (0, 0..0);
        while let Some(&byte) = bytes.get(used) {
            match self.state {
                State::Done => break,
                State::Data if piece.is_empty() => {
                    let take = self.take(bytes.len() - used);
                    piece = used..used + take;
                    used += take;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                }
                State::Data => break,
                _ => {
                    self.state = self.after(byte)?;
                    used += 1;
                }
            }
        }
        Ok(Decoded { used, piece, done: self.is_done() })
    }

    /// The state after one byte that is not data.
    fn after(&mut self, byte: u8) -> Result<State, BodyFault> {
        match (self.state, byte) {
            (State::Size | State::SizeDigits, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (State::SizeDigits | State::SizePadding | State::Extension, b'\r') => {
                Ok(State::SizeEnd)
            }
            (State::SizeDigits | State::SizePadding, b';') => self.extension(State::Extension),
            (State::SizeDigits | State::SizePadding, b' ' | b'\t') => {
                self.extension(State::SizePadding)
            }
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extension(State::Extension),
            (State::Extension, _) => Err(BodyFault::Extension),
            (State::SizeEnd, b'\n') if self.left == 0 => Ok(State::TrailerStart),
            (State::SizeEnd, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataEnd),
            (State::DataEnd, b'\n') => {
                self.digits = 0;
                Ok(State::Size)
            }
            (State::DataCr | State::DataEnd, _) => Err(BodyFault::ChunkEnd),
            (State::TrailerStart, b'\r') => Ok(State::LastEnd),
            (State::LastEnd, b'\n') => Ok(State::Done),
            (State::Trailer, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerEnd, b'\n') => self.trailer(byte).map(|_| State::TrailerStart),
            (State::TrailerStart, b'!'..=b'~') => self.trailer(byte),
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => self.trailer(byte),
            (State::TrailerStart | State::Trailer | State::TrailerEnd | State::LastEnd, _) => {
                Err(BodyFault::Trailer)
            }
            _ => Err(BodyFault::ChunkSize),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, BodyFault> {
        let digit = (byte as char).to_digit(16).ok_or(BodyFault::ChunkSize)?;
        self.digits += 1;
        if self.digits > CHUNK_DIGITS_MAX || self.left > LENGTH_MAX >> 4 {
            return Err(BodyFault::ChunkSize);
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::SizeDigits)
    }

    fn extension(&mut self, next: State) -> Result<State, BodyFault> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(BodyFault::ExtensionTooLong);
        }
        Ok(next)
    }

    fn trailer(&mut self, byte: u8) -> Result<State, BodyFault> {
        if self.trailers.len() >= TRAILER_BYTES_MAX as usize {
            return Err(BodyFault::TrailerTooLong);
        }
        self.trailers.push(byte);
        Ok(State::Trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Limits, parse_request, parse_response};
    use crate::http::write;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[track_caller]
    fn check_request(lines: &str, expected: Result<Framing, HeadFault>) {
        let mut request = Request::default();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        parse_request(head.as_bytes(), &Limits::default(), &mut request).unwrap().unwrap();
        assert_eq!(request_framing(&request), expected, "{lines:?}");
    }

    #[test]
    fn requests_are_framed_in_one_way_only() {
        check_request("", Ok(Framing::None));
        check_request("Content-Length: 0\r\n", Ok(Framing::Length(0)));
        check_request("content-LENGTH: 0123\r\n", Ok(Framing::Length(123)));
        check_request("Content-Length: 9223372036854775807\r\n", Ok(Framing::Length(LENGTH_MAX)));
        for bad in ["9223372036854775808", "18446744073709551616", "", "-1", "+1", "1,1", "0x1"] {
            check_request(&format!("Content-Length: {bad}\r\n"), Err(HeadFault::LengthBad));
        }
        let twice = "Content-Length: 1\r\nContent-Length: 1\r\n";
        check_request(twice, Err(HeadFault::LengthRepeated));
        check_request("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked));
        for other in ["gzip, chunked", "identity", "chunked, chunked", "chunked;a", "", ",chunked"]
        {
            let line = format!("Transfer-Encoding: {other}\r\n");
            check_request(&line, Err(HeadFault::CodingUnknown));
        }
        let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
        check_request(twice, Err(HeadFault::CodingRepeated));
        let both = "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n";
        check_request(both, Err(HeadFault::LengthAndCoding));
    }

    #[test]
    fn http_1_0_has_no_chunks() {
        let mut request = Request::default();
        let head = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        parse_request(head, &Limits::default(), &mut request).unwrap().unwrap();
        assert_eq!(request_framing(&request), Err(HeadFault::CodingTooOld));
    }

    #[track_caller]
    fn check_response(head: &str, method: &str, expected: Result<(Framing, bool), HeadFault>) {
        let mut response = Response::default();
        let head = format!("{head}\r\n\r\n");
        parse_response(head.as_bytes(), &Limits::default(), &mut response).unwrap().unwrap();
        let framing = response_framing(&response, method);
        let persists = write::persists(response.version, &response.fields);
        assert_eq!(framing.map(|framing| (framing, persists)), expected, "{method} {head:?}");
    }

    #[test]
    fn responses() {
        let ok = "HTTP/1.1 200 OK";
        let length = "\r\nContent-Length: 5";
        let chunked = "\r\nTransfer-Encoding: chunked";
        check_response(ok, "GET", Ok((Framing::UntilClose, true)));
        check_response(&format!("{ok}{length}"), "GET", Ok((Framing::Length(5), true)));
        check_response(&format!("{ok}{length}"), "HEAD", Ok((Framing::None, true)));
        check_response(&format!("{ok}{chunked}"), "GET", Ok((Framing::Chunked, true)));
        check_response(&format!("{ok}{chunked}{length}"), "GET", Ok((Framing::Chunked, false)));
        check_response(&format!("{ok}{length}{length}"), "GET", Err(HeadFault::LengthRepeated));
        check_response(&format!("{ok}\r\nContent-Length: x"), "GET", Err(HeadFault::LengthBad));
        let gzip = "\r\nTransfer-Encoding: gzip, chunked";
        check_response(&format!("{ok}{gzip}"), "GET", Err(HeadFault::CodingUnknown));
        check_response(&format!("HTTP/1.0 200 OK{chunked}"), "GET", Err(HeadFault::CodingTooOld));
        check_response(&format!("HTTP/1.0 200 OK{length}"), "GET", Ok((Framing::Length(5), false)));
        for status in [100, 103, 204, 304] {
            let head = format!("HTTP/1.1 {status} X{length}");
            check_response(&head, "GET", Ok((Framing::None, true)));
        }
    }

    #[test]
    fn clients_that_wait() {
        let expects = |version: &str, value: &str| {
            let mut request = Request::default();
            let head = format!("POST / HTTP/{version}\r\nHost: a\r\nExpect: {value}\r\n\r\n");
            parse_request(head.as_bytes(), &Limits::default(), &mut request).unwrap().unwrap();
            expects_continue(&request)
        };
        assert!(expects("1.1", "100-Continue"));
        assert!(!expects("1.0", "100-continue") && !expects("1.1", "other"));
    }

    /// Decodes `input`, arriving in pieces of the given sizes in turn. Gives the body and how much
    /// of the input was used, or the fault.
    fn decode(
        framing: Framing,
        input: &[u8],
        sizes: &[usize],
    ) -> Result<(Vec<u8>, usize), BodyFault> {
        let mut decoder = Decoder::new(framing);
        let (mut out, mut used, mut arrived) = (Vec::new(), 0, 0);
        let mut sizes = sizes.iter().cycle();
        while !decoder.is_done() {
            if used == arrived {
                if arrived == input.len() {
                    decoder.end()?;
                    break;
                }
                arrived = input.len().min(arrived + sizes.next().unwrap());
            }
            let step = decoder.step(&input[used..arrived])?;
            assert!(step.used > 0 && step.piece.end <= step.used, "{step:?}");
            assert_eq!(step.done, decoder.is_done());
            out.extend_from_slice(&input[used..arrived][step.piece]);
            used += step.used;
        }
        Ok((out, used))
    }

    #[track_caller]
    fn check_chunks(input: &str, expected: Result<(&str, &str), BodyFault>) {
        for size in [1, 2, 3, 5, 1000] {
            let found = decode(Framing::Chunked, input.as_bytes(), &[size]);
            let found =
                found.map(|(body, used)| (String::from_utf8(body).unwrap(), &input[used..]));
            let expected = expected.map(|(body, rest)| (body.to_owned(), rest));
            assert_eq!(found, expected, "{input:?} in pieces of {size}");
        }
    }

    #[test]
    fn chunks() {
        check_chunks("0\r\n\r\nnext", Ok(("", "next")));
        check_chunks("5\r\nhello\r\n6;a=\"b\"\r\n world\r\n00\r\n\r\nX", Ok(("hello world", "X")));
        check_chunks(
            "a\r\n0123456789\r\nA \t\r\n0123456789\r\n0\r\nA: b\r\nC:\r\n\r\n",
            Ok(("01234567890123456789", "")),
        );
        for bad in
            ["\r\n", "g\r\n", "+5\r\n", " 5\r\n", "-1\r\n", "5\n", "5\r\r\n", "0x5\r\n", "5 5\r\n"]
        {
            check_chunks(bad, Err(BodyFault::ChunkSize));
        }
        check_chunks("00000000000000005\r\n", Err(BodyFault::ChunkSize));
        check_chunks("8000000000000000\r\n", Err(BodyFault::ChunkSize));
        check_chunks("7fffffffffffffff\r\nab", Err(BodyFault::Truncated));
        check_chunks("5;a\rb\r\n", Err(BodyFault::ChunkSize));
        check_chunks("5;a\nb\r\n", Err(BodyFault::Extension));
        check_chunks("5;a\0b\r\n", Err(BodyFault::Extension));
        check_chunks("2\r\nabc\r\n", Err(BodyFault::ChunkEnd));
        check_chunks("2\r\nab\n0\r\n\r\n", Err(BodyFault::ChunkEnd));
        check_chunks("0\r\n\n", Err(BodyFault::Trailer));
        check_chunks("0\r\n a: b\r\n\r\n", Err(BodyFault::Trailer));
        check_chunks("0\r\na: b\n\r\n", Err(BodyFault::Trailer));
        check_chunks("0\r\na: b\0\r\n\r\n", Err(BodyFault::Trailer));
        check_chunks("0\r\n", Err(BodyFault::Truncated));
        let half = EXTENSION_BYTES_MAX as usize / 2;
        let extended = format!("1{}\r\na\r\n", ";".repeat(half)).repeat(2);
        check_chunks(&format!("{extended}0\r\n\r\n"), Ok(("aa", "")));
        check_chunks(&format!("{extended}0;\r\n\r\n"), Err(BodyFault::ExtensionTooLong));
        let trailers = "a: bcde\r\n".repeat(TRAILER_BYTES_MAX as usize / 8);
        check_chunks(&format!("0\r\n{trailers}\r\n"), Ok(("", "")));
        check_chunks(&format!("0\r\n{trailers}{trailers}\r\n"), Err(BodyFault::TrailerTooLong));
    }

    #[test]
    fn lengths_and_closes() {
        let body = |framing| decode(framing, b"hello", &[2]);
        assert_eq!(body(Framing::None), Ok((vec![], 0)));
        assert_eq!(body(Framing::Length(0)), Ok((vec![], 0)));
        assert_eq!(body(Framing::Length(3)), Ok((b"hel".to_vec(), 3)));
        assert_eq!(body(Framing::Length(6)), Err(BodyFault::Truncated));
        assert_eq!(body(Framing::UntilClose), Ok((b"hello".to_vec(), 5)));
        assert_eq!(Decoder::new(Framing::Length(7)).bytes_left(), Some(7));
        assert_eq!(Decoder::new(Framing::Chunked).bytes_left(), None);
    }

    proptest! {
        #[test]
        fn every_split_reads_the_same(
            chunks in vec(vec(any::<u8>(), 1..20), 0..8),
            spoil in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
            sizes in vec(1_usize..9, 1..6),
        ) {
            let mut input = Vec::new();
            for chunk in &chunks {
                write::chunk_head(&mut input, chunk.len());
                input.extend_from_slice(chunk);
                input.extend_from_slice(write::CHUNK_END);
            }
            input.extend_from_slice(write::LAST_CHUNK);
            let clean = input.len();
            input.extend_from_slice(b"GET / HTTP/1.1");
            if let Some((place, byte)) = spoil {
                let place = place.index(input.len());
                input[place] = byte;
            }
            let whole = decode(Framing::Chunked, &input, &[usize::MAX / 2]);
            prop_assert_eq!(&whole, &decode(Framing::Chunked, &input, &sizes));
            if spoil.is_none() {
                prop_assert_eq!(whole, Ok((chunks.concat(), clean)));
            }
        }

        #[test]
        fn no_chunks_panic(input in vec(any::<u8>(), 0..60)) {
            let whole = decode(Framing::Chunked, &input, &[100]);
            prop_assert_eq!(whole, decode(Framing::Chunked, &input, &[1]));
        }
    }
}
