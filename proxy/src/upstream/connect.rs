//! A connection to an upstream: opening it, sending requests, reading heads.

use std::io;

use runtime::buffers::Pages;
use runtime::clock::{self, Deadline};
use runtime::http::h2;
use runtime::http::head::{self, Limits, Response};
use runtime::io::{self as driver, ConnectOptions, Reader, Writer};
use runtime::wire::{WireReader, WireWriter};

use crate::fault::{Fault, What};
use crate::inbox::{HeadEnd, Inbox};
use crate::pool::Key;
use crate::roadmap::Service;

/// Interim answers (1xx) that one request may bring; more count as a broken response.
const INTERIM_MAX: usize = 16;
/// What a response's head may take.
pub(super) const RESPONSE_LIMITS: Limits = Limits {
    request_line_bytes_max: 8 * 1024,
    header_line_bytes_max: 32 * 1024,
    head_bytes_max: 64 * 1024,
    headers_max: 1_000,
};

/// An open connection to an upstream.
pub struct Connection {
    pub(super) inbox: Inbox,
    writer: WireWriter,
    /// Two deadlines, since both directions may be busy at once; either closes the socket.
    pub(super) read_deadline: Deadline,
    write_deadline: Deadline,
    key: Key,
    requests: u64,
}

/// Opens a connection. `name` is what the upstream is called in a TLS handshake.
///
/// # Errors
/// `Unreachable` or `TimedOut`; another try may help, since nothing was sent.
pub async fn dial(service: &Service, key: Key, name: &str) -> Result<Connection, Fault> {
    let (reader, writer) = halves(service, key, name, false).await?;
    Ok(Connection {
        read_deadline: Deadline::new(writer.closer()),
        write_deadline: Deadline::new(writer.closer()),
        inbox: Inbox::new(reader),
        writer,
        key,
        requests: 0,
    })
}

/// Opens a connection of HTTP/2. Over TLS it is offered alone, so a server that does not speak it
/// ends the handshake.
///
/// # Errors
/// As `dial`.
pub(super) async fn dial_h2(service: &Service, key: Key, name: &str) -> Result<h2::Client, Fault> {
    let (reader, writer) = halves(service, key, name, true).await?;
    let limits = h2::Limits { head: RESPONSE_LIMITS, ..h2::Limits::default() };
    let client = h2::Client::new(reader, writer, &limits).await;
    client.map_err(|fault| Fault::unsent(What::Unreachable).because(fault))
}

async fn halves(
    service: &Service,
    key: Key,
    name: &str,
    http2: bool,
) -> Result<(WireReader, WireWriter), Fault> {
    let timeout_ms = service.connect_timeout_ms;
    let opened = clock::within(timeout_ms, open(service, key)).await;
    let (reader, writer) = match opened {
        None => return Err(Fault::retriable(What::TimedOut, true)),
        Some(Err(error)) if lacks_descriptors(&error) => {
            return Err(Fault::new(What::Overloaded).because(error));
        }
        Some(Err(error)) => return Err(unreachable(error)),
        Some(Ok(halves)) => halves,
    };
    let (reader, writer) = match &service.tls {
        None => (WireReader::Plain(reader), WireWriter::Plain(writer)),
        Some(tls) => {
            // A handshake is not dropped half-way: a missed deadline closes its socket.
            let deadline = Deadline::new(reader.closer());
            deadline.arm(timeout_ms);
            let shaken = tls.connector(http2).connect(reader, writer, name).await;
            if deadline.missed() {
                return Err(Fault::unsent(What::TimedOut));
            }
            let (reader, writer, _greeting) = shaken.map_err(unreachable)?;
            (WireReader::Tls(Box::new(reader)), WireWriter::Tls(writer))
        }
    };
    Ok((reader, writer))
}

