//! One end of a connection in HTTP/1, read by the letter: a second reader that shares no code with
//! the gateway's.

use runtime::buffers::{Page, Pages, Piece};
use runtime::clock;
use runtime::io::{Reader, Writer};

use super::ask::Dice;

/// Why nothing more can be read.
#[derive(Debug)]
pub(crate) enum Cut {
    /// The connection ended, in order or not.
    Ended,
    /// What came is not what the framing says.
    Bad(String),
}

/// The receiving half, and what was read ahead.
pub(crate) struct Line {
    pub(crate) reader: Reader,
    bytes: Vec<u8>,
    /// A slow reader rests so many milliseconds before each read.
    pub(crate) rest_ms: u64,
}

/// A head: its first line, and lines with lower-case names.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    lines: Vec<(String, String)>,
}

impl Head {
    /// The value of a line that stands at most once.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn count(&self, name: &str) -> usize {
        self.lines.iter().filter(|(own, _)| own == name).count()
    }

    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// How the body is framed: by the lines alone.
    pub(crate) fn framing(&self) -> Result<Frame, Cut> {
        let bad = |words: &str| Cut::Bad(format!("{words}: {self:?}"));
        match (self.count("content-length"), self.count("transfer-encoding")) {
            (0, 0) => Ok(Frame::None),
            (1, 0) => {
                let text = self.get("content-length").unwrap_or_default();
                let bytes = text.parse().map_err(|_| bad("no length"))?;
                Ok(Frame::Length(bytes))
            }
            (0, 1) if self.get("transfer-encoding") == Some("chunked") => Ok(Frame::Chunked),
            _ => Err(bad("two framings")),
        }
    }
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

impl Line {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader, bytes: Vec::new(), rest_ms: 0 }
    }

    /// Reads once.
    pub(crate) async fn more(&mut self) -> Result<(), Cut> {
        if self.rest_ms > 0 {
            clock::sleep_ms(self.rest_ms).await;
        }
        let (read, page) = self.reader.read(Page::take()).await;
        match read {
            Ok(1..) => self.bytes.extend_from_slice(page.bytes()),
            _ => return Err(Cut::Ended),
        }
        Ok(())
    }

    /// Whether nothing was read that was not used.
    pub(crate) fn is_used_up(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was read and not used.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Exactly so many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Vec<u8>, Cut> {
        while self.bytes.len() < count {
            self.more().await?;
        }
        Ok(self.bytes.drain(..count).collect())
    }

    async fn text_line(&mut self) -> Result<String, Cut> {
        loop {
            if let Some(at) = self.bytes.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.bytes.drain(..at + 2).collect();
                let line = String::from_utf8(line[..at].to_vec());
                return line.map_err(|_| Cut::Bad("a line that is no text".to_owned()));
            }
            self.more().await?;
        }
    }

    pub(crate) async fn head(&mut self) -> Result<Head, Cut> {
        let first = self.text_line().await?;
        let mut lines = Vec::new();
        loop {
            let line = self.text_line().await?;
            if line.is_empty() {
                return Ok(Head { first, lines });
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| Cut::Bad(format!("no line: {line:?}")))?;
            lines.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    pub(crate) async fn body(&mut self, frame: Frame) -> Result<Vec<u8>, Cut> {
        match frame {
            Frame::None => Ok(Vec::new()),
            Frame::Length(bytes) => self.take(bytes).await,
            Frame::UntilClose => {
                while self.more().await.is_ok() {}
                Ok(std::mem::take(&mut self.bytes))
            }
            Frame::Chunked => self.chunks().await,
        }
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, Cut> {
        let mut whole = Vec::new();
        loop {
            let line = self.text_line().await?;
            let size = usize::from_str_radix(&line, 16)
                .map_err(|_| Cut::Bad(format!("no chunk size: {line:?}")))?;
            whole.extend(self.take(size).await?);
            let end = self.text_line().await?;
            if !end.is_empty() {
                return Err(Cut::Bad(format!("a chunk does not end: {end:?}")));
            }
            if size == 0 {
                return Ok(whole);
            }
        }
    }
}

/// Sends bytes, sometimes in several goes with rests between them; false when the other side is
/// gone.
pub(crate) async fn send(writer: &mut Writer, bytes: &[u8], dice: &mut Dice) -> bool {
    let mut left = bytes;
    for _ in 0..dice.below(3) {
        let (part, rest) = left.split_at(dice.below(left.len() + 1));
        left = rest;
        let pages: Pages = std::iter::once(Piece::from_vec(part.to_vec())).collect();
        if !part.is_empty() && writer.write(pages).await.is_err() {
            return false;
        }
        if dice.chance(500) {
            clock::sleep_ms(dice.below(40) as u64).await;
        }
    }
    let pages: Pages = std::iter::once(Piece::from_vec(left.to_vec())).collect();
    left.is_empty() || writer.write(pages).await.is_ok()
}

/// A chunked body in chunks of drawn sizes.
pub(crate) fn chunked(body: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (mut out, mut left) = (Vec::new(), body);
    while !left.is_empty() {
        let (part, rest) = left.split_at(1 + dice.below(left.len()));
        out.extend(format!("{:x}\r\n", part.len()).into_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
        left = rest;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
