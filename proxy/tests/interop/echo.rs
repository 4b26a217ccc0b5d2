//! A strict WebSocket server (RFC 6455) that sends messages back: what stands behind the gateway
//! while kosoku speaks to it. It shares no code with the gateway, which knows no frames at all.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What is appended to a client's key before it is hashed.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// A client that says nothing for so long is let go.
const SILENT: Duration = Duration::from_secs(30);
/// Larger messages are refused.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Serves for as long as the process lives.
pub(crate) fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || Talk::begin(socket));
        }
    });
}

/// The hash that proves that a server understood the key: SHA-1, by the letter of RFC 3174.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = [message, &[0x80]].concat();
    padded.resize((padded.len() + 8).div_ceil(64) * 64 - 8, 0);
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut words: Vec<u32> =
            block.chunks(4).map(|four| u32::from_be_bytes(four.try_into().unwrap())).collect();
        for at in 16..80 {
            let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words.push(mixed.rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.iter().enumerate() {
            let (mixed, constant) = match at / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e);
            let next = next.wrapping_add(constant).wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (own, more) in state.iter_mut().zip([a, b, c, d, e]) {
            *own = own.wrapping_add(more);
        }
    }
    let bytes: Vec<u8> = state.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.try_into().unwrap()
}

/// Why a talk ends: the code to say, or none where nobody listens.
type End = Option<u16>;

/// One client.
struct Talk {
    socket: TcpStream,
    ahead: Vec<u8>,
    message: Vec<u8>,
    /// How much of a text is known to be UTF-8.
    valid: usize,
    kind: Option<u8>,
}

/// The head of a frame.
struct Frame {
    last: bool,
    kind: u8,
    length: usize,
    mask: [u8; 4],
}

impl Talk {
    fn begin(socket: TcpStream) {
        socket.set_read_timeout(Some(SILENT)).unwrap();
        socket.set_write_timeout(Some(SILENT)).unwrap();
        let _ = socket.set_nodelay(true);
        let mut talk =
            Self { socket, ahead: Vec::new(), message: Vec::new(), valid: 0, kind: None };
        if talk.agree().is_none() {
            return;
        }
        let end = loop {
            if let Err(end) = talk.frame() {
                break end;
            }
        };
        if let Some(code) = end {
            let _ = talk.send(CLOSE, &code.to_be_bytes());
        }
        // The client closes first where it can.
        let _ = talk.socket.shutdown(std::net::Shutdown::Write);
        while talk.more().is_ok() {
            talk.ahead.clear();
        }
    }

    fn more(&mut self) -> Result<(), End> {
        let mut room = [0; 65_536];
        match self.socket.read(&mut room) {
            Ok(count @ 1..) => self.ahead.extend_from_slice(&room[..count]),
            _ => return Err(None),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.ahead.len() < count {
            self.more()?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    fn send(&mut self, kind: u8, payload: &[u8]) -> Result<(), End> {
        let mut whole = vec![0x80 | kind];
        match payload.len() {
            length @ ..126 => whole.push(length as u8),
            length @ 126..65_536 => {
                whole.push(126);
                whole.extend((length as u16).to_be_bytes());
            }
            length => {
                whole.push(127);
                whole.extend((length as u64).to_be_bytes());
            }
        }
        whole.extend_from_slice(payload);
        self.socket.write_all(&whole).map_err(|_| None)
    }

    /// The handshake.
    fn agree(&mut self) -> Option<()> {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().ok()?;
        };
        let head = String::from_utf8(self.ahead.drain(..end).collect()).ok()?;
        let line = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
        };
        let key = head.lines().find_map(line)?;
        let accept = STANDARD.encode(sha1(format!("{key}{GUID}").as_bytes()));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.socket.write_all(answer.as_bytes()).ok()
    }

    /// Reads one frame and does what it asks for.
    fn frame(&mut self) -> Result<(), End> {
        let frame = self.frame_head()?;
        if frame.kind >= CLOSE {
            let payload = self.take(frame.length)?;
            let payload = unmasked(&payload, frame.mask, 0);
            return self.control(frame.kind, &payload);
        }
        match (frame.kind, self.kind) {
            (CONTINUATION, Some(_)) => {}
            (CONTINUATION, None) | (_, Some(_)) => return Err(Some(1002)),
            (kind, None) => self.kind = Some(kind),
        }
        self.payload(&frame)?;
        if !frame.last {
            return Ok(());
        }
        if self.kind == Some(TEXT) && self.valid < self.message.len() {
            return Err(Some(1007));
        }
        let kind = self.kind.take().unwrap_or(TEXT);
        let message = std::mem::take(&mut self.message);
        self.valid = 0;
        self.send(kind, &message)
    }

    fn frame_head(&mut self) -> Result<Frame, End> {
        let two = self.take(2)?;
        let (last, kind) = (two[0] & 0x80 != 0, two[0] & 0x0f);
        let (masked, short) = (two[1] & 0x80 != 0, usize::from(two[1] & 0x7f));
        let reserved = two[0] & 0x70 != 0 || matches!(kind, 3..=7 | 11..=15);
        if reserved || !masked || kind >= CLOSE && (!last || short > 125) {
            return Err(Some(1002));
        }
        let length = match short {
            126 => usize::from(u16::from_be_bytes(self.take(2)?.try_into().unwrap())),
            127 => u64::from_be_bytes(self.take(8)?.try_into().unwrap()) as usize,
            length => length,
        };
        if length > MESSAGE_BYTES_MAX || self.message.len() + length > MESSAGE_BYTES_MAX {
            return Err(Some(1009));
        }
        let mask = self.take(4)?.try_into().unwrap();
        Ok(Frame { last, kind, length, mask })
    }

    /// Reads a payload as it comes, so that a text that is none is refused at its first bad byte.
    fn payload(&mut self, frame: &Frame) -> Result<(), End> {
        let mut done = 0;
        while done < frame.length {
            if self.ahead.is_empty() {
                self.more()?;
            }
            let part = self.take(self.ahead.len().min(frame.length - done))?;
            self.message.extend(unmasked(&part, frame.mask, done));
            done += part.len();
            if self.kind == Some(TEXT) {
                match std::str::from_utf8(&self.message[self.valid..]) {
                    Ok(_) => self.valid = self.message.len(),
                    Err(fault) if fault.error_len().is_some() => return Err(Some(1007)),
                    Err(fault) => self.valid += fault.valid_up_to(),
                }
            }
        }
        Ok(())
    }

    fn control(&mut self, kind: u8, payload: &[u8]) -> Result<(), End> {
        match (kind, payload) {
            (PING, _) => self.send(PONG, payload),
            (CLOSE, []) => Err(Some(1000)),
            (CLOSE, [high, low, reason @ ..]) => {
                let code = u16::from_be_bytes([*high, *low]);
                let known = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                match (known, std::str::from_utf8(reason)) {
                    (false, _) => Err(Some(1002)),
                    (true, Err(_)) => Err(Some(1007)),
                    (true, Ok(_)) => Err(Some(code)),
                }
            }
            (CLOSE, _) => Err(Some(1002)),
            _ => Ok(()),
        }
    }
}

fn unmasked(bytes: &[u8], mask: [u8; 4], from: usize) -> Vec<u8> {
    bytes.iter().enumerate().map(|(at, byte)| byte ^ mask[(from + at) % 4]).collect()
}
