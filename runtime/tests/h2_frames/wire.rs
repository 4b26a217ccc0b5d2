//! HTTP/2 by hand: frames and header blocks written byte by byte, and what a server answers, read
//! so far as the cases need it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// How long a case may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn integer(mut number: usize, bits: u8, first: u8, out: &mut Vec<u8>) {
    let most = (1_usize << bits) - 1;
    if number < most {
        return out.push(first | number as u8);
    }
    out.push(first | most as u8);
    number -= most;
    while number >= 128 {
        out.push((number % 128) as u8 | 128);
        number /= 128;
    }
    out.push(number as u8);
}

/// A header block of plain literals.
pub(crate) fn block(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in lines {
        out.push(0);
        for text in [name, value] {
            integer(text.len(), 7, 0, &mut out);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A frame that came from the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl std::fmt::Debug for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, flags, stream, payload } = self;
        write!(f, "[{kind} flags {flags} stream {stream}: {}]", payload.escape_ascii())
    }
}

impl Came {
    /// The code of RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let four = self.payload.get(at..at + 4).unwrap_or(&[0xff; 4]);
        u32::from_be_bytes(four.try_into().unwrap())
    }

    /// The status of a response's head, as h2 writes it: its first field.
    pub(crate) fn status(&self) -> u16 {
        match self.payload[..] {
            [indexed @ 0x88..=0x8e, ..] => {
                [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]
            }
            [0x48 | 0x08, 3, a, b, c, ..] => {
                String::from_utf8(vec![a, b, c]).unwrap().parse().unwrap()
            }
            [0x48 | 0x08, length @ 0x80..=0xff, ..] => {
                let bytes = &self.payload[2..2 + usize::from(length & 0x7f)];
                huffman_digits(bytes).parse().unwrap()
            }
            _ => panic!("no status: {self:?}"),
        }
    }
}

/// Digits in the code of RFC 7541, appendix B: 0 to 2 take five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut rest, mut digits) = (bits.as_str(), String::new());
    while digits.len() < 3 {
        let five = u8::from_str_radix(&rest[..5], 2).unwrap();
        let (digit, used) = match five {
            0..=2 => (five, 5),
            _ => (u8::from_str_radix(&rest[..6], 2).unwrap() - 0b011001 + 3, 6),
        };
        digits.push((b'0' + digit) as char);
        rest = &rest[used..];
    }
    digits
}

/// Sends bytes on a new connection and reads frames until `enough` or the end; tells whether the
/// connection has ended.
pub(crate) fn talk(
    addr: SocketAddr,
    bytes: &[u8],
    enough: impl Fn(&[Came]) -> bool,
) -> (Vec<Came>, bool) {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let (mut writer, bytes) = (socket.try_clone().unwrap(), bytes.to_vec());
    // A server that has had enough may stop reading.
    let writing = std::thread::spawn(move || drop(writer.write_all(&bytes)));
    let (mut reader, begun) = (socket, Instant::now());
    let (mut raw, mut came, mut ended) = (Vec::new(), Vec::new(), false);
    while !enough(&came) && !ended && begun.elapsed() < PATIENCE {
        let mut room = [0; 16_384];
        match reader.read(&mut room) {
            Ok(count @ 1..) => raw.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => ended = true,
        }
        while raw.len() >= 9 {
            let length = u32::from_be_bytes([0, raw[0], raw[1], raw[2]]) as usize;
            if raw.len() < 9 + length {
                break;
            }
            let stream = u32::from_be_bytes(raw[5..9].try_into().unwrap());
            let payload = raw[9..9 + length].to_vec();
            came.push(Came { kind: raw[3], flags: raw[4], stream, payload });
            raw.drain(..9 + length);
        }
    }
    let _ = reader.shutdown(std::net::Shutdown::Both);
    writing.join().unwrap();
    (came, ended)
}
