//! A connection that is plain or TLS, with the same methods either way.
//!
//! Plain costs one branch per call. The enum holds the two halves apart, like `io`, so that both
//! directions may be busy.

use crate::buffers::{Page, Pages};
use crate::io::{Closer, Reader, Result, Writer};
use crate::tls::{TlsReader, TlsWriter};
use std::net::SocketAddr;

/// The receiving half; the rules of `io::Reader`.
pub enum WireReader {
    /// As it comes.
    Plain(Reader),
    /// Decrypted.
    Tls(Box<TlsReader>),
}

/// The sending half; the rules of `io::Writer`.
pub enum WireWriter {
    /// As it is.
    Plain(Writer),
    /// Encrypted.
    Tls(TlsWriter),
}

impl WireReader {
    /// Waits until there is something to read. Holds no buffer and may be dropped.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn readable(&mut self) -> Result<()> {
        match self {
            Self::Plain(reader) => reader.readable().await,
            Self::Tls(reader) => reader.readable().await,
        }
    }

    /// Whether nothing has come that was not read; see `io::Reader::is_quiet`. A TLS record that
    /// carries no data, such as a ticket, counts as something.
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(reader) => reader.is_quiet(),
            Self::Tls(reader) => reader.is_quiet(),
        }
    }

    /// Waits until the peer has ended its direction; see `io::Reader::ended`. May be dropped.
    pub async fn ended(&mut self) {
        match self {
            Self::Plain(reader) => reader.ended().await,
            Self::Tls(reader) => reader.ended().await,
        }
    }

    /// Whether the peer has ended its direction by now; see `io::Reader::has_ended`.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Plain(reader) => reader.has_ended(),
            Self::Tls(reader) => reader.has_ended(),
        }
    }

    /// Appends what has come in to `page`; 0 is the peer's end. Must be awaited to its end.
    ///
    /// # Errors
    /// Those of the connection; under TLS also `InvalidData` and, for an end without
    /// close_notify, `UnexpectedEof`.
    pub async fn read(&mut self, page: Page) -> (Result<usize>, Page) {
        match self {
            Self::Plain(reader) => reader.read(page).await,
            Self::Tls(reader) => reader.read(page).await,
        }
    }

    /// The address on our side of the connection.
    ///
    /// # Errors
    /// Where it has none.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        match self {
            Self::Plain(reader) => reader.local_addr(),
            Self::Tls(reader) => reader.local_addr(),
        }
    }

    /// What ends this connection both ways at once.
    pub fn closer(&self) -> Closer {
        match self {
            Self::Plain(reader) => reader.closer(),
            Self::Tls(reader) => reader.closer(),
        }
    }

    /// Whether it is encrypted.
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The connection itself, where it is not encrypted.
    pub const fn plain(&mut self) -> Option<&mut Reader> {
        match self {
            Self::Plain(reader) => Some(reader),
            Self::Tls(_) => None,
        }
    }
}

impl WireWriter {
    /// Writes all of `pages` in order. Must be awaited to its end.
    ///
    /// # Errors
    /// Those of the connection; how much went out is then unknown.
    pub async fn write(&mut self, pages: Pages) -> Result<()> {
        match self {
            Self::Plain(writer) => writer.write(pages).await,
            Self::Tls(writer) => writer.write(pages).await,
        }
    }

    /// Tells the peer that nothing more comes; it may go on sending.
    ///
    /// # Errors
    /// Where the connection is gone already.
    pub async fn shutdown(&mut self) -> Result<()> {
        match self {
            Self::Plain(writer) => writer.shutdown().await,
            Self::Tls(writer) => writer.shutdown().await,
        }
    }

    /// What ends this connection both ways at once.
    pub fn closer(&self) -> Closer {
        match self {
            Self::Plain(writer) => writer.closer(),
            Self::Tls(writer) => writer.closer(),
        }
    }

    /// The connection itself, where it is not encrypted.
    pub const fn plain(&mut self) -> Option<&mut Writer> {
        match self {
            Self::Plain(writer) => Some(writer),
            Self::Tls(_) => None,
        }
    }
}

impl From<Reader> for WireReader {
    fn from(reader: Reader) -> Self {
        Self::Plain(reader)
    }
}

impl From<Writer> for WireWriter {
    fn from(writer: Writer) -> Self {
        Self::Plain(writer)
    }
}

impl From<TlsReader> for WireReader {
    fn from(reader: TlsReader) -> Self {
        Self::Tls(Box::new(reader))
    }
}

impl From<TlsWriter> for WireWriter {
    fn from(writer: TlsWriter) -> Self {
        Self::Tls(writer)
    }
}