async fn open(service: &Service, key: Key) -> io::Result<(Reader, Writer)> {
    match &service.socket {
        Some(path) => driver::connect_unix(path).await,
        None => driver::connect(key.address, &ConnectOptions::default()).await,
    }
}

/// EMFILE and ENFILE: the upstream has nothing to do with it.
fn lacks_descriptors(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

fn unreachable(error: io::Error) -> Fault {
    Fault::unsent(What::Unreachable).because(error)
}

impl Connection {
    /// What it can be exchanged for.
    pub fn key(&self) -> Key {
        self.key
    }

    /// How many requests it carried.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether nothing came while it rested: neither an end nor bytes that nobody asked for.
    pub fn is_quiet(&self) -> bool {
        self.inbox.is_quiet()
    }

    /// Sends the head of a request and what of its body is there.
    pub(super) async fn send(&mut self, pages: Pages, timeout_ms: u64) -> Result<(), Fault> {
        self.requests += 1;
        self.split().0.send(pages, timeout_ms).await
    }

    /// Reads the head of the response, at most so long.
    pub(super) async fn response(
        &mut self,
        response: &mut Response,
        timeout_ms: u64,
    ) -> Result<(), Fault> {
        self.read_deadline.arm(timeout_ms);
        let read = response_head(&mut self.inbox, response).await;
        let missed = self.read_deadline.missed();
        self.read_deadline.disarm();
        if missed { Err(What::TimedOut.into()) } else { read }
    }

    /// Both directions apart, and their deadlines.
    pub(super) fn split(&mut self) -> (Sender<'_>, &mut Inbox, Deadlines<'_>) {
        let sender = Sender { writer: &mut self.writer, deadline: &self.write_deadline };
        let deadlines = Deadlines { read: &self.read_deadline, write: &self.write_deadline };
        (sender, &mut self.inbox, deadlines)
    }

    /// Both directions, for a tunnel, and what ends it.
    pub fn halves(&mut self) -> (&mut Inbox, &mut WireWriter, &Deadline) {
        (&mut self.inbox, &mut self.writer, &self.read_deadline)
    }
}

/// The deadlines of both directions.
pub(super) struct Deadlines<'a> {
    pub(super) read: &'a Deadline,
    write: &'a Deadline,
}

impl Deadlines<'_> {
    /// Ends both; whether one was missed.
    pub(super) fn end(&self) -> bool {
        self.read.disarm();
        self.write.disarm();
        self.read.missed() || self.write.missed()
    }
}

/// The sending direction.
pub(super) struct Sender<'a> {
    writer: &'a mut WireWriter,
    deadline: &'a Deadline,
}

impl Sender<'_> {
    /// Sends all of `pages`; `TimedOut` if the upstream takes nothing for so long.
    pub(super) async fn send(&mut self, pages: Pages, timeout_ms: u64) -> Result<(), Fault> {
        self.deadline.arm(timeout_ms);
        let written = self.writer.write(pages).await;
        let missed = self.deadline.missed();
        self.deadline.disarm();
        if missed {
            return Err(What::TimedOut.into());
        }
        written.map_err(|error| Fault::new(What::Unreachable).because(error))
    }
}

/// Reads the head of the final response; interim ones are left out, but for a switch of protocols.
pub(super) async fn response_head(inbox: &mut Inbox, response: &mut Response) -> Result<(), Fault> {
    for _ in 0..INTERIM_MAX {
        inbox.head(|bytes| head::parse_response(bytes, &RESPONSE_LIMITS, response)).await.map_err(
            |end| match end {
                HeadEnd::Closed => {
                    Fault::new(What::Unreachable).because("closed without an answer")
                }
                HeadEnd::Broken(error) => Fault::new(What::Unreachable).because(error),
                HeadEnd::Fault(fault) => Fault::new(What::BadResponse).because(fault.words()),
            },
        )?;
        if response.status >= 200 || response.status == 101 {
            return Ok(());
        }
    }
    Err(What::BadResponse.into())
}
