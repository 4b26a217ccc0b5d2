//! Bytes that were read from a connection and not used yet.
//!
//! One code for both roles: the client's connection and the upstream's. While nothing is there no
//! page is held.

use std::io;

use runtime::buffers::{Page, Piece};
use runtime::http::head::HeadFault;
use runtime::io::Reader;
use runtime::wire::WireReader;

/// A head that spreads over so many bytes is refused by the parser's limits long before; this only
/// bounds the copy that joins its parts.
const HEAD_JOIN_BYTES_MAX: usize = 256 * 1024;

/// A reading half, and what it has read ahead.
pub struct Inbox {
    reader: WireReader,
    ready: Piece,
}

/// Why no head came.
#[derive(Debug)]
pub enum HeadEnd {
    /// The other end closed before the first byte.
    Closed,
    /// The other end closed, or the socket failed, in the middle.
    Broken(io::Error),
    /// What came is no head that is accepted.
    Fault(HeadFault),
}

impl Inbox {
    /// A connection from which nothing was read.
    pub fn new(reader: WireReader) -> Self {
        Self { reader, ready: Piece::default() }
    }

    /// A connection, and what was read from it already.
    pub fn with(reader: WireReader, ready: Piece) -> Self {
        Self { reader, ready }
    }

    /// What is there already.
    pub fn ready(&self) -> &Piece {
        &self.ready
    }

    /// Takes the first `bytes` of what is there.
    pub fn take(&mut self, bytes: usize) -> Piece {
        self.ready.split_to(bytes.min(self.ready.len()))
    }

    /// Takes all that is there.
    pub fn take_all(&mut self) -> Piece {
        std::mem::take(&mut self.ready)
    }

    /// Waits for the first byte without a buffer. May be dropped.
    ///
    /// # Errors
    /// The socket's.
    pub async fn wait(&mut self) -> io::Result<()> {
        if self.ready.is_empty() { self.reader.readable().await } else { Ok(()) }
    }

    /// Waits until the other end has ended its direction, whatever it sent before. May be dropped.
    pub async fn ended(&mut self) {
        self.reader.ended().await;
    }

    /// Whether the other end has ended its direction by now.
    pub fn has_ended(&self) -> bool {
        self.reader.has_ended()
    }

    /// Reads once if nothing is there; false at the end. Must not be dropped while it waits, unless
    /// the connection is dropped with it.
    ///
    /// # Errors
    /// The socket's.
    pub async fn fill(&mut self) -> io::Result<bool> {
        if !self.ready.is_empty() {
            return Ok(true);
        }
        let (read, page) = self.reader.read(Page::take()).await;
        if read? == 0 {
            return Ok(false);
        }
        self.ready = page.freeze();
        Ok(true)
    }

    /// Reads once behind what is there; false at the end. Must be awaited as `fill`.
    ///
    /// # Errors
    /// The socket's.
    pub async fn grow(&mut self) -> io::Result<bool> {
        let before = self.take_all();
        let more = self.fill().await?;
        if !before.is_empty() {
            self.ready = Piece::from_vec([&*before, &*self.ready].concat());
        }
        Ok(more)
    }

    /// Reads one message head with `parse`, which says how many bytes the head took, or `None`
    /// while it is incomplete. The usual head comes in one read and is not copied.
    ///
    /// # Errors
    /// See `HeadEnd`.
    pub async fn head(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<Option<usize>, HeadFault>,
    ) -> Result<(), HeadEnd> {
        if !self.fill().await.map_err(HeadEnd::Broken)? {
            return Err(HeadEnd::Closed);
        }
        if let Some(used) = parse(&self.ready).map_err(HeadEnd::Fault)? {
            let _head = self.take(used);
            return Ok(());
        }
        let mut joined = self.take_all().to_vec();
        while joined.len() <= HEAD_JOIN_BYTES_MAX {
            if !self.fill().await.map_err(HeadEnd::Broken)? {
                return Err(HeadEnd::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            joined.extend_from_slice(&self.take_all());
            if let Some(used) = parse(&joined).map_err(HeadEnd::Fault)? {
                self.ready = Piece::from_vec(joined.split_off(used.min(joined.len())));
                return Ok(());
            }
        }
        Err(HeadEnd::Broken(io::ErrorKind::InvalidData.into()))
    }

    /// The connection itself, where nothing was read ahead and it is not encrypted.
    pub fn bare(&mut self) -> Option<&mut Reader> {
        if self.ready.is_empty() { self.reader.plain() } else { None }
    }

    /// Whether nothing came since the last read.
    pub fn is_quiet(&self) -> bool {
        self.ready.is_empty() && self.reader.is_quiet()
    }

    /// The reading half, and what it has read ahead.
    pub fn into_parts(self) -> (WireReader, Piece) {
        (self.reader, self.ready)
    }
}
