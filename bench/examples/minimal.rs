//! The smallest keep-alive proxy, on tokio's current thread and on our own loops: what an event
//! loop costs, with everything above it equal.
//!
//! ```text
//! minimal tokio|epoll|io_uring LISTEN UPSTREAM
//! ```
//! One thread. A request is one read, its head is parsed and written anew; an answer is forwarded
//! when it is whole. `loadtest run --pid PID --road minimal` tells the CPU of each; no figures have
//! been taken with it yet.

#![allow(clippy::expect_used, reason = "an experiment stops where it is wrong")]

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use runtime::buffers::{Page, Pages, Piece};
use runtime::http::body::{Framing, response_framing};
use runtime::http::head::{Limits, Request, Response, parse_request, parse_response};
use runtime::http::write;
use runtime::io::{self, ConnectOptions, IoChoice, Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Room for one read.
const READ_BYTES: usize = 16 * 1024;
/// The longest answer that is forwarded, with its head.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// One connection on either loop.
enum Net {
    Tokio(TcpStream),
    Ours(Reader, Writer),
}

impl Net {
    async fn connect(&self, to: SocketAddr) -> Result<Self> {
        match self {
            Self::Tokio(_) => {
                let stream = TcpStream::connect(to).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tokio(stream))
            }
            Self::Ours(..) => {
                let (reader, writer) = io::connect(to, &ConnectOptions::default()).await?;
                Ok(Self::Ours(reader, writer))
            }
        }
    }

    /// Appends what comes; an end is a fault.
    async fn read(&mut self, into: &mut Vec<u8>) -> Result<()> {
        let count = match self {
            Self::Tokio(stream) => {
                into.reserve(READ_BYTES);
                stream.read_buf(into).await?
            }
            Self::Ours(reader, _) => {
                let (count, page) = reader.read(Page::take()).await;
                into.extend_from_slice(&page.freeze());
                count?
            }
        };
        if count == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Tokio(stream) => stream.write_all(bytes).await,
            Self::Ours(_, writer) => writer.write(Pages::from_iter([Piece::copy_of(bytes)])).await,
        }
    }
}

/// Carries the requests of one client until it ends.
async fn carry(mut client: Net, upstream: SocketAddr) -> Result<()> {
    let mut server = client.connect(upstream).await?;
    let limits = Limits::default();
    let (mut request, mut response) = (Request::default(), Response::default());
    let (mut bytes, mut head) = (Vec::new(), Vec::new());
    loop {
        bytes.clear();
        while parse_request(&bytes, &limits, &mut request).map_err(odd)?.is_none() {
            client.read(&mut bytes).await?;
        }
        head.clear();
        write::request_head(&mut head, request.method(), request.target(), &request.fields);
        server.write(&head).await?;
        bytes.clear();
        let used = loop {
            server.read(&mut bytes).await?;
            if let Some(used) = parse_response(&bytes, &limits, &mut response).map_err(odd)? {
                break used;
            }
        };
        let length = match response_framing(&response, request.method()).map_err(odd)? {
            Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            _ => return Err(ErrorKind::Unsupported.into()),
        };
        while bytes.len() < used.saturating_add(length).min(ANSWER_BYTES_MAX) {
            server.read(&mut bytes).await?;
        }
        head.clear();
        write::response_head(&mut head, response.status, response.reason(), &response.fields);
        head.extend_from_slice(bytes.get(used..).unwrap_or_default());
        client.write(&head).await?;
    }
}

fn odd(fault: runtime::http::head::HeadFault) -> Error {
    Error::new(ErrorKind::InvalidData, fault.words())
}

async fn on_tokio(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(async move { drop(carry(Net::Tokio(stream), upstream).await) });
    }
}

async fn on_ours(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let mut listener = io::listen(listen)?;
    loop {
        let (reader, writer, _) = listener.accept().await?;
        io::spawn(async move { drop(carry(Net::Ours(reader, writer), upstream).await) });
    }
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = || words.next().expect("minimal tokio|epoll|io_uring LISTEN UPSTREAM");
    let kind = word();
    let (listen, upstream) = (word().parse(), word().parse());
    let (listen, upstream) = (listen.expect("an address"), upstream.expect("an address"));
    match kind.as_str() {
        "tokio" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            tokio::task::LocalSet::new().block_on(&runtime, on_tokio(listen, upstream))
        }
        "epoll" => io::block_on_core(IoChoice::Epoll, on_ours(listen, upstream))?,
        _ => io::block_on_core(IoChoice::IoUring, on_ours(listen, upstream))?,
    }
}
