//! Connections that this core opens, and those that one core gives to another.

use super::{
    ConnectOptions, Driver, Error, ErrorKind, IoKind, Reader, ReaderOf, Result, Target, Writer,
    WriterOf, epoll, glommio, kind, monoio, script,
};
use std::net::SocketAddr;
use std::path::Path;

async fn connect_to(to: &Target<'_>, options: &ConnectOptions) -> Result<(Reader, Writer)> {
    match kind() {
        Some(IoKind::IoUring) => {
            let (reader, writer) = monoio::Monoio::connect(to, options).await?;
            Ok((Reader(ReaderOf::Monoio(reader)), Writer(WriterOf::Monoio(writer))))
        }
        Some(IoKind::Epoll) => {
            let (reader, writer) = epoll::Epoll::connect(to, options).await?;
            Ok((Reader(ReaderOf::Epoll(reader)), Writer(WriterOf::Epoll(writer))))
        }
        Some(IoKind::Glommio) => {
            let (reader, writer) = glommio::Glommio::connect(to, options).await?;
            Ok((Reader(ReaderOf::Glommio(reader)), Writer(WriterOf::Glommio(writer))))
        }
        Some(IoKind::Script) => {
            let (reader, writer) = script::Script::connect(to, options).await?;
            Ok((Reader(ReaderOf::Script(reader)), Writer(WriterOf::Script(writer))))
        }
        None => Err(Error::other("no core runs on this thread")),
    }
}

/// Opens a TCP connection with `TCP_NODELAY`. May be dropped: `clock::within` gives it a deadline.
///
/// # Errors
/// Those of connect(2).
pub async fn connect(addr: SocketAddr, options: &ConnectOptions) -> Result<(Reader, Writer)> {
    connect_to(&Target::Tcp(addr), options).await
}

/// Opens a connection to a Unix socket. May be dropped.
///
/// # Errors
/// Those of connect(2).
pub async fn connect_unix(path: &Path) -> Result<(Reader, Writer)> {
    connect_to(&Target::Unix(path), &ConnectOptions::default()).await
}

/// Takes a connection out of this core, for `adopt` on another. Nothing may be under way on it, and
/// nothing of it may have been read.
///
/// # Errors
/// When there is no descriptor left for a moment: the connection is closed. The scripted driver
/// has no sockets.
pub fn release(reader: Reader, writer: Writer) -> Result<std::os::fd::OwnedFd> {
    drop(writer);
    match reader.0 {
        ReaderOf::Monoio(reader) => reader.release(),
        ReaderOf::Epoll(reader) => reader.release(),
        ReaderOf::Glommio(reader) => reader.release(),
        ReaderOf::Script(_) => Err(ErrorKind::Unsupported.into()),
    }
}

/// Takes a connected stream socket of any kind into this core, for instance one that another core
/// accepted.
///
/// # Errors
/// When the driver refuses it, or no core runs on this thread.
pub fn adopt(socket: std::os::fd::OwnedFd) -> Result<(Reader, Writer)> {
    match kind() {
        Some(IoKind::IoUring) => {
            let (reader, writer) = monoio::adopt(socket)?;
            Ok((Reader(ReaderOf::Monoio(reader)), Writer(WriterOf::Monoio(writer))))
        }
        Some(IoKind::Epoll) => {
            let (reader, writer) = epoll::adopt(socket)?;
            Ok((Reader(ReaderOf::Epoll(reader)), Writer(WriterOf::Epoll(writer))))
        }
        Some(IoKind::Glommio) => {
            let (reader, writer) = glommio::adopt(socket)?;
            Ok((Reader(ReaderOf::Glommio(reader)), Writer(WriterOf::Glommio(writer))))
        }
        _ => Err(Error::other("no core with a kernel runs on this thread")),
    }
}
