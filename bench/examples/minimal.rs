//! The smallest keep-alive proxy, on tokio's current thread and on our own loops: what an event
//! loop costs, with everything above it equal.
//!
//! ```text
//! cargo build --release --example minimal -p bench
//! loadtest compare --minimal target/release/examples/minimal --rows get,rate
//! minimal tokio|epoll|io_uring|glommio LISTEN UPSTREAM      one of them, by hand
//! ```
//! One thread. A request is one read, its head is parsed and written anew, and goes over a
//! connection of its own to the upstream, which is kept; an answer is forwarded when it is whole.
//! The same pages are read into and sent from on every loop, so nothing is copied on one only.
//! GETs alone: a request's body is not forwarded. glommio needs the feature `runtime/glommio`.

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

    /// Appends what comes to a page with room; an end is a fault.
    async fn read(&mut self, mut page: Page) -> Result<Page> {
        let count = match self {
            Self::Tokio(stream) => {
                let count = stream.read(page.spare_mut()).await?;
                page.advance(count);
                count
            }
            Self::Ours(reader, _) => {
                let count;
                (count, page) = reader.read(page).await;
                count?
            }
        };
        if count == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(page) }
    }

    async fn write(&mut self, piece: Piece) -> Result<()> {
        match self {
            Self::Tokio(stream) => stream.write_all(&piece).await,
            Self::Ours(_, writer) => writer.write(Pages::from_iter([piece])).await,
        }
    }
}

/// A page that `head` and `body` fit.
fn filled(head: &[u8], body: &[u8]) -> Result<Piece> {
    let mut page = Page::take();
    if page.extend(head) < head.len() || page.extend(body) < body.len() {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(page.freeze())
}

/// Carries the requests of one client until it ends.
async fn carry(mut client: Net, upstream: SocketAddr) -> Result<()> {
    let mut server = client.connect(upstream).await?;
    let limits = Limits::default();
    let (mut request, mut response) = (Request::default(), Response::default());
    let mut head = Vec::new();
    loop {
        let mut page = Page::take();
        while parse_request(page.bytes(), &limits, &mut request).map_err(odd)?.is_none() {
            page = client.read(page).await?;
        }
        head.clear();
        write::request_head(&mut head, request.method(), request.target(), &request.fields);
        server.write(filled(&head, b"")?).await?;
        page.clear();
        let used = loop {
            page = server.read(page).await?;
            if let Some(used) = parse_response(page.bytes(), &limits, &mut response).map_err(odd)? {
                break used;
            }
        };
        let Framing::Length(length) = response_framing(&response, request.method()).map_err(odd)?
        else {
            return Err(ErrorKind::Unsupported.into());
        };
        let whole = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(used);
        while page.len() < whole {
            page = server.read(page).await?;
        }
        head.clear();
        write::response_head(&mut head, response.status, response.reason(), &response.fields);
        client.write(filled(&head, page.bytes().get(used..).unwrap_or_default())?).await?;
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
    let mut word = || words.next().expect("minimal tokio|epoll|io_uring|glommio LISTEN UPSTREAM");
    let kind = word();
    let (listen, upstream) = (word().parse(), word().parse());
    let (listen, upstream) = (listen.expect("an address"), upstream.expect("an address"));
    let ours = |choice| io::block_on_core(choice, on_ours(listen, upstream))?;
    match kind.as_str() {
        "tokio" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            tokio::task::LocalSet::new().block_on(&runtime, on_tokio(listen, upstream))
        }
        "epoll" => ours(IoChoice::Epoll),
        "io_uring" => ours(IoChoice::IoUring),
        "glommio" => ours(IoChoice::Glommio),
        _ => Err(Error::new(ErrorKind::InvalidInput, "no such loop")),
    }
}
